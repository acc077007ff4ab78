# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two copies of a replicated instance: whether they are whole, what fills one, and what goes once both are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .. import definition
from ..model import Instance
from ..observed import Trace, Volume
from . import document as plan
from . import replicated, report_only, twins, volumes
from .context import Chain, Context


def whole(trace: Trace, nodes: Iterable[str]) -> bool:
    """Whether both copies are up to date and connected."""
    resources = [trace.resources.get(node) for node in nodes]
    return all(one is not None and one.connected and one.all_disks("UpToDate") for one in resources)


def good(trace: Trace, node: str) -> bool:
    """Whether a node's copy is up to date, so that the other one can be filled from it."""
    resource = trace.resources.get(node)
    return resource is not None and resource.up and resource.all_disks("UpToDate")


def left(trace: Trace, node: str) -> bool:
    """Whether a node's copy is whole, be it the newest or not: where the other one is gone, it is what is left."""
    resource = trace.resources.get(node)
    return resource is not None and resource.up and resource.whole


def may_be_whole(trace: Trace, node: str) -> bool:
    """Whether a node's copy is whole as far as DRBD says; if it is down, the step that uses it finds out."""
    resource = trace.resources.get(node)
    return resource is None or not resource.up or resource.whole


def refused(trace: Trace, node: str, other: str) -> bool:
    """Whether a node in use without a disk of its own is not let to the copy on the other one, or was disconnected.

    The kernel connects it with nothing but the data that it saw last. Who looks for the other side is not refused yet.
    """
    here, there = trace.resources.get(node), trace.resources.get(other)
    if here is None or there is None or not here.primary or there.primary or here.connected or there.connected:
        return False
    gave_up = "StandAlone" in (here.connection, there.connection)
    return gave_up and left(trace, other) and not all(volume.attached for volume in here.volumes)


def former(trace: Trace, nodes: Sequence[str]) -> list[str]:
    """The nodes that hold something of the instance, but not one of its two copies."""
    return [node for node in _elsewhere(trace, nodes) if not twins.holds_anothers(trace, node, nodes)]


def _elsewhere(trace: Trace, nodes: Sequence[str]) -> list[str]:
    disks = {node for node in trace.volumes if volumes.removable(trace, node)}
    held = {*disks, *trace.definitions, *trace.seeds, *trace.resources}
    return sorted(held - set(nodes))


def unfinished(trace: Trace, nodes: Sequence[str]) -> bool:
    """Whether a replacement was begun that is not at its end."""
    marked = any(volumes.pending(trace, node, volumes.SYNC) for node in nodes)
    # What is kept beside it holds what was set aside, and that is said.
    aside = any(volumes.set_aside(trace, node) and not kept(trace, node) for node in nodes)
    return marked or aside or bool(former(trace, nodes))


def kept(trace: Trace, node: str) -> bool:
    """Whether a node keeps data of the instance that was given up, which only an explicit word removes."""
    return any(volume.kept for volume in trace.volumes.get(node, {}).values())


def never_served(trace: Trace, node: str) -> bool:
    """Whether what a node holds of an instance was made for a copy that never began to be filled."""
    found = trace.volumes.get(node, {}).values()
    return node not in trace.resources and all(
        volume.pending & {volumes.SYNC, volumes.WIPE, "metadata"} for volume in found
    )


def unserved(trace: Trace, node: str) -> bool:
    """Whether a node that answers has no copy that a guest can have run on: nothing at all, or one never filled."""
    return node not in trace.domains and (volumes.unfilled(trace, node) or node not in trace.nodes)


def rebuildable(trace: Trace, node: str, peer: str) -> bool:
    """Whether a copy with missing volumes may be made anew without being asked for, and nothing was lost.

    It is we who took them away, for its peer is whole and served meanwhile; or the node is an empty one, new hardware,
    and its peer certainly has the last state.
    """
    return taken_away(trace, node) and (good(trace, peer) or (left(trace, peer) and node in trace.nodes))


def taken_away(trace: Trace, node: str) -> bool:
    """Whether it is we who took missing volumes away, or the node is an empty one: new hardware."""
    ours = bool(volumes.set_aside(trace, node) or volumes.pending(trace, node, volumes.SYNC))
    return ours or node not in trace.nodes


def settings(trace: Trace, timeout: int) -> dict[str, Any]:
    """What steps on the resource share."""
    return {"resource": trace.name, "timeout": timeout}


def fill(
    chain: Chain,
    document: dict[str, Any],
    node: str,
    timeout: int,
    after: Iterable[str] = (),
) -> str:
    """Wait on a node until its copy is filled; the step's id."""
    args = {"resource": document["name"], "timeout": timeout}
    size = sum(disk["size"] for disk in document["disks"])
    why = f"the copy on {node} is filled from the other one"
    return chain.add(node, "replication.wait", args, kind=plan.REPLACE, why=why, bytes=size, after=after)


def make(
    chain: Chain, document: dict[str, Any], wanted: Instance, node: str, why: str, *, after: Iterable[str] = ()
) -> str:
    """Make the volumes of a copy that its peer will fill; the step's id. Metadata gets room for the wanted size."""
    owed = document.get(definition.OWED) == node
    args = volumes.create_args(document, node, install=owed, sync=True, planned=wanted)
    return chain.add(node, "volumes.create", args, kind=plan.REPLACE, why=why, after=after)


def configure(
    chain: Chain, document: dict[str, Any], node: str, why: str, *, after: Iterable[str] = (), risk: str | None = None
) -> str:
    """Bring one side of the resource to what the definition says; the step's id."""
    args = replicated.configure_args(document, node)
    return chain.add(node, "replication.configure", args, kind=plan.REPLACE, why=why, after=after, risk=risk)


def acknowledge(
    chain: Chain, trace: Trace, document: dict[str, Any], nodes: Sequence[str], *, timeout: int, wait: bool
) -> None:
    """Take the mark of an incomplete copy off the copies that were filled: with it no guest starts on them."""
    if whole(trace, nodes) or wait:
        for node in nodes:
            if volumes.pending(trace, node, volumes.SYNC):
                fill(chain, document, node, timeout)


def finish(
    context: Context,
    chain: Chain,
    trace: Trace,
    document: dict[str, Any],
    nodes: Sequence[str],
    *,
    timeout: int,
    wait: bool,
) -> None:
    """Take away what a replacement leaves: marks, volumes that were set aside, the former copies.

    All of it only once both copies are whole, which is looked at again on the node before. With `wait` a resync that
    goes on is waited for, else it is left alone until the next run.
    """
    volumes.report_unclaimed(context, trace, sorted(set(trace.volumes) - set(nodes)))
    twins.left_by(context, trace, _elsewhere(trace, nodes), nodes)
    if not unfinished(trace, nodes):
        return
    if not (whole(trace, nodes) or wait):
        for node in former(trace, nodes):
            message = f"{node} keeps a former copy until {' and '.join(nodes)} are both up to date"
            remedy = "run this again when the resync has ended, then it is removed"
            context.warning("left-over", trace.name, message, remedy)
        return
    waits = [step.id for step in chain.added if step.op == "replication.wait"]
    waits = waits or [fill(chain, document, nodes[1], timeout)]
    for node in (one for one in nodes if not kept(trace, one)):
        # With its origin a snapshot would go that only an explicit word removes.
        drop_set_aside(chain, trace.name, node, volumes.set_aside(trace, node), after=waits)
    for node in former(trace, nodes):
        if kept(trace, node):
            continue
        report_only.clean_up(chain, trace, node, f"its copies are on {' and '.join(nodes)} now", tuple(waits))


def drop_set_aside(chain: Chain, name: str, node: str, found: Iterable[Volume], after: Iterable[str] = ()) -> None:
    """Remove volumes that were set aside."""
    listed = [{"volume_group": volume.volume_group, "name": volume.name} for volume in found]
    if listed:
        args = {"instance": name, "volumes": listed}
        why, risk = "the new copy is complete", "what was set aside on this node is removed"
        chain.add(node, "volumes.remove", args, kind=plan.DESTROY, why=why, risk=risk, after=after)
