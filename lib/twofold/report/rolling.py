# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the intent `rolling` has to say: in which order nodes are rebooted, and which guests leave them meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

COLUMNS = ("GROUP", "NODES", "GUESTS THAT LEAVE MEANWHILE")


def rows(details: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """A row for each group that is left."""
    for number, group in enumerate(details["groups"], start=1):
        moves = [f"{move['instance']} to {move['to'] or 'where there is room'}" for move in group["moves"]]
        yield str(number), ", ".join(group["nodes"]), ", ".join(moves) or "none"


def conclusion(details: dict[str, Any]) -> Iterator[str]:
    """What is done, and what is left out."""
    what = "rebooted" if not details["packages"] else f"rebooted with new packages ({details['packages']})"
    if details["done"]:
        yield f"{what}: {', '.join(details['done'])}"
    if not details["groups"]:
        yield f"every node that is online was {what}"
    for name, state in details["skipped"].items():
        yield f"{name} is left out: it is {state}"


def markdown(details: dict[str, Any]) -> list[str]:
    """The same for a pull request."""
    table = [COLUMNS, ("---",) * len(COLUMNS), *rows(details)] if details["groups"] else []
    return [*(f"| {' | '.join(row)} |" for row in table), "", *conclusion(details)]
