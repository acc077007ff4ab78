# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mend: of what converge would do, only what puts back what was already so. No data are touched, no guest is started,
stopped or changed, and nothing that the inventory wants anew is begun.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .. import definition
from ..model import Desired
from ..observed import NodeView, Observed, Trace
from . import converge
from .context import Context
from .document import Step

# Steps that put back; each is safe while a guest runs.
OPS = frozenset(
    {"definition.write", "domain.undefine", "replication.configure", "replication.settle", "seed.write", "volumes.tag"}
)


def cluster(context: Context) -> None:
    """Add the mending of every instance that exists, and of what runs left on nodes."""
    for name, wanted in sorted(context.desired.instances.items()):
        trace = context.observed.trace(name)
        if trace.newest is None or wanted.state == "absent":
            continue
        trial = replace(context, steps={}, findings=[], summary=[])
        converge.instance(trial, wanted)
        if any(change.change == "create" for change in trial.summary):
            continue
        kept = _kept(list(trial.steps.values()), trace)
        context.steps |= {step.id: step for step in kept}
        if kept:
            why = "; ".join(dict.fromkeys(step.why for step in kept if step.why))
            context.change(name, "mend", dict.fromkeys(step.node for step in kept), why)
    _seeds(context)


def _kept(steps: list[Step], trace: Trace) -> list[Step]:
    """The steps that mend, as far as they need no other."""
    kept: dict[str, Step] = {}
    for step in steps:
        if _mends(step, trace) and all(need in kept for need in step.needs):
            kept[step.id] = step
    return list(kept.values())


def _mends(step: Step, trace: Trace) -> bool:
    """Whether a step puts back what the newest definition says already."""
    base = trace.newest or {}
    if step.op == "definition.write":
        return definition.same(step.args["document"], base)
    if step.op == "replication.configure":
        return bool(step.args["config"] == base.get("replication_config"))
    if step.op == "seed.write":
        return bool(step.args["digest"] == base.get("seed_digest"))
    return step.op in OPS


def orphan_seeds(desired: Desired, observed: Observed, view: NodeView) -> list[str]:
    """Instances of which a node has the seed and nobody the definition that would name the node."""
    found = []
    for name in sorted(view.seeds):
        trace = observed.trace(name)
        owned = any(view.name in document["nodes"] for document in trace.definitions.values())
        if not owned and name not in desired.instances and name not in desired.rejected and not trace.domains:
            found.append(name)
    return found


def _seeds(context: Context) -> None:
    """They are made from the inventory whenever they are needed; but a node that is silent may have the definition."""
    if context.observed.unknown:
        return
    for view in context.observed.all_known:
        for name in orphan_seeds(context.desired, context.observed, view):
            identifier, why = f"{name}/seed.remove@{view.name}", "the seed belongs to no definition"
            context.steps[identifier] = Step(identifier, view.name, name, "seed.remove", {"name": name}, why=why)
            context.change(name, "mend", (view.name,), why)


def locks(context: Context) -> None:
    """A lock that has run out goes with any step: the run takes it over, and releases it at its end."""
    busy = {step.node for step in context.steps.values()}
    for view in context.observed.all_known:
        lock: dict[str, Any] = view.document.get("lock") or {}
        if lock.get("expired") and view.name not in busy:
            identifier, why = f"journal.clear@{view.name}", f"a run of {lock.get('holder')} left its lock behind"
            context.steps[identifier] = Step(identifier, view.name, None, "journal.clear", {"keys": []}, why=why)
