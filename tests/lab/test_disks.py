# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks on real nodes under a guest that writes: a copy replaced, a disk grown, split brain made and resolved."""

from __future__ import annotations

import subprocess

import pytest

from .cluster import Cluster
from .test_migrate import ADDRESS, acknowledged, serving

pytestmark = pytest.mark.lab


def nothing_lost(cluster: Cluster, writer: subprocess.Popen[str]) -> None:
    """Every record that the guest acknowledged is on its disk, and the guest was never interrupted."""
    assert writer.poll() is None, "the guest's session ended"
    last = acknowledged(writer)
    checked = cluster.lab.run(ADDRESS, "counter --check").stdout
    assert int(checked.split()[0]) >= last, f"record {last} was acknowledged; on the disk: {checked}"


def volumes(cluster: Cluster, node: str) -> list[str]:
    return cluster.sh(node, "lvs --noheadings -o lv_name twofold").split()


def equal_copies(cluster: Cluster, name: str, *nodes: str) -> None:
    """Both copies hold the same, read past DRBD while nothing is written."""
    sums = {cluster.sh(node, f"sync; sha256sum </dev/twofold/{name}-disk0") for node in nodes}
    assert len(sums) == 1


def test_the_secondary_is_replaced_under_writes(cluster: Cluster) -> None:
    writer = serving(cluster)
    predicted = cluster.play("replace_disks", "--check", "--diff", "-e", "instance=serve1").output
    assert "replication.wait" in predicted and volumes(cluster, "node3") == []
    cluster.play("replace_disks", "-e", "instance=serve1")
    assert volumes(cluster, "node2") == []
    assert volumes(cluster, "node3") == ["serve1-disk0", "serve1-disk0-meta"]
    assert cluster.sh("node2", "drbdsetup show; ls /etc/drbd.d/twofold-* /var/lib/twofold/instances 2>/dev/null") == ""
    assert cluster.sh("node1", "drbdadm dstate serve1") == "UpToDate/UpToDate"
    cluster.play("replace_disks", "-e", "instance=serve1", "-e", "on=primary")
    assert volumes(cluster, "node1") == ["serve1-disk0", "serve1-disk0-meta"]
    assert cluster.sh("node1", "drbdadm dstate serve1") == "UpToDate/UpToDate"
    nothing_lost(cluster, writer)
    assert cluster.play("converge").changed == 0
    cluster.play("migrate", "-e", "instance=serve1")
    assert cluster.running("serve1") == ["node3"]
    assert [one for one in cluster.findings() if one["severity"] != "info"] == []
    cluster.sh("node3", "virsh destroy serve1")
    equal_copies(cluster, "serve1", "node1", "node3")
