# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""How tiers shrink: what hspace printed for clusters in which one node lacks another resource than the others."""

from __future__ import annotations

import pytest

from twofold.placement.capacity import CapacityOptions, capacity
from twofold.placement.model import Cluster, Group, Node, Policy, Spec
from twofold.placement.state import State

BOUNDS = ((Spec(64, 1, 256), Spec(16384, 8, 524288, 16, 8, 12)),)


def cluster(cpus: int, full: int) -> Cluster:
    """One node with room for four vCPUs per CPU, and some without memory."""
    policy = Policy(Spec(512, 1, 10240), BOUNDS, ("plain",), vcpu_ratio=4.0)
    nodes = [Node("roomy", 32768, 0, 32768, 1000000, 1000000, cpus, "u", master=True, node_cpus=0, spindles=9)]
    nodes += [Node(f"full{k}", 4096, 0, 1, 1000000, 1000000, 16, "u", node_cpus=0, spindles=9) for k in range(full)]
    return Cluster((Group("group", "u", policy=policy),), tuple(nodes), policy=policy)


@pytest.mark.parametrize(
    ("cpus", "full", "vcpus", "tiers"),
    [
        # What is most in the way, memory, cannot shrink: vCPUs do, but not to the very last one.
        (2, 2, 5, [(5, 1), (3, 1)]),
        (2, 2, 6, [(6, 1), (2, 1)]),
        (2, 2, 7, [(7, 1)]),
        (1, 2, 3, [(3, 1)]),
        # vCPUs are most in the way themselves: all sizes are tried.
        (1, 1, 3, [(3, 1), (1, 1)]),
        (1, 2, 1, [(1, 4)]),
    ],
)
def test_tiers_shrink_as_hspaces(cpus: int, full: int, vcpus: int, tiers: list[tuple[int, int]]) -> None:
    options = CapacityOptions(template="plain", tiered=Spec(64, vcpus, 10240), capacity_checks=False)
    found = capacity(State(cluster(cpus, full)), options).tiered.steps()
    assert [(size.vcpus, number) for size, number in found] == tiers
