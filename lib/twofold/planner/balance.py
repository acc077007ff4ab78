# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Balance: even out the load of each node group with the moves that gain most.

The engine says which moves; each is carried out as migrations and replaced second copies, in order. An instance that
turns out not to be movable that way is named with the reason, and the engine is asked again without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import ValueProblem
from ..findings import ERROR, Finding
from ..model import Instance
from ..placement import Cluster
from ..placement import Rules as Demands
from ..placement.affinity import Book
from ..placement.balance import Budget as Means
from ..placement.balance import balance as even_out
from ..placement.greedy import Limits, Step
from ..placement.moves import apply, commands, cost
from ..placement.redundancy import Level
from ..placement.scan import Rules
from ..placement.state import BuildOptions, State
from . import affinity, cluster_view, migrate, placement, rebooting
from .budget import Budget
from .context import Context
from .moves import REPLACE, Mover, begin
from .secondary import minors_taken, sized


@dataclass(frozen=True)
class Move:
    """One instance goes from its nodes to others, primary first. `copied` in MiB; `score` is the group's afterwards."""

    instance: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    operations: tuple[str, ...]
    copied: float
    gain: float
    score: float

    @property
    def verbs(self) -> tuple[str, ...]:
        """What is done, without the nodes."""
        return tuple(operation.split(" ")[0] for operation in self.operations)

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes that it touches."""
        return frozenset((*self.source, *self.target))


@dataclass
class _Jobs:
    """Which moves may run at once: one waits for those before it that touch one of its nodes."""

    last: dict[str, list[str]] = field(default_factory=dict)
    number: dict[str, int] = field(default_factory=dict)

    def copy(self) -> _Jobs:
        """For moves that may turn out not to be possible."""
        return _Jobs(dict(self.last), dict(self.number))

    def adopt(self, other: _Jobs) -> None:
        """Go on from a copy."""
        self.last, self.number = other.last, other.number

    def before(self, move: Move) -> list[str]:
        """The steps that have to be done before a move begins."""
        return list(dict.fromkeys(step for node in sorted(move.nodes) for step in self.last.get(node, ())))

    def add(self, move: Move, steps: list[str]) -> int:
        """Keep a move's last steps; the number of its job, from 1."""
        job = 1 + max((self.number.get(node, 0) for node in move.nodes), default=0)
        for node in move.nodes:
            self.last[node], self.number[node] = steps, job
        return job


@dataclass
class _Balanced:
    """What becomes of one node group: its score before, the moves that are made, and what might have been besides."""

    before: float
    moves: list[Move]
    jobs: list[int]
    ideal: list[Move]
    stuck: dict[str, str]


def cluster(context: Context, max_copy: Any, max_moves: Any, disk_moves: Any = None) -> None:
    """Add the moves that even out the load, and say what they gain and cost.

    `max_copy` is the size that may be copied between nodes, `max_moves` the number of moves; None for no limit. No
    second copy is replaced if `disk_moves` is false.
    """
    try:
        budget = Budget.of(max_copy, max_moves, disk_moves)
    except ValueProblem as error:
        context.findings.append(Finding(ERROR, "bad-value", "cluster", str(error), "correct it, or leave it out"))
        return
    found = cluster_view.cluster(context.desired, context.observed, context.claims)
    fixed = {guest.name for guest in found.instances if not _movable(context, guest.name)}
    rules, jobs = _rules(context, found), _Jobs()
    rows: list[dict[str, Any]] = []
    scores: list[dict[str, Any]] = []
    for number, group in enumerate(found.groups):
        done = _group(context, found, number, fixed=fixed, rules=rules, budget=budget, jobs=jobs)
        budget.spend(move.copied for move in done.moves)
        rows += [_row(move, group.name, job=job) for move, job in zip(done.moves, done.jobs, strict=True)]
        rows += [
            _row(one, group.name, why=done.stuck[one.instance]) for one in done.ideal if one.instance in done.stuck
        ]
        after = done.moves[-1].score if done.moves else done.before
        possible = done.ideal[-1].score if done.ideal else done.before
        scores.append({"group": group.name, "before": done.before, "after": after, "possible": min(after, possible)})
    context.details["balance"] = {"scores": scores, "moves": rows}


def _group(
    context: Context,
    found: Cluster,
    number: int,
    *,
    fixed: set[str],
    rules: dict[str, Demands],
    budget: Budget,
    jobs: _Jobs,
) -> _Balanced:
    """Balance one node group, without the instances that turn out to be stuck."""
    stuck: dict[str, str] = {}
    ideal: list[Move] | None = None
    while True:
        state = State(found, BuildOptions(excluded=tuple(sorted(fixed | stuck.keys())))).subset(number)
        before, moves = _moves(state, rules, budget)
        ideal = moves if ideal is None else ideal
        trial, trial_jobs = context.trial(), jobs.copy()
        numbers = _carry_out(trial, moves, trial_jobs)
        if len(numbers) == len(moves):
            context.adopt(trial)
            jobs.adopt(trial_jobs)
            return _Balanced(before, moves, numbers, ideal, stuck)
        instance, problems = moves[len(numbers)].instance, trial.findings[len(context.findings) :]
        stuck[instance] = "; ".join(one.message for one in problems)
        remedy = problems[0].remedy if problems else ""
        context.info("not-balanced", instance, f"it is left where it is: {stuck[instance]}", remedy)


def _movable(context: Context, name: str) -> bool:
    """Whether balancing may touch an instance; what keeps one that is as wanted is said."""
    wanted = context.desired.instances.get(name)
    if wanted is None or wanted.state == "absent" or wanted.disk_template == "plain":
        return False
    probe = Context(context.desired, context.observed, context.claims)
    moving = migrate.running(probe, wanted) if wanted.state == "running" else begin(probe, name)
    if moving is not None and moving.may_begin():
        away = [f"{node} is {state}" for node in moving.situation.nodes if (state := _away(context, node))]
        if not away:
            return True
        context.info("not-balanced", name, f"it is left where it is: {', '.join(away)}", "evacuate that node")
    for finding in probe.findings:
        context.info("not-balanced", name, f"it is left where it is: {finding.message}", finding.remedy)
    return False


def _away(context: Context, node: str) -> str | None:
    """Why nothing is moved from or to a node."""
    view, state = context.observed.known(node), context.desired.nodes[node].state
    return state if state != "online" else rebooting.reason(view)


def _rules(context: Context, found: Cluster) -> dict[str, Demands]:
    """The rules of what exists, with the nodes that it cannot be on whatever else is moved.

    A pin does not say any more who is primary; who is pinned stays on these nodes.
    """
    rules = affinity.rules(context.desired, {})
    every = {node.name for node in found.nodes}
    for guest in found.instances:
        if guest.name not in rules:
            continue
        rule, wanted = rules[guest.name], context.desired.instances[guest.name]
        homes = {guest.primary, guest.secondary} - {""}
        pins = set(wanted.nodes)
        off_pins = every - (pins if len(pins) == len(homes) else pins | homes) if pins else set()
        excluded = tuple(sorted({*rule.excluded, *off_pins, *(_lacking(context, wanted) - homes)}))
        rules[guest.name] = replace(rule, primary="", secondary="", excluded=excluded)
    return rules


def _lacking(context: Context, wanted: Instance) -> set[str]:
    """The nodes that lack something for an instance that the engine does not know of."""
    desired, trace = context.desired, context.observed.trace(wanted.name)
    lacking = {node for node in desired.nodes if placement.lacking(desired, context.observed, wanted, node)}
    return lacking | minors_taken(context, trace).keys()


def _moves(state: State, rules: dict[str, Demands], budget: Budget) -> tuple[float, list[Move]]:
    """The score of one node group, which is balanced in place, and the moves."""
    start, names = state.copy(), set(state.nodes.names)
    inside = {
        name: replace(rule, excluded=tuple(node for node in rule.excluded if node in names))
        for name, rule in rules.items()
        if name in state.inst.names
    }
    limits, most = Limits(max_moves=budget.moves), Means(max_copy=budget.copy, survive=Level.NODE)
    plan = even_out(state, Rules(disk_moves=budget.disk_moves), limits, most, Book(state, inside)).plan
    found, before = [], plan.initial
    for step in plan.steps:
        found.append(_move(start, step, before))
        apply(start, step.move)
        before = step.score
    return plan.initial, found


def _move(state: State, step: Step, before: float) -> Move:
    names = state.nodes.names
    source, target = (tuple(names[n] for n in pair if n >= 0) for pair in (step.source, step.target))
    operations = tuple(commands(state, step.move))
    name, copied = state.inst.names[step.move.instance], cost(state, step.move)
    return Move(name, source, target, operations, copied, before - step.score, step.score)


def _carry_out(context: Context, moves: list[Move], jobs: _Jobs) -> list[int]:
    """Add the steps of the moves, in order, up to the first that cannot be planned; the number of each one's job."""
    mover, numbers = Mover(context), list[int]()
    for one in moves:
        before, said = jobs.before(one), len(context.summary)
        steps: list[str] = []
        for operation in one.operations:
            added = _operation(mover, one, operation, [*before, *steps])
            if not added:
                return numbers
            steps += added
        for index in range(said, len(context.summary)):
            change = context.summary[index]
            gain = f"{change.why}: the score goes from {one.score + one.gain:.4f} to {one.score:.4f}"
            context.summary[index] = replace(change, why=gain)
        if REPLACE in one.verbs:
            _give_back(context, one)
        numbers.append(jobs.add(one, steps))
    return numbers


def _operation(mover: Mover, move: Move, operation: str, after: list[str]) -> list[str]:
    """Add the steps of one operation of a move, as the engine words it; none if it cannot be done."""
    verb, _ignored, target = operation.partition(" to ")
    if verb == REPLACE:
        return mover.replace(move.instance, target, after)
    return mover.migrate(move.instance, target or None, after)


def _give_back(context: Context, move: Move) -> None:
    """The space of a copy that is given up is free for the moves after this one, which wait for it."""
    wanted = context.desired.instances[move.instance]
    needed = sized(wanted, context.observed.trace(move.instance))
    for node in sorted(set(move.source) - set(move.target)):
        freed = context.claims.needed(node, needed)
        context.claims.take_space(node, {group: -size for group, size in freed.items()})


def _row(move: Move, group: str, *, job: int | None = None, why: str | None = None) -> dict[str, Any]:
    """A move for the details; without a job it is not made, and `why` says why not."""
    return {
        "instance": move.instance,
        "from": list(move.source),
        "to": list(move.target),
        "operations": list(move.operations),
        "bytes": int(move.copied * cluster_view.MIB),
        "gain": move.gain,
        "score": move.score,
        "job": job,
        "why": why,
        "group": group,
    }
