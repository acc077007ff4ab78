# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text for a terminal, by rich, which is imported when it is needed."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..findings import Finding

if TYPE_CHECKING:
    from rich.console import RenderableType

STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}
PLACE, CAUSE, REMEDY = "bold", "", "green"


def render(parts: Iterable[RenderableType], width: int, *, color: bool) -> str:
    """The parts below each other, at most `width` characters wide."""
    from rich.console import Console

    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=width,
        highlight=False,
        emoji=False,
        force_terminal=color,
        color_system="standard" if color else None,
    )
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def heading(text: str) -> RenderableType:
    """A line that stands out."""
    from rich.text import Text

    return Text(text, style="bold")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, header: bool = True) -> RenderableType:
    """A table without lines; cells are plain text, the last column folds."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, show_header=header, pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        made.add_column(column, overflow="fold", no_wrap=index < len(columns) - 1)
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def findings(found: Iterable[Finding]) -> list[RenderableType]:
    """The findings, each with its remedy on a line of its own."""
    from rich.text import Text

    parts: list[RenderableType] = []
    for finding in found:
        line = Text.assemble(
            (finding.severity, STYLES[finding.severity]), " ", (finding.object, PLACE), ": ", (finding.message, CAUSE)
        )
        parts.append(line)
        if finding.remedy:
            parts.append(Text.assemble("  -> ", (finding.remedy, REMEDY)))
    return parts
