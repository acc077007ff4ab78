# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inventories for the tests."""

from __future__ import annotations

from typing import Any

from twofold import inventory
from twofold.model import Desired

SECRET = "a secret that is long enough"
CLUSTER: dict[str, Any] = {
    "twofold_cluster_name": "test",
    "twofold_cluster_secret": SECRET,
    "twofold_networks": {
        "lan": {"bridge": "br-lan", "cidr": "203.0.113.0/24", "gateway": "203.0.113.1", "nameservers": ["203.0.113.1"]},
        "bare": {"bridge": "br-lan"},
    },
    "twofold_os_templates": {
        "debian-13": {"url": "https://images.example/debian-13.qcow2", "sha256": "ab" * 32},
        "script": {"kind": "script", "script": "debian", "environment": {"TWOFOLD_RELEASE": "trixie"}},
    },
}


def nodes(count: int = 3) -> dict[str, dict[str, Any]]:
    """Variables of node1, node2 and so on."""
    return {
        f"node{i}": {
            **CLUSTER,
            "ansible_host": f"192.0.2.{10 + i}",
            "twofold_replication_address": f"198.51.100.{10 + i}",
        }
        for i in range(1, count + 1)
    }


def instance(**variables: Any) -> dict[str, Any]:
    """Variables of a small drbd instance; `memory="1GiB"` is twofold_memory."""
    given = {"memory": "256MiB", "disks": [{"size": "128MiB"}], "nics": [{"network": "lan"}], **variables}
    return {f"twofold_{name}": value for name, value in given.items()}


def grouped(group: str, *names: str, **variables: Any) -> dict[str, dict[str, Any]]:
    """Instances of one inventory group, as Ansible hands them over."""
    return {name: {**instance(**variables), "group_names": ["instances", group]} for name in names}


def desired(
    instances: dict[str, dict[str, Any]],
    count: int = 3,
    cluster: dict[str, Any] | None = None,
    **node_variables: dict[str, Any],
) -> Desired:
    """A right inventory; `cluster` are further variables of all nodes, `node1=...` those of one."""
    given = {name: {**found, **(cluster or {}), **node_variables.get(name, {})} for name, found in nodes(count).items()}
    found, findings = inventory.load(given, instances)
    assert not [f for f in findings if f.severity == "error"], findings
    return found
