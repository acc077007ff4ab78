# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Placing on nodes with exclusive storage: lose as few future instances as possible (Ganeti's "dedicated" mode).

The measure of a place is how many instances of each least size of the policy fit less afterwards, largest disks
first, and then how much disk is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .admission import Fail
from .allocate import AllocOptions, Found, allowed_nodes, connected
from .candidates import pair_places, single_places
from .errors import RequestError
from .model import AllocPolicy, Spec
from .state import (
    CPU_FORTH,
    DSK_FORTH,
    F_DSK,
    I_MEM,
    MEM_FORTH,
    R_MEM,
    SPIN,
    SPIN_FORTH,
    U_CPU,
    State,
)

Measure = tuple[tuple[int, ...], int]


@dataclass(slots=True)
class Best:
    """The best place of a node group by its measure."""

    nodes: tuple[int, ...]
    measure: Measure
    found: Found


def is_dedicated(state: State, group: str | None) -> bool:
    """Whether all nodes of the group, or of all groups that take instances, have exclusive storage."""
    groups = state.cluster.groups
    wanted = [
        k
        for k, g in enumerate(groups)
        if (g.name == group if group is not None else g.alloc_policy is not AllocPolicy.UNALLOCABLE)
    ]
    return bool(np.all(state.nodes.exclusive | ~np.isin(state.nodes.group, wanted)))


def _fits(state: State, n: int, spec: Spec) -> int:
    """How many instances of a least size a node can take one after the other as primaries."""
    nodes, dyn = state.nodes, state.dyn
    free = nodes.mem_cap[n] - dyn[I_MEM, n]
    floor = dyn[R_MEM, n] if free > dyn[R_MEM, n] else 0.0
    exclusive = bool(nodes.exclusive[n])
    room = [_beyond(free, max(0.0, floor), spec.memory), _beyond(dyn[MEM_FORTH, n], 0.0, spec.memory)]
    for disk in (dyn[F_DSK, n], dyn[DSK_FORTH, n]):
        room.append(min(_beyond(disk, 0.0, spec.disk_size), _upto(disk - nodes.lo_dsk[n], spec.disk_size)))
    for cpu in (dyn[U_CPU, n], dyn[CPU_FORTH, n]):
        if nodes.ratio[n] >= 0:
            room.append(_upto(nodes.ratio[n] * nodes.d_cpu[n] - cpu, spec.vcpus))
    if not exclusive:
        for spin in (dyn[SPIN, n], dyn[SPIN_FORTH, n]):
            room.append(_upto(nodes.hi_spin[n] - spin, spec.spindle_use))
    return max(0, min(room))


_MANY = 1 << 30


def _beyond(have: float, floor: float, step: int) -> int:
    """How many steps leave more than floor."""
    if step <= 0:
        return _MANY if have > floor else 0
    return max(0, int(np.ceil((have - floor) / step)) - 1)


def _upto(have: float, step: int) -> int:
    """How many steps leave nothing negative."""
    if step <= 0:
        return _MANY if have >= 0 else 0
    return max(0, int(have // step))


def _vector(state: State, n: int) -> list[int]:
    policy = state.cluster.groups[state.nodes.group[n]].policy
    specs = sorted((low for low, _ignored in policy.bounds), key=lambda spec: -spec.disk_size)
    return [_fits(state, n, spec) for spec in specs]


def in_group(state: State, i: int, count: int, group: int, options: AllocOptions) -> Best | Found:
    """The place of one node group with the least measure, the last of equals; Found without nodes if there is none.

    Raises:
        RequestError: without the instance's networks or enough nodes.
    """
    data, instance = state.cluster.groups[group], state.inst.instances[i]
    if not connected(data, instance):
        raise RequestError(f"The group {data.name} is not connected to a network required by instance {instance.name}")
    allowed = allowed_nodes(state, options) & (state.nodes.group == group)
    if allowed.sum() < count:
        raise RequestError("No online nodes" if count == 1 else "Not enough online nodes")
    places = (single_places if count == 1 else pair_places)(state, i, allowed, options.ignore_soft)
    numbers = np.bincount(places.fail.ravel(), minlength=len(Fail))
    found = Found()
    found.fails.update({f: int(numbers[f]) for f in Fail if f not in (Fail.NONE, Fail.FailInternal) and numbers[f]})
    found.successes = int(np.isfinite(places.score).sum())
    best: tuple[Measure, tuple[int, ...]] | None = None
    for flat in np.flatnonzero(np.isfinite(places.score.ravel())):
        place = tuple(int(k) for k in np.unravel_index(flat, places.score.shape))
        measure = _measure(state, i, place)
        if best is None or not best[0] < measure:
            best = (measure, place)
    if best is None:
        return found
    found.nodes = best[1]
    return Best(best[1], best[0], found)


def _measure(state: State, i: int, place: tuple[int, ...]) -> Measure:
    before = [_vector(state, n) for n in place]
    old = (int(state.pri[i]), int(state.sec[i]))
    state.place(i, place[0], place[1] if len(place) > 1 else -1)
    after = [_vector(state, n) for n in place]
    disk = int(sum(state.dyn[F_DSK, n] for n in place))
    state.unplace(i)
    state.pri[i], state.sec[i] = old
    lost = [[b - a for b, a in zip(x, y, strict=True)] for x, y in zip(before, after, strict=True)]
    return tuple(sum(column) for column in zip(*lost, strict=True)), disk


def describe(state: State, best: Best | Found) -> str:
    """A search's outcome in hail's words."""
    found = best.found if isinstance(best, Best) else best
    reasons = ", ".join(f"{fail.name}: {found.fails[fail]}" for fail in Fail if found.fails[fail])
    if isinstance(best, Found):
        return f"No valid allocation solutions, failure reasons: {reasons or 'unknown reasons'}"
    names = "/".join(state.nodes.names[n] for n in best.nodes)
    lost, disk = best.measure
    measure = f"([{','.join(map(str, lost))}],{disk})"
    failed = sum(found.fails.values())
    return f"score: {measure}, successes {found.successes}, failures {failed} ({reasons}) for node(s) {names}"


def allocate(state: State, i: int, count: int, group: str | None, options: AllocOptions) -> Found:
    """Allocate an instance in dedicated mode. Raises RequestError when no group can take it."""
    if group is not None:
        number = state.group_number(group)
        best = in_group(state, i, count, number, options)
        data = state.cluster.groups[number]
        found = best.found if isinstance(best, Best) else best
        found.log = [f"Group {data.name} ({data.alloc_policy.value}): {describe(state, best)}"]
        return found
    results: list[tuple[int, Best]] = []
    messages = []
    for number in sorted(set(state.nodes.group.tolist())):
        data = state.cluster.groups[number]
        try:
            best = in_group(state, i, count, number, options)
        except RequestError as error:
            messages.append(f"Group {data.name}: error {error}")
            continue
        messages.append(f"Group {data.name} ({data.alloc_policy.value}): {describe(state, best)}")
        if isinstance(best, Best) and data.alloc_policy is not AllocPolicy.UNALLOCABLE:
            results.append((number, best))
    if not results:
        raise RequestError(", ".join(messages) or "no group to allocate in")
    number, chosen = min(
        reversed(results), key=lambda one: (state.cluster.groups[one[0]].alloc_policy.rank, one[1].measure)
    )
    chosen.found.log = [f"Selected group: {state.cluster.groups[number].name}", *messages]
    return chosen.found
