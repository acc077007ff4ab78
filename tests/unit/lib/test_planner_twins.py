# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two instances of one name: none is made while the first may exist, and neither's disks are taken for a left-over."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.test_planner_converge import codes
from tests.unit.lib.world import World

from twofold.model import Desired

COUNT = 5
AWAY = {"plain": ["node1"], "drbd": ["node1", "node2"]}
BOTH = pytest.mark.parametrize("template", AWAY)


def wanted(template: str, *offline: str, **variables: Any) -> Desired:
    """One instance on any nodes, some of which are declared offline."""
    states = {name: {"twofold_node_state": "offline"} for name in offline}
    return desired({"web1": instance(disk_template=template, **variables)}, COUNT, None, **states)


def made_there(template: str) -> World:
    """It runs on the nodes that will be away."""
    world = World(list(desired({}, COUNT).nodes))
    world.converge(wanted(template, nodes=AWAY[template]))
    world.documents()
    return world


def made_twice(template: str) -> World:
    """Its nodes were off, it was made anew elsewhere by the operator's word, and they are back."""
    world = made_there(template)
    for node in AWAY[template]:
        world.power_off(node)
    elsewhere = wanted(template, *AWAY[template])
    world.apply(world.plan(elsewhere, accept_new="web1"), elsewhere)
    for node in AWAY[template]:
        world.power_on(node)
    return world


def disks(world: World, node: str) -> list[str]:
    return [volume["name"] for volume in world.nodes[node]["volumes"]]


def all_are(world: World, state: str) -> None:
    """Both of them, wherever they are defined."""
    for doc in world.nodes.values():
        for domain in doc["domains"].values():
            domain["state"] = state


def homes(world: World) -> list[str]:
    """Where it runs."""
    return [node for node, doc in world.nodes.items() if any(d["state"] == "running" for d in doc["domains"].values())]


@BOTH
def test_what_may_be_on_nodes_that_are_declared_offline_is_not_made_unasked(template: str) -> None:
    world = made_there(template)
    for node in AWAY[template]:
        world.power_off(node)
    plan = world.plan(wanted(template, *AWAY[template]))
    (error,) = plan.errors
    assert not plan.steps and error.code == "node-unknown"
    assert AWAY[template][0] in error.message and "-e accept_new=web1" in error.remedy
    accepted = world.plan(wanted(template, *AWAY[template]), accept_new="web1")
    assert accepted.steps and not accepted.errors


def test_one_node_alone_never_holds_all_of_a_replicated_instance() -> None:
    world = World(list(desired({}, COUNT).nodes))
    world.power_off("node1")
    plan = world.plan(wanted("drbd", "node1"))
    assert plan.steps and not plan.errors


def test_the_word_for_an_instance_that_there_is_not_does_nothing() -> None:
    plan = World(list(desired({}, COUNT).nodes)).plan(wanted("drbd"), accept_new="web1,wbe2")
    assert codes(plan, "error") == ["unknown-instance"] and not plan.steps


@BOTH
@pytest.mark.parametrize("ahead", ["first", "second"])
def test_the_disks_of_the_first_stay_when_its_nodes_are_back(template: str, ahead: str) -> None:
    """Whichever of the two has the newer definition; its domain may go, with which its node would start it."""
    world = made_twice(template)
    at_home = homes(world)
    for node, doc in world.nodes.items():
        if "web1" in doc["definitions"] and (node in AWAY[template]) == (ahead == "first"):
            doc["definitions"]["web1"]["generation"] += 3
    before = {node: disks(world, node) for node in world.nodes}
    for _again in range(3):
        plan = world.converge(wanted(template))
        assert "made-twice" in codes(plan)
        world.resync()
    assert {node: disks(world, node) for node in world.nodes} == before
    assert homes(world) == at_home


@BOTH
def test_two_that_are_off_are_the_operators_to_choose_from(template: str) -> None:
    world = made_twice(template)
    all_are(world, "shutoff")
    plan = world.plan(wanted(template))
    assert codes(plan, "error") == ["made-twice"] and not plan.steps
    assert "keep the one whose data you want" in plan.errors[0].remedy


@BOTH
def test_two_that_run_are_said_to_run_twice(template: str) -> None:
    world = made_twice(template)
    all_are(world, "running")
    plan = world.plan(wanted(template))
    assert codes(plan, "error") == ["runs-twice"] and not plan.steps


@BOTH
def test_a_disk_that_comes_back_to_a_new_machine_is_left_alone(template: str) -> None:
    """The machine was replaced, its data disk not plugged in yet, so it was made anew; then somebody plugs it in."""
    world = made_there(template)
    lost = {node: copy.deepcopy(world.nodes[node]["volumes"]) for node in AWAY[template]}
    for node in AWAY[template]:
        world.destroy(node)
    elsewhere = wanted(template, nodes=["node3"] if template == "plain" else ["node3", "node4"])
    world.converge(elsewhere)
    for node, volumes in lost.items():
        world.nodes[node]["volumes"] = volumes
    plan = world.converge(elsewhere)
    assert "made-twice" in codes(plan, "warning") and not codes(plan, "error")
    assert all(disks(world, node) for node in AWAY[template])


def test_what_a_former_pair_has_left_is_removed_as_before() -> None:
    world = World(list(desired({}, COUNT).nodes))
    world.converge(wanted("drbd", nodes=["node1", "node2"]))
    world.power_off("node2")
    moved = wanted("drbd", nodes=["node1", "node3"])
    world.apply(world.plan(moved, verb="replace_disks", instance="web1", new_secondary="node3"), moved)
    world.power_on("node2")
    plan = world.converge(moved)
    assert "made-twice" not in codes(plan) and not disks(world, "node2")


def test_drbd_tells_of_a_former_pair_where_somebody_removed_the_definition() -> None:
    world = World(list(desired({}, COUNT).nodes))
    world.converge(wanted("drbd", nodes=["node1", "node2"]))
    world.power_off("node2")
    moved = wanted("drbd", nodes=["node1", "node3"])
    world.apply(world.plan(moved, verb="replace_disks", instance="web1", new_secondary="node3"), moved)
    world.power_on("node2")
    del world.nodes["node2"]["definitions"]["web1"]
    plan = world.converge(moved)
    assert "made-twice" not in codes(plan) and not disks(world, "node2")


@BOTH
@pytest.mark.parametrize("chosen", ["node1", None])
def test_nothing_moves_onto_the_disks_of_the_first(template: str, chosen: str | None) -> None:
    """Neither by name nor because it is the best place: they are not taken for an earlier copy."""
    world = made_twice(template)
    for node, doc in world.nodes.items():
        if "web1" in doc["definitions"] and node not in AWAY[template]:
            doc["definitions"]["web1"]["generation"] += 3
    one = wanted(template)
    world.converge(one)
    before = {node: disks(world, node) for node in AWAY[template]}
    if template == "plain":
        plan = world.plan(one, verb="migrate", instance="web1", target=chosen)
    else:
        plan = world.plan(one, verb="replace_disks", instance="web1", new_secondary=chosen)
    if chosen is not None:
        assert not plan.steps and "holds disks of another web1" in plan.errors[0].message
    assert not {step.node for step in plan.steps} & set(AWAY[template])
    world.apply(plan, one)
    assert {node: disks(world, node) for node in AWAY[template]} == before


def test_a_move_whose_target_lost_its_definition_ends_there_all_the_same() -> None:
    """The other side's says where the guest was going."""
    world = World(list(desired({}, COUNT).nodes))
    one = wanted("plain", nodes=["node1"])
    world.converge(one)
    plan = world.plan(one, verb="migrate", instance="web1", target="node2")
    steps = sorted(plan.steps, key=lambda step: step.wave)
    world.apply(plan, one, next(n for n, step in enumerate(steps) if step.op == "domain.migrate") + 1)
    del world.nodes["node2"]["definitions"]["web1"]
    again = world.converge(one)
    assert not codes(again, "error") and homes(world) == ["node2"] and not disks(world, "node1")


def test_what_a_failed_move_has_left_goes_after_another_one_to_another_node() -> None:
    """Its first target knows neither where the guest is now nor that it has moved."""
    world = World(list(desired({}, COUNT).nodes))
    one = wanted("plain", nodes=["node1"])
    world.converge(one)
    plan = world.plan(one, verb="migrate", instance="web1", target="node2")
    steps = sorted(plan.steps, key=lambda step: step.wave)
    world.apply(plan, one, next(n for n, step in enumerate(steps) if step.op == "domain.migrate"))
    other = world.plan(one, verb="migrate", instance="web1", target="node3")
    world.apply(other, one)
    assert homes(world) == ["node3"] and disks(world, "node2")
    world.converge(one)
    assert not disks(world, "node2") and not disks(world, "node1")


@pytest.mark.parametrize("state", ["running", "shutoff"])
def test_what_a_pair_long_before_has_left_is_known_by_the_mark_of_its_birth(state: str) -> None:
    """None of its nodes is one of the present pair, and its own is back with the domain that it had."""
    world = World(list(desired({}, COUNT).nodes))
    one = wanted("drbd", nodes=["node1", "node2"])
    world.converge(one)
    world.documents()
    left = copy.deepcopy(world.nodes["node1"])
    off = left["domains"]["web1"]
    off["state"] = "shutoff"
    left["resources"]["web1"]["role"] = None
    for pair in (["node1", "node3"], ["node4", "node3"]):
        if pair[0] != "node1":
            world.converge(wanted("drbd", nodes=["node1", "node3"]))
            world.apply(world.plan(one, verb="migrate", instance="web1"), one)
        new = "node3" if pair[0] == "node1" else "node4"
        world.apply(world.plan(one, verb="replace_disks", instance="web1", new_secondary=new), one)
        world.resync()
        world.converge(one)
    assert sorted(node for node in world.nodes if disks(world, node)) == ["node3", "node4"]
    for part in ("volumes", "definitions", "domains", "resources", "seeds"):
        world.nodes["node1"][part] = left[part]
    world.nodes["node3"]["domains"]["web1"]["state"] = state
    for _again in range(3):
        plan = world.converge(one)
        world.resync()
        assert "made-twice" not in codes(plan) and not codes(plan, "error")
    assert homes(world) == ["node3"] and not disks(world, "node1")
