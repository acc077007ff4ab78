# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ganeti's "global N+1", for the answers of its programs: allocate as hail, capacity as hspace, the counts of hcheck.

Redundancy itself is defined in redundancy.py; no other verb asks this.

A node can be emptied when its drbd instances can fail over to their secondaries, its instances on shared storage fit
on other nodes, and those that exist nowhere else can be created anew. Limits that only keep a cluster healthy do not
count in an emergency. All of it in the order in which htools place things.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .admission import Fail
from .candidates import single_places
from .moves import Kind, Move, apply, attempt, check_primary, score_after
from .redundancy import takeover
from .scan import Rules, Scanner
from .state import F_DSK, Bools, Floats, State


@dataclass(frozen=True, slots=True)
class Stranded:
    """An instance that would have nowhere to run after the loss of its node."""

    node: int
    instance: int
    reason: Fail


def redundant(state: State, skip_offline: bool = False, ignore_groups: Iterable[int] = ()) -> bool:
    """Whether every node of every group could be lost.

    Args:
        skip_offline: offline nodes are lost already; do not ask about them.
        ignore_groups: numbers of node groups to leave out.
    """
    ignored = np.isin(state.nodes.group, list(ignore_groups))
    nodes = np.flatnonzero(~ignored & (state.online if skip_offline else True))
    mirrored = _mirrored_fails(state)
    if mirrored[nodes].any():
        return False
    rest = nodes[_has_others(state)[nodes]]
    return all(stranded(state, int(n)) is None for n in rest)


def unsafe_nodes(state: State) -> list[int]:
    """Numbers of the nodes whose loss would leave an instance without a place."""
    mirrored, others = _mirrored_fails(state), _has_others(state)
    return [n for n in range(len(mirrored)) if mirrored[n] or (others[n] and stranded(state, n) is not None)]


def _has_others(state: State) -> Bools:
    """Which nodes have primaries that are not mirrored by drbd."""
    inst = state.inst
    here = (state.pri >= 0) & ~inst.drbd & ~inst.forthcoming
    result = np.zeros(len(state.nodes.names), dtype=bool)
    result[state.pri[here]] = True
    return result


def _mirrored_fails(state: State) -> Bools:
    """Which nodes have drbd instances that could not all fail over: only memory, disk and migration tags forbid it."""
    memory, number = takeover(state)
    full = state.dyn[F_DSK] <= 0
    blocked = (state.unallocated[:, None] - memory <= 0) | full[:, None] | (full & state.online)[None, :]
    if state.has_migration_tags:
        blocked |= ~state.may_migrate.T
    result: Bools = (blocked & (number > 0)).any(axis=0)
    return result


def stranded(state: State, node: int) -> Stranded | None:
    """The first instance that finds no place when a node is lost; None when all do."""
    trial = state.copy()
    inst = trial.inst
    here = [int(i) for i in np.flatnonzero((trial.pri == node) & ~inst.forthcoming)][::-1]
    for i in here:
        if inst.drbd[i]:
            fail = attempt(trial, Move(i, Kind.FAILOVER), ignore_soft=True)
            if fail:
                return Stranded(node, i, fail)
    group = trial.nodes.group == trial.nodes.group[node]
    elsewhere = group.copy()
    elsewhere[node] = False
    rest = [i for i in here if not inst.drbd[i]]
    for i in rest:
        if inst.external[i]:
            fail = _rehome(trial, i, group, elsewhere)
            if fail:
                return Stranded(node, i, fail)
    lost = [i for i in rest if not inst.external[i]]
    for i in sorted(lost, key=lambda one: -inst.mem[one]):
        fail = _recreate(trial, i, elsewhere)
        if fail:
            return Stranded(node, i, fail)
    return None


def _rehome(state: State, i: int, group: Bools, elsewhere: Bools) -> Fail:
    """Move an instance on shared storage to the best other node of its group."""
    target = best_external(state, i, np.flatnonzero(elsewhere).tolist(), group, ignore_soft=True)
    if isinstance(target, Fail):
        return target
    apply(state, Move(i, Kind.FAILOVER_TO_ANY, target))
    return Fail.NONE


def best_external(state: State, i: int, targets: list[int], group: Bools, ignore_soft: bool) -> int | Fail:
    """The node among targets that gives the nodes of group the best score, the last of equals, or why there is none."""
    p = int(state.pri[i])
    best, best_score, fail = -1, np.inf, Fail.FailInternal
    approximate = _external_scores(state, i, group, ignore_soft) if len(targets) > 8 else None
    for target in targets:
        move = Move(i, Kind.FAILOVER_TO_ANY, target)
        if approximate is not None and approximate[target] > best_score + 1e-7:
            continue
        if state.has_migration_tags and not state.may_migrate[p, target]:
            fail = Fail.FailMig
            continue
        fails = check_primary(state, i, target, ignore_soft or bool(state.nodes.offline[p]))
        if fails:
            fail = fails
            continue
        value = score_after(state, move, group)
        if not best_score < value:
            best, best_score = target, value
    return fail if best < 0 else best


def _external_scores(state: State, i: int, group: Bools, ignore_soft: bool) -> Floats:
    """Quick scores of all online targets; offline ones, which scans leave out, count as unknown."""
    table = Scanner(state, Rules(ignore_soft=ignore_soft), group).external(np.array([i]))
    values = table.by_kind[Kind.FAILOVER_TO_ANY][0]
    return np.where(state.online, values, -np.inf)


def _recreate(state: State, i: int, elsewhere: Bools) -> Fail:
    """Create an instance anew on the best other node of its group, beside the lost one."""
    places = single_places(state, i, elsewhere, ignore_soft=True)
    best = places.best()
    if best is None:
        fails = [f for f in places.fail[elsewhere].tolist() if f]
        return Fail(fails[0]) if fails else Fail.FailInternal
    state.add_primary(i, best[0])
    return Fail.NONE
