# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator's mistakes, and nodes that do not answer: named with a remedy, nothing half done, the others go on."""

from __future__ import annotations

import pytest

from .cluster import Cluster, Variables

pytestmark = pytest.mark.lab

MISTAKES: dict[str, tuple[Variables, str]] = {
    "typo1": ({"twofold_memmory": "64MiB"}, "did you mean twofold_memory?"),
    "size1": ({"twofold_disks": [{"size": "64 apples"}]}, "twofold_disks[0].size of size1"),
    "pin1": ({"twofold_nodes": ["node1", "node9"]}, "node9"),
    "same1": ({"twofold_nodes": ["node1", "node1"]}, "same1"),
    "os1": ({"twofold_os": "no-such-os"}, "no-such-os"),
    "net1": ({"twofold_nics": [{"network": "nowhere"}]}, "nowhere"),
    "big1": ({"twofold_memory": "64GiB"}, "node1"),
    "wide1": ({"twofold_disks": [{"size": "64GiB"}]}, "node1"),
    "twin1": ({"twofold_nics": [{"network": "lan", "address": "203.0.113.81"}]}, "203.0.113.81"),
    "undefined1": ({"twofold_memory": "{{ nobody_defined_this }}"}, "nobody_defined_this"),
}


@pytest.mark.nightly
def test_one_wrong_instance_does_not_block_the_others(cluster: Cluster) -> None:
    cluster.instances = {name: variables for name, (variables, _ignored) in MISTAKES.items()}
    cluster.instances["twin2"] = MISTAKES["twin1"][0]
    cluster.instances["good1"] = {"twofold_nodes": ["node1", "node2"]}
    played = cluster.play("converge", status=2)
    text = played.said
    for name, (_ignored, said) in MISTAKES.items():
        assert name in text and said in text, f"{name}: {said}\n{played.output}"
    assert "group_vars" in text or "hosts.yml" in text, "the file is named"
    assert cluster.running("good1") == ["node1"]
    for node in cluster.lab.nodes:
        names = set(cluster.sh(node, "ls /var/lib/twofold/instances").split())
        assert names <= {"good1.json"}, "nothing of a wrong instance is on a node"
    assert cluster.sh("node1", "lvs --noheadings -o lv_name twofold").split() == ["good1-disk0", "good1-disk0-meta"]


@pytest.mark.nightly
def test_a_wrong_cluster_variable_stops_everything(cluster: Cluster) -> None:
    cluster.instances = {"good1": {}}
    cluster.variables = {"twofold_networks": {"lan": {"bridge": "a-name-that-is-too-long-for-linux"}}}
    played = cluster.play("converge", status=2)
    assert "bridge" in played.output and "all.yml" in played.output
    assert all(cluster.sh(node, "ls /var/lib/twofold/instances") == "" for node in cluster.lab.nodes)


@pytest.mark.nightly
def test_an_image_that_is_not_what_it_should_be(cluster: Cluster) -> None:
    path = cluster.directory / "forged.raw"
    path.write_bytes(b"forged" * 100)
    template = {"kind": "image", "file": str(path), "format": "raw", "sha256": "0" * 64}
    cluster.variables = {"twofold_os_templates": {"forged": template}}
    cluster.instances = {"forged1": {"twofold_nodes": ["node1", "node2"], "twofold_os": "forged"}}
    played = cluster.play("converge", status=2)
    assert "0" * 12 in played.output and "sum" in played.output
    assert cluster.running("forged1") == []
    assert cluster.sh("node1", "ls /var/lib/twofold/images") == "", "nothing is left of it"


def test_a_node_that_does_not_answer_is_unknown_not_down(cluster: Cluster) -> None:
    cluster.instances = {
        "needs1": {"twofold_nodes": ["node1", "node3"]},
        "other1": {"twofold_nodes": ["node1", "node2"]},
    }
    cluster.play("converge")
    cluster.sh("node1", "virsh destroy needs1; virsh destroy other1")
    cluster.lab.link("node3", "management", False)
    played = cluster.play("converge", status=None)
    assert cluster.running("other1") == ["node1"], "what does not need the node goes on"
    assert cluster.running("needs1") == [], "what needs it is left alone"
    assert "node3" in played.output and "needs1" in played.output
    cluster.lab.link("node3", "management", True)
    cluster.lab.wait_ssh("node3")
    cluster.play("converge")
    assert cluster.running("needs1") == ["node1"]


@pytest.mark.nightly
def test_migrations_that_cannot_be(cluster: Cluster) -> None:
    cluster.instances = {
        "here1": {"twofold_nodes": ["node1", "node2"]},
        "off1": {"twofold_nodes": ["node1", "node2"], "twofold_state": "stopped"},
    }
    cluster.play("converge")
    for arguments, said in (
        (("instance=here1", "target=node3"), "node3"),
        (("instance=here1", "target=node9"), "node9"),
        (("instance=off1",), "off1"),
        (("instance=nobody",), "nobody"),
        ((), "instance"),
    ):
        played = cluster.play("migrate", *(word for argument in arguments for word in ("-e", argument)), status=2)
        assert said in played.output and "ERROR" in played.output
        assert played.changed == 0
    assert cluster.running("here1") == ["node1"] and cluster.primaries("here1") == ["node1"]
    assert cluster.play("migrate", "-e", "instance=here1", "-e", "target=node1").changed == 0, "it is there already"
