# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The placement engine in use on real nodes: where new instances go, what still fits, and balance under guests."""

from __future__ import annotations

import json

import pytest

from .cluster import Cluster
from .test_migrate import goes_on, settled

pytestmark = pytest.mark.lab

NAMES = ("web1", "web2", "web3")


@pytest.mark.nightly
def test_placed_apart_with_reasons_and_counted(cluster: Cluster) -> None:
    cluster.instances = {name: {"twofold_anti_affinity": list(NAMES)} for name in NAMES}
    planned = cluster.play("converge", "--check", "--diff").output
    assert planned.count("the load out best (score ") == len(NAMES), "the plan says why these nodes"
    cluster.instances["web4"] = {"twofold_anti_affinity": list(NAMES)}
    refused = cluster.play("converge", status=2)
    assert "anti-affinity: runs web1" in refused.said
    running = sorted(node for name in NAMES for node in cluster.running(name))
    assert running == ["node1", "node2", "node3"], refused.output

    del cluster.instances["web4"]
    path = cluster.directory / "capacity.json"
    shown = cluster.play("capacity", "-e", f"twofold_capacity_file={path}").output
    assert "like web1" in shown and "The loss of any one node is survived" in shown
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["flavours"][0]["count"] > 0
    assert sorted(name for node in document["nodes"] for name in node["restarted"]) == sorted(NAMES)


@pytest.mark.nightly
def test_balance_moves_a_guest_that_counts_on(cluster: Cluster) -> None:
    cluster.instances = {name: {"twofold_nodes": ["node1", "node2"]} for name in NAMES[:2]}
    cluster.play("converge")
    cluster.instances = {name: {} for name in NAMES[:2]}
    shown = cluster.play("balance", "--check", "-e", "disk_moves=false").output
    assert "JOB  INSTANCE" in shown and "node1:node2  node2:node1" in shown
    assert [cluster.running(name) for name in NAMES[:2]] == [["node1"], ["node1"]], "only looking changes nothing"
    device = cluster.sh("node1", "drbdadm sh-dev web1/0")
    before = cluster.counter("node1", device)
    cluster.play("balance", "-e", "max_moves=1", "-e", "disk_moves=false")
    moved = [name for name in NAMES[:2] if settled(cluster, name) == "node2"]
    assert moved == ["web1"]
    assert cluster.counter("node2", device) > before, "it counts on, it does not start again"
    goes_on(cluster, "node2", device)
    assert cluster.play("balance", "-e", "disk_moves=false").changed == 0, "what is even stays as it is"


@pytest.mark.nightly
def test_balance_gives_guests_other_second_copies(cluster: Cluster) -> None:
    cluster.instances = {name: {"twofold_nodes": ["node1", "node2"]} for name in NAMES}
    cluster.play("converge")
    cluster.instances = {name: {} for name in NAMES}
    device = cluster.sh("node1", "drbdadm sh-dev web1/0")
    before = cluster.counter("node1", device)
    shown = cluster.play("balance", "--check").output
    assert "replace-disks to node3" in shown and "not made" not in shown
    assert [cluster.running(name) for name in NAMES] == [["node1"]] * len(NAMES), "only looking changes nothing"
    cluster.play("balance")
    for name in NAMES:
        assert len(holders(cluster, name)) == 2
        node = settled(cluster, name)
        assert cluster.sh(node, f"drbdadm dstate {name}") == "UpToDate/UpToDate"
    assert any("node3" in holders(cluster, name) for name in NAMES)
    here = settled(cluster, "web1")
    assert cluster.counter(here, device) > before, "it counts on, it does not start again"
    goes_on(cluster, here, device)
    assert cluster.play("balance").changed == 0, "what is even stays as it is"
    assert cluster.play("converge").changed == 0


def holders(cluster: Cluster, name: str) -> list[str]:
    """The nodes with volumes of an instance."""
    line = f"lvs --noheadings -o lv_name @twofold.instance={name} || true"
    return [node for node in ("node1", "node2", "node3") if cluster.sh(node, line).strip()]
