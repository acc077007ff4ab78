# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random clusters, random inventories, runs killed anywhere: every history ends in peace."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.lib.cases import desired
from tests.unit.lib.world import World

from twofold.model import Desired
from twofold.planner import Plan

COUNT = 3
SIZES = st.sampled_from(["64MiB", "100MiB", "1GiB"])
MEMORY = st.sampled_from(["128MiB", "300MiB", "1GiB", "3GiB"])
NAMES = st.sampled_from(["a", "b-1", "c.example", "a-disk0"])
NETWORKS = st.sampled_from([{"network": "lan"}, {"network": "bare"}, {"network": "lan", "address": "none"}])
# What a plan may still have to say when it has done all it can.
STANDING = {"no-node-fits", "no-memory"}
# And what inventories that change ask for and do not get.
# An address that only a silent node knew may have been given once more meanwhile.
SAID = {"duplicate-address", "restart-pending", "disk-size-differs", "disks-differ", "disk-template-differs",
        "os-differs", "placement-differs", "not-in-inventory"}  # fmt: skip
# What is said of an instance that was half removed.
LOST = {"volume-missing", "disk-not-up-to-date"}


@st.composite
def instances(draw: st.DrawFn) -> dict[str, Any]:
    """The variables of one instance."""
    template = draw(st.sampled_from(["drbd", "drbd", "plain", "diskless"]))
    nodes = draw(st.permutations([f"node{i}" for i in range(1, COUNT + 1)]))
    pins = {"drbd": 2, "plain": 1, "diskless": 1}[template]
    sizes = draw(st.lists(SIZES, min_size=1, max_size=2)) if template != "diskless" else []
    os = draw(st.sampled_from([None, "debian-13", "script"])) if template != "diskless" else None
    return {
        "twofold_disk_template": template,
        "twofold_disks": [{"size": size} for size in sizes],
        "twofold_memory": draw(MEMORY),
        "twofold_vcpus": draw(st.integers(1, 3)),
        "twofold_nics": draw(st.lists(NETWORKS, max_size=2)),
        "twofold_os": os,
        "twofold_state": draw(st.sampled_from(["running", "running", "stopped", "absent"])),
        "twofold_nodes": nodes[: draw(st.integers(0, pins))],
    }  # fmt: skip


INVENTORIES = st.dictionaries(NAMES, instances(), max_size=4)


def data(world: World, instances: set[str]) -> set[tuple[str, str]]:
    """Every data volume of instances that is not owed anything: node and name."""
    return {
        (node, volume["name"])
        for node, doc in world.nodes.items()
        for volume in doc["volumes"]
        if tagged(volume) & instances and "twofold.role=data" in volume["tags"]
        if not any("pending" in tag for tag in volume["tags"])
    }


def tagged(volume: dict[str, Any]) -> set[str]:
    """The instance that a volume's tag names."""
    return {tag.partition("=")[2] for tag in volume["tags"] if tag.startswith("twofold.instance=")}


def at_peace(world: World, wanted: Desired, called_off: frozenset[str] = frozenset()) -> None:
    """A run that is not disturbed leaves nothing to do, and nothing wrong but what no run can change.

    `called_off` are instances that were being removed and are wanted again: one copy of a disk may be gone, and the
    other not complete if it was never made to the end.
    """
    plan: Plan = world.converge(wanted)
    for _ignored in wanted.instances:
        # What one run frees, the next one may give to an instance that had to wait, and said so.
        if {finding.code for finding in plan.errors} & STANDING:
            plan = world.converge(wanted)
    if "grows-later" in {finding.code for finding in plan.findings}:
        world.converge(wanted)
    after: Plan = world.plan(wanted)
    assert [step.id for step in after.steps] == []
    for finding in after.findings:
        gone = finding.code in LOST and finding.object.removeprefix("instance ") in called_off
        assert gone or finding.code in STANDING | SAID, finding
    for doc in world.nodes.values():
        taken = sum(volume["size"] for volume in doc["volumes"])
        assert doc["volume_groups"]["twofold"]["free"] == doc["volume_groups"]["twofold"]["size"] - taken
        assert not any(resource["allow_two_primaries"] for resource in doc["resources"].values())
        volumes = [volume for volume in doc["volumes"] if tagged(volume) & set(wanted.instances)]
        owed = [tag for volume in volumes for tag in volume["tags"] if "pending" in tag]
        assert owed == []


def running(world: World) -> set[str]:
    """The instances that run."""
    domains = [item for doc in world.nodes.values() for item in doc["domains"].items()]
    return {name for name, domain in domains if domain["state"] == "running"}


def present(world: World) -> set[str]:
    """The instances with a definition."""
    return {name for doc in world.nodes.values() for name in doc["definitions"]}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=st.lists(st.tuples(INVENTORIES, st.none() | st.integers(0, 40)), min_size=1, max_size=4))
def test_every_history_ends_in_peace(history: list[tuple[dict[str, Any], int | None]]) -> None:
    world = World([f"node{i}" for i in range(1, COUNT + 1)])
    called_off: set[str] = set()
    for given_now, limit in history:
        wanted = desired(given_now, COUNT)
        kept = {name for name in present(world) if wanted.instances.get(name) is None or
                wanted.instances[name].state != "absent"}  # fmt: skip
        before = data(world, kept)
        world.apply(world.plan(wanted), wanted, limit)
        assert data(world, kept) >= before
        called_off |= {name for name in wanted.instances if name not in kept}
    at_peace(world, wanted, frozenset(called_off))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(given_now=INVENTORIES, moves=st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(0, 9)), max_size=5))
def test_migrations_killed_anywhere_end_in_peace(
    given_now: dict[str, Any], moves: list[tuple[int, int | None]]
) -> None:
    world = World([f"node{i}" for i in range(1, COUNT + 1)])
    wanted = desired(given_now, COUNT)
    at_peace(world, wanted)
    names = sorted(wanted.instances)
    for index, limit in moves:
        if not names:
            return
        before = running(world)
        plan = world.plan(wanted, verb="migrate", instance=names[index % len(names)], target=None)
        world.apply(plan, wanted, limit)
        if limit is not None:
            at_peace(world, wanted)
        assert running(world) >= before
    at_peace(world, wanted)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(given_now=INVENTORIES, later=INVENTORIES, down=st.sets(st.sampled_from(["node1", "node2", "node3"]), min_size=1))
def test_nothing_is_done_to_or_because_of_a_node_that_does_not_answer(
    given_now: dict[str, Any], later: dict[str, Any], down: set[str]
) -> None:
    world = World([f"node{i}" for i in range(1, COUNT + 1)])
    world.converge(desired(given_now, COUNT))
    world.down = down
    wanted = desired(later, COUNT)
    plan = world.plan(wanted)
    assert not {step.node for step in plan.steps} & down
    touched = {step.instance for step in plan.steps}
    for node in down:
        assert not touched & set(world.nodes[node]["definitions"])
    world.down = set()
    world.apply(plan, wanted)
    at_peace(world, wanted)
