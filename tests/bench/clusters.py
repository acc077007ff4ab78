# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters for measurements: equal nodes, mirrored instances of mixed sizes, most of them on the first nodes."""

from __future__ import annotations

import random

from twofold.placement.model import Cluster, Group, Instance, Node, Policy, Spec

POLICY = Policy(Spec(4096, 2, 51200), ((Spec(128, 1, 1024), Spec(65536, 16, 1048576, 16, 8, 12)),), ("drbd", "plain"))


def skewed(nodes: int, instances: int, seed: int = 1, skew: float = 2.0) -> Cluster:
    """A cluster whose first nodes hold more than the last ones; the higher skew, the more."""
    rng = random.Random(seed)
    names = [f"node{k:04}" for k in range(nodes)]
    free_mem = dict.fromkeys(names, 262144 - 1024)
    free_dsk = dict.fromkeys(names, 8000000)
    placed: list[Instance] = []
    for k in range(instances):
        memory, disk = rng.choice((1024, 2048, 4096, 6144)), rng.choice((10240, 20480, 51200, 102400))
        primary, secondary = _pick(rng, names, skew), _pick(rng, names, skew)
        while primary == secondary or free_mem[primary] < 4 * memory or free_mem[secondary] < 4 * memory:
            primary, secondary = rng.sample(names, 2)
        free_mem[primary] -= memory
        free_dsk[primary] -= disk
        free_dsk[secondary] -= disk
        vcpus = rng.randint(1, 4)
        placed.append(Instance(f"inst{k:05}", memory, disk, vcpus, primary, secondary, disks=(disk,)))
    members = tuple(
        Node(name, 262144, 1024, free_mem[name], 8000000, free_dsk[name], 64, "u", master=name == names[0], spindles=24)
        for name in names
    )
    return Cluster((Group("g", "u", policy=POLICY),), members, tuple(placed), (), POLICY)


def _pick(rng: random.Random, names: list[str], skew: float) -> str:
    return names[int(len(names) * rng.random() ** skew)]
