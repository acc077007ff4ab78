# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Get the instances off a node that works; and bring home those that were drained.

What cannot move is named and does not stop the rest. A node that does not answer is not evacuated: what is known of
its instances would be a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as with_
from typing import Any

from .. import definition
from ..findings import ERROR, WARNING, Finding
from ..model import Instance
from . import document as plan
from . import replace
from .context import Context
from .definitions import write_definitions
from .migrate import Migration
from .replace import Together
from .situation import assess

MODES = ("primaries", "secondaries", "both")


def node(context: Context, name: str, mode: str) -> None:
    """Add the steps that move the instances of a node away: those that it runs, its second copies, or first the ones,
    then the others: what was run here has its second copy here when it has moved, so that is for the next plan.
    """
    if not answers(context, name) or not _is_mode(context, name, mode):
        return
    primaries, secondaries = held(context, name)
    if mode in ("primaries", "both"):
        leave(context, name, primaries, home=False)
    if mode in ("secondaries", "both"):
        together = Together(context, leaving={name})
        for one in sorted(secondaries, key=lambda wanted: (-sum(disk.size for disk in wanted.disks), wanted.name)):
            replace.instance(context, one.name, together=together)


def drain(context: Context, name: str) -> None:
    """Add the steps that move what a node runs away, and keep where it is to come home to."""
    if not answers(context, name):
        return
    if context.desired.nodes[name].state == "online":
        message = "it is being drained, but may still get new instances"
        remedy = "set twofold_node_state to drained for it until undrain"
        context.findings.append(Finding(WARNING, "not-drained", f"node {name}", message, remedy))
    leave(context, name, held(context, name)[0], home=True)


def undrain(context: Context, name: str) -> None:
    """Add the steps that bring home what a drain of this node moved."""
    if not answers(context, name):
        return
    if context.desired.nodes[name].state != "online":
        message = f"the inventory says that it is {context.desired.nodes[name].state}"
        remedy = "set twofold_node_state to online for it, then run this again"
        context.findings.append(Finding(ERROR, "still-drained", f"node {name}", message, remedy))
        return
    after: Sequence[str] = ()
    for wanted in _instances(context):
        base = context.observed.trace(wanted.name).newest
        if base is None or base.get("home") != name:
            continue
        if base["disk_template"] == "drbd" and name not in base["nodes"]:
            message = f"it cannot come home to {name}: its second copy has left that node"
            remedy = f"replace_disks.yml -e instance={wanted.name} -e new_secondary={name}, then migrate.yml"
            context.warning("home-without-disk", wanted.name, message, remedy)
            continue
        after = move(context, wanted, name, after, home=None) or after


def answers(context: Context, name: str) -> bool:
    """Whether something can be moved off a node; a finding if not."""
    target = f"node {name}"
    if name not in context.desired.nodes:
        known = ", ".join(sorted(context.desired.nodes))
        message, remedy = f"there is no node {name!r}", f"the nodes are {known}"
        context.findings.append(Finding(ERROR, "unknown-node", target, message, remedy))
        return False
    if context.observed.known(name) is None:
        message = "it does not answer, so nothing can be moved off it"
        remedy = "bring it back; if it is dead, recover.yml starts its guests on their other nodes"
        context.findings.append(Finding(ERROR, "node-unknown", target, message, remedy))
        return False
    return True


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

    The first waits for the steps `after`; the ids of those that the next of another node has to wait for.
    """
    for wanted in instances:
        after = move(context, wanted, None, after, home=name if home else None) or after
    return after


def move(
    context: Context, wanted: Instance, target: str | None, after: Sequence[str], *, home: str | None
) -> list[str]:
    """Move one instance, running or off; the ids of the steps that clean up after it, empty if it stays."""
    trace = context.observed.trace(wanted.name)
    situation = assess(context, wanted, trace)
    if situation is None:
        return []
    domain = trace.domains.get(situation.primary)
    if domain is None or domain.state not in ("running", "shutoff"):
        state = domain.state if domain is not None else "not defined"
        message = f"it stays on {situation.primary}, because it is {state}"
        context.error("not-moved", wanted.name, message, "bring it to run or stop it, then run this again")
        return []
    known = set(context.steps)
    move = Move(context, wanted, trace, situation, domain, after=after)
    move.home = home
    if not (move.run(target) if domain.state == "running" else move.relocate(target)):
        return []
    if domain.state == "running":
        context.claims.take_memory(move.moved_to, domain.memory)
        context.claims.take_memory(move.source, -domain.memory)
    return [
        identifier for identifier in context.steps if identifier not in known and "replication.settle" in identifier
    ]


class Move(Migration):
    """A migration that knows where the guest is to come home to, and how to move one that is off."""

    home: str | None = None
    moved_to: str = ""

    def _build(self, target: str) -> definition.Wanted:
        self.moved_to = target
        built = super()._build(target)
        if self.home is None:
            return built
        # A guest that is drained twice comes home to where it was first.
        home = self.base.get("home") or self.home
        return with_(built, document={**built.document, "home": home}) if home != target else built

    def relocate(self, target: str | None) -> bool:
        """The other node becomes the primary of a guest that is off; its disks stay where they are."""
        template, name = self.base["disk_template"], self.wanted.name
        if template == "plain":
            message = f"it is off, and its disks are only on {self.source}"
            self._error("not-moved", message, "start it first: then it moves with its disks")
            return False
        if not self.may_begin():
            return False
        chosen = self._secondary(target) if self.drbd else self._free_choice(target)
        if chosen is None:
            return False
        try:
            built = self._build(chosen)
        except definition.Impossible as error:
            self._error(error.code, str(error), error.remedy)
            return False
        self._seed(chosen, built)
        nodes = (chosen, self.source) if self.drbd else (chosen,)
        write_definitions(self.context, self.chain, self.trace, built, nodes, kind=plan.MOVE)
        args: dict[str, Any] = {"name": name, "xml": None}
        written = [self.chain.last[chosen]]
        why = f"its primary is {chosen} now"
        left = self.chain.add(self.source, "domain.undefine", args, kind=plan.MOVE, why=why, after=written)
        args = {"name": name, "xml": self.base["domain_xml"]}
        self.chain.add(chosen, "domain.define", args, kind=plan.MOVE, why=why, after=[left])
        if not self.drbd and self.source in self.trace.definitions:
            generation = int(self.trace.definitions[self.source]["generation"])
            args = {"name": name, "expect_generation": generation}
            self.chain.add(self.source, "definition.remove", args, kind=plan.MOVE, why=why)
        self.context.change(name, "move", (self.source, chosen), f"it is off; from {self.source} to {chosen}")
        return True
