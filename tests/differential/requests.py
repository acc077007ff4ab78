# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters and requests as the iallocator protocol writes them."""

from __future__ import annotations

import random
from typing import Any

from twofold.placement.model import Cluster, Group, Instance, Node, Policy, Spec

Json = dict[str, Any]


def _spec(spec: Spec) -> Json:
    return {
        "memory-size": spec.memory,
        "cpu-count": spec.vcpus,
        "disk-size": spec.disk_size,
        "disk-count": spec.disk_count,
        "nic-count": spec.nic_count,
        "spindle-use": spec.spindle_use,
    }


def _policy(policy: Policy) -> Json:
    return {
        "std": _spec(policy.std),
        "minmax": [{"min": _spec(low), "max": _spec(high)} for low, high in policy.bounds],
        "disk-templates": list(policy.templates),
        "vcpu-ratio": policy.vcpu_ratio,
        "spindle-ratio": policy.spindle_ratio,
    }


def _group(group: Group) -> Json:
    return {
        "name": group.name,
        "alloc_policy": group.alloc_policy.value,
        "networks": list(group.networks),
        "ipolicy": _policy(group.policy),
        "tags": list(group.tags),
    }


def _node(node: Node) -> Json:
    return {
        "tags": list(node.tags),
        "primary_ip": "192.0.2.1",
        "secondary_ip": "198.51.100.1",
        "offline": node.offline,
        "drained": False,
        "master_candidate": True,
        "group": node.group,
        "master_capable": True,
        "vm_capable": True,
        "ndparams": {
            "spindle_count": node.spindles,
            "exclusive_storage": node.exclusive_storage,
            "oob_program": None,
            "cpu_speed": node.cpu_speed,
        },
        "total_memory": int(node.total_memory),
        "reserved_memory": node.node_memory,
        "free_memory": node.free_memory,
        "total_disk": int(node.total_disk),
        "free_disk": node.free_disk,
        "total_spindles": node.spindles,
        "free_spindles": node.free_spindles,
        "total_cpus": int(node.total_cpus),
        "reserved_cpus": node.node_cpus,
        "i_pri_memory": 0,
        "i_pri_up_memory": 0,
    }


def body(instance: Instance) -> Json:
    """What an instance of the cluster and one that is requested have in common."""
    state = {"ADMIN_offline": "offline", "ADMIN_down": "down"}.get(instance.status, "up")
    disks = instance.disks if instance.template != "diskless" else ()
    return {
        "tags": list(instance.tags),
        "admin_state": state,
        "vcpus": instance.vcpus,
        "memory": instance.memory,
        "spindle_use": instance.spindle_use,
        "os": "image",
        "nics": [],
        "disks": [{"size": size, "mode": "rw", "spindles": instance.spindles} for size in disks],
        "disk_template": instance.template,
        "disks_active": True,
        "hypervisor": "xen-pvm",
        "disk_space_total": instance.disk,
    }


def document(cluster: Cluster, request: Json) -> Json:
    """A whole message."""
    return {
        "version": 2,
        "cluster_name": "cluster",
        "cluster_tags": list(cluster.tags),
        "enabled_hypervisors": ["xen-pvm"],
        "ipolicy": _policy(cluster.policy),
        "nodegroups": {g.uuid: _group(g) for g in cluster.groups},
        "nodes": {n.name: _node(n) for n in cluster.nodes},
        "instances": {
            i.name: {**body(i), "nodes": [n for n in (i.primary, i.secondary) if n]} for i in cluster.instances
        },
        "request": request,
    }


def allocate(rng: random.Random, name: str = "new-instance") -> Json:
    """A request for one new instance."""
    template = rng.choice(("drbd", "drbd", "plain", "ext", "diskless", "file"))
    size = rng.choice((1024, 10240, 100000))
    disks = () if template == "diskless" else tuple(size for _ignored in range(rng.randint(1, 2)))
    instance = Instance(
        name,
        rng.choice((128, 1024, 4096, 9000)),
        sum(disks) + (128 * len(disks) if template == "drbd" else 0),
        rng.randint(1, 6),
        template=template,
        tags=tuple(t for t in ("service:a", "power:p1") if rng.random() < 0.5),
        disks=disks,
    )
    return {
        "type": "allocate",
        "name": name,
        "required_nodes": 2 if template == "drbd" else 1,
        **body(instance),
    }
