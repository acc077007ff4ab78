# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses of guests and nodes that are taken twice, or are not where the inventory says."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.lib.cases import CLUSTER, desired, instance
from tests.unit.lib.world import World

from twofold.model import Desired
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
