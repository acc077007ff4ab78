# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes are rebooted and taken out without a guest that notices, and never while something is not whole."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import World

from twofold.planner import Plan

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
    world.reboot("node1")
    plan = play(world, "rejoin", node="node1")
    assert {(s.instance, s.op) for s in plan.steps} == {
        (name, op) for name in ("web1", "off1") for op in ("replication.configure", "replication.wait")
    }
    assert not play(world, "undrain", node="node1").errors
    assert running(world, "node1") == {"web1", "bare1"}
    assert not world.plan(WANTED).steps


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


def test_what_is_not_whole_elsewhere_does_not_keep_one_node_from_its_reboot() -> None:
    world = healthy()
    _elsewhere_not_whole(world)
    assert not world.plan(WANTED, verb="maintain", node="node1").errors


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
