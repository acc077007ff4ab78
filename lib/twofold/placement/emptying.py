# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Emptying nodes: all instances that leave are given their new places together, and the rules of all instances hold.

Unlike Ganeti's hail (evacuate.py), which moves one instance after the other, each to what is best for it then: here
one that finds no place makes others of those that leave go elsewhere, and who has to stay together goes together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from .admission import Fail
from .affinity import Book
from .evacuate import Evacuation, Mode
from .explain import primary_reason, secondary_reason
from .jointly import Jointly
from .model import Mirror
from .moves import Kind, Move, check_primary
from .redundancy import Level, kept
from .score import score
from .state import Bools, State

Place = tuple[int, int]
#: Why a node cannot take an instance, by instance and node: what only the caller knows.
Refused = Mapping[int, Mapping[int, str]]


@dataclass(frozen=True, slots=True)
class EmptyOptions:
    """How to empty nodes.

    Attributes:
        mode: which of its nodes an instance leaves.
        refused: nodes that cannot take an instance, each with the reason, in words that follow the node's name.
        preferred: nodes to which an instance goes if one of them can take it, whatever the score.
        with_disks: whether an instance on one node's own disks can be moved, which copies them.
        for_a_while: whether they come home later: then affinities too give way where nothing else is left.
        survive: losses of this kind that are survived before are survived afterwards; None to ask for nothing.
    """

    mode: Mode = Mode.ALL
    refused: Refused = field(default_factory=dict)
    preferred: Mapping[int, frozenset[int]] = field(default_factory=dict)
    with_disks: bool = True
    for_a_while: bool = False
    survive: Level | None = None


@dataclass(slots=True)
class Emptied(Evacuation):
    """What became of the instances.

    Attributes:
        overlooked: instances whose primary goes where limits that only keep the cluster healthy forbid it (the memory
            kept for the failure of a node, the ratio of CPUs), and what they are. There was no better node.
    """

    overlooked: dict[int, str] = field(default_factory=dict)


def empty(state: State, book: Book, leaving: Bools, instances: Iterable[int], options: EmptyOptions) -> Emptied:
    """Give the instances places off the nodes that are left; the state is changed.

    Args:
        book: the rules of all instances. leaving: the nodes that are emptied. instances: those that leave them.
    Returns:
        The moves, and per instance that stays why every node is out of the question.
    """
    return _Emptier(state, book, leaving, list(instances), options).run()


class _Emptier(Jointly):
    def __init__(self, state: State, book: Book, leaving: Bools, instances: list[int], options: EmptyOptions) -> None:
        super().__init__(state)
        self.book, self.leaving, self.options = book.on(state), leaving, options
        self.home: dict[int, Place] = {i: (int(state.pri[i]), int(state.sec[i])) for i in instances}
        self.force = False
        self.good = None if options.survive is None else kept(state, options.survive)

    def run(self) -> Emptied:
        result = Emptied()
        result.failed = [(i, why) for i in self.home if (why := self._fixed(i))]
        going = [i for i in self.home if not self._fixed(i)]
        for i in going:
            self.state.unplace(i)
        failed = self.place_all(self._order(going))
        result.overlooked = {i: why for i in failed if (why := self._forced(i))}
        stay = {i: self._reasons(i) for i in failed if i not in result.overlooked}
        for i in stay:
            self.state.place(i, *self.home[i])
        # Who overlooks its own rules for a while goes without the others.
        free = result.overlooked.keys() if self.options.for_a_while else ()
        self._send_back([i for i in going if i not in stay and i not in free], stay)
        result.overlooked = {i: why for i, why in result.overlooked.items() if i not in stay}
        result.failed += sorted(stay.items())
        for i in going:
            if i not in stay:
                self._record(result, i)
        return result

    def _forced(self, i: int) -> str:
        """Put an instance whose primary leaves where only soft limits forbid it; what these are, empty if it stays."""
        if not self._primary_leaves(i):
            return ""
        why = self._reasons(i)
        self.force = True
        done = self.put(i)
        self.force = False
        return why if done else ""

    def _send_back(self, moved: list[int], stay: dict[int, str]) -> None:
        """Who may not be without others that have to stay, stays too."""
        while broken := [i for i in moved if i not in stay and not self.book.kept(i)]:
            for i in broken:
                self.state.unplace(i)
                self.state.place(i, *self.home[i])
                stay[i] = "it has to be with others, or off others, that cannot move"

    def _fixed(self, i: int) -> str:
        """Why an instance cannot leave at all; empty if it can."""
        mirror = self.state.inst.instances[i].mirror
        if mirror is Mirror.NONE and not self.options.with_disks:
            return "its disks are on this node alone"
        if mirror is Mirror.INTERNAL and self.home[i][1] < 0:
            return "it has no second copy to move to"
        return ""

    def _order(self, members: list[int]) -> list[int]:
        """Fewest choices first, then the largest."""
        inst = self.state.inst
        choices = {i: len(self._places(i)) for i in members}
        return sorted(members, key=lambda i: (choices[i], -inst.mem[i], -inst.dsk[i], inst.names[i]))

    def _primary_leaves(self, i: int) -> bool:
        return bool(self.leaving[self.home[i][0]]) and self.options.mode is not Mode.SECONDARY

    def _targets(self, i: int) -> dict[int, Place]:
        """The nodes that an instance could go to, by number, each with the place that it then has."""
        p, s = self.home[i]
        others: list[int] = np.flatnonzero(self.state.nodes.group == self.state.nodes.group[p]).tolist()
        if s < 0:
            return {n: (n, -1) for n in others if n != p}
        if not self._primary_leaves(i):
            return {n: (p, n) for n in others if n not in (p, s)}
        if self.options.mode is Mode.PRIMARY:
            return {s: (s, p)}
        return {n: (s, n) for n in others if n not in (p, s)}

    def _against(self, i: int, n: int, place: Place) -> str:
        """What speaks against a target of an instance that is not placed; empty if nothing does."""
        (home_p, _home_s), (p, s) = self.home[i], place
        nodes = self.state.nodes.names
        as_primary, as_secondary = self.book.forbidden(i)
        if p != home_p and (why := self._primary(i, p, as_primary[p])):
            return why if p == n else f"its second copy is on {nodes[p]}, which {why}"
        if s < 0 or s == home_p:
            return ""
        if self.leaving[s]:
            return "is being emptied"
        why = self.options.refused.get(i, {}).get(s) or as_secondary[s]
        if not why and not self.book.apart(i)[p, s]:
            why = f"may fail together with {nodes[p]}"
        return why or secondary_reason(self.state, i, s, p)

    def _primary(self, i: int, p: int, rule: str) -> str:
        if self.leaving[p]:
            return "is being emptied"
        give_way = self.force and self.options.for_a_while
        why = self.options.refused.get(i, {}).get(p) or ("" if give_way else rule)
        if why or self.state.nodes.offline[p]:
            return why or "is offline or drained"
        if self.force:
            fail = check_primary(self.state, i, p, forced=True)
            return "" if fail is Fail.NONE else primary_reason(self.state, i, p, new=False)
        return primary_reason(self.state, i, p, new=False)

    def _places(self, i: int) -> list[Place]:
        return [place for n, place in self._targets(i).items() if not self._against(i, n, place)]

    def _reasons(self, i: int) -> str:
        """Why an instance that is not placed can go nowhere."""
        names, found = self.state.nodes.names, []
        for n, place in self._targets(i).items():
            found.append(f"{names[n]} {self._against(i, n, place) or 'would leave another one without a place'}")
        return "; ".join(found) or "there is no other node"

    def put(self, i: int) -> bool:
        """Put an instance at its best place off the nodes that are emptied."""
        state, liked = self.state, self.options.preferred.get(i, frozenset())
        scope = state.nodes.group == state.nodes.group[self.home[i][0]]
        ranked: list[tuple[bool, float, Place]] = []
        wishes = self.book.penalty(i, self.home[i][1] >= 0)
        for p, s in self._places(i):
            state.place(i, p, s)
            value = score(state, scope) + float(wishes[p] if s < 0 else wishes[p, s])
            ranked.append((not liked & {p, s}, value, (p, s)))
            state.unplace(i)
        for _liked, value, (p, s) in sorted(ranked):
            state.place(i, p, s)
            if self.good is None or self.force or self.good(state):
                self.scores[i] = value
                return True
            state.unplace(i)
        return False

    def _record(self, result: Emptied, i: int) -> None:
        p, s = int(self.state.pri[i]), int(self.state.sec[i])
        nodes = tuple(n for n in (p, s) if n >= 0)
        result.moved.append((i, int(self.state.nodes.group[p]), nodes))
        result.jobs.append([_move(i, self.home[i], (p, s))])


def _move(i: int, home: Place, place: Place) -> Move:
    if home[1] < 0:
        return Move(i, Kind.FAILOVER_TO_ANY, place[0])
    if place == (home[1], home[0]):
        return Move(i, Kind.FAILOVER)
    kind = Kind.REPLACE_SECONDARY if place[0] == home[0] else Kind.FAILOVER_AND_REPLACE
    return Move(i, kind, place[1])
