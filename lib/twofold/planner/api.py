# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""`plan(desired, observed, intent)`: from what is wanted and what is, to the steps between. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from .. import arguments
from ..fencing import OFF
from ..findings import ERROR, INFO, WARNING, Finding, listing, ordered
from ..model import Desired
from ..observed import NodeView, Observed, Trace
from . import (
    activate,
    addresses,
    converge,
    evacuate,
    failover,
    fingerprint,
    grow,
    maintenance,
    mend,
    migrate,
    placement,
    proof,
    rebooting,
    recreate,
    replace,
    starts,
    survivor,
    waves,
)
from .claims import Claims
from .context import Context
from .document import Plan, Step
from .proof import CUT_OFF, UNPROVEN, Proofs, Suspects, replicating_with

Documents = dict[str, dict[str, Any] | None]


def plan(desired: Desired, observed: Documents, intent: dict[str, Any]) -> Plan:
    """The plan for an intent: a verb of `VERBS` and its arguments, which the playbook of that name shows.

    For instance `{"verb": "converge", "instances": null | [names]}`, or
    `{"verb": "migrate", "instance": name, "target": null | node}`.

    `observed` is each node's document, or None if the node did not answer. The plan's findings hold the inventory's
    too. If the cluster or a node of the inventory is wrong, there are no steps.
    """
    intent, wrong = arguments.read(intent)
    seen = Observed.of(desired, observed)
    context = Context(desired, seen, Claims(desired, seen))
    context.findings += [*desired.findings, *wrong]
    if not desired.blocked and not wrong:
        _nodes(context)
        rebooting.report(context, intent)
        if _anybody(context):
            _verb(context, intent)
    steps = tuple(_planned_on(seen, step) for step in waves.assign(context.steps.values()))
    based_on = fingerprint.based_on(desired, seen, context.claims, steps)
    mark = fingerprint.fingerprint(intent, based_on, steps)
    findings = tuple(ordered(context.findings))
    return Plan(intent, steps, findings, tuple(context.summary), based_on, mark, context.details)


def _planned_on(seen: Observed, step: Step) -> Step:
    """The step with the generation that it was planned on: on its node it is refused if that is another by then."""
    if step.instance is None:
        return step
    return step.planned_on(seen.trace(step.instance).generation(step.node) or 0)


def _anybody(context: Context) -> bool:
    """Whether there is a node to plan on; else a finding, for then it is not the nodes that are to be mended first."""
    if context.observed.views and not any(context.observed.views.values()):
        remedy = "look at your own network, ssh key and ssh configuration first; 'ansible -m ping' tries one node"
        message = "no node answers, so nothing can be planned"
        context.findings.append(Finding(ERROR, "nobody-answers", "cluster", message, remedy))
        return False
    return True


def _verb(context: Context, intent: dict[str, Any]) -> None:
    verb = VERBS.get(str(intent.get("verb")))
    if verb is None:
        message = f"there is no intent {intent.get('verb')!r}"
        remedy = f"use one of {', '.join(VERBS)}"
        context.findings.append(Finding(ERROR, "unknown-intent", "cluster", message, remedy))
        return
    verb(context, intent)


def _converge_intent(context: Context, intent: dict[str, Any]) -> None:
    accepted, known = proof.names(intent.get("accept_new")), context.errors
    for name in accepted:
        _need(context, name, "accept_new names it, and ")
    if context.errors > known:
        return
    _converge(context, intent.get("instances"), accepted)


def _migrate(context: Context, intent: dict[str, Any]) -> None:
    migrate.instance(context, str(intent.get("instance") or ""), intent.get("target") or None)


def _balance(context: Context, intent: dict[str, Any]) -> None:
    # Only this intent waits for NumPy.
    from . import balance

    balance.cluster(context, intent.get("max_copy"), intent.get("max_moves"), intent.get("disk_moves"))


def _rolling(context: Context, intent: dict[str, Any]) -> None:
    # As above.
    from . import rolling

    rolling.cluster(context, intent)


def _drain(context: Context, intent: dict[str, Any]) -> None:
    evacuate.drain(context, str(intent.get("node") or ""))


def _remove_node(context: Context, intent: dict[str, Any]) -> None:
    maintenance.removable(context, str(intent.get("node") or ""))


def _grow(context: Context, intent: dict[str, Any]) -> None:
    grow.instance(
        context, str(intent.get("instance") or ""), str(intent.get("disk", "0")), str(intent.get("size") or "")
    )


def _recreate_disks(context: Context, intent: dict[str, Any]) -> None:
    recreate.instance(context, str(intent.get("instance") or ""), intent.get("confirm"))


def _reinstall(context: Context, intent: dict[str, Any]) -> None:
    recreate.reinstall(context, str(intent.get("instance") or ""), intent.get("confirm"))


def _activate_disks(context: Context, intent: dict[str, Any]) -> None:
    activate.activate(context, str(intent.get("instance") or ""))


def _deactivate_disks(context: Context, intent: dict[str, Any]) -> None:
    activate.deactivate(context, str(intent.get("instance") or ""))


def _resolve_split_brain(context: Context, intent: dict[str, Any]) -> None:
    survivor.resolve(context, str(intent.get("instance") or ""), intent.get("survivor") or None)


def _drop_kept(context: Context, intent: dict[str, Any]) -> None:
    survivor.drop(context, str(intent.get("instance") or ""), intent.get("confirm"))


def _replace_disks(context: Context, intent: dict[str, Any]) -> None:
    replace.instance(
        context,
        str(intent.get("instance") or ""),
        intent.get("new_secondary") or None,
        intent.get("on") or None,
    )


def _mend(context: Context, _intent: dict[str, Any]) -> None:
    mend.cluster(context)
    _clear_journals(context)
    mend.locks(context)


# Each adds the steps and findings of an intent.
VERBS: dict[str, Callable[[Context, dict[str, Any]], None]] = {
    "activate_disks": _activate_disks,
    "balance": _balance,
    "converge": _converge_intent,
    "deactivate_disks": _deactivate_disks,
    "depart": rebooting.depart,
    "drain": _drain,
    "drop_kept": _drop_kept,
    "evacuate": evacuate.node,
    "failover": failover.instance,
    "grow": _grow,
    "maintain": maintenance.clear,
    "mend": _mend,
    "migrate": _migrate,
    "recover": failover.recover,
    "rejoin": maintenance.rejoin,
    "remove_node": _remove_node,
    "recreate_disks": _recreate_disks,
    "reinstall": _reinstall,
    "replace_disks": _replace_disks,
    "resolve_split_brain": _resolve_split_brain,
    "rolling": _rolling,
    "undrain": maintenance.undrain,
}


def _need(context: Context, name: str, why: str = "") -> None:
    """A finding if the inventory does not have an instance, not even as one that is wrong."""
    if name not in context.desired.instances and name not in context.desired.rejected:
        message = f"{why}there is no such instance in the inventory"
        context.error("unknown-instance", name, message, "correct the name")


def _converge(context: Context, only: list[str] | None, accepted: Collection[str]) -> None:
    instances = context.desired.instances
    for name in only or ():
        _need(context, name)
    chosen = starts.ordered(context, (name for name in instances if only is None or name in only))
    # What exists keeps what it has before anything new chooses.
    existing = [name for name in chosen if context.observed.trace(name).newest is not None]
    for name in existing:
        converge.instance(context, instances[name])
    new = [instances[name] for name in chosen if name not in existing]
    placement.place_new(context, new, accepted)
    for instance in new:
        converge.instance(context, instance)
    addresses.report(context, chosen)
    if only is None:
        _strangers(context)
        _clear_journals(context)


def _strangers(context: Context) -> None:
    """Instances on the nodes that the inventory does not know: reported, never removed."""
    for name in sorted(context.observed.names() - set(context.desired.instances) - context.desired.rejected):
        nodes = ", ".join(context.observed.trace(name).nodes)
        message = f"it is on {nodes}, but not in the inventory"
        remedy = "put it back into the inventory, with twofold_state: absent if it is to be removed"
        context.warning("not-in-inventory", name, message, remedy)


def _nodes(context: Context) -> None:
    """Findings about the nodes themselves."""
    for name, view in sorted(context.observed.views.items()):
        target = f"node {name}"
        offline = name in context.desired.nodes and context.desired.nodes[name].state == "offline"
        if view is None and offline:
            message = "it is declared offline, and does not answer"
            context.findings.append(Finding(INFO, "node-offline", target, message, ""))
            continue
        if view is None:
            message = "nothing is known of it: it did not answer"
            remedy = "check that it is on and that ssh gets there; instances that need it are left alone"
            context.findings.append(Finding(WARNING, "node-unknown", target, message, remedy))
            continue
        if offline:
            message = "it answers, though twofold_node_state says that it is offline"
            remedy = "set twofold_node_state to drained or online, so that nothing is made twice"
            context.findings.append(Finding(WARNING, "node-offline", target, message, remedy))
        _address(context, view)
        if view.missing and view.another is None:
            message = f"it could not tell its {', '.join(view.missing)}"
            remedy = "see the node's problems; instances that need it are left alone"
            context.findings.append(Finding(ERROR, "node-incomplete", target, message, remedy))
        for problem in view.problems:
            message = f"{problem.get('object', '')}: {problem.get('message', '')}"
            remedy = problem.get("remedy") or f"mend that on {view.name}, then run verify.yml"
            context.findings.append(Finding(WARNING, "node-problem", target, message, remedy))
        _damaged(context, view)
        for entry in view.journal:
            _journal(context, target, entry)
    _left_off(context)


def _address(context: Context, view: NodeView) -> None:
    """A machine that does not have the address for DRBD of the node that it answers for."""
    if view.name not in context.desired.nodes:
        return
    address, told = context.desired.nodes[view.name].replicate_at, view.document.get("addresses") or []
    if not view.lacks_address(address):
        return
    message = f"it does not have its replication address {address}, it has {listing(told) or 'none'}"
    target = f"node {view.name}"
    if view.another is not None:
        message += f": it is {view.another}, so nothing is known of {view.name}"
        context.findings.append(Finding(ERROR, "node-address", target, message, proof.another_remedy(view)))
    elif _replicates(context, view):
        remedy = (
            "if its interface is down there, bring it up; else correct ansible_host or twofold_replication_address of "
            "it in the inventory; until then DRBD is told of no new address there"
        )
        context.findings.append(Finding(WARNING, "node-address", target, message, remedy))


def _replicates(context: Context, view: NodeView) -> bool:
    """Whether DRBD has, or is to have, to do with a node's address."""
    given = context.desired.nodes[view.name].replication_address is not None
    return given or any(document["disk_template"] == "drbd" for document in view.definitions.values())


def _damaged(context: Context, view: NodeView) -> None:
    """Definitions that are of no use."""
    for name, fault in sorted(view.damaged.items()):
        message = f"its definition on {view.name} is damaged: {fault}"
        remedy = f"copy /var/lib/twofold/instances/{name}.json of its other node, or from a backup"
        context.error("definition-damaged", name, message, remedy)


def _left_off(context: Context) -> None:
    """Guests that their node did not start by itself, as far as they are still off and should run."""
    for view in context.observed.all_known:
        for name, left in sorted(view.left_off.items()):
            trace = context.observed.trace(name)
            off = not any(domain.active for domain in trace.domains.values())
            if off and _should_run(context, trace):
                context.warning("left-off", name, f"{view.name} did not start it: {left['reason']}", left["remedy"])


def _should_run(context: Context, trace: Trace) -> bool:
    """Whether a guest is to run by its definition and by the inventory; else what its node noted is of yesterday."""
    base, wanted = trace.newest, context.desired.instances.get(trace.name)
    return base is not None and base["state"] == "running" and (wanted is None or wanted.state == "running")


def _journal(context: Context, target: str, entry: dict[str, Any]) -> None:
    """A step that was interrupted, or one that is at work now."""
    step = entry.get("step") or {}
    name = step.get("id") or entry.get("key")
    if entry.get("running"):
        message = f"a step of {entry.get('holder')} is at work: {name}"
        context.findings.append(Finding(INFO, "step-running", target, message, "wait until it has ended"))
        return
    message = f"a step of {entry.get('holder')} was interrupted: {name}"
    remedy = "a run goes on where that one stopped, and clears this"
    context.findings.append(Finding(INFO, "interrupted-step", target, message, remedy))


def _clear_journals(context: Context) -> None:
    """Interrupted steps were seen; what they left is dealt with by the same plan."""
    for view in context.observed.all_known:
        keys = sorted(str(entry["key"]) for entry in view.journal if entry.get("key") and not entry.get("running"))
        if keys:
            identifier = f"journal.clear@{view.name}"
            why = "what was interrupted is dealt with"
            needs = tuple(step.id for step in context.steps.values() if step.node == view.name)
            step = Step(identifier, view.name, None, "journal.clear", {"keys": keys}, needs, why=why)
            context.steps[identifier] = step


def suspects(desired: Desired, observed: Documents, intent: dict[str, Any]) -> Suspects:
    """The nodes that an intent waits for a proof of death for; only these are worth asking a fence device about."""
    intent, wrong = arguments.read(intent)
    if wrong or all(observed.get(name) is not None for name in desired.nodes):
        # Nobody needs the proof, and a plan takes a while.
        return Suspects()
    now = plan(desired, observed, intent)
    seen = Observed.of(desired, observed)
    proofs = Proofs(Context(desired, seen, Claims(desired, seen)), intent)

    def named(code: str) -> tuple[str, ...]:
        return tuple(sorted({one.object.removeprefix("node ") for one in now.findings if one.code == code}))

    dead = named(UNPROVEN)
    in_vain = _in_vain(now, plan(desired, observed, _as_if_off(intent, dead)), seen, dead) if dead else {}
    return Suspects(dead, named(CUT_OFF), tuple(proofs.silent()), tuple(proofs.in_use()), in_vain)


def _as_if_off(intent: dict[str, Any], nodes: Iterable[str]) -> dict[str, Any]:
    """The intent, as if the fence devices of some nodes had said that they are off."""
    said = {node: {"state": OFF, "method": "none", "message": "it is taken for off"} for node in nodes}
    return {**intent, "fenced": {**(intent.get("fenced") or {}), **said}}


def _in_vain(now: Plan, then: Plan, seen: Observed, nodes: Iterable[str]) -> dict[str, str]:
    """Of some nodes those whose death would let nothing be done, by the plans now and then; and why not."""
    planned = {one.instance for one in then.summary} - {one.instance for one in now.summary}
    found = {}
    for node in nodes:
        held = {name for name in seen.names() if node in (seen.trace(name).newest or {"nodes": ()})["nodes"]}
        if not planned & held:
            told = [one for one in then.errors if one.object.removeprefix("instance ") in held]
            why = listing([f"{one.object}: {one.message}" for one in told])
            found[node] = "without it none of its guests could be started" + (f" ({why})" if why else "")
    return found


def witness(observed: Documents, node: str) -> str | None:
    """A sentence about another node's DRBD that is connected to a node which does not answer; None if there is none."""
    return replicating_with(Observed(observed), node) if observed.get(node) is None else None


def bound_to_its_run(made: Plan) -> list[Finding]:
    """Why a plan can be applied only by the run that made it; empty if it may be saved for another.

    A node that was dead may have lived again, and be silent once more: that looks as if it had stayed dead.
    """
    message = (
        "the plan was made on the proof that it is dead, and that is no proof later: it may have lived again since"
    )
    remedy = "plan and apply in one run: the same playbook, without the plan's file"
    dead = proof.called_dead(made.intent) if made.steps else ()
    return [Finding(ERROR, "plan-with-proof", f"node {node}", message, remedy) for node in dead]


def check_saved(saved: Plan, desired: Desired, observed: Documents) -> list[Finding]:
    """Why a saved plan may not be applied, such as what changed in what it depends on; empty if it may be."""
    seen = Observed.of(desired, observed)
    if saved.fingerprint != fingerprint.fingerprint(saved.intent, saved.based_on, saved.steps):
        message = "the plan's fingerprint does not match its contents: it was edited or damaged"
        return [Finding(ERROR, "plan-damaged", "cluster", message, "make a new plan")]
    if bound := bound_to_its_run(saved):
        return bound
    now = fingerprint.based_on(desired, seen, Claims(desired, seen), saved.steps)
    changed = sorted(name for name in saved.based_on.keys() | now.keys() if saved.based_on.get(name) != now.get(name))
    return [_outdated(name) for name in changed]


def _outdated(name: str) -> Finding:
    """What is wrong with a plan that was based on something which has changed."""
    message, remedy = "it has changed since the plan was made", "make a new plan, look at it, and apply that"
    if name.startswith(fingerprint.MEMORY):
        name = f"node {name.removeprefix(fingerprint.MEMORY)}"
        message = (
            "the memory that it has or that its guests need is not as it was when the plan was made to add a guest"
        )
    return Finding(ERROR, "plan-outdated", name, message, remedy)
