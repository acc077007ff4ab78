# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Redundancy, the one definition of it: what the loss of one node, of any two, of a whole failure domain would do.

An instance survives a loss when a copy of its disks is left on a node that is online, and a node with such a copy (any
node of its group, for shared storage) has memory for it, together with all other instances that lose their nodes at
the same moment. Every verb asks this: placing, balancing, emptying nodes, making room, counting what fits, checking.
Only where the answers of Ganeti's programs are wanted, their own rule is asked instead (ganeti_n1.py).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from .state import Bools, Floats, State


class Level(enum.Enum):
    """What a cluster can be asked to survive."""

    NODE = "node"
    TWO = "two"
    DOMAIN = "domain"


@dataclass(frozen=True, slots=True)
class Hurt:
    """An instance that a loss would stop for good, or until room is made.

    Attributes:
        data: whether no copy of its disks is left; otherwise there is no room to run it.
        alone: whether there is no other node at all that could run it.
    """

    instance: int
    reason: str
    data: bool = False
    alone: bool = False


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
    inst, free = state.inst, state.unallocated.copy()
    hurt: list[Hurt] = []
    here = np.flatnonzero((state.pri >= 0) & lost[state.pri] & ~inst.forthcoming)
    # For whom no memory is kept takes none from its like for whom it is.
    for i in sorted(here.tolist(), key=lambda one: (not inst.drbd[one], not inst.auto[one], -inst.mem[one])):
        problem = _restart(state, i, gone, free)
        if problem is not None:
            hurt.append(problem)
    return Loss(what, tuple(int(n) for n in np.flatnonzero(lost)), tuple(hurt))


def _restart(state: State, i: int, gone: Bools, free: Floats) -> Hurt | None:
    """Run an instance elsewhere, which takes free memory there; why that is not possible, or nothing."""
    inst, p, s = state.inst, int(state.pri[i]), int(state.sec[i])
    if inst.drbd[i]:
        return _start(state, i, [s], free) if s >= 0 and not gone[s] else Hurt(i, _NO_PAIR, True)
    if not inst.external[i]:
        return Hurt(i, "the only copy of its disks is lost", True)
    targets = np.flatnonzero((state.nodes.group == state.nodes.group[p]) & ~gone)
    return _start(state, i, sorted(targets.tolist(), key=lambda n: -free[n]), free)


_NO_PAIR = "both copies of its disks are lost"


def _start(state: State, i: int, targets: list[int], free: Floats) -> Hurt | None:
    need = state.inst.mem[i]
    if not targets:
        return Hurt(i, "no node of its group is left", alone=True)
    if not state.inst.uses_mem[i]:
        return None
    for n in targets:
        if free[n] > need:
            # Its disks are there already, or elsewhere: only memory is taken.
            free[n] -= need
            return None
    best = max(float(free[n]) for n in targets)
    names = state.nodes.names[targets[0]] if len(targets) == 1 else "any node of its group"
    return Hurt(i, f"{names} has no memory for it: needs {need:.0f} MiB, has {best:.0f} MiB")


def single_losses(state: State) -> list[Loss]:
    """The loss of each online node that hurts."""
    names = state.nodes.names
    every = (loss(state, f"node {names[n]}", [n]) for n in np.flatnonzero(state.online).tolist())
    return [one for one in every if one.hurt]


def domain_losses(state: State) -> list[Loss]:
    """The loss of each failure domain (location tag) that hurts."""
    result = []
    for tag in state.keys.locations:
        members = [n for n, tags in enumerate(state.nodes.locations) if tag in tags]
        one = loss(state, f"failure domain {tag}", members)
        if one.hurt:
            result.append(one)
    return result


def takeover(state: State, which: Bools | None = None) -> tuple[Floats, Floats]:
    """takeover[s, p]: memory that node s must find when p is lost, and the number of instances that come with it.

    Args:
        which: the instances that count; None for all.
    """
    inst, count = state.inst, len(state.nodes.names)
    here = (state.pri >= 0) & (state.sec >= 0) & inst.drbd & ~inst.forthcoming
    if which is not None:
        here &= which
    memory, number = np.zeros((count, count)), np.zeros((count, count))
    np.add.at(memory, (state.sec[here], state.pri[here]), (inst.mem * inst.uses_mem)[here])
    np.add.at(number, (state.sec[here], state.pri[here]), 1.0)
    return memory, number


# -- two nodes ------------------------------------------------------------------------------------------------------


def double_losses(state: State) -> list[Loss]:
    """The loss of each two online nodes that hurts more than the loss of each of them."""
    return list(_double_losses(state, data=True))


def _double_losses(state: State, *, data: bool) -> Iterator[Loss]:
    """Whether memory could be short is asked of all pairs at once; only such pairs are gone through.

    Args:
        data: also tell the instances that have both copies on the two nodes.
    """
    names = state.nodes.names
    alone = {n: {h.instance for h in loss(state, "", [n]).hurt} for n in np.flatnonzero(state.online).tolist()}
    cut_off = _pairs_in_use(state, alone) if data else {}
    tight = {tuple(pair) for pair in np.argwhere(np.triu(_tight(state), 1)).tolist()}
    for a, b in sorted(tight | cut_off.keys()):
        hurt = {i: Hurt(i, _NO_PAIR, True) for i in cut_off.get((a, b), [])}
        if (a, b) in tight:
            both = loss(state, "", [a, b]).hurt
            hurt |= {h.instance: h for h in both if h.instance not in alone[a] | alone[b] and (data or not h.data)}
        if hurt:
            yield Loss(f"nodes {names[a]} and {names[b]}", (a, b), tuple(hurt[i] for i in sorted(hurt)))


def _pairs_in_use(state: State, alone: dict[int, set[int]]) -> dict[tuple[int, int], list[int]]:
    """The pairs of nodes that hold both copies of instances; alone are those that the loss of one node hurts."""
    inst = state.inst
    result: dict[tuple[int, int], list[int]] = {}
    for i in np.flatnonzero((state.pri >= 0) & (state.sec >= 0) & inst.drbd & ~inst.forthcoming).tolist():
        p, s = int(state.pri[i]), int(state.sec[i])
        if p in alone and s in alone and i not in alone[p]:
            result.setdefault((min(p, s), max(p, s)), []).append(i)
    return result


def _tight(state: State) -> Bools:
    """Per two nodes whether memory could be short when both are lost; true too often rather than too seldom.

    Mirrored instances have one place to go, so their sums decide. Those on shared storage go wherever there is room:
    they all find some if the room beyond the largest of them, over the nodes that are left, exceeds their sum.
    """
    memory, _number = takeover(state)
    free, online, group = state.unallocated, state.online, state.nodes.group
    count = len(free)
    result = np.zeros((count, count), dtype=bool)
    largest = np.sort(memory, axis=1)[:, -2:].sum(axis=1) if count else np.zeros(0)
    own, most = _shared(state)
    for a in range(count):
        sums = memory + memory[:, a : a + 1]
        short = (sums >= free[:, None]) & (sums > 0) & online[:, None]
        short[a, :] = False
        np.fill_diagonal(short, False)
        result[a] = short.any(axis=0)
    spare = np.where(online, np.maximum(0.0, free - largest - most[group]), 0.0)
    for g in sorted(set(group.tolist())):
        inside = group == g
        left = spare[inside].sum() - np.where(inside, spare, 0.0)
        load = np.where(inside, own, 0.0)
        total = load[:, None] + load[None, :]
        result |= (total > 0) & (left[:, None] - np.where(inside, spare, 0.0)[None, :] <= total)
    both: Bools = result & online[:, None] & online[None, :]
    return both


def _shared(state: State) -> tuple[Floats, Floats]:
    """Memory of the instances on shared storage: per node the sum, per node group the largest."""
    inst = state.inst
    here = (state.pri >= 0) & inst.external & ~inst.forthcoming
    memory = (inst.mem * inst.uses_mem)[here]
    own = np.bincount(state.pri[here], weights=memory, minlength=len(state.nodes.names))
    most = np.zeros(len(state.cluster.groups))
    np.maximum.at(most, state.nodes.group[state.pri[here]], memory)
    # An instance that holds no memory still needs a node.
    return own + np.bincount(state.pri[here], minlength=len(own)) * 1e-9, most


# -- as a condition ---------------------------------------------------------------------------------------------------


def survives(state: State, level: Level) -> bool:
    """Whether every instance survives losses of a kind.

    What nobody can give is not asked for: that two copies survive the loss of both their nodes, one copy that of its
    node, and a guest that of the only node of its group. Nor is it for instances without auto_balance, for which no
    memory is kept. Failure domains must not hold both copies.
    """
    if level is Level.TWO:
        return survives(state, Level.NODE) and not any(_short(state, one) for one in _double_losses(state, data=False))
    if level is Level.NODE:
        return _each_node(state)
    mirrored = state.inst.drbd
    losses = domain_losses(state)
    return not any(_short(state, one) or any(h.data and mirrored[h.instance] for h in one.hurt) for one in losses)


def kept(state: State, level: Level) -> Callable[[State], bool] | None:
    """The condition that losses of a kind are survived, if they are now; None if that is not to be kept any more."""
    return partial(survives, level=level) if survives(state, level) else None


def _short(state: State, one: Loss) -> bool:
    """Whether an instance that could survive a loss lacks room to."""
    return any(not h.data and not h.alone and state.inst.auto[h.instance] for h in one.hurt)


def _each_node(state: State) -> bool:
    """The same for single nodes: of mirrored instances the sums decide, for each has one place to go."""
    online, inst = state.online, state.inst
    memory = takeover(state, inst.auto)[0][np.ix_(online, online)]
    if bool(((memory > 0) & (memory >= state.unallocated[online][:, None])).any()):
        return False
    # No np.unique() here: its first call loads the masked arrays, a fifth of a short run.
    shared = set(state.pri[(state.pri >= 0) & inst.external & ~inst.forthcoming].tolist())
    return not any(_short(state, loss(state, "", [n])) for n in sorted(shared) if online[n])
