# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes are rebooted and taken out without a guest that notices, and never while something is not whole."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import World

from twofold import apply, capacity
from twofold.model import Desired
from twofold.planner import Plan, check_saved

GUESTS = {
    "web1": instance(nodes=["node1", "node2"], memory="64MiB"),
    "web2": instance(nodes=["node2", "node3"], memory="64MiB"),
    "off1": instance(nodes=["node1", "node2"], memory="64MiB", state="stopped"),
    "bare1": instance(disk_template="diskless", disks=[], nodes=["node1"], memory="64MiB"),
}
WANTED = desired(GUESTS)


def healthy() -> World:
    world = World(list(WANTED.nodes))
    world.converge(WANTED)
    return world


def play(world: World, verb: str, **intent: Any) -> Plan:
    """Plan and apply."""
    plan = world.plan(WANTED, verb=verb, **intent)
    world.apply(plan, WANTED)
    return plan


def running(world: World, node: str) -> set[str]:
    return {name for name, domain in world.nodes[node]["domains"].items() if domain["state"] == "running"}


def codes(plan: Plan) -> list[tuple[str, str]]:
    return [(finding.object, finding.code) for finding in plan.errors]


# Reboot


def test_a_copy_is_filled_from_a_good_one_only() -> None:
    world = healthy()
    for name in ("web1", "off1"):
        world.nodes["node1"]["resources"][name]["connection"] = "Connecting"
        world.nodes["node2"]["resources"][name]["volumes"][0]["disk"] = "Inconsistent"
    plan = play(world, "rejoin", node="node1")
    assert not plan.steps
    assert codes(plan) == [("instance off1", "not-replicated"), ("instance web1", "not-replicated")]


def test_a_node_is_cleared_rebooted_and_filled_again() -> None:
    world = healthy()
    plan = play(world, "maintain", node="node1")
    assert not plan.findings
    assert running(world, "node1") == set() and "off1" in world.nodes["node1"]["domains"]
    assert {"web1"} <= running(world, "node2")
    assert not play(world, "depart", node="node1").findings
    world.reboot("node1")
    plan = play(world, "rejoin", node="node1")
    assert {(s.instance, s.op) for s in plan.steps} == {
        (name, op) for name in ("web1", "off1") for op in ("replication.configure", "replication.wait")
    }
    assert not play(world, "undrain", node="node1").errors
    assert running(world, "node1") == {"web1", "bare1"}
    assert not world.plan(WANTED).steps


@pytest.mark.parametrize("apart", [["node1"], ["node2"], ["node1", "node2"]])
def test_a_copy_that_was_disconnected_by_hand_meets_its_peer_before_it_is_waited_for(apart: list[str]) -> None:
    world = healthy()
    for node in ("node1", "node2"):
        connection = "StandAlone" if node in apart else "Connecting"
        resource = world.nodes[node]["resources"]["web1"]
        resource.update(connection=connection)
        resource["volumes"][0]["uuids"] = "1111111111111110:0:0:0"
    plan = play(world, "rejoin", node="node1")
    assert not plan.findings
    assert {(s.node, s.op) for s in plan.steps} == {
        *((node, "replication.configure") for node in apart),
        ("node1", "replication.wait"),
    }
    assert plan.steps[-1].op == "replication.wait"
    assert not play(world, "rejoin", node="node1").steps


@pytest.mark.parametrize("emptied", [True, False], ids=["its guests had left", "they run there still"])
def test_a_node_that_was_drained_before_its_reboot_stays_so(emptied: bool) -> None:
    drained, world = desired(GUESTS, node1={"twofold_node_state": "drained"}), healthy()

    def run(verb: str, wanted: Desired, **intent: Any) -> Plan:
        plan = world.plan(wanted, verb=verb, node="node1", **intent)
        world.apply(plan, wanted)
        return plan

    for verb in ("drain", "maintain", "depart") if emptied else ("maintain", "depart"):
        assert not run(verb, drained).findings
    world.reboot("node1")
    assert not run("rejoin", drained).findings
    plan = run("undrain", drained, rebooted=True)
    (found,) = plan.findings
    assert (found.code, found.severity, found.object) == ("still-drained", "info", "node node1")
    assert "is drained" in found.message and "undrain.yml -e node=node1" in found.remedy
    assert running(world, "node1") == set() and world.nodes["node1"]["maintenance"] is None
    assert not world.plan(drained).steps
    # Who asks for the end of the drain is told what is in the way of it.
    assert codes(run("undrain", drained)) == [("node node1", "still-drained")]
    assert not run("undrain", WANTED).findings
    assert running(world, "node1") == {"web1", "bare1"}


def test_nothing_goes_to_another_node_that_is_cleared_too() -> None:
    world = healthy()
    assert not play(world, "maintain", node="node1,node3").errors
    assert running(world, "node2") == {"web1", "web2", "bare1"}


def _not_whole(world: World) -> None:
    world.nodes["node1"]["resources"]["web1"]["volumes"][0]["disk"] = "Inconsistent"


def _elsewhere_not_whole(world: World) -> None:
    world.nodes["node3"]["resources"]["web2"]["role"] = None


def _another_down(world: World) -> None:
    world.power_off("node3")


def _no_memory(world: World) -> None:
    world.nodes["node2"]["memory"]["total"] = 512 << 20


def _stranger(world: World) -> None:
    world.nodes["node1"]["domains"]["mine"] = {**world.nodes["node1"]["domains"]["web1"], "xml": "<name>mine</name>"}


@pytest.mark.parametrize(
    ("hurt", "more", "code"),
    [
        (_not_whole, {}, ("instance web1", "not-replicated")),
        (_elsewhere_not_whole, {"everything": True}, ("instance web2", "not-replicated")),
        (_another_down, {}, ("node node3", "node-unknown")),
        (_no_memory, {}, ("instance web1", "no-node-fits")),
        (_stranger, {}, ("node node1", "foreign-guest")),
        (lambda _world: None, {"node": "node9"}, ("node node9", "unknown-node")),
    ],
)
def test_if_anything_is_wrong_nothing_is_moved(hurt: Any, more: dict[str, Any], code: tuple[str, str]) -> None:
    world = healthy()
    hurt(world)
    plan = world.plan(WANTED, verb="maintain", **{"node": "node1", **more})
    assert (plan.steps, plan.summary) == ((), ())
    assert code in codes(plan)


def test_while_another_node_could_not_tell_all_none_is_taken_away() -> None:
    world = healthy()
    world.nodes["node3"]["volume_groups"] = None
    plan = world.plan(WANTED, verb="maintain", node="node1")
    (found,) = [one for one in plan.errors if "no other node is taken away" in one.message]
    assert not plan.steps and (found.object, found.code) == ("node node3", "node-incomplete")
    assert "could not tell its volume_groups" in found.message
    assert "fence.yml -e node=node3 -e power=off -e force=true, then recover.yml" in found.remedy


def test_what_is_not_whole_elsewhere_does_not_keep_one_node_from_its_reboot() -> None:
    world = healthy()
    _elsewhere_not_whole(world)
    assert not world.plan(WANTED, verb="maintain", node="node1").errors


# Meanwhile somebody else works


def off_on_node1(**more: Any) -> Desired:
    """A guest that was off when its node was cleared, and others, as a colleague's inventory wants them."""
    return desired({**GUESTS, "off1": {**GUESTS["off1"], "twofold_state": "running"}, **more})


def cleared() -> World:
    world = healthy()
    assert not play(world, "maintain", node="node1").errors
    return world


def test_it_is_noted_before_anything_leaves() -> None:
    plan = healthy().plan(WANTED, verb="maintain", node="node1,node3")
    noted = {step.id for step in plan.steps if step.op == "maintenance.begin"}
    assert noted == {"maintenance.begin@node1", "maintenance.begin@node3"}
    for step in plan.steps:
        assert step.id in noted or step.always or step.needs, step.id
    first = [step for step in plan.steps if step.instance and set(step.needs) & noted]
    assert first and all(noted <= set(step.needs) for step in first)


def test_a_converge_starts_nothing_on_a_node_that_is_about_to_be_rebooted() -> None:
    world, wanted = cleared(), off_on_node1()
    plan = world.converge(wanted)
    assert "off1" not in running(world, "node1")
    assert codes(plan) == [("instance off1", "node-rebooting")]
    assert "node1 is about to be rebooted by ann@here" in plan.errors[0].message
    (note,) = [one for one in plan.findings if one.object == "node node1"]
    assert (note.code, note.severity) == ("node-rebooting", "warning") and "undrain.yml -e node=node1" in note.remedy
    world.reboot("node1")
    plan, unfinished = world.plan(wanted), "reboot-unfinished"
    assert not plan.errors and [one.code for one in plan.findings if one.object == "node node1"] == [unfinished]
    world.apply(plan, wanted)
    assert "off1" in running(world, "node1"), "it has booted, so it takes guests"


def test_neither_new_instances_nor_second_copies_nor_guests_that_move_come_there() -> None:
    world = cleared()
    wanted = desired({**GUESTS, "new1": instance(memory="64MiB"), "new2": instance(memory="64MiB", nodes=["node1"])})
    plan = world.plan(wanted)
    assert [finding.object for finding in plan.errors] == ["instance new2"]
    assert "node1: about to be rebooted by ann@here" in plan.errors[0].message
    assert not [step for step in plan.steps if step.node == "node1" and step.op != "definition.absent"]
    for intent, code in (
        ({"verb": "migrate", "instance": "web1"}, "target-does-not-fit"),
        ({"verb": "migrate", "instance": "bare1", "target": "node1"}, "target-does-not-fit"),
        ({"verb": "failover", "instance": "web1"}, "target-does-not-fit"),
        ({"verb": "drain", "node": "node2"}, "no-node-fits"),
        ({"verb": "replace_disks", "instance": "web2", "new_secondary": "node1"}, "target-does-not-fit"),
    ):
        plan = world.plan(WANTED, **intent)
        assert code in {finding.code for finding in plan.errors}, intent
        assert not [step for step in plan.steps if step.node == "node1"], intent
    assert not world.plan(WANTED, verb="balance").steps
    states = {node["name"]: node["state"] for node in capacity.document(WANTED, world.documents())["nodes"]}
    assert states == {"node1": "drained", "node2": "online", "node3": "online"}


def test_a_plan_that_was_saved_before_is_not_applied() -> None:
    world = healthy()
    wanted = desired({**GUESTS, "new1": instance(memory="64MiB", nodes=["node1", "node2"])})
    saved = world.plan(wanted)
    assert saved.steps and not check_saved(saved, wanted, world.documents())
    play(world, "maintain", node="node1")
    assert "node node1" in {finding.object for finding in check_saved(saved, wanted, world.documents())}


def test_a_survivor_that_is_about_to_be_rebooted_takes_over_once_it_is_given_back() -> None:
    world = cleared()
    world.power_off("node2")
    intent: dict[str, Any] = {"verb": "recover", "confirm_dead": ["node2"]}
    plan = world.plan(WANTED, **intent)
    (error,) = [one for one in plan.errors if one.object == "instance web1"]
    assert "undrain.yml -e node=node1" in error.message
    assert "web1" not in {step.instance for step in plan.steps}
    play(world, "undrain", node="node1")
    play(world, **intent)
    assert "web1" in running(world, "node1")


def test_no_other_node_is_rebooted_meanwhile() -> None:
    world = cleared()
    for intent in ({"verb": "maintain", "node": "node3"}, {"verb": "rolling"}):
        plan = world.plan(WANTED, **intent)
        assert (plan.steps, codes(plan)) == ((), [("node node1", "node-rebooting")])
    assert not play(world, "maintain", node="node1,node3").errors, "who takes both is at it himself"


def test_the_last_look_finds_a_guest_that_came_meanwhile() -> None:
    world = cleared()
    world.nodes["node1"]["domains"]["off1"]["state"] = "running"
    plan = world.plan(WANTED, verb="depart", node="node1")
    assert (plan.steps, codes(plan)) == ((), [("node node1", "not-cleared")])
    assert "off1 runs on it" in plan.errors[0].message


@pytest.mark.parametrize("meanwhile", ["given back", "rebooted", "silent"])
def test_the_last_look_finds_a_node_that_is_not_cleared_any_more(meanwhile: str) -> None:
    world = cleared()
    if meanwhile == "given back":
        play(world, "undrain", node="node1")
    elif meanwhile == "rebooted":
        world.reboot("node1")
    else:
        world.power_off("node1")
    plan = world.plan(WANTED, verb="depart", node="node1")
    assert not plan.steps and [finding.object for finding in plan.errors] == ["node node1"]


def _no_disk(world: World) -> None:
    world.nodes["node2"]["resources"]["web1"]["volumes"][0]["disk"] = "Diskless"


def _no_link(world: World) -> None:
    for node in ("node1", "node2"):
        world.nodes[node]["resources"]["off1"]["connection"] = "StandAlone"


@pytest.mark.parametrize(("hurt", "name"), [(_no_disk, "web1"), (_no_link, "off1")])
def test_the_last_look_finds_a_copy_that_failed_while_packages_were_upgraded(hurt: Any, name: str) -> None:
    world = cleared()
    hurt(world)
    plan = world.plan(WANTED, verb="depart", node="node1", packages="upgrade")
    assert (plan.steps, codes(plan)) == ((), [(f"instance {name}", "not-replicated")])


def test_what_is_not_whole_on_other_nodes_alone_does_not_keep_a_cleared_one_from_its_reboot() -> None:
    world = cleared()
    _elsewhere_not_whole(world)
    assert not play(world, "depart", node="node1").errors


@pytest.mark.parametrize("on", ["primary", "secondary"])
def test_no_disks_are_made_anew_while_the_node_of_the_other_copy_is_about_to_be_rebooted(on: str) -> None:
    world = cleared()
    # The one that ran has left, the one that was off has its primary there.
    name = {"primary": "web1", "secondary": "off1"}[on]
    plan = world.plan(WANTED, verb="replace_disks", instance=name, on=on)
    assert (plan.steps, codes(plan)) == ((), [(f"instance {name}", "node-rebooting")])
    assert "node1, which would have the only good copy meanwhile, is about to be rebooted" in plan.errors[0].message
    world.reboot("node1")
    assert not play(world, "rejoin", node="node1").errors
    assert world.plan(WANTED, verb="replace_disks", instance=name, on=on).steps


def test_after_the_last_look_the_lock_stays_until_the_node_is_down() -> None:
    plan = cleared().plan(WANTED, verb="depart", node="node1")
    steps = [step.to_json() for step in plan.steps]
    request = apply.request({"id": "1", "holder": "ann@here"}, steps, {}, held=False, last=True, lease=120, wait=30)
    assert not request["release"]
    request = apply.request({"id": "1", "holder": "ann@here"}, [], {}, held=True, last=True, lease=120, wait=30)
    assert request["release"]


@pytest.mark.parametrize("booted", [False, True])
def test_what_an_interrupted_reboot_left_is_cleared_by_giving_the_node_back_or_by_another_one(booted: bool) -> None:
    for verbs in (["undrain"], ["maintain", "depart", "undrain"]):
        world = cleared()
        if booted:
            world.reboot("node1")
            world.converge(WANTED)
        for verb in verbs:
            assert not play(world, verb, node="node1").errors
        assert running(world, "node1") == {"web1", "bare1"} and world.nodes["node1"]["maintenance"] is None
        assert not world.plan(WANTED).findings and not world.plan(WANTED).steps


def test_a_note_that_cannot_be_read_goes_too() -> None:
    world = healthy()
    world.nodes["node1"]["problems"] = [{"object": "maintenance", "message": "it is damaged", "remedy": "look at it"}]
    assert [step.op for step in world.plan(WANTED, verb="undrain", node="node1").steps] == ["maintenance.end"]
    world.nodes["node1"] |= {"problems": [], "maintenance": {"boot": 7}}
    assert [step.op for step in world.plan(WANTED, verb="undrain", node="node1").steps] == ["maintenance.end"]


# Taking out


def test_a_node_that_holds_something_cannot_go() -> None:
    plan = healthy().plan(WANTED, verb="remove_node", node="node3")
    assert (plan.steps, codes(plan)) == ((), [("instance web2", "node-not-empty")])


def test_an_emptied_node_can_go_and_every_instance_kept_its_second_copy() -> None:
    world = healthy()
    play(world, "evacuate", node="node3")
    play(world, "evacuate", node="node3", mode="secondaries")
    plan = play(world, "remove_node", node="node3")
    assert [(f.code, "bootstrap.yml" in f.remedy) for f in plan.findings] == [("node-empty", True)]
    for name in ("web1", "web2", "off1"):
        assert world.data_copies(name) == ["node1", "node2"]


@pytest.mark.parametrize("limit", range(0, 20, 2))
def test_an_evacuation_killed_anywhere_leaves_a_node_that_cannot_go_or_one_that_is_empty(limit: int) -> None:
    world = healthy()
    world.apply(world.plan(WANTED, verb="evacuate", node="node3"), WANTED, limit)
    documents = world.documents()["node3"]
    assert documents is not None
    empty = not any(documents[part] for part in ("definitions", "volumes", "resources", "domains", "seeds"))
    found = {finding.code for finding in world.plan(WANTED, verb="remove_node", node="node3").findings}
    assert ("node-empty" in found) == empty


def test_a_node_that_does_not_answer_cannot_go_while_an_instance_needs_it() -> None:
    world = healthy()
    world.power_off("node3")
    plan = world.plan(WANTED, verb="remove_node", node="node3")
    assert (plan.steps, codes(plan)) == ((), [("instance web2", "node-not-empty")])
