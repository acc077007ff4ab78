# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding the nodes for a new instance: the best score among the places that keep the cluster safe.

As Ganeti's hail does it or, in a way of its own, by the rules of instances and by the one definition of redundancy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .admission import Fail
from .candidates import Places, pair_places, single_places
from .errors import RequestError
from .ganeti_n1 import redundant
from .model import AllocPolicy, Group, Instance
from .redundancy import Level, kept
from .state import Bools, State

if TYPE_CHECKING:
    from .affinity import Book, Rules


@dataclass(frozen=True, slots=True)
class AllocOptions:
    """How to allocate.

    Attributes:
        ignore_soft: overlook soft limits of the primary.
        capacity_checks: refuse places that leave the cluster unable to survive the loss of a node.
        accept_existing: do not ask about nodes that are offline already.
        restrict: names of the only nodes to use; None for all.
        own: not hail's way: redundancy is that of redundancy.py, and the rules of instances hold.
        survive: what has to be survived then. rules: by instance. weights: of wishes, by label.
    """

    ignore_soft: bool = False
    capacity_checks: bool = True
    accept_existing: bool = False
    restrict: tuple[str, ...] | None = None
    own: bool = False
    survive: Level = Level.NODE
    rules: Mapping[str, Rules] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    def book(self, state: State) -> Book:
        """The rules of all instances of a state."""
        # Most requests have no rules: what reads them is loaded for those that have.
        from .affinity import Book

        known = set(state.inst.names)
        return Book(state, {name: rule for name, rule in self.rules.items() if name in known}, self.weights)


@dataclass(slots=True)
class Found:
    """What a search came to.

    Attributes:
        nodes: the numbers of the chosen nodes (primary first); empty if there is no place.
        score: the score with the instance there.
        fails: how often each reason struck. successes: number of possible places.
        log: what was considered, in words.
    """

    nodes: tuple[int, ...] = ()
    score: float = float("inf")
    fails: Counter[Fail] = field(default_factory=Counter)
    successes: int = 0
    log: list[str] = field(default_factory=list)


def required_nodes(instance: Instance) -> int:
    """How many nodes an instance takes."""
    return 2 if instance.template == "drbd" else 1


def search(
    state: State,
    i: int,
    count: int,
    allowed: Bools,
    options: AllocOptions,
    *,
    within: Bools | None = None,
    good: Callable[[State], bool] | None = None,
    primary: int | None = None,
) -> Found:
    """The best place of an instance among the allowed nodes.

    Args:
        i: number of an instance that is not placed. count: 1 or 2 nodes.
        within: nodes whose score counts. good: a further condition on the cluster with the instance in place.
        primary: the only primary to consider; None for all.
    """
    places = (single_places if count == 1 else pair_places)(state, i, allowed, options.ignore_soft, within)
    if primary is not None:
        others = np.arange(len(allowed)) != primary
        places.score[others], places.fail[others] = np.inf, Fail.FailInternal
    if options.rules:
        _obey(places, options.book(state), i, mirrored=count > 1)
    found = Found(fails=_counts(places))
    ranked = places.ranked(None if good else 1)
    found.successes = int(np.isfinite(places.score).sum())
    for place in ranked:
        if good is None or _holds(state, i, place, good):
            found.nodes, found.score = place, float(places.score[place])
            break
        found.fails[Fail.FailN1] += 1
        found.successes -= 1
    return found


def _obey(places: Places, book: Book, i: int, *, mirrored: bool) -> None:
    """Take out what the rules forbid, which counts as a conflict of tags, and add what breaking wishes costs."""
    allowed = book.allowed(i, mirrored)
    places.fail[~allowed & (places.fail == 0)] = Fail.FailTags
    places.score[:] = np.where(allowed, places.score + book.penalty(i, mirrored), np.inf)


def _counts(places: Places) -> Counter[Fail]:
    numbers = np.bincount(places.fail.ravel(), minlength=len(Fail))
    result = Counter({fail: int(numbers[fail]) for fail in Fail if fail and numbers[fail]})
    # What was never to be considered did not fail.
    del result[Fail.FailInternal]
    return result


def _holds(state: State, i: int, place: tuple[int, ...], good: Callable[[State], bool]) -> bool:
    old = int(state.pri[i]), int(state.sec[i]), float(state.loc_score[i])
    state.place(i, place[0], place[1] if len(place) > 1 else -1)
    new = int(state.pri[i]), int(state.sec[i]), float(state.loc_score[i])
    try:
        holds = good(state)
        if holds and old[0] >= 0:
            # An instance that changes its node group takes room in both until it has moved.
            state.pri[i], state.sec[i], state.loc_score[i] = old
            holds = good(state)
        return holds
    finally:
        state.pri[i], state.sec[i], state.loc_score[i] = new
        state.unplace(i)
        state.pri[i], state.sec[i], state.loc_score[i] = old


def describe(state: State, found: Found) -> str:
    """A search's outcome in hail's words."""
    reasons = ", ".join(f"{fail.name}: {found.fails[fail]}" for fail in Fail if found.fails[fail])
    if not found.nodes:
        return f"No valid allocation solutions, failure reasons: {reasons or 'unknown reasons'}"
    names = "/".join(state.nodes.names[n] for n in found.nodes)
    failed = sum(found.fails.values())
    return f"score: {found.score:.8f}, successes {found.successes}, failures {failed} ({reasons}) for node(s) {names}"


def safe(state: State, options: AllocOptions) -> Callable[[State], bool] | None:
    """The condition that losses are survived, unless that is not asked for."""
    if not options.capacity_checks:
        return None
    if options.own:
        return kept(state, options.survive)
    return lambda trial: redundant(trial, skip_offline=options.accept_existing)


def allowed_nodes(state: State, options: AllocOptions) -> Bools:
    """The nodes that may take new instances at all."""
    allowed = state.online
    if options.restrict is not None:
        allowed = allowed & np.isin(state.nodes.names, options.restrict)
    return allowed


def connected(group: Group, instance: Instance) -> bool:
    """Whether a node group has every network that an instance needs."""
    return set(instance.networks) <= set(group.networks)


def in_group(state: State, i: int, count: int, name: str, options: AllocOptions) -> Found:
    """Allocate in the node group of that name (or UUID); only its nodes count for the score.

    Raises:
        RequestError: for an unknown group, one without the instance's networks, or one without enough nodes.
    """
    number = state.group_number(name)
    group, instance = state.cluster.groups[number], state.inst.instances[i]
    if not connected(group, instance):
        raise RequestError(f"The group {group.name} is not connected to a network required by instance {instance.name}")
    members = state.nodes.group == number
    allowed = allowed_nodes(state, options) & members
    _enough(int(allowed.sum()), count)
    found = search(state, i, count, allowed, options, within=members, good=_safe_in(state, members, options))
    found.log = [f"Group {group.name} ({group.alloc_policy.value}): {describe(state, found)}"]
    return found


def _safe_in(state: State, members: Bools, options: AllocOptions) -> Callable[[State], bool] | None:
    """The condition of safe() for the nodes of one group alone, where hail asks only about these."""
    if options.own or not options.capacity_checks:
        return safe(state, options)
    others = set(state.nodes.group.tolist()) - set(state.nodes.group[members].tolist())
    return lambda trial: redundant(trial, options.accept_existing, others)


def _enough(available: int, count: int) -> None:
    if count not in (1, 2):
        raise RequestError(f"unsupported number of nodes {count}: expected 1 or 2")
    if available < count:
        raise RequestError("No online nodes" if count == 1 else "Not enough online nodes")


def anywhere(
    state: State, i: int, count: int, options: AllocOptions, groups: list[int] | None = None
) -> tuple[int, Found]:
    """Allocate in the best node group: preferred groups first, then the lowest score of the whole cluster.

    Args:
        groups: numbers of the only groups to consider; None for all.
    Returns:
        The number of the group and what was found.
    Raises:
        RequestError: when no group can take the instance; the message says why for each.
    """
    results: list[tuple[int, Found]] = []
    messages: list[str] = []
    for number in sorted(set(state.nodes.group.tolist())):
        if groups is not None and number not in groups:
            continue
        group, instance = state.cluster.groups[number], state.inst.instances[i]
        if not connected(group, instance):
            network = f"group {group.name} is not connected to a network required by instance {instance.name}"
            messages.append(network)
            continue
        allowed = allowed_nodes(state, options) & (state.nodes.group == number)
        try:
            _enough(int(allowed.sum()), count)
        except RequestError as error:
            messages.append(f"Group {group.name}: error {error}")
            continue
        found = search(state, i, count, allowed, options, good=safe(state, options))
        messages.append(f"Group {group.name} ({group.alloc_policy.value}): {describe(state, found)}")
        if found.nodes and group.alloc_policy is not AllocPolicy.UNALLOCABLE:
            results.append((number, found))
    if not results:
        raise RequestError(", ".join(messages) or "no group to allocate in")
    # Among equals the later group wins, as with nodes.
    number, found = min(
        reversed(results), key=lambda one: (state.cluster.groups[one[0]].alloc_policy.rank, one[1].score)
    )
    found.log = [f"Selected group: {state.cluster.groups[number].name}", *messages]
    return number, found
