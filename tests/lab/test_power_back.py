# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power comes back: nodes start their own guests without an operator, and only these."""

from __future__ import annotations

from functools import partial

import pytest

from .cluster import Cluster
from .test_failover import complete, disks
from .test_migrate import goes_on, settled

pytestmark = [pytest.mark.lab, pytest.mark.nightly]

PAIR = {"twofold_nodes": ["node1", "node2"]}
SERVICE = "systemctl start twofold-power-back.service; journalctl -u twofold-power-back --no-pager -o cat -b"


def own_guests_back(cluster: Cluster, *names: str) -> None:
    """Wait until guests run again, without anybody doing anything."""
    for name in names:
        cluster.lab.wait(partial(cluster.running, name), what=f"{name} runs again")


def test_all_power_goes_and_comes_back(cluster: Cluster) -> None:
    """Every node is cut at once; each guest starts where it was, once its peer has shaken hands."""
    cluster.instances = {
        "tiny1": PAIR,
        "tiny2": {"twofold_nodes": ["node2", "node1"]},
        "plain1": {"twofold_nodes": ["node3"], "twofold_disk_template": "plain"},
        "off1": {**PAIR, "twofold_state": "stopped"},
    }
    cluster.play("converge")
    device = cluster.sh("node1", "drbdadm sh-dev tiny1/0")
    before = cluster.counter("node1", device)
    for node in cluster.lab.nodes:
        cluster.lab.power_off(node)
    for node in cluster.lab.nodes:
        cluster.lab.power_on(node, wait=False)
    for node in cluster.lab.nodes:
        cluster.lab.wait_ssh(node)
    own_guests_back(cluster, "tiny1", "tiny2", "plain1")
    assert (settled(cluster, "tiny1"), settled(cluster, "tiny2")) == ("node1", "node2")
    assert cluster.running("plain1") == ["node3"] and cluster.running("off1") == []
    goes_on(cluster, "node1", device)
    assert cluster.counter("node1", device) > before
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


def test_a_broken_file_of_one_resource_keeps_down_no_other(cluster: Cluster) -> None:
    """Neither one of ours nor one of somebody else; drbdadm by itself reads them all."""
    cluster.instances = {"tiny1": PAIR}
    cluster.play("converge")
    cluster.sh("node2", "cd /etc/drbd.d; echo 'resource aaa {' >twofold-aaa.res; echo broken >mine.res; sync")
    cluster.lab.power_off("node2")
    cluster.lab.power_on("node2")

    def said() -> str:
        return cluster.sh("node2", "journalctl -u twofold-replication --no-pager -o cat -b")

    cluster.lab.wait(lambda: "aaa: drbdadm" in said(), what="the broken file is named")
    cluster.lab.wait(lambda: "tiny1" in cluster.sh("node2", "drbdsetup status"), what="tiny1 is up")
    assert "tiny1: " not in said()
    # Before it fills a copy the kernel asks drbdadm, which reads all files.
    cluster.sh("node2", "cd /etc/drbd.d; rm twofold-aaa.res mine.res")
    cluster.play("converge")
    cluster.lab.wait(lambda: disks(cluster, "node1", "tiny1") == "UpToDate/UpToDate", what="tiny1 is connected again")


def begun(cluster: Cluster, node: str, names: list[str]) -> list[float]:
    """The seconds after the node's boot at which the guests' QEMUs began."""
    line = "for name in {}; do cut -d' ' -f22 /proc/$(pgrep -f guest=$name,)/stat; done; getconf CLK_TCK"
    *ticks, a_second = (int(number) for number in cluster.sh(node, line.format(" ".join(names))).split())
    return [number / a_second for number in ticks]


def test_guests_start_in_their_order_and_not_all_at_once(cluster: Cluster) -> None:
    """By themselves when power is back, and by recover on the other node."""
    delay, order = 10, ["last1", "tiny1", "first1"]
    cluster.variables = {"twofold_starts_at_once": 1, "twofold_start_delay": delay}
    cluster.play("bootstrap")
    priorities = dict(zip(order, ({}, {"twofold_priority": 5}, {"twofold_priority": 9}), strict=True))
    small = {"twofold_memory": "32MiB", "twofold_disks": [{"size": "4MiB"}], "twofold_os": None}
    cluster.instances = {name: {**PAIR, **small, **priority} for name, priority in priorities.items()}
    cluster.play("converge")

    def in_order(node: str) -> None:
        last, middle, first = begun(cluster, node, order)
        assert middle - first >= delay and last - middle >= delay, (first, middle, last)

    for node in ("node1", "node2"):
        cluster.lab.power_off(node)
    for node in ("node1", "node2"):
        cluster.lab.power_on(node)
    own_guests_back(cluster, *order)
    in_order("node1")
    for name in order:
        cluster.lab.wait(partial(complete, cluster, "node2", name), what=f"the copy of {name} is whole")
    cluster.lab.power_off("node1")
    cluster.wait_missed("node2", *order)
    cluster.play("recover", "-e", "confirm_dead=node1")
    assert [settled(cluster, name) for name in order] == ["node2"] * 3
    in_order("node2")


def test_a_guest_that_was_failed_over_does_not_start_on_its_old_node(cluster: Cluster) -> None:
    """Also not after everything lost its power, and before any run told the old node."""
    cluster.instances = {"tiny1": PAIR}
    cluster.play("converge")
    cluster.lab.power_off("node1")
    cluster.wait_missed("node2", "tiny1")
    cluster.play("recover", "-e", "confirm_dead=node1")
    cluster.lab.power_on("node1")
    cluster.lab.wait(lambda: complete(cluster, "node1", "tiny1"), what="node1's copy was resynced")
    said = cluster.sh("node1", SERVICE)
    assert "tiny1: left alone" in said
    assert settled(cluster, "tiny1") == "node2"
    for node in ("node1", "node2"):
        cluster.lab.power_off(node)
    cluster.lab.power_on("node1")
    cluster.lab.power_on("node2")
    own_guests_back(cluster, "tiny1")
    assert settled(cluster, "tiny1") == "node2"
    cluster.play("converge")
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


def test_without_its_peer_a_guest_waits_and_says_so(cluster: Cluster) -> None:
    cluster.instances = {"tiny1": PAIR}
    cluster.play("converge")
    for node in ("node1", "node2"):
        cluster.lab.power_off(node)
    cluster.lab.power_on("node1")
    cluster.sh("node1", "systemctl stop twofold-power-back.timer twofold-power-back.service")
    library = "/usr/local/lib/twofold/twofold_node/_power_back.py"
    cluster.sh("node1", f"sed -i 's/^BOOT_PATIENCE = .*/BOOT_PATIENCE = 0.0/' {library}")
    said = cluster.sh("node1", SERVICE)
    assert "tiny1: left alone: its disks have no connection to node2" in said
    assert cluster.running("tiny1") == []
    left = [finding for finding in cluster.findings() if finding["code"] == "left-off"]
    assert [finding["object"] for finding in left] == ["instance tiny1"] and "recover.yml" in left[0]["remedy"]
    # Node2 may have gone on before its own power went; nobody but the operator knows that it did not.
    dead = ("-e", "confirm_dead=node2")
    assert "accept_stale=tiny1" in cluster.play("recover", *dead, status=2).said
    cluster.play("recover", *dead, "-e", "accept_stale=tiny1")
    assert settled(cluster, "tiny1") == "node1"


def test_a_qemu_that_was_killed_is_started_again_but_not_for_ever(cluster: Cluster) -> None:
    cluster.node_variables = {"twofold_power_back_restarts": 2, "twofold_power_back_interval": 0}
    cluster.play("bootstrap")
    cluster.instances = {"tiny1": PAIR}
    cluster.play("converge")
    for number in (1, 2):
        cluster.sh("node1", "pkill -KILL -f guest=tiny1,")
        cluster.lab.wait(lambda: not cluster.running("tiny1"), what="libvirt has noticed")
        said = cluster.sh("node1", SERVICE)
        assert said.count("tiny1: started") == number
        assert settled(cluster, "tiny1") == "node1"
    cluster.sh("node1", "pkill -KILL -f guest=tiny1,")
    cluster.lab.wait(lambda: not cluster.running("tiny1"), what="libvirt has noticed")
    assert "started 2 times" in cluster.sh("node1", SERVICE)
    assert cluster.running("tiny1") == []
    cluster.play("converge")
    assert settled(cluster, "tiny1") == "node1"
