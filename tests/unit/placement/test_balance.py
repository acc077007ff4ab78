# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Balancing beyond greedy: local optima, budgets, rules, and room for what does not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from twofold.placement.affinity import Book, Rules
from twofold.placement.allocate import AllocOptions
from twofold.placement.balance import Budget, balance
from twofold.placement.greedy import balance as greedy_balance
from twofold.placement.model import Cluster, Group, Instance, Node
from twofold.placement.room import make_room
from twofold.placement.scan import Rules as MoveRules
from twofold.placement.state import State

GROUP = Group("g", "u")


def cluster(sizes: list[list[tuple[int, int]]], memory: int = 16384) -> Cluster:
    """Nodes that each run instances of shared storage with these (memory, vcpus)."""
    nodes: list[Node] = []
    instances: list[Instance] = []
    for n, here in enumerate(sizes):
        free = memory - sum(mem for mem, _ignored in here)
        nodes.append(Node(f"n{n}", memory, 0, free, 100000, 100000, 16, "u", node_cpus=0))
        for mem, vcpus in here:
            instances.append(Instance(f"i{len(instances)}", mem, 0, vcpus, f"n{n}", template="ext"))
    return Cluster((GROUP,), tuple(nodes), tuple(instances))


def test_a_swap_leads_out_of_a_local_optimum() -> None:
    # Two instances each, but the large ones share a node: any single move makes the counts uneven.
    world = cluster([[(4000, 1), (4000, 1)], [(1000, 1), (1000, 1)]])
    stuck, free = State(world), State(world)
    assert greedy_balance(stuck).steps == []
    found = balance(free)
    assert found.plan.final < found.plan.initial - 0.05
    assert {int(free.pri[0]), int(free.pri[1])} == {0, 1}


def test_a_budget_is_spent_where_it_helps_most() -> None:
    nodes = tuple(Node(f"n{k}", 32768, 0, 32768 - (8000 if k == 0 else 0), 1000000, 800000, 16, "u") for k in range(3))
    small = [Instance(f"s{k}", 1000, 1000, 1, "n0", "n1") for k in range(4)]
    large = [Instance(f"l{k}", 1000, 90000, 1, "n0", "n1") for k in range(4)]
    world = Cluster((GROUP,), nodes, (*large, *small))
    unlimited, limited = State(world), State(world)
    best = balance(unlimited)
    found = balance(limited, budget=Budget(max_copy=6000))
    assert sum(found.costs) <= 6000 < sum(best.costs)
    gained = (found.plan.initial - found.plan.final) / (best.plan.initial - best.plan.final)
    assert gained > 0.5, "a small share of the bytes should give most of the improvement"


def test_an_instance_that_moved_twice_is_moved_once() -> None:
    world = cluster([[(2000, 1)] * 6, [], []])
    state = State(world)
    found = balance(state)
    moved = [step.move.instance for step in found.plan.steps]
    assert len(moved) == len(set(moved))


def test_pins_and_affinity_hold() -> None:
    world = cluster([[(2000, 1)] * 4, []])
    state = State(world)
    rules = {"i0": Rules(primary="n0"), "i1": Rules(primary="n0"), "i2": Rules(excluded=("n1",))}
    balance(state, book=Book(state, rules))
    assert [int(n) for n in state.pri] == [0, 0, 0, 1]


def test_anti_affinity_holds() -> None:
    world = cluster([[(2000, 1), (2000, 1), (2000, 1)], [(500, 1)]])
    state = State(world)
    rules = {name: Rules(anti_affinity=("db",)) for name in ("i0", "i1", "i3")}
    found = balance(state, book=Book(state, rules))
    for step in found.plan.steps:
        assert not (step.move.instance in (0, 1) and step.target[0] == 1), "n1 runs i3, which must stay apart"


@pytest.mark.parametrize("rules", [MoveRules(instance_moves=False), MoveRules(evacuate=True)])
def test_rules_of_moves_hold_in_chains(rules: MoveRules) -> None:
    state = State(cluster([[(4000, 1), (4000, 1)], [(1000, 1), (1000, 1)]]))
    assert balance(state, rules).plan.steps == []


def test_room_is_made_by_the_fewest_moves() -> None:
    # 10000 are free in all, nowhere more than 5000: one of 4000 must go to where it fits.
    world = cluster([[(4000, 1), (1000, 1)], [(5000, 1)]], memory=10000)
    new = Instance("new", 6500, 2048, 1, template="ext", disks=(2048,))
    state = State(world, extra=[new])
    found = make_room(state, 3)
    assert found is None, "the loss of a node could not be survived afterwards"
    found = make_room(state, 3, AllocOptions(capacity_checks=False))
    assert found is not None
    (move,) = found.moves
    assert (state.inst.names[move.instance], move.target, found.found.nodes) == ("i0", 1, (0,))
    assert found.copied == 4000


def test_no_room_can_be_made() -> None:
    state = State(
        cluster([[(4000, 1)], [(4000, 1)]], memory=10000),
        extra=[Instance("x", 11000, 2048, 1, template="ext", disks=(2048,))],
    )
    assert make_room(state, 2) is None


def test_the_state_is_the_plan() -> None:
    world = cluster([[(2000, 1)] * 5, [(100, 1)], []])
    state = State(world)
    found = balance(state)
    names = {s.move.instance: s.target for s in found.plan.steps}
    current = state.current()
    for i, instance in enumerate(current.instances):
        where = names.get(i, (0 if i < 5 else 1, -1))[0]
        assert instance == replace(world.instances[i], primary=f"n{where}")
