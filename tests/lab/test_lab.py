# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: boot, restore, faults, labs side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from . import network
from .core import Lab
from .errors import LabError
from .paths import default_name

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes, saved right after their first start."""
    made = Lab(f"{default_name()}-self"[:20])
    made.up(nodes=2)
    made.save("fresh")
    yield made
    made.down()
    made.drop("*")
    assert not network.exists(made.name)
    assert not made.runtime.exists()


@pytest.fixture
def fresh(lab: Lab) -> Lab:
    lab.restore("fresh")
    return lab


def test_nodes_are_plain(fresh: Lab) -> None:
    assert fresh.run("node2", "hostname").stdout == "node2\n"
    assert "node1" not in fresh.run("node2", "cat /etc/hosts").stdout
    assert fresh.run("node1", "cat /sys/block/vdb/size /sys/block/vdc/size").stdout.split() == ["16777216", "4194304"]
    assert fresh.run("node1", "test -c /dev/kvm && echo kvm").stdout == "kvm\n"
    assert "[]" in fresh.run("node1", "echo [$(vgs --noheadings)]").stdout
    keys = {fresh.run(node, "cat /etc/ssh/ssh_host_ed25519_key.pub /etc/machine-id").stdout for node in fresh.nodes}
    assert len(keys) == 2


@pytest.mark.nightly
def test_restore_brings_disks_memory_and_clock_back(fresh: Lab) -> None:
    fresh.run("node1", "echo changed > /var/tmp/file && echo changed > /dev/shm/file && date -s 2001-01-01 && sync")
    fresh.restore("fresh")
    assert fresh.run("node1", "ls /var/tmp/file /dev/shm/file", check=False).returncode != 0
    assert abs(float(fresh.run("node1", "date +%s").stdout) - time.time()) < 60


@pytest.mark.nightly
def test_snapshots_build_on_each_other(fresh: Lab) -> None:
    fresh.put("node1", "/var/tmp/one", "1\n")
    fresh.save("one")
    fresh.put("node1", "/var/tmp/two", "2\n")
    fresh.save("two")
    fresh.drop("one")
    assert not fresh.has_snapshot("one")
    fresh.restore("two")
    assert fresh.run("node1", "cat /var/tmp/one /var/tmp/two").stdout == "1\n2\n"
    with pytest.raises(LabError, match="snapshot 'one'"):
        fresh.restore("one")
    fresh.drop("two")


def test_power_cut_loses_what_was_not_flushed(fresh: Lab) -> None:
    fresh.run("node1", "echo kept > /var/tmp/kept && sync /var/tmp/kept /var/tmp && echo lost > /dev/shm/lost")
    fresh.power_off("node1")
    assert not fresh.powered("node1")
    assert fresh.powered("node2")
    with pytest.raises(LabError, match="is off"):
        fresh.link("node1", "guest", up=False)
    fresh.power_on("node1")
    assert fresh.run("node1", "cat /var/tmp/kept; ls /dev/shm").stdout == "kept\n"


def test_one_network_is_cut_alone(fresh: Lab) -> None:
    ping = "ping -c 1 -W 5 198.51.100.12"
    fresh.run("node1", ping)
    fresh.link("node1", "replication", up=False)
    assert fresh.run("node1", ping, check=False).returncode != 0
    fresh.link("node1", "replication", up=True)
    fresh.wait(lambda: fresh.run("node1", ping, check=False).returncode == 0, what="the network is back")


@pytest.mark.nightly
def test_frozen_node_goes_on(fresh: Lab) -> None:
    fresh.freeze("node2")
    used = fresh.cpu_seconds()["node2"]
    assert fresh.run("node1", "ping -c 1 -W 2 192.0.2.12", check=False).returncode != 0
    assert fresh.cpu_seconds()["node2"] == used
    fresh.thaw("node2")
    assert fresh.run("node2", "echo here").stdout == "here\n"


@pytest.mark.nightly
def test_slow_disk(fresh: Lab) -> None:
    write = "dd if=/dev/zero of=/dev/vdc bs=1M count=4 oflag=direct 2>/dev/null"
    fresh.throttle("node1", "vdc", bytes_per_second=1 << 20)
    start = time.monotonic()
    fresh.run("node1", write)
    assert time.monotonic() - start > 2
    with pytest.raises(LabError, match="disk 'sda'"):
        fresh.throttle("node1", "sda")


@pytest.mark.nightly
def test_labs_side_by_side(fresh: Lab) -> None:
    other = Lab(f"{default_name()}-two"[:20])
    other.up(nodes=1)
    try:
        fresh.put("node1", "/var/tmp/whose", "first\n")
        other.put("node1", "/var/tmp/whose", "second\n")
        assert fresh.run("node1", "cat /var/tmp/whose").stdout == "first\n"
        assert other.run("node1", "cat /var/tmp/whose").stdout == "second\n"
        assert other.in_namespace(["nc", "-z", "-w", "3", "192.0.2.12", "22"], check=False).returncode != 0
    finally:
        other.down()
    assert not network.exists(other.name)
    assert fresh.run("node1", "true").returncode == 0


def test_mistakes_are_one_message(fresh: Lab) -> None:
    with pytest.raises(LabError, match=r"machine 'node9': lab \S+ has node1, node2"):
        fresh.power_off("node9")
    with pytest.raises(LabError, match="network 'lan': the lab has management, replication, guest"):
        fresh.link("node1", "lan", up=False)
    with pytest.raises(LabError, match=r"nodes: 2, wanted 3.*run 'lab down"):
        fresh.up(nodes=3)
    with pytest.raises(LabError, match="use 1 to 20"):
        Lab("Bad Name")
