# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Halves of interrupted migrations: which one is the guest, which one is ended, and when nobody can tell."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import Refused, World

from twofold import planner
from twofold.model import Desired
from twofold.planner import Plan

KINDS: dict[str, dict[str, Any]] = {
    "drbd": {"nodes": ["node1", "node2"], "os": "debian-13"},
    "plain": {"nodes": ["node1"], "os": "debian-13", "disk_template": "plain"},
    "diskless": {"nodes": ["node1"], "disk_template": "diskless", "disks": []},
}


def interrupted(template: str, source: str | None, **more: Any) -> tuple[World, Desired]:
    """The guest's half waits on node2; `source` is the state of its domain on node1, None if it is gone."""
    wanted = desired({"web1": instance(**KINDS[template], **more)})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    plan = world.plan(wanted, verb="migrate", instance="web1", target="node2")
    order = sorted(plan.steps, key=lambda step: step.wave)
    world.apply(plan, wanted, limit=next(i for i, step in enumerate(order, 1) if step.op == "domain.migrate"))
    half = world.nodes["node2"]["domains"]["web1"]
    if source is not None:
        world.nodes["node1"]["domains"]["web1"] = {
            **copy.deepcopy(half),
            "state": source,
            "stranded": source == "paused",
        }
    half["state"] = "paused"
    return world, wanted


def states(world: World) -> dict[str, str]:
    return {node: doc["domains"]["web1"]["state"] for node, doc in world.nodes.items() if "web1" in doc["domains"]}


def ops(plan: Plan) -> list[tuple[str, str]]:
    return [(step.op.removeprefix("domain."), step.node) for step in plan.steps if step.op.startswith("domain.")]


@pytest.mark.parametrize("template", KINDS)
@pytest.mark.parametrize("source", [None, "running", "paused", "shutoff"])
def test_the_next_run_clears_it_up(template: str, source: str | None) -> None:
    world, wanted = interrupted(template, source)
    plan = world.plan(wanted)
    assert not plan.errors
    if source is None:
        assert ops(plan) == [("resume", "node2")]
    else:
        assert ops(plan)[:2] == [("present", "node1"), ("discard", "node2")]
        (given_up,) = [step for step in plan.steps if step.op == "domain.discard"]
        assert given_up.risk and "domain.present" in "".join(given_up.needs)
        assert all(given_up.id in step.needs for step in plan.steps if step.op == "replication.settle")
        assert len(plan.summary) == 1
    world.apply(plan, wanted)
    assert states(world) == {"node2" if source is None else "node1": "running"}
    assert not world.converge(wanted).errors
    assert not world.plan(wanted).steps


@pytest.mark.parametrize("template", KINDS)
@pytest.mark.parametrize("source", [None, "running", "paused"])
def test_it_may_be_interrupted_again_anywhere(template: str, source: str | None) -> None:
    done = False
    for limit in range(20):
        world, wanted = interrupted(template, source)
        plan = world.plan(wanted)
        world.apply(plan, wanted, limit)
        assert not world.converge(wanted).errors, limit
        assert states(world) == {"node2" if source is None else "node1": "running"}, limit
        assert not world.plan(wanted).steps, limit
        done = limit > len(plan.steps)
    assert done


def test_what_has_gone_on_at_the_target_meanwhile_is_not_ended() -> None:
    """The nodes were looked at one after the other, while the migration was just ending."""
    world, wanted = interrupted("drbd", "running")
    plan = world.plan(wanted)
    del world.nodes["node1"]["domains"]["web1"]
    with pytest.raises(Refused, match="it has moved"):
        world.apply(plan, wanted)
    assert states(world) == {"node2": "paused"}
    world.converge(wanted)
    assert states(world) == {"node2": "running"}


def test_nothing_is_ended_while_the_migration_goes_on() -> None:
    world, wanted = interrupted("drbd", "running")
    world.nodes["node1"]["domains"]["web1"]["migrating"] = True
    plan = world.plan(wanted)
    assert (plan.steps, [one.code for one in plan.errors]) == ((), ["migrating"])


@pytest.mark.parametrize("verb", ["migrate", "failover", "grow", "replace_disks"])
def test_nothing_else_is_begun_before(verb: str) -> None:
    world, wanted = interrupted("drbd", "running")
    more: dict[str, dict[str, Any]] = {
        "grow": {"disk": 0, "size": "2GiB"}, "replace_disks": {"new_secondary": "node3"},
    }  # fmt: skip
    plan = world.plan(wanted, verb=verb, instance="web1", **more.get(verb, {}))
    assert not plan.steps
    assert "site.yml" in next(one.remedy for one in plan.errors if one.code == "not-settled")


def test_while_the_copies_are_apart_it_goes_on_waiting() -> None:
    """What the source wrote last may be there alone; and the definition that says so is not replaced."""
    world, wanted = interrupted("drbd", None)
    documents = world.documents()
    for node in ("node1", "node2"):
        document = documents[node]
        assert document is not None
        document["resources"]["web1"].update(connection="Connecting", peer_role="Unknown")
    plan = planner.plan(wanted, documents, {"verb": "converge"})
    assert "definition.write" not in [step.op for step in plan.steps] and not ops(plan)
    (said,) = [one for one in plan.errors if one.code == "guest-state"]
    assert "since its migration from node1 was interrupted" in said.message and "virsh destroy web1" in said.remedy
    world.converge(wanted)
    assert states(world) == {"node2": "running"}


def test_another_machine_under_the_sources_name_tells_nothing_of_what_ran_there() -> None:
    world, wanted = interrupted("drbd", None)
    for part in ("definitions", "domains", "resources", "seeds"):
        world.nodes["node1"][part].clear()
    world.nodes["node1"]["volumes"] = []
    plan = world.plan(wanted)
    assert not ops(plan) and "guest-state" in [one.code for one in plan.errors]


def test_when_the_source_is_dead_it_starts_anew_from_its_disks() -> None:
    """It may have gone on at the source before that died: what waits is older then."""
    world, wanted = interrupted("drbd", "running")
    world.power_off("node1")
    plan = world.plan(wanted, verb="recover", confirm_dead=["node1"])
    assert not plan.errors
    assert ops(plan) == [("discard", "node2"), ("define", "node2"), ("start", "node2")]
    world.apply(plan, wanted)
    assert states(world)["node2"] == "running"


def torn(*where: str) -> tuple[World, Desired]:
    """A post-copy migration from node1 lost its connection after the guest had changed over."""
    world, wanted = interrupted("drbd", "paused")
    for node in where:
        world.nodes[node]["domains"]["web1"].update(state="postcopy-failed", stranded=False)
    return world, wanted


@pytest.mark.parametrize("where", [("node1", "node2"), ("node1",), ("node2",)])
@pytest.mark.parametrize("verb", ["converge", "migrate", "failover"])
def test_a_guest_whose_memory_is_on_two_nodes_is_left_to_the_operator(where: tuple[str, ...], verb: str) -> None:
    world, wanted = torn(*where)
    plan = world.plan(wanted, **({"verb": verb, "instance": "web1"} if verb != "converge" else {}))
    assert not ops(plan)
    (said,) = [one for one in plan.errors if one.code == "guest-state"]
    assert f"its memory is on {' and '.join(where)}" in said.message and "virsh destroy web1" in said.remedy


def test_when_its_memory_is_given_up_it_starts_from_its_disks() -> None:
    world, wanted = torn("node1", "node2")
    for node in ("node1", "node2"):
        world.nodes[node]["domains"]["web1"]["state"] = "shutoff"
    assert not world.converge(wanted).errors
    assert list(states(world).values()) == ["running"]
    assert not world.plan(wanted).steps


@pytest.mark.parametrize("dead", ["node1", "node2"])
def test_when_one_node_of_two_with_its_memory_is_dead_it_starts_from_its_disks(dead: str) -> None:
    world, wanted = torn("node1", "node2")
    world.power_off(dead)
    (left,) = {"node1", "node2"} - {dead}
    plan = world.plan(wanted, verb="recover", confirm_dead=[dead])
    assert not plan.errors
    (ended,) = [step for step in plan.steps if step.op == "domain.discard"]
    assert ended.node == left and "is not whole" in ended.why and ended.risk
    world.apply(plan, wanted)
    assert states(world)[left] == "running"
