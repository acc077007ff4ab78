# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two instances of one name: one was made while nobody could see the other, whose node or disk is back now.

Both have the same tags and the same UUID. What tells them from what one and the same instance has left behind on its
way is the mark of its creation; without it, as of older versions, where they have been. Whose data goes is never ours
to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from .. import definition
from ..observed import Trace
from ..render import replication
from . import volumes
from .context import Context


def holds_anothers(trace: Trace, node: str, nodes: Collection[str]) -> bool:
    """Whether the disks on a node are not what an instance on these nodes has left there, as far as is known.

    The definition there, which always goes last, is not of the same birth; or, if they have no mark of it, knows none
    of these nodes. What holds no data yet was never anybody's.
    """
    if node in nodes or _knows(trace, node, nodes):
        return False
    ours = volumes.removable(trace, node)
    disks = [key for key, one in trace.volumes.get(node, {}).items() if one in ours and not key.endswith("-meta")]
    return any(not volumes.owes(trace, node, key) for key in disks) and not _is_new(trace, node)


def _knows(trace: Trace, node: str, nodes: Collection[str]) -> bool:
    """Whether a node has the definition of this instance, from when it was there or on its way there."""
    document, resource = trace.definitions.get(node), trace.resources.get(node)
    if document is not None:
        marks = {document.get(definition.BORN), (trace.newest or {}).get(definition.BORN)}
        if None not in marks:
            return len(marks) == 1
        return bool(set(definition.holders(document)) & set(nodes)) or _never_came(trace, node)
    # If somebody removed that, DRBD's file still tells with whom it was.
    pair = replication.hosts((trace.newest or {}).get("replication_config") or "")
    return resource is not None and bool(replication.hosts(resource.config or "") & pair)


def _never_came(trace: Trace, node: str) -> bool:
    """Whether a guest was on its way to a node and has gone elsewhere since: what is there was never its own."""
    document, newest = trace.definitions[node], trace.newest or {"generation": 0}
    older = int(document["generation"]) < int(newest["generation"])
    return document.get("moving_to") == node and node not in trace.domains and older


def _is_new(trace: Trace, node: str) -> bool:
    """Whether an instance on a node was never brought to its first start, so that nothing was written to it."""
    resource = trace.resources.get(node)
    unused = resource is not None and resource.up and resource.all_disks("Inconsistent")
    return unused or definition.OWED in trace.definitions.get(node, {})


def of(name: str) -> str:
    """What is said of a node that holds another instance's disks, which nothing may be written over."""
    return f"holds disks of another {name}"


def left_by(context: Context, trace: Trace, others: Iterable[str], nodes: Sequence[str]) -> list[str]:
    """Those of the other nodes that hold what the instance on `nodes` has left there; a finding for the rest."""
    found = list(others)
    if strange := [node for node in found if holds_anothers(trace, node, nodes)]:
        report(context, trace, nodes, strange, served=True)
    return [node for node in found if node not in strange]


def report(
    context: Context, trace: Trace, nodes: Iterable[str], others: Iterable[str], *, served: bool = False
) -> None:
    """Say that it exists twice; while the one on these nodes is `served`, this is for the operator to look at."""
    name, here, there = trace.name, " and ".join(nodes), " and ".join(others)
    message = f"{there} {of(name)} than the one on {here}: nothing of either is removed"
    remedy = (
        f"keep the one whose data you want; where the other one is: 'virsh destroy {name}' and 'virsh undefine {name}' "
        f"if it is there, 'drbdadm down {name}' if it is on DRBD, lvremove or lvrename its volumes, and 'rm "
        f"/var/lib/twofold/instances/{name}.json'; then run site.yml"
    )
    say = context.warning if served else context.error
    say("made-twice", name, message, remedy)
