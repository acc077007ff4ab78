# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with real nodes is found under its code; what can be mended safely is mended, and the rest stays."""

from __future__ import annotations

import json

import pytest

from twofold import pki

from .cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.nightly]

LOCK = {"format": 1, "holder": "ann@desk", "run": "r1", "time": 1, "lease": 60}
STEP = {"id": "pair1/volumes.create@node1"}
ENTRY = {"format": 1, "holder": "ann@desk", "run": "r1", "pid": 1, "process": "none", "time": 1, "step": STEP}
DEFINITIONS = "/var/lib/twofold/instances"
OTHER = pki.load_authority(pki.create_authority("other", pki.now()))
FOREIGN = pki.issue(OTHER, pki.Subject("node1", "qemu", ("node1",), ("192.0.2.11",)), pki.now()).certificate
# What is done to a node, by the code and object that it has to be found under.
MENDED = {
    ("definition-outdated", "instance pair1"): (
        "node2", f"sed -i 's/\"generation\": [0-9]*/\"generation\": 0/' {DEFINITIONS}/pair1.json",
    ),
    ("definition-missing", "instance pair2"): ("node1", f"rm {DEFINITIONS}/pair2.json"),
    ("tags-missing", "instance pair1"): ("node1", "lvchange -q --deltag twofold.role=data twofold/pair1-disk0"),
    ("replication-differs", "instance pair1"): (
        "node2", "sed -i 's/resync-rate [^;]*/resync-rate 7M/' /etc/drbd.d/twofold-pair1.res",
    ),
    ("two-primaries-allowed", "instance pair2"): ("node1", "drbdadm net-options --allow-two-primaries=yes pair2"),
    ("domain-left-over", "instance pair2"): ("node2", "virsh -q define /tmp/pair2.xml"),
    ("orphan-seed", "node node3"): ("node3", "echo none >/var/lib/twofold/seeds/gone.iso"),
    ("lock-expired", "node node3"): ("node3", f"echo '{json.dumps(LOCK)}' >/run/twofold/lock.json"),
    ("interrupted-step", "node node1"): (
        "node1", f"echo '{json.dumps(ENTRY)}' >/var/lib/twofold/journal/left.json",
    ),
}  # fmt: skip
KEPT = {
    ("orphan-volume", "node node3"): ("node3", "lvcreate -qy -Wn -L 4M -n gone-disk0 twofold"),
    ("node-differs", "node node2"): ("node2", "echo '# mine' >>/etc/modules-load.d/twofold.conf"),
    ("should-run", "instance single1"): ("node3", "virsh -q destroy single1"),
    ("certificate-foreign", "node node1"): ("node1", "cp /tmp/foreign.pem /etc/pki/qemu/client-cert.pem"),
}


def codes(cluster: Cluster) -> set[tuple[str, str]]:
    return {(found["code"], found["object"]) for found in cluster.findings()}


def test_every_hurt_is_found_and_what_can_be_mended_is(cluster: Cluster) -> None:
    cluster.instances = {
        "pair1": {"twofold_nodes": ["node1", "node2"]},
        "pair2": {"twofold_nodes": ["node1", "node2"]},
        "single1": {"twofold_nodes": ["node3"], "twofold_disk_template": "plain"},
    }
    cluster.play("converge")
    assert codes(cluster) == set()
    cluster.lab.put("node2", "/tmp/pair2.xml", cluster.sh("node1", "virsh dumpxml --inactive pair2"))
    cluster.lab.put("node1", "/tmp/foreign.pem", FOREIGN)
    for node, line in [*MENDED.values(), *KEPT.values()]:
        cluster.sh(node, line)
    found = codes(cluster)
    assert MENDED.keys() | KEPT.keys() <= found, (MENDED.keys() | KEPT.keys()) - found

    predicted = cluster.play("verify", "-e", "fix=true", "--check", status=2).output
    assert "replication.settle" in predicted and codes(cluster) >= found, "check mode changes nothing"
    before = cluster.running("pair1"), cluster.running("pair2")
    shown = cluster.play("verify", "-e", "fix=true", status=2).output
    assert "should run and does not" in shown, "what is left makes it fail"
    left = codes(cluster)
    assert left & MENDED.keys() == set()
    assert left >= set(KEPT)
    assert (cluster.running("pair1"), cluster.running("pair2")) == before == (["node1"], ["node1"])
    assert cluster.running("single1") == [], "it is not for mending to start a guest"
    assert cluster.sh("node3", "lvs --noheadings -o lv_name twofold/gone-disk0") == "gone-disk0"

    cluster.sh("node3", "lvremove -qy twofold/gone-disk0")
    cluster.play("site")
    assert codes(cluster) == set()


def test_a_cut_link_and_a_dead_node_are_named_with_what_they_cost(cluster: Cluster) -> None:
    cluster.instances = {"pair1": {"twofold_nodes": ["node1", "node2"]}}
    cluster.play("converge")
    cluster.lab.link("node2", "replication", up=False)
    cluster.lab.wait(lambda: ("not-connected", "instance pair1") in codes(cluster), what="the peer is missed")
    assert {("node-network", "node node1"), ("node-network", "node node2")} <= codes(cluster)
    cluster.lab.link("node2", "replication", up=True)
    cluster.lab.wait(lambda: codes(cluster) == set(), what="all is well again")
    cluster.lab.power_off("node2")
    cluster.lab.wait(lambda: ("redundancy-lost", "instance pair1") in codes(cluster), what="the copy is missed")
    assert ("node-unknown", "node node2") in codes(cluster)
