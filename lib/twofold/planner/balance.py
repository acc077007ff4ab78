# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Balance: even out the load of each node group with the moves that gain most.

What this version can carry out are migrations, so those are planned first, as if nothing else could be done; they stand
for themselves. What could be gained beyond them, by giving instances another secondary, is shown and not executed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from .. import units
from ..errors import ValueProblem
from ..findings import ERROR, Finding
from ..placement import Cluster
from ..placement import Rules as Demands
from ..placement.affinity import Book
from ..placement.balance import Budget
from ..placement.balance import balance as even_out
from ..placement.greedy import Limits, Step
from ..placement.moves import apply, commands, cost
from ..placement.scan import Rules
from ..placement.state import BuildOptions, State
from . import affinity, cluster_view, migrate
from .context import Context

MIGRATE, REPLACE = "migrate", "replace-disks"
T = TypeVar("T")


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
class _Budget:
    """What is left of what may be spent: MiB and moves, None for no limit."""

    copy: float | None
    moves: int | None

    def spend(self, moves: Iterable[Move]) -> None:
        for move in moves:
            self.copy = None if self.copy is None else self.copy - move.copied
            self.moves = None if self.moves is None else self.moves - 1


@dataclass
class _Jobs:
    """Which moves may run at once: one waits for those before it that touch one of its nodes."""

    last: dict[str, list[str]] = field(default_factory=dict)
    number: dict[str, int] = field(default_factory=dict)

    def before(self, move: Move) -> list[str]:
        """The steps that have to be done before a move begins."""
        return list(dict.fromkeys(step for node in sorted(move.nodes) for step in self.last.get(node, ())))

    def add(self, move: Move, steps: list[str]) -> int:
        """Keep a move's last steps; the number of its job, from 1."""
        job = 1 + max((self.number.get(node, 0) for node in move.nodes), default=0)
        for node in move.nodes:
            self.last[node], self.number[node] = steps, job
        return job


def cluster(context: Context, max_copy: Any, max_moves: Any) -> None:
    """Add the migrations that even out the load, and say what the moves gain and cost.

    `max_copy` is the size that may be copied between nodes, `max_moves` the number of moves; None for no limit.
    """
    budget = _budget(context, max_copy, max_moves)
    if budget is None:
        return
    found = cluster_view.cluster(context.desired, context.observed, context.claims)
    fixed = {guest.name for guest in found.instances if not _movable(context, guest.name)}
    rules, jobs = _rules(context, found), _Jobs()
    replacing = any(REPLACE in verbs for verbs in EXECUTORS)
    rows: list[dict[str, Any]] = []
    scores: list[dict[str, Any]] = []
    for number, group in enumerate(found.groups):
        state = State(found, BuildOptions(excluded=tuple(sorted(fixed)))).subset(number)
        begin, moves = _moves(state, rules, budget, replacing=replacing)
        budget.spend(moves)
        further = [] if replacing else _moves(state, rules, budget, replacing=True)[1]
        done = _execute(context, moves, jobs)
        rows += [_row(move, done.get(index), group.name) for index, move in enumerate([*moves, *further])]
        reached = [begin, *(move.score for move in [*moves, *further])]
        scores.append({"group": group.name, "before": begin, "after": reached[len(done)], "possible": reached[-1]})
    context.details["balance"] = {"scores": scores, "moves": rows}


def _budget(context: Context, max_copy: Any, max_moves: Any) -> _Budget | None:
    try:
        return _Budget(_given("max_copy", max_copy, _mib), _given("max_moves", max_moves, _count))
    except ValueProblem as error:
        context.findings.append(Finding(ERROR, "bad-value", "cluster", str(error), "correct it, or leave it out"))
        return None


def _given(name: str, value: Any, parse: Callable[[Any], T]) -> T | None:
    """The value, or None if there is none. Raises ValueProblem."""
    try:
        return None if value is None else parse(value)
    except ValueProblem as error:
        raise ValueProblem(f"{name}: {error}") from None


def _mib(value: Any) -> float:
    return units.parse_size(value) / cluster_view.MIB


def _count(value: Any) -> int:
    if not str(value).isdecimal():
        raise ValueProblem(f"{str(value)!r} is not a number of moves; write it like 5")
    return int(value)


def _movable(context: Context, name: str) -> bool:
    """Whether balancing may touch an instance; what keeps one that runs as wanted is said."""
    wanted = context.desired.instances.get(name)
    if wanted is None or wanted.state != "running" or wanted.disk_template == "plain":
        return False
    probe = Context(context.desired, context.observed, context.claims)
    migration = migrate.running(probe, wanted)
    if migration is not None and migration.may_begin():
        states = {node: context.desired.nodes[node].state for node in migration.situation.nodes}
        away = [f"{node} is {state}" for node, state in states.items() if state != "online"]
        if not away:
            return True
        context.info("not-balanced", name, f"it is left where it is: {', '.join(away)}", "evacuate that node")
    for finding in probe.findings:
        context.info("not-balanced", name, f"it is left where it is: {finding.message}", finding.remedy)
    return False


def _rules(context: Context, found: Cluster) -> dict[str, Demands]:
    """The rules of what exists. A pin does not say any more who is primary; who is pinned stays on these nodes."""
    rules = affinity.rules(context.desired, {})
    every = {node.name for node in found.nodes}
    for guest in found.instances:
        if guest.name in rules and (pins := set(context.desired.instances[guest.name].nodes)):
            homes = {guest.primary, guest.secondary} - {""}
            others = every - (pins if len(pins) == len(homes) else pins | homes)
            rule = rules[guest.name]
            excluded = tuple(sorted({*rule.excluded, *others}))
            rules[guest.name] = replace(rule, primary="", secondary="", excluded=excluded)
    return rules


def _moves(state: State, rules: dict[str, Demands], budget: _Budget, *, replacing: bool) -> tuple[float, list[Move]]:
    """The score of one node group, which is balanced in place, and the moves."""
    start, names = state.copy(), set(state.nodes.names)
    inside = {
        name: replace(rule, excluded=tuple(node for node in rule.excluded if node in names))
        for name, rule in rules.items()
        if name in state.inst.names
    }
    limits, most = Limits(max_moves=budget.moves), Budget(max_copy=budget.copy)
    plan = even_out(state, Rules(disk_moves=replacing), limits, most, Book(state, inside)).plan
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


def _execute(context: Context, moves: list[Move], jobs: _Jobs) -> dict[int, int]:
    """Add the steps of the moves, in order; the number of each one's job.

    What cannot be planned ends it: the moves after it count on it.
    """
    done: dict[int, int] = {}
    for index, move in enumerate(_executable(moves)):
        known = set(context.steps)
        if not EXECUTORS[move.verbs](context, move, jobs.before(move)):
            break
        change = context.summary[-1]
        gain = f"{change.why}: the score goes from {move.score + move.gain:.4f} to {move.score:.4f}"
        context.summary[-1] = replace(change, why=gain)
        done[index] = jobs.add(move, [step for step in context.steps if step not in known])
    return done


def _executable(moves: list[Move]) -> list[Move]:
    """The moves up to the first that cannot be executed, or is another one of an instance in the same plan.

    They end where the score is best: a move that only makes room for the next is not made for its own sake.
    """
    found: list[Move] = []
    for move in moves:
        if move.verbs not in EXECUTORS or any(other.instance == move.instance for other in found):
            break
        found.append(move)
    ends = [found[0].score + found[0].gain, *(move.score for move in found)] if found else [0.0]
    return found[: ends.index(min(ends))]


def _migrate(context: Context, move: Move, after: list[str]) -> bool:
    """A live migration; its memory counts on the target from now on."""
    target = move.target[0]
    migration = migrate.running(context, context.desired.instances[move.instance], target, after)
    if migration is None or not migration.run(target):
        return False
    context.claims.take_memory(target, migration.domain.memory)
    context.claims.take_memory(migration.source, -migration.domain.memory)
    return True


def _row(move: Move, job: int | None, group: str) -> dict[str, Any]:
    return {
        "instance": move.instance,
        "from": list(move.source),
        "to": list(move.target),
        "operations": list(move.operations),
        "bytes": int(move.copied * cluster_view.MIB),
        "gain": move.gain,
        "score": move.score,
        "job": job,
        "group": group,
    }


#: Adds the steps of a move, which wait for the given ones; whether it can be done.
Executor = Callable[[Context, Move, list[str]], bool]
#: What can be carried out, by the verbs of a move's operations. What needs another secondary has REPLACE among them.
EXECUTORS: dict[tuple[str, ...], Executor] = {(MIGRATE,): _migrate}
