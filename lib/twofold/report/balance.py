# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the intent `balance` has to say beyond its steps: the moves with what they cost and gain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..units import format_size
from . import screen

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMNS = ("JOB", "INSTANCE", "FROM", "TO", "COPIED", "GAIN", "SCORE", "HOW")


def text(details: dict[str, Any]) -> list[RenderableType]:
    """The moves for a terminal, and what becomes of the score."""
    moves: list[RenderableType] = [screen.table(COLUMNS, map(_row, details["moves"])), ""] if details["moves"] else []
    return [*moves, *_conclusion(details)]


def markdown(details: dict[str, Any]) -> list[str]:
    """The same for a pull request."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *map(_row, details["moves"])]
    table = [f"| {' | '.join(row)} |" for row in rows] if details["moves"] else []
    return [*table, "", *_conclusion(details)]


def _row(move: dict[str, Any]) -> Sequence[str]:
    how = ", then ".join(move["operations"])
    return (
        str(move["job"] or "-"), move["instance"], ":".join(move["from"]), ":".join(move["to"]),
        format_size(move["bytes"]), f"{move['gain']:.4f}", f"{move['score']:.4f}",
        how if move["job"] else f"{how} (not made: {move['why']})",
    )  # fmt: skip


def _conclusion(details: dict[str, Any]) -> list[str]:
    """One line for each node group, and one on the jobs."""
    lines = [_score(group, alone=len(details["scores"]) == 1) for group in details["scores"]]
    jobs = {move["job"] for move in details["moves"] if move["job"]}
    if jobs:
        copied = format_size(sum(move["bytes"] for move in details["moves"] if move["job"]))
        lines.append(f"{copied} copied; the moves of one job run at once, the jobs one after another")
    return lines


def _score(group: dict[str, Any], *, alone: bool) -> str:
    before, after, possible = (group[key] for key in ("before", "after", "possible"))
    where = "score" if alone else f"node group {group['group']}: score"
    if before == possible:
        return f"{where} {before:.4f}: no move gains enough"
    change = f"{where} {before:.4f} -> {after:.4f}" if after != before else f"{where} {before:.4f}"
    return change if after == possible else f"{change}, {possible:.4f} with what cannot be made"
