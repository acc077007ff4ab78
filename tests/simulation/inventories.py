# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random inventories, small and full of corners."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import Any

from twofold import inventory
from twofold.model import Desired

SECRET = "the secret of the simulated cluster"
PASSWORD = "a guest's password"
CLUSTER: dict[str, Any] = {
    "twofold_cluster_name": "simulated",
    "twofold_cluster_secret": SECRET,
    "twofold_networks": {
        "lan": {"bridge": "br-lan", "cidr": "203.0.113.0/26", "gateway": "203.0.113.1"},
        "bare": {"bridge": "br-lan"},
    },
    "twofold_os_templates": {
        "image": {"url": "https://images.example/image.qcow2", "sha256": "ab" * 32},
        "script": {"kind": "script", "script": "debian", "environment": {"TWOFOLD_RELEASE": "trixie"}},
    },
}
NAMES = ("a", "b-1", "c.example", "a-disk0")
TEMPLATES = ("drbd", "drbd", "drbd", "plain", "diskless")
Instances = dict[str, dict[str, Any]]


def _node(index: int) -> dict[str, Any]:
    addresses = {"ansible_host": f"192.0.2.{10 + index}", "twofold_replication_address": f"198.51.100.{10 + index}"}
    return {**CLUSTER, **addresses, "twofold_fence": [{"oob": "/usr/local/sbin/power", "timeout": 5}]}


def desired(instances: Instances, nodes: int) -> Desired:
    """What an inventory wants."""
    return _desired(json.dumps(instances), nodes)


@lru_cache(512)
def _desired(instances: str, nodes: int) -> Desired:
    hosts = {f"node{index}": _node(index) for index in range(1, nodes + 1)}
    found, findings = inventory.load(hosts, json.loads(instances))
    wrong = [one for one in findings if one.severity == "error"]
    assert not wrong, wrong
    return found


def instance(rng: Random, nodes: int, templates: Sequence[str] = TEMPLATES) -> dict[str, Any]:
    """The variables of an instance."""
    template = rng.choice(templates)
    places = [f"node{index}" for index in range(1, nodes + 1)]
    rng.shuffle(places)
    pins = {"drbd": 2, "plain": 1, "diskless": 1}[template]
    disks = [] if template == "diskless" else [rng.choice(("64MiB", "1GiB")) for _index in range(rng.choice((1, 1, 2)))]
    return {
        "twofold_disk_template": template,
        "twofold_disks": [{"size": size} for size in disks],
        "twofold_memory": rng.choice(("128MiB", "256MiB", "1GiB", "3GiB")),
        "twofold_vcpus": rng.randint(1, 3),
        "twofold_nics": [{"network": rng.choice(("lan", "bare"))} for _index in range(rng.choice((0, 1, 1, 2)))],
        "twofold_os": rng.choice((None, "image", "script")) if template != "diskless" else None,
        "twofold_state": rng.choice(("running", "running", "running", "stopped")),
        "twofold_nodes": places[: rng.randint(0, pins)],
        "twofold_user_data": {"password": PASSWORD},
    }


def instances(rng: Random, nodes: int, templates: Sequence[str] = TEMPLATES) -> Instances:
    """The instances of an inventory."""
    names = rng.sample(NAMES, rng.choice((1, 1, 1, 2, 2, 3)))
    return {name: instance(rng, nodes, templates) for name in names}


def changed(rng: Random, before: Instances, nodes: int) -> Instances:
    """An inventory after somebody worked on it."""
    found = {name: dict(variables) for name, variables in before.items()}
    name = rng.choice(sorted(found)) if found else ""
    what = rng.choice(("state", "state", "memory", "nics", "absent", "missing", "new", "os", "option", "disks"))
    if what == "new" or not found:
        new = rng.choice(NAMES)
        found.setdefault(new, instance(rng, nodes))
    elif what == "missing":
        del found[name]
    elif what == "absent":
        found[name]["twofold_state"] = "absent"
    elif what == "disks" and found[name]["twofold_disks"]:
        found[name]["twofold_disks"] = [{"size": "2GiB"}]
    elif what == "option":
        found[name]["twofold_replication_ping_interval"] = rng.randint(2, 5)
    elif what != "disks" and not (what == "os" and not found[name]["twofold_disks"]):
        fresh = instance(rng, nodes)
        key = {"state": "twofold_state", "memory": "twofold_memory", "nics": "twofold_nics", "os": "twofold_os"}[what]
        found[name][key] = fresh[key]
    return found
