# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cluster as the placement engine sees it: what is wanted and what is observed, in MiB.

Room is counted so that the engine never finds more than there is: what there is is rounded down, what is needed up.
A guest that is off and should be takes disk alone. A node's disk is its own volume group.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from .. import names, units
from ..model import Desired, Flavour, Instance, Node
from ..observed import Observed, Trace
from ..placement import Cluster, Group, Placement, Policy, Request, Rules
from ..placement import Instance as Guest
from ..placement import Node as Host
from . import affinity
from .claims import Claims
from .situation import primary_of

MIB = 1 << 20
#: What a template is to the engine: a guest without disks can run on any node, as one on shared storage can.
TEMPLATES = {"drbd": "drbd", "plain": "plain", "diskless": "sharedfile"}
#: The engine counts spindles, which nobody states here.
_NO_LIMIT = 1e6


def down(size: int) -> int:
    """Bytes in whole MiB, rounded down."""
    return size // MIB


def up(size: int) -> int:
    """Bytes in whole MiB, rounded up."""
    return -(-size // MIB)


def cluster(desired: Desired, observed: Observed, claims: Claims) -> Cluster:
    """Nodes, and every instance that has a definition on a known node of the inventory."""
    policy = Policy(bounds=(), vcpu_ratio=desired.cluster.vcpu_ratio, spindle_ratio=_NO_LIMIT)
    groups = sorted({node.group for node in desired.nodes.values()})
    nodes = [_node(observed, claims, node) for _ignored, node in sorted(desired.nodes.items())]
    guests = [_guest(desired, observed, claims, observed.trace(name)) for name in sorted(observed.names())]
    domains = any(node.failure_domain for node in desired.nodes.values())
    return Cluster(
        tuple(Group(name, name, policy=policy) for name in groups),
        tuple(nodes),
        tuple(guest for guest in guests if guest is not None),
        (f"htools:nlocation:{affinity.DOMAIN}",) if domains else (),
        policy,
    )


def _node(observed: Observed, claims: Claims, node: Node) -> Host:
    view = observed.known(node.name)
    tags = (*(f"{affinity.DOMAIN}:{name}" for name in node.failure_domain), *node.tags)
    if view is None:
        return Host(node.name, 0, 0, 0, 0, 0, 0, node.group, offline=True, tags=tags, node_cpus=0)
    space = view.volume_group(node.volume_group) or {"size": 0}
    return Host(
        node.name,
        total_memory=down(view.memory_total),
        node_memory=up(node.reserved_memory),
        free_memory=down(claims.memory_free(node.name)),
        total_disk=down(space["size"]),
        free_disk=down(claims.space_free(node.name, node.volume_group) or 0),
        total_cpus=view.cpus,
        group=node.group,
        offline=node.state != "online" or view.rebooting is not None,
        tags=tags,
        node_cpus=0,
    )


def _guest(desired: Desired, observed: Observed, claims: Claims, trace: Trace) -> Guest | None:
    base = trace.newest
    if base is None:
        return None
    primary = _primary(observed, trace, base)
    if primary not in desired.nodes:
        return None
    memory = _memory(observed, claims, base, primary)
    domain, wanted = trace.domains.get(primary), desired.instances.get(trace.name)
    vcpus = domain.vcpus if domain is not None else int(base["vcpus"])
    second = [node for node in base["nodes"] if node != primary and node in desired.nodes]
    return Guest(
        trace.name,
        memory=up(memory),
        disk=up(_disk(desired, base, primary)),
        vcpus=vcpus if memory else 0,
        primary=primary,
        secondary=second[0] if base["disk_template"] == "drbd" and second else "",
        template=TEMPLATES[base["disk_template"]],
        status="running" if memory else "ADMIN_down",
        auto_balance=wanted.auto_balance if wanted is not None else True,
    )


def _primary(observed: Observed, trace: Trace, base: dict[str, Any]) -> str:
    """Where it runs or will run. With a node unknown, only a guest that is seen running outdoes the definition."""
    running = [node for node, domain in sorted(trace.domains.items()) if domain.active]
    if running or all(observed.known(node) is not None for node in base["nodes"]):
        return primary_of(trace, base["nodes"])
    return str(base["nodes"][0])


def _memory(observed: Observed, claims: Claims, base: dict[str, Any], primary: str) -> int:
    """Bytes that it holds. On an unknown node what it is meant to have: its secondary may need as much."""
    if observed.known(primary) is not None:
        return claims.guest_memory(primary, base["name"])
    return int(base["memory"]) if base["state"] == "running" else 0


def _disk(desired: Desired, base: dict[str, Any], node: str) -> int:
    """Bytes that an instance has in its node's own volume group."""
    own = desired.nodes[node].volume_group
    disks = [disk["size"] for disk in base["disks"] if disk["volume_group"].get(node) == own]
    return sum(taken(size, replicated=base["disk_template"] == "drbd") for size in disks)


def taken(size: int, *, replicated: bool) -> int:
    """Bytes of extents that a disk takes."""
    return units.round_up(size, names.EXTENT) + (names.meta_size(size) if replicated else 0)


def request(desired: Desired, claims: Claims, instance: Instance, rules: Rules) -> Request:
    """What a new instance asks for."""
    running = instance.state == "running"
    sizes = [claims.needed(name, instance).get(node.volume_group, 0) for name, node in desired.nodes.items()]
    return Request(
        instance.name,
        memory=up(instance.memory) if running else 0,
        vcpus=instance.vcpus if running else 0,
        disks=(up(max(sizes)),) if instance.disks else (),
        template=TEMPLATES[instance.disk_template],
        rules=rules,
        running=running,
        metadata=0,
        auto_balance=instance.auto_balance,
    )


def flavour(name: str, size: Flavour) -> Guest:
    """An instance of a flavour, not placed."""
    replicated = size.disk_template == "drbd"
    disks = [taken(disk.size, replicated=replicated) for disk in size.disks if disk.volume_group is None]
    return Guest(name, up(size.memory), up(sum(disks)), size.vcpus, template=TEMPLATES[size.disk_template])


def with_placed(found: Cluster, requests: Iterable[Request], placed: Iterable[Placement]) -> Cluster:
    """The cluster once the instances that found a place are on it."""
    nodes = {node.name: node for node in found.nodes}
    guests = []
    for wanted, place in zip(requests, placed, strict=True):
        if place.nodes:
            first, *second = place.nodes
            guest = replace(wanted.instance(), primary=first, secondary=second[0] if second else "")
            guests.append(guest)
            nodes[first] = replace(nodes[first], free_memory=nodes[first].free_memory - guest.memory)
            for name in place.nodes:
                nodes[name] = replace(nodes[name], free_disk=nodes[name].free_disk - guest.disk)
    return replace(found, nodes=tuple(nodes.values()), instances=(*found.instances, *guests))
