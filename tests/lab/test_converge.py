# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances on real nodes: created, unchanged by a second run, mended, removed without a trace.

What the nodes are said to have comes from twofold.cluster.node_facts, what they have from their own commands.
"""

from __future__ import annotations

import re

import pytest

from .cluster import Cluster, kill_group

pytestmark = pytest.mark.lab


def test_create_once_and_only_once(cluster: Cluster) -> None:
    cluster.instances = {
        "pair1": {"twofold_nodes": ["node1", "node2"], "twofold_nics": [{"network": "lan", "address": "203.0.113.61"}]},
        "single1": {"twofold_disk_template": "plain", "twofold_nodes": ["node3"]},
        "bare1": {"twofold_disk_template": "diskless", "twofold_disks": [], "twofold_os": None},
        "off1": {"twofold_nodes": ["node2", "node3"], "twofold_state": "stopped"},
    }
    predicted = steps(cluster.play("converge", "--check").output)
    assert cluster.running("pair1") == []
    done = cluster.play("converge").output
    assert predicted and steps(done) == predicted, "check mode has to predict exactly what is done"
    assert cluster.running("pair1") == ["node1"]
    assert cluster.running("single1") == ["node3"]
    assert len(cluster.running("bare1")) == 1
    assert cluster.running("off1") == []
    assert cluster.primaries("pair1") == ["node1"]
    assert cluster.primaries("off1") == [], "a stopped instance holds no disk"
    assert cluster.play("site").changed == 0

    device = cluster.sh("node1", "drbdadm sh-dev pair1/0")
    before = cluster.counter("node1", device)
    cluster.lab.wait(lambda: cluster.counter("node1", device) > before, what="the guest goes on counting")
    status = {instance["name"]: instance for instance in cluster.status()["instances"]}
    assert status["pair1"]["primary"] == "node1" and status["pair1"]["secondary"] == "node2"
    assert status["pair1"]["state"] == "running" and status["off1"]["state"] == "stopped"


@pytest.mark.nightly
def test_a_new_disk_needs_no_sync_and_shows_no_old_data(cluster: Cluster) -> None:
    for node in ("node1", "node2"):
        cluster.sh(node, "lvcreate -qy -Wn -n old -l 100%FREE twofold && tr '\\0' 'X' </dev/zero | "
                   "dd of=/dev/twofold/old bs=1M count=300 oflag=direct iflag=fullblock status=none && "
                   "lvremove -qy twofold/old")  # fmt: skip
    cluster.instances = {
        "clean1": {"twofold_nodes": ["node1", "node2"], "twofold_os": None, "twofold_disks": [{"size": "96MiB"}]}
    }
    sent = replicated_kib(cluster, "clean1", converge=True)
    assert sent < 1024, f"{sent} KiB crossed the network for a new disk"
    for node in ("node1", "node2"):
        assert cluster.sh(node, "tr -d '\\0' </dev/twofold/clean1-disk0 | head -c 16 | wc -c") == "0"


@pytest.mark.nightly
def test_what_was_changed_behind_our_back_is_found_and_mended(cluster: Cluster) -> None:
    cluster.instances = {
        name: {"twofold_nodes": ["node1", "node2"]} for name in ("xml1", "option1", "tag1", "file1", "stopped1")
    }
    cluster.play("converge")
    assert cluster.findings() == []
    cluster.sh("node1", "virsh setvcpus xml1 2 --config --maximum")
    cluster.sh("node1", "drbdsetup disk-options $(drbdadm sh-minor option1/0) --resync-rate=1M")
    cluster.sh("node2", "lvchange -q --deltag twofold.instance=tag1 twofold/tag1-disk0")
    cluster.sh("node2", "sed -i 's/resync-rate [^;]*/resync-rate 7M/' /etc/drbd.d/twofold-file1.res")
    cluster.sh("node1", "virsh destroy stopped1")
    found = cluster.findings()
    named = {finding["object"].removeprefix("instance ") for finding in found}
    assert named == set(cluster.instances), found
    assert all(finding["remedy"] for finding in found)
    cluster.play("converge")
    assert cluster.findings() == []
    assert cluster.running("stopped1") == ["node1"]
    assert cluster.play("converge").changed == 0


def test_absent_leaves_nothing(cluster: Cluster) -> None:
    cluster.instances = {
        "gone1": {"twofold_nodes": ["node1", "node2"]},
        "gone2": {"twofold_nodes": ["node3"], "twofold_disk_template": "plain"},
    }
    cluster.play("converge")
    left = cluster.instances
    cluster.instances = {}
    reported = cluster.play("converge")
    assert reported.changed == 0 and "not in the inventory" in reported.output
    assert cluster.running("gone1") == ["node1"]

    cluster.instances = {name: {**values, "twofold_state": "absent"} for name, values in left.items()}
    cluster.play("converge")
    for node in cluster.lab.nodes:
        assert cluster.sh(node, "virsh list --all --name; lvs --noheadings -o lv_name twofold; drbdsetup show") == ""
        assert cluster.sh(node, "find /var/lib/twofold/instances /var/lib/twofold/seeds /var/lib/twofold/journal "
                          "/etc/drbd.d -type f ! -name 'global_common.conf*'; ls /run/twofold/lock.json 2>&1 | "
                          "grep -v 'No such'; true") == ""  # fmt: skip
    assert cluster.play("converge").changed == 0


@pytest.mark.nightly
@pytest.mark.parametrize("moment", ["volumes.create", "os.install", "domain.start"])
def test_a_killed_control_host_is_no_accident(cluster: Cluster, moment: str) -> None:
    """The control process dies while a step runs on the nodes; the next run converges and nothing is left over."""
    cluster.instances = {"torn1": {"twofold_nodes": ["node1", "node2"]}}
    cluster.variables = {"twofold_lock_lease": 10}
    process = cluster.start("converge")
    try:
        wait_for_step(cluster, "node1", moment)
    finally:
        kill_group(process)
    cluster.play("converge")
    assert cluster.running("torn1") == ["node1"]
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


def wait_for_step(cluster: Cluster, node: str, op: str) -> None:
    """Wait until the step runs on the node.

    One command waits there, for many would slow down what they wait for; another one if its connection was lost.
    What goes before may be a migration, which takes minutes where other labs are at work.
    """
    loop = f"timeout 300 sh -c \"until grep -qs '{op}' /var/lib/twofold/journal/*.json; do sleep 0.1; done\""
    cluster.lab.wait(
        lambda: cluster.lab.run(node, loop, check=False, timeout=330).returncode == 0,
        timeout=900,
        what=f"{op} runs on {node}",
    )


def steps(output: str) -> list[tuple[str, ...]]:
    """The steps of the plan that was shown: wave, node, operation."""
    return re.findall(r"^  (\d+)\s+(node\d)\s+([a-z]+\.[a-z_]+)", output, re.MULTILINE)


def replicated_kib(cluster: Cluster, resource: str, *, converge: bool) -> int:
    """KiB that DRBD sent to or got from the peer since the resource is up."""
    if converge:
        cluster.play("converge")
    minor = cluster.sh("node1", f"drbdadm sh-minor {resource}/0")
    text = cluster.sh("node1", f"grep -A1 '^ *{minor}:' /proc/drbd")
    counts = dict(re.findall(r"\b(ns|nr):(\d+)", text))
    return int(counts["ns"]) + int(counts["nr"])
