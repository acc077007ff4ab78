# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The score after every possible move of many instances at once, from differences.

A move changes three nodes at most, and what it does to a metric follows from two sums (spread.py). Metrics that change
together (everything that goes with the primary; everything that goes with the disks) share their work: five kinds of
moves need two matrices for storage, one for the primary, and four for reserved memory. What nodes can take is asked
again only where they have changed (fits.py).
The result is exact to rounding; who needs the last bit carries a move out and scores the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .admission import (
    Condition,
    Need,
    Room,
    admitted,
    overloaded,
    primary_conditions,
    room_of,
    secondary_conditions,
)
from .counts import Counts
from .fits import Fits
from .moves import Kind, Move
from .pairs import Largest, Pair, Targets, pair_of, single_of
from .score import SPREAD, WEIGHTS, counted_metrics, node_values, weigh
from .spread import Spread, Spreads
from .state import R_MEM, Bools, Floats, Ints, State

#: Elements of the matrices that are worked on at once: 64 KiB each.
_BATCH = 8192


@dataclass(frozen=True, slots=True)
class Rules:
    """Which moves may be considered.

    Attributes:
        disk_moves: copies of disks may be replaced. instance_moves: primaries may change.
        restricted: no move that migrates an instance twice, unless its primary is offline.
        ignore_soft: overlook soft limits.
        evacuate: only instances that touch offline nodes.
    """

    disk_moves: bool = True
    instance_moves: bool = True
    restricted: bool = False
    ignore_soft: bool = False
    evacuate: bool = False


@dataclass(slots=True)
class Scores:
    """Scores after moves: rows are the instances of which, columns the nodes of targets; infinity where not allowed.

    failover has one column. by_kind maps every other kind of move to a matrix.
    """

    which: Ints
    targets: Ints
    failover: Floats
    by_kind: dict[Kind, Floats]

    def matrices(self) -> list[tuple[Kind, Floats]]:
        """Every kind of move with its scores."""
        return [(Kind.FAILOVER, self.failover), *self.by_kind.items()]

    def move(self, kind: Kind, row: int, column: int) -> Move:
        """The move that an element of a matrix stands for."""
        return Move(int(self.which[row]), kind, -1 if kind is Kind.FAILOVER else int(self.targets[column]))

    def lowest(self) -> float:
        """The best score of all."""
        return min(float(matrix.min(initial=np.inf)) for _kind, matrix in self.matrices())

    def best(self) -> Floats:
        """The best score that each instance can reach."""
        result = self.failover[:, 0].copy()
        for matrix in self.by_kind.values():
            np.minimum(result, matrix.min(axis=1), out=result)
        return result


class Adjuster(Protocol):
    """Something that changes the scores of moves."""

    def adjust(self, table: Scores) -> None:
        """Change the scores of a table in place."""


class Scanner:
    """Scores of all moves from one state. Make a new one, or call refresh(), after the state has changed."""

    def __init__(
        self,
        state: State,
        rules: Rules,
        within: Bools | None = None,
        targets: Ints | None = None,
        book: Adjuster | None = None,
    ) -> None:
        """Prepare scans of a state.

        Args:
            within: the only nodes that scores and targets are about. targets: numbers of the only nodes to move to.
            book: adds to scores what else counts (rules of instances).
        """
        self.book = book
        self.state, self.rules, self.within = state, rules, within
        self.online = state.online if within is None else state.online & within
        self.targets = Targets(len(state.nodes.names), targets)
        self._needs()
        self.peers_t = np.ascontiguousarray(state.peers.T)
        self.largest = Largest(state)
        self._fits: dict[tuple[str, bool], Fits] = {}
        self.refresh()

    def refresh(self, changed: Iterable[int] | None = None) -> None:
        """Take in the state as it is now; changed are the only nodes that are different since the last time."""
        state = self.state
        if changed is not None:
            nodes = np.array(sorted(changed), dtype=np.intp)
            self.peers_t[:, nodes] = state.peers[nodes].T
            self.largest.refresh(state, nodes)
            for fits in self._fits.values():
                fits.refresh(nodes)
        self.values = node_values(state)
        self.rest = weigh(counted_metrics(state, self.values, state.online, self.within))
        self.room = room_of(state, among=self.targets.chosen)
        self.w_mem = np.where(self.online, 1.0 / state.nodes.d_mem, 0.0)
        self.counts = Counts(state, self.online, self.targets)
        self._spreads()

    def _needs(self) -> None:
        """What instances change and what nodes divide it by: the same for every state of the same cluster."""
        inst, nodes = self.state.inst, self.state.nodes
        real = np.where(inst.forthcoming, 0.0, 1.0)
        disk, vcpus, loads = inst.dsk * inst.local, inst.vcpus * inst.not_offline, inst.load
        spin, total_spin = inst.spindle_use * inst.local, np.maximum(inst.spindles, 0.0)
        self.needs = {
            "mem": -inst.mem * inst.uses_mem * real,
            "mem_forth": -inst.mem,
            "cpu": vcpus * real,
            "cpu_forth": vcpus,
            "disk": -disk * real,
            "disk_forth": -disk,
            "excl": -total_spin * real,
            "excl_forth": -total_spin,
            "spin": spin * real,
            "spin_forth": spin,
            **{f"load{k}": loads[:, k] * real for k in range(4)},
        }
        drbd = np.flatnonzero(inst.drbd)
        self.example = int(drbd[0]) if len(drbd) else 0
        self.flat = {
            name: len(drbd) > 0 and bool(np.all(need[drbd] == need[drbd[0]])) for name, need in self.needs.items()
        }
        self.one_load = np.array_equal(loads[:, 0], loads[:, 1]) and np.array_equal(loads[:, 0], loads[:, 3])
        slopes = {
            "mem": 1.0 / nodes.d_mem,
            "cpu": 1.0 / (nodes.d_cpu * nodes.d_speed),
            "disk": np.where(nodes.exclusive | nodes.no_disk, 0.0, 1.0 / nodes.d_dsk),
            "excl": np.where(nodes.exclusive & ~nodes.no_disk, 1.0 / nodes.d_spindles, 0.0),
            "spin": np.where(nodes.exclusive, 0.0, 1.0 / nodes.d_hi_spin),
            "load": np.ones(len(nodes.names)),
        }
        self.slopes = {name: np.where(self.online, slope, 0.0) for name, slope in slopes.items()}

    def _spread(self, row: int, weight: float, *names: str) -> Spread:
        """The metric of a row of node_values(), shifted by the named needs."""
        slopes = [self.slopes[name.removesuffix("_forth").rstrip("0123")] for name in names]
        flat = all(self.flat[name] for name in names)
        needs = [self.needs[name] for name in names]
        weight *= self.share**0.5
        total = self.totals[row]
        return Spread(weight, self.share, self.centred[row], total=total, needs=needs, slopes=slopes, flat=flat)

    def _spreads(self) -> None:
        """Group the metrics by what shifts them; those that cannot differ are counted once, their weights added."""
        w, v, double = WEIGHTS[list(SPREAD)], self.values, self.state.plain
        self.share = 1.0 / max(int(self.online.sum()), 1)
        self.centred = np.where(self.online, v - self.share * (v @ self.online)[:, None], 0.0)
        self.totals = (self.centred * self.centred).sum(axis=1).tolist()
        one = self.one_load and np.array_equal(v[4], v[5]) and np.array_equal(v[4], v[7])
        disk = ("disk", "excl") if self.state.has_exclusive else ("disk",)
        primary = [
            self._spread(0, w[0] + (w[9] if double else 0.0), "mem"),
            self._spread(3, w[3] + (w[11] if double else 0.0), "cpu"),
            self._spread(4, w[4] + (w[5] + w[7] if one else 0.0), "load0"),
        ]
        if not one:
            primary += [self._spread(5, w[5], "load1"), self._spread(7, w[7], "load3")]
        storage = [
            self._spread(1, w[1] + (w[10] if double else 0.0), *disk),
            self._spread(6, w[6], "load2"),
            self._spread(8, w[8] + (w[12] if double else 0.0), "spin"),
        ]
        if not double:
            primary += [self._spread(9, w[9], "mem_forth"), self._spread(11, w[11], "cpu_forth")]
            forth = [f"{name}_forth" for name in disk]
            storage += [self._spread(10, w[10], *forth), self._spread(12, w[12], "spin_forth")]
        self.primary, self.storage = Spreads(primary, self.example), Spreads(storage, self.example)
        self.reserved = self._spread(2, w[2])

    # -- instances with two copies ------------------------------------------------------------------------------

    def internal(self, which: Ints) -> Scores:
        """Scores after every move of instances whose disks have two copies (drbd)."""
        rules, pair = self.rules, pair_of(self.state, which, self.largest)
        valid_s = ~pair.off_s & rules.instance_moves
        # With restricted migration only instances on offline nodes change their primary.
        strict = pair.off_p if rules.restricted else np.ones_like(pair.off_p)
        gates: dict[Kind, Bools] = {
            Kind.FAILOVER: valid_s,
            Kind.REPLACE_SECONDARY: np.ones_like(valid_s),
            Kind.REPLACE_AND_FAILOVER: strict & rules.instance_moves,
            Kind.REPLACE_PRIMARY: valid_s & (not rules.restricted),
            Kind.FAILOVER_AND_REPLACE: valid_s & strict,
        }
        scores = self._values(pair)
        allowed = self._allowed(pair)
        for kind, matrix in scores.items():
            good = allowed[kind] if gates[kind].all() else allowed[kind] & gates[kind]
            scores[kind] = np.where(good, matrix, np.inf)
        failover = scores.pop(Kind.FAILOVER)
        result = Scores(which, self.targets.nodes, failover, scores if rules.disk_moves else {})
        for matrix in result.by_kind.values():
            self.targets.exclude(matrix, pair.p)
            self.targets.exclude(matrix, pair.s)
        return result

    def _allowed(self, pair: Pair) -> dict[Kind, Bools]:
        """Where each kind of move is allowed; needs the memory that _reserved_values() found."""
        need, simple, ignore = pair.need, self.state.plain, self.rules.ignore_soft
        room_p, room_s = pair.room_p, pair.room_s
        on_s = primary_conditions(room_s, need, _at(self.counts.conflicts(pair.which), pair.s), simple)
        force_p, force_s = pair.off_p | ignore, pair.off_s | ignore
        s_ok = admitted(on_s, force_p)
        t_strict = self._targets("primary", pair.which, np.array(ignore))
        t_forced = self._targets("primary", pair.which, force_p)
        p_back = admitted(secondary_conditions(room_p, need, None, None, simple), force_s)
        s_back = admitted(secondary_conditions(room_s, need, None, None, simple), force_p)
        # The primary is put back where it was; that fails on a node that is overfull.
        p_stays = admitted(primary_conditions(room_p, need, None, simple), True)
        peer = self.state.peers[pair.p, pair.s][:, None]
        p_swap = admitted(secondary_conditions(room_p, need, peer, pair.off_p, simple), force_p)

        def calm(room: Room, reserved: Floats, forced: Bools) -> Bools:
            """Where the reservation of the second copy does no harm, or does not count."""
            result: Bools = ~overloaded(room, reserved) | need.forthcoming | forced
            return result

        allowed: dict[Kind, Bools] = {
            Kind.FAILOVER: s_ok & p_swap,
            Kind.REPLACE_SECONDARY: self._targets("secondary", pair.which, force_s)
            & calm(self.room, pair.r_rs, force_s)
            & p_stays,
            Kind.REPLACE_AND_FAILOVER: t_strict & p_back & calm(room_p, pair.r_raf, force_s),
            Kind.REPLACE_PRIMARY: t_forced & (s_ok & s_back) & calm(room_s, pair.r_rp, force_p),
            Kind.FAILOVER_AND_REPLACE: self._targets("secondary", pair.which, force_p)
            & calm(self.room, pair.r_far, force_p)
            & s_ok,
        }
        if self.state.has_migration_tags:
            may = self.state.may_migrate
            swap = may[pair.p, pair.s][:, None]
            allowed[Kind.FAILOVER] = allowed[Kind.FAILOVER] & swap
            allowed[Kind.REPLACE_AND_FAILOVER] = allowed[Kind.REPLACE_AND_FAILOVER] & self._may(pair.p)
            allowed[Kind.REPLACE_PRIMARY] = allowed[Kind.REPLACE_PRIMARY] & swap & self._may(pair.s)
            allowed[Kind.FAILOVER_AND_REPLACE] = allowed[Kind.FAILOVER_AND_REPLACE] & swap
        return allowed

    def _may(self, source: Ints) -> Bools:
        """Which targets accept migrations from each source."""
        return self.targets.flag_rows(self.state.may_migrate, source)

    def _targets(self, role: str, which: Ints, forced: Bools) -> Bools:
        """Which targets take which instances in a role, but for memory reserved per peer; forced is per instance."""
        online = self.targets.flags(self.online)
        if not forced.any():
            return self._fit(role, False).of(which) & online
        hard = self._fit(role, True).of(which)
        if not forced.all():
            hard = np.where(forced, hard, self._fit(role, False).of(which))
        return hard & online

    def _fit(self, role: str, forced: bool) -> Fits:
        key = (role, forced)
        if key not in self._fits:
            checks = self._primary_checks if role == "primary" else self._secondary_checks
            self._fits[key] = Fits(self.state, checks, self.targets.nodes, forced=forced)
        return self._fits[key]

    def _primary_checks(self, room: Room, need: Need, which: Ints, nodes: Ints) -> list[Condition]:
        conflict = self.counts.conflicts(which)
        return primary_conditions(room, need, None if conflict is None else conflict[:, nodes], self.state.plain)

    def _secondary_checks(self, room: Room, need: Need, _which: Ints, _nodes: Ints) -> list[Condition]:
        return secondary_conditions(room, need, None, None, self.state.plain)

    def _values(self, pair: Pair) -> dict[Kind, Floats]:
        """The score after each kind of move, allowed or not."""
        to = self.targets
        to_s = self.primary.moved_to(pair.which, pair.p, pair.s) + self.rest
        to_t = self.primary.moved(pair.which, pair.p, to) + self.rest
        from_s = self.storage.moved(pair.which, pair.s, to)
        from_p = self.storage.moved(pair.which, pair.p, to)
        stay = self.rest + self.primary.base()
        scores = self._reserved_values(pair)
        scores[Kind.FAILOVER] += to_s + self.storage.base()
        scores[Kind.REPLACE_SECONDARY] += stay + from_s
        scores[Kind.REPLACE_AND_FAILOVER] += to_t + from_s
        scores[Kind.REPLACE_PRIMARY] += to_t + from_p
        scores[Kind.FAILOVER_AND_REPLACE] += to_s + from_p
        self.counts.add_internal(pair, self.room, scores, forced=self.rules.ignore_soft)
        return scores

    def _reserved_values(self, pair: Pair) -> dict[Kind, Floats]:
        """Spread and sum of reserved memory after each kind of move."""
        state, metric, to = self.state, self.reserved, self.targets
        r_all, m = state.dyn[R_MEM], pair.need.peer_mem
        r_p, r_t, old_s = r_all[pair.p][:, None], to.row(r_all), r_all[pair.s][:, None]
        w_p, w_s, w_t = self.w_mem[pair.p][:, None], self.w_mem[pair.s][:, None], to.row(self.w_mem)
        c_p, c_s = metric.centred2[pair.p][:, None], metric.centred2[pair.s][:, None]
        c_t = to.row(metric.centred2)
        d_s = (pair.r_s - old_s) * w_s
        left = metric.total + d_s * (c_s + d_s)

        def value(centred2: Floats, here: Floats, before: Floats | float, change: Floats) -> Floats:
            """The metric when a node's value changes by here, and the sum of all values by change."""
            total = centred2 + here
            total *= here
            total += before
            result = metric.after(total, change)
            result += 0.25 * change
            return result

        pair.r_rs = np.maximum(r_t, to.rows(self.peers_t, pair.p) + m)
        pair.r_far = np.maximum(r_t, to.rows(self.peers_t, pair.s) + m)
        pair.r_raf = np.maximum(r_p, to.rows(state.peers, pair.p) + m)
        # The instance itself is counted for its old primary only, which is no target.
        pair.r_rp = np.maximum(pair.r_s, to.rows(state.peers, pair.s) + m)
        pair.r_f = np.maximum(r_p, state.peers[pair.p, pair.s][:, None] + m)
        d_rs, d_far = (pair.r_rs - r_t) * w_t, (pair.r_far - r_t) * w_t
        d_raf, d_f, d_rp = (pair.r_raf - r_p) * w_p, (pair.r_f - r_p) * w_p, (pair.r_rp - old_s) * w_s
        return {
            Kind.FAILOVER: value(c_p, d_f, left, d_s + d_f),
            Kind.REPLACE_SECONDARY: value(c_t, d_rs, left, d_s + d_rs),
            Kind.REPLACE_AND_FAILOVER: value(c_p, d_raf, left, d_s + d_raf),
            Kind.REPLACE_PRIMARY: value(c_s, d_rp, metric.total, d_rp),
            Kind.FAILOVER_AND_REPLACE: value(c_t, d_far, left, d_s + d_far),
        }

    # -- instances on shared storage ----------------------------------------------------------------------------

    def external(self, which: Ints) -> Scores:
        """Scores after moving instances on shared storage to each node."""
        state, rules, to = self.state, self.rules, self.targets
        result = Scores(which, to.nodes, np.full((len(which), 1), np.inf), {})
        if not rules.instance_moves:
            return result
        pair = single_of(state, which)
        allowed = self._targets("primary", which, pair.off_p | rules.ignore_soft)
        if state.has_migration_tags:
            allowed = allowed & self._may(pair.p)
        # Of the storage only the load of disks changes: shared storage takes nothing from a node.
        scores = self.primary.moved(which, pair.p, to, same=False) + self.storage.moved(which, pair.p, to, same=False)
        scores += self.rest + self.reserved.base()
        self.counts.add_external(pair, self.room, scores)
        scores = np.where(allowed, scores, np.inf)
        to.exclude(scores, pair.p)
        result.by_kind[Kind.FAILOVER_TO_ANY] = scores
        return result

    def scan(self, which: Ints) -> Iterator[Scores]:
        """Scores after every move of these instances, in batches that stay in the processor's cache."""
        inst = self.state.inst
        size = max(1, _BATCH // max(1, len(self.targets)))
        for kind, score in ((inst.drbd, self.internal), (inst.external, self.external)):
            members = which[kind[which]]
            for start in range(0, len(members), size):
                table = score(members[start : start + size])
                if self.book is not None:
                    self.book.adjust(table)
                yield table


def _at(matrix: Bools | None, columns: Ints) -> Bools | None:
    return None if matrix is None else matrix[np.arange(len(columns)), columns][:, None]
