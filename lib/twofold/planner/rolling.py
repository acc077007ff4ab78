# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reboot of the whole cluster, group after group, in the order that the placement engine computes.

What is done is read from the nodes: a note, the same on each, says which boot each of them was in when it began. Who
has booted since is done, if he got the packages that were asked for, which he marks in his own note: a power cut
upgrades nothing. So it can be gone on with from anywhere, also if the node that was just rebooted is lost.
"""

from __future__ import annotations

from typing import Any

from ..findings import ERROR, Finding, listing
from ..placement.errors import RequestError
from ..placement.rolling import Reboot, RollingOptions, rolling
from ..placement.state import BuildOptions, State
from . import cluster_view, evacuate, rebooting, spare
from . import document as plan
from .context import Context
from .document import Step

Document = dict[str, Any]
NOTE = "/var/lib/twofold/rolling.json"


def cluster(context: Context, intent: dict[str, Any]) -> None:
    """`{"verb": "rolling", "packages": "" | "upgrade" | "full", "again": bool}`: what is left, and the note.

    The note is written before the first reboot and removed when nothing is left; `again` forgets an earlier one.
    """
    packages = str(intent.get("packages") or "")
    note = _note(context, packages, again=bool(intent.get("again")))
    if note is None:
        context.call_off()
        return
    try:
        _plan(context, note, again=bool(intent.get("again")))
    except RequestError as error:
        context.call_off()
        remedy = "free room, or stop or move by hand what has no second copy"
        context.findings.append(Finding(ERROR, "no-order", "cluster", str(error), remedy))


def _note(context: Context, packages: str, *, again: bool) -> Document | None:
    """What is gone on with, or a new note; None with a finding if something is wrong.

    Nodes that an interrupted one was about to reboot are given back: it goes on with any of those that are left.
    """
    notes, known = _notes(context), context.errors
    for view in context.observed.all_known if notes else ():
        rebooting.give_back(context, view.name)
    rebooting.other_is_away(context, ())
    if not spare.is_healthy(context) or context.errors > known:
        return None
    if again or not notes:
        return {"format": 1, "packages": packages, "boots": _boots(context)}
    begun = next(iter(notes.values()))
    if others := [name for name, note in notes.items() if note != begun]:
        same = [name for name in notes if name not in others]
        message = f"{listing(same)} and {listing(others)} have notes of different rolling reboots"
        remedy = f"remove {NOTE} on those that were away when the later one began, or begin anew with -e again=true"
    elif begun["packages"] != packages:
        word = f"-e packages={begun['packages']}" if begun["packages"] else "no packages"
        message = f"an earlier rolling reboot, with {word}, is not at its end"
        remedy = "go on with it by the same arguments, or begin anew with -e again=true"
    else:
        return begun
    context.findings.append(Finding(ERROR, "rolling-unfinished", "cluster", message, remedy))
    return None


def _plan(context: Context, note: Document, *, again: bool) -> None:
    done = {name for name in _boots(context) if _is_done(context, note, name)}
    groups = [left for left in (_left(group, done) for group in _groups(context)) if left["nodes"]]
    skipped = {name: node.state for name, node in sorted(context.desired.nodes.items()) if node.state != "online"}
    context.details["rolling"] = {
        "packages": note["packages"], "groups": groups, "done": sorted(done), "skipped": skipped
    }  # fmt: skip
    for name in sorted(done):
        # It was interrupted after the reboot, before the guests came home.
        if context.desired.nodes[name].state == "online":
            given_back = [step for step in context.steps if step == f"{rebooting.END}@{name}"]
            evacuate.undrain(context, name, given_back)
    for view in context.observed.all_known:
        if groups and (view.rolling if again else _common(view.rolling)) != note:
            _step(context, view.name, "rolling.begin", {"note": note}, "says what is done, should this be interrupted")
        elif not groups and view.rolling is not None:
            _step(context, view.name, "rolling.end", {}, "every node was rebooted")


def _is_done(context: Context, note: Document, name: str) -> bool:
    """Whether a node has booted since, with the packages that were asked for; one that came later needs neither."""
    view = context.observed.known(name)
    if view is None or note["boots"].get(name) == view.document.get("boot_id"):
        return False
    upgraded = (view.rolling or {}).get("upgraded") == note["packages"]
    return name not in note["boots"] or upgraded or not note["packages"]


def _common(note: Document | None) -> Document | None:
    """What is the same on all nodes."""
    return None if note is None else {key: value for key, value in note.items() if key != "upgraded"}


def _left(group: Document, done: set[str]) -> Document:
    """A group without the nodes that are done, and without what would have to leave these."""
    nodes = [name for name in group["nodes"] if name not in done]
    return {"nodes": nodes, "moves": [move for move in group["moves"] if move["from"] in nodes]}


def _notes(context: Context) -> dict[str, Document]:
    """The note of a rolling reboot that was begun, by node: any will do, unless one that was away has an older one."""
    found = {view.name: _common(view.rolling) for view in context.observed.all_known}
    return {name: note for name, note in found.items() if note is not None}


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
