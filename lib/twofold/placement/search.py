# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The search behind balancing: descent by single moves, then chains of moves where no single one helps.

A chain begins with a move that makes the score slightly worse; each further move is the best answer of an instance on
the nodes that the chain has touched (ejection chains, Glover 1996; a swap of two instances is one of length two).
There is no chance and no clock in it: effort is counted in places judged, so the same input gives the same moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .greedy import Limits, candidates
from .greedy import balance as greedy_balance
from .moves import Move, UndoPoint, apply, cost, costs, involved, undo, undo_point
from .redundancy import Level, kept
from .scan import Rules, Scanner, Scores
from .score import optimum, score
from .state import Floats, Ints, State

if TYPE_CHECKING:
    from .affinity import Book

#: Up to so many (instance, node) combinations the descent is hbal's own.
EXACT_SIZE = 100_000
#: Above this many, chains are left out: one look at all moves costs more than a chain brings.
CHAIN_SIZE = 400_000
#: Gains below this are rounding; those of chains must be worth their copies, too.
_NOTHING, _CHAIN_SHARE = 1e-9, 0.05
#: A move of a large scan is made if it gains this share of what those before it did; so many in a row may not.
_SHARE, _PATIENCE = 0.25, 32
#: Large clusters are scanned for so many targets only, which a sample of as many instances likes best.
_TARGETS, _FAVOURITES = 64, 4
#: Work is counted in places (instance and node) judged; the smallest scan costs as much as so many, and for chains
#: there is always so much.
_SCAN, _LEAST_WORK = 20_000, 400_000
#: How many beginnings of chains are followed at once, and how many of them beyond two moves.
_BEAM, _WIDTH = 8, 3


@dataclass(frozen=True, slots=True)
class Budget:
    """What balancing may cost and how hard it may try.

    Attributes:
        max_copy: MiB that may be copied between nodes; None for no limit.
        chains: how many first moves of chains are tried before giving up; 0 for none.
        depth: the most moves in a chain.
        effort: how hard to search for chains: 1 is about half the work of the descent, and a little.
        survive: losses of this kind that are survived before are survived after every move; None to ask for nothing.
    """

    max_copy: float | None = None
    chains: int = 32
    depth: int = 4
    effort: float = 1.0
    survive: Level | None = None


@dataclass(frozen=True, slots=True)
class _Partial:
    """The beginning of a chain, and the score after it."""

    score: float
    moves: tuple[Move, ...] = ()


class Search:
    """One run: changes the state and keeps the moves."""

    def __init__(self, state: State, rules: Rules, limits: Limits, budget: Budget, book: Book | None) -> None:
        self.state, self.rules, self.limits, self.budget = state, rules, limits, budget
        self.book = book if book is not None and book.any else None
        self.moves: list[Move] = []
        self.copied = 0.0
        self.floor = optimum(state) + limits.min_score
        self.which = candidates(state, rules)
        self.now = self._score()
        self.good = condition(state, rules, budget)
        self._seen: list[Scores] | None = None

    def run(self, per_byte: bool) -> list[Move]:
        """Descend, then try chains as long as they help; per_byte ranks moves by gain per MiB."""
        size = len(self.which) * len(self.state.nodes.names)
        if not size:
            return []
        exact = size <= EXACT_SIZE
        self.scanner = self._scanner()
        if self.book is None and self.budget.max_copy is None and exact:
            self._hbal()
        descend = self._descend if exact else self._descend_large
        descend(per_byte)
        # Large clusters descend by fewer scans than moves, but what they do per move amounts to as much.
        self.work = self.budget.effort * (_LEAST_WORK + len(self.moves) * (_SCAN + size) / 2)
        while size <= CHAIN_SIZE and self.work > 0 and self._room() and self._chain():
            descend(per_byte)
        return self.moves

    def _scanner(self, targets: Ints | None = None) -> Scanner:
        book = None if self.book is None else self.book.on(self.state)
        return Scanner(self.state, self.rules, targets=targets, book=book)

    def _tables(self) -> Iterable[Scores]:
        """The scores after all moves from the state as it is; kept until it changes, where that takes little memory."""
        if len(self.which) * len(self.state.nodes.names) > CHAIN_SIZE:
            return self.scanner.scan(self.which)
        if self._seen is None:
            self._seen = list(self.scanner.scan(self.which))
        return self._seen

    def _score(self) -> float:
        """The score, with what broken rules and wishes cost."""
        return score(self.state) + (self.book.cost(self.state) if self.book else 0.0)

    def _hbal(self) -> None:
        start = self.state.copy()
        plan = greedy_balance(self.state, self.rules, self.limits, self.scanner)
        moves = [step.move for step in plan.steps]
        if sound(start, moves, self.good):
            self.moves, self.now = moves, plan.final
        else:
            self.state = start
            self.scanner = self._scanner()

    def _room(self, moves: int = 1) -> bool:
        """Whether more moves may be made and could be worth it."""
        most = self.limits.max_moves
        return self.now > self.floor and (most is None or len(self.moves) + moves <= most)

    def _enough(self, gain: float) -> bool:
        limits = self.limits
        return gain > _NOTHING and (self.now > limits.min_gain_limit or gain >= limits.min_gain)

    def _affordable(self, move: Move) -> bool:
        most = self.budget.max_copy
        return most is None or self.copied + cost(self.state, move) <= most

    def _make(self, moves: Iterable[Move], value: float) -> bool:
        """Make moves that lead to a score; with rules, only if what they do to the rules of others leaves a gain."""
        before = (self.now, self.copied, len(self.moves))
        safe = sound(self.state, moves, self.good)
        points, touched = self._apply(moves)
        self.now = value if self.book is None else self._score()
        if not safe or self.now >= before[0] - _NOTHING:
            self._undo(points)
            self.now, self.copied = before[:2]
            touched = frozenset()
        else:
            self.moves += moves
            self._seen = None
        self.scanner.refresh(touched)
        return bool(touched)

    def _apply(self, moves: Iterable[Move]) -> tuple[list[UndoPoint], frozenset[int]]:
        """Carry out moves; returns how to go back, and the nodes touched."""
        points, touched = [], frozenset[int]()
        for move in moves:
            nodes = involved(self.state, move)
            points.append(undo_point(self.state, move.instance, *nodes))
            self.copied += cost(self.state, move)
            apply(self.state, move)
            touched |= nodes
        return points, touched

    def _undo(self, points: list[UndoPoint]) -> None:
        for point in reversed(points):
            undo(self.state, point)

    # -- descent --------------------------------------------------------------------------------------------------

    def _descend(self, per_byte: bool) -> None:
        """The very best move each time."""
        while self._room() and self._follow(self._ranked(self._tables(), per_byte), per_byte, most=1):
            pass

    def _descend_large(self, per_byte: bool) -> None:
        """As many moves as a scan suggests; scans of some targets only, as long as they suggest any."""
        while self._room():
            few = self._favourites()
            narrow = [] if few is None else self._ranked(self._scanner(few).scan(self.which), per_byte)
            if self._follow(narrow, per_byte, most=len(narrow)):
                continue
            ranked = self._ranked(self._tables(), per_byte)
            if not self._follow(ranked, per_byte, most=len(ranked)):
                return

    def _favourites(self) -> Ints | None:
        """The targets that a sample of instances likes best; None when there are too few nodes to choose from."""
        count = len(self.state.nodes.names)
        if count <= 2 * _TARGETS:
            return None
        votes = np.zeros(count)
        for table in self.scanner.scan(self.which[:: max(1, len(self.which) // _TARGETS)]):
            for matrix in table.by_kind.values():
                best = np.argpartition(matrix, _FAVOURITES, axis=1)[:, :_FAVOURITES]
                good = np.isfinite(np.take_along_axis(matrix, best, axis=1))
                np.add.at(votes, table.targets[best[good]], 1.0)
        return np.sort(np.argsort(-votes, kind="stable")[:_TARGETS])

    def _ranked(self, tables: Iterable[Scores], per_byte: bool) -> list[tuple[float, int]]:
        """The instances that have a move worth making, each with the worth, the best first."""
        found: list[tuple[float, int]] = []
        strict = not per_byte and self.now <= self.limits.min_gain_limit
        least = max(_NOTHING, self.limits.min_gain) if strict else 0.0
        for table in tables:
            value = self._value(table, per_byte)
            rows = np.flatnonzero(value < -least)
            found += zip(value[rows].tolist(), table.which[rows].tolist(), strict=True)
        return sorted(found)

    def _value(self, table: Scores, per_byte: bool) -> Floats:
        """Per instance how good its best move is; lower is better, and only negative is any good."""
        if not per_byte:
            result: Floats = table.best() - self.now
            return result
        best = np.zeros(len(table.which))
        for kind, matrix in table.matrices():
            gain = np.minimum(matrix.min(axis=1) - self.now, 0.0)
            best = np.minimum(best, gain / np.maximum(1.0, costs(self.state, table.which, kind)))
        return best

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
            if self._make([best[1]], best[0]):
                refused = 0
                expected = max(0.9 * expected, gain)
                made += 1
        return made

    def _best_of(self, i: int, per_byte: bool) -> tuple[float, Move] | None:
        """The best move of one instance that makes the score lower and is affordable, with the score after it."""
        best: tuple[float, float, Move] | None = None
        for table in self.scanner.scan(np.array([i])):
            for kind, matrix in table.matrices():
                column = int(matrix[0].argmin())
                value, move = float(matrix[0, column]), table.move(kind, 0, column)
                if value < self.now and self._affordable(move):
                    rank = (value - self.now) / max(1.0, cost(self.state, move)) if per_byte else value
                    if best is None or rank < best[0]:
                        best = (rank, value, move)
        return None if best is None else best[1:]

    # -- chains ---------------------------------------------------------------------------------------------------

    def _chain(self) -> bool:
        """Make the moves of a chain that is worth it, if there is one."""
        if not self.budget.chains or not self._room(2):
            return False
        openings = self._answers(_Partial(self.now), self._tables(), self.budget.chains)
        for start in range(0, len(openings), _BEAM):
            beam = openings[start : start + _BEAM]
            for length in range(2, self.budget.depth + 1):
                if not self._room(length) or self.work <= 0:
                    break
                longer: list[_Partial] = []
                for partial in beam:
                    answers = self._extended(partial)
                    if answers and self._worth(answers[0]) and self._make(answers[0].moves, answers[0].score):
                        return True
                    longer += answers
                beam = sorted(longer, key=_by_score)[:_WIDTH]
        return False

    def _worth(self, chain: _Partial) -> bool:
        gain = self.now - chain.score
        return self._enough(gain) and gain >= _CHAIN_SHARE * self.limits.min_gain

    def _extended(self, partial: _Partial) -> list[_Partial]:
        """A chain with one more move, by an instance on the nodes that it touched; the best first."""
        copied = self.copied
        points, touched = self._apply(partial.moves)
        self.scanner.refresh(touched)
        nodes = list(touched)
        near = np.isin(self.state.pri[self.which], nodes) | np.isin(self.state.sec[self.which], nodes)
        answers = self._answers(partial, self.scanner.scan(self.which[near]), 2)
        self._undo(points)
        self.copied = copied
        self.scanner.refresh(touched)
        return answers

    def _answers(self, partial: _Partial, tables: Iterable[Scores], most: int) -> list[_Partial]:
        """The moves of different instances that give the best scores, as the next of a chain."""
        used = {move.instance for move in partial.moves}
        found: list[tuple[float, Move]] = []
        for table in tables:
            self.work -= 2 * _SCAN + len(table.which) * len(table.targets)
            found += _best_moves(table, most + len(used))
        found.sort(key=lambda one: (one[0], one[1].instance))
        fresh = [(value, move) for value, move in found if move.instance not in used and self._affordable(move)][:most]
        return [_Partial(value, (*partial.moves, move)) for value, move in fresh]


def condition(state: State, rules: Rules, budget: Budget) -> Callable[[State], bool] | None:
    """What has to hold after every move beside what each is checked for anyway; None for nothing."""
    if budget.survive is None:
        return None
    # That a node may be lost is what moves of mirrored instances are checked for, as long as no node fails it already.
    checked = budget.survive is Level.NODE and not rules.ignore_soft and not state.fails_n1.any()
    return None if checked and not (state.inst.external & (state.pri >= 0)).any() else kept(state, budget.survive)


def sound(state: State, moves: Iterable[Move], good: Callable[[State], bool] | None) -> bool:
    """Whether a condition holds after each of the moves."""
    if good is None:
        return True
    trial = state.copy()
    for move in moves:
        apply(trial, move)
        if not good(trial):
            return False
    return True


def _by_score(partial: _Partial) -> tuple[float, list[tuple[int, int, int]]]:
    return partial.score, [(move.instance, int(move.kind), move.target) for move in partial.moves]


def _best_moves(table: Scores, most: int) -> Iterable[tuple[float, Move]]:
    """The best move of each of the instances with the lowest scores."""
    best = table.best()
    rows = np.argsort(best, kind="stable")[:most]
    rows = rows[np.isfinite(best[rows])]
    matrices = table.matrices()
    # Among kinds that are as good the first counts.
    kinds = np.argmin([matrix[rows].min(axis=1) for _kind, matrix in matrices], axis=0)
    for row, number in zip(rows.tolist(), kinds.tolist(), strict=True):
        kind, matrix = matrices[number]
        yield float(best[row]), table.move(kind, row, int(matrix[row].argmin()))
