# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A history: a random cluster, what its operators do, what goes wrong; then peace, and whether it is one."""

from __future__ import annotations

import hashlib
import traceback
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from . import faults, intents, inventories, peace, tampers
from .faults import FAULTS, Fault
from .inventories import TEMPLATES, Instances
from .operator import Run
from .reboot import reboot
from .rules import BEFORE, SECOND, Violation
from .world import GIB, World

ROUNDS = 12
# Faults strike within so many breaths of a run, early ones more often.
SPAN = 100


@dataclass(frozen=True)
class Action:
    """One thing that an operator does, with the inventory that he has then, and what goes wrong meanwhile."""

    intent: dict[str, Any]
    instances: Instances
    faults: tuple[Fault, ...] = ()
    by_hand: int | None = None

    def __str__(self) -> str:
        if self.by_hand is not None:
            return f"somebody works by hand ({self.by_hand})"
        shown = {name: _short(variables) for name, variables in self.instances.items()}
        wrong = "".join(f"; {fault}" for fault in self.faults)
        return f"{self.intent} with {shown}{wrong}"


def _short(variables: dict[str, Any]) -> str:
    parts = [variables["twofold_disk_template"], variables["twofold_state"], variables["twofold_memory"]]
    parts += [disk["size"] for disk in variables["twofold_disks"]]
    return " ".join([*parts, *variables["twofold_nodes"]])


@dataclass(frozen=True)
class Story:
    """Everything that makes up a history. The same story always goes the same way."""

    seed: int
    nodes: int
    space: int
    actions: tuple[Action, ...]

    def __str__(self) -> str:
        lines = [f"{self.nodes} nodes of {self.space // GIB} GiB"]
        return "\n".join([*lines, *(f"  {index}. {action}" for index, action in enumerate(self.actions, 1))])


def story(
    seed: int,
    only: Container[str] = (),
    templates: Sequence[str] = TEMPLATES,
    wrong: Sequence[str] = tuple(FAULTS),
) -> Story:
    """A random story; with `only` these intents alone, first with instances of these disk templates.

    `wrong` are the faults that may strike.
    """
    rng = Random(seed)
    nodes = rng.choice((2, 2, 3, 3, 4, 5))
    names = [f"node{index}" for index in range(1, nodes + 1)]
    wanted = inventories.instances(rng, nodes, templates)
    calm = rng.random() < 0.6
    actions = [Action({"verb": "converge"}, wanted, () if calm else _faults(rng, wanted, names, wrong))]
    for _index in range(rng.choice((1, 2, 2, 3, 3, 4))):
        if rng.random() < 0.15:
            actions.append(Action({}, wanted, by_hand=rng.randrange(1 << 30)))
            continue
        intent = intents.draw(rng, wanted, names, only)
        if intent["verb"] == "converge" and rng.random() < 0.6:
            wanted = inventories.changed(rng, wanted, nodes)
        even = intent["verb"] == "migrate"
        actions.append(Action(intent, wanted, _faults(rng, wanted, names, wrong, even=even)))
    return Story(seed, nodes, rng.choice((2, 16, 16)) * GIB, tuple(actions))


def _faults(
    rng: Random, wanted: Instances, names: list[str], wrong: Sequence[str], *, even: bool = False
) -> tuple[Fault, ...]:
    kinds = rng.choices(wrong, [FAULTS[kind][0] for kind in wrong], k=rng.choice((0, 1, 1, 1, 2, 2)))
    return tuple(_fault(rng, kind, wanted, names, even=even) for kind in kinds)


def _fault(rng: Random, kind: str, wanted: Instances, names: list[str], *, even: bool) -> Fault:
    # A migration has few steps, and each moment of it counts.
    moment = rng.random() * 0.5 if even else rng.random() ** 2
    at, pick = 1 + int(moment * SPAN), rng.randrange(1 << 30)
    if kind not in ("second operator", "between waves", "lock broken"):
        return Fault(at, kind, pick)
    theirs = inventories.changed(rng, wanted, len(names)) if rng.random() < 0.5 else wanted
    return Fault(at, kind, pick, theirs, intents.draw(rng, theirs, names, intents.OF_A_RUN))


@dataclass
class Outcome:
    """What became of a history."""

    violation: Violation | None
    counts: Counter[str]
    lines: list[str] = field(default_factory=list)

    def digest(self) -> str:
        """Of everything that happened, in hexadecimal: two histories with the same one went the same way."""
        said = [str(self.violation), *self.lines, *(f"{name} {count}" for name, count in sorted(self.counts.items()))]
        return hashlib.sha256("\n".join(said).encode()).hexdigest()


def play(told: Story) -> Outcome:
    """Let a story happen."""
    world = World(told.seed, told.nodes, space=told.space)
    try:
        for action in told.actions:
            _act(world, action)
        make_peace(world, told.actions[-1].instances)
    except Violation as violation:
        return Outcome(violation, world.rules.counts, world.lines)
    except Exception:  # noqa: BLE001 - whatever breaks here is a finding of this history
        broken = Violation(BEFORE, traceback.format_exc(limit=-6))
        return Outcome(broken, world.rules.counts, world.lines)
    return Outcome(None, world.rules.counts, world.lines)


def _act(world: World, action: Action) -> None:
    if action.by_hand is not None:
        _work_by_hand(world, action)
        return
    disturbed, alone = bool(action.faults) or not peace.calm(world), world.alone
    if action.intent["verb"] == intents.REBOOT:
        _reboot(world, action, predict=not disturbed)
        return
    run = run_of(world, action.instances, action.intent, action.faults, predict=not disturbed)
    if not disturbed and world.alone == alone:
        peace.nothing_failed(world, run)
    world.engine.wait(world.rng.choice((0, 5, 40)))


def _reboot(world: World, action: Action, *, predict: bool) -> None:
    """The runs of the playbook, and some quiet."""
    alone, desired = world.alone, inventories.desired(action.instances, len(world.machines))
    world.rules.begins(desired)
    node, holder = str(action.intent["node"]), f"operator{len(world.runs)}@here"
    for run in reboot(world, desired, node, holder, action.faults, predict=predict):
        if predict and world.alone == alone:
            peace.nothing_failed(world, run)
    world.engine.wait(world.rng.choice((0, 5, 40)))


def run_of(
    world: World, wanted: Instances, intent: dict[str, Any], wrong: tuple[Fault, ...] = (), *, predict: bool = False
) -> Run:
    """The run of an intent with an inventory, until its control process ends."""
    desired = inventories.desired(wanted, len(world.machines))
    world.rules.begins(desired)
    run = Run(world, desired, intent, f"operator{len(world.runs)}@here", faults.strikes(wrong))
    run.predict = predict
    world.engine.run(run.start())
    return run


def _work_by_hand(world: World, action: Action) -> None:
    """Somebody works by hand in a cluster that is at peace: the next plan says so."""
    assert action.by_hand is not None
    rng = Random(action.by_hand)
    machines, names = sorted(world.machines), sorted(action.instances) or ["a"]
    before = peace.plan(world, action.instances)
    machine, kind, name = world.machines[rng.choice(machines)], rng.choice(sorted(tampers.TAMPERS)), rng.choice(names)
    quiet = before is not None and not (before.steps or before.errors) and name in action.instances
    if tampers.tamper(machine, kind, name, rng) and peace.calm(world) and quiet:
        assert before is not None
        peace.found(world, kind, name, before, peace.plan(world, action.instances))
    world.engine.wait(rng.choice((0, 5, 40)))


def make_peace(world: World, wanted: Instances) -> None:
    """Faults heal; converge until it changes nothing."""
    world.log("everything heals")
    for run in world.runs:
        run.strikes.clear()
    world.mend_links()
    for machine in world.machines.values():
        machine.heal()
    # Runs that go on, and locks of those that died, are waited for.
    world.engine.wait(400)
    decided: list[dict[str, Any]] = []
    for _round in range(ROUNDS):
        run = _peaceful_run(world, wanted, {"verb": "converge"})
        if run.plan is None or run.plan.steps or peace.at_work(run.plan):
            continue
        # Some take two: a copy is the last one, then the other is made anew.
        todo = [one for one in peace.decisions(world, run.plan) if decided.count(one) < 2]
        if not todo:
            peace.reached(world, run)
            return
        for intent in todo:
            decided.append(intent)
            _peaceful_run(world, wanted, intent)
    assert run.plan is not None
    steps = [step.id for step in run.plan.steps]
    world.rules.look(SECOND, False, f"after {ROUNDS} runs there is still something to do: {steps}")


def _peaceful_run(world: World, wanted: Instances, intent: dict[str, Any]) -> Run:
    """A run that nobody disturbs, and some quiet."""
    alone = world.alone
    run = run_of(world, wanted, intent, predict=True)
    if world.alone == alone:
        peace.nothing_failed(world, run)
    world.engine.wait(60)
    return run


def shrunk(told: Story, found: Violation) -> Story:
    """A shorter story that breaks the same rule: fewer actions, faults, instances."""
    again = True
    while again:
        again = False
        for candidate in _shorter(told):
            outcome = play(candidate)
            if outcome.violation is not None and outcome.violation.rule == found.rule:
                told, again = candidate, True
                break
    return told


def _shorter(told: Story) -> list[Story]:
    actions = told.actions
    found = [replace(told, actions=actions[:index] + actions[index + 1 :]) for index in range(len(actions))]
    found = [one for one in found if one.actions]
    for index, action in enumerate(actions):
        for drop in range(len(action.faults)):
            less = replace(action, faults=action.faults[:drop] + action.faults[drop + 1 :])
            found.append(replace(told, actions=(*actions[:index], less, *actions[index + 1 :])))
    for name in sorted({name for action in actions for name in action.instances}):
        less_all = tuple(
            replace(action, instances={key: one for key, one in action.instances.items() if key != name})
            for action in actions
        )
        if any(action.instances for action in less_all):
            found.append(replace(told, actions=less_all))
    return found
