# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node dies: its guests start on the surviving nodes, only with a proof, and nothing acknowledged is missing."""

from __future__ import annotations

import subprocess

import pytest

from .cluster import Cluster
from .test_migrate import ADDRESS, acknowledged, goes_on, serving, settled

pytestmark = pytest.mark.lab


def complete(cluster: Cluster, node: str, name: str) -> bool:
    """Whether the node's copy of an instance is up to date."""
    said = disks(cluster, node, name)
    return bool(said) and all(line.startswith("UpToDate/") for line in said.splitlines())


def disks(cluster: Cluster, node: str, name: str) -> str:
    """What a node's DRBD says of both copies; empty while it is down."""
    return cluster.lab.run(node, f"drbdadm dstate {name}", check=False).stdout.strip()


def every_record(cluster: Cluster, writer: subprocess.Popen[str]) -> None:
    """Whatever the guest acknowledged is on its disk."""
    last = acknowledged(writer)
    cluster.lab.wait_ssh(ADDRESS)
    checked = cluster.lab.run(ADDRESS, "counter --check").stdout
    assert int(checked.split()[0]) >= last, f"record {last} was acknowledged; on the disk: {checked}"


def comes_back(cluster: Cluster, writer: subprocess.Popen[str]) -> None:
    """node1, which has the newer copy, goes on by itself, and node2 follows."""
    cluster.lab.power_on("node1")
    cluster.lab.wait(lambda: cluster.running("serve1"), what="node1 starts its own guest")
    assert settled(cluster, "serve1") == "node1"
    every_record(cluster, writer)
    cluster.lab.wait(lambda: complete(cluster, "node2", "serve1"), what="node2's copy was resynced")


def test_power_cut_of_the_primary(cluster: Cluster) -> None:
    """Refused without a proof; with one it runs on the survivor, with every record; the dead node comes back stale."""
    writer = serving(cluster)
    cluster.lab.power_off("node1")
    cluster.wait_missed("node2", "serve1")
    refused = cluster.play("recover", status=None)
    assert "-e confirm_dead=node1" in refused.said
    assert cluster.running("serve1") == [], "without a proof nothing is started"
    cluster.play("recover", "-e", "confirm_dead=node1")
    assert settled(cluster, "serve1") == "node2"
    every_record(cluster, writer)
    cluster.lab.power_on("node1")
    cluster.lab.wait(lambda: complete(cluster, "node1", "serve1"), what="node1's copy was resynced")
    assert settled(cluster, "serve1") == "node2", "it never starts on its old node"
    cluster.play("converge")
    assert cluster.sh("node1", "virsh -q list --all --name") == ""
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


@pytest.mark.nightly
def test_a_copy_that_was_left_behind_does_not_take_over(cluster: Cluster) -> None:
    """Replication is cut, the guest writes on, its node dies: the other copy is older, and says so itself."""
    writer = serving(cluster)
    cluster.lab.link("node1", "replication", up=False)
    cluster.wait_missed("node2", "serve1")
    cluster.sh("node2", "systemctl start twofold-power-back.service")
    assert cluster.sh("node2", "drbdadm dstate serve1").startswith("Outdated/")
    cluster.lab.power_off("node1")
    refused = cluster.play("recover", "-e", "confirm_dead=node1", status=None)
    assert "-e accept_stale=serve1" in refused.said and cluster.running("serve1") == []
    comes_back(cluster, writer)


@pytest.mark.nightly
def test_a_copy_that_was_down_does_not_take_over_before_it_has_heard_of_its_peer(cluster: Cluster) -> None:
    """The second node is off while the guest writes on; when it is back, the guest's node is dead."""
    writer = serving(cluster)
    cluster.lab.power_off("node2")
    cluster.wait_missed("node1", "serve1")
    cluster.lab.wait(lambda: "oos:0" not in cluster.sh("node1", "cat /proc/drbd"), what="the guest writes on alone")
    cluster.lab.power_off("node1")
    cluster.lab.power_on("node2")
    cluster.lab.wait(lambda: disks(cluster, "node2", "serve1").startswith("Outdated/"), what="node2's copy is up")
    refused = cluster.play("recover", "-e", "confirm_dead=node1", status=None)
    assert "may lack what was written last" in refused.said and "-e accept_stale=serve1" in refused.said
    assert cluster.running("serve1") == []
    comes_back(cluster, writer)


@pytest.mark.nightly
def test_after_an_outage_of_all_one_copy_is_taken_when_that_is_accepted(cluster: Cluster) -> None:
    writer = serving(cluster)
    for node in cluster.lab.nodes:
        cluster.lab.power_off(node)
    for node in ("node2", "node3"):
        cluster.lab.power_on(node)
    cluster.lab.wait(lambda: disks(cluster, "node2", "serve1").startswith("Outdated/"), what="node2's copy is up")
    said = ("-e", "confirm_dead=node1")
    assert "-e accept_stale=serve1" in cluster.play("recover", *said, status=None).said
    cluster.play("recover", *said, "-e", "accept_stale=serve1")
    assert settled(cluster, "serve1") == "node2"
    every_record(cluster, writer)


@pytest.mark.nightly
def test_failover_while_both_answer(cluster: Cluster) -> None:
    cluster.instances = {"tiny1": {"twofold_nodes": ["node1", "node2"], "twofold_shutdown_timeout": 1}}
    cluster.play("converge")
    device = cluster.sh("node1", "drbdadm sh-dev tiny1/0")
    cluster.play("failover", "-e", "instance=tiny1")
    assert settled(cluster, "tiny1") == "node2"
    goes_on(cluster, "node2", device)
    assert cluster.play("converge").changed == 0


@pytest.mark.nightly
def test_all_guests_of_a_dead_node(cluster: Cluster) -> None:
    """One run starts all of them, each with its data; what it costs is measured by the bench."""
    names = [f"tiny{number}" for number in range(5)]
    shape = {"twofold_nodes": ["node1", "node2"], "twofold_memory": "32MiB", "twofold_disks": [{"size": "4MiB"}]}
    cluster.instances = dict.fromkeys(names, shape)
    cluster.play("converge")
    cluster.lab.power_off("node1")
    cluster.wait_missed("node2", *names)
    cluster.play("recover", "-e", "confirm_dead=node1")
    assert all(cluster.running(name) == ["node2"] for name in names)
