# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks on real nodes under a guest that writes: a copy replaced, a disk grown, split brain made and resolved."""

from __future__ import annotations

import subprocess

import pytest

from .cluster import Cluster, kill_group
from .test_converge import wait_for_step
from .test_migrate import ADDRESS, acknowledged, goes_on, serving, settled

pytestmark = pytest.mark.lab

# Where `part` writes, read past every cache.
SECTOR = "bs=512 skip=100 count=1 iflag=direct status=none | tr -d '\\0'"


def nothing_lost(cluster: Cluster, writer: subprocess.Popen[str]) -> None:
    """Every record that the guest acknowledged is on its disk, and the guest was never interrupted."""
    assert writer.poll() is None, "the guest's session ended"
    last = acknowledged(writer)
    checked = cluster.lab.run(ADDRESS, "counter --check").stdout
    assert int(checked.split()[0]) >= last, f"record {last} was acknowledged; on the disk: {checked}"


def volumes(cluster: Cluster, node: str) -> list[str]:
    return cluster.sh(node, "lvs --noheadings -o lv_name twofold").split()


def equal_copies(cluster: Cluster, name: str, *nodes: str) -> None:
    """Both copies hold the same in each MiB, read past DRBD and past a page cache that knows nothing of its writes."""
    read = f"dd if=/dev/twofold/{name}-disk0 bs=1M iflag=direct status=none"
    sums = [cluster.sh(node, f"{read} | split -b 1M --filter=sha256sum").splitlines() for node in nodes]
    different = [number for number, found in enumerate(zip(*sums, strict=True)) if len(set(found)) > 1]
    assert different == []


def traces(cluster: Cluster, node: str) -> str:
    """What a node has of any instance."""
    line = "find /etc/drbd.d /var/lib/twofold/instances /var/lib/twofold/seeds -name '*serve*' -o -name '*tiny*'"
    return cluster.sh(node, f"drbdsetup show; virsh list --all --name; lvs --noheadings -o lv_name twofold; {line}")


def test_grown_and_replaced_under_writes(cluster: Cluster) -> None:
    writer = serving(cluster)
    cluster.instances["serve1"]["twofold_disks"] = [{"size": "128MiB"}]
    cluster.play("converge")
    assert cluster.lab.run(ADDRESS, "cat /sys/block/vda/size").stdout.strip() == str((128 << 20) // 512)
    assert cluster.sh("node1", "drbdadm dstate serve1") == "UpToDate/UpToDate"

    predicted = cluster.play("replace_disks", "--check", "--diff", "-e", "instance=serve1").output
    assert "replication.wait" in predicted and volumes(cluster, "node3") == []
    cluster.play("replace_disks", "-e", "instance=serve1")
    assert traces(cluster, "node2") == ""
    assert volumes(cluster, "node3") == ["serve1-disk0", "serve1-disk0-meta"]
    assert cluster.sh("node1", "drbdadm dstate serve1") == "UpToDate/UpToDate"

    cluster.play("replace_disks", "-e", "instance=serve1", "-e", "on=primary")
    assert volumes(cluster, "node1") == ["serve1-disk0", "serve1-disk0-meta"]
    assert cluster.sh("node1", "drbdadm dstate serve1") == "UpToDate/UpToDate"
    nothing_lost(cluster, writer)
    assert cluster.play("converge").changed == 0
    cluster.sh("node1", "virsh destroy serve1")
    equal_copies(cluster, "serve1", "node1", "node3")


@pytest.mark.nightly
def test_a_killed_replacement_is_gone_on_with(cluster: Cluster) -> None:
    cluster.variables = {"twofold_lock_lease": 10}
    cluster.instances = {"tiny1": {"twofold_nodes": ["node1", "node2"]}}
    cluster.play("converge")
    process = cluster.start("replace_disks", "-e", "instance=tiny1")
    try:
        wait_for_step(cluster, "node3", "replication.configure")
    finally:
        kill_group(process)
    cluster.play("replace_disks", "-e", "instance=tiny1")
    assert cluster.running("tiny1") == ["node1"]
    assert traces(cluster, "node2") == ""
    assert cluster.sh("node1", "drbdadm dstate tiny1") == "UpToDate/UpToDate"
    assert cluster.play("converge").changed == 0


def part(cluster: Cluster, device: str) -> None:
    """Both sides of tiny1 are written while the link between them is cut: a split brain made by force."""
    cluster.lab.link("node2", "replication", False)
    cluster.lab.wait(lambda: connection(cluster, "node1") != "Connected", what="the cut is noticed")
    cluster.lab.wait(lambda: connection(cluster, "node2") != "Connected", what="the cut is noticed")
    cluster.sh("node2", "drbdadm primary --force tiny1 && "
               f"echo written-by-node2 | dd of={device} bs=512 seek=100 conv=sync oflag=direct status=none && "
               "drbdadm secondary tiny1")  # fmt: skip
    goes_on(cluster, "node1", device)
    cluster.lab.link("node2", "replication", True)
    cluster.lab.wait(
        lambda: "StandAlone" in {connection(cluster, node) for node in ("node1", "node2")},
        what="they refuse each other",
    )


def connection(cluster: Cluster, node: str) -> str:
    return cluster.sh(node, "drbdadm cstate tiny1")


def test_a_split_brain_is_shown_and_resolved_for_the_named_survivor(cluster: Cluster) -> None:
    cluster.instances = {"tiny1": {"twofold_nodes": ["node1", "node2"]}}
    cluster.play("converge")
    device = cluster.sh("node1", "drbdadm sh-dev tiny1/0")
    part(cluster, device)
    (finding,) = [one for one in cluster.findings() if one["severity"] == "error"]
    assert finding["code"] == "split-brain"
    assert "node1 has written" in finding["message"] and "node2 has written" in finding["message"]
    assert cluster.play("converge", status=None).changed == 0
    cluster.play("resolve_split_brain", "-e", "instance=tiny1", status=None)
    assert volumes(cluster, "node2") == ["tiny1-disk0", "tiny1-disk0-meta"]

    keep_as_if_interrupted(cluster, "node2")
    cluster.play("resolve_split_brain", "-e", "instance=tiny1", "-e", "survivor=node1")
    (kept,) = [name for name in volumes(cluster, "node2") if "kept" in name]
    assert cluster.sh("node2", f"dd if=/dev/twofold/{kept} {SECTOR}") == "written-by-node2"
    assert cluster.sh("node2", f"dd if=/dev/twofold/tiny1-disk0 {SECTOR}") == ""
    assert cluster.sh("node1", "drbdadm dstate tiny1") == "UpToDate/UpToDate"
    goes_on(cluster, "node1", device)
    assert cluster.play("converge").changed == 0
    cluster.play("drop_kept", "-e", "instance=tiny1", status=None)
    cluster.play("drop_kept", "-e", "instance=tiny1", "-e", "confirm=tiny1")
    assert volumes(cluster, "node2") == ["tiny1-disk0", "tiny1-disk0-meta"]


def keep_as_if_interrupted(cluster: Cluster, node: str) -> str:
    """Take the snapshot that a resolution takes which is interrupted right after; its name."""
    generation = cluster.sh(node, "drbdadm get-gi tiny1/0").partition(":")[0].lower()[:12]
    name, tags = f"tiny1-disk0-kept-{generation}", ("", ".instance=tiny1", ".disk=0", ".role=kept", ".kept=split-brain")
    tagged = " ".join(f"--addtag twofold{tag}" for tag in tags)
    line = f"lvcreate --quiet --yes --snapshot --extents 100%ORIGIN --name {name} {tagged} twofold/tiny1-disk0"
    cluster.sh(node, line)
    return name


def test_what_was_written_after_an_interrupted_resolution_is_kept_too(cluster: Cluster) -> None:
    """One block, written past DRBD, which by now may count that side as outdated and would not let it be used."""
    cluster.instances = {"tiny1": {"twofold_nodes": ["node1", "node2"]}}
    cluster.play("converge")
    device = cluster.sh("node1", "drbdadm sh-dev tiny1/0")
    part(cluster, device)
    first = keep_as_if_interrupted(cluster, "node2")
    later = (
        "echo written-later | dd of=/dev/twofold/tiny1-disk0 bs=512 seek=100 conv=sync,notrunc oflag=direct status=none"
    )
    cluster.sh("node2", later)
    cluster.play("resolve_split_brain", "-e", "instance=tiny1", "-e", "survivor=node1")
    assert sorted(name for name in volumes(cluster, "node2") if "kept" in name) == [first, f"{first}-2"]
    held = [cluster.sh("node2", f"dd if=/dev/twofold/{name} {SECTOR}") for name in (first, f"{first}-2")]
    assert held == ["written-by-node2", "written-later"]
    assert cluster.play("converge").changed == 0


@pytest.mark.nightly
def test_a_guest_on_the_side_that_loses_a_split_brain_goes_on_with_the_other_sides_data(cluster: Cluster) -> None:
    cluster.instances = {"tiny1": {"twofold_nodes": ["node1", "node2"], "twofold_shutdown_timeout": 1}}
    cluster.play("converge")
    device = cluster.sh("node1", "drbdadm sh-dev tiny1/0")
    part(cluster, device)
    cluster.play("resolve_split_brain", "-e", "instance=tiny1", "-e", "survivor=node2")
    (kept,) = [name for name in volumes(cluster, "node1") if "kept" in name]
    assert cluster.sh("node1", f"dd if=/dev/twofold/{kept} {SECTOR}") == ""
    assert cluster.sh("node1", f"dd if=/dev/twofold/tiny1-disk0 {SECTOR}") == "written-by-node2"
    assert cluster.sh("node1", "drbdadm dstate tiny1") == "UpToDate/UpToDate"
    assert settled(cluster, "tiny1") == "node1"
    goes_on(cluster, "node1", device)
    assert cluster.play("converge").changed == 0


@pytest.mark.nightly
def test_a_node_is_drained_and_refilled_and_emptied(cluster: Cluster) -> None:
    cluster.instances = {
        "tiny1": {"twofold_nodes": ["node1", "node2"]},
        "tiny2": {"twofold_nodes": ["node2", "node1"]},
        "off1": {"twofold_nodes": ["node1", "node3"], "twofold_state": "stopped"},
    }
    cluster.play("converge")
    cluster.play("drain", "-e", "node=node1")
    assert cluster.running("tiny1") == ["node2"]
    assert cluster.sh("node1", "virsh list --all --name") == ""
    cluster.play("undrain", "-e", "node=node1")
    assert cluster.running("tiny1") == ["node1"]
    assert cluster.play("converge").changed == 0

    cluster.play("evacuate", "-e", "node=node1")
    assert traces(cluster, "node1") == ""
    assert cluster.running("tiny1") == ["node2"] == cluster.running("tiny2")
    for name in ("tiny1", "tiny2"):
        assert cluster.sh("node2", f"drbdadm dstate {name}") == "UpToDate/UpToDate"
    assert cluster.play("converge").changed == 0
