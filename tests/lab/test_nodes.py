# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that are destroyed, taken out, and rebooted, under guests that serve."""

from __future__ import annotations

import pytest

from .cluster import Cluster
from .test_disks import traces
from .test_failover import complete, every_record
from .test_migrate import ADDRESS, serving, settled

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("node", ["node2", pytest.param("node1", marks=pytest.mark.nightly)])
def test_a_destroyed_node_is_healed_by_one_run(cluster: Cluster, node: str) -> None:
    """New hardware under the old name, as secondary and as primary: one run, and nothing acknowledged is missing."""
    writer = serving(cluster)
    cluster.lab.renew(node)
    assert "twofold" not in cluster.sh(node, "vgs --noheadings; ls /var/lib /etc/drbd.d 2>/dev/null")
    cluster.play("site")
    assert settled(cluster, "serve1") == ("node1" if node == "node2" else "node2")
    assert all(complete(cluster, one, "serve1") for one in ("node1", "node2"))
    every_record(cluster, writer)
    assert cluster.play("site").changed == 0
    assert cluster.findings() == []


@pytest.mark.nightly
def test_the_copies_of_a_node_that_is_lost_are_made_anew_elsewhere(cluster: Cluster) -> None:
    """One command, and its guest has two copies again; when the node comes back it gives way."""
    writer = serving(cluster)
    cluster.lab.power_off("node2")
    cluster.wait_missed("node1", "serve1")
    cluster.play("evacuate", "-e", "node=node2")
    assert settled(cluster, "serve1") == "node1"
    assert all(complete(cluster, node, "serve1") for node in ("node1", "node3"))
    cluster.lab.power_on("node2")
    cluster.play("converge")
    assert traces(cluster, "node2") == ""
    every_record(cluster, writer)
    assert cluster.play("converge").changed == 0


def boots(cluster: Cluster) -> dict[str, str]:
    """The boot that each node is in."""
    return {node: cluster.sh(node, "cat /proc/sys/kernel/random/boot_id") for node in cluster.lab.nodes}


@pytest.mark.nightly
def test_a_node_is_rebooted_without_its_guests_and_gets_them_back(cluster: Cluster) -> None:
    cluster.instances = {"tiny1": {"twofold_nodes": ["node1", "node2"]}, "tiny2": {"twofold_nodes": ["node2", "node3"]}}
    cluster.play("converge")
    device, before = cluster.sh("node2", "drbdadm sh-dev tiny2/0"), boots(cluster)
    count = cluster.counter("node2", device)
    cluster.play("reboot", "-e", "node=node2")
    after = boots(cluster)
    assert [node for node in cluster.lab.nodes if after[node] != before[node]] == ["node2"]
    assert [settled(cluster, name) for name in ("tiny1", "tiny2")] == ["node1", "node2"]
    assert cluster.counter("node2", device) > count, "the guest counts on, it was never started anew"
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


@pytest.mark.nightly
def test_a_node_is_emptied_and_taken_out(cluster: Cluster) -> None:
    cluster.instances = {"tiny1": {"twofold_nodes": ["node1", "node3"]}, "tiny2": {"twofold_nodes": ["node3", "node2"]}}
    cluster.play("converge")
    cluster.host_variables = {"node3": {"twofold_node_state": "drained"}}
    said = cluster.play("remove_node", "-e", "node=node3").said
    assert "it holds nothing of any instance and can go" in said
    assert traces(cluster, "node3") == ""
    for name in ("tiny1", "tiny2"):
        assert settled(cluster, name) in ("node1", "node2")
        assert all(complete(cluster, node, name) for node in ("node1", "node2"))


@pytest.mark.nightly
def test_a_rolling_reboot_under_a_guest_that_answers_throughout(cluster: Cluster) -> None:
    """Every node boots once; the guest acknowledges records all the time and never starts anew."""
    writer = serving(cluster)
    before, guest = boots(cluster), cluster.sh(ADDRESS, "cat /proc/sys/kernel/random/boot_id")
    shown = cluster.play("rolling", "--check")
    assert "GUESTS THAT LEAVE MEANWHILE" in shown.output and boots(cluster) == before
    cluster.play("rolling")
    after = boots(cluster)
    assert all(after[node] != before[node] for node in cluster.lab.nodes)
    assert writer.poll() is None, "the guest answers on the same connection"
    assert cluster.sh(ADDRESS, "cat /proc/sys/kernel/random/boot_id") == guest, "it never starts anew"
    assert settled(cluster, "serve1") == "node1", "it came home"
    every_record(cluster, writer)
    for node in cluster.lab.nodes:
        assert cluster.sh(node, "ls /var/lib/twofold/rolling.json 2>/dev/null; true") == ""
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []
