# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Losses: what they hurt, and that asking for all pairs of nodes at once gives what asking for each gives."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.differential import generate

from twofold.placement.affinity import Book
from twofold.placement.allocate import AllocOptions, safe, search
from twofold.placement.balance import Budget, balance
from twofold.placement.capacity import CapacityOptions, capacity
from twofold.placement.emptying import EmptyOptions, empty
from twofold.placement.evacuate import Mode
from twofold.placement.model import AllocPolicy, Cluster, Group, Instance, Node, Spec
from twofold.placement.moves import Move, apply
from twofold.placement.placing import PlaceOptions, Request, place
from twofold.placement.redundancy import Level, domain_losses, double_losses, loss, single_losses, survives
from twofold.placement.room import make_room
from twofold.placement.state import State

GROUP = Group("g", "u")
SHAPE = generate.Shape(nodes=(3, 7), groups=(1, 2), per_node=(2, 9), offline=0.15)


def test_losses_name_the_instance_and_the_reason() -> None:
    nodes = tuple(
        Node(f"n{k}", 8000, 0, 8000 - used, 100000, 90000, 8, "u", tags=(f"rack:{k // 2}",))
        for k, used in enumerate((3000, 4000, 7000, 0))
    )
    instances = (
        Instance("pair", 3000, 1000, 1, "n0", "n1"),
        Instance("tight", 4000, 1000, 1, "n1", "n2"),
        Instance("only", 7000, 1000, 1, "n2", template="plain"),
    )
    state = State(Cluster((GROUP,), nodes, instances, ("htools:nlocation:rack",)))
    single = {one.what: [(state.inst.names[h.instance], h.reason) for h in one.hurt] for one in single_losses(state)}
    assert single == {
        "node n1": [("tight", "n2 has no memory for it: needs 4000 MiB, has 1000 MiB")],
        "node n2": [("only", "the only copy of its disks is lost")],
    }
    double = {one.what: [h.reason for h in one.hurt] for one in double_losses(state)}
    assert double["nodes n0 and n1"] == ["both copies of its disks are lost"]
    domains = {one.what: [state.inst.names[h.instance] for h in one.hurt] for one in domain_losses(state)}
    assert domains == {"failure domain rack:0": ["tight", "pair"], "failure domain rack:1": ["only"]}


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_pairs_at_once_equal_pairs_one_by_one(seed: int) -> None:
    state = State(generate.cluster(seed, SHAPE))
    online = np.flatnonzero(state.online).tolist()
    alone = {n: {h.instance for h in loss(state, "", [n]).hurt} for n in online}
    expected = {}
    for a, b in combinations(online, 2):
        hurt = {h for h in loss(state, "", [a, b]).hurt if h.instance not in alone[a] | alone[b]}
        if hurt:
            expected[a, b] = hurt
    assert {one.nodes: set(one.hurt) for one in double_losses(state)} == expected


def placed(*pairs: tuple[str, str], memory: int = 8000, template: str = "drbd", need: int = 3000) -> State:
    """Four nodes, two in each rack, with an instance on each of the pairs."""
    used = {f"n{k}": sum(need for p, _s in pairs if p == f"n{k}") for k in range(4)}
    nodes = tuple(
        Node(name, memory, 0, memory - gone, 100000, 90000, 8, "u", tags=(f"rack:{name in ('n2', 'n3')}",))
        for name, gone in used.items()
    )
    instances = tuple(
        Instance(f"i{k}", need, 1000, 1, p, s if template == "drbd" else "", template=template)
        for k, (p, s) in enumerate(pairs)
    )
    return State(Cluster((GROUP,), nodes, instances, ("htools:nlocation:rack",)))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        # One pair across racks survives all that two copies can survive.
        (placed(("n0", "n2")), {Level.NODE, Level.TWO, Level.DOMAIN}),
        # Both copies in one rack: the rack must not be lost.
        (placed(("n0", "n1")), {Level.NODE, Level.TWO}),
        # Two instances need 6000 of n3's 5000 when both their primaries are gone, which share a rack.
        (placed(("n0", "n3"), ("n1", "n3"), memory=5000), {Level.NODE}),
        # Each node has 2000 left, and would have to take over 3000.
        (placed(("n0", "n2"), ("n2", "n0"), memory=5000), set()),
    ],
)
def test_levels(state: State, expected: set[Level]) -> None:
    assert {level for level in Level if survives(state, level)} == expected


def test_one_copy_is_not_asked_to_survive() -> None:
    state = placed(("n0", ""), template="plain")
    assert all(survives(state, level) for level in Level)
    assert [one.what for one in single_losses(state)] == ["node n0"]


def test_shared_storage_counts_the_room_of_all() -> None:
    # 9000 MiB run; any two of four nodes of 8000 can run them, one node alone could not.
    state = placed(("n0", ""), ("n1", ""), ("n2", ""), template="ext")
    assert survives(state, Level.TWO)
    # Each node can take one more: three of them two, but two of them not four.
    full = placed(*((f"n{k}", "") for k in range(4) for _ignored in range(2)), template="ext", need=2000)
    assert survives(full, Level.NODE)
    assert not survives(full, Level.TWO)
    assert len(double_losses(full)) == 6


# -- one definition, whoever asks -------------------------------------------------------------------------------------

MIXED = generate.Shape(
    nodes=(3, 6), per_node=(1, 4), offline=0.1, locations=0.7, templates=("drbd", "drbd", "ext", "plain")
)
levels = st.sampled_from(list(Level))
few = settings(max_examples=30, deadline=None)


@given(st.integers(0, 10**6))
@few
def test_sums_say_what_going_through_the_losses_says(seed: int) -> None:
    state = State(generate.cluster(seed, MIXED))
    hurt = [h for one in single_losses(state) for h in one.hurt if not h.data and not h.alone]
    assert survives(state, Level.NODE) == (not any(state.inst.auto[h.instance] for h in hurt))


def survived_all_along(start: State, moves: list[Move], level: Level) -> bool:
    trial = start.copy()
    for move in moves:
        apply(trial, move)
        if not survives(trial, level):
            return False
    return True


@given(st.integers(0, 10**6), levels)
@few
def test_balancing_and_making_room_keep_what_is_survived(seed: int, level: Level) -> None:
    world = generate.cluster(seed, MIXED)
    start = State(world)
    if not survives(start, level):
        return
    balanced = balance(start.copy(), budget=Budget(survive=level))
    assert survived_all_along(start, [step.move for step in balanced.plan.steps], level)
    free = max(node.free_memory for node in world.nodes)
    new = Instance("new", min(int(free * 0.9), 16384), 1024, 1, template="drbd", disks=(1024,))
    roomy, i = State(world, extra=[new]), len(world.instances)
    found = make_room(roomy, i, AllocOptions(own=True, survive=level))
    if found is not None:
        assert survived_all_along(roomy, list(found.moves), level)
        trial = roomy.copy()
        for move in found.moves:
            apply(trial, move)
        trial.place(i, *found.found.nodes)
        assert survives(trial, level)


@given(st.integers(0, 10**6), levels)
@few
def test_placing_allocating_and_emptying_keep_what_is_survived(seed: int, level: Level) -> None:
    world = generate.cluster(seed, MIXED)
    start = State(world)
    if not survives(start, level):
        return
    for k, template in enumerate(("drbd", "ext")):
        request = Request(f"new{k}", 2000, 1, (1024,), template)
        (placed_,) = place(world, [request], PlaceOptions(survive=level))
        state, i = State(world, extra=[request.instance()]), len(world.instances)
        if placed_.nodes:
            state.place(i, *[state.nodes.names.index(n) for n in placed_.nodes], *([] if template == "drbd" else [-1]))
            assert survives(state, level)
            state.unplace(i)
        options = AllocOptions(own=True, survive=level)
        found = search(state, i, 2 if template == "drbd" else 1, state.online, options, good=safe(state, options))
        assert bool(found.nodes) == bool(placed_.nodes) or world.groups[0].alloc_policy is not AllocPolicy.PREFERRED
        if found.nodes:
            state.place(i, *found.nodes, *([] if template == "drbd" else [-1]))
            assert survives(state, level)
    leaving = np.arange(len(start.nodes.names)) == seed % len(start.nodes.names)
    which = np.flatnonzero(leaving[start.pri]).tolist()
    done = empty(start, Book(start, {}), leaving, which, EmptyOptions(Mode.PRIMARY, survive=level))
    assert done.overlooked or survives(start, level)


def test_what_fits_is_what_is_survived() -> None:
    state = placed(("n0", ""), ("n1", ""), template="ext")
    size = Spec(2000, 1, 1024)
    counts = {
        level: len(capacity(state, CapacityOptions("ext", standard=size, survive=level)).standard.sizes)
        for level in (Level.NODE, Level.TWO)
    }
    # 4 nodes of 8000 MiB with 6000 used: three nodes hold all, or two.
    assert counts[Level.TWO] < counts[Level.NODE]
    for level, count in counts.items():
        filled = capacity(state, CapacityOptions("ext", standard=size, survive=level)).standard
        assert survives(filled.state, level) or count == 0


def test_a_guest_for_which_no_memory_is_kept_is_not_asked_to_survive() -> None:
    state = placed(("n0", "n2"), ("n2", "n0"), memory=5000)
    assert not survives(state, Level.NODE)
    careless = tuple(replace(one, auto_balance=False) for one in state.cluster.instances)
    assert survives(State(replace(state.cluster, instances=careless)), Level.NODE)


def test_the_only_node_has_nobody_to_take_over() -> None:
    nodes = (Node("n0", 8000, 0, 5000, 100000, 90000, 8, "u"),)
    state = State(Cluster((GROUP,), nodes, (Instance("one", 3000, 0, 1, "n0", template="ext"),)))
    assert all(survives(state, level) for level in Level)
