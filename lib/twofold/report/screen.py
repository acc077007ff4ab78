# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text for a terminal, by rich, which is imported when it is needed."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .. import codes
from ..findings import Finding

if TYPE_CHECKING:
    from rich.console import RenderableType

STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}
PLACE, CAUSE, REMEDY, CODE = "bold", "", "green", "dim"
# So many findings of one kind are shown one by one; and so many names in the line that stands for more of them.
MANY, NAMED = 3, 8
# How the message of a mistake begins: `twofold_memory of web1 (host_vars/web1.yml:3): `.
LABEL = re.compile(r"^(\S+) of \S+( \([^)]*\))?: ")


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


def plain(text: str) -> RenderableType:
    """A line as it is, whatever brackets are in it."""
    from rich.text import Text

    return Text(text)


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
    """The findings, each with its code and its remedy; the same for many objects is one, so that it hides no other."""
    parts: list[RenderableType] = []
    for group in _grouped(found):
        if len(group) > MANY:
            parts += _finding(group[0], *_together(group))
        else:
            for finding in group:
                parts += _finding(finding, finding.object, finding.message)
    return parts


def _grouped(found: Iterable[Finding]) -> list[list[Finding]]:
    """The same finding for many objects of one kind together, in the order of each group's first."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in found:
        kind = finding.object.partition(" ")[0]
        # What somebody has to correct by hand is the same only if it reads the same.
        text = _anonymous(finding) if finding.code in codes.INVENTORY else ""
        groups.setdefault((finding.severity, finding.code, kind, text), []).append(finding)
    return list(groups.values())


def _anonymous(finding: Finding) -> str:
    """What is wrong and what to do, without whose variable it is and where that stands."""
    name = re.escape(finding.object.partition(" ")[2])
    text = LABEL.sub(r"\1: ", finding.message) + finding.remedy
    return re.sub(rf"(?<![\w-]){name}(?![\w-])", "", text) if name else text


def _together(group: Sequence[Finding]) -> tuple[str, str]:
    """Objects and message of a finding for many objects; where the messages differ, that of the first."""
    kind, _ignored, first = group[0].object.partition(" ")
    names = list(dict.fromkeys(finding.object.partition(" ")[2] for finding in group))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    plural = "s" if len(names) > 1 else ""
    place = f"{len(names)} {kind}{plural} ({', '.join(names[:NAMED])}{more})" if first else kind
    if len({finding.message for finding in group}) == 1:
        return place, group[0].message
    if group[0].code in codes.INVENTORY:
        return place, f"each like {first}: {group[0].message}" if first else f"{len(group)} like {group[0].message}"
    return place, f"{len(group)} findings, the first{' of ' + first if first else ''}: {group[0].message}"


def _finding(finding: Finding, place: str, message: str) -> list[RenderableType]:
    from rich.text import Text

    severity = (finding.severity, STYLES[finding.severity])
    line = Text.assemble(severity, " ", (place, PLACE), ": ", (message, CAUSE), " ", (f"[{finding.code}]", CODE))
    remedy = [Text.assemble("  -> ", (finding.remedy, REMEDY))] if finding.remedy else []
    return [line, *remedy]
