# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Get the instances off a node; and bring home those that were drained.

What cannot move is named and does not stop the rest. Off a node that does not answer nothing can be moved, but the
second copies that it held can be made anew elsewhere (`abandon`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ..findings import ERROR, INFO, WARNING, Finding
from ..model import Instance
from . import abandon, copies, proof, replace
from .context import Context
from .moves import Mover, begin, move
from .proof import Proofs
from .situation import assess, primary_of

MODES = ("primaries", "secondaries", "both")


def node(context: Context, intent: dict[str, Any]) -> None:
    """`{"verb": "evacuate", "node": name, "mode": "primaries" | "secondaries" | "both", "confirm_dead": [nodes], ...}`.

    Add the steps that move the instances of a node away: those that it runs, its second copies, or both.
    """
    name, mode = str(intent.get("node") or ""), str(intent.get("mode") or "both")
    if not _exists(context, name) or not _is_mode(context, name, mode):
        return
    proofs = Proofs(context, intent)
    if proofs.refused:
        return
    if mode != "primaries":
        _go_on(context, name, {name} if is_silent(context, name) and proofs.given(name) else set())
    if mode != "primaries" and is_silent(context, name):
        lost, dead = abandon.losses(context, name, _instances(context), proofs)
        _Exodus(context, name, lost, "secondaries", dead=dead).run()
    elif answers(context, name):
        primaries, secondaries = held(context, name)
        wanted = {"primaries": primaries, "secondaries": secondaries, "both": [*primaries, *secondaries]}[mode]
        _Exodus(context, name, wanted, mode).run()


def drain(context: Context, name: str) -> None:
    """Add the steps that move what a node runs away, and keep where it is to come home to."""
    if not answers(context, name):
        return
    if context.desired.nodes[name].state == "online":
        message = "it is being drained, but may still get new instances"
        remedy = "set twofold_node_state to drained for it until undrain"
        context.findings.append(Finding(WARNING, "not-drained", f"node {name}", message, remedy))
    leave(context, name, held(context, name)[0], home=True)


def undrain(context: Context, name: str, after: Sequence[str] = (), *, rebooted: bool = False) -> None:
    """Add the steps that bring home what a drain of this node moved; the first waits for the steps `after`.

    Nobody who only `rebooted` the node meant to end a drain that the operator had begun.
    """
    if not answers(context, name):
        return
    state = context.desired.nodes[name].state
    if state != "online":
        message = f"the inventory says that it is {state}, so no guest comes home to it"
        remedy = f"set twofold_node_state to online for it, then undrain.yml -e node={name}"
        severity = INFO if rebooted else ERROR
        context.findings.append(Finding(severity, "still-drained", f"node {name}", message, remedy))
        return
    for wanted in _instances(context):
        base = context.observed.trace(wanted.name).newest
        if base is None or base.get("home") != name:
            continue
        if base["disk_template"] == "drbd" and name not in base["nodes"]:
            message = f"it cannot come home to {name}: its second copy has left that node"
            remedy = f"replace_disks.yml -e instance={wanted.name} -e new_secondary={name}, then migrate.yml"
            context.warning("home-without-disk", wanted.name, message, remedy)
            continue
        after = _settled(context, wanted, name, after) or after


def is_silent(context: Context, name: str) -> bool:
    """Whether a node of the inventory did not answer at all."""
    return name in context.desired.nodes and context.observed.views.get(name) is None


def _exists(context: Context, name: str) -> bool:
    """Whether there is such a node in the inventory; a finding if not."""
    if name not in context.desired.nodes:
        known = ", ".join(sorted(context.desired.nodes))
        message, remedy = f"there is no node {name!r}", f"the nodes are {known}"
        context.findings.append(Finding(ERROR, "unknown-node", f"node {name}", message, remedy))
    return name in context.desired.nodes


def answers(context: Context, name: str) -> bool:
    """Whether something can be moved off a node; a finding if not."""
    if not _exists(context, name):
        return False
    view = context.observed.views.get(name)
    if view is None:
        code, message = "node-unknown", "it does not answer, so nothing can be moved off it or to it"
        remedy = "bring it back; if it is dead, recover.yml starts its guests on their other nodes"
    elif view.missing:
        code, message = "node-incomplete", f"it {proof.incomplete(view)}, so nothing can be moved off it or to it"
        remedy = (
            "mend there what its problems name, then run this again; if that cannot be, "
            f"{proof.switch_off(name)}, then recover.yml, which starts its guests on their other nodes"
        )
        remedy = proof.incomplete_remedy(view, remedy)
    else:
        return True
    context.findings.append(Finding(ERROR, code, f"node {name}", message, remedy))
    return False


def _go_on(context: Context, name: str, dead: Collection[str]) -> None:
    """Bring replacements to their end that were interrupted after the new pair of nodes was written down.

    Of a node that is proven to be dead nobody waits to hear whether its copy is a later one.
    """
    for wanted in _instances(context):
        trace = context.observed.trace(wanted.name)
        base = trace.newest
        if base is None or base["disk_template"] != "drbd" or name in base["nodes"]:
            continue
        left = name in copies.former(trace, base["nodes"]) and not copies.kept(trace, name)
        begun = copies.unfinished(trace, base["nodes"]) if is_silent(context, name) else left
        if begun and all(context.observed.known(node) is not None for node in base["nodes"]):
            replace.instance(context, wanted.name, dead=dead)


def _is_mode(context: Context, name: str, mode: str) -> bool:
    if mode not in MODES:
        message, remedy = f"there is no mode {mode!r}", f"use one of {', '.join(MODES)}"
        context.findings.append(Finding(ERROR, "wrong-arguments", f"node {name}", message, remedy))
    return mode in MODES


def _instances(context: Context) -> list[Instance]:
    """Those that are to stay, in the order in which they move."""
    found = [wanted for wanted in context.desired.instances.values() if wanted.state != "absent"]
    return sorted(found, key=lambda wanted: (-wanted.memory, wanted.name))


def held(context: Context, name: str) -> tuple[list[Instance], list[Instance]]:
    """The instances whose primary the node is, and those whose second copy it has."""
    primaries, secondaries = [], []
    for wanted in _instances(context):
        trace = context.observed.trace(wanted.name)
        base = trace.newest
        if base is None or name not in {*base["nodes"], *trace.domains}:
            continue
        situation = assess(context, wanted, trace)
        if situation is None:
            continue
        if situation.primary == name:
            primaries.append(wanted)
        elif name in situation.nodes:
            secondaries.append(wanted)
    return primaries, secondaries


def leave(
    context: Context, name: str, instances: Sequence[Instance], *, home: bool, after: Sequence[str] = ()
) -> Sequence[str]:
    """Move what a node runs, one after the other; the next begins when the one before is settled, moved or not.

    With `home` they come back later. The first waits for the steps `after`; the ids of those that the next of another
    node has to wait for.
    """
    return _Exodus(context, name, instances, "primaries", home=name if home else None).run(after)


class _Exodus:
    """Everything that leaves a node at once. It is decided together, then planned guest by guest, copy by copy."""

    def __init__(
        self,
        context: Context,
        name: str,
        instances: Sequence[Instance],
        mode: str,
        *,
        home: str | None = None,
        dead: Collection[str] = (),
    ) -> None:
        # Only what empties a node waits for NumPy.
        from .leaving import decide

        self.context, self.node, self.home, self.dead = context, name, home, dead
        silent = is_silent(context, name)
        ready = [one for one in instances if silent or self._is_ready(one)]
        self.decision = decide(context, {name}, ready, mode, for_a_while=home is not None)
        self.mover = Mover(context, leaving={name})

    def _is_ready(self, wanted: Instance) -> bool:
        """Whether an instance can be moved at all, else a finding says why not; what was begun before goes on."""
        trace = self.context.observed.trace(wanted.name)
        nodes = (trace.newest or {"nodes": ()})["nodes"]
        if self.node not in trace.domains and copies.unfinished(trace, nodes):
            replace.instance(self.context, wanted.name)
            return False
        moving = begin(self.context, wanted.name)
        return moving is not None and (moving.source != self.node or moving.is_ready())

    def run(self, after: Sequence[str] = ()) -> Sequence[str]:
        """Add the steps; the ids of those that the next of another node has to wait for."""
        self._say()
        moved: dict[str, list[str]] = {}
        places = self.decision.places
        guests = [name for name in places if self._holder(name) == self.node]
        for name in sorted(guests, key=lambda one: (-self._instance(one).memory, one)):
            moved[name] = self.mover.migrate(name, places[name][0], after, home=self.home)
            after = [step for step in moved[name] if "replication.settle" in step] or after
        copied = [name for name in places if moved.get(name, [""]) and self._is_copied(name)]
        for name in sorted(copied, key=lambda one: (-sum(disk.size for disk in self._instance(one).disks), one)):
            self.mover.replace(name, places[name][1], moved.get(name, ()), dead=self.dead)
        return after

    def _instance(self, name: str) -> Instance:
        return self.context.desired.instances[name]

    def _holder(self, name: str) -> str:
        """The primary of an instance, as it was."""
        trace = self.context.observed.trace(name)
        return primary_of(trace, (trace.newest or {"nodes": ()})["nodes"])

    def _is_copied(self, name: str) -> bool:
        """Whether the second copy goes elsewhere."""
        base = self.context.observed.trace(name).newest or {"nodes": ()}
        return len(self.decision.places[name]) > 1 and self.decision.places[name][1] not in base["nodes"]

    def _say(self) -> None:
        context, decision = self.context, self.decision
        remedy = "free or add what is missing, or change what keeps it from the other nodes"
        for name, why in decision.stay.items():
            context.error("no-node-fits", name, f"it cannot leave {self.node}: {why}", remedy)
        for name, why in decision.copy_stays.items():
            message = f"it leaves {self.node}, but no node can take its second copy: {why}"
            context.error("no-node-fits", name, message, remedy)
        for name, why in decision.overlooked.items():
            message = f"it goes to {decision.places[name][0]} all the same, for it has to leave {self.node}: {why}"
            context.warning(
                "moved-in-need", name, message, "balance the cluster, or bring it home, as soon as possible"
            )


def _settled(context: Context, wanted: Instance, target: str, after: Sequence[str]) -> list[str]:
    """Move one instance; the ids of the steps that clean up after it, whatever became of it; none if it stays."""
    known = set(context.steps)
    move(context, wanted.name, target, after)
    return [step for step in context.steps if step not in known and "replication.settle" in step]
