# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that lives while a part of it hangs: it is named, the others are served, and afterwards all is well."""

from __future__ import annotations

import pytest

from .cluster import Cluster
from .test_migrate import settled
from .test_power_back import SERVICE

pytestmark = [pytest.mark.lab, pytest.mark.nightly]

# It ends by itself when nobody asks it anything for a while, so it is asked first.
STOP = "virsh -q list; kill -STOP $(systemctl show --property=MainPID --value libvirtd)"
GO_ON = "kill -CONT $(systemctl show --property=MainPID --value libvirtd)"
CRASH = "kill -KILL $(cat /run/libvirt/qemu/tiny1.pid)"
# A volume group on a device that takes no request any more; no signal ends who reads it.
SUSPEND = (
    "lvcreate -qy -Wn -n slow -L 64M twofold && "
    'dmsetup create slow --table "0 131072 linear /dev/twofold/slow 0" && '
    "vgcreate --quiet slow /dev/mapper/slow && dmsetup suspend slow"
)
RESUME = "dmsetup resume slow; vgremove --quiet slow; dmsetup remove --retry slow; lvremove -qy twofold/slow"


def is_named(cluster: Cluster, *words: str) -> None:
    """Status and verify end, and say of node2 alone what hangs there."""
    status = cluster.status()
    assert {one["name"]: one["state"] for one in status["nodes"]} == {
        "node1": "up", "node2": "incomplete", "node3": "up",
    }  # fmt: skip
    found = cluster.findings()
    assert {one["object"] for one in found if one["code"] == "node-incomplete"} == {"node node2"}
    said = [one for one in found if one["code"] == "node-problem" and all(word in one["message"] for word in words)]
    assert said and all(one["object"] == "node node2" and one["remedy"] for one in said), found


def holds_nobody_up(cluster: Cluster, hurt: str, said: str, more: str) -> None:
    """Node2 hangs; it is named, and a guest that it has nothing to do with is started.

    One that is new is not: the node may have it already.
    """
    cluster.sh("node2", hurt)
    is_named(cluster, said, more)
    cluster.instances["tiny2"]["twofold_state"] = "running"
    assert said in cluster.play("converge", status=2).said
    assert runs_on(cluster, "node3") == ["tiny2"]


def runs_on(cluster: Cluster, node: str) -> list[str]:
    """The guests of one node; another one's libvirt would not answer."""
    return cluster.sh(node, "virsh list --name --state-running").split()


def all_is_well(cluster: Cluster) -> None:
    cluster.play("converge")
    assert [settled(cluster, name) for name in ("tiny1", "tiny2")] == ["node1", "node3"]
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


@pytest.fixture
def pair(cluster: Cluster) -> Cluster:
    """A guest on node1 whose second copy is on node2, and one of the other nodes that is off."""
    cluster.instances = {
        "tiny1": {"twofold_nodes": ["node1", "node2"]},
        "tiny2": {"twofold_nodes": ["node3", "node1"], "twofold_state": "stopped"},
    }
    cluster.play("converge")
    return cluster


def test_a_libvirtd_that_hangs_holds_nobody_up(pair: Cluster) -> None:
    said = "libvirt at qemu:///system did not answer"
    holds_nobody_up(pair, STOP, said, "domains: ")
    # Nor the peer that wants to know whether its guest runs there, which nobody can tell it.
    pair.sh("node1", CRASH)
    assert "tiny1: left alone: libvirt of node2 does not answer" in pair.sh("node1", SERVICE)
    assert said in pair.play("recover", status=None).said
    assert runs_on(pair, "node1") == []
    pair.sh("node2", GO_ON)
    assert "tiny1: started" in pair.sh("node1", SERVICE)
    all_is_well(pair)


def test_a_migration_whose_libvirtd_hangs_ends(pair: Cluster) -> None:
    pair.sh("node2", STOP)
    played = pair.play("migrate", "-e", "instance=tiny1", status=None)
    assert "libvirt at qemu:///system did not answer" in played.said
    assert runs_on(pair, "node1") == ["tiny1"]
    pair.sh("node2", GO_ON)
    pair.play("migrate", "-e", "instance=tiny1")
    assert settled(pair, "tiny1") == "node2"


def test_a_disk_that_hangs_holds_nobody_up(pair: Cluster) -> None:
    holds_nobody_up(pair, SUSPEND, "lvm fullreport", "did not end within")
    pair.sh("node2", RESUME)
    all_is_well(pair)
