# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a score that is counted, not spread: what a batch of moves does to it.

Instances on offline nodes and on nodes that fail N+1, exclusion tags that meet, failure domains that are shared.
"""

from __future__ import annotations

import numpy as np

from .admission import Room, tag_gains
from .moves import Kind
from .pairs import Pair, Targets
from .score import real_tag_count
from .state import N_PRI, N_SEC, R_MEM, Bools, Floats, Ints, State


class Counts:
    """Changes of the counted metrics, from one state."""

    def __init__(self, state: State, online: Bools, targets: Targets) -> None:
        """online are the nodes that count for the score."""
        self.state, self.online, self.targets = state, online, targets
        self.gains = tag_gains(state) if state.has_tags else None
        self.number = state.dyn[N_PRI] + state.dyn[N_SEC]
        self.failing = np.where(state.fails_n1 & online, self.number, 0.0)

    def conflicts(self, which: Ints) -> Bools | None:
        """On which nodes an exclusion tag of each instance is taken; None when no instance has any.

        An instance does not exclude itself: it is never checked against the node that it is primary on.
        """
        if self.gains is None:
            return None
        taken: Bools = self.gains[self.state.inst.tag_set[which]] > 0
        return taken

    def add_internal(self, pair: Pair, room: Room, scores: dict[Kind, Floats], *, forced: bool) -> None:
        """Add the changes of each kind of move to scores.

        Args:
            room: what the targets have. forced: whether a move may make a node fail N+1.
        """
        self._add_offline(pair, scores)
        self._add_tags(pair, scores)
        self._add_locations(pair, scores)
        if self.failing.any() or forced or pair.off_p.any() or pair.off_s.any():
            self._add_failing(pair, room, scores)

    def add_external(self, pair: Pair, room: Room, scores: Floats) -> None:
        """The same for moves of instances on shared storage to each target."""
        scores -= 20.0 * pair.off_p * pair.real
        if self.gains is not None:
            scores += self.targets.row(self._tag_changes(pair).T).T
        if self.state.has_locations:
            own, unmet, leave = self._locations(pair)
            scores += self.targets.row((pair.real * (own + unmet - leave + self._exclusion_changes(pair))).T).T
        counted, p = self.number, pair.p
        r_p = self.state.dyn[R_MEM][p][:, None]
        fails = (pair.room_p.free <= r_p) & self.online[p][:, None]
        scores += np.where(fails, counted[p][:, None] - pair.real, 0.0) - self.failing[p][:, None]
        here, online = self.targets.row(counted), self.targets.flags(self.online)
        fails = (room.free - pair.need.used_mem <= room.reserved) & online
        scores += np.where(fails, here + pair.real, 0.0) - self.targets.row(self.failing)

    def _add_offline(self, pair: Pair, scores: dict[Kind, Floats]) -> None:
        """Primaries (16 each) and any copies (4 each) that leave offline nodes."""
        if not (pair.off_p.any() or pair.off_s.any()):
            return
        off_p, off_s = pair.off_p * pair.real, pair.off_s * pair.real
        scores[Kind.FAILOVER] -= 16.0 * off_p
        scores[Kind.REPLACE_SECONDARY] -= 4.0 * off_s
        scores[Kind.REPLACE_AND_FAILOVER] -= 16.0 * off_p + 4.0 * off_s
        scores[Kind.REPLACE_PRIMARY] -= 20.0 * off_p
        scores[Kind.FAILOVER_AND_REPLACE] -= 20.0 * off_p

    def _add_tags(self, pair: Pair, scores: dict[Kind, Floats]) -> None:
        if self.gains is None:
            return
        gain = self._tag_changes(pair)
        at_s = gain[np.arange(len(pair.which)), pair.s][:, None]
        at_t = self.targets.row(gain.T).T
        scores[Kind.FAILOVER] += at_s
        scores[Kind.REPLACE_AND_FAILOVER] += at_t
        scores[Kind.REPLACE_PRIMARY] += at_t
        scores[Kind.FAILOVER_AND_REPLACE] += at_s

    def _tag_changes(self, pair: Pair) -> Floats:
        """Exclusion tags (2 each) that meet when the primary goes to each node, and part on the old one."""
        state = self.state
        assert self.gains is not None
        gain: Floats = 2.0 * self.gains[state.inst.tag_set[pair.which]] * self.online
        loss = np.array(
            [
                float((state.tag_count[n, state.inst.tag_keys[i]] > 1).sum()) if self.online[n] else 0.0
                for i, n in zip(pair.which, pair.p, strict=True)
            ]
        )
        gain -= 2.0 * loss[:, None]
        return gain

    def _locations(self, pair: Pair) -> tuple[Floats, Floats, Floats]:
        """Per instance the domains that its pair shares, its unmet wishes on each node, and what leaves its primary."""
        state = self.state
        own = state.loc_score[pair.which][:, None]
        unmet = state.unmet[state.inst.wishes[pair.which]]
        at_p = unmet[np.arange(len(pair.which)), pair.p][:, None]
        return own, unmet, (own + at_p) * self.online[pair.p][:, None]

    def _add_locations(self, pair: Pair, scores: dict[Kind, Floats]) -> None:
        """Shared failure domains, unmet wishes, and exclusion tags that share a failure domain."""
        state = self.state
        if not state.has_locations:
            return
        rows, real = np.arange(len(pair.which)), pair.real
        own, unmet, leave = self._locations(pair)
        shared_p = self.targets.rows(state.shared, pair.p)
        shared_s = self.targets.rows(state.shared, pair.s)
        exclusion = self._exclusion_changes(pair)
        at_s, excl_s = unmet[rows, pair.s][:, None], exclusion[rows, pair.s][:, None]
        at_t = self.targets.row((unmet - leave + exclusion).T).T
        on_p, on_s = self.online[pair.p][:, None], self.online[pair.s][:, None]
        scores[Kind.FAILOVER] += real * ((own + at_s) * on_s - leave + excl_s)
        scores[Kind.REPLACE_SECONDARY] += real * ((shared_p - own) * on_p)
        scores[Kind.REPLACE_AND_FAILOVER] += real * (shared_p + at_t)
        scores[Kind.REPLACE_PRIMARY] += real * (shared_s + at_t)
        scores[Kind.FAILOVER_AND_REPLACE] += real * ((shared_s + at_s) * on_s - leave + excl_s)

    def _exclusion_changes(self, pair: Pair) -> Floats:
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

    def _add_failing(self, pair: Pair, room: Room, scores: dict[Kind, Floats]) -> None:
        """Instances on nodes that fail N+1, where some fail now or may fail after a forced move."""
        real, on, old = pair.real, self.online, self.failing
        c_p, c_s = self.number[pair.p][:, None], self.number[pair.s][:, None]
        on_p, on_s, on_t = on[pair.p][:, None], on[pair.s][:, None], self.targets.flags(on)
        c_t, old_t = self.targets.row(self.number), self.targets.row(old)
        old_p, old_s = old[pair.p][:, None], old[pair.s][:, None]
        used = pair.need.used_mem
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
