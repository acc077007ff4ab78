# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses of guests and nodes that are taken twice, or are not where the inventory says."""

from __future__ import annotations

from typing import Any

from tests.unit.lib.cases import desired, instance
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
