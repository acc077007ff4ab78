# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster score: how uneven and how unsafe a placement is; 0 is perfect, lower is better.

Metrics, weights and names are those of Ganeti 3.1 (MetricsComponents). Sums run over the nodes in order and over the
metrics in order, one addition at a time: ties between equal nodes are then broken by the same last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    LOC,
    MEM_FORTH,
    N_PRI,
    N_SEC,
    R_MEM,
    SPIN,
    SPIN_FORTH,
    U_CPU,
    Bools,
    Floats,
    NodeArrays,
    State,
)

#: Name and weight of each metric, in the order of summation.
METRICS: tuple[tuple[str, float], ...] = (
    ("free_mem_cv", 0.5),
    ("free_disk_cv", 0.5),
    ("n1_cnt", 1.0),
    ("reserved_mem_cv", 1.0),
    ("offline_all_cnt", 4.0),
    ("offline_pri_cnt", 16.0),
    ("vcpu_ratio_cv", 0.5),
    ("cpu_load_cv", 1.0),
    ("mem_load_cv", 1.0),
    ("disk_load_cv", 1.0),
    ("net_load_cv", 1.0),
    ("pri_tags_score", 2.0),
    ("spindles_cv", 0.5),
    ("free_mem_cv_forth", 0.5),
    ("free_disk_cv_forth", 0.5),
    ("vcpu_ratio_cv_forth", 0.5),
    ("spindles_cv_forth", 0.5),
    ("location_score", 1.0),
    ("location_exclusion_score", 1.0),
    ("reserved_mem_rtotal", 0.25),
)
NAMES = tuple(name for name, _ignored in METRICS)
WEIGHTS = np.array([weight for _ignored, weight in METRICS])
#: The metrics that are a standard deviation over the online nodes, in the order of node_values().
SPREAD = tuple(k for k, name in enumerate(NAMES) if name.endswith(("_cv", "_cv_forth")))


@dataclass(frozen=True, slots=True)
class Score:
    """A score and what it is made of."""

    total: float
    metrics: dict[str, float]


def node_values(state: State) -> Floats:
    """Per node the value of each metric of SPREAD: one row per metric, one column per node."""
    return values_from(state.nodes, state.dyn)


def values_from(nodes: NodeArrays, dyn: Floats) -> Floats:
    """node_values() of nodes that hold what dyn (rows as in State.dyn) says."""
    disk = np.where(nodes.exclusive, dyn[F_SPIN] / nodes.d_spindles, dyn[F_DSK] / nodes.d_dsk)
    disk_forth = np.where(nodes.exclusive, dyn[F_SPIN_FORTH] / nodes.d_spindles, dyn[DSK_FORTH] / nodes.d_dsk)
    disk[nodes.no_disk] = disk_forth[nodes.no_disk] = 1.0
    return np.stack(
        [
            (nodes.mem_cap - dyn[I_MEM]) / nodes.d_mem,
            disk,
            dyn[R_MEM] / nodes.d_mem,
            dyn[U_CPU] / nodes.d_cpu / nodes.d_speed,
            dyn[LOAD_C],
            dyn[LOAD_M],
            dyn[LOAD_D],
            dyn[LOAD_N],
            dyn[SPIN] / nodes.d_hi_spin,
            dyn[MEM_FORTH] / nodes.d_mem,
            disk_forth,
            dyn[CPU_FORTH] / nodes.d_cpu / nodes.d_speed,
            dyn[SPIN_FORTH] / nodes.d_hi_spin,
        ]
    )


def spreads(values: Floats) -> Floats:
    """Population standard deviation of each row, summed strictly from left to right."""
    count = values.shape[1]
    if not count:
        # Nothing to compare: a cluster without online nodes is not uneven.
        return np.zeros(values.shape[0])
    mean = np.add.accumulate(values, axis=1)[:, -1] / count
    centred = values - mean[:, None]
    result: Floats = np.sqrt(np.add.accumulate(centred * centred, axis=1)[:, -1] / count)
    return result


def metric_vector(state: State) -> Floats:
    """Every metric, unweighted, in the order of METRICS."""
    return metrics_of(state, node_values(state), state.online)


def metrics_of(state: State, values: Floats, online: Bools, within: Bools | None = None) -> Floats:
    """Every metric, unweighted, from node_values() already computed; of the nodes within alone if given."""
    result = counted_metrics(state, values, online, within)
    result[list(SPREAD)] = spreads(values[:, online if within is None else online & within])
    return result


def counted_metrics(state: State, values: Floats, online: Bools, within: Bools | None = None) -> Floats:
    """metrics_of() with only what is counted or summed; the metrics of SPREAD are 0."""
    dyn = state.dyn
    offline = ~online if within is None else ~online & within
    online = online if within is None else online & within
    result = np.zeros(len(METRICS))
    count = dyn[N_PRI] + dyn[N_SEC]
    result[2] = count[online & state.fails_n1].sum()
    result[4] = count[offline].sum()
    result[5] = dyn[N_PRI][offline].sum()
    result[11] = tag_conflicts(state.tag_count[online])
    result[17] = dyn[LOC][online].sum()
    result[18] = location_exclusion(state, online)
    reserved = values[2][online]
    result[19] = np.add.accumulate(reserved)[-1] if len(reserved) else 0.0
    return result


def tag_conflicts(counts: Floats) -> float:
    """How many primaries too many share an exclusion tag on one node."""
    return float(np.sum(np.maximum(counts - 1.0, 0.0)))


def location_exclusion(state: State, online: Bools) -> float:
    """How many primaries too many share an exclusion tag within one failure domain, over the whole cluster."""
    if not (state.has_tags and state.has_locations):
        return 0.0
    real = real_tag_count(state)
    pairs = state.loc_member[online].T @ real[online]
    return float(np.sum(np.maximum(pairs - 1.0, 0.0)))


def real_tag_count(state: State) -> Floats:
    """Exclusion tags per node without those of forthcoming instances, which count for one node but not for domains."""
    forthcoming = [i for i in np.flatnonzero(state.inst.forthcoming) if state.pri[i] >= 0]
    if not forthcoming:
        return state.tag_count
    count = state.tag_count.copy()
    for i in forthcoming:
        for key in state.inst.tag_keys[i]:
            count[state.pri[i], key] -= 1.0
    return count


def weigh(metrics: Floats) -> float:
    """The score of a vector of metrics."""
    total = 0.0
    for term in (metrics * WEIGHTS).tolist():
        total += term
    return total


def score(state: State, within: Bools | None = None) -> float:
    """The score of a state, or of some of its nodes alone."""
    if within is None:
        return weigh(metric_vector(state))
    return weigh(metrics_of(state, node_values(state), state.online, within))


def detailed(state: State) -> Score:
    """The score of a state with its metrics by name."""
    metrics = metric_vector(state)
    return Score(weigh(metrics), dict(zip(NAMES, metrics.tolist(), strict=True)))


def optimum(state: State) -> float:
    """The least score that reserved memory allows: no move can go below it, however balanced.

    It is what remains of reserved_mem_rtotal when all reservations are spread evenly over the nodes (Ganeti 3.1).
    """
    total = float(np.add.accumulate(state.nodes.t_mem)[-1]) if len(state.nodes.names) > 1 else 0.0
    if not total:
        return 0.0
    without_one = total - float(state.nodes.t_mem.max())
    if without_one <= 0:
        return 0.0
    reserved = float(state.peers.sum() + state.r_floor.sum())
    return 0.25 * (reserved / without_one - reserved / total)


def bad_items(state: State) -> tuple[list[int], list[int]]:
    """Numbers of the online nodes that fail N+1, and of the instances on them."""
    bad = np.flatnonzero(state.online & state.fails_n1)
    real = ~state.inst.forthcoming & (np.isin(state.pri, bad) | np.isin(state.sec, bad))
    return bad.tolist(), np.flatnonzero(real).tolist()
