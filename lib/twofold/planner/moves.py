# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moves of instances from node to node, many in one plan, also several of one instance.

Each is planned as if those before it had been made (`foresight`), so its steps have to wait for theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace as with_
from typing import Any

from .. import definition
from ..observed import Trace
from . import document as plan
from . import foresight, replace
from .context import Context
from .definitions import write_definitions
from .migrate import Migration
from .replace import Together
from .situation import of

#: How an instance comes to another primary and to another secondary.
MIGRATE, REPLACE = "migrate", "replace-disks"


class Mover:
    """Plans moves one after the other. No second copy goes to the nodes `leaving`."""

    def __init__(self, context: Context, leaving: Collection[str] = ()) -> None:
        self._context = context
        self._together = Together(context, leaving)
        # It looks at the cluster as it is, and is told of every move.
        self._choice = self._together.choice

    def migrate(
        self, name: str, target: str | None = None, after: Sequence[str] = (), *, home: str | None = None
    ) -> list[str]:
        """Add the steps that bring an instance to another node, running or off; their ids, none if it cannot be."""
        known = set(self._context.steps)
        moved = move(self._context, name, target, after, home=home)
        if moved is not None:
            self._choice.moved(name, moved)
        return [step for step in self._context.steps if step not in known]

    def replace(self, name: str, target: str, after: Sequence[str] = (), *, dead: Collection[str] = ()) -> list[str]:
        """Add the steps that bring an instance's second copy to another node; their ids, none if it cannot be.

        Of the nodes `dead` nothing needs to be known.
        """
        context, known = self._context, set(self._context.steps)
        before = context.observed.trace(name)
        if not replace.instance(context, name, target, together=self._together, after=after, dead=dead):
            return []
        added = [step for step in context.steps if step not in known]
        document = _written(context, added, target, before)
        primary = next(node for node in document["nodes"] if node != target)
        seeded = any(context.steps[step].op == "seed.write" for step in added)
        foreseen = foresight.copied(before, primary, target, document, seeded=seeded)
        context.observed = context.observed.foreseeing(foreseen)
        return added


def begin(context: Context, name: str, after: Sequence[str] = (), *, home: str | None = None) -> Move | None:
    """The move of an instance that runs or is off; None with a finding if it is in neither state.

    `home` is the node that it is to come home to.
    """
    found = of(context, name)
    if found is None:
        return None
    wanted, trace, situation = found
    domain = trace.domains.get(situation.primary)
    if domain is None or domain.state not in ("running", "shutoff"):
        state = domain.state if domain is not None else "not defined"
        message = f"it stays on {situation.primary}, because it is {state}"
        context.error("not-moved", wanted.name, message, "bring it to run or stop it, then run this again")
        return None
    moving = Move(context, wanted, trace, situation, domain, after=after)
    moving.home = home
    return moving


def move(
    context: Context, name: str, target: str | None, after: Sequence[str] = (), *, home: str | None = None
) -> str | None:
    """Add the steps that move one instance, running or off; where it goes, None with a finding if it stays."""
    known = set(context.steps)
    moving = begin(context, name, after, home=home)
    if moving is None or not moving.go(target):
        return None
    added = [step for step in context.steps if step not in known]
    document = _written(context, added, moving.moved_to, moving.trace)
    foreseen = foresight.moved(moving.trace, moving.source, moving.moved_to, document)
    context.observed = context.observed.foreseeing(foreseen)
    return moving.moved_to


def _written(context: Context, steps: Sequence[str], node: str, trace: Trace) -> dict[str, Any]:
    """The last definition that the steps write on a node; the newest of before if they have nothing to write."""
    found = [context.steps[step] for step in steps]
    documents = [step.args["document"] for step in found if step.op == "definition.write" and step.node == node]
    return dict(documents[-1]) if documents else dict(trace.newest or {})


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

    def is_ready(self) -> bool:
        """Whether it can be moved at all, wherever it goes; else a finding says why not."""
        if self.domain.state != "running" and self.base["disk_template"] == "plain":
            message = f"it is off, and its disks are only on {self.source}"
            self._error("not-moved", message, "start it first: then it moves with its disks")
            return False
        return self.may_begin()

    def go(self, target: str | None) -> bool:
        """Add the steps; whether it can be done. Its memory counts on the target from now on."""
        if self.domain.state != "running":
            return self.relocate(target)
        if not self.run(target):
            return False
        self.context.claims.take_memory(self.moved_to, self.domain.memory)
        self.context.claims.take_memory(self.source, -self.domain.memory)
        return True

    def relocate(self, target: str | None) -> bool:
        """The other node becomes the primary of a guest that is off; its disks stay where they are."""
        name = self.wanted.name
        if not self.is_ready():
            return False
        chosen = self._secondary(target) if self.drbd else self._free_choice(target)
        built = self._prepared(chosen) if chosen is not None else None
        if chosen is None or built is None:
            return False
        first: list[str] = []
        if self.drbd:
            # Before anybody else says that it lives elsewhere, its node knows, which might start it by itself.
            write_definitions(self.chain, self.trace, built, (self.source,), kind=plan.MOVE)
            first = self.chain.last_on(self.source)
        write_definitions(self.chain, self.trace, built, (chosen,), kind=plan.MOVE, after=first)
        args: dict[str, Any] = {"name": name, "xml": None}
        # After an interruption the definitions may say so already.
        written = self.chain.last_on(chosen)
        why = f"its primary is {chosen} now"
        left = self.chain.add(self.source, "domain.undefine", args, kind=plan.MOVE, why=why, after=written)
        left = self._let_go() or left
        args = {"name": name, "xml": self.base["domain_xml"]}
        self.chain.add(chosen, "domain.define", args, kind=plan.MOVE, why=why, after=[left])
        if not self.drbd and self.source in self.trace.definitions:
            generation = int(self.trace.definitions[self.source]["generation"])
            args = {"name": name, "expect_generation": generation}
            self.chain.add(self.source, "definition.remove", args, kind=plan.MOVE, why=why)
        self.context.change(name, "move", (self.source, chosen), f"it is off; from {self.source} to {chosen}")
        return True

    def _let_go(self) -> str | None:
        """The step with which the node of a guest that died lets go of its disks, which it holds still."""
        resource = self.trace.resources.get(self.source)
        if resource is None or not resource.primary:
            return None
        resources = {**self.trace.resources, self.source: with_(resource, role="Secondary")}
        self.trace = with_(self.trace, resources=resources)
        settings = {"resource": self.wanted.name, "timeout": self.wanted.replication.timeout}
        return self.chain.add(self.source, "replication.demote", settings, kind=plan.MOVE, why="it is not used there")
