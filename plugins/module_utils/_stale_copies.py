# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy of a disk that is left behind says so itself.

When replication breaks while the guest goes on writing on the other node, DRBD here still calls its copy up to date: it
cannot know. If the other node's libvirt can be asked on another network and has the guest running, it is known, and the
copy is marked Outdated. So is a copy that was down, before it comes up: until the handshake, which takes the mark off,
it cannot know what was written meanwhile. Were the other node lost, nobody would take it for the last state unasked.
One that was written without its peer has what the peer lacks, and stays as it is: it may be the only whole copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Callable

from . import _definitions
from ._drbd import Replication, ResourceState
from ._drbd_meta import Generations, parse_generations
from ._errors import CommandFailed, TwofoldError
from ._files import Files
from ._libvirt import OFF

Ask = Callable[[str], "dict[str, str] | None"]


def mark(copies: Replication, files: Files, here: str, ask: Ask) -> Iterator[str]:
    """Marks what is stale; a line for each, also for what could not be marked, which holds up no other.

    `ask` tells a node's domains and their states, or None. No run is waited for: the kernel refuses the mark on a
    Primary and leaves a connected copy as it is, and a run's next step finds what it would have found had the mark been
    made before.
    """
    defined = set(files.names(_definitions.FOLDER))
    for name, state in sorted(copies.states().items()):
        if f"{name}.json" not in defined or not alone(state):
            continue
        try:
            peer = _runs_on(name, files, here, ask)
            if peer is not None and not _went_on(_generations(copies, name, (one.volume for one in state.volumes))):
                copies.outdate(name)
                yield f"{name}: marked the copy here as outdated: it runs on {peer}, and replication is broken"
        except (TwofoldError, OSError) as error:
            yield f"{name}: the copy here may be stale and could not be marked as outdated: {error}"


def _runs_on(name: str, files: Files, here: str, ask: Ask) -> str | None:
    """The other node of an instance with its disks here, if it runs there."""
    nodes = (_definitions.read(files, name) or {}).get("nodes") or []
    peers = [node for node in nodes if node != here] if here in nodes else []
    return next((peer for peer in peers if (ask(peer) or {}).get(name, OFF[0]) not in OFF), None)


def alone(state: ResourceState) -> bool:
    """Whether this side is secondary, without its peer, and takes its copy for the last state."""
    apart = state.role == "Secondary" and not state.connected and state.peer_role != "Primary"
    return apart and bool(state.volumes) and all(one.disk == "UpToDate" for one in state.volumes)


def _generations(copies: Replication, name: str, volumes: Iterable[int]) -> list[Generations]:
    return [parse_generations(copies.generations(name, volume)) for volume in volumes]


def _went_on(seen: list[Generations]) -> bool:
    """Whether a copy was written without its peer's disk, by its own node or, through it, by a Primary without a disk.

    The kernel sets the bitmap's UUID on the side alone that has the newer data, until the peer has been filled. A
    Secondary that only lost its connection keeps 0, however much the Primary writes then: what is stale has none.
    """
    return any(one.bitmap for one in seen)


def mark_before_up(copies: Replication, name: str, volumes: Iterable[int]) -> None:
    """Marks the copy of a resource that is down and comes up now, also after a boot."""
    try:
        seen = _generations(copies, name, volumes)
    except CommandFailed:
        # Without metadata it is no copy; bringing it up says so.
        return
    if all(one.consistent for one in seen) and any(one.up_to_date for one in seen) and not _went_on(seen):
        copies.outdate(name)
