# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving given instances off their nodes, within their node group or into another one (as Ganeti's hail does)."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from .admission import Fail
from .allocate import AllocOptions, anywhere, required_nodes
from .errors import RequestError
from .ganeti_n1 import best_external
from .model import TEMPLATES, Mirror
from .moves import Kind, Move, apply, attempt, score_after, undo, undo_point
from .scan import Rules, Scanner
from .state import Bools, State

_CLOSE = 1e-7


class Mode(enum.Enum):
    """Which of an instance's nodes it leaves."""

    PRIMARY = "primary-only"
    SECONDARY = "secondary-only"
    ALL = "all"


@dataclass(slots=True)
class Evacuation:
    """What became of the instances.

    Attributes:
        moved: instance, its node group, and its nodes afterwards. failed: instance and why.
        jobs: per moved instance its moves, in order.
    """

    moved: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)
    failed: list[tuple[int, str]] = field(default_factory=list)
    jobs: list[list[Move]] = field(default_factory=list)


def evacuate(state: State, instances: Iterable[int], mode: Mode, options: AllocOptions) -> Evacuation:
    """Move instances within their node groups, one after the other; the state is changed."""
    instances = list(instances)
    left = leaving(state, instances, mode)
    result = Evacuation()
    for i in instances:
        group = int(state.nodes.group[state.pri[i]])
        available = state.online & ~left & (state.nodes.group == group)
        available[state.pri[i]] = False
        _record(state, i, result, partial(_one, state, i, mode, group=group, available=available, options=options))
    return result


def change_group(state: State, instances: Iterable[int], targets: Iterable[int], options: AllocOptions) -> Evacuation:
    """Move instances to the best of the target groups (all groups but theirs, if empty); the state is changed."""
    instances = list(instances)
    own = {int(state.nodes.group[state.pri[i]]) for i in instances}
    groups = [g for g in (list(targets) or range(len(state.cluster.groups))) if g not in own]
    result = Evacuation()
    for i in instances:
        _record(state, i, result, partial(_to_group, state, i, groups, options))
    return result


def _record(state: State, i: int, result: Evacuation, run: Callable[[], list[Move]]) -> None:
    try:
        moves = run()
    except RequestError as error:
        result.failed.append((i, str(error)))
        return
    nodes = tuple(int(n) for n in (state.pri[i], state.sec[i]) if n >= 0)
    result.moved.append((i, int(state.nodes.group[nodes[0]]), nodes))
    result.jobs.append(moves)


def leaving(state: State, instances: list[int], mode: Mode) -> Bools:
    """The nodes that are being emptied: nothing goes there."""
    result = np.zeros(len(state.nodes.names), dtype=bool)
    for i in instances:
        if mode is not Mode.SECONDARY:
            result[state.pri[i]] = True
        if mode is not Mode.PRIMARY and state.sec[i] >= 0 and state.inst.drbd[i]:
            result[state.sec[i]] = True
    return result


def _to_group(state: State, i: int, groups: list[int], options: AllocOptions) -> list[Move]:
    if not groups:
        raise RequestError("no groups for evacuation: every group is one that instances leave")
    group, found = anywhere(state, i, required_nodes(state.inst.instances[i]), options, groups)
    if options.own:
        return _there(state, i, found.nodes)
    available = state.online & (state.nodes.group == group)
    return _one(state, i, Mode.ALL, group=group, available=available, options=AllocOptions())


def _there(state: State, i: int, nodes: tuple[int, ...]) -> list[Move]:
    """Bring an instance to the nodes that were found for it."""
    moves = _route(i, *nodes) if len(nodes) > 1 else [Move(i, Kind.FAILOVER_TO_ANY, nodes[0])]
    for move in moves:
        apply(state, move)
    return moves


def _one(state: State, i: int, mode: Mode, *, group: int, available: Bools, options: AllocOptions) -> list[Move]:
    """Move one instance, change the state, and return the moves."""
    template = state.inst.instances[i].template
    mirror = TEMPLATES[template]
    if mirror is Mirror.NONE:
        raise RequestError(f"Instances of type {template} cannot be relocated")
    scope = state.nodes.group == group
    if mirror is Mirror.EXTERNAL:
        if mode is Mode.SECONDARY:
            raise RequestError(f"Instances with disk template '{template}' can't execute change secondary")
        return _external(state, i, scope, available, options)
    if mode is Mode.PRIMARY:
        fail = attempt(state, Move(i, Kind.FAILOVER), options.ignore_soft)
        if fail:
            raise RequestError(fail.name)
        return [Move(i, Kind.FAILOVER)]
    if mode is Mode.SECONDARY:
        return _secondary(state, i, scope, available, options)
    return _both(state, i, scope, available, options)


def _external(state: State, i: int, scope: Bools, available: Bools, options: AllocOptions) -> list[Move]:
    targets = np.flatnonzero(available).tolist()
    target = best_external(state, i, targets, scope, options.ignore_soft)
    if isinstance(target, Fail):
        raise RequestError(f"Can't find any good node: {_all_failed(state, targets, target)}")
    move = Move(i, Kind.FAILOVER_TO_ANY, target)
    apply(state, move)
    return [move]


def _all_failed(state: State, targets: list[int], fail: Fail) -> str:
    if not targets:
        return "no nodes available"
    return f"none of {', '.join(state.nodes.names[n] for n in targets)} can take it (last: {fail.name})"


def _secondary(state: State, i: int, scope: Bools, available: Bools, options: AllocOptions) -> list[Move]:
    rules = Rules(ignore_soft=options.ignore_soft)
    scores = Scanner(state, rules, scope).internal(np.array([i])).by_kind[Kind.REPLACE_SECONDARY][0]
    scores = np.where(available, scores, np.inf)
    lowest = scores.min()
    if not np.isfinite(lowest):
        names = np.flatnonzero(available).tolist()
        raise RequestError(f"Can't find any good node: {_all_failed(state, names, Fail.FailInternal)}")
    best = _last_best(state, i, np.flatnonzero(scores <= lowest + _CLOSE).tolist(), scope)[1]
    move = Move(i, Kind.REPLACE_SECONDARY, best)
    apply(state, move)
    return [move]


def _last_best(state: State, i: int, targets: list[int], scope: Bools) -> tuple[float, int]:
    """The exact score and number of the new secondary with the lowest score, the last of equals."""
    best_score, best = np.inf, -1
    for target in targets:
        value = score_after(state, Move(i, Kind.REPLACE_SECONDARY, target), scope)
        if not best_score < value:
            best_score, best = value, target
    return best_score, best


def _both(state: State, i: int, scope: Bools, available: Bools, options: AllocOptions) -> list[Move]:
    """Replace the secondary by the new primary, fail over, replace the secondary again: all pairs are tried."""
    first: list[Move] = []
    targets = np.flatnonzero(available).tolist()
    p, s = int(state.pri[i]), int(state.sec[i])
    start = undo_point(state, i, p, s, *targets)
    if state.nodes.offline[p]:
        fail = attempt(state, Move(i, Kind.FAILOVER), options.ignore_soft)
        if fail:
            raise RequestError(f"Failing over to the secondary: {fail.name}")
        first = [Move(i, Kind.FAILOVER)]
    found: list[tuple[float, int, int]] = []
    problem = "no nodes available"
    middle = undo_point(state, i, p, s, *targets)
    for target in targets:
        why = _half(state, i, target, options)
        if why:
            problem = f"Allocation failed: {why}"
        else:
            found += _second_half(state, i, target, available=available, scope=scope, options=options)
        undo(state, middle)
    if not found:
        undo(state, start)
        raise RequestError(f"Can't find any good nodes for relocation: {problem}")
    to_p, to_s = _last_best_pair(state, i, found, scope)
    moves = _route(i, to_p, to_s)
    for move in moves:
        apply(state, move)
    return [*first, *moves]


def _route(i: int, to_p: int, to_s: int) -> list[Move]:
    return [Move(i, Kind.REPLACE_SECONDARY, to_p), Move(i, Kind.FAILOVER), Move(i, Kind.REPLACE_SECONDARY, to_s)]


def _half(state: State, i: int, target: int, options: AllocOptions) -> str:
    """Bring the instance to its new primary; why that is not possible, or nothing."""
    fail = attempt(state, Move(i, Kind.REPLACE_SECONDARY, target), options.ignore_soft)
    if fail:
        return f"Changing secondary to new primary: {fail.name}"
    fail = attempt(state, Move(i, Kind.FAILOVER), options.ignore_soft)
    return f"Failing over to new primary: {fail.name}" if fail else ""


def _second_half(
    state: State, i: int, target: int, *, available: Bools, scope: Bools, options: AllocOptions
) -> list[tuple[float, int, int]]:
    """Quick scores of every new secondary beside a new primary."""
    rules = Rules(ignore_soft=options.ignore_soft)
    scores = Scanner(state, rules, scope).internal(np.array([i])).by_kind[Kind.REPLACE_SECONDARY][0]
    scores = np.where(available, scores, np.inf)
    return [(float(scores[n]), target, int(n)) for n in np.flatnonzero(np.isfinite(scores))]


def _last_best_pair(state: State, i: int, found: list[tuple[float, int, int]], scope: Bools) -> tuple[int, int]:
    lowest = min(score for score, _ignored, _ignored in found)
    best_score, best = np.inf, (-1, -1)
    nodes = {n for _ignored, a, b in found for n in (a, b)} | {int(state.pri[i]), int(state.sec[i])}
    point = undo_point(state, i, *nodes)
    for score, to_p, to_s in found:
        if score > lowest + _CLOSE:
            continue
        *before, last = _route(i, to_p, to_s)
        for move in before:
            apply(state, move)
        value = score_after(state, last, scope)
        undo(state, point)
        if not best_score < value:
            best_score, best = value, (to_p, to_s)
    return best
