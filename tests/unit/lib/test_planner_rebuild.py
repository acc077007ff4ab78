# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node that was destroyed for good comes back as new hardware: one converge makes everything whole again."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import World

from twofold import planner
from twofold.model import Desired
from twofold.planner import Plan

GUESTS = {
    "web1": instance(nodes=["node1", "node2"], os="debian-13", memory="64MiB"),
    "web2": instance(nodes=["node2", "node1"], os="debian-13", memory="64MiB"),
    "web3": instance(nodes=["node2", "node3"], os="debian-13", memory="64MiB"),
    "off1": instance(nodes=["node1", "node3"], memory="64MiB", state="stopped"),
}
WANTED = desired(GUESTS)


def healthy(wanted: Desired = WANTED) -> World:
    world = World(list(wanted.nodes))
    world.converge(wanted)
    return world


def ops(plan: Plan, node: str, name: str = "web1") -> list[str]:
    """What is done for an instance on a node, in order."""
    return [s.op for s in sorted(plan.steps, key=lambda s: s.wave) if (s.node, s.instance) == (node, name)]


def whole(world: World) -> None:
    """Everything has two copies, nothing is owed, and who should run runs, once."""
    documents = world.documents()
    for name, variables in GUESTS.items():
        assert world.data_copies(name) == sorted(variables["twofold_nodes"])
        domains = [doc["domains"][name]["state"] for doc in world.nodes.values() if name in doc["domains"]]
        assert domains == ["shutoff" if name == "off1" else "running"]
    for doc in documents.values():
        assert doc is not None
        assert not any("pending" in tag for volume in doc["volumes"] for tag in volume["tags"])
        assert all(resource["connection"] == "Connected" for resource in doc["resources"].values())


ANEW = ["volumes.create", "definition.write", "seed.write", "replication.configure", "replication.wait"]


@pytest.mark.parametrize("node", ["node1", "node2", "node3"])
def test_one_run_brings_back_full_redundancy(node: str) -> None:
    world = healthy()
    world.destroy(node)
    plan = world.converge(WANTED)
    assert not plan.errors
    whole(world)
    again = world.plan(WANTED)
    assert (again.steps, again.errors) == ((), [])


def test_a_lost_second_copy_is_made_anew_while_the_guest_serves() -> None:
    world = healthy()
    world.destroy("node2")
    plan = world.plan(WANTED)
    assert (ops(plan, "node1"), ops(plan, "node2")) == ([], ANEW)
    created = next(step for step in plan.steps if step.op == "volumes.create" and step.instance == "web1")
    assert [volume["pending"] for volume in created.args["volumes"]] == [["sync"], ["wipe"]]


def test_the_guest_of_a_lost_primary_starts_on_the_survivor_before_its_copy_is_made_anew() -> None:
    world = healthy()
    world.destroy("node1")
    plan = world.plan(WANTED)
    starting = ["definition.write", "replication.take_over", "domain.define", "domain.start"]
    assert (ops(plan, "node2"), ops(plan, "node1")) == (starting, ANEW)
    taken = next(step for step in plan.steps if step.op == "replication.take_over")
    assert "node1 answers" in taken.args["proof"] and taken.risk
    made = next(step for step in plan.steps if step.op == "volumes.create" and step.instance == "web1")
    assert taken.id in made.needs


def test_a_guest_that_waits_for_its_lost_secondary_is_started() -> None:
    world = healthy()
    world.power_off("node1")
    world.power_on("node1")
    world.destroy("node2")
    plan = world.plan(WANTED)
    assert ops(plan, "node1") == ["replication.take_over", "domain.start"]
    # What node2 said is looked at again, so this may be saved; what a proof of death allows may not.
    assert not planner.check_saved(plan, WANTED, world.documents())
    world.converge(WANTED)
    whole(world)


def test_a_guest_that_should_be_off_is_not_started() -> None:
    world = healthy()
    world.destroy("node1")
    assert ops(world.plan(WANTED), "node3", "off1") == ["definition.write", "domain.define"]


@pytest.mark.parametrize("node", ["node1", "node2"])
@pytest.mark.parametrize("limit", range(9))
def test_killed_anywhere_the_next_run_goes_on(node: str, limit: int) -> None:
    wanted = desired({"web1": GUESTS["web1"]})
    world = healthy(wanted)
    world.destroy(node)
    world.apply(world.plan(wanted), wanted, limit)
    assert not world.converge(wanted).errors
    world.resync()
    world.converge(wanted)
    assert world.data_copies("web1") == ["node1", "node2"]
    again = world.plan(wanted)
    assert (again.steps, [f for f in again.findings if f.code != "placement-differs"]) == ((), [])


def test_a_copy_that_was_filled_just_before_its_source_was_destroyed_serves() -> None:
    world = healthy()
    for volume in world.nodes["node2"]["volumes"]:
        if volume["name"] == "web1-disk0":
            volume["tags"].append("twofold.pending=sync")
    world.destroy("node1")
    assert not world.converge(WANTED).errors
    whole(world)


def test_few_copies_are_filled_at_once() -> None:
    guests = {f"web{i}": instance(nodes=["node1", "node2"], memory="64MiB") for i in range(1, 4)}
    wanted = desired(guests, cluster={"twofold_resyncs_at_once": 1})
    world = healthy(wanted)
    world.destroy("node2")
    steps = {step.id: step for step in world.plan(wanted).steps}
    for i in (2, 3):
        assert f"web{i - 1}/replication.wait@node2" in steps[f"web{i}/volumes.create@node2"].needs


def _old_definition(world: World, old: dict[str, Any]) -> None:
    definition = old["definitions"]["web1"]
    world.nodes["node1"]["definitions"]["web1"] = {**definition, "generation": definition["generation"] - 1}


def _data_without_metadata(world: World, old: dict[str, Any]) -> None:
    world.nodes["node1"]["volumes"] = [one for one in old["volumes"] if one["name"] == "web1-disk0"]


def _domain(world: World, old: dict[str, Any]) -> None:
    world.nodes["node1"]["domains"]["web1"] = old["domains"]["web1"]


def _resource(world: World, old: dict[str, Any]) -> None:
    world.nodes["node1"]["resources"]["web1"] = {**old["resources"]["web1"], "role": None}


def _incomplete_answer(world: World, old: dict[str, Any]) -> None:
    world.nodes["node1"]["volumes"] = None


def _stale_survivor(world: World, old: dict[str, Any]) -> None:
    world.nodes["node2"]["resources"]["web1"]["volumes"][0]["disk"] = "Outdated"


def _unfilled_survivor(world: World, old: dict[str, Any]) -> None:
    resource = world.nodes["node2"]["resources"]["web1"]
    resource["volumes"][0]["disk"] = "Inconsistent"
    next(v for v in world.nodes["node2"]["volumes"] if v["name"] == "web1-disk0")["tags"].append("twofold.pending=sync")


@pytest.mark.parametrize(
    ("doubt", "code"),
    [
        (_old_definition, "volume-missing"),
        (_data_without_metadata, "volume-missing"),
        (_domain, "volume-missing"),
        (_resource, "volume-missing"),
        (_incomplete_answer, "node-unknown"),
        (_stale_survivor, "volume-missing"),
        (_unfilled_survivor, "volume-missing"),
    ],
)
def test_where_anything_is_in_doubt_nothing_is_done(doubt: Any, code: str) -> None:
    world = healthy()
    old = copy.deepcopy(world.nodes["node1"])
    world.destroy("node1")
    doubt(world, old)
    plan = world.plan(WANTED)
    assert not [step for step in plan.steps if step.instance == "web1"]
    assert code in {f.code for f in plan.findings if f.object == "instance web1"}


def test_new_hardware_without_room_is_named_and_the_guest_starts_all_the_same() -> None:
    world = healthy()
    world.destroy("node1")
    world.nodes["node1"]["volume_groups"]["twofold"]["free"] = 64 << 20
    plan = world.plan(WANTED)
    assert {(f.object, f.code) for f in plan.errors} >= {("instance web1", "no-room"), ("instance web2", "no-room")}
    assert "domain.start" in ops(plan, "node2") and not ops(plan, "node1")


def test_a_guest_for_which_the_survivor_has_no_memory_is_named_and_gets_its_copy() -> None:
    world = healthy()
    world.nodes["node2"]["memory"]["total"] = 640 << 20
    world.destroy("node1")
    plan = world.plan(WANTED)
    assert ("instance web1", "target-does-not-fit") in {(f.object, f.code) for f in plan.errors}
    assert "domain.start" not in ops(plan, "node2") and ops(plan, "node1") == ANEW


# What comes back after a repair with what it had


def test_after_a_repair_stale_copies_resync_and_stale_definitions_never_start() -> None:
    world = healthy()
    world.power_off("node1")
    world.apply(world.plan(WANTED, verb="recover", confirm_dead="node1"), WANTED)
    world.apply(world.plan(WANTED, verb="replace_disks", instance="web2", new_secondary="node3"), WANTED)
    world.power_on("node1")
    plan = world.plan(WANTED)
    assert not [step for step in plan.steps if step.op == "domain.start"]
    world.apply(plan, WANTED)
    world.resync()
    world.converge(WANTED)
    assert world.data_copies("web1") == ["node1", "node2"] and "web1" not in world.nodes["node1"]["domains"]
    assert world.nodes["node2"]["domains"]["web1"]["state"] == "running"
    # Its second copy has gone elsewhere meanwhile: what the node still had of it is removed.
    assert world.data_copies("web2") == ["node2", "node3"] and "web2" not in world.nodes["node1"]["definitions"]
    again = world.plan(WANTED)
    assert (again.steps, again.errors) == ((), [])
