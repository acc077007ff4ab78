# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch of instances about to move: where they are, and what their nodes have once they are gone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .admission import Need, Room, need_of, room_of, vacated
from .state import Bools, Floats, Ints, State


class Targets:
    """The nodes that moves may lead to: all of them, or some; they are the columns of every matrix of a scan."""

    def __init__(self, count: int, chosen: Ints | None = None) -> None:
        """count is the number of nodes of the state; chosen are the numbers of the targets, None for all."""
        self.chosen = chosen
        self.nodes: Ints = np.arange(count) if chosen is None else chosen

    def __len__(self) -> int:
        """How many targets there are."""
        return len(self.nodes)

    def row(self, values: Floats) -> Floats:
        """The elements of the targets of an array with one element per node."""
        return values if self.chosen is None else values[self.chosen]

    def flags(self, values: Bools) -> Bools:
        """row() of truth values."""
        return values if self.chosen is None else values[self.chosen]

    def rows(self, matrix: Floats, which: Ints) -> Floats:
        """The elements of the targets of some rows of a matrix with one column per node; always a copy."""
        part: Floats = matrix[which] if self.chosen is None else matrix[which[:, None], self.chosen]
        return part

    def flag_rows(self, matrix: Bools, which: Ints) -> Bools:
        """rows() of truth values."""
        part: Bools = matrix[which] if self.chosen is None else matrix[which[:, None], self.chosen]
        return part

    def exclude(self, matrix: Floats, at: Ints) -> None:
        """Forbid, in a matrix of scores, one node per row."""
        if self.chosen is None:
            matrix[np.arange(len(at)), at] = np.inf
        else:
            matrix[self.nodes[None, :] == at[:, None]] = np.inf


@dataclass(slots=True)
class Pair:
    """A batch of instances on two nodes each (the same node twice on shared storage).

    Attributes:
        room_p, room_s: what their nodes have without them.
        r_s: memory that the secondary reserves without the instance.
        real: 1, or 0 for forthcoming instances.
        r_rs, r_raf, r_rp, r_far, r_f: memory reserved, after each kind of move, by the node that gets the second copy.
    """

    which: Ints
    p: Ints
    s: Ints
    need: Need
    room_p: Room
    room_s: Room
    off_p: Bools
    off_s: Bools
    r_s: Floats
    real: Floats = field(init=False)
    r_rs: Floats = field(init=False)
    r_raf: Floats = field(init=False)
    r_rp: Floats = field(init=False)
    r_far: Floats = field(init=False)
    r_f: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.real = np.where(self.need.forthcoming, 0.0, 1.0)


class Largest:
    """Per node its two largest reservations for single peers: enough to tell what is reserved without an instance."""

    def __init__(self, state: State) -> None:
        count = len(state.nodes.names)
        self.peer: Ints = np.zeros(count, dtype=np.intp)
        self.first, self.second = np.zeros(count), np.zeros(count)
        self.refresh(state, np.arange(count))

    def refresh(self, state: State, nodes: Ints) -> None:
        """These nodes have changed."""
        if not len(nodes):
            return
        rows = state.peers[nodes]
        every = np.arange(len(nodes))
        peer = rows.argmax(axis=1)
        self.peer[nodes], self.first[nodes] = peer, rows[every, peer]
        rows[every, peer] = 0.0
        self.second[nodes] = rows.max(axis=1)

    def without(self, state: State, s: Ints, p: Ints, memory: Floats) -> Floats:
        """What each node s reserves when one instance of this memory, whose primary is p, is gone from it."""
        first = np.where(self.peer[s] == p, np.maximum(self.second[s], self.first[s] - memory), self.first[s])
        result: Floats = np.maximum(first, state.r_floor[s])
        return result


def pair_of(state: State, which: Ints, largest: Largest) -> Pair:
    """The batch of these mirrored instances."""
    p, s = state.pri[which], state.sec[which]
    need = need_of(state, which)
    r_s = largest.without(state, s, p, need.peer_mem[:, 0])[:, None]
    room_p = vacated(room_of(state, p), need, primary=True)
    room_s = vacated(room_of(state, s), need, primary=False, reserved=r_s)
    offline = state.nodes.offline
    return Pair(which, p, s, need, room_p, room_s, offline[p][:, None], offline[s][:, None], r_s)


def single_of(state: State, which: Ints) -> Pair:
    """The batch of these instances on shared storage; the secondary is the primary."""
    p, need = state.pri[which], need_of(state, which)
    off_p = state.nodes.offline[p][:, None]
    here = vacated(room_of(state, p), need, primary=True)
    return Pair(which, p, p, need, here, here, off_p, off_p, np.zeros((len(which), 1)))
