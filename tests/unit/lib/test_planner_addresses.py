# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses of guests and nodes that are taken twice, or are not where the inventory says."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.lib.cases import CLUSTER, desired, instance
from tests.unit.lib.world import World

from twofold import planner, report
from twofold.model import Desired
from twofold.observed import Observed
from twofold.planner import Plan

COUNT = 5
OFFLINE = {node: {"twofold_node_state": "offline"} for node in ("node1", "node2")}


def told(plan: Plan, code: str) -> list[str]:
    return [finding.object for finding in plan.findings if finding.code == code]


def two(**second: Any) -> dict[str, dict[str, Any]]:
    return {"web1": instance(nodes=["node1", "node2"]), "web2": instance(nodes=["node3", "node4"], **second)}


def with_one_address() -> tuple[World, Desired]:
    """Two guests, one of which was made while the nodes of the other were declared offline, and now all are back."""
    world, before = World(list(desired({}, COUNT).nodes)), desired({"web1": two()["web1"]}, COUNT)
    world.converge(before)
    for node in OFFLINE:
        world.power_off(node)
    without = desired(two(), COUNT, None, **OFFLINE)
    world.apply(world.plan(without, accept_new="web2"), without)
    for node in OFFLINE:
        world.power_on(node)
    return world, desired(two(), COUNT)


def address(world: World, node: str, name: str) -> str:
    return str(world.nodes[node]["definitions"][name]["nics"][0]["address"])


def test_two_guests_with_one_address_are_named_with_what_to_do() -> None:
    world, wanted = with_one_address()
    same = address(world, "node1", "web1")
    assert same == address(world, "node3", "web2")
    plan = world.plan(wanted)
    found = {one.object: one for one in plan.errors}
    assert sorted(found) == ["instance web1", "instance web2"]
    assert same in found["instance web1"].message and "instance web2" in found["instance web1"].message
    assert "instance web1" in found["instance web2"].message and "twofold_nics" in found["instance web2"].remedy
    # Nothing else about them is held up.
    world.apply(plan, wanted)
    assert not world.plan(wanted).steps


def test_who_is_asked_for_alone_is_told_of_alone() -> None:
    world, wanted = with_one_address()
    assert told(world.plan(wanted, instances=["web2"]), "duplicate-address") == ["instance web2"]


def test_another_address_of_one_of_them_ends_it_and_so_does_its_end() -> None:
    world, _wanted = with_one_address()
    gone = desired(two(state="absent"), COUNT)
    assert not told(world.plan(gone), "duplicate-address")
    other = desired(two(nics=[{"network": "lan", "address": "203.0.113.9"}]), COUNT)
    assert not told(world.converge(other), "duplicate-address")
    assert address(world, "node3", "web2") == "203.0.113.9" and not told(world.plan(other), "duplicate-address")


PAIR = ["node1", "node2"]
TINY = {"bridge": "br-lan", "cidr": "192.0.2.128/32"}
# What the inventory says of the interfaces of a guest that is there already, and cannot be had.
IMPOSSIBLE = {
    "another guest's address": [{"network": "lan", "address": "203.0.113.2"}],
    "one of a network that is full": [{"network": "lan"}, {"network": "tiny"}],
}


def with_impossible_interfaces(nics: list[dict[str, Any]]) -> tuple[World, Desired]:
    world, others = World(list(desired({}, COUNT).nodes)), instance(nodes=PAIR, nics=[{"network": "lan"}])
    networks = {"twofold_networks": {**CLUSTER["twofold_networks"], "tiny": TINY}}
    full = instance(nodes=["node4", "node3"], nics=[{"network": "tiny"}])
    world.converge(desired({"web1": others, "web2": others, "full": full}, COUNT, networks))
    assert address(world, "node1", "web1") == "203.0.113.2"
    wanted = desired({"web1": others, "web2": instance(nodes=PAIR, nics=nics), "full": full}, COUNT, networks)
    assert {one.object for one in world.plan(wanted).errors} == {"instance web2"}
    return world, wanted


@pytest.mark.parametrize("nics", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
@pytest.mark.parametrize("verb", ["migrate", "evacuate", "maintain"])
def test_interfaces_that_cannot_be_had_hold_no_guest_on_its_node(verb: str, nics: list[dict[str, Any]]) -> None:
    world, wanted = with_impossible_interfaces(nics)
    before = world.nodes["node1"]["definitions"]["web2"]["nics"]
    named = {"instance": "web2"} if verb == "migrate" else {"node": "node1"}
    plan = world.plan(wanted, verb=verb, **named)
    assert not plan.errors
    world.apply(plan, wanted)
    assert "web2" not in world.nodes["node1"]["domains"]
    (there,) = (node for node, doc in world.nodes.items() if "web2" in doc["domains"])
    assert world.nodes[there]["definitions"]["web2"]["nics"] == before
    assert ("node1" in world.nodes[there]["definitions"]["web2"]["nodes"]) is (verb != "evacuate")


# Addresses of nodes

GUESTS = {
    "web1": instance(nodes=PAIR),
    "web3": instance(nodes=["node3", "node1"]),
    "bare1": instance(disk_template="plain", nodes=["node1"]),
}
WANTED = desired(GUESTS, COUNT)
VERBS = ["converge", "evacuate", "maintain", "drain", "migrate", "failover", "recover", "mend", "balance"]


def healthy() -> World:
    world = World(list(WANTED.nodes))
    world.converge(WANTED)
    world.documents()
    assert not world.plan(WANTED).findings
    return world


def swapped(world: World, one: str, other: str) -> dict[str, dict[str, Any] | None]:
    """What is answered when ansible_host of two nodes is swapped: each under the name that was asked for."""
    found = world.documents()
    first, second = found[one], found[other]
    assert first is not None and second is not None
    return {**found, one: {**second, "node": one}, other: {**first, "node": other}}


def without_address(world: World, *nodes: str) -> World:
    """The interface for replication is down there."""
    for node in nodes:
        kept = [one for one in world.nodes[node]["addresses"] if not one.startswith("198.51.100.")]
        world.nodes[node]["addresses"] = kept
    return world


@pytest.mark.parametrize("verb", VERBS)
def test_nodes_that_answer_in_place_of_each_other_are_left_alone(verb: str) -> None:
    intent = {"verb": verb, "node": "node1", "instance": "web1", "confirm_dead": "node1" if verb == "recover" else None}
    plan = planner.plan(WANTED, swapped(healthy(), "node1", "node2"), intent)
    assert not {"node1", "node2"} & {step.node for step in plan.steps}
    found = {one.object: one for one in plan.errors if one.code == "node-address"}
    assert sorted(found) == ["node node1", "node node2"]
    assert "198.51.100.11, it has 192.0.2.12, 198.51.100.12" in found["node node1"].message
    assert "node2" in found["node node1"].message and "ansible_host" in found["node node1"].remedy
    assert not any("fence.yml" in one.remedy for one in plan.findings if one.object in ("node node1", "node node2"))


def test_a_node_that_answers_for_a_dead_one_is_no_proof_of_anything() -> None:
    world = healthy()
    documents = world.documents()
    first = documents["node1"]
    assert first is not None
    found = {**documents, "node2": {**first, "node": "node2"}}
    assert [view.name for view in Observed.of(WANTED, found).all_known] == ["node1", "node3", "node4", "node5"]
    plan = planner.plan(WANTED, found, {"verb": "recover", "confirm_dead": "node2"})
    assert not plan.steps and told(plan, "node-alive") == ["node node2"]


def test_who_does_not_tell_its_addresses_is_planned_with_as_ever() -> None:
    world, more = healthy(), desired({**GUESTS, "new1": instance(nodes=PAIR)}, COUNT)
    for node in world.nodes.values():
        del node["addresses"]
    assert not world.plan(WANTED).findings and not world.converge(more).errors


def test_an_address_is_the_same_however_it_is_written() -> None:
    at = {"node1": {"twofold_replication_address": "2001:db8::11"}}
    world = healthy()
    world.nodes["node1"]["addresses"] = ["2001:0DB8:0::11"]
    assert not told(world.plan(desired({}, COUNT, None, **at)), "node-address")


def test_a_wrong_replication_address_is_not_told_to_drbd() -> None:
    world, wrong = healthy(), desired(GUESTS, COUNT, None, node1={"twofold_replication_address": "198.51.100.99"})
    plan = world.plan(wrong)
    assert not plan.steps and told(plan, "node-address") == ["instance web1", "instance web3", "node node1"]
    assert {one.severity for one in plan.findings} == {"error", "warning"}
    # It moves as it is, and is told of the address when the node has it.
    assert not world.plan(wrong, verb="migrate", instance="web1").errors
    world.nodes["node1"]["addresses"].append("198.51.100.99")
    plan = world.converge(wrong)
    assert not plan.findings and {step.op for step in plan.steps} >= {"replication.configure"}


def test_an_interface_that_is_down_keeps_nothing_from_being_done_that_could_be_done() -> None:
    """The node counts as known, for its guests can be started as ever, and those of a node that died meanwhile."""
    world = without_address(healthy(), "node1")
    world.nodes["node1"]["domains"]["web1"]["state"] = "shutoff"
    plan = world.plan(WANTED)
    assert told(plan, "node-address") == ["node node1"] and not plan.errors
    assert [(step.node, step.op) for step in plan.steps] == [("node1", "domain.start")]
    world.apply(plan, WANTED)
    world.power_off("node3")
    plan = world.plan(WANTED, verb="recover", confirm_dead="node3")
    assert not plan.errors and ("node1", "domain.start") in [(step.node, step.op) for step in plan.steps]


def test_no_copy_is_made_where_the_interface_is_down() -> None:
    world = without_address(healthy(), "node1", "node2", "node3")
    there = desired({**GUESTS, "new1": instance(nodes=PAIR)}, COUNT)
    assert "instance new1" in {one.object for one in world.plan(there).errors}
    anywhere = desired({**GUESTS, "new1": instance()}, COUNT)
    world.converge(anywhere)
    assert {node for node, doc in world.nodes.items() if "new1" in doc["definitions"]} == {"node4", "node5"}
    # A copy would be filled from a node that nobody reaches, after it had let go of the other one.
    plan = world.plan(WANTED, verb="replace_disks", instance="web1", new_secondary="node4")
    assert not plan.steps and told(plan, "node-address")[0] == "instance web1"


def test_a_node_without_its_address_is_an_error_of_the_cluster() -> None:
    world = without_address(healthy(), "node1")
    found = [one for one in report.verify(WANTED, world.documents()) if one.code == "node-address"]
    assert [one.severity for one in found] == ["error"] and "bring it up" in found[0].remedy
