# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rolling reboot: the engine's order, known from the nodes, gone on with from anywhere, stopped by what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import World

from twofold import report
from twofold.model import Desired
from twofold.planner import Plan

COUNT = 4
WANTED = desired({
    "web1": instance(nodes=["node1", "node2"], memory="64MiB"),
    "web2": instance(nodes=["node2", "node1"], memory="64MiB"),
    "web3": instance(nodes=["node3", "node4"], memory="64MiB"),
    "bare1": instance(disk_template="diskless", disks=[], nodes=["node3"], memory="64MiB"),
}, COUNT)  # fmt: skip


def healthy() -> World:
    world = World(list(WANTED.nodes))
    world.converge(WANTED)
    return world


def rolling(world: World, **intent: Any) -> Plan:
    return world.plan(WANTED, verb="rolling", **intent)


def order(plan: Plan) -> list[list[str]]:
    return [group["nodes"] for group in plan.details["rolling"]["groups"]]


def play(world: World, verb: str, **intent: Any) -> None:
    plan = world.plan(WANTED, verb=verb, **intent)
    assert not plan.errors
    world.apply(plan, WANTED)


def reboot(world: World, nodes: list[str], packages: str = "") -> None:
    """What the playbook does to a group."""
    names = ",".join(nodes)
    play(world, "maintain", node=names, everything=True)
    play(world, "depart", node=names, packages=packages)
    for node in nodes:
        assert not [one for one in world.nodes[node]["domains"].values() if one["state"] == "running"]
        world.reboot(node)
    play(world, "rejoin", node=names)
    play(world, "undrain", node=names)


def test_the_two_nodes_of_an_instance_are_in_different_groups_and_every_node_has_its_turn() -> None:
    plan = rolling(healthy())
    groups = order(plan)
    assert sorted(node for group in groups for node in group) == ["node1", "node2", "node3", "node4"]
    for pair in ({"node1", "node2"}, {"node3", "node4"}):
        assert not any(pair <= set(group) for group in groups)
    assert len(groups) == 2
    assert [step.op for step in plan.steps] == ["rolling.begin"] * COUNT
    moves = {move["instance"]: move for group in plan.details["rolling"]["groups"] for move in group["moves"]}
    assert (moves["web1"]["from"], moves["web1"]["to"]) == ("node1", "node2")
    assert moves["bare1"]["to"] is not None
    text = report.plan_text(plan)
    assert "web1 to node2" in text and "GUESTS THAT LEAVE MEANWHILE" in text
    assert "| 1 | " in report.plan_markdown(plan)


def test_from_beginning_to_end_every_guest_runs_and_comes_home() -> None:
    world = healthy()
    before = {node: set(doc["domains"]) for node, doc in world.nodes.items()}
    play(world, "rolling")
    for group in order(rolling(world)):
        reboot(world, group)
    plan = rolling(world)
    assert (order(plan), plan.details["rolling"]["done"]) == ([], sorted(WANTED.nodes))
    assert "every node that is online was rebooted" in report.plan_text(plan)
    world.apply(plan, WANTED)
    assert {node: set(doc["domains"]) for node, doc in world.nodes.items()} == before
    assert all(doc["rolling"] is None for doc in world.nodes.values())
    assert not world.plan(WANTED).steps
    # The next one begins from the start.
    assert sum(map(len, order(rolling(world)))) == COUNT


def test_after_an_interruption_it_goes_on_with_what_is_left() -> None:
    world = healthy()
    play(world, "rolling")
    first, *rest = order(rolling(world))
    reboot(world, first)
    assert order(rolling(world)) == rest
    again = rolling(world, again=True)
    assert sum(map(len, order(again))) == COUNT and again.steps


@pytest.mark.parametrize("rebooted", [False, True])
def test_interrupted_in_the_middle_of_a_group_its_guests_come_home_all_the_same(rebooted: bool) -> None:
    world = healthy()
    before = {node: set(doc["domains"]) for node, doc in world.nodes.items()}
    play(world, "rolling")
    first, *rest = order(rolling(world))
    play(world, "maintain", node=",".join(first), everything=True)
    if rebooted:
        for node in first:
            world.reboot(node)
        play(world, "rejoin", node=",".join(first))
    play(world, "rolling")
    left = {node for group in order(rolling(world)) for node in group}
    assert left == {node for group in (rest if rebooted else [first, *rest]) for node in group}
    for group in order(rolling(world)):
        reboot(world, group)
    play(world, "rolling")
    assert {node: set(doc["domains"]) for node, doc in world.nodes.items()} == before
    assert all(doc["rolling"] is None for doc in world.nodes.values())


def test_it_does_not_matter_which_node_is_lost_meanwhile() -> None:
    world = healthy()
    play(world, "rolling")
    first, *rest = order(rolling(world))
    reboot(world, first)
    world.destroy(first[0])
    world.nodes[first[0]]["boot_id"] = "new"
    assert rolling(world).errors
    world.converge(WANTED)
    plan = rolling(world)
    assert {node for group in order(plan) for node in group} == {node for group in rest for node in group}
    assert [(step.op, step.node) for step in plan.steps] == [("rolling.begin", first[0])]


def test_a_node_that_lost_its_power_in_the_middle_of_its_upgrade_is_not_done() -> None:
    world = healthy()
    play(world, "rolling", packages="upgrade")
    first = order(rolling(world, packages="upgrade"))[0]
    play(world, "maintain", node=",".join(first), everything=True)
    world.reboot(first[0])
    play(world, "rejoin", node=first[0])
    assert world.plan(WANTED, verb="depart", node=",".join(first), packages="upgrade").errors
    play(world, "rolling", packages="upgrade")
    plan = rolling(world, packages="upgrade")
    assert plan.details["rolling"]["done"] == []
    for group in order(plan):
        reboot(world, group, packages="upgrade")
        assert set(group) <= set(rolling(world, packages="upgrade").details["rolling"]["done"])
    play(world, "rolling", packages="upgrade")
    assert all(doc["rolling"] is None for doc in world.nodes.values())
    assert not world.plan(WANTED).steps and not world.plan(WANTED).findings


def test_begun_again_what_was_upgraded_before_is_upgraded_again() -> None:
    world = healthy()
    play(world, "rolling", packages="upgrade")
    first = order(rolling(world, packages="upgrade"))[0]
    play(world, "maintain", node=",".join(first), everything=True)
    play(world, "depart", node=",".join(first), packages="upgrade")
    play(world, "rolling", packages="upgrade", again=True)
    assert not [doc for doc in world.nodes.values() if "upgraded" in doc["rolling"]]


def test_packages_that_another_reboot_upgraded_count_if_they_are_those_that_were_asked_for() -> None:
    world = healthy()
    play(world, "rolling", packages="upgrade")
    reboot(world, ["node1"], packages="full")
    assert rolling(world, packages="upgrade").details["rolling"]["done"] == []
    reboot(world, ["node1"], packages="upgrade")
    assert rolling(world, packages="upgrade").details["rolling"]["done"] == ["node1"]


def test_interrupted_before_a_reboot_it_goes_on_with_any_node() -> None:
    world = healthy()
    play(world, "rolling")
    play(world, "maintain", node="node1", everything=True)
    plan = rolling(world)
    assert [step.op for step in plan.steps] == ["maintenance.end"] and not plan.errors
    world.apply(plan, WANTED)
    for group in reversed(order(rolling(world))):
        reboot(world, group)
    play(world, "rolling")
    assert not world.plan(WANTED).steps and not world.plan(WANTED).findings


def test_the_note_of_an_older_one_on_a_node_that_was_away_does_not_end_a_later_one() -> None:
    away, back = desired({}, COUNT, node1={"twofold_node_state": "offline"}), desired({}, COUNT)
    world = World(list(back.nodes))

    def run(wanted: Desired, **intent: Any) -> Plan:
        plan = world.plan(wanted, verb="rolling", **intent)
        world.apply(plan, wanted)
        return plan

    run(back)
    for node in ("node2", "node3", "node4"):
        world.reboot(node)
    world.power_off("node1")
    assert sum(map(len, order(run(away, again=True)))) == COUNT - 1
    world.reboot("node2")
    world.power_on("node1")
    # By the older note of node1 all others have booted since.
    plan = run(back)
    assert (plan.steps, [finding.code for finding in plan.errors]) == ((), ["rolling-unfinished"])
    assert "node1 and node2, node3, node4 have notes of different rolling reboots" in plan.errors[0].message
    assert "-e again=true" in plan.errors[0].remedy
    world.nodes["node1"]["rolling"] = None
    assert run(back).details["rolling"]["done"] == ["node1", "node2"], "node1 came later, so it needs no reboot"
    world.nodes["node1"]["rolling"] = {"format": 1, "packages": "", "boots": {}}
    assert sum(map(len, order(run(back, again=True)))) == COUNT
    assert not run(back).errors


def test_other_packages_are_not_mixed_into_one_that_is_not_at_its_end() -> None:
    world = healthy()
    play(world, "rolling", packages="upgrade")
    plan = rolling(world)
    assert (plan.steps, [finding.code for finding in plan.errors]) == ((), ["rolling-unfinished"])
    assert "-e again=true" in plan.errors[0].remedy


def test_nodes_that_are_not_online_are_left_out_and_named() -> None:
    wanted = desired({}, COUNT, node4={"twofold_node_state": "drained"})
    plan = World(list(wanted.nodes)).plan(wanted, verb="rolling")
    assert "node4" not in {node for group in order(plan) for node in group}
    assert "node4 is left out: it is drained" in report.plan_text(plan)


def _not_whole(world: World) -> None:
    world.nodes["node4"]["resources"]["web3"]["volumes"][0]["disk"] = "Inconsistent"


def _down(world: World) -> None:
    world.power_off("node2")


@pytest.mark.parametrize(
    ("hurt", "intent", "code"),
    [
        (_not_whole, {}, "not-replicated"),
        (_down, {}, "node-unknown"),
        (lambda _world: None, {"packages": "dist"}, "wrong-arguments"),
    ],
)
def test_what_is_wrong_stops_it(hurt: Any, intent: dict[str, Any], code: str) -> None:
    world = healthy()
    hurt(world)
    plan = rolling(world, **intent)
    assert (plan.steps, plan.details) == ((), {})
    assert code in {finding.code for finding in plan.errors}


def test_guests_that_find_no_room_are_named() -> None:
    world = healthy()
    for node in ("node1", "node2", "node4"):
        world.nodes[node]["memory"]["total"] = 576 << 20
    plan = rolling(world)
    assert [finding.code for finding in plan.errors] == ["no-order"]
