# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Written histories: two operators make two instances at the same time, which choose the same minors and port."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from tests.simulation import inventories
from tests.simulation.faults import Fault
from tests.simulation.history import make_peace, run_of
from tests.simulation.inventories import Instances
from tests.simulation.world import World

NODES = 4
CONVERGE = {"verb": "converge"}
# A lock of a run that was killed has lapsed by then.
LAPSED = 200
# Where the first wants `b` and the second wants `a`: the node that they share is the primary or the secondary.
CHOICES = {
    "primaries": (["node4", "node2"], ["node4", "node1"]),
    "primary and secondary": (["node2", "node4"], ["node4", "node1"]),
    "secondaries": (["node1", "node2"], ["node3", "node2"]),
    "the same pair": (["node1", "node2"], ["node2", "node1"]),
}


def wanted(nodes: list[str]) -> dict[str, Any]:
    made = inventories.instance(Random(5), NODES, ("drbd",))
    made |= {"twofold_nodes": nodes, "twofold_state": "running", "twofold_memory": "256MiB", "twofold_os": None}
    return {**made, "twofold_disks": [{"size": "64MiB"}, {"size": "64MiB"}]}


def at_once(choice: str, fault: Fault) -> tuple[World, Instances]:
    """One makes his; at a breath of it the other does, from what the nodes say then."""
    first, second = CHOICES[choice]
    mine: Instances = {"b": wanted(first)}
    theirs: Instances = {"a": wanted(second)}
    world = World(11, NODES)
    run_of(world, mine, CONVERGE, (replace(fault, instances=theirs, intent=CONVERGE),))
    return world, mine | theirs


def running(world: World) -> list[str]:
    return sorted(name for one in world.machines.values() for name in one.libvirt.domains if name in ("a", "b"))


@pytest.mark.parametrize("kind", ["second operator", "lock broken"])
@pytest.mark.parametrize("choice", CHOICES)
def test_both_are_made(choice: str, kind: str) -> None:
    for breath in range(1, 10, 2):
        world, instances = at_once(choice, Fault(breath, kind, 1))
        make_peace(world, instances)
        assert running(world) == ["a", "b"], f"at breath {breath}"


@pytest.mark.parametrize("kind", ["control process", "process killed", "power"])
def test_it_is_gone_on_with_wherever_other_numbers_were_interrupted(kind: str) -> None:
    for breath in range(1, 100, 7):
        world, instances = at_once("primaries", Fault(3, "second operator", 1))
        world.engine.wait(LAPSED)
        struck = run_of(world, instances, CONVERGE, (Fault(breath, kind, 1),)).struck
        make_peace(world, instances)
        assert running(world) == ["a", "b"], f"{kind} at breath {breath}"
        if not struck:
            assert breath > 30
            return
