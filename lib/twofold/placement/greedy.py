# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Balancing as hbal does it: the best single move, again and again, with hbal's order among equals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from .moves import Move, apply, destination, involved, movable, score_after
from .scan import Rules, Scanner, Scores
from .score import optimum, score
from .state import Ints, State

#: Scores of a scan are trusted to this much; closer candidates are carried out and scored to the last bit.
_CLOSE = 1e-7


@dataclass(frozen=True, slots=True)
class Limits:
    """When balancing stops.

    Attributes:
        max_moves: at most so many moves; None for no limit.
        min_score: stop when the score is this close to the least that reserved memory allows.
        min_gain: least gain of a step once the score is below min_gain_limit.
    """

    max_moves: int | None = None
    min_score: float = 1e-9
    min_gain: float = 0.01
    min_gain_limit: float = 0.1


@dataclass(frozen=True, slots=True)
class Step:
    """A move that was made: where the instance was and is, and the score of the cluster afterwards."""

    move: Move
    source: tuple[int, int]
    target: tuple[int, int]
    score: float


@dataclass(slots=True)
class Plan:
    """What balancing came to."""

    initial: float
    final: float
    steps: list[Step] = field(default_factory=list)


def candidates(state: State, rules: Rules) -> Ints:
    """The instances that balancing may move."""
    which = movable(state)
    if rules.evacuate:
        offline = state.nodes.offline
        on_s = np.where(state.sec >= 0, offline[state.sec], False)
        which = which[offline[state.pri[which]] | on_s[which]]
    inst = state.inst
    return which[(inst.drbd[which] & (state.sec[which] >= 0)) | inst.external[which]]


def balance(
    state: State, rules: Rules | None = None, limits: Limits | None = None, scanner: Scanner | None = None
) -> Plan:
    """Balance a state in place with hbal's rules; the moves are exactly hbal's.

    Args:
        state: one node group (hbal refuses several at once; State.subset() cuts one out).
        scanner: of this state with these rules, which is kept up to date; None to make one.
    """
    rules, limits = rules or Rules(), limits or Limits()
    now = score(state)
    plan = Plan(now, now)
    floor = optimum(state) + limits.min_score
    scanner = scanner or Scanner(state, rules)
    while plan.final > floor and (limits.max_moves is None or len(plan.steps) < limits.max_moves):
        step = best_step(state, scanner, plan.final)
        if step is None:
            break
        gain = plan.final - step.score
        if not (plan.final > limits.min_gain_limit or gain >= limits.min_gain):
            break
        touched = involved(state, step.move)
        apply(state, step.move)
        scanner.refresh(touched)
        plan.steps.append(step)
        plan.final = step.score
    return plan


def best_step(state: State, scanner: Scanner, now: float) -> Step | None:
    """The first of the best moves in hbal's order, or None when no move makes the score lower.

    Args:
        scanner: of the state as it is. now: its score.
    """
    which = candidates(state, scanner.rules)
    if not len(which):
        return None
    tables = [(table.lowest(), table) for table in scanner.scan(which)]
    limit = min(now, *(lowest for lowest, _table in tables)) + _CLOSE
    found = [move for lowest, table in tables if lowest <= limit for move in _close(table, limit)]
    best: Step | None = None
    best_score = now
    for move in sorted(found, key=_order):
        value = score_after(state, move)
        if value < best_score:
            i = move.instance
            best = Step(move, (int(state.pri[i]), int(state.sec[i])), destination(state, move), value)
            best_score = value
    return best


def _order(move: Move) -> tuple[int, int, int]:
    """hbal tries instances in order; for each failover first, then per target the kinds in their order."""
    return (move.instance, move.target, int(move.kind))


def _close(table: Scores, limit: float) -> Iterator[Move]:
    """The moves of a table whose score is not above the limit."""
    for kind, matrix in table.matrices():
        for row, column in np.argwhere(matrix <= limit):
            yield table.move(kind, row, column)
