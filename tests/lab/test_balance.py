# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The placement engine in use on real nodes: where new instances go, what still fits, and balance by live migration."""

from __future__ import annotations

import json

import pytest

from .cluster import Cluster
from .test_migrate import goes_on, settled

pytestmark = pytest.mark.lab

NAMES = ("web1", "web2", "web3")


def test_placed_apart_counted_and_balanced(cluster: Cluster) -> None:
    cluster.instances = {name: {"twofold_anti_affinity": list(NAMES)} for name in NAMES}
    planned = cluster.play("converge", "--check", "--diff").output
    assert planned.count("the load out best (score ") == len(NAMES), "the plan says why these nodes"
    cluster.play("converge")
    assert sorted(node for name in NAMES for node in cluster.running(name)) == ["node1", "node2", "node3"]

    cluster.instances["web4"] = {"twofold_anti_affinity": list(NAMES)}
    refused = cluster.play("converge", status=2).output
    assert "anti-affinity: runs web1" in " ".join(refused.split())
    del cluster.instances["web4"]
    assert cluster.play("converge").changed == 0

    path = cluster.directory / "capacity.json"
    shown = cluster.play("capacity", "-e", f"twofold_capacity_file={path}").output
    assert "like web1" in shown and "The loss of any one node is survived" in shown
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["flavours"][0]["count"] > 0
    assert sorted(name for node in document["nodes"] for name in node["restarted"]) == sorted(NAMES)

    uneven(cluster)


def uneven(cluster: Cluster) -> None:
    """Two instances on one node: one of them moves, and counts on while it does."""
    cluster.instances |= {name: {"twofold_nodes": ["node1", "node2"]} for name in ("db1", "db2", "db3")}
    cluster.play("converge")
    for name in ("db1", "db2", "db3"):
        cluster.instances[name] = {}
    before = {name: cluster.running(name) for name in cluster.instances}
    shown = cluster.play("balance", "--check").output
    assert "JOB  INSTANCE" in shown and {name: cluster.running(name) for name in cluster.instances} == before
    cluster.play("balance", "-e", "max_moves=1")
    (moved,) = (name for name in cluster.instances if cluster.running(name) != before[name])
    assert moved in shown
    device = cluster.sh("node1", f"drbdadm sh-dev {moved}/0")
    goes_on(cluster, settled(cluster, moved), device)
    cluster.play("balance")
    again = cluster.play("balance")
    assert again.changed == 0, "what is even stays as it is"
    assert cluster.play("converge").changed == 0
