# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes can take which instances, kept up to date node by node.

What a node says to an instance that comes from elsewhere depends on the two alone. A move changes three nodes at
most, so only their columns are asked again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .admission import Condition, Need, Room, admitted, need_of, room_of
from .state import Bools, Ints, State

#: Elements that are asked for at once; instances from which on others are asked for in advance.
_BATCH, _MANY = 65536, 32

Checks = Callable[[Room, Need, Ints, Ints], list[Condition]]
"""The checks that nodes (their room and numbers) make on instances (their need and numbers)."""


class Fits:
    """The answers to one kind of checks, per instance (row) and target (column)."""

    def __init__(self, state: State, checks: Checks, targets: Ints, *, forced: bool) -> None:
        """targets are the numbers of the nodes to ask; forced leaves out the soft checks."""
        self.state, self.checks, self.targets, self.forced = state, checks, targets, forced
        self._answers = np.zeros((len(state.inst.names), len(targets)), dtype=bool)
        # When each instance asked last, and when each node changed last.
        self._asked: Ints = np.full(len(state.inst.names), -1, dtype=np.intp)
        self._changed: Ints = np.zeros(len(state.nodes.names), dtype=np.intp)
        self._now = 0

    def of(self, which: Ints) -> Bools:
        """The answers for some instances."""
        changed = self._changed[self.targets]
        last = changed.max(initial=0)
        outdated = which[self._asked[which] < last]
        if len(outdated):
            columns = np.flatnonzero(changed > self._asked[outdated].min())
            if len(outdated) >= _MANY:
                # The next ones will want to know, too; while it is little, that is cheaper at once.
                others = np.flatnonzero((self._asked >= self._asked[outdated].min()) & (self._asked < last))
                outdated = others if len(others) * len(columns) <= _BATCH else outdated
            self._ask(outdated, columns)
            self._asked[outdated] = self._now
        answers: Bools = self._answers[which]
        return answers

    def refresh(self, changed: Ints) -> None:
        """These nodes have changed."""
        self._now += 1
        self._changed[changed] = self._now

    def _ask(self, which: Ints, columns: Ints) -> None:
        nodes = self.targets[columns]
        room = room_of(self.state, among=nodes)
        size = max(1, _BATCH // max(1, len(nodes)))
        for start in range(0, len(which), size):
            part = which[start : start + size]
            good = admitted(self.checks(room, need_of(self.state, part), part, nodes), self.forced)
            self._answers[np.ix_(part, columns)] = good
