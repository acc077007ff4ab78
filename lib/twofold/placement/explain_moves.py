# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why an instance is moved where it is moved, and not elsewhere: the score of every other place, or what forbids it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .affinity import Book
from .explain import primary_reason, secondary_reason
from .moves import Move, apply, operations
from .scan import Rules, Scanner
from .score import METRICS, metric_vector, weigh
from .state import State


@dataclass(frozen=True, slots=True)
class Alternative:
    """What would become of an instance on a node.

    Attributes:
        operations: the best move that brings it there, in hbal's words; "" if none does.
        score: the score after that move, with what its rules cost; None if there is none.
        primary, secondary: what speaks against the node in each role; "" where nothing does. Only where no move leads
            there; rules of moves (--no-disk-moves and the like) may be all that forbids one.
    """

    node: str
    operations: str
    score: float | None
    primary: str = ""
    secondary: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a move is made.

    Attributes:
        stays: the score if the instance stayed.
        metrics: by name what the move does to each metric that it changes: weighted, before and after.
        nodes: every other node.
    """

    stays: float
    metrics: dict[str, tuple[float, float]]
    nodes: tuple[Alternative, ...]


def explain_move(state: State, move: Move, rules: Rules, book: Book | None = None) -> Explanation:
    """Explain a move of a state (that from before the move)."""
    book = book.on(state) if book is not None and book.any else None
    before, trial = metric_vector(state), state.copy()
    apply(trial, move)
    after = metric_vector(trial)
    changed = {
        name: (weight * float(old), weight * float(new))
        for (name, weight), old, new in zip(METRICS, before, after, strict=True)
        if abs(weight * (old - new)) > 1e-9
    }
    scanner = Scanner(state, rules, book=book)
    best: dict[int, tuple[float, Move]] = {}
    for table in scanner.scan(np.array([move.instance])):
        for kind, matrix in table.matrices():
            for column in np.flatnonzero(np.isfinite(matrix[0])).tolist():
                one = table.move(kind, 0, column)
                # A failover leads to the secondary; every other move to its target.
                node = one.target if one.target >= 0 else int(state.sec[move.instance])
                value = float(matrix[0, column])
                if node not in best or value < best[node][0]:
                    best[node] = (value, one)
    home = int(state.pri[move.instance])
    others = (n for n in range(len(state.nodes.names)) if n != home)
    nodes = tuple(_alternative(state, move.instance, n, best.get(n), book) for n in others)
    return Explanation(weigh(before), changed, nodes)


def _alternative(state: State, i: int, n: int, best: tuple[float, Move] | None, book: Book | None) -> Alternative:
    name = state.nodes.names[n]
    if best is not None:
        return Alternative(name, operations(state, best[1]), best[0])
    as_primary, as_secondary = ("", "") if book is None else (side[n] for side in book.forbidden(i))
    p = int(state.pri[i])
    without = state.copy()
    without.unplace(i)
    as_primary = as_primary or primary_reason(without, i, n, new=False)
    if state.sec[i] >= 0:
        as_secondary = as_secondary or secondary_reason(without, i, n, p)
    return Alternative(name, "", None, as_primary, as_secondary)
