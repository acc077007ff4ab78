# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of a plan's steps, and findings, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..apply import AGAIN
from ..findings import Finding, listing, tally
from . import screen

NOT_REACHED = {
    "status": "not reached",
    "message": "the node gave no answer",
    "remedy": f"what was done there is not known: see with status.yml whether the node answers; {AGAIN}",
}


def run_text(
    steps: Sequence[Mapping[str, Any]], results: Mapping[str, Mapping[str, Any]], width: int = 120, color: bool = False
) -> str:
    """A line for each step with its status, seconds and message; what is to be done stands below."""
    rows = [_row(step, results.get(step["id"], NOT_REACHED)) for step in sorted(steps, key=lambda step: step["wave"])]
    remedies = [screen.plain(line) for line in _remedies(steps, results)]
    columns = ("wave", "node", "instance", "step", "result", "seconds", "message")
    parts = [screen.table(columns, rows), *(["", "What to do:", *remedies] if remedies else [])]
    return screen.render(parts, width, color=color)


def _remedies(steps: Sequence[Mapping[str, Any]], results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Each remedy once, after the steps that it is for."""
    told: dict[str, list[str]] = {}
    for step in steps:
        if remedy := results.get(step["id"], NOT_REACHED).get("remedy"):
            told.setdefault(remedy, []).append(step["id"])
    return [f"  {listing(ids)}: {remedy}" for remedy, ids in told.items()]


def _row(step: Mapping[str, Any], result: Mapping[str, Any]) -> Sequence[str]:
    seconds = f"{result['seconds']:.1f}" if "seconds" in result else ""
    message = str(result.get("message") or "")
    return (
        str(step["wave"] + 1), step["node"], step["instance"] or "", step["op"], result["status"], seconds, message,
    )  # fmt: skip


def findings_text(findings: Iterable[Finding], width: int = 120, color: bool = False) -> str:
    """The findings with their remedies and how many there are, or that there are none."""
    found = list(findings)
    if not found:
        return screen.render(["Nothing is wrong."], width, color=color)
    return screen.render([*screen.findings(found), "", screen.heading(tally(found))], width, color=color)
