# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Placing several instances together: where one finds no place, others of them make room.

First one that was placed already is put elsewhere; then the order is changed, so that what found no place goes first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from .state import State


class Jointly(ABC):
    """Instances that are placed together; the state has all others where they are.

    Attributes:
        scores: the score that each had at its place, when it was put there.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.scores: dict[int, float] = {}

    @abstractmethod
    def put(self, i: int) -> bool:
        """Place instance i, which is not placed, at its best place, and keep its score; whether there is one."""

    def place_all(self, order: list[int]) -> list[int]:
        """Place the instances in that order or, if that leaves some without a place, in others; those left over."""
        members, best = list(order), (list(order), dict[int, tuple[int, int]]())
        for _ignored in range(len(order)):
            failed = self._attempt(order)
            if not best[1] or len(failed) < len(best[0]):
                best = (failed, self._where(members))
            if not failed or order[0] == failed[0]:
                break
            # What found no place goes first next time.
            order = [*failed, *(i for i in order if i not in failed)]
            self._clear(members)
        self._clear(members)
        for i, (p, s) in best[1].items():
            self.state.place(i, p, s)
        return best[0]

    def _attempt(self, order: list[int]) -> list[int]:
        failed = [i for i in order if not self.put(i)]
        return [i for i in failed if not self._make_room(i, order)]

    def _make_room(self, i: int, order: list[int]) -> bool:
        """Place an instance by putting one other elsewhere."""
        for j in order:
            if j == i or self.state.pri[j] < 0:
                continue
            p, s, score = int(self.state.pri[j]), int(self.state.sec[j]), self.scores[j]
            self.state.unplace(j)
            if self.put(i):
                if self.put(j):
                    return True
                self.state.unplace(i)
            self.state.place(j, p, s)
            self.scores[j] = score
        return False

    def _where(self, members: list[int]) -> dict[int, tuple[int, int]]:
        pri, sec = self.state.pri, self.state.sec
        return {i: (int(pri[i]), int(sec[i])) for i in members if pri[i] >= 0}

    def _clear(self, members: list[int]) -> None:
        for i in self._where(members):
            self.state.unplace(i)
