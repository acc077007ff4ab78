# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fewer moves to the same end: an instance that was moved more than once goes to its last place directly."""

from __future__ import annotations

from .moves import Kind, Move, attempt, destination
from .state import State


def netted(start: State, end: State, moves: list[Move]) -> list[Move]:
    """One move per instance where that leads from start to end; otherwise the moves as they are."""
    last = {move.instance: k for k, move in enumerate(moves)}
    if len(last) == len(moves):
        return moves
    trial, result = start.copy(), []
    for k, move in enumerate(moves):
        i = move.instance
        goal = (int(end.pri[i]), int(end.sec[i]))
        if last[i] != k or goal == (int(trial.pri[i]), int(trial.sec[i])):
            continue
        direct = single_move(trial, i, goal)
        if direct is None or attempt(trial, direct, ignore_soft=True):
            return moves
        result.append(direct)
    return result


def single_move(state: State, i: int, goal: tuple[int, int]) -> Move | None:
    """The single move that brings an instance to other nodes (primary, secondary), if there is one."""
    p, s = goal
    old = (int(state.pri[i]), int(state.sec[i]))
    if old[1] < 0:
        return Move(i, Kind.FAILOVER_TO_ANY, p)
    options = [
        Move(i, Kind.FAILOVER),
        Move(i, Kind.REPLACE_SECONDARY, s),
        Move(i, Kind.REPLACE_AND_FAILOVER, p),
        Move(i, Kind.REPLACE_PRIMARY, p),
        Move(i, Kind.FAILOVER_AND_REPLACE, s),
    ]
    for move in options:
        if destination(state, move) == goal and (move.target < 0 or move.target not in old):
            return move
    return None
