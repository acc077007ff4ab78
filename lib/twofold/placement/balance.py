# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Balancing that goes on where greedy stops, minds what moves cost, and copes with thousands of instances.

1. Descent: on clusters of ordinary size exactly hbal's, so that the result is never worse; on large ones many moves
   per scan, each checked against the state as it is when its turn comes.
2. Chains of moves, where no single move helps (search.py).
3. Netting: an instance that was moved more than once goes to its last place directly, where that can be done and
   does not copy more.

With a budget of bytes, moves are ranked by gain per byte, and the better of that plan and the plain one counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .greedy import Limits, Plan, Step
from .moves import Move, apply, cost, destination
from .netting import netted
from .scan import Rules
from .score import score
from .search import Budget, Search, sound
from .state import State

if TYPE_CHECKING:
    from .affinity import Book

__all__ = ["Balanced", "Budget", "balance"]


@dataclass(slots=True)
class Balanced:
    """A plan with its costs.

    Attributes:
        plan: the moves in order. costs: MiB that each copies. curve: (MiB copied so far, score) after each move,
            beginning with (0, initial score).
        wishes: what broken rules and wishes cost, before and after; 0 without rules.
    """

    plan: Plan
    costs: list[float] = field(default_factory=list)
    wishes: tuple[float, float] = (0.0, 0.0)

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
        budget: what it may cost. book: pins, exclusions and affinity: no move leads to where a hard rule forbids, and
            wishes count with the score.
    """
    rules, limits, budget = rules or Rules(), limits or Limits(), budget or Budget()
    plans = []
    for per_byte in (False,) if budget.max_copy is None else (False, True):
        search = Search(state.copy(), rules, limits, budget, book)
        moves = search.run(per_byte)
        plans.append(_finish(state, search.state, moves, book, search.good))
    best = min(plans, key=lambda one: one.plan.final + one.wishes[1])
    for step in best.plan.steps:
        apply(state, step.move)
    return best


def _finish(
    start: State, end: State, moves: list[Move], book: Book | None, good: Callable[[State], bool] | None
) -> Balanced:
    """Net the moves, and score the state after each."""
    shorter = netted(start, end, moves)
    obeyed = book is None or _obeyed(start, shorter, book)
    # One move may copy more than two: the memory goes twice when a primary is replaced.
    if obeyed and sound(start, shorter, good) and _price(start, shorter) <= _price(start, moves):
        moves = shorter
    trial = start.copy()
    initial = score(trial)
    result = Balanced(Plan(initial, initial))
    if book is not None:
        result.wishes = (book.cost(start), book.cost(end))
    for move in moves:
        i = move.instance
        source, target = (int(trial.pri[i]), int(trial.sec[i])), destination(trial, move)
        result.costs.append(cost(trial, move))
        apply(trial, move)
        result.plan.final = score(trial)
        result.plan.steps.append(Step(move, source, target, result.plan.final))
    return result


def _price(start: State, moves: list[Move]) -> float:
    """MiB that the moves copy; what one costs does not depend on where the instance is."""
    return sum(cost(start, move) for move in moves)


def _obeyed(start: State, moves: list[Move], book: Book) -> bool:
    """Whether every move leads to where the rules allow it."""
    trial = start.copy()
    book = book.on(trial)
    for move in moves:
        apply(trial, move)
        if not book.kept(move.instance):
            return False
    return True
