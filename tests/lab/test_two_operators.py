# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two operators at once, each with a checkout of the inventory: one waits, or is refused with the other's name."""

from __future__ import annotations

import socket
import subprocess

import pytest

from .cluster import Cluster, Variables, kill_group
from .test_converge import wait_for_step
from .test_disks import traces
from .test_migrate import ADDRESS, settled

pytestmark = pytest.mark.lab

# Bytes a second: what ann writes to node1 takes long enough for somebody else to come by.
SLOW = 2 << 20
HERE = socket.gethostname()


def operator(cluster: Cluster, name: str, instances: Variables, **variables: int) -> Cluster:
    """Somebody with a checkout of his own."""
    directory = cluster.directory / name
    directory.mkdir()
    made = Cluster(cluster.lab, directory)
    made.pki, made.operator, made.instances = cluster.pki, name, instances
    made.variables = {f"twofold_{key}": value for key, value in variables.items()}
    return made


def pair(cluster: Cluster) -> Variables:
    """A guest whose image takes a while to be written."""
    return {"twofold_nodes": ["node1", "node2"], **cluster.linux(ADDRESS)}


def at_work(ann: Cluster, operation: str) -> subprocess.Popen[bytes]:
    """Ann's run, while a step of it writes to a slow disk of node1."""
    ann.lab.throttle("node1", "vdb", bytes_per_second=SLOW)
    process = ann.start("converge")
    wait_for_step(ann, "node1", operation)
    return process


def test_one_is_refused_with_the_others_name_or_waits(cluster: Cluster) -> None:
    ann = operator(cluster, "ann", {"web1": pair(cluster)})
    bob = operator(cluster, "bob", {"tiny1": {"twofold_nodes": ["node1", "node2"]}}, lock_wait=0)
    process = at_work(ann, "os.install")
    refused = bob.play("converge", status=None)
    assert f"ann@{HERE} works on this node" in refused.said
    assert process.poll() is None, "ann was still at work"
    assert "tiny1" not in traces(cluster, "node1"), "nothing of it was done on the node that ann has"

    bob.variables["twofold_lock_wait"] = 600
    waiting = bob.start("converge")
    cluster.lab.throttle("node1", "vdb")
    assert process.wait(timeout=600) == 0, "nobody disturbed ann"
    assert waiting.wait(timeout=600) == 0, (bob.directory / "started.log").read_text(encoding="utf-8")
    assert [settled(cluster, name) for name in ("web1", "tiny1")] == ["node1", "node1"]
    ann.instances |= bob.instances
    assert ann.play("converge").changed == 0
    assert ann.findings() == []


@pytest.mark.nightly
def test_the_lock_of_a_dead_run_is_broken_by_who_knows(cluster: Cluster) -> None:
    ann = operator(cluster, "ann", {"web1": pair(cluster)}, lock_lease=3600)
    bob = operator(cluster, "bob", ann.instances, lock_wait=1)
    # A run gives its lock back with its last wave; this one dies before.
    kill_group(at_work(ann, "volumes.create"))
    busy = bob.play("break_lock", "-e", "node=node1", status=None)
    assert f"ann@{HERE}" in busy.said and "is at work on this node now" in busy.said
    cluster.lab.throttle("node1", "vdb")
    cluster.wait_at_rest("node1")

    refused = bob.play("converge", status=None)
    assert f"ann@{HERE} works on this node" in refused.said
    bob.play("break_lock", "-e", "node=all", "--check")
    refused = bob.play("converge", status=None)
    assert f"ann@{HERE} works on this node" in refused.said, "looking at a lock does not break it"
    bob.play("break_lock", "-e", "node=all")
    bob.play("converge")
    assert settled(cluster, "web1") == "node1"
    assert bob.play("converge").changed == 0
    assert bob.findings() == []
