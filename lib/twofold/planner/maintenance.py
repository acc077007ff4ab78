# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes that are rebooted under the guests of a cluster, and nodes that are taken out of it.

Before a node is taken away for a while everything that it holds a copy of has to be whole; its guests run elsewhere
meanwhile and come home. If anything is wrong, nothing is moved.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace as with_
from typing import Any

from .. import definition
from ..findings import ERROR, INFO, Finding
from ..model import Desired, ReplicationSettings
from . import copies, evacuate, proof, rebooting, replicated, spare, volumes
from .context import Chain, Context
from .situation import assess


def clear(context: Context, intent: dict[str, Any]) -> None:
    """`{"verb": "maintain", "node": "node1,node2", "everything": bool}`: the guests leave, to come home later.

    It is noted on the nodes first that they take no guests. Guests that are off stay. With `everything` the whole
    cluster has to be healthy, else what the nodes hold.
    """
    nodes = _nodes(context, intent)
    known = context.errors
    rebooting.other_is_away(context, nodes)
    healthy = spare.is_healthy(context, None if intent.get("everything") else nodes)
    if not nodes or not healthy or context.errors > known:
        return
    away = Context(without(context.desired, nodes), context.observed, context.claims, context.steps, context.findings)
    away.summary = context.summary
    after: Sequence[str] = rebooting.begin(context, nodes)
    for name in nodes:
        running = {one for one, domain in _domains(context, name).items() if domain.active}
        guests = [one for one in evacuate.held(away, name)[0] if one.name in running]
        after = evacuate.leave(away, name, guests, home=True, after=after)
        for stranger in sorted(running - {one.name for one in guests}):
            message = f"it runs {stranger}, which is not an instance of the inventory, and would end it"
            _error(context, name, "foreign-guest", message, f"put {stranger} into the inventory, or stop it")
    if context.errors > known:
        context.call_off()


def rejoin(context: Context, intent: dict[str, Any]) -> None:
    """`{"verb": "rejoin", "node": "node1,node2"}`: what the nodes hold a copy of is brought up and resynced."""
    for node in _nodes(context, intent):
        for name in sorted(context.observed.names()):
            _rejoin(context, name, node)


def _rejoin(context: Context, name: str, node: str) -> None:
    trace, wanted = context.observed.trace(name), context.desired.instances.get(name)
    base = trace.newest or {"nodes": (), "disk_template": None}
    if base["disk_template"] != "drbd" or node not in base["nodes"] or copies.whole(trace, base["nodes"]):
        return
    if wanted is None or assess(context, wanted, trace) is None:
        return
    lacking = [one for one in base["nodes"] if one != node and not copies.good(trace, one)]
    if lacking or volumes.missing(base, trace, node):
        message = f"its copy on {node} cannot be filled: " + (
            f"the one on {lacking[0]} is not up to date" if lacking else "its volumes are not there"
        )
        context.error("not-replicated", name, message, "run site.yml, and see what verify says of it")
        return
    chain = Chain(context, name)
    met = [
        copies.configure(chain, base, one, why)
        for one in base["nodes"]
        if (why := replicated.apart(trace.resources.get(one))) is not None
    ]
    settings = wanted.replication if wanted is not None else ReplicationSettings()
    copies.fill(chain, base, node, settings.timeout, after=met)
    context.change(name, "resync", (node,), f"{node} is back")


def undrain(context: Context, intent: dict[str, Any]) -> None:
    """`{"verb": "undrain", "node": "node1,node2", "rebooted": bool}`: these nodes take guests, and theirs come home.

    A node that was `rebooted` may have been drained by the operator before: then it stays so.
    """
    for name in _nodes(context, intent):
        after = rebooting.give_back(context, name)
        evacuate.undrain(context, name, after, rebooted=bool(intent.get("rebooted")))


def removable(context: Context, name: str) -> None:
    """Say whether a node can be taken out of the inventory: it holds nothing of any instance, as far as is known."""
    gone = evacuate.is_silent(context, name)
    if not gone and not evacuate.answers(context, name):
        return
    for instance in sorted({*context.observed.names(), *_domains(context, name), *context.desired.instances}):
        held = _held(context, instance, name, gone=gone)
        if held is None:
            continue
        message = f"{name} cannot be taken out yet: {held}"
        remedy = f"see why in the plan above, mend that, then remove_node.yml -e node={name} again"
        context.error("node-not-empty", instance, message, remedy)
    if not any(finding.code == "node-not-empty" for finding in context.findings):
        remedy = f"take {name} out of the group of nodes in the inventory, then run bootstrap.yml: the others forget it"
        message = "it holds nothing of any instance and can go"
        if gone:
            message = "it does not answer; nothing that the others hold needs it, so it can go for good"
            remedy = f"make sure that it stays off, then {remedy}"
        context.findings.append(Finding(INFO, "node-empty", f"node {name}", message, remedy))


def _held(context: Context, instance: str, node: str, *, gone: bool) -> str | None:
    """Why an instance still needs a node, which may be `gone`; None if it does not."""
    trace, wanted = context.observed.trace(instance), context.desired.instances.get(instance)
    if node in trace.nodes:
        return "something of it is there"
    if gone and wanted is not None and wanted.state == "absent":
        # Nobody misses what is to be removed.
        return None
    named = {*definition.holders(trace.newest)} if trace.newest is not None else set()
    if node in named | {document.get("moving_to") for document in trace.definitions.values()}:
        return "its definition names it"
    if not gone:
        return None
    if not trace.nodes:
        alone = "no node that answers holds anything of it, so it may be there alone"
        return alone if wanted is not None else None
    pair = trace.newest["nodes"] if trace.newest is not None else ()
    if copies.unfinished(trace, pair) and not any(copies.good(trace, one) for one in pair):
        return "a replacement of its copies has not ended, so the last good one may be there"
    return None


def without(desired: Desired, nodes: Collection[str]) -> Desired:
    """The inventory as if some nodes were drained: nothing goes there."""
    drained = {
        name: node.model_copy(update={"state": "drained"}) if name in nodes and node.state == "online" else node
        for name, node in desired.nodes.items()
    }
    return with_(desired, nodes=drained)


def _domains(context: Context, node: str) -> dict[str, Any]:
    view = context.observed.known(node)
    return view.domains if view is not None else {}


def _nodes(context: Context, intent: dict[str, Any]) -> list[str]:
    """The nodes of an intent; none if one of them is unknown, with a finding."""
    found = proof.names(intent.get("node")) or [""]
    answering = [name for name in found if evacuate.answers(context, name)]
    return found if answering == found else []


def _error(context: Context, node: str, code: str, message: str, remedy: str) -> None:
    context.findings.append(Finding(ERROR, code, f"node {node}", message, remedy))
