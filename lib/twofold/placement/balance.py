# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Balancing that goes on where greedy stops, minds what moves cost, and copes with thousands of instances.

1. Descent: on clusters of ordinary size exactly hbal's, so that the result is never worse; on large ones many moves
   per scan, each checked against the state as it is when its turn comes.
2. Chains: where no single move helps, a move that makes the score slightly worse and the best answer to it (an
   ejection chain of length two; two instances that swap their nodes are one case of it).
3. Netting: an instance that was moved more than once goes to its last place directly, where that can be done.

With a budget of bytes, moves are ranked by gain per byte, and the better of that plan and the plain one counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from .affinity import Book
from .greedy import Limits, Plan, Step, candidates
from .greedy import balance as greedy_balance
from .moves import Kind, Move, apply, attempt, cost, destination, score_after, undo, undo_point
from .scan import Rules, Scanner, Scores
from .score import optimum, score
from .state import Floats, Ints, State

#: Up to so many (instance, node) combinations the descent is hbal's own.
EXACT_SIZE = 100_000
#: Gains below this are rounding.
_NOTHING = 1e-9
#: A move of a large scan is made if it gains this share of what those before it did; so many in a row may not.
_SHARE, _PATIENCE = 0.25, 32


@dataclass(frozen=True, slots=True)
class Budget:
    """What balancing may cost and how hard it may try.

    Attributes:
        max_copy: MiB that may be copied between nodes; None for no limit.
        chains: how many first moves of chains are tried before giving up; 0 for none.
    """

    max_copy: float | None = None
    chains: int = 8


@dataclass(slots=True)
class Balanced:
    """A plan with its costs.

    Attributes:
        plan: the moves in order. costs: MiB that each copies. curve: (MiB copied so far, score) after each move,
            beginning with (0, initial score).
    """

    plan: Plan
    costs: list[float] = field(default_factory=list)

    @property
    def curve(self) -> list[tuple[float, float]]:
        points = [(0.0, self.plan.initial)]
        for step, one in zip(self.plan.steps, self.costs, strict=True):
            points.append((points[-1][0] + one, step.score))
        return points


def balance(
    state: State,
    rules: Rules | None = None,
    limits: Limits | None = None,
    budget: Budget | None = None,
    book: Book | None = None,
) -> Balanced:
    """Balance a state in place.

    Args:
        state: one node group. rules: which moves may be made. limits: when to stop.
        budget: what it may cost. book: pins, exclusions and affinity that must hold; moves that break them are left.
    """
    rules, limits, budget = rules or Rules(), limits or Limits(), budget or Budget()
    start = state.copy()
    if budget.max_copy is None:
        steps = _Search(state, rules, limits, budget, book).run(per_byte=False)
        return _finish(start, state, steps)
    plans = []
    for per_byte in (False, True):
        trial = start.copy()
        steps = _Search(trial, rules, limits, budget, book).run(per_byte)
        plans.append(_finish(start, trial, steps))
    best = min(plans, key=lambda one: one.plan.final)
    for step in best.plan.steps:
        apply(state, step.move)
    return best


def _finish(start: State, end: State, moves: list[Move]) -> Balanced:
    """Net the moves, and score the state after each."""
    moves = _netted(start, end, moves)
    trial = start.copy()
    initial = score(trial)
    result = Balanced(Plan(initial, initial))
    for move in moves:
        i = move.instance
        source, target = (int(trial.pri[i]), int(trial.sec[i])), destination(trial, move)
        result.costs.append(cost(trial, move))
        apply(trial, move)
        result.plan.final = score(trial)
        result.plan.steps.append(Step(move, source, target, result.plan.final))
    return result


def _netted(start: State, end: State, moves: list[Move]) -> list[Move]:
    """One move per instance where that leads to the same end; otherwise the moves as they are."""
    last = {move.instance: k for k, move in enumerate(moves)}
    if len(last) == len(moves):
        return moves
    trial, result = start.copy(), []
    for k, move in enumerate(moves):
        i = move.instance
        if last[i] != k:
            continue
        direct = _direct(trial, i, int(end.pri[i]), int(end.sec[i]))
        if direct is None:
            return moves
        if direct.kind is not None and attempt(trial, direct.move, ignore_soft=True):
            return moves
        if direct.kind is not None:
            result.append(direct.move)
    return result


@dataclass(frozen=True, slots=True)
class _Direct:
    """The single move between two placements; kind None when they are the same."""

    move: Move
    kind: Kind | None


def _direct(state: State, i: int, p: int, s: int) -> _Direct | None:
    """The single move that brings an instance to (p, s), if there is one."""
    old = (int(state.pri[i]), int(state.sec[i]))
    if old == (p, s):
        return _Direct(Move(i, Kind.FAILOVER), None)
    if old[1] < 0:
        return _Direct(Move(i, Kind.FAILOVER_TO_ANY, p), Kind.FAILOVER_TO_ANY)
    options = [
        Move(i, Kind.FAILOVER),
        Move(i, Kind.REPLACE_SECONDARY, s),
        Move(i, Kind.REPLACE_AND_FAILOVER, p),
        Move(i, Kind.REPLACE_PRIMARY, p),
        Move(i, Kind.FAILOVER_AND_REPLACE, s),
    ]
    for move in options:
        if destination(state, move) == (p, s) and (move.target < 0 or move.target not in old):
            return _Direct(move, move.kind)
    return None


class _Search:
    """One run: changes the state and keeps the moves."""

    def __init__(self, state: State, rules: Rules, limits: Limits, budget: Budget, book: Book | None) -> None:
        self.state, self.rules, self.limits, self.budget = state, rules, limits, budget
        self.book = book if book is not None and book.any else None
        if self.book is not None:
            self.book.state = state
        self.moves: list[Move] = []
        self.copied = 0.0
        self.floor = optimum(state) + limits.min_score
        self.now = score(state)

    def run(self, per_byte: bool) -> list[Move]:
        """Descend, then try chains as long as they help; per_byte ranks moves by gain per MiB."""
        which = candidates(self.state, self.rules)
        if not len(which):
            return []
        exact = len(which) * len(self.state.nodes.names) <= EXACT_SIZE
        if self.book is None and self.budget.max_copy is None and exact and not per_byte:
            self._hbal()
        self.scanner = Scanner(self.state, self.rules)
        self._descend(which, per_byte, exact)
        if exact:
            while self._room() and self._chain(which):
                self._descend(which, per_byte, exact)
        return self.moves

    def _hbal(self) -> None:
        plan = greedy_balance(self.state, self.rules, self.limits)
        self.moves = [step.move for step in plan.steps]
        self.now = plan.final

    def _room(self) -> bool:
        """Whether another move may be made and could be worth it."""
        most = self.limits.max_moves
        return self.now > self.floor and (most is None or len(self.moves) < most)

    def _enough(self, gain: float) -> bool:
        limits = self.limits
        return gain > _NOTHING and (self.now > limits.min_gain_limit or gain >= limits.min_gain)

    def _affordable(self, move: Move) -> bool:
        most = self.budget.max_copy
        return most is None or self.copied + cost(self.state, move) <= most

    def _obeys(self, move: Move) -> bool:
        """Whether a move keeps the instance's hard rules, or at least does not begin to break them."""
        if self.book is None:
            return True
        i, (p, s) = move.instance, destination(self.state, move)
        mask = self.book.allowed(i, s >= 0)
        return bool(mask[p, s] if s >= 0 else mask[p])

    def _make(self, move: Move, value: float) -> None:
        i = move.instance
        touched = {int(self.state.pri[i]), int(self.state.sec[i]), move.target} - {-1}
        self.copied += cost(self.state, move)
        apply(self.state, move)
        self.moves.append(move)
        self.now = value
        self.scanner.refresh(touched)

    # -- descent --------------------------------------------------------------------------------------------------

    def _descend(self, which: Ints, per_byte: bool, exact: bool) -> None:
        while self._room():
            ranked = self._ranked(which, per_byte)
            if not ranked:
                return
            # On small clusters the very best move each time; on large ones as many as the scan suggests.
            made = self._follow(ranked, per_byte, most=1 if exact else len(ranked))
            if not made:
                return

    def _ranked(self, which: Ints, per_byte: bool) -> list[tuple[float, int]]:
        """The instances that have a move worth making, each with the worth, the best first."""
        found: list[tuple[float, int]] = []
        strict = not per_byte and self.now <= self.limits.min_gain_limit
        least = max(_NOTHING, self.limits.min_gain) if strict else 0.0
        for table in self.scanner.scan(which):
            value = self._value(table, per_byte)
            for row in np.flatnonzero(value < -least):
                found.append((float(value[row]), int(table.which[row])))
        return sorted(found)

    def _value(self, table: Scores, per_byte: bool) -> Floats:
        """Per instance how good its best move is; lower is better, and only negative is any good."""
        if not per_byte:
            result: Floats = table.best() - self.now
            return result
        best = np.zeros(len(table.which))
        for kind, matrix in self._matrices(table):
            gain = matrix.min(axis=1) - self.now
            best = np.minimum(best, np.where(gain < 0, gain, 0.0) / self._price(table.which, kind))
        return best

    def _matrices(self, table: Scores) -> list[tuple[Kind, Floats]]:
        return [(Kind.FAILOVER, table.failover), *table.by_kind.items()]

    def _price(self, which: Ints, kind: Kind) -> Floats:
        """MiB that a kind of move copies, at least one."""
        prices = [max(1.0, cost(self.state, Move(int(i), kind))) for i in which]
        return np.array(prices)

    def _follow(self, ranked: list[tuple[float, int]], per_byte: bool, most: int) -> int:
        """Make the best move of each instance in turn, as long as the state then still asks for it."""
        made, refused, expected = 0, 0, 0.0
        for worth, i in ranked:
            stale = made and (refused > _PATIENCE or (not per_byte and -worth < _SHARE * expected))
            if made == most or stale or not self._room():
                break
            best = self._best_of(i, per_byte)
            gain = 0.0 if best is None else self.now - best[0]
            if best is None or not self._enough(gain) or (made and gain < _SHARE * expected):
                # The worth was found before the last moves; many such in a row call for a new scan.
                refused += 1
                continue
            refused = 0
            expected = max(0.9 * expected, gain)
            self._make(best[1], best[0])
            made += 1
        return made

    def _best_of(self, i: int, per_byte: bool) -> tuple[float, Move] | None:
        """The best move of one instance that is allowed and affordable."""
        (table,) = self.scanner.scan(np.array([i]))
        options: list[tuple[float, float, Move]] = []
        for kind, matrix in self._matrices(table):
            row = matrix[0]
            for target in np.argsort(row, kind="stable")[: 1 if self.book is None else None]:
                value = float(row[target])
                better = value < self.now
                if not better:
                    break
                move = Move(i, kind, -1 if kind is Kind.FAILOVER else int(target))
                if self._affordable(move) and self._obeys(move):
                    gain = self.now - value
                    options.append((-gain / max(1.0, cost(self.state, move)) if per_byte else value, value, move))
                    break
        if not options:
            return None
        _ignored, value, move = min(options, key=lambda one: one[0])
        return value, move

    # -- chains ---------------------------------------------------------------------------------------------------

    def _chain(self, which: Ints) -> bool:
        """Make two moves that together are worth it, if there are any."""
        most = self.limits.max_moves
        if not self.budget.chains or (most is not None and len(self.moves) + 2 > most):
            return False
        before = self.now
        for _ignored, first in self._openings(which):
            if not (self._affordable(first) and self._obeys(first)):
                continue
            i = first.instance
            nodes = (int(self.state.pri[i]), int(self.state.sec[i]), first.target)
            point, copied = undo_point(self.state, i, *nodes), self.copied
            self._make(first, score_after(self.state, first))
            self.now = before
            best = self._best_answer(which)
            if best is not None and self._enough(before - best[0]):
                self._make(best[1], best[0])
                return True
            undo(self.state, point)
            self.moves.pop()
            self.copied = copied
            self.scanner.refresh({n for n in nodes if n >= 0})
        return False

    def _openings(self, which: Ints) -> list[tuple[float, Move]]:
        """The moves that make the score least worse, the best move of each kind of each instance."""
        found: list[tuple[float, Move]] = []
        for table in self.scanner.scan(which):
            for kind, matrix in self._matrices(table):
                for row, target in enumerate(matrix.argmin(axis=1)):
                    value = float(matrix[row, target])
                    if math.isfinite(value):
                        where = -1 if kind is Kind.FAILOVER else int(target)
                        found.append((value, Move(int(table.which[row]), kind, where)))
        found.sort(key=lambda one: (one[0], one[1].instance, one[1].kind))
        return found[: self.budget.chains]

    def _best_answer(self, which: Ints) -> tuple[float, Move] | None:
        """The best single move in the state as it is."""
        ranked: list[tuple[float, int]] = []
        for table in self.scanner.scan(which):
            best = table.best()
            row = int(best.argmin())
            ranked.append((float(best[row]), int(table.which[row])))
        value, i = min(ranked)
        return self._best_of(i, per_byte=False) if value < self.now else None
