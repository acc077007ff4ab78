# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two operators make the same new instance at the same time, from plans that choose different nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.test_planner_converge import TEMPLATES, codes
from tests.unit.lib.world import Refused, World

from twofold.model import Desired
from twofold.planner import Plan

COUNT = 4


def part(plan: Plan, first: int, last: int) -> Plan:
    """The steps of some waves."""
    return replace(plan, steps=tuple(step for step in plan.steps if first <= step.wave <= last))


def two_plans(variables: dict[str, Any]) -> tuple[World, Desired, list[Plan]]:
    """Nodes on which nothing is, what is wanted, and the plans of two operators who have both seen that."""
    several = variables.get("disk_template") is None
    pairs = (["node1", "node2"], ["node3", "node4"]) if several else (["node1"], ["node3"])
    wanted = [desired({"web1": instance(**{**variables, "nodes": nodes})}, COUNT) for nodes in pairs]
    world = World(list(wanted[0].nodes))
    return world, desired({"web1": instance(**variables)}, COUNT), [world.plan(one) for one in wanted]


def ends_well(world: World, wanted: Desired, nodes: set[str]) -> None:
    """One run later it is there once, on nodes that one of the two chose, and nothing is left of the other."""
    assert not codes(world.converge(wanted), "error")
    world.resync()
    world.converge(wanted)
    assert not world.plan(wanted).steps
    assert sum(len(doc["domains"]) for doc in world.nodes.values()) == 1
    assert {node for node, doc in world.nodes.items() if doc["definitions"]} <= nodes


@pytest.mark.parametrize("variables", TEMPLATES.values(), ids=TEMPLATES)
def test_both_have_written_before_they_look(variables: dict[str, Any]) -> None:
    world, wanted, plans = two_plans(variables)
    for plan in plans:
        world.apply(part(plan, 0, 0), wanted)
    for plan in plans:
        looks = part(plan, 1, 1)
        assert {step.op for step in looks.steps} == {"definition.absent"}
        with pytest.raises(Refused):
            world.apply(looks, wanted)
    assert not any(doc["domains"] for doc in world.nodes.values())
    ends_well(world, wanted, {"node1", "node2"})


@pytest.mark.parametrize("variables", TEMPLATES.values(), ids=TEMPLATES)
def test_one_has_looked_before_the_other_writes(variables: dict[str, Any]) -> None:
    world, wanted, (mine, theirs) = two_plans(variables)
    world.apply(part(mine, 0, 1), wanted)
    world.apply(part(theirs, 0, 0), wanted)
    with pytest.raises(Refused):
        world.apply(part(theirs, 1, 1), wanted)
    world.apply(part(mine, 2, 9), wanted)
    ends_well(world, wanted, {"node1", "node2"})


@pytest.mark.parametrize("variables", TEMPLATES.values(), ids=TEMPLATES)
def test_who_goes_on_with_one_looks_whether_the_other_has_come_to_something(variables: dict[str, Any]) -> None:
    world, wanted, (mine, theirs) = two_plans(variables)
    world.apply(part(theirs, 0, 1), wanted)
    world.apply(part(mine, 0, 0), wanted)
    third = world.plan(wanted)
    # Theirs was past its looks; it ends while the third plan, which has chosen ours, is on its way.
    world.apply(part(theirs, 2, 9), wanted)
    with pytest.raises(Refused):
        world.apply(third, wanted)
    ends_well(world, wanted, {"node3", "node4"})


def test_a_creation_that_was_interrupted_waits_for_all_nodes_as_a_new_one_does() -> None:
    wanted = desired({"web1": instance(nodes=["node1", "node2"])})
    world = World(list(wanted.nodes))
    world.apply(world.plan(wanted), wanted, 3)
    world.down = {"node3"}
    plan = world.plan(wanted)
    assert codes(plan, "error") == ["node-unknown"] and not plan.steps
    world.down = set()
    assert not world.converge(wanted).errors
