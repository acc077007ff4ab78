# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the loss of nodes would do: of one node, of any two, of a whole failure domain.

An instance survives a loss when a copy of its disks is left and a node with that copy (any node of its group, for
shared storage) has memory for it, together with all other instances that lose their nodes at the same moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .state import I_MEM, Bools, State


@dataclass(frozen=True, slots=True)
class Hurt:
    """An instance that a loss would stop for good, or until room is made."""

    instance: int
    reason: str


@dataclass(frozen=True, slots=True)
class Loss:
    """Nodes that are lost together, and the instances that do not survive it."""

    what: str
    nodes: tuple[int, ...]
    hurt: tuple[Hurt, ...]


def loss(state: State, what: str, nodes: Iterable[int]) -> Loss:
    """What losing these nodes at once would do; offline nodes are lost already."""
    lost = np.zeros(len(state.nodes.names), dtype=bool)
    lost[list(nodes)] = True
    gone: Bools = lost | state.nodes.offline
    trial = state.copy()
    inst = trial.inst
    hurt: list[Hurt] = []
    here = np.flatnonzero((state.pri >= 0) & lost[state.pri] & ~inst.forthcoming)
    for i in sorted(here.tolist(), key=lambda one: (not inst.drbd[one], -inst.mem[one])):
        reason = _restart(trial, i, gone)
        if reason:
            hurt.append(Hurt(i, reason))
    return Loss(what, tuple(int(n) for n in np.flatnonzero(lost)), tuple(hurt))


def _restart(state: State, i: int, gone: Bools) -> str:
    """Run an instance elsewhere; why that is not possible, or nothing."""
    inst, p, s = state.inst, int(state.pri[i]), int(state.sec[i])
    if inst.drbd[i]:
        if s < 0 or gone[s]:
            return "both copies of its disks are lost"
        return _start(state, i, [s])
    if not inst.external[i]:
        return "the only copy of its disks is lost"
    group = state.nodes.group == state.nodes.group[p]
    targets = np.flatnonzero(group & ~gone)
    free = state.unallocated
    return _start(state, i, sorted(targets.tolist(), key=lambda n: -free[n]))


def _start(state: State, i: int, targets: list[int]) -> str:
    inst = state.inst
    for n in targets:
        free = state.unallocated[n]
        if inst.uses_mem[i] and free - inst.mem[i] <= 0:
            continue
        # Its disks are there already, or elsewhere: only memory is taken.
        state.dyn[I_MEM, n] += inst.mem[i] if inst.uses_mem[i] else 0.0
        return ""
    if not targets:
        return "no node of its group is left"
    best = max(float(state.unallocated[n]) for n in targets)
    names = state.nodes.names[targets[0]] if len(targets) == 1 else "any node of its group"
    return f"{names} has no memory for it: needs {inst.mem[i]:.0f} MiB, has {best:.0f} MiB"


def single_losses(state: State) -> list[Loss]:
    """The loss of each online node that hurts."""
    names = state.nodes.names
    every = (loss(state, f"node {names[n]}", [n]) for n in np.flatnonzero(state.online).tolist())
    return [one for one in every if one.hurt]


def double_losses(state: State) -> list[Loss]:
    """The loss of each two online nodes that hurts more than the loss of each of them."""
    names = state.nodes.names
    online = np.flatnonzero(state.online).tolist()
    single = {n: {h.instance for h in loss(state, "", [n]).hurt} for n in online}
    result = []
    for a, b in combinations(online, 2):
        both = loss(state, f"nodes {names[a]} and {names[b]}", [a, b])
        hurt = tuple(h for h in both.hurt if h.instance not in single[a] | single[b])
        if hurt:
            result.append(Loss(both.what, both.nodes, hurt))
    return result


def domain_losses(state: State) -> list[Loss]:
    """The loss of each failure domain (location tag) that hurts."""
    result = []
    for tag in state.keys.locations:
        members = [n for n, tags in enumerate(state.nodes.locations) if tag in tags]
        one = loss(state, f"failure domain {tag}", members)
        if one.hurt:
            result.append(one)
    return result
