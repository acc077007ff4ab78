# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The score after every possible move of many instances at once, from differences.

A move changes three nodes at most, and a metric's spread after it follows from two sums: with x the metric's value
per node, centred on the mean, and d the change, n*variance' = n*variance + sum(d*(2x + d)) - sum(d)**2 / n. Metrics
that change together (everything that goes with the primary; everything that goes with the disks) share their work:
five kinds of moves need two matrices for storage, one for the primary, and four for reserved memory.
The result is exact to rounding; who needs the last bit carries a move out and scores the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from .admission import (
    Need,
    Room,
    admitted,
    need_of,
    primary_conditions,
    room_of,
    secondary_conditions,
    tag_gains,
    vacated,
)
from .moves import Kind
from .score import SPREAD, WEIGHTS, metrics_of, node_values, real_tag_count, weigh
from .state import N_PRI, N_SEC, R_MEM, Bools, Floats, Ints, State

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
class _Pair:
    """A batch of instances on two nodes each, and what these nodes have once the instance is gone from them.

    Attributes:
        rows_s: memory that the secondary reserves per primary, without the instance; r_s: the largest of it.
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
    rows_s: Floats
    r_s: Floats
    real: Floats = field(init=False)
    r_rs: Floats = field(init=False)
    r_raf: Floats = field(init=False)
    r_rp: Floats = field(init=False)
    r_far: Floats = field(init=False)
    r_f: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.real = np.where(self.need.forthcoming, 0.0, 1.0)


class _Spread:
    """One metric that is a standard deviation: where the nodes stand and how an instance shifts them.

    need holds the change of the metric per instance, before division by what the node has; slope is that divisor's
    inverse, zero for offline nodes, which no spread counts.
    """

    __slots__ = ("centred2", "count", "needs", "slopes", "total", "weight")

    def __init__(self, weight: float, values: Floats, online: Bools, needs: list[Floats], slopes: list[Floats]) -> None:
        count = int(online.sum())
        mean = values[online].mean() if count else 0.0
        centred = np.where(online, values - mean, 0.0)
        self.weight = weight / np.sqrt(max(count, 1))
        self.centred2 = 2.0 * centred
        self.total = float(np.dot(centred, centred))
        self.count = max(count, 1)
        self.needs = needs
        self.slopes = [np.where(online, slope, 0.0) for slope in slopes]

    def base(self) -> float:
        return float(self.weight * np.sqrt(self.total))

    def shift(self, which: Ints, at: Ints | None) -> Floats:
        """Change of x when the instances arrive: on every node, or on one node each (a column)."""
        parts = [
            need[which][:, None] * (slope[None, :] if at is None else slope[at][:, None])
            for need, slope in zip(self.needs, self.slopes, strict=True)
        ]
        return sum(parts[1:], start=parts[0])

    def after(self, total: Floats, change: Floats) -> Floats:
        """The weighted spread after a change of sum(d) and of n*variance before its correction."""
        value = total - change * change / self.count
        np.maximum(value, 0.0, out=value)
        np.sqrt(value, out=value)
        value *= self.weight
        result: Floats = value
        return result


@dataclass(slots=True)
class Scores:
    """Scores after moves: rows are the instances of which, columns nodes; infinity where a move is not allowed.

    failover has one column. by_kind maps every other kind of move to a matrix.
    """

    which: Ints
    failover: Floats
    by_kind: dict[Kind, Floats]

    def best(self) -> Floats:
        """The best score that each instance can reach."""
        result = self.failover[:, 0].copy()
        for matrix in self.by_kind.values():
            np.minimum(result, matrix.min(axis=1), out=result)
        return result


class Scanner:
    """Scores of all moves from one state. Make a new one, or call refresh(), after the state has changed."""

    def __init__(self, state: State, rules: Rules, within: Bools | None = None) -> None:
        """Prepare scans of a state; within limits both scores and targets to some of its nodes."""
        self.state, self.rules, self.within = state, rules, within
        self._needs()
        self.peers_t = np.ascontiguousarray(state.peers.T)
        self.refresh()

    def refresh(self, changed: Iterable[int] | None = None) -> None:
        """Take in the state as it is now; changed are the only nodes that are different, if that is known."""
        state = self.state
        if changed is not None:
            for n in changed:
                self.peers_t[:, n] = state.peers[n]
        self.online = state.online if self.within is None else state.online & self.within
        self.values = node_values(state)
        metrics = metrics_of(state, self.values, state.online, self.within)
        self.current = weigh(metrics)
        self.rest = self.current - float(np.dot(metrics[list(SPREAD)], WEIGHTS[list(SPREAD)]))
        self.room = room_of(state)
        self.w_mem = np.where(self.online, 1.0 / state.nodes.d_mem, 0.0)
        self.gains = tag_gains(state) if state.has_tags else None
        self.fails = state.fails_n1
        self.counts = state.dyn[N_PRI] + state.dyn[N_SEC]
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
        self.one_load = np.array_equal(loads[:, 0], loads[:, 1]) and np.array_equal(loads[:, 0], loads[:, 3])
        self.slopes = {
            "mem": 1.0 / nodes.d_mem,
            "cpu": 1.0 / (nodes.d_cpu * nodes.d_speed),
            "disk": np.where(nodes.exclusive | nodes.no_disk, 0.0, 1.0 / nodes.d_dsk),
            "excl": np.where(nodes.exclusive & ~nodes.no_disk, 1.0 / nodes.d_spindles, 0.0),
            "spin": np.where(nodes.exclusive, 0.0, 1.0 / nodes.d_hi_spin),
            "load": np.ones(len(nodes.names)),
        }

    def _spread(self, row: int, weight: float, *names: str) -> _Spread:
        """The metric of a row of node_values(), shifted by the named needs."""
        slopes = [self.slopes[name.removesuffix("_forth").rstrip("0123")] for name in names]
        return _Spread(weight, self.values[row], self.online, [self.needs[name] for name in names], slopes)

    def _spreads(self) -> None:
        """Group the metrics by what shifts them; those that cannot differ are counted once, their weights added."""
        w, v, double = WEIGHTS[list(SPREAD)], self.values, self.state.plain
        one = self.one_load and np.array_equal(v[4], v[5]) and np.array_equal(v[4], v[7])
        disk = ("disk", "excl") if self.state.has_exclusive else ("disk",)
        self.primary = [
            self._spread(0, w[0] + (w[9] if double else 0.0), "mem"),
            self._spread(3, w[3] + (w[11] if double else 0.0), "cpu"),
            self._spread(4, w[4] + (w[5] + w[7] if one else 0.0), "load0"),
        ]
        if not one:
            self.primary += [self._spread(5, w[5], "load1"), self._spread(7, w[7], "load3")]
        self.storage = [
            self._spread(1, w[1] + (w[10] if double else 0.0), *disk),
            self._spread(6, w[6], "load2"),
            self._spread(8, w[8] + (w[12] if double else 0.0), "spin"),
        ]
        if not double:
            self.primary += [self._spread(9, w[9], "mem_forth"), self._spread(11, w[11], "cpu_forth")]
            forth = [f"{name}_forth" for name in disk]
            self.storage += [self._spread(10, w[10], *forth), self._spread(12, w[12], "spin_forth")]
        self.reserved = self._spread(2, w[2])

    # -- instances with two copies ------------------------------------------------------------------------------

    def internal(self, which: Ints) -> Scores:
        """Scores after every move of instances whose disks have two copies (drbd)."""
        rules, pair = self.rules, self._pair(which)
        p, s, off_p, off_s = pair.p, pair.s, pair.off_p, pair.off_s
        scores = self._values(pair)
        allowed = self._allowed(pair)
        result = Scores(which, np.full((len(which), 1), np.inf), {})
        moves_instance = rules.instance_moves
        valid_s = ~off_s & moves_instance
        strict_kinds = (
            np.ones_like(off_p)
            if not rules.restricted
            else off_p  # with restricted migration only instances on offline nodes change their primary
        )
        result.failover = np.where(allowed[Kind.FAILOVER] & valid_s, scores[Kind.FAILOVER], np.inf)
        if not rules.disk_moves:
            return result
        target = self.online[None, :].repeat(len(which), axis=0)
        target[np.arange(len(which)), p] = False
        target[np.arange(len(which)), s] = False
        gates: dict[Kind, Bools | bool] = {
            Kind.REPLACE_SECONDARY: True,
            Kind.REPLACE_AND_FAILOVER: strict_kinds & moves_instance,
            Kind.REPLACE_PRIMARY: valid_s & (not rules.restricted),
            Kind.FAILOVER_AND_REPLACE: valid_s & strict_kinds,
        }
        for kind, gate in gates.items():
            result.by_kind[kind] = np.where(allowed[kind] & target & gate, scores[kind], np.inf)
        return result

    def _pair(self, which: Ints) -> _Pair:
        state = self.state
        p, s = state.pri[which], state.sec[which]
        need = need_of(state, which)
        rows_s = state.peers[s]
        rows_s[np.arange(len(which)), p] -= need.peer_mem[:, 0]
        r_s = np.maximum(rows_s.max(axis=1), state.r_floor[s])[:, None]
        room_p = vacated(room_of(state, p), need, primary=True)
        room_s = vacated(room_of(state, s), need, primary=False, reserved=r_s)
        offline = state.nodes.offline
        return _Pair(which, p, s, need, room_p, room_s, offline[p][:, None], offline[s][:, None], rows_s, r_s)

    def _allowed(self, pair: _Pair) -> dict[Kind, Bools]:
        state, need, simple = self.state, pair.need, self.state.plain
        room_p, room_s, ignore = pair.room_p, pair.room_s, self.rules.ignore_soft
        conflict = self._conflict(pair.which)
        on_s = primary_conditions(room_s, need, _at(conflict, pair.s), simple)
        force_p, force_s = pair.off_p | ignore, pair.off_s | ignore
        s_ok = admitted(on_s, force_p)
        on_t = primary_conditions(self.room, need, conflict, simple)
        t_strict = admitted(on_t, ignore)
        t_forced = admitted(on_t, force_p) if pair.off_p.any() and not ignore else t_strict
        sec_p = admitted(secondary_conditions(self.room, need, self.peers_t[pair.p], None, simple), force_s)
        sec_s = admitted(secondary_conditions(self.room, need, self.peers_t[pair.s], None, simple), force_p)
        p_back = admitted(secondary_conditions(room_p, need, state.peers[pair.p], None, simple), force_s)
        s_back = admitted(secondary_conditions(room_s, need, pair.rows_s, None, simple), force_p)
        # The primary is put back where it was; that fails on a node that is overfull.
        p_stays = admitted(primary_conditions(room_p, need, None, simple), True)
        peer = state.peers[pair.p, pair.s][:, None]
        p_swap = admitted(secondary_conditions(room_p, need, peer, pair.off_p, simple), force_p)
        allowed: dict[Kind, Bools] = {
            Kind.FAILOVER: s_ok & p_swap,
            Kind.REPLACE_SECONDARY: sec_p & p_stays,
            Kind.REPLACE_AND_FAILOVER: t_strict & p_back,
            Kind.REPLACE_PRIMARY: s_ok & t_forced & s_back,
            Kind.FAILOVER_AND_REPLACE: s_ok & sec_s,
        }
        if state.has_migration_tags:
            may = state.may_migrate
            swap = may[pair.p, pair.s][:, None]
            allowed[Kind.FAILOVER] = allowed[Kind.FAILOVER] & swap
            allowed[Kind.REPLACE_AND_FAILOVER] = allowed[Kind.REPLACE_AND_FAILOVER] & may[pair.p]
            allowed[Kind.REPLACE_PRIMARY] = allowed[Kind.REPLACE_PRIMARY] & swap & may[pair.s]
            allowed[Kind.FAILOVER_AND_REPLACE] = allowed[Kind.FAILOVER_AND_REPLACE] & swap
        return allowed

    def _conflict(self, which: Ints) -> Bools | None:
        if self.gains is None:
            return None
        taken: Bools = self.gains[self.state.inst.tag_set[which]] > 0
        # An instance does not exclude itself; it is never checked against the node that it is primary on.
        return taken

    def _values(self, pair: _Pair) -> dict[Kind, Floats]:
        to_s, to_t = self._primary_values(pair)
        stay = self.rest + sum(m.base() for m in self.primary)
        from_s, from_p = self._storage_values(pair)
        still = sum(m.base() for m in self.storage)
        scores = self._reserved_values(pair)
        scores[Kind.FAILOVER] += to_s + still
        scores[Kind.REPLACE_SECONDARY] += stay + from_s
        scores[Kind.REPLACE_AND_FAILOVER] += to_t + from_s
        scores[Kind.REPLACE_PRIMARY] += to_t + from_p
        scores[Kind.FAILOVER_AND_REPLACE] += to_s + from_p
        self._add_offline(pair, scores)
        self._add_tags(pair, scores)
        self._add_locations(pair, scores)
        if self.fails[self.online].any() or self.rules.ignore_soft or pair.off_p.any() or pair.off_s.any():
            self._add_failing(pair, scores)
        return scores

    def _primary_values(self, pair: _Pair) -> tuple[Floats, Floats]:
        """Metrics of primaries when the primary goes to the secondary (column) and to each target (matrix)."""
        to_s: Floats = np.full((len(pair.which), 1), self.rest)
        to_t: Floats = np.full((len(pair.which), len(self.online)), self.rest)
        for metric in self.primary:
            at_p, at_s, at_t = (metric.shift(pair.which, where) for where in (pair.p, pair.s, None))
            left = metric.total - at_p * (metric.centred2[pair.p][:, None] - at_p)
            to_s += metric.after(left + at_s * (metric.centred2[pair.s][:, None] + at_s), at_s - at_p)
            to_t += metric.after(left + at_t * (metric.centred2[None, :] + at_t), at_t - at_p)
        return to_s, to_t

    def _storage_values(self, pair: _Pair) -> tuple[Floats, Floats]:
        """Metrics of disks when a copy goes from the secondary, or from the primary, to each target."""
        shape = (len(pair.which), len(self.online))
        from_s, from_p = np.zeros(shape), np.zeros(shape)
        for metric in self.storage:
            at_p, at_s, at_t = (metric.shift(pair.which, where) for where in (pair.p, pair.s, None))
            arrive = at_t * (metric.centred2[None, :] + at_t)
            left_s = metric.total - at_s * (metric.centred2[pair.s][:, None] - at_s)
            left_p = metric.total - at_p * (metric.centred2[pair.p][:, None] - at_p)
            from_s += metric.after(arrive + left_s, at_t - at_s)
            from_p += metric.after(arrive + left_p, at_t - at_p)
        return from_s, from_p

    def _reserved_values(self, pair: _Pair) -> dict[Kind, Floats]:
        """Spread and sum of reserved memory after each kind of move."""
        state, metric = self.state, self.reserved
        r_all, r_p = state.dyn[R_MEM], state.dyn[R_MEM][pair.p][:, None]
        w_p, w_s, w_t = self.w_mem[pair.p][:, None], self.w_mem[pair.s][:, None], self.w_mem[None, :]
        c_p, c_s, c_t = metric.centred2[pair.p][:, None], metric.centred2[pair.s][:, None], metric.centred2[None, :]
        m = pair.need.peer_mem
        old_s = r_all[pair.s][:, None]
        d_s = (pair.r_s - old_s) * w_s
        left = metric.total + d_s * (c_s + d_s)

        def value(total: Floats, change: Floats) -> Floats:
            return metric.after(total, change) + 0.25 * change

        pair.r_rs = np.maximum(r_all[None, :], self.peers_t[pair.p] + m)
        pair.r_far = np.maximum(r_all[None, :], self.peers_t[pair.s] + m)
        pair.r_raf = np.maximum(r_p, state.peers[pair.p] + m)
        pair.r_rp = np.maximum(pair.r_s, pair.rows_s + m)
        pair.r_f = np.maximum(r_p, state.peers[pair.p, pair.s][:, None] + m)
        d_rs, d_far = (pair.r_rs - r_all[None, :]) * w_t, (pair.r_far - r_all[None, :]) * w_t
        d_raf, d_f, d_rp = (pair.r_raf - r_p) * w_p, (pair.r_f - r_p) * w_p, (pair.r_rp - old_s) * w_s
        return {
            Kind.FAILOVER: value(left + d_f * (c_p + d_f), d_s + d_f),
            Kind.REPLACE_SECONDARY: value(left + d_rs * (c_t + d_rs), d_s + d_rs),
            Kind.REPLACE_AND_FAILOVER: value(left + d_raf * (c_p + d_raf), d_s + d_raf),
            Kind.REPLACE_PRIMARY: value(metric.total + d_rp * (c_s + d_rp), d_rp),
            Kind.FAILOVER_AND_REPLACE: value(left + d_far * (c_t + d_far), d_s + d_far),
        }

    def _add_offline(self, pair: _Pair, scores: dict[Kind, Floats]) -> None:
        """Primaries (16 each) and any copies (4 each) that leave offline nodes."""
        if not (pair.off_p.any() or pair.off_s.any()):
            return
        off_p, off_s = pair.off_p * pair.real, pair.off_s * pair.real
        scores[Kind.FAILOVER] -= 16.0 * off_p
        scores[Kind.REPLACE_SECONDARY] -= 4.0 * off_s
        scores[Kind.REPLACE_AND_FAILOVER] -= 16.0 * off_p + 4.0 * off_s
        scores[Kind.REPLACE_PRIMARY] -= 20.0 * off_p
        scores[Kind.FAILOVER_AND_REPLACE] -= 20.0 * off_p

    def _add_tags(self, pair: _Pair, scores: dict[Kind, Floats]) -> None:
        """Exclusion tags (2 each) that meet on the new primary and part on the old one."""
        if self.gains is None:
            return
        state = self.state
        gain = 2.0 * self.gains[state.inst.tag_set[pair.which]] * self.online
        loss = np.array(
            [
                float((state.tag_count[n, state.inst.tag_keys[i]] > 1).sum()) if self.online[n] else 0.0
                for i, n in zip(pair.which, pair.p, strict=True)
            ]
        )
        gain -= 2.0 * loss[:, None]
        at_s = gain[np.arange(len(pair.which)), pair.s][:, None]
        scores[Kind.FAILOVER] += at_s
        scores[Kind.REPLACE_AND_FAILOVER] += gain
        scores[Kind.REPLACE_PRIMARY] += gain
        scores[Kind.FAILOVER_AND_REPLACE] += at_s

    def _add_locations(self, pair: _Pair, scores: dict[Kind, Floats]) -> None:
        """Shared failure domains, unmet wishes, and exclusion tags that share a failure domain."""
        state = self.state
        if not state.has_locations:
            return
        rows = np.arange(len(pair.which))
        real, on_p = pair.real, self.online[pair.p][:, None]
        own = state.loc_score[pair.which][:, None]
        unmet = state.unmet[state.inst.wishes[pair.which]]
        at_p, at_s = unmet[rows, pair.p][:, None], unmet[rows, pair.s][:, None]
        leave = (own + at_p) * on_p
        shared_p, shared_s = state.shared[pair.p], state.shared[pair.s]
        exclusion = self._exclusion_changes(pair)
        excl_s = exclusion[rows, pair.s][:, None]
        on_s = self.online[pair.s][:, None]
        scores[Kind.FAILOVER] += real * ((own + at_s) * on_s - leave + excl_s)
        scores[Kind.REPLACE_SECONDARY] += real * ((shared_p - own) * on_p)
        scores[Kind.REPLACE_AND_FAILOVER] += real * (shared_p + unmet - leave + exclusion)
        scores[Kind.REPLACE_PRIMARY] += real * (shared_s + unmet - leave + exclusion)
        scores[Kind.FAILOVER_AND_REPLACE] += real * ((shared_s + at_s) * on_s - leave + excl_s)

    def _exclusion_changes(self, pair: _Pair) -> Floats:
        """Change of location_exclusion_score when the primary goes to each node."""
        state = self.state
        if not state.has_tags:
            return np.zeros((len(pair.which), len(self.online)))
        member = state.loc_member * self.online[:, None]
        pairs = member.T @ real_tag_count(state)
        keys = state.inst.tag_sets
        once = np.stack([(pairs[:, k] > 0).sum(axis=1) for k in keys]).astype(np.float64)
        twice = np.stack([(pairs[:, k] > 1).sum(axis=1) for k in keys]).astype(np.float64)
        sets = state.inst.tag_set[pair.which]
        own = member[pair.p]
        lost, gained = own * twice[sets], (1.0 - own) * once[sets]
        result: Floats = gained @ member.T - (lost.sum(axis=1)[:, None] - lost @ member.T)
        return result

    def _add_failing(self, pair: _Pair, scores: dict[Kind, Floats]) -> None:
        """Instances on nodes that fail N+1, where some fail now or may fail after a forced move."""
        room, need, real = self.room, pair.need, pair.real
        on = self.online
        count = self.counts
        c_p, c_s, c_t = count[pair.p][:, None], count[pair.s][:, None], count[None, :]
        on_p, on_s, on_t = on[pair.p][:, None], on[pair.s][:, None], on[None, :]
        used = need.used_mem
        old = np.where(self.fails & on, count, 0.0)
        old_p, old_s, old_t = old[pair.p][:, None], old[pair.s][:, None], old[None, :]
        r_p = self.state.dyn[R_MEM][pair.p][:, None]
        free_p, free_s = pair.room_p.free, pair.room_s.free

        def part(free: Floats, reserved: Floats, number: Floats, online: Bools) -> Floats:
            return np.where((free <= reserved) & online, number, 0.0)

        s_left = part(free_s, pair.r_s, c_s - real, on_s) - old_s
        s_primary = part(free_s - used, pair.r_s, c_s, on_s) - old_s
        p_left = part(free_p, r_p, c_p - real, on_p) - old_p
        t_primary = part(room.free - used, room.reserved, c_t + real, on_t) - old_t
        scores[Kind.FAILOVER] += s_primary + part(free_p, pair.r_f, c_p, on_p) - old_p
        scores[Kind.REPLACE_SECONDARY] += s_left + part(room.free, pair.r_rs, c_t + real, on_t) - old_t
        scores[Kind.REPLACE_AND_FAILOVER] += s_left + t_primary + part(free_p, pair.r_raf, c_p, on_p) - old_p
        scores[Kind.REPLACE_PRIMARY] += p_left + t_primary + part(free_s, pair.r_rp, c_s, on_s) - old_s
        scores[Kind.FAILOVER_AND_REPLACE] += p_left + s_primary + part(room.free, pair.r_far, c_t + real, on_t) - old_t

    # -- instances on shared storage ----------------------------------------------------------------------------

    def external(self, which: Ints) -> Scores:
        """Scores after moving instances on shared storage to each node."""
        state, rules = self.state, self.rules
        p = state.pri[which]
        need = need_of(state, which)
        off_p = state.nodes.offline[p][:, None]
        result = Scores(which, np.full((len(which), 1), np.inf), {})
        if not rules.instance_moves:
            return result
        checks = primary_conditions(self.room, need, self._conflict(which), state.plain)
        allowed = admitted(checks, off_p | rules.ignore_soft) & self.online[None, :]
        if state.has_migration_tags:
            allowed = allowed & state.may_migrate[p]
        here = vacated(room_of(state, p), need, primary=True)
        nothing = np.zeros((len(which), 1))
        pair = _Pair(which, p, p, need, here, here, off_p, off_p, nothing, nothing)
        _ignored, scores = self._primary_values(pair)
        for metric in self.storage:
            # Only the load of disks and reservations change: shared storage takes nothing from a node.
            at_p, at_t = metric.shift(which, p), metric.shift(which, None)
            left = metric.total - at_p * (metric.centred2[p][:, None] - at_p)
            scores += metric.after(left + at_t * (metric.centred2[None, :] + at_t), at_t - at_p)
        scores += self.reserved.base()
        scores -= 20.0 * off_p * pair.real
        self._add_external_tags(pair, scores)
        self._add_external_failing(pair, scores)
        rows = np.arange(len(which))
        allowed = np.array(allowed)
        allowed[rows, p] = False
        result.by_kind[Kind.FAILOVER_TO_ANY] = np.where(allowed, scores, np.inf)
        return result

    def _add_external_tags(self, pair: _Pair, scores: Floats) -> None:
        dummy = {kind: np.zeros_like(scores) for kind in Kind}
        self._add_tags(pair, dummy)
        scores += dummy[Kind.REPLACE_PRIMARY]
        if self.state.has_locations:
            state, rows = self.state, np.arange(len(pair.which))
            unmet = state.unmet[state.inst.wishes[pair.which]]
            own = state.loc_score[pair.which][:, None]
            on_p = self.online[pair.p][:, None]
            leave = (own + unmet[rows, pair.p][:, None]) * on_p
            scores += pair.real * (own + unmet - leave + self._exclusion_changes(pair))

    def _add_external_failing(self, pair: _Pair, scores: Floats) -> None:
        room, used, on = self.room, pair.need.used_mem, self.online
        old = np.where(self.fails & on, self.counts, 0.0)
        r_p, c_p = self.state.dyn[R_MEM][pair.p][:, None], self.counts[pair.p][:, None]
        on_p = on[pair.p][:, None]
        left = np.where((pair.room_p.free <= r_p) & on_p, c_p - pair.real, 0.0) - old[pair.p][:, None]
        fails = (room.free - used <= room.reserved) & on[None, :]
        scores += left + np.where(fails, self.counts[None, :] + pair.real, 0.0) - old[None, :]

    def scan(self, which: Ints) -> Iterator[Scores]:
        """Scores after every move of these instances, in batches that stay in the processor's cache."""
        inst = self.state.inst
        size = max(1, _BATCH // max(1, len(self.online)))
        for kind, score in ((inst.drbd, self.internal), (inst.external, self.external)):
            members = which[kind[which]]
            for start in range(0, len(members), size):
                yield score(members[start : start + size])


def _at(matrix: Bools | None, columns: Ints) -> Bools | None:
    return None if matrix is None else matrix[np.arange(len(columns)), columns][:, None]
