# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making room: the shortest sequence of moves after which a new instance fits.

A beam search: from each state the moves that take something off the nodes that lack least are tried, and the states
that come nearest to room are kept. The first depth at which the instance fits wins, and there the cheapest moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .allocate import AllocOptions, Found, allowed_nodes, required_nodes, safe, search
from .candidates import pair_places, single_places
from .greedy import candidates
from .moves import Kind, Move, apply, cost
from .scan import Rules, Scanner
from .state import F_DSK, R_MEM, U_CPU, Bools, Floats, State

_WIDTH, _NODES = 8, 4


@dataclass(frozen=True, slots=True)
class Room:
    """The moves that make room, what they copy (MiB), and where the instance goes then."""

    moves: tuple[Move, ...]
    copied: float
    found: Found


@dataclass(slots=True)
class _Branch:
    state: State
    moves: tuple[Move, ...]
    copied: float
    lack: float


def make_room(state: State, i: int, options: AllocOptions | None = None, depth: int = 4) -> Room | None:
    """Find moves after which instance i, which is not placed, can be placed; None if none were found.

    Args:
        depth: the most moves to make.
    """
    options = options or AllocOptions()
    beam = [_Branch(state.copy(), (), 0.0, _lack(state, i, options))]
    for _ignored in range(depth + 1):
        fitting = [room for branch in beam if (room := _fits(branch, i, options)) is not None]
        if fitting:
            return min(fitting, key=lambda room: room.copied)
        beam = _expand(beam, i, options)
        if not beam:
            return None
    return None


def _fits(branch: _Branch, i: int, options: AllocOptions) -> Room | None:
    state = branch.state
    count = required_nodes(state.inst.instances[i])
    allowed = allowed_nodes(state, options)
    places = (single_places if count == 1 else pair_places)(state, i, allowed)
    if not np.isfinite(places.score).any():
        # Most branches are ruled out by this; the search asks for rules and redundancy too.
        return None
    found = search(state, i, count, allowed, options, good=safe(state, options))
    return Room(branch.moves, branch.copied, found) if found.nodes else None


def _expand(beam: list[_Branch], i: int, options: AllocOptions) -> list[_Branch]:
    children: list[_Branch] = []
    for branch in beam:
        near = _nearest(branch.state, i, options)
        good = safe(branch.state, options) if options.own else None
        for move in _relieving(branch.state, near, options):
            child = branch.state.copy()
            price = cost(child, move)
            apply(child, move)
            lack = _lack(child, i, options)
            if lack < branch.lack and (good is None or good(child)):
                children.append(_Branch(child, (*branch.moves, move), branch.copied + price, lack))
    children.sort(key=lambda one: (one.lack, one.copied))
    fitting = [one for one in children if one.lack <= 0]
    return fitting[: 4 * _WIDTH] if fitting else children[:_WIDTH]


def _shortage(state: State, i: int, options: AllocOptions) -> tuple[Floats, Floats]:
    """Per node what it lacks as primary and as secondary, each resource in shares of the need.

    An instance that the new one must be kept apart from counts as much as the whole need.
    """
    inst, nodes, dyn = state.inst, state.nodes, state.dyn
    mem, dsk, cpu = inst.mem[i], inst.dsk[i] if inst.local[i] else 0.0, inst.vcpus[i]

    def part(lack: Floats, need: float) -> Floats:
        return np.maximum(lack, 0.0) / max(need, 1.0)

    floor = np.maximum(dyn[R_MEM], 0.0)
    memory = part(mem + floor - state.unallocated + 1, mem)
    disk = part(dsk + np.maximum(nodes.lo_dsk, 1.0) - dyn[F_DSK], dsk) if dsk else np.zeros(len(floor))
    vcpus = part(cpu + dyn[U_CPU] - nodes.ratio * nodes.t_cpu, cpu)
    second = part(mem - state.unallocated + 1, mem)
    others = options.book(state).in_the_way(i) if options.rules else 0.0
    return memory + disk + vcpus + others, second + disk


def _lack(state: State, i: int, options: AllocOptions) -> float:
    """How far the best pair of nodes is from room; 0 when the sizes alone would fit where its own rules let it be."""
    first, second = _shortage(state, i, options)
    allowed: Bools = allowed_nodes(state, options)
    mirrored = required_nodes(state.inst.instances[i]) > 1
    ruled = options.book(state).wanted(i, mirrored) if options.rules else np.True_
    if not mirrored:
        return float(np.where(allowed & ruled, first, np.inf).min(initial=np.inf))
    both = first[:, None] + second[None, :]
    same = state.nodes.group[:, None] == state.nodes.group[None, :]
    good = allowed[:, None] & allowed[None, :] & same & ruled
    np.fill_diagonal(good, False)
    return float(np.where(good, both, np.inf).min(initial=np.inf))


def _nearest(state: State, i: int, options: AllocOptions) -> list[int]:
    """The nodes that lack least, but lack something, in either role."""
    first, second = _shortage(state, i, options)
    allowed = allowed_nodes(state, options)
    result: list[int] = []
    for lack in (first, second) if required_nodes(state.inst.instances[i]) == 2 else (first,):
        order = np.argsort(np.where(allowed & (lack > 0), lack, np.inf), kind="stable")[:_NODES]
        result += [int(n) for n in order if allowed[n] and lack[n] > 0]
    return sorted(set(result))


def _relieving(state: State, nodes: list[int], options: AllocOptions) -> list[Move]:
    """For each instance on these nodes, its best move of each kind that takes something off one of them."""
    book = options.book(state) if options.rules else None
    which = candidates(state, Rules())
    which = which[np.isin(state.pri[which], nodes) | np.isin(state.sec[which], nodes)]
    result: list[Move] = []
    for table in Scanner(state, Rules(), book=book).scan(which):
        for row, i in enumerate(table.which.tolist()):
            if np.isfinite(table.failover[row, 0]):
                result.append(Move(i, Kind.FAILOVER))
            for kind, matrix in table.by_kind.items():
                target = int(matrix[row].argmin())
                if np.isfinite(matrix[row, target]):
                    result.append(Move(i, kind, target))
    return result
