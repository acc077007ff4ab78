# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random clusters of every kind that the text format can express, the same for the same seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from twofold.placement.model import AllocPolicy, Cluster, Group, Instance, Node, Policy, Spec


@dataclass(frozen=True)
class Shape:
    """What a random cluster may contain; every flag is a chance of 0 to 1."""

    nodes: tuple[int, int] = (3, 8)
    groups: tuple[int, int] = (1, 1)
    per_node: tuple[int, int] = (0, 5)
    offline: float = 0.1
    exclusion: float = 0.4
    locations: float = 0.3
    migration: float = 0.2
    forthcoming: float = 0.05
    down: float = 0.15
    exclusive_storage: float = 0.0
    uniform: float = 0.5
    missing: float = 0.3
    templates: tuple[str, ...] = ("drbd", "drbd", "drbd", "plain", "file", "sharedfile", "ext", "rbd", "diskless")


BOUNDS = ((Spec(64, 1, 256, 1, 1, 1), Spec(16384, 8, 524288, 16, 8, 12)),)


def cluster(seed: int, shape: Shape | None = None) -> Cluster:
    """A random cluster: nodes of one or two sizes, instances with enough room that most moves are possible."""
    rng = random.Random(seed)
    shape = shape or Shape()
    groups = _groups(rng, shape)
    tags = _cluster_tags(rng, shape)
    exclusive = rng.random() < shape.exclusive_storage
    nodes = [_node(rng, k, groups, shape, exclusive) for k in range(rng.randint(*shape.nodes))]
    count = sum(rng.randint(*shape.per_node) for _ignored in nodes)
    instances = [_instance(rng, k, nodes, shape, exclusive) for k in range(count)]
    instances = _fitting(instances, nodes)
    nodes = [_used(rng, node, instances, shape) for node in nodes]
    return Cluster(tuple(groups), tuple(nodes), tuple(instances), tuple(tags), _policy(rng))


def _policy(rng: random.Random) -> Policy:
    templates = ("drbd", "plain", "file", "sharedfile", "ext", "rbd", "diskless", "blockdev", "gluster")
    return Policy(Spec(512, 1, 10240), BOUNDS, templates, rng.choice((2.0, 4.0, 8.0)), 32.0)


def _groups(rng: random.Random, shape: Shape) -> list[Group]:
    policies = list(AllocPolicy)
    count = rng.randint(*shape.groups)
    result = []
    for k in range(count):
        policy = AllocPolicy.PREFERRED if count == 1 else rng.choice(policies)
        result.append(Group(f"group{k}", f"uuid-{k}", policy, policy=_policy(rng)))
    return result


def _cluster_tags(rng: random.Random, shape: Shape) -> list[str]:
    tags = []
    if rng.random() < shape.exclusion:
        tags.append("htools:iextags:service")
    if rng.random() < shape.locations:
        tags += ["htools:nlocation:power", "htools:nlocation:rack"][: rng.randint(1, 2)]
        if rng.random() < 0.5:
            tags.append("htools:desiredlocation:power")
    if rng.random() < shape.migration:
        tags += ["htools:migration:hv", "htools:allowmigration:hv:old::hv:new"]
    return tags


def _node(rng: random.Random, k: int, groups: list[Group], shape: Shape, exclusive: bool) -> Node:
    big = rng.random() < shape.uniform
    tags = [f"power:p{rng.randint(0, 2)}", f"rack:r{rng.randint(0, 2)}", rng.choice(("hv:old", "hv:new"))]
    spindles = rng.randint(20, 40) if exclusive else rng.choice((1, 4, 8))
    return Node(
        name=f"node{k:02}",
        total_memory=32768 if big else 24576,
        node_memory=rng.choice((0, 512, 1024)),
        free_memory=0,
        total_disk=1000000 if big else 800000,
        free_disk=0,
        total_cpus=rng.choice((8, 16)),
        group=groups[k % len(groups)].uuid,
        offline=k > 1 and rng.random() < shape.offline,
        master=k == 0,
        spindles=spindles,
        tags=tuple(t for t in tags if rng.random() < 0.8),
        exclusive_storage=exclusive,
        free_spindles=spindles if exclusive else 0,
        node_cpus=rng.choice((0, 1, 1)),
        cpu_speed=rng.choice((1.0, 1.0, 1.5)),
    )


def _instance(rng: random.Random, k: int, nodes: list[Node], shape: Shape, exclusive: bool) -> Instance:
    template = "plain" if exclusive else rng.choice(shape.templates)
    primary = rng.choice(nodes)
    mates = [n for n in nodes if n.group == primary.group and n is not primary]
    if template == "drbd" and not mates:
        template = "plain"
    status = "running"
    if rng.random() < shape.down:
        status = rng.choice(("ADMIN_down", "ADMIN_offline", "ERROR_down", "ERROR_up", "USER_down"))
    disk = 0 if template == "diskless" else rng.choice((1024, 5000, 10240, 30000, 51200))
    wished = [f"service:{rng.choice('abc')}", f"power:p{rng.randint(0, 2)}"]
    return Instance(
        name=f"inst{k:03}",
        memory=rng.choice((128, 256, 512, 1024, 2048, 3000)),
        disk=disk,
        vcpus=rng.randint(1, 3),
        primary=primary.name,
        secondary=rng.choice(mates).name if template == "drbd" else "",
        template=template,
        status=status,
        auto_balance=rng.random() < 0.9,
        tags=tuple(t for t in wished if rng.random() < 0.5),
        spindle_use=rng.randint(1, 2),
        spindles=rng.randint(1, 2) if exclusive else None,
        forthcoming=rng.random() < shape.forthcoming,
        disks=(disk,),
    )


def _fitting(instances: list[Instance], nodes: list[Node]) -> list[Instance]:
    """Only as many instances as leave every node some memory and disk."""
    memory = {n.name: 0.75 * (n.total_memory - n.node_memory) for n in nodes}
    disk = {n.name: 0.8 * n.total_disk for n in nodes}
    kept: list[Instance] = []
    for i in instances:
        homes = [h for h in (i.primary, i.secondary) if h]
        if memory[i.primary] < i.memory or any(disk[h] < i.disk for h in homes):
            continue
        memory[i.primary] -= i.memory
        for h in homes:
            disk[h] -= i.disk
        kept.append(replace(i, name=f"inst{len(kept):03}"))
    return kept


def _used(rng: random.Random, node: Node, instances: list[Instance], shape: Shape) -> Node:
    mine = [i for i in instances if i.primary == node.name]
    held = [i for i in instances if node.name in (i.primary, i.secondary) and not i.forthcoming]
    local = sum(i.disk for i in held if i.template in ("plain", "drbd"))
    spindles = sum(i.spindles or 0 for i in held)
    missing = rng.randint(0, 400) if rng.random() < shape.missing else 0
    free = int(node.total_memory) - node.node_memory - sum(i.memory for i in mine if i.uses_memory) - missing
    if free == _reserved(node, instances):
        # The releases differ in whether a node with exactly no memory left over fails N+1.
        free -= 1
    return replace(
        node,
        free_memory=free,
        free_disk=int(node.total_disk) - local,
        free_spindles=max(0, node.free_spindles - spindles),
    )


def _reserved(node: Node, instances: list[Instance]) -> int:
    peers: dict[str, int] = {}
    for i in instances:
        if i.secondary == node.name and i.auto_balance and i.not_offline and not i.forthcoming:
            peers[i.primary] = peers.get(i.primary, 0) + i.memory
    return max(peers.values(), default=0)
