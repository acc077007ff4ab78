# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes that are about to be rebooted: a note on the node says so, so that nobody brings a guest to it meanwhile.

The note counts in the boot that it was written in, and goes when the node is given back (`undrain`, `rolling`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from ..findings import ERROR, WARNING, Finding
from ..observed import NodeView
from . import document as plan
from . import proof, spare
from .context import Context
from .document import Step

END = "maintenance.end"
#: The intents of those who reboot a node know about its note.
OWN = ("maintain", "depart", "rejoin", "undrain")


def reason(view: NodeView | None) -> str | None:
    """Why a node takes no guest, if it is known to be about to be rebooted."""
    if view is None or view.rebooting is None:
        return None
    return f"about to be rebooted by {view.rebooting} (if nobody is at it any more, {_undrain(view.name)})"


def report(context: Context, intent: dict[str, Any]) -> None:
    """Say which nodes are about to be rebooted, and which were and did not get their guests back."""
    own = proof.names(intent.get("node")) if intent.get("verb") in OWN else ()
    for view in context.observed.all_known:
        note = view.maintenance
        if note is None or view.name in own:
            continue
        target, since = f"node {view.name}", _since(view, note)
        if view.rebooting is not None:
            message = f"{note['holder']} is about to reboot it, {since}: no guest is brought to it"
            remedy = f"wait until that is done; if nobody is at it any more, {_undrain(view.name)} or reboot.yml again"
            context.findings.append(Finding(WARNING, "node-rebooting", target, message, remedy))
        else:
            message = f"it was rebooted, but {note['holder']}, who began that {since}, did not bring its guests home"
            remedy = f"if nobody is at it any more, {_undrain(view.name)}"
            context.findings.append(Finding(WARNING, "reboot-unfinished", target, message, remedy))


def _since(view: NodeView, note: dict[str, Any]) -> str:
    return f"since {max(0, round((float(view.document.get('time') or 0) - note['time']) / 60))} min"


def _undrain(node: str) -> str:
    return f"undrain.yml -e node={node}"


def other_is_away(context: Context, nodes: Collection[str]) -> None:
    """Findings for the nodes, besides these, that somebody is about to reboot: one more could not be spared."""
    for view in context.observed.all_known:
        if view.rebooting is not None and view.name not in nodes:
            message = f"{view.rebooting} is about to reboot it, so no other node is taken away"
            remedy = f"wait until it is back; if nobody is at it any more, {_undrain(view.name)}"
            context.findings.append(Finding(ERROR, "node-rebooting", f"node {view.name}", message, remedy))


def begin(context: Context, nodes: Iterable[str]) -> list[str]:
    """Add the steps that note on the nodes that they are about to be rebooted; their ids."""
    why = "it is about to be rebooted: nobody is to bring a guest to it"
    return [_step(context, node, "maintenance.begin", {"node": node}, why) for node in nodes]


def give_back(context: Context, node: str) -> list[str]:
    """Add the step after which a node takes guests again, and plan as if it were done; its id, if there is a note."""
    view = context.observed.views.get(node)
    damaged = view is not None and any(problem.get("object") == "maintenance" for problem in view.problems)
    if view is None or (view.maintenance is None and not damaged):
        return []
    context.observed = context.observed.giving_back(node)
    return [_step(context, node, END, {}, "it takes guests again")]


def depart(context: Context, intent: dict[str, Any]) -> None:
    """`{"verb": "depart", "node": "node1,node2", "packages": "" | "upgrade" | "full"}`: the last look before a reboot.

    The packages are those that were upgraded. The lock of a node stays after it: nobody gets in before it is down. What
    the nodes hold was whole when the guests began to leave, which may be long ago, so it is looked at again.
    """
    nodes = proof.names(intent.get("node")) or [""]
    known = context.errors
    for name in nodes:
        _check(context, name)
    if context.errors > known or not spare.is_healthy(context, nodes):
        return
    for name in nodes:
        needs = _step(context, name, "maintenance.ready", {}, "nothing runs there")
        packages, note = str(intent.get("packages") or ""), _rolling(context, name)
        if packages and note.get("packages") == packages:
            args, why = {"packages": packages}, "its packages were upgraded, so it is done after the reboot"
            _step(context, name, "rolling.upgraded", args, why, needs)


def _check(context: Context, name: str) -> None:
    """Findings for a node that must not be rebooted now."""
    view, again = context.observed.known(name), "run the playbook again"
    if view is None:
        message = "it does not tell whether something runs on it, so it is not rebooted"
        context.findings.append(Finding(ERROR, "node-unknown", f"node {name}", message, again))
    elif view.rebooting is None:
        message = "since it was cleared, it was rebooted or given back, so it is not rebooted"
        context.findings.append(Finding(ERROR, "not-cleared", f"node {name}", message, again))
    elif running := sorted(guest for guest, domain in view.domains.items() if domain.active):
        message = f"it is not rebooted, for {', '.join(running)} runs on it, which was not there when it was cleared"
        context.findings.append(Finding(ERROR, "not-cleared", f"node {name}", message, again))


def _rolling(context: Context, name: str) -> dict[str, Any]:
    view = context.observed.known(name)
    return (view.rolling if view is not None else None) or {}


def _step(context: Context, node: str, op: str, args: dict[str, Any], why: str, *needs: str) -> str:
    identifier = f"{op}@{node}"
    context.steps[identifier] = Step(identifier, node, None, op, args, needs, kind=plan.LIVE, why=why)
    return identifier
