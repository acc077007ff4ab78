# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy of a disk that is left behind says so itself.

When replication breaks while the guest goes on writing on the other node, DRBD here still calls its copy up to date: it
cannot know. If the other node's libvirt can be asked on another network and has the guest running, it is known, and the
copy is marked Outdated. So is a copy that was down, before it comes up: until the handshake, which takes the mark off,
it cannot know what was written meanwhile. Were the other node lost, nobody would take it for the last state unasked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable

from ._drbd import Replication, ResourceState
from ._drbd_meta import parse_generations
from ._errors import CommandFailed
from ._libvirt import OFF


def mark(
    copies: Replication, definitions: dict[str, dict[str, Any]], here: str, ask: Callable[[str], dict[str, str] | None]
) -> list[str]:
    """Marks what is stale; returns a line for each. `ask` tells a node's domains and their states, or None."""
    said = []
    for name, state in sorted(copies.states().items()):
        nodes = (definitions.get(name) or {}).get("nodes") or []
        if here not in nodes or not alone(state):
            continue
        for peer in nodes:
            there = ask(peer) if peer != here else None
            if there is not None and there.get(name, OFF[0]) not in OFF:
                copies.outdate(name)
                said.append(f"{name}: marked the copy here as outdated: it runs on {peer}, and replication is broken")
    return said


def alone(state: ResourceState) -> bool:
    """Whether this side is secondary, without its peer, and takes its copy for the last state."""
    apart = state.role == "Secondary" and not state.connected and state.peer_role != "Primary"
    return apart and bool(state.volumes) and all(one.disk == "UpToDate" for one in state.volumes)


def mark_before_up(copies: Replication, name: str, volumes: Iterable[int]) -> None:
    """Marks the copy of a resource that is down and comes up now; replication.sh does the same after a boot.

    One that was written without its peer has what the peer lacks, and stays as it is.
    """
    try:
        seen = [parse_generations(copies.generations(name, volume)) for volume in volumes]
    except CommandFailed:
        # Without metadata it is no copy; bringing it up says so.
        return
    if all(one.consistent and not one.bitmap for one in seen) and any(one.up_to_date for one in seen):
        copies.outdate(name)
