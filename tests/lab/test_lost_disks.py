# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that are gone or spoilt: made anew from the other copy, or empty by the operator's word; opened for repairs."""

from __future__ import annotations

import pytest

from .cluster import Cluster, kill_group
from .test_converge import wait_for_step
from .test_disks import volumes
from .test_migrate import goes_on, settled

pytestmark = [pytest.mark.lab, pytest.mark.nightly]

BOTH = ["tiny1-disk0", "tiny1-disk0-meta"]
WHOLE = "UpToDate/UpToDate"
# From now on the disks under the volumes answer with errors.
DIES = "; ".join(f"dmsetup wipe_table --noflush $(lvs --noheadings -o lv_dm_path twofold/{one})" for one in BOTH)


@pytest.fixture
def device(cluster: Cluster) -> str:
    """The disk of a guest that runs on node1 and counts; its second copy is on node2."""
    cluster.instances = {"tiny1": {"twofold_nodes": ["node1", "node2"], "twofold_shutdown_timeout": 1}}
    cluster.play("converge")
    return cluster.sh("node1", "drbdadm sh-dev tiny1/0")


def lose(cluster: Cluster, node: str) -> None:
    """The disks under an instance's volumes die, and nothing of the volumes is there when new ones are put in."""
    cluster.sh(node, DIES)
    cluster.sh(node, "drbdadm detach --force tiny1; lvremove --quiet --yes " + " ".join(f"twofold/{v}" for v in BOTH))
    assert volumes(cluster, node) == []


def dstate(cluster: Cluster, node: str) -> str:
    return cluster.sh(node, "drbdadm dstate tiny1")


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_one_lost_copy_is_filled_again_under_the_guest(cluster: Cluster, device: str, node: str) -> None:
    """Also the primary's own: meanwhile the guest reads and writes over the network."""
    lose(cluster, node)
    goes_on(cluster, "node1", device)
    lost = [one for one in cluster.findings() if one["object"] == "instance tiny1" and one["severity"] == "error"]
    assert any("recreate_disks" in one["remedy"] for one in lost), lost
    cluster.play("recreate_disks", "-e", "instance=tiny1")
    assert volumes(cluster, node) == BOTH
    assert dstate(cluster, "node1") == WHOLE
    assert settled(cluster, "tiny1") == "node1"
    goes_on(cluster, "node1", device)
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


def test_a_guest_leaves_the_node_whose_disk_died_while_it_runs(cluster: Cluster, device: str) -> None:
    """What it writes goes over the network already; now it follows, and gets a second copy elsewhere."""
    cluster.sh("node1", DIES)
    cluster.lab.wait(lambda: dstate(cluster, "node1") == "Diskless/UpToDate", what="DRBD lets go of the disk")
    before = cluster.counter("node1", device)
    cluster.play("evacuate", "-e", "node=node1")
    assert settled(cluster, "tiny1") == "node2"
    assert cluster.counter("node2", device) > before, "it did not start anew"
    assert dstate(cluster, "node2") == WHOLE
    assert volumes(cluster, "node3") == BOTH and volumes(cluster, "node1") == []
    goes_on(cluster, "node2", device)
    cluster.instances["tiny1"]["twofold_nodes"] = ["node2", "node3"]
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


def test_a_guest_that_is_off_leaves_the_node_whose_disk_did_not_come_back_with_it(
    cluster: Cluster, device: str
) -> None:
    """DRBD comes up without the disk, but with its connection: that is enough to go on with the other copy."""
    before = cluster.counter("node1", device)
    cluster.instances["tiny1"]["twofold_state"] = "stopped"
    cluster.play("converge")
    cluster.sh("node1", f"drbdadm down tiny1; {DIES}; systemctl restart --no-block twofold-replication")
    cluster.lab.wait(lambda: dstate(cluster, "node2") == "UpToDate/Diskless", what="DRBD comes up without the disk")
    cluster.play("evacuate", "-e", "node=node1")
    assert volumes(cluster, "node3") == BOTH and volumes(cluster, "node1") == []
    cluster.instances["tiny1"] |= {"twofold_nodes": ["node2", "node3"], "twofold_state": "running"}
    cluster.play("converge")
    assert settled(cluster, "tiny1") == "node2"
    assert dstate(cluster, "node2") == WHOLE
    assert cluster.counter("node2", device) >= before
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


def test_fresh_disks_give_way_to_those_before_when_their_source_is_lost(cluster: Cluster, device: str) -> None:
    """node2's disks are replaced, and node1, which fills them, dies: what was set aside goes on, with a word."""
    cluster.variables = {"twofold_lock_lease": 10}
    process = cluster.start("replace_disks", "-e", "instance=tiny1", "-e", "on=secondary")
    try:
        wait_for_step(cluster, "node2", "volumes.create")
        cluster.lab.power_off("node1")
    finally:
        kill_group(process)
    cluster.wait_at_rest("node2")
    said = ("-e", "confirm_dead=node1")
    refused = cluster.play("recover", *said, status=None).said
    assert "-e accept_stale=tiny1 goes on with the copy on node2" in refused, refused
    cluster.play("recover", *said, "-e", "accept_stale=tiny1")
    assert settled(cluster, "tiny1") == "node2"
    assert volumes(cluster, "node2") == BOTH
    goes_on(cluster, "node2", device)
    # It comes back with what was written since: whose data goes is the operator's to say.
    cluster.lab.power_on("node1")
    cluster.attempt("converge")
    cluster.play("resolve_split_brain", "-e", "instance=tiny1", "-e", "survivor=node2")
    assert dstate(cluster, "node2") == WHOLE
    cluster.play("drop_kept", "-e", "instance=tiny1", "-e", "confirm=tiny1")
    cluster.play("converge")
    assert cluster.play("converge").changed == 0


def test_the_older_copy_goes_on_by_the_operators_word_and_fills_the_other_one(cluster: Cluster, device: str) -> None:
    """They had been parted by hand when the disk of the guest's node died."""
    cluster.sh("node2", "drbdadm disconnect tiny1")
    goes_on(cluster, "node1", device)
    lose(cluster, "node1")
    refused = cluster.play("recreate_disks", "-e", "instance=tiny1", status=None)
    assert "-e confirm=tiny1" in refused.said
    assert volumes(cluster, "node1") == [] and cluster.running("tiny1") == ["node1"], "nothing is done without a word"
    cluster.play("recreate_disks", "-e", "instance=tiny1", "-e", "confirm=tiny1")
    assert volumes(cluster, "node1") == BOTH
    assert dstate(cluster, "node2") == WHOLE
    cluster.play("converge")
    assert settled(cluster, "tiny1") == "node1"
    goes_on(cluster, "node1", device)
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


def test_what_is_lost_on_both_sides_is_made_empty_by_the_operators_word(cluster: Cluster, device: str) -> None:
    cluster.sh("node1", "virsh destroy tiny1")
    for node in ("node1", "node2"):
        cluster.sh(node, "drbdadm down tiny1")
        lose(cluster, node)
    cluster.play("converge", status=None)
    refused = cluster.play("recreate_disks", "-e", "instance=tiny1", status=None)
    assert "-e confirm=tiny1" in refused.said
    assert volumes(cluster, "node1") == [] == volumes(cluster, "node2"), "nothing is made up without a word"
    cluster.play("recreate_disks", "-e", "instance=tiny1", "-e", "confirm=tiny1")
    assert settled(cluster, "tiny1") == "node1" and dstate(cluster, "node1") == WHOLE
    goes_on(cluster, "node1", device)
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


def test_what_drbd_has_only_let_go_of_is_taken_up_again_by_the_operators_word(cluster: Cluster, device: str) -> None:
    """node2's disks are lost, and those of the guest's own node had an error that is over: all data is there."""
    lose(cluster, "node2")
    cluster.sh("node1", f"echo written | dd of={device} bs=512 seek=100 conv=sync oflag=direct status=none")
    cluster.sh("node1", "drbdadm detach --force tiny1")
    refused = cluster.play("recreate_disks", "-e", "instance=tiny1", status=None)
    assert "still there on node1" in refused.said and "-e confirm=tiny1" in refused.said
    cluster.play("recreate_disks", "-e", "instance=tiny1", "-e", "confirm=tiny1")
    assert volumes(cluster, "node2") == BOTH and dstate(cluster, "node1") == WHOLE
    cluster.play("converge")
    assert settled(cluster, "tiny1") == "node1"
    goes_on(cluster, "node1", device)
    look = "dd if=/dev/twofold/tiny1-disk0 bs=512 skip=100 count=1 iflag=direct status=none | tr -d '\\0'"
    assert [cluster.sh(node, look) for node in ("node1", "node2")] == ["written", "written"]
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


def test_a_spoilt_guest_is_written_anew_by_the_operators_word(cluster: Cluster, device: str) -> None:
    cluster.sh("node1", f"dd if=/dev/zero of={device} bs=512 count=1 oflag=direct status=none")
    cluster.sh("node1", "virsh destroy tiny1")
    refused = cluster.play("reinstall", "-e", "instance=tiny1", status=None)
    assert "-e confirm=tiny1" in refused.said
    assert cluster.sh("node1", "cmp -n 512 /dev/twofold/tiny1-disk0 /dev/zero && echo spoilt") == "spoilt"
    cluster.play("reinstall", "-e", "instance=tiny1", "-e", "confirm=tiny1")
    assert settled(cluster, "tiny1") == "node1" and dstate(cluster, "node1") == WHOLE
    goes_on(cluster, "node1", device)
    assert cluster.play("converge").changed == 0


def test_the_disks_of_a_guest_that_is_off_are_opened_and_let_go(cluster: Cluster, device: str) -> None:
    said = cluster.play("activate_disks", "-e", "instance=tiny1", status=None).said
    assert "tiny1" in said and "runs" in said, "a running guest's disks belong to it"
    cluster.instances["tiny1"]["twofold_state"] = "stopped"
    cluster.play("converge")
    assert cluster.primaries("tiny1") == []
    assert device in cluster.play("activate_disks", "-e", "instance=tiny1").said
    write = f"dd of={device} bs=512 seek=100 conv=sync oflag=direct status=none"
    cluster.sh("node1", f"echo repaired | {write}")
    cluster.play("deactivate_disks", "-e", "instance=tiny1")
    assert cluster.primaries("tiny1") == []
    look = "dd if=/dev/twofold/tiny1-disk0 bs=512 skip=100 count=1 iflag=direct status=none | tr -d '\\0'"
    assert [cluster.sh(node, look) for node in ("node1", "node2")] == ["repaired", "repaired"]
    assert cluster.play("converge").changed == 0


def test_a_disk_grows_by_a_command(cluster: Cluster, device: str) -> None:
    cluster.play("grow", "-e", "instance=tiny1", "-e", "disk=0", "-e", "size=96MiB")
    assert cluster.sh("node1", f"blockdev --getsize64 {device}") == str(96 << 20)
    assert "capacity: 100663296" in " ".join(cluster.sh("node1", "virsh domblkinfo tiny1 vda").lower().split())
    assert dstate(cluster, "node1") == WHOLE
    goes_on(cluster, "node1", device)
