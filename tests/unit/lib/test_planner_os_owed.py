# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""An OS that was not written to the end: both nodes know it, and nowhere does a guest start without it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import World

from twofold import definition
from twofold.planner import Plan

PAIR = {"nodes": ["node1", "node2"], "os": "debian-13"}
WANTED = desired({"web1": instance(**PAIR)})
NEW, ANEW = {"verb": "converge"}, {"verb": "reinstall", "instance": "web1", "confirm": "web1"}
DEAD = {"instance": "web1", "confirm_dead": "node1"}


def before(intent: dict[str, Any]) -> World:
    """Nodes on which the plan of an intent writes an OS."""
    world = World(list(WANTED.nodes))
    if intent is ANEW:
        world.converge(WANTED)
    return world


def in_order(plan: Plan) -> list[str]:
    """The operations as they are carried out, each with its node."""
    return [f"{step.op}@{step.node}" for step in sorted(plan.steps, key=lambda step: step.wave)]


def stopped_at(intent: dict[str, Any], op: str, *, after: bool = False) -> World:
    """The plan of an intent was killed before (or after) its first step of this name."""
    world = before(intent)
    plan = world.plan(WANTED, **intent)
    world.apply(plan, WANTED, in_order(plan).index(op) + after)
    return world


def runs(world: World, node: str) -> bool:
    """Whether the guest runs on a node."""
    return bool(world.nodes[node]["domains"].get("web1", {}).get("state") == "running")


def said(world: World) -> list[str | None]:
    """Where the definitions of both nodes say that the OS is owed."""
    found = [world.nodes[node]["definitions"]["web1"] for node in ("node1", "node2")]
    return [one.get(definition.OWED) for one in found]


@pytest.mark.parametrize("intent", [NEW, ANEW])
def test_both_nodes_know_it_while_an_os_is_owed_and_the_guest_starts_last(intent: dict[str, Any]) -> None:
    world = before(intent)
    plan = world.plan(WANTED, **intent)
    order, started = in_order(plan), "domain.start@node1"
    for limit in range(1, len(order) + 1):
        world = before(intent)
        world.apply(plan, WANTED, limit)
        owed = [v["name"] for v in world.nodes["node1"]["volumes"] if "twofold.pending=install" in v["tags"]]
        assert not owed or said(world) == ["node1", "node1"], order[:limit]
        assert started not in order[:limit] or said(world) == [None, None], order[:limit]
    assert order.index("os.install@node1") < order.index("definition.write@node2", order.index("os.install@node1"))
    assert runs(world, "node1") and not world.plan(WANTED).steps


@pytest.mark.parametrize("verb", ["failover", "recover"])
@pytest.mark.parametrize("intent", [NEW, ANEW])
def test_a_copy_without_its_os_is_not_taken_over(intent: dict[str, Any], verb: str) -> None:
    world = stopped_at(intent, "os.install@node1")
    world.power_off("node1")
    plan = world.plan(WANTED, verb=verb, **DEAD)
    assert (plan.steps, [f.code for f in plan.errors]) == ((), ["not-created"])
    assert "node1" in plan.errors[0].message and "site.yml" in plan.errors[0].remedy
    world.power_on("node1")
    world.converge(WANTED)
    assert runs(world, "node1") and said(world) == [None, None] and not world.plan(WANTED).steps


@pytest.mark.parametrize("intent", [NEW, ANEW])
def test_wherever_it_is_killed_no_guest_starts_without_its_os(intent: dict[str, Any]) -> None:
    plan = before(intent).plan(WANTED, **intent)
    order = in_order(plan)
    begun = order.index("replication.promote@node1" if intent is NEW else "volumes.owe_install@node1") + 1
    for limit in range(begun, len(order) + 1):
        world = before(intent)
        world.apply(plan, WANTED, limit)
        world.power_off("node1")
        world.apply(world.plan(WANTED, verb="recover", **DEAD), WANTED)
        assert not runs(world, "node2") or "os.install@node1" in order[:limit], order[:limit]
        assert runs(world, "node2") or "domain.start@node1" not in order[:limit], order[:limit]
        world.power_on("node1")
        world.converge(WANTED)
        world.resync()
        world.converge(WANTED)
        assert runs(world, "node1") != runs(world, "node2") and not world.plan(WANTED).steps, order[:limit]


def test_the_node_that_wrote_the_os_goes_on_without_the_other_one() -> None:
    world = stopped_at(NEW, "os.install@node1", after=True)
    world.power_off("node2")
    assert said(world) == ["node1", "node1"]
    world.apply(world.plan(WANTED, verb="recover", confirm_dead="node2"), WANTED)
    assert runs(world, "node1") and said(world) == [None, "node1"]
    world.power_on("node2")
    world.converge(WANTED)
    assert said(world) == [None, None] and not world.plan(WANTED).steps


@pytest.mark.parametrize("intent", [NEW, ANEW])
def test_new_hardware_under_the_name_of_a_lost_node_gets_the_os(intent: dict[str, Any]) -> None:
    world = stopped_at(intent, "os.install@node1")
    world.destroy("node1")
    first = world.converge(WANTED)
    assert [f.code for f in first.errors] == ["not-created"] and not (runs(world, "node1") or runs(world, "node2"))
    for _round in range(2):
        world.resync()
        world.converge(WANTED)
    assert runs(world, "node1") and said(world) == [None, None] and not world.plan(WANTED).steps


@pytest.mark.parametrize("verb", ["failover", "migrate"])
def test_an_instance_without_its_os_stays_where_that_is_written(verb: str) -> None:
    world = stopped_at(ANEW, "os.install@node1")
    plan = world.plan(WANTED, verb=verb, instance="web1")
    assert not plan.steps and plan.errors


def test_a_drained_node_keeps_what_waits_for_its_os() -> None:
    world = stopped_at(ANEW, "os.install@node1")
    plan = world.plan(WANTED, verb="evacuate", node="node1", mode="primaries")
    assert not plan.steps and "not-created" in [f.code for f in plan.errors]


@pytest.mark.parametrize("variables", [{"os": None}, {"disk_template": "plain", "nodes": ["node1"]}])
def test_who_has_no_second_copy_or_no_os_says_nothing(variables: dict[str, Any]) -> None:
    wanted = desired({"web1": instance(**{**PAIR, **variables})})
    world = World(list(wanted.nodes))
    plan = world.converge(wanted)
    written = [step.args["document"] for step in plan.steps if step.op == "definition.write"]
    assert written and not any(definition.OWED in document for document in written)


def test_a_reinstallation_that_gave_up_nothing_yet_is_not_made_up_for_by_fresh_disks() -> None:
    """The definitions say it, the disk with the guest's data does not: it was killed before that."""
    anew = {"verb": "replace_disks", "instance": "web1", "on": "primary"}
    world = stopped_at(ANEW, "volumes.owe_install@node1")
    assert said(world) == ["node1", "node1"]
    for limit in range(1, len(world.plan(WANTED, **anew).steps) + 1):
        world = stopped_at(ANEW, "volumes.owe_install@node1")
        world.apply(world.plan(WANTED, **anew), WANTED, limit)
        for _turn in range(2):
            plan = world.plan(WANTED)
            assert "os.install" not in [step.op for step in plan.steps], limit
            world.apply(plan, WANTED)
            world.resync()
        assert runs(world, "node1") and said(world) == [None, None], limit


PLAIN = desired({"web1": instance(nodes=["node1"], os="debian-13", disk_template="plain")})


@pytest.mark.parametrize("wanted", [WANTED, PLAIN])
@pytest.mark.parametrize("keeps", [False, True])
def test_no_os_is_written_under_a_guest_that_was_started_by_hand(wanted: Any, keeps: bool) -> None:
    world = World(list(wanted.nodes))
    world.converge(wanted)
    plan = world.plan(wanted, **ANEW)
    world.apply(plan, wanted, in_order(plan).index("os.install@node1"))
    held = world.nodes["node1"]
    held["domains"]["web1"]["state"] = "running"
    for resource in held["resources"].values():
        resource["role"] = "Primary"
    plan = world.plan(wanted)
    assert [f.code for f in plan.errors] == ["running"] and "os.install" not in [step.op for step in plan.steps]
    assert "lvchange --deltag twofold.pending=install twofold/web1-disk0" in plan.errors[0].remedy
    world.apply(plan, wanted)
    assert definition.OWED in held["definitions"]["web1"] or wanted is PLAIN
    # Either of the remedies.
    if keeps:
        (disk,) = (volume for volume in held["volumes"] if volume["name"] == "web1-disk0")
        disk["tags"].remove("twofold.pending=install")
    else:
        held["domains"]["web1"]["state"] = "shutoff"
    plan = world.converge(wanted)
    assert ("os.install" in [step.op for step in plan.steps]) != keeps and not plan.errors
    assert runs(world, "node1") and not world.plan(wanted).steps
    assert definition.OWED not in held["definitions"]["web1"]


@pytest.mark.parametrize("verb", ["converge", "reinstall"])
def test_who_stops_the_guest_first_writes_its_os(verb: str) -> None:
    world = stopped_at(ANEW, "os.install@node1")
    world.nodes["node1"]["domains"]["web1"]["state"] = "running"
    world.nodes["node1"]["resources"]["web1"]["role"] = "Primary"
    state = "stopped" if verb == "converge" else "running"
    plan = world.plan(desired({"web1": instance(**PAIR, state=state)}), **(ANEW if verb == "reinstall" else NEW))
    order = in_order(plan)
    assert not plan.errors and order.index("domain.stop@node1") < order.index("os.install@node1")
