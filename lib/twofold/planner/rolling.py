# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reboot of the whole cluster, group after group, in the order that the placement engine computes.

What is done is read from the nodes: a note, the same on each, says which boot each of them was in when it began. Who
has booted since is done. So it can be gone on with from anywhere, also if the node that was just rebooted is lost.
"""

from __future__ import annotations

from typing import Any

from ..findings import ERROR, Finding
from ..placement.errors import RequestError
from ..placement.rolling import Reboot, RollingOptions, rolling
from ..placement.state import BuildOptions, State
from . import cluster_view, evacuate, maintenance
from . import document as plan
from .context import Context
from .document import Step

Document = dict[str, Any]
PACKAGES = ("", "upgrade", "full")


def cluster(context: Context, intent: dict[str, Any]) -> None:
    """`{"verb": "rolling", "packages": "" | "upgrade" | "full", "again": bool}`: what is left, and the note.

    The note is written before the first reboot and removed when nothing is left; `again` forgets an earlier one.
    """
    packages = str(intent.get("packages") or "")
    if packages not in PACKAGES:
        message = f"packages is {packages!r}"
        context.findings.append(Finding(ERROR, "wrong-arguments", "cluster", message, "use upgrade, full, or neither"))
        return
    if not maintenance.is_healthy(context):
        return
    found = None if intent.get("again") else _begun(context)
    if found is not None and found["packages"] != packages:
        word = f"-e packages={found['packages']}" if found["packages"] else "no packages"
        message = f"an earlier rolling reboot, with {word}, is not at its end"
        remedy = "go on with it by the same arguments, or begin anew with -e again=true"
        context.findings.append(Finding(ERROR, "rolling-unfinished", "cluster", message, remedy))
        return
    note = found or {"format": 1, "packages": packages, "boots": _boots(context)}
    try:
        _plan(context, note)
    except RequestError as error:
        remedy = "free room, or stop or move by hand what has no second copy"
        context.findings.append(Finding(ERROR, "no-order", "cluster", str(error), remedy))


def _plan(context: Context, note: Document) -> None:
    booted = _boots(context)
    done = {name for name, boot in booted.items() if note["boots"].get(name) != boot}
    groups = [left for left in (_left(group, done) for group in _groups(context)) if left["nodes"]]
    skipped = {name: node.state for name, node in sorted(context.desired.nodes.items()) if node.state != "online"}
    context.details["rolling"] = {
        "packages": note["packages"], "groups": groups, "done": sorted(done), "skipped": skipped
    }  # fmt: skip
    for name in sorted(done):
        # It was interrupted after the reboot, before the guests came home.
        if context.desired.nodes[name].state == "online":
            evacuate.undrain(context, name)
    for view in context.observed.all_known:
        if groups and view.rolling != note:
            _step(context, view.name, "rolling.begin", {"note": note}, "says what is done, should this be interrupted")
        elif not groups and view.rolling is not None:
            _step(context, view.name, "rolling.end", {}, "every node was rebooted")


def _left(group: Document, done: set[str]) -> Document:
    """A group without the nodes that are done, and without what would have to leave these."""
    nodes = [name for name in group["nodes"] if name not in done]
    return {"nodes": nodes, "moves": [move for move in group["moves"] if move["from"] in nodes]}


def _begun(context: Context) -> Document | None:
    """The note of a rolling reboot that was begun; any node that has it will do."""
    return next((view.rolling for view in context.observed.all_known if view.rolling is not None), None)


def _boots(context: Context) -> dict[str, str]:
    return {
        view.name: str(view.document.get("boot_id"))
        for view in context.observed.all_known
        if view.name in context.desired.nodes
    }


def _groups(context: Context) -> list[Document]:
    """The nodes that are online, as groups to be rebooted one after the other, with the guests that leave before."""
    found = cluster_view.cluster(context.desired, context.observed, context.claims)
    state = State(found, BuildOptions())
    names = state.nodes.names
    return [
        {"nodes": [names[n] for n in step.nodes], "moves": _moves(state, step)}
        for step in rolling(state, RollingOptions(force=True))
    ]


def _moves(state: State, step: Reboot) -> list[Document]:
    """The guests of a group: those with a second copy go there, the engine says where the others find room."""
    names, elsewhere = state.nodes.names, {i: p for i, p, _second in step.moves}
    found = []
    for i, guest in enumerate(state.inst.names):
        here = int(state.pri[i])
        if here in step.nodes and state.cluster.instances[i].status == "running":
            target = int(state.sec[i]) if state.inst.drbd[i] else elsewhere.get(i, -1)
            to = names[target] if target >= 0 else None
            found.append({"instance": guest, "from": names[here], "to": to})
    return found


def _step(context: Context, node: str, op: str, args: Document, why: str) -> None:
    identifier = f"{op}@{node}"
    context.steps[identifier] = Step(identifier, node, None, op, args, (), kind=plan.LIVE, why=why)
