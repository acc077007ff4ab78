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
from dataclasses import dataclass, field

import numpy as np

from .admission import (
    Condition,
    Need,
    Room,
    admitted,
    need_of,
    overloaded,
    primary_conditions,
    room_of,
    secondary_conditions,
    tag_gains,
    vacated,
)
from .fits import Fits
from .moves import Kind
from .score import SPREAD, WEIGHTS, metrics_of, node_values, real_tag_count, weigh
from .spread import Spread, Spreads
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
        self._fits: dict[tuple[str, bool], Fits] = {}
        self.refresh()

    def refresh(self, changed: Iterable[int] | None = None) -> None:
        """Take in the state as it is now; changed are the only nodes that are different, if that is known."""
        state = self.state
        if changed is not None:
            nodes = np.array(sorted(changed), dtype=np.intp)
            self.peers_t[:, nodes] = state.peers[nodes].T
            for fits in self._fits.values():
                fits.refresh(nodes)
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
        drbd = np.flatnonzero(inst.drbd)
        self.example = int(drbd[0]) if len(drbd) else 0
        self.flat = {
            name: len(drbd) > 0 and bool(np.all(need[drbd] == need[drbd[0]])) for name, need in self.needs.items()
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

    def _spread(self, row: int, weight: float, *names: str) -> Spread:
        """The metric of a row of node_values(), shifted by the named needs."""
        slopes = [self.slopes[name.removesuffix("_forth").rstrip("0123")] for name in names]
        flat = all(self.flat[name] for name in names)
        return Spread(weight, self.values[row], self.online, [self.needs[name] for name in names], slopes, flat=flat)

    def _spreads(self) -> None:
        """Group the metrics by what shifts them; those that cannot differ are counted once, their weights added."""
        w, v, double = WEIGHTS[list(SPREAD)], self.values, self.state.plain
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
        self.reserved = Spread(w[2], self.values[2], self.online, [], [])

    # -- instances with two copies ------------------------------------------------------------------------------

    def internal(self, which: Ints) -> Scores:
        """Scores after every move of instances whose disks have two copies (drbd)."""
        rules, pair = self.rules, self._pair(which)
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
        scores, rows = self._values(pair), np.arange(len(which))
        allowed = self._allowed(pair)
        for kind, matrix in scores.items():
            good = allowed[kind] if gates[kind].all() else allowed[kind] & gates[kind]
            scores[kind] = np.where(good, matrix, np.inf)
        result = Scores(which, scores.pop(Kind.FAILOVER), scores if rules.disk_moves else {})
        for matrix in result.by_kind.values():
            matrix[rows, pair.p] = matrix[rows, pair.s] = np.inf
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
        """Where each kind of move is allowed; needs the memory that _reserved_values() found."""
        need, simple, ignore = pair.need, self.state.plain, self.rules.ignore_soft
        room_p, room_s = pair.room_p, pair.room_s
        on_s = primary_conditions(room_s, need, _at(self._conflict(pair.which), pair.s), simple)
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
            allowed[Kind.REPLACE_AND_FAILOVER] = allowed[Kind.REPLACE_AND_FAILOVER] & may[pair.p]
            allowed[Kind.REPLACE_PRIMARY] = allowed[Kind.REPLACE_PRIMARY] & swap & may[pair.s]
            allowed[Kind.FAILOVER_AND_REPLACE] = allowed[Kind.FAILOVER_AND_REPLACE] & swap
        return allowed

    def _targets(self, role: str, which: Ints, forced: Bools) -> Bools:
        """Which targets take which instances in a role, but for memory reserved per peer; forced is per instance."""
        if not forced.any():
            return self._fit(role, False).of(which) & self.online
        hard = self._fit(role, True).of(which)
        if not forced.all():
            hard = np.where(forced, hard, self._fit(role, False).of(which))
        return hard & self.online

    def _fit(self, role: str, forced: bool) -> Fits:
        key = (role, forced)
        if key not in self._fits:
            checks = self._primary_checks if role == "primary" else self._secondary_checks
            self._fits[key] = Fits(self.state, checks, forced=forced)
        return self._fits[key]

    def _primary_checks(self, room: Room, need: Need, which: Ints, nodes: Ints) -> list[Condition]:
        conflict = self._conflict(which)
        return primary_conditions(room, need, None if conflict is None else conflict[:, nodes], self.state.plain)

    def _secondary_checks(self, room: Room, need: Need, _which: Ints, _nodes: Ints) -> list[Condition]:
        return secondary_conditions(room, need, None, None, self.state.plain)

    def _conflict(self, which: Ints) -> Bools | None:
        if self.gains is None:
            return None
        taken: Bools = self.gains[self.state.inst.tag_set[which]] > 0
        # An instance does not exclude itself; it is never checked against the node that it is primary on.
        return taken

    def _values(self, pair: _Pair) -> dict[Kind, Floats]:
        to_s = self.primary.moved_to(pair.which, pair.p, pair.s) + self.rest
        to_t = self.primary.moved(pair.which, pair.p) + self.rest
        from_s = self.storage.moved(pair.which, pair.s)
        from_p = self.storage.moved(pair.which, pair.p)
        stay = self.rest + self.primary.base()
        scores = self._reserved_values(pair)
        scores[Kind.FAILOVER] += to_s + self.storage.base()
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
        allowed = self._targets("primary", which, off_p | rules.ignore_soft)
        if state.has_migration_tags:
            allowed = allowed & state.may_migrate[p]
        here = vacated(room_of(state, p), need, primary=True)
        nothing = np.zeros((len(which), 1))
        pair = _Pair(which, p, p, need, here, here, off_p, off_p, nothing, nothing)
        # Of the storage only the load of disks changes: shared storage takes nothing from a node.
        scores = self.primary.moved(which, p, same=False) + self.storage.moved(which, p, same=False)
        scores += self.rest + self.reserved.base()
        scores -= 20.0 * off_p * pair.real
        self._add_external_tags(pair, scores)
        self._add_external_failing(pair, scores)
        scores = np.where(allowed, scores, np.inf)
        scores[np.arange(len(which)), p] = np.inf
        result.by_kind[Kind.FAILOVER_TO_ANY] = scores
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
