# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live migration on real nodes: there and back, and cut off at the worst moment."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from .cluster import Cluster, kill_group
from .test_converge import wait_for_step

pytestmark = pytest.mark.lab

ADDRESS = "203.0.113.71"


def settled(cluster: Cluster, name: str) -> str:
    """The one node that runs the instance, after checking that DRBD has one primary, the same, and no dual-primary."""
    running = cluster.running(name)
    assert len(running) == 1, f"{name} runs on {running}"
    assert cluster.primaries(name) == running
    assert cluster.two_primaries_allowed(name) == []
    return running[0]


def there_and_back(cluster: Cluster, times: int) -> None:
    cluster.instances = {"tiny1": {"twofold_nodes": ["node1", "node2"]}}
    cluster.play("converge")
    device = cluster.sh("node1", "drbdadm sh-dev tiny1/0")
    last, where = 0, "node1"
    for _ignored in range(times):
        cluster.play("migrate", "-e", "instance=tiny1")
        now = settled(cluster, "tiny1")
        assert now != where
        count = cluster.counter(now, device)
        assert count > last, "the guest counts on, it does not start again"
        goes_on(cluster, now, device)
        last, where = count, now
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


def goes_on(cluster: Cluster, node: str, device: str) -> None:
    count = cluster.counter(node, device)
    cluster.lab.wait(lambda: cluster.counter(node, device) > count, what="the guest goes on counting")


def test_there_and_back(cluster: Cluster) -> None:
    there_and_back(cluster, 4)


@pytest.mark.nightly
def test_twenty_times_there_and_back(cluster: Cluster) -> None:
    there_and_back(cluster, 20)


@pytest.mark.nightly
def test_a_plain_instance_takes_its_disk_along(cluster: Cluster) -> None:
    cluster.instances = {"plain1": {"twofold_nodes": ["node1"], "twofold_disk_template": "plain"}}
    cluster.play("converge")
    cluster.play("migrate", "-e", "instance=plain1", "-e", "target=node3")
    assert cluster.running("plain1") == ["node3"]
    assert cluster.sh("node1", "lvs --noheadings -o lv_name twofold; virsh list --all --name") == ""
    device = "/dev/twofold/plain1-disk0"
    goes_on(cluster, "node3", device)
    assert cluster.play("converge").changed == 0


def serving(cluster: Cluster) -> subprocess.Popen[str]:
    """A Linux guest that writes records; returns the ssh session that prints each number once it is durable."""
    cluster.variables = {"twofold_lock_lease": 10, "twofold_migration_bandwidth": "2MiB"}
    cluster.instances = {"serve1": {"twofold_nodes": ["node1", "node2"], **cluster.linux(ADDRESS)}}
    cluster.play("converge")
    cluster.lab.wait_ssh(ADDRESS)
    argv = [*cluster.lab.ssh_argv(ADDRESS), "counter"]
    writer = subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    assert writer.stdout and int(writer.stdout.readline()) == 1
    return writer


def migrating(cluster: Cluster) -> bool:
    """Whether a migration job copies memory on node1."""
    done = cluster.lab.run("node1", "virsh domjobinfo serve1 --rawstats 2>/dev/null", check=False)
    values = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    return int(values.get("memory_processed", 0)) > 1 << 20 and int(values.get("memory_remaining", 0)) > 0


def wait_for_copying(cluster: Cluster) -> None:
    """Wait until memory is being copied, looking seldom enough not to slow it down."""
    wait_for_step(cluster, "node1", "domain.migrate")
    cluster.lab.wait(lambda: migrating(cluster), what="memory is being copied", every=1.0)


def acknowledged(writer: subprocess.Popen[str]) -> int:
    """The last number that the guest said was durable, after the session was ended."""
    writer.terminate()
    with writer:
        assert writer.stdout
        numbers = [int(line) for line in writer.stdout if line.strip().isdigit()]
    return numbers[-1] if numbers else 1


def cut_target(cluster: Cluster, process: subprocess.Popen[bytes]) -> None:
    cluster.lab.power_off("node2")
    assert process.wait(timeout=1200) != 0, "a migration to a dead node has failed"
    assert cluster.running("serve1") == ["node1"], "the guest goes on where it was"
    cluster.lab.power_on("node2")


def cut_source(cluster: Cluster, process: subprocess.Popen[bytes]) -> None:
    cluster.lab.power_off("node1")
    assert process.wait(timeout=1200) != 0, "a migration from a dead node has failed"
    cluster.lab.power_on("node1")


def cut_control(cluster: Cluster, process: subprocess.Popen[bytes]) -> None:
    kill_group(process)
    cluster.lab.wait(lambda: not migrating(cluster), what="libvirt's own job is over")


def lose_the_last_answer(cluster: Cluster, process: subprocess.Popen[bytes]) -> None:
    """The target hears everything, and of its libvirtd only the answers to pings are heard, which are short."""
    chain = "type filter hook output priority 0; tcp sport 16514 ip length > 250 drop;"
    cluster.sh("node2", f"echo 'table inet lost {{ chain out {{ {chain} }}; }}' | nft -f -")
    cluster.sh("node1", "virsh migrate-setspeed serve1 512")
    assert process.wait(timeout=1200) != 0, "the source has not heard that the target has all of it"
    assert cluster.running("serve1") == ["node1"], "libvirt lets the guest go on at the source, and nowhere else"
    assert cluster.sh("node2", "virsh domstate serve1").strip() == "paused", "what the target has waits for a word"
    cluster.sh("node2", "nft delete table inet lost")


@pytest.mark.nightly
@pytest.mark.parametrize("cut", [cut_target, cut_source, cut_control, lose_the_last_answer])
def test_cut_off_in_the_middle(cluster: Cluster, cut: Callable[[Cluster, subprocess.Popen[bytes]], None]) -> None:
    """Whatever is cut, one run of converge leaves one running copy, no dual-primary, and every acknowledged record."""
    writer = serving(cluster)
    process = cluster.start("migrate", "-e", "instance=serve1")
    wait_for_copying(cluster)
    cut(cluster, process)
    assert len(cluster.running("serve1")) <= 1, "it never runs twice"
    mended(cluster, writer)


def mended(cluster: Cluster, writer: subprocess.Popen[str]) -> None:
    """One run of converge, and the guest runs once, with every record, and nothing is left to do."""
    cluster.play("converge")
    settled(cluster, "serve1")
    last = acknowledged(writer)
    cluster.lab.wait_ssh(ADDRESS)
    checked = cluster.lab.run(ADDRESS, "counter --check").stdout
    assert int(checked.split()[0]) >= last, f"record {last} was acknowledged; on the disk: {checked}"
    assert cluster.play("converge").changed == 0
    assert cluster.findings() == []


@pytest.mark.nightly
def test_a_post_copy_migration_that_loses_its_connection_is_given_up_by_the_operators_word(cluster: Cluster) -> None:
    """The guest has changed over, and what it has in memory is on both nodes."""
    writer = serving(cluster)
    cluster.variables = {**cluster.variables, "twofold_migration_postcopy": True}
    process = cluster.start("migrate", "-e", "instance=serve1")
    wait_for_copying(cluster)
    cluster.sh("node1", "virsh migrate-setspeed serve1 1 --postcopy; virsh migrate-postcopy serve1")
    reason = "virsh domstate serve1 --reason"
    cluster.lab.wait(lambda: "(post-copy)" in cluster.sh("node2", reason), what="the guest has changed over")
    cluster.sh("node1", "ss -K '( dport >= 49152 and dport <= 49215 )'")
    assert process.wait(timeout=1200) != 0
    assert "virsh destroy serve1" in (cluster.directory / "started.log").read_text(encoding="utf-8")
    assert "(post-copy failed)" in cluster.sh("node1", reason)
    assert "its memory is on node1 and node2" in cluster.play("converge", status=None).said
    for node in ("node1", "node2"):
        cluster.sh(node, "virsh destroy serve1")
    mended(cluster, writer)
