# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that are destroyed, taken out, and rebooted, under guests that serve."""

from __future__ import annotations

import pytest

from . import dummy_package
from .cluster import Cluster, kill_group
from .test_disks import traces
from .test_failover import complete, every_record
from .test_migrate import ADDRESS, serving, settled
from .test_two_operators import HERE, operator

pytestmark = pytest.mark.lab

# What a node needs to take a guest that moves to it, and nothing else.
CERTIFICATE = "/etc/pki/qemu/server-cert.pem"


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
def test_a_node_that_lacks_something_after_its_reboot_gets_no_guests(cluster: Cluster) -> None:
    """It stops there: what is wrong with the node is said, and its guests stay where they are."""
    cluster.instances = {"tiny1": {"twofold_nodes": ["node2", "node1"]}}
    cluster.play("converge")
    before = boots(cluster)
    cluster.sh("node2", f"mv {CERTIFICATE} /var/tmp/kept.pem")
    stopped = cluster.play("reboot", "-e", "node=node2", status=None)
    assert "certificate-missing" in stopped.output
    assert boots(cluster)["node2"] != before["node2"] and settled(cluster, "tiny1") == "node1"
    cluster.sh("node2", f"mv /var/tmp/kept.pem {CERTIFICATE}")
    cluster.play("undrain", "-e", "node=node2")
    assert settled(cluster, "tiny1") == "node2" and notes(cluster) == ""
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


@pytest.mark.nightly
def test_a_node_is_added(cluster: Cluster) -> None:
    """A bare machine that the inventory names is a node after one run, and the others know it."""
    cluster.lab.renew("node3")
    cluster.left_out = {"node3"}
    cluster.instances = {"tiny1": {"twofold_nodes": ["node1", "node2"]}}
    cluster.play("site")
    assert "twofold" not in cluster.sh("node3", "vgs --noheadings; ls /var/lib /etc/drbd.d 2>/dev/null")
    cluster.left_out = set()
    cluster.instances["tiny2"] = {"twofold_nodes": ["node3", "node1"]}
    cluster.play("site")
    assert settled(cluster, "tiny2") == "node3"
    for where in ("node1", "node3"):
        cluster.play("migrate", "-e", "instance=tiny2")
        assert settled(cluster, "tiny2") == where
    assert all(complete(cluster, node, "tiny2") for node in ("node1", "node3"))
    assert cluster.play("site").changed == 0
    assert cluster.findings() == []


@pytest.mark.nightly
def test_site_does_without_a_node_that_is_silent_and_fails_for_it_then(cluster: Cluster) -> None:
    cluster.instances = {"tiny1": {"twofold_nodes": ["node1", "node2"], "twofold_shutdown_timeout": 1}}
    cluster.play("converge")
    cluster.lab.power_off("node3")
    cluster.sh("node2", "systemctl disable --now twofold-power-back.timer")
    cluster.instances["tiny1"]["twofold_state"] = "stopped"
    said = cluster.play("site", status=2).output
    assert "node3 did not answer, so it was not set up" in said
    assert cluster.running("tiny1") == [], "the other half was done"
    assert cluster.sh("node2", "systemctl is-enabled twofold-power-back.timer") == "enabled", "and so was this one"


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
    assert notes(cluster) == ""
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


def old_package_and_new(cluster: Cluster, *nodes: str, waits: bool = False) -> None:
    """The nodes have an old package, and a newer one is there to be had."""
    old = dummy_package.build(cluster.directory, "1.0")
    new = dummy_package.build(cluster.directory, "2.0", waits=waits)
    for node in nodes:
        dummy_package.install(cluster.lab, node, old)
        dummy_package.offer(cluster.lab, node, new)


def notes(cluster: Cluster) -> str:
    """What is left of reboots on any node."""
    line = "ls /var/lib/twofold/rolling.json /var/lib/twofold/maintenance.json 2>/dev/null; true"
    return "".join(cluster.sh(node, line) for node in cluster.lab.nodes)


@pytest.mark.nightly
def test_who_converges_while_a_node_gets_its_packages_starts_nothing_there(cluster: Cluster) -> None:
    """The node is cleared, its reboot is minutes away; a colleague wants a guest of it to run, and another one."""
    off = {"twofold_nodes": ["node2", "node3"], "twofold_state": "stopped"}
    ann = operator(cluster, "ann", {"tiny1": {"twofold_nodes": ["node2", "node1"]}, "off1": off})
    bob = operator(cluster, "bob", {**ann.instances, "off1": {**off, "twofold_state": "running"}, "new1": {}})
    ann.play("converge")
    old_package_and_new(cluster, "node2", waits=True)
    before = boots(cluster)
    process = ann.start("reboot", "-e", "node=node2", "-e", "packages=upgrade")
    try:
        cluster.lab.wait(lambda: dummy_package.waits(cluster.lab, "node2"), 1200, "node2 gets its packages")
        refused = bob.play("converge", status=None)
        assert f"node2 is about to be rebooted by ann@{HERE}" in refused.said
        assert cluster.sh("node2", "virsh list --name") == "" and cluster.running("off1") == []
        assert len(cluster.running("new1")) == 1, "what is new goes elsewhere"
        assert "new1" not in cluster.sh("node2", "lvs --noheadings -o lv_name; virsh list --all --name")
        found = {(one["object"], one["code"]) for one in bob.findings()}
        assert {("node node2", "node-rebooting"), ("instance off1", "node-rebooting")} <= found
        dummy_package.go_on(cluster.lab, "node2")
        assert process.wait(timeout=1800) == 0, (ann.directory / "started.log").read_text(encoding="utf-8")
    finally:
        if process.poll() is None:
            kill_group(process)
    after = boots(cluster)
    assert [node for node in cluster.lab.nodes if after[node] != before[node]] == ["node2"]
    assert dummy_package.installed(cluster.lab, "node2") == "2.0 installed"
    assert settled(cluster, "tiny1") == "node2" and notes(cluster) == ""
    bob.play("converge")
    assert cluster.running("off1") == ["node2"]
    assert bob.play("converge").changed == 0
    assert bob.findings() == []


@pytest.mark.nightly
def test_a_rolling_upgrade_installs_what_is_newer_on_every_node(cluster: Cluster) -> None:
    cluster.instances = {"tiny1": {"twofold_nodes": ["node1", "node2"]}}
    cluster.play("converge")
    old_package_and_new(cluster, *cluster.lab.nodes)
    before = boots(cluster)
    cluster.play("rolling", "-e", "packages=upgrade")
    after = boots(cluster)
    for node in cluster.lab.nodes:
        assert dummy_package.installed(cluster.lab, node) == "2.0 installed"
        assert after[node] != before[node]
    assert settled(cluster, "tiny1") == "node1" and notes(cluster) == ""
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


@pytest.mark.nightly
def test_a_node_that_loses_its_power_in_the_middle_of_its_upgrade_is_upgraded_after_all(cluster: Cluster) -> None:
    """It has booted since the rolling upgrade began, and is not done all the same."""
    cluster.instances = {"tiny1": {"twofold_nodes": ["node1", "node2"]}}
    cluster.play("converge")
    old_package_and_new(cluster, *cluster.lab.nodes, waits=True)

    def busy() -> list[str]:
        return [node for node in cluster.lab.nodes if dummy_package.waits(cluster.lab, node)]

    process = cluster.start("rolling", "-e", "packages=upgrade")
    try:
        (node, *_more) = cluster.lab.wait(busy, 1200, "a node gets its packages")
        cluster.lab.power_cycle(node)
        # Another one of its group is at its packages, too, and is waited for.
        dummy_package.go_on(cluster.lab, *(one for one in cluster.lab.nodes if one != node))
        assert process.wait(timeout=1800) != 0
    finally:
        if process.poll() is None:
            kill_group(process)
    assert dummy_package.installed(cluster.lab, node) == "2.0 half-configured"
    dummy_package.go_on(cluster.lab, node)
    cluster.play("site")
    before = boots(cluster)
    cluster.play("rolling", "-e", "packages=upgrade")
    assert boots(cluster)[node] != before[node], "that it booted without its packages does not count"
    for one in cluster.lab.nodes:
        assert dummy_package.installed(cluster.lab, one) == "2.0 installed"
    assert settled(cluster, "tiny1") == "node1" and notes(cluster) == ""
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []
