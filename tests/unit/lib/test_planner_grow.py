# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks that grow: on both nodes, to the guest, last in the definition, and never over what a disk holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import MIB, Refused, World

from twofold.planner import Plan

PAIR = {"nodes": ["node1", "node2"]}
SMALL = desired({"web1": instance(**PAIR)})
LARGE = desired({"web1": instance(**PAIR, disks=[{"size": "256MiB"}])})


def healthy(**variables: Any) -> World:
    world = World(list(SMALL.nodes))
    world.converge(desired({"web1": instance(**{**PAIR, **variables})}))
    return world


def ops(plan: Plan) -> list[tuple[str, str]]:
    return [(step.node, step.op) for step in plan.steps]


def sizes(world: World) -> set[int]:
    """What the definitions and the data volumes say."""
    found = [doc["definitions"]["web1"]["disks"][0]["size"] for doc in world.nodes.values() if doc["definitions"]]
    return {*found, *(v["size"] for doc in world.nodes.values() for v in doc["volumes"] if v["name"] == "web1-disk0")}


def test_a_larger_size_in_the_inventory_grows_the_disk_live() -> None:
    world = healthy()
    plan = world.plan(LARGE)
    assert ops(plan) == [
        ("node1", "volumes.grow"), ("node2", "volumes.grow"), ("node1", "replication.resize"),
        ("node1", "domain.resize"), ("node1", "definition.write"), ("node2", "definition.write"),
    ]  # fmt: skip
    assert {step.kind for step in plan.steps} == {"live"}
    resize = plan.steps[2]
    assert {plan.steps[0].id, plan.steps[1].id} <= set(resize.needs)
    world.apply(plan, LARGE)
    assert sizes(world) == {256 * MIB}
    assert world.resized == [("web1", True)]
    assert world.seen == {("web1", "vda"): "/dev/drbd1000"}
    assert not world.plan(LARGE).steps


def _lose_definition(world: World) -> None:
    del world.nodes["node2"]["definitions"]["web1"]


def _untag(world: World) -> None:
    data = next(one for one in world.nodes["node2"]["volumes"] if one["name"] == "web1-disk0")
    data["tags"] = [tag for tag in data["tags"] if not tag.startswith("twofold.instance")]


@pytest.mark.parametrize("by_hand", [_lose_definition, _untag])
def test_a_command_grows_nothing_over_what_somebody_changed_by_hand(by_hand: Callable[[World], None]) -> None:
    world = healthy()
    by_hand(world)
    asked = {"verb": "grow", "instance": "web1", "disk": "0", "size": "256MiB"}
    plan = world.plan(SMALL, **asked)
    assert [finding.code for finding in plan.errors] == ["not-settled"] and not plan.steps
    world.converge(SMALL)
    world.apply(world.plan(SMALL, **asked), SMALL)
    assert sizes(world) == {256 * MIB}


@pytest.mark.parametrize("verb", ["converge", "grow"])
def test_the_disk_of_a_guest_that_is_off_does_not_grow_on_a_node_that_is_about_to_be_rebooted(verb: str) -> None:
    """It would have to be Primary there for a moment, which such a node refuses."""
    world = healthy(state="stopped")
    wanted = desired({"web1": instance(**PAIR, disks=[{"size": "256MiB"}], state="stopped")})
    small = desired({"web1": instance(**PAIR, state="stopped")})
    world.apply(world.plan(small, verb="maintain", node="node1", everything=True), small)
    asked = {"verb": "grow", "instance": "web1", "disk": "0", "size": "256MiB"} if verb == "grow" else {}
    plan = world.plan(wanted, **asked)
    assert [finding.code for finding in plan.errors] == ["node-rebooting"] and not plan.steps


def test_what_was_begun_smaller_is_made_as_it_was_begun_and_grows_then() -> None:
    fresh = World(list(SMALL.nodes))
    for limit in range(1, len(fresh.plan(SMALL).steps)):
        world = World(list(SMALL.nodes))
        world.apply(world.plan(SMALL), SMALL, limit)
        plan = world.converge(LARGE)
        later = "grows-later" in {finding.code for finding in plan.findings}
        assert sizes(world) == ({128 * MIB} if later else {256 * MIB}), limit
        world.converge(LARGE)
        assert sizes(world) == {256 * MIB}, limit
        assert not world.plan(LARGE).steps


def test_killed_anywhere_the_whole_growth_is_planned_again() -> None:
    for limit in range(len(healthy().plan(LARGE).steps)):
        world = healthy()
        world.apply(world.plan(LARGE), LARGE, limit)
        world.converge(LARGE)
        assert sizes(world) == {256 * MIB}, limit
        assert all(clean for _name, clean in world.resized), limit
        assert not world.plan(LARGE).steps, limit


def test_space_that_was_not_zeroed_is_zeroed_even_if_nobody_wants_it_any_more() -> None:
    world = healthy(disk_template="plain", nodes=["node1"])
    plain = desired({"web1": instance(disk_template="plain", nodes=["node1"], disks=[{"size": "256MiB"}])})
    world.zeroing_fails = True
    with pytest.raises(Refused, match="interrupted"):
        world.converge(plain)
    world.zeroing_fails = False
    small = desired({"web1": instance(disk_template="plain", nodes=["node1"])})
    plan = world.plan(small)
    assert [(step.op, step.why) for step in plan.steps] == [
        ("volumes.grow", "the disk is larger, but the new part is not zeroed yet")
    ]
    world.apply(plan, small)
    world.converge(plain)
    assert sizes(world) == {256 * MIB}


def test_drbd_comes_up_before_the_rest_is_zeroed_and_the_guest_starts_after_it() -> None:
    """Down it does not tell what of the larger volume it has taken."""
    world = healthy()
    world.zeroing_fails = True
    with pytest.raises(Refused, match="interrupted"):
        world.converge(LARGE)
    world.zeroing_fails = False
    world.power_off("node1")
    world.power_on("node1")
    resource = world.nodes["node1"]["resources"]["web1"]
    resource.update(role=None, connection=None, volumes=[])
    order = [op for node, op in ops(world.plan(SMALL)) if node == "node1"]
    wanted = ["replication.configure", "volumes.grow", "replication.promote", "domain.start"]
    assert [op for op in order if op in wanted] == wanted


def test_space_that_somebody_else_added_is_resynced() -> None:
    world = healthy()
    for volume in world.nodes["node2"]["volumes"]:
        volume["size"] = 256 * MIB if volume["name"] == "web1-disk0" else volume["size"]
    world.converge(LARGE)
    assert world.resized == [("web1", False)]


def test_a_stopped_guest_gets_its_primary_only_for_that() -> None:
    stopped = {**PAIR, "state": "stopped"}
    world = healthy(state="stopped")
    wanted = desired({"web1": instance(**stopped, disks=[{"size": "256MiB"}])})
    plan = world.plan(wanted)
    found = [op for node, op in ops(plan) if node == "node1"]
    assert found == [
        "volumes.grow", "replication.promote", "replication.resize", "replication.demote", "definition.write"
    ]  # fmt: skip
    world.apply(plan, wanted)
    assert not world.plan(wanted).steps


def test_other_changes_do_not_wait_for_the_growth() -> None:
    world = healthy()
    wanted = desired({"web1": instance(**PAIR, memory="512MiB", disks=[{"size": "256MiB"}])})
    plan = world.plan(wanted)
    first, last = [[s for s in plan.steps if s.op == "definition.write" and s.node == "node1"][i] for i in (0, -1)]
    assert first.args["document"]["disks"][0]["size"] == 128 * MIB
    assert last.args["expect_generation"] == first.args["document"]["generation"]
    world.apply(plan, wanted)
    assert not world.plan(wanted).steps
    assert sizes(world) == {256 * MIB}


def _no_space(world: World) -> None:
    world.nodes["node2"]["volume_groups"]["twofold"]["free"] = 0


def _apart(world: World) -> None:
    world.nodes["node2"]["resources"]["web1"]["volumes"][0]["disk"] = "Inconsistent"


@pytest.mark.parametrize(("hurt", "code"), [(_no_space, "no-room"), (_apart, "not-replicated")])
def test_a_disk_that_cannot_grow_is_named_before_anything_changed(hurt: Any, code: str) -> None:
    world = healthy()
    hurt(world)
    plan = world.plan(LARGE)
    assert (plan.steps, [f.code for f in plan.errors]) == ((), [code])
    assert plan.errors[0].remedy


def test_metadata_that_is_too_small_is_made_larger_by_replacing_each_copy() -> None:
    world = World(list(SMALL.nodes), space=1 << 40)
    world.converge(SMALL)
    huge = desired({"web1": instance(**PAIR, disks=[{"size": "200GiB"}])})
    for side in ("secondary", "primary"):
        plan = world.plan(huge)
        assert [f.code for f in plan.errors] == ["metadata-too-small"]
        assert "replace_disks.yml -e instance=web1" in plan.errors[0].remedy
        world.apply(world.plan(huge, verb="replace_disks", instance="web1", on=side), huge)
    world.converge(huge)
    assert sizes(world) == {200 << 30}


def test_one_disk_can_be_grown_without_the_inventory() -> None:
    world = healthy()
    plan = world.plan(SMALL, verb="grow", instance="web1", disk="0", size="256MiB")
    assert [f.code for f in plan.findings] == ["inventory-behind"]
    world.apply(plan, SMALL)
    assert sizes(world) == {256 * MIB}
    assert [f.code for f in world.plan(SMALL).findings] == ["disk-size-differs"]


@pytest.mark.parametrize(
    ("intent", "code"),
    [
        ({"disk": "0", "size": "64MiB"}, "not-larger"),
        ({"disk": "3", "size": "1GiB"}, "unknown-disk"),
        ({"disk": "one", "size": "1GiB"}, "wrong-arguments"),
        ({"disk": "0", "size": "much"}, "wrong-arguments"),
        ({"disk": "0"}, "wrong-arguments"),
    ],
)
def test_what_makes_no_sense_is_refused(intent: dict[str, str], code: str) -> None:
    plan = healthy().plan(SMALL, verb="grow", instance="web1", **intent)
    assert (plan.steps, [f.code for f in plan.errors]) == ((), [code])
