# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many more instances fit: of one size ("standard"), and of the largest sizes that still fit ("tiered").

The rules are those of Ganeti's hspace, with the same result. The work is less: a size only shrinks in one resource
at a time, and then every place's first obstacle can only move on to a later one. So equal obstacles at both ends of
a row of shrinking sizes are equal for all between, and a size that fits nowhere rules out every larger one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from .admission import Condition, Fail, need_of, primary_conditions, room_of, secondary_conditions
from .allocate import AllocOptions, allowed_nodes, search
from .candidates import pair_places, policy_fails
from .ganeti_n1 import redundant
from .model import AllocPolicy, Instance, Spec
from .redundancy import Level, survives
from .score import bad_items
from .state import R_MEM, Bools, State

#: The steps in which sizes shrink: MiB of memory, MiB of each disk, vCPUs, spindles; also the least sizes.
UNIT_MEMORY, UNIT_DISK, UNIT_CPU, UNIT_SPINDLE = 64, 256, 1, 1


@dataclass(frozen=True, slots=True)
class CapacityOptions:
    """How to count.

    Attributes:
        template: disk template of the imagined instances; None for the first of the policy.
        spindle_use: how many spindles they use; None for the policy's standard.
        limit: at most so many instances; None for no limit.
        standard, tiered: the size, instead of the policy's.
        capacity_checks: losses are survived (for drbd and single nodes reserved memory answers for it).
        survive: which losses, by the definition of redundancy.py; None for Ganeti's "global N+1", as hspace.
        accept_existing: count although some node group fails N+1 already.
        independent: leave out only the groups that fail.
    """

    template: str | None = None
    spindle_use: int | None = None
    limit: int | None = None
    standard: Spec | None = None
    tiered: Spec | None = None
    capacity_checks: bool = True
    survive: Level | None = None
    accept_existing: bool = False
    independent: bool = False


@dataclass(slots=True)
class Filled:
    """A cluster filled up.

    Attributes:
        sizes: the sizes placed, in order. places: their nodes.
        fails: per reason, how many places failed in the end.
        state: the cluster afterwards.
    """

    state: State
    sizes: list[Spec] = field(default_factory=list)
    places: list[tuple[int, ...]] = field(default_factory=list)
    fails: Counter[Fail] = field(default_factory=Counter)

    def steps(self) -> list[tuple[Spec, int]]:
        """Runs of equal sizes with their lengths."""
        result: list[tuple[Spec, int]] = []
        for size in self.sizes:
            if result and result[-1][0] == size:
                result[-1] = (size, result[-1][1] + 1)
            else:
                result.append((size, 1))
        return result


@dataclass(slots=True)
class Capacity:
    """What fits into a cluster."""

    template: str
    initial: State
    tiered_spec: Spec
    tiered: Filled
    standard_spec: Spec
    standard: Filled
    blocked: bool


def capacity(state: State, options: CapacityOptions | None = None) -> Capacity:
    """Fill copies of a state with tiered and with standard sizes."""
    options = options or CapacityOptions()
    policy = state.cluster.policy
    template = options.template or policy.templates[0]
    spindles = policy.std.spindle_use if options.spindle_use is None else options.spindle_use
    allowed, ignored, blocked = _groups(state, options)
    tiers = [options.tiered] if options.tiered else [high for _ignored, high in policy.bounds]
    standard = options.standard or policy.std
    filler = _Filler(template, spindles, allowed, ignored, options)
    if blocked:
        nothing = Counter({Fail.FailN1: 1})
        empty = [Filled(state.copy(), fails=Counter(nothing)) for _ignored in range(2)]
        return Capacity(template, state, tiers[0], empty[0], standard, empty[1], True)
    return Capacity(
        template, state, tiers[0], filler.tiers(state, tiers), standard, filler.standard(state, standard), False
    )


def _groups(state: State, options: CapacityOptions) -> tuple[Bools, list[int], bool]:
    """Which nodes take instances, which groups do not count for redundancy, and whether nothing may be placed."""
    groups = state.cluster.groups
    closed = {k for k, g in enumerate(groups) if g.alloc_policy is AllocPolicy.UNALLOCABLE}
    bad_nodes, _ignored = bad_items(state)
    if not options.accept_existing:
        closed |= {int(state.nodes.group[n]) for n in bad_nodes}
    ignored: list[int] = []
    if options.independent:
        every = range(len(groups))
        ignored = [k for k in every if not _redundant(state, options, set(every) - {k})]
        closed |= set(ignored)
    left = any(k not in closed for k in range(len(groups)))
    blocked = bool(bad_nodes) and not options.accept_existing and not (options.independent and left)
    allowed = allowed_nodes(state, AllocOptions()) & ~np.isin(state.nodes.group, list(closed))
    return allowed, ignored, blocked


def _redundant(state: State, options: CapacityOptions, ignored: Collection[int]) -> bool:
    """Whether losses are survived, but for those in some node groups."""
    if options.survive is None:
        return redundant(state, options.accept_existing, ignored)
    if not ignored:
        return survives(state, options.survive)
    groups = set(state.nodes.group.tolist()) - set(ignored)
    return all(survives(state.subset(group), options.survive) for group in groups)


@dataclass(slots=True)
class _Level:
    """A size that was tried, what had been placed by then, what stood in the way of more, and how many more may be."""

    size: Spec
    placed: int
    fails: Counter[Fail]
    limit: int | None


class _Filler:
    """Fills states with imagined instances of one template."""

    def __init__(
        self, template: str, spindle_use: int, allowed: Bools, ignored: list[int], options: CapacityOptions
    ) -> None:
        self.template, self.spindle_use, self.allowed = template, spindle_use, allowed
        self.options, self.ignored = options, ignored
        self.pair = template == "drbd"
        self.checked = options.capacity_checks and (not self.pair or options.survive not in (None, Level.NODE))
        self.number = -1
        self.proved = False
        self.hopeless: list[Spec] = []
        self.is_good: bool | None = None

    def _instance(self, size: Spec) -> Instance:
        return Instance(
            name="new",
            memory=size.memory,
            disk=size.disk_size,
            vcpus=size.vcpus,
            template=self.template,
            spindle_use=self.spindle_use,
            spindles=size.spindle_use,
            disks=(size.disk_size,),
        )

    def _begin(self, state: State, size: Spec) -> Filled:
        trial = state.copy()
        self.number = trial.append(self._instance(size))
        self.hopeless, self.is_good = [], None
        groups = {trial.cluster.groups[g] for g in trial.nodes.group[self.allowed].tolist()}
        self.lows = [low for group in groups for low, _ignored in group.policy.bounds]
        same = trial.nodes.group[:, None] == trial.nodes.group[None, :]
        pairs = self.allowed[:, None] & self.allowed[None, :] & same
        np.fill_diagonal(pairs, False)
        self.places = pairs if self.pair else self.allowed
        return Filled(trial)

    def standard(self, state: State, size: Spec) -> Filled:
        """Fill with one size."""
        filled = self._begin(state, size)
        self._iterate(filled, size, self.options.limit)
        return filled

    def tiers(self, state: State, sizes: list[Spec]) -> Filled:
        """Fill with ever smaller sizes, from each of the given ones downwards."""
        filled = self._begin(state, sizes[0])
        for size in sizes:
            limit = self.options.limit
            if limit is not None:
                if limit <= len(filled.sizes):
                    break
                limit -= len(filled.sizes)
            self._tiered(filled, size, limit)
        return filled

    # -- one size -------------------------------------------------------------------------------------------------

    def _iterate(self, filled: Filled, size: Spec, limit: int | None) -> None:
        """Place instances of one size until none fits; leaves in filled.fails why."""
        self._set(filled, size)
        left = limit
        if self.checked:
            left = self._leap(filled, size, limit)
        while self._step(filled, size, self.checked, left):
            left = None if left is None else left - 1

    def _set(self, filled: Filled, size: Spec) -> None:
        filled.state.resize(self.number, self._instance(size))

    def _step(self, filled: Filled, size: Spec, checked: bool, limit: int | None) -> bool:
        """Place one instance, or count what stands in the way."""
        place, filled.fails = self._try(filled, checked)
        if place is None or limit == 0:
            return False
        state, i = filled.state, self.number
        state.place(i, place[0], place[1] if self.pair else -1)
        filled.sizes.append(size)
        filled.places.append(place)
        self.hopeless, self.is_good = [], None
        if self.checked:
            self.number = state.append(self._instance(size))
        else:
            # Nobody asks where single instances are: the nodes know all that scores and checks need.
            state.pri[i] = state.sec[i] = -1
        return True

    def _try(self, filled: Filled, checked: bool) -> tuple[tuple[int, ...] | None, Counter[Fail]]:
        """The best place for the current size, and what stands in the way elsewhere."""
        state, i = filled.state, self.number
        if self.pair and not checked:
            obstacles = self._obstacles(state)
            counts = self._count(obstacles)
            if (obstacles != 0).all():
                return None, counts
            return pair_places(state, i, self.allowed).best(), counts
        good = self._good if checked else None
        found = search(state, i, 2 if self.pair else 1, self.allowed, AllocOptions(), good=good)
        return found.nodes or None, found.fails

    def _good(self, state: State) -> bool:
        return _redundant(state, self.options, self.ignored)

    def _leap(self, filled: Filled, size: Spec, limit: int | None) -> int | None:
        """Place many at once and check redundancy then; the result is that of checking each.

        A state that could lose any node could do so with fewer instances, too, so a good end means a good way.
        Returns what is left of the limit.
        """
        avail = np.maximum(0.0, filled.state.unallocated - filled.state.dyn[R_MEM]).sum()
        guess = int(avail // max(1, size.memory)) - len(self.allowed)
        for stride in (max(20, guess), 10):
            while limit is None or limit > 0:
                count = stride if limit is None else min(stride, limit)
                mark = (filled.state.copy(), len(filled.sizes), self.number)
                done = 0
                while done < count and self._step(filled, size, False, None):
                    done += 1
                if not self._good(filled.state):
                    filled.state, kept, self.number = mark
                    del filled.sizes[kept:], filled.places[kept:]
                    break
                limit = None if limit is None else limit - done
                if done < count:
                    return limit
        return limit

    # -- obstacles ------------------------------------------------------------------------------------------------

    def _obstacles(self, state: State) -> np.ndarray:
        """Per place the first check that the current size fails, as a number that grows with the order of checks."""
        i = self.number
        need, room = need_of(state, np.array([i])), room_of(state)
        checks = primary_conditions(room, need, None, state.plain)
        self.reasons = [check[0] for check in checks]
        policy = policy_fails(state, i)
        first = np.where(policy != 0, policy, _first(checks, _PRIMARY)[0])
        if not self.pair:
            return first[self.places]
        second = _first(secondary_conditions(room, need, state.peers.T, None, state.plain), _SECONDARY)
        both: np.ndarray = np.where(first[:, None] != 0, first[:, None], second)[self.places]
        self.reasons_second = _SECOND_REASONS.setdefault(
            (state.plain, bool(room.exclusive.any())),
            [check[0] for check in secondary_conditions(room, need, state.peers.T, None, state.plain)],
        )
        return both

    def _count(self, obstacles: np.ndarray) -> Counter[Fail]:
        numbers = np.bincount(obstacles, minlength=1)
        result: Counter[Fail] = Counter()
        for code in np.flatnonzero(numbers).tolist():
            if code:
                result[self._reason(code)] += int(numbers[code])
        return result

    def _reason(self, code: int) -> Fail:
        if code < _PRIMARY:
            return Fail(code)
        return self.reasons[code - _PRIMARY] if code < _SECONDARY else self.reasons_second[code - _SECONDARY]

    # -- shrinking ------------------------------------------------------------------------------------------------

    def _tiered(self, filled: Filled, size: Spec, limit: int | None) -> None:
        levels: list[_Level] = []
        start: tuple[Spec, int | None] | None = (size, limit)
        while start is not None:
            self._descend(filled, start[0], start[1], levels)
            start = self._climb(filled, levels)

    def _descend(self, filled: Filled, size: Spec, limit: int | None, levels: list[_Level]) -> None:
        """Fill, shrink what fails most, and so on until nothing can shrink any more."""
        while True:
            self._iterate(filled, size, limit)
            placed = len(filled.sizes)
            if limit is not None and limit <= placed:
                return
            limit = None if limit is None else limit - placed
            levels.append(_Level(size, placed, filled.fails, limit))
            worst = _by_count(filled.fails)[-1]
            rows = _row_length(size, worst)
            if not rows:
                return
            same = self._same_obstacles(filled, size, worst, rows) if self.pair and limit is None else 0
            levels += [_Level(_nth(size, worst, k), placed, filled.fails, limit) for k in range(1, same + 1)]
            if same == rows:
                return
            size = _nth(size, worst, same + 1)

    def _same_obstacles(self, filled: Filled, size: Spec, worst: Fail, rows: int) -> int:
        """How many further sizes of a row meet the same obstacles everywhere."""
        obstacles = self._obstacles_of(filled, size)

        def same(k: int) -> bool:
            return np.array_equal(obstacles, self._obstacles_of(filled, _nth(size, worst, k)))

        low, high = 0, 1
        while high <= rows and same(high):
            low, high = high, 2 * high
        high = min(high, rows + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if same(middle) else (low, middle)
        return low

    def _obstacles_of(self, filled: Filled, size: Spec) -> np.ndarray:
        self._set(filled, size)
        return self._obstacles(filled.state)

    def _climb(self, filled: Filled, levels: list[_Level]) -> tuple[Spec, int | None] | None:
        """From the last level upwards, the first size that fits after shrinking some other resource."""
        dead: tuple[Spec, frozenset[Fail]] | None = None
        while levels:
            level = levels.pop()
            if level.placed < len(filled.sizes):
                # Something was placed below this level: that is its result, and that of all above.
                return None
            struck = frozenset(fail for fail, count in level.fails.items() if count)
            if dead is None or not (struck <= dead[1] and _covers(level.size, dead[0])):
                self.proved = True
                for fail in reversed(_by_count(level.fails)):
                    smaller = self._suffices(filled, level.size, fail) if fail in struck else None
                    if smaller is not None:
                        return smaller, level.limit
                # What was proved to fit nowhere, however one resource shrinks, does so for all larger sizes.
                dead = (level.size, struck) if self.proved else None
            filled.fails = level.fails
        return None

    def _suffices(self, filled: Filled, size: Spec, fail: Fail) -> Spec | None:
        """The largest size, shrunk in one resource only, that fits; None if that does not help."""
        rows = _leap_length(size, fail)
        checks = self.options.capacity_checks
        if not rows or self._ruled_out(filled, size, fail):
            return None
        if checks and self.is_good is None:
            self.is_good = self._good(filled.state)
        if checks and not self.is_good:
            # What is not safe before does not become so with one more instance.
            return None
        self.proved = False
        steps = self._first_fitting(filled, size, fail, rows, checks)
        if steps is None:
            self.hopeless.append(_least(size, fail, self.lows))
            return None
        for k in range(steps):
            # Only as long as this resource is in the way somewhere is it worth shrinking.
            if not self._count(self._obstacles_of(filled, _nth(size, fail, k)))[fail]:
                return None
        return _nth(size, fail, steps)

    def _first_fitting(self, filled: Filled, size: Spec, fail: Fail, rows: int, checks: bool) -> int | None:
        """How often one resource must shrink at least until the size fits somewhere: what is smaller fits, too."""
        least = _least(size, fail, self.lows)
        name, unit = _FIELDS[fail]
        low, high = -1, min(rows, int(getattr(size, name) - getattr(least, name)) // unit)

        def fits(k: int) -> bool:
            if (self._obstacles_of(filled, _nth(size, fail, k)) != 0).all():
                return False
            return not checks or self._try(filled, True)[0] is not None

        if not fits(high):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        return high

    def _ruled_out(self, filled: Filled, size: Spec, fail: Fail) -> bool:
        """Whether not even the smallest size of the row that a policy could allow fits anywhere."""
        least = _least(size, fail, self.lows)
        if any(_covers(least, other) for other in self.hopeless):
            return True
        obstacles = self._obstacles_of(filled, least)
        possible = bool((obstacles < _PRIMARY).any())
        if not possible:
            self.hopeless.append(least)
        return not possible


#: Obstacles below this number are violations of a policy; then come checks of the primary, then of the secondary.
_PRIMARY, _SECONDARY = 16, 64
_SECOND_REASONS: dict[tuple[bool, bool], list[Fail]] = {}


def _first(checks: list[Condition], offset: int) -> np.ndarray:
    """The number of the first check that strikes, plus offset; 0 where none does."""
    shape = np.broadcast_shapes(*(where.shape for _fail, _soft, where in checks))
    result = np.zeros(shape, dtype=np.intp)
    for number in range(len(checks) - 1, -1, -1):
        result[np.broadcast_to(checks[number][2], shape)] = offset + number
    return result


def _by_count(fails: Counter[Fail]) -> list[Fail]:
    """All reasons, the most frequent last; among equals the later in the enumeration."""
    return sorted((fail for fail in Fail if fail), key=lambda fail: fails[fail])


_FIELDS = {
    Fail.FailMem: ("memory", UNIT_MEMORY),
    Fail.FailDisk: ("disk_size", UNIT_DISK),
    Fail.FailCPU: ("vcpus", UNIT_CPU),
    Fail.FailSpindles: ("spindle_use", UNIT_SPINDLE),
}


def _row_length(size: Spec, fail: Fail) -> int:
    """How often the resource that a failure is about can shrink."""
    if fail not in _FIELDS:
        return 0
    name, unit = _FIELDS[fail]
    value: int = getattr(size, name)
    return max(0, (value - unit) // unit)


def _leap_length(size: Spec, fail: Fail) -> int:
    """How many sizes of a row are tried when a resource shrinks that is not most in the way: the last is left out.

    That is how hspace does it: of 3 vCPUs it goes to 2 and not to 1, unless vCPUs are what is most in the way.
    """
    return max(0, _row_length(size, fail) - 1)


def _nth(size: Spec, fail: Fail, steps: int) -> Spec:
    """A size with one resource shrunk by so many steps."""
    if not steps:
        return size
    name, unit = _FIELDS[fail]
    return _with(size, name, getattr(size, name) - steps * unit)


def _with(size: Spec, name: str, value: int) -> Spec:
    parts = [size.memory, size.vcpus, size.disk_size, size.disk_count, size.nic_count, size.spindle_use]
    parts[_ORDER.index(name)] = value
    return Spec(*parts)


_ORDER = ("memory", "vcpus", "disk_size", "disk_count", "nic_count", "spindle_use")


def _least(size: Spec, fail: Fail, lows: list[Spec]) -> Spec:
    """A size with one resource shrunk to the least that any policy allows, or as far as hspace tries."""
    name, unit = _FIELDS[fail]
    value: int = getattr(size, name)
    low = min((getattr(bound, name) for bound in lows), default=0)
    steps = min(_leap_length(size, fail), max(0, (value - low) // unit))
    return _nth(size, fail, steps)


def _covers(size: Spec, other: Spec) -> bool:
    """Whether a size is at least as large as another in every resource."""
    return (
        size.memory >= other.memory
        and size.disk_size >= other.disk_size
        and size.vcpus >= other.vcpus
        and size.spindle_use >= other.spindle_use
    )
