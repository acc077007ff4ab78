# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes without KVM: no guest that needs it, and no copy of one, goes there; what is there already stays."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import World

from twofold.model import Desired

REASON = "no /dev/kvm (switch virtualization on in the firmware, or set twofold_virtualization to qemu)"
PLAIN: dict[str, Any] = {"disk_template": "plain"}


def cluster(*without: str, count: int = 3, **variables: Any) -> tuple[World, Desired]:
    """web1 on node1 and node2; then some nodes lose their KVM."""
    wanted = desired({"web1": instance(**{"nodes": ["node1", "node2"], **variables})}, count)
    world = World(list(wanted.nodes))
    world.converge(wanted)
    for node in without:
        world.nodes[node]["kvm"] = False
    return world, wanted


def new(*without: str, **variables: Any) -> tuple[World, Desired]:
    """web1 is not made yet."""
    wanted = desired({"web1": instance(**variables)})
    world = World(list(wanted.nodes))
    for node in without:
        world.nodes[node]["kvm"] = False
    return world, wanted


def test_a_new_guest_is_made_where_it_can_start() -> None:
    world, wanted = new("node1")
    (change,) = world.plan(wanted).summary
    assert set(change.on) == {"node2", "node3"} and f"not node1: {REASON}" in change.why


@pytest.mark.parametrize("variables", [{}, {"nodes": ["node1", "node2"]}, {**PLAIN, "nodes": ["node2"]}])
def test_a_new_guest_that_could_start_nowhere_is_refused(variables: dict[str, Any]) -> None:
    world, wanted = new("node1", "node2", **variables)
    (found,) = world.plan(wanted).errors
    assert (found.code, world.plan(wanted).steps) == ("no-node-fits", ()) and REASON in found.message


@pytest.mark.parametrize("intent", [{}, {"new_secondary": "node3"}])
def test_a_second_copy_does_not_go_where_the_guest_cannot_start(intent: dict[str, str]) -> None:
    world, wanted = cluster("node3")
    plan = world.plan(wanted, verb="replace_disks", instance="web1", **intent)
    assert not plan.steps and REASON in plan.errors[0].message


@pytest.mark.parametrize(
    ("mode", "node", "without"),
    [("primaries", "node1", "node2"), ("secondaries", "node2", "node3"), ("both", "node1", "node3")],
)
def test_nothing_is_evacuated_to_where_it_cannot_start(mode: str, node: str, without: str) -> None:
    world, wanted = cluster(without)
    plan = world.plan(wanted, verb="evacuate", node=node, mode=mode)
    (found,) = plan.errors
    assert found.code == "no-node-fits" and REASON in found.message
    assert without not in plan.nodes


def test_a_guest_with_its_disks_does_not_move_to_where_it_cannot_start() -> None:
    world, wanted = cluster("node2", **PLAIN, nodes=["node1"])
    assert world.plan(wanted, verb="migrate", instance="web1", target="node2").errors
    (change,) = world.plan(wanted, verb="migrate", instance="web1").summary
    assert change.on == ("node1", "node3")


def test_balance_leaves_out_a_node_where_guests_cannot_start() -> None:
    pairs = {f"web{i}": instance(nodes=["node1", "node2"], memory="512MiB") for i in range(4)}
    wanted = desired(pairs, 3, cluster={"twofold_vcpu_ratio": 64})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    free = desired({name: {**given, "twofold_nodes": []} for name, given in pairs.items()}, 3)
    assert any(step.node == "node3" for step in world.plan(free, verb="balance").steps)
    world.nodes["node3"]["kvm"] = False
    assert not any(step.node == "node3" for step in world.plan(free, verb="balance").steps)


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_what_is_there_already_stays(node: str) -> None:
    world, wanted = cluster(node)
    for verb in ("converge", "mend", "balance"):
        plan = world.plan(wanted, verb=verb)
        assert (plan.steps, plan.errors) == ((), [])
    # Its other copy may go elsewhere, and its lost one be made anew where it was.
    other = "secondary" if node == "node1" else "primary"
    assert not world.plan(wanted, verb="replace_disks", instance="web1", on=other).errors
    assert not world.plan(wanted, verb="replace_disks", instance="web1", new_secondary="node3").errors


@pytest.mark.parametrize("said", [None, True])
def test_only_a_node_that_says_so_has_none(said: bool | None) -> None:
    world, wanted = cluster()
    for document in world.nodes.values():
        document["kvm"] = said
    assert not world.plan(wanted, verb="replace_disks", instance="web1").errors


def test_an_emulated_guest_goes_anywhere() -> None:
    world, wanted = cluster("node1", "node2", "node3", virtualization="qemu")
    for verb in ("migrate", "failover", "replace_disks"):
        plan = world.plan(wanted, verb=verb, instance="web1")
        assert plan.steps and not plan.errors
