# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every place for one new instance: which nodes or pairs can take it, why the others cannot, and the score after it.

Scores are equal to the last bit to those of Ganeti's hail, because hail decides between equal places by it: single
nodes are scored from scratch, pairs by updating mean and variance twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .admission import (
    Fail,
    need_of,
    primary_conditions,
    reasons,
    room_of,
    secondary_conditions,
    tag_gains,
)
from .policy import violation
from .score import METRICS, SPREAD, metrics_of, node_values, real_tag_count, values_from
from .state import (
    CPU_FORTH,
    DSK_FORTH,
    F_DSK,
    F_SPIN,
    F_SPIN_FORTH,
    I_MEM,
    LOAD_C,
    LOAD_D,
    LOAD_M,
    LOAD_N,
    MEM_FORTH,
    N_PRI,
    N_SEC,
    R_MEM,
    SPIN,
    SPIN_FORTH,
    U_CPU,
    Bools,
    Floats,
    Ints,
    State,
)

#: Rows of node_values() that the second copy of a disk changes; reserved memory (row 2) is apart.
_BOTH = (1, 6, 8, 10, 12)
_BATCH = 2_000_000


@dataclass(frozen=True, slots=True)
class Places:
    """What became of each place: one element per node, or a matrix (primary, secondary).

    Attributes:
        fail: the Fail number; 0 where the instance can go.
        score: the cluster's score with the instance there; infinity where it cannot go.
    """

    fail: np.ndarray
    score: Floats

    def best(self) -> tuple[int, ...] | None:
        """The place with the lowest score; the last one of equals."""
        order = self.ranked(1)
        return order[0] if order else None

    def ranked(self, limit: int | None = None) -> list[tuple[int, ...]]:
        """All places that are possible, best first, the later one first among equals."""
        flat = self.score.ravel()
        found = np.flatnonzero(np.isfinite(flat))
        if not len(found):
            return []
        if limit == 1:
            lowest = flat[found].min()
            picked = found[flat[found] == lowest][-1:]
        else:
            picked = found[np.lexsort((-found, flat[found]))][:limit]
        return [tuple(int(k) for k in np.unravel_index(one, self.score.shape)) for one in picked]


def single_places(
    state: State, i: int, allowed: Bools, ignore_soft: bool = False, within: Bools | None = None
) -> Places:
    """Every node for an instance with one node.

    Args:
        i: number of an instance that is not placed.
        allowed: which nodes to consider; others get Fail.FailInternal.
        within: the nodes whose score counts; None for all.
    """
    fail = np.where(allowed, _primary_fails(state, i, ignore_soft), np.int8(Fail.FailInternal))
    score = np.full(len(fail), np.inf)
    places = np.flatnonzero(fail == 0)
    if len(places):
        score[places] = _single_scores(state, i, places, within)
    return Places(fail, score)


def pair_places(state: State, i: int, allowed: Bools, ignore_soft: bool = False, within: Bools | None = None) -> Places:
    """Every pair of nodes of one group for an instance with two nodes; arguments as single_places().

    Only the primary is ever forced by ignore_soft.
    """
    count = len(allowed)
    which = np.array([i])
    primary = _primary_fails(state, i, ignore_soft)
    checks = secondary_conditions(room_of(state), need_of(state, which), state.peers.T, None, state.plain)
    secondary = reasons(checks, False)
    fail = np.where(primary[:, None] != 0, primary[:, None], secondary)
    same = state.nodes.group[:, None] == state.nodes.group[None, :]
    pairs = allowed[:, None] & allowed[None, :] & same & ~np.eye(count, dtype=bool)
    fail = np.where(pairs, fail, np.int8(Fail.FailInternal)).astype(np.int8)
    score = np.full((count, count), np.inf)
    if (fail == 0).any():
        score = np.where(fail == 0, _pair_scores(state, i, within), np.inf)
    return Places(fail, score)


def _primary_fails(state: State, i: int, ignore_soft: bool) -> np.ndarray:
    which = np.array([i])
    conflict = tag_gains(state)[state.inst.tag_set[which]] > 0 if state.has_tags else None
    checks = primary_conditions(room_of(state), need_of(state, which), conflict, state.plain)
    fail = np.broadcast_to(reasons(checks, ignore_soft), (1, len(state.nodes.names)))[0]
    policy = policy_fails(state, i)
    return np.where(policy != 0, policy, fail)


def policy_fails(state: State, i: int) -> np.ndarray:
    """Per node, what of an instance the policy of the node's group does not allow."""
    instance, nodes = state.inst.instances[i], state.nodes
    policies = [g.policy for g in state.cluster.groups]
    table = {(g, e): violation(instance, policies[g], e) for g in set(nodes.group.tolist()) for e in (False, True)}
    return np.array([table[g, e] for g, e in zip(nodes.group.tolist(), nodes.exclusive.tolist(), strict=True)], np.int8)


def _with_primary(state: State, i: int) -> Floats:
    """State.dyn as if the instance were primary on every node."""
    dyn, inst = state.dyn.copy(), state.inst
    _with_disk(state, i, dyn)
    vcpus = inst.vcpus[i] if inst.not_offline[i] else 0.0
    dyn[MEM_FORTH] -= inst.mem[i]
    dyn[CPU_FORTH] += vcpus
    if inst.forthcoming[i]:
        return dyn
    dyn[I_MEM] += inst.mem[i] if inst.uses_mem[i] else 0.0
    dyn[U_CPU] += vcpus
    dyn[N_PRI] += 1
    for row, k in ((LOAD_C, 0), (LOAD_M, 1), (LOAD_D, 2), (LOAD_N, 3)):
        dyn[row] += inst.load[i, k]
    return dyn


def _with_secondary(state: State, i: int) -> Floats:
    """State.dyn as if the instance were secondary on every node; reserved memory is left as it was."""
    dyn = state.dyn.copy()
    _with_disk(state, i, dyn)
    if not state.inst.forthcoming[i]:
        dyn[N_SEC] += 1
        dyn[LOAD_D] += state.inst.load[i, 2]
    return dyn


def _with_disk(state: State, i: int, dyn: Floats) -> None:
    inst, exclusive = state.inst, state.nodes.exclusive
    rows = ((DSK_FORTH, F_SPIN_FORTH, SPIN_FORTH), (F_DSK, F_SPIN, SPIN))
    for dsk, free_spin, spin in rows[:1] if inst.forthcoming[i] else rows:
        if inst.local[i]:
            dyn[dsk] -= inst.dsk[i]
            dyn[spin] += np.where(exclusive, 0.0, inst.spindle_use[i])
        dyn[free_spin] -= np.where(exclusive, max(0.0, inst.spindles[i]), 0.0)


def _scope(state: State, within: Bools | None) -> Bools:
    return state.online if within is None else state.online & within


def _single_scores(state: State, i: int, places: Ints, within: Bools | None) -> Floats:
    """Scores from scratch with the instance on each of these nodes."""
    scope = _scope(state, within)
    before = node_values(state)
    dyn = _with_primary(state, i)
    after = values_from(state.nodes, dyn)
    base = metrics_of(state, before, state.online, within)
    metrics = np.repeat(base[:, None], len(places), axis=1)
    inside = scope[places]
    online = np.flatnonzero(scope)
    column = np.searchsorted(online, places)
    for row, k in enumerate(SPREAD):
        if np.array_equal(before[row], after[row]) or not len(online):
            continue
        metrics[k] = np.where(inside, _spread_with(before[row, online], column, after[row, places], inside), base[k])
    _discrete(state, i, metrics, places, dyn=dyn, inside=inside)
    return _total(metrics)


def _spread_with(values: Floats, column: Ints, replaced: Floats, inside: Bools) -> Floats:
    """Standard deviation of values with one element replaced, for each replacement."""
    result = np.empty(len(replaced))
    step = max(1, _BATCH // max(1, len(values)))
    for start in range(0, len(replaced), step):
        part = slice(start, start + step)
        rows = np.repeat(values[None, :], len(replaced[part]), axis=0)
        here = np.flatnonzero(inside[part])
        rows[here, column[part][here]] = replaced[part][here]
        mean = np.add.accumulate(rows, axis=1)[:, -1] / len(values)
        rows -= mean[:, None]
        np.multiply(rows, rows, out=rows)
        result[part] = np.sqrt(np.add.accumulate(rows, axis=1)[:, -1] / len(values))
    return result


def _discrete(state: State, i: int, metrics: Floats, places: Ints, *, dyn: Floats, inside: Bools) -> None:
    """Counts, tags and locations with the instance as primary on each of these nodes, without a second one."""
    inst = state.inst
    real = 0.0 if inst.forthcoming[i] else 1.0
    fails_after = (state.nodes.mem_cap - dyn[I_MEM] <= dyn[R_MEM])[places]
    before = np.where(state.fails_n1, state.dyn[N_PRI] + state.dyn[N_SEC], 0.0)[places]
    after = np.where(fails_after, (dyn[N_PRI] + dyn[N_SEC])[places], 0.0)
    metrics[2] += np.where(inside, after - before, 0.0)
    if state.has_tags:
        metrics[11] += np.where(inside, tag_gains(state)[inst.tag_set[i]][places], 0.0)
        metrics[18] += np.where(inside, real * _exclusion_gain(state, i, places), 0.0)
    metrics[17] += np.where(inside, real * state.unmet[inst.wishes[i], places], 0.0)


def _exclusion_gain(state: State, i: int, places: Ints) -> Floats:
    """How many exclusion tags of the instance the failure domains of each node have already."""
    if not state.has_locations or not len(state.inst.tag_keys[i]):
        return np.zeros(len(places))
    online = state.online
    pairs = state.loc_member[online].T @ real_tag_count(state)[online]
    taken = (pairs[:, state.inst.tag_keys[i]] > 0).sum(axis=1).astype(np.float64)
    gain: Floats = state.loc_member[places] @ taken
    return gain


def _total(metrics: Floats) -> Floats:
    """Weighted sums, metric after metric."""
    total = np.zeros(metrics.shape[1:])
    for k, (_ignored, weight) in enumerate(METRICS):
        total = total + metrics[k] * weight
    return total


def _update(count: int, total: Floats, var: Floats, old: Floats, new: Floats) -> tuple[Floats, Floats]:
    """Sum and variance after one value of a population is replaced (Welford's update in Ganeti's form)."""
    change, squares = new - old, new * new - old * old
    numerator = (count * squares - 2 * total * change) - change * change
    return total + change, np.maximum(0.0, var + numerator / (count * count))


def _pair_scores(state: State, i: int, within: Bools | None) -> Floats:
    """Scores of all pairs (primary, secondary), by two updates of the statistics."""
    scope = _scope(state, within)
    count, nodes = int(scope.sum()), len(scope)
    before = node_values(state)
    dyn_p, dyn_s = _with_primary(state, i), _with_secondary(state, i)
    as_p, as_s = values_from(state.nodes, dyn_p), values_from(state.nodes, dyn_s)
    base = metrics_of(state, before, state.online, within)
    inside = before[:, scope]
    total = np.add.accumulate(inside, axis=1)[:, -1:]
    centred = inside - total / count
    var = np.add.accumulate(centred * centred, axis=1)[:, -1:] / count
    total_p, var_p = _update(count, total, var, before, as_p)
    metrics = [np.broadcast_to(base[k], (nodes, nodes)) for k in range(len(METRICS))]
    for row, k in enumerate(SPREAD):
        if row in _BOTH:
            _ignored, spread = _update(count, total_p[row][:, None], var_p[row][:, None], before[row], as_s[row])
            metrics[k] = np.sqrt(spread)
        else:
            metrics[k] = np.broadcast_to(np.sqrt(var_p[row])[:, None], (nodes, nodes))
    peer = 0.0 if state.inst.forthcoming[i] else state.inst.sec_mem[i]
    reserved = np.maximum(state.dyn[R_MEM], state.peers.T + peer)
    share, old = reserved / state.nodes.d_mem, before[2]
    _ignored, spread = _update(count, total_p[2][:, None], var_p[2][:, None], old, share)
    metrics[SPREAD[2]] = np.sqrt(spread)
    # Adding and taking away the primary's share is not idle: it gives the sum the rounding that hail's has.
    once = base[19] + old - old
    metrics[19] = once[:, None] + share - old
    _pair_discrete(state, i, metrics, dyn_p=dyn_p, dyn_s=dyn_s, reserved=reserved)
    return _total(np.stack(metrics))


def _pair_discrete(
    state: State, i: int, metrics: list[Floats], *, dyn_p: Floats, dyn_s: Floats, reserved: Floats
) -> None:
    """Counts, tags and locations for all pairs."""
    inst, cap = state.inst, state.nodes.mem_cap
    real = 0.0 if inst.forthcoming[i] else 1.0
    old = np.where(state.fails_n1, state.dyn[N_PRI] + state.dyn[N_SEC], 0.0)
    new_p = np.where(cap - dyn_p[I_MEM] <= dyn_p[R_MEM], dyn_p[N_PRI] + dyn_p[N_SEC], 0.0)
    new_s = np.where(cap - dyn_s[I_MEM] <= reserved, dyn_s[N_PRI] + dyn_s[N_SEC], 0.0)
    metrics[2] = metrics[2] + (new_p - old)[:, None] + (new_s - old)
    if state.has_tags:
        metrics[11] = metrics[11] + tag_gains(state)[inst.tag_set[i]][:, None]
        gain = _exclusion_gain(state, i, np.arange(len(cap)))
        metrics[18] = metrics[18] + real * gain[:, None]
    if state.has_locations:
        metrics[17] = metrics[17] + real * (state.shared + state.unmet[inst.wishes[i]][:, None])
