# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The matrix of faults as a table: printed after a run, and kept in the documentation cell by cell."""

from __future__ import annotations

import re
from pathlib import Path

from .faults import FAULTS
from .flows import FLOWS
from .paths import REPOSITORY, write_atomically

PAGE = REPOSITORY / "docs" / "reliability.md"
MARKS = ("<!-- faults: begin -->", "<!-- faults: end -->")
# (flow, fault) -> what stands in its cell
Cells = dict[tuple[str, str], str]
_SAID = {(flow.name, fault.name): fault.nonsense(flow) for flow in FLOWS for fault in FAULTS}
NONSENSE = {pair: said for pair, said in _SAID.items() if said}


def render(cells: Cells) -> str:
    """The table in Markdown, a row for each fault and a column for each flow; what was never run is empty."""
    known = {**cells, **NONSENSE}
    rows = [["fault", *(flow.name for flow in FLOWS)]]
    rows += [[fault.name, *(known.get((flow.name, fault.name), "") for flow in FLOWS)] for fault in FAULTS]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def parse(table: str) -> Cells:
    """What a rendered table holds; unknown names and empty cells are left out."""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines() if "|" in line]
    if not rows:
        return {}
    (_corner, *flows), *lines = rows
    pairs = {
        (flow, fault): said
        for fault, *cells in lines
        for flow, said in zip(flows, cells, strict=False)
        if said and not re.fullmatch("-+", said)
    }
    return {pair: said for pair, said in pairs.items() if pair not in NONSENSE}


def keep(cells: Cells, page: Path = PAGE) -> None:
    """Put cells into the table of the page, beside those that it has already."""
    before, mark, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    table, end, after = rest.partition(MARKS[1])
    if not (mark and end):
        raise ValueError(f"{page}: the lines {MARKS[0]} and {MARKS[1]} are missing; put them where the table belongs")
    new = render({**parse(table), **cells})
    write_atomically(page, f"{before}{mark}\n{new}\n{end}{after}")
