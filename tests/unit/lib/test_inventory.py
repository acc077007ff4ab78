# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory: what is right, and every way to be wrong with host, variable, file and remedy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.unit.lib.cases import CLUSTER, instance, nodes

from twofold import inventory, variables
from twofold.findings import Finding
from twofold.nodeconfig import settings

ROOT = Path(__file__).parents[3]


def locate(host: str, variable: str) -> str | None:
    """Pretend that every variable stands in its host's file."""
    return f"host_vars/{host}.yml:7"


def load(given: dict[str, dict[str, Any]], cluster: dict[str, Any] | None = None) -> tuple[Any, list[Finding]]:
    found = {name: {**variables, **(cluster or {})} for name, variables in nodes().items()}
    return inventory.load(found, given, locate)


def test_a_right_inventory_has_no_findings() -> None:
    desired, findings = load({"web1": instance(os="debian-13", nodes="node1"), "web2.example": instance()})
    assert findings == [] and not desired.blocked and not desired.rejected
    web1 = desired.instances["web1"]
    assert (web1.memory, web1.disks[0].size, web1.nodes) == (256 << 20, 128 << 20, ["node1"])
    assert desired.nodes["node2"].migrate_to == "198.51.100.12"
    assert desired.cluster.networks["lan"].bridge == "br-lan"


WRONG: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "misspelt": ({"memroy": "1GiB"}, "unknown-variable", "twofold_memroy", "did you mean twofold_memory?"),
    "unknown": ({"florblegrub": 1}, "unknown-variable", "twofold_florblegrub", "docs/schema"),
    "size": ({"memory": "4 gigs"}, "bad-value", "twofold_memory", "correct"),
    "size unit": ({"memory": "4GB"}, "bad-value", "twofold_memory", "correct"),
    "zero": ({"memory": "0"}, "bad-value", "twofold_memory", "correct"),
    "disk size": ({"disks": [{"size": "-1GiB"}]}, "bad-value", "twofold_disks[0].size", "correct"),
    "disk without size": ({"disks": [{}]}, "missing-value", "twofold_disks[0].size", "set"),
    "disk key": ({"disks": [{"size": "1GiB", "sise": 1}]}, "unknown-key", "twofold_disks[0].sise", "name"),
    "no disks": ({"disks": []}, "no-disks", "twofold_disks", "diskless"),
    "diskless with disks": ({"disk_template": "diskless"}, "diskless-with-disks", "twofold_disks", "remove"),
    "diskless with os": (
        {"disk_template": "diskless", "disks": [], "os": "debian-13"}, "diskless-with-os", "twofold_os", "null",
    ),
    "template": ({"disk_template": "raid"}, "bad-value", "twofold_disk_template", "correct"),
    "state": ({"state": "up"}, "bad-value", "twofold_state", "correct"),
    "vcpus": ({"vcpus": 0}, "bad-value", "twofold_vcpus", "correct"),
    "pin": ({"nodes": ["nod1"]}, "unknown-node", "twofold_nodes", "did you mean node1?"),
    "same node": ({"nodes": ["node1", "node1"]}, "same-node", "twofold_nodes", "different"),
    "plain on two": (
        {"disk_template": "plain", "nodes": ["node1", "node2"]}, "too-many-nodes", "twofold_nodes", "one node",
    ),
    "os": ({"os": "debian13"}, "unknown-os", "twofold_os", "did you mean debian-13?"),
    "network": ({"nics": [{"network": "wan"}]}, "unknown-network", "twofold_nics[0].network", "bare, lan"),
    "address": ({"nics": [{"network": "lan", "address": "x"}]}, "bad-value", "twofold_nics[0].address", "correct"),
    "address outside": (
        {"nics": [{"network": "lan", "address": "192.0.2.77"}]}, "address-outside", "twofold_nics[0].address", "auto",
    ),
    "gateway": (
        {"nics": [{"network": "lan", "address": "203.0.113.1"}]},
        "duplicate-address", "twofold_nics[0].address", "auto",
    ),
    "node's address": (
        {"nics": [{"network": "bare", "address": "192.0.2.11"}]},
        "duplicate-address", "twofold_nics[0].address", "auto",
    ),
    "mac": ({"nics": [{"network": "lan", "mac": "zz"}]}, "bad-value", "twofold_nics[0].mac", "correct"),
    "group mac": (
        {"nics": [{"network": "lan", "mac": "01:00:00:00:00:01"}]}, "bad-value", "twofold_nics[0].mac", "correct",
    ),
    "migration": ({"migration_postcopy": "maybe"}, "bad-value", "twofold_migration_postcopy", "correct"),
    "replication": ({"replication_protocol": "D"}, "bad-value", "twofold_replication_protocol", "correct"),
    "user data": ({"user_data": "#!/bin/sh"}, "bad-value", "twofold_user_data", "correct"),
    "node group": ({"groups": ["defalt"]}, "unknown-group", "twofold_groups", "did you mean default?"),
    "affinity": ({"affinity": ["wbe1"]}, "unknown-group", "twofold_affinity", "did you mean web1?"),
    "soft anti-affinity": ({"soft_anti_affinity": ["x"]}, "unknown-group", "twofold_soft_anti_affinity", "web1, web2"),
    "tag": ({"required_tags": ["ssd"]}, "unknown-tag", "twofold_required_tags", "there are none"),
    "undefined": ({"memory": inventory.UNDEFINED + "'x' is undefined"}, "undefined", "twofold_memory", "define"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "code", "variable", "remedy"), WRONG.values(), ids=WRONG)
def test_a_wrong_instance_is_named_and_left_out(given: dict[str, Any], code: str, variable: str, remedy: str) -> None:
    desired, findings = load({"web1": instance(), "web2": instance(**given)})
    (finding,) = findings
    assert (finding.severity, finding.code, finding.object) == ("error", code, "instance web2")
    assert finding.message.startswith(f"{variable} of web2 (host_vars/web2.yml:7): ")
    assert remedy in finding.remedy
    assert desired.rejected == {"web2"} and set(desired.instances) == {"web1"} and not desired.blocked


@pytest.mark.parametrize(("count", "there"), [(0, "there is none"), (1, "there is one")])
def test_a_pair_of_disks_needs_two_nodes(count: int, there: str) -> None:
    desired, findings = inventory.load(nodes(count), {"web1": {**CLUSTER, **instance()}})
    (found,) = [one for one in findings if one.code == "too-few-nodes"]
    assert (found.severity, found.object) == ("error", "instance web1")
    assert f"drbd needs two nodes and {there}" in found.message and "plain" in found.remedy
    assert desired.rejected == {"web1"}


@pytest.mark.parametrize("name", ["we_b", "-web", "Web", "w" * 64, "a..b", "a/b"])
def test_bad_names(name: str) -> None:
    desired, findings = load({name: instance()})
    assert [f.code for f in findings] == ["bad-name"] and not desired.instances


@pytest.mark.parametrize("name", ["snapshot1", "pvmove", "snapshots.example"])
def test_names_that_lvm_keeps_to_itself(name: str) -> None:
    wrong, findings = load({name: instance()})
    assert [(f.code, f.remedy) for f in findings] == [("bad-name", "name it otherwise")]
    assert "pvmove or snapshot" in findings[0].message and not wrong.instances
    diskless = instance(disk_template="diskless", disks=[])
    for fine in ({name: diskless}, {name: instance(state="absent")}, {f"a-{name}": instance()}):
        assert load(fine)[1] == []


def test_a_node_and_an_instance_have_different_names() -> None:
    assert [f.code for f in load({"node1": instance()})[1]] == ["bad-name"]


def test_of_two_with_one_address_or_mac_neither_is_touched() -> None:
    nic = {"network": "lan", "address": "203.0.113.9", "mac": "02:00:00:00:00:01"}
    desired, findings = load({"a": instance(nics=[nic]), "b": instance(nics=[nic]), "c": instance()})
    assert {(f.code, f.object) for f in findings} == {
        (code, f"instance {name}") for code in ("duplicate-address", "duplicate-mac") for name in "ab"
    }
    assert any("twofold_nics[0] of b" in f.message for f in findings if f.object == "instance a")
    assert set(desired.instances) == {"c"}


def test_all_errors_are_told_at_once() -> None:
    wrong = {"web1": instance(memory="x", vcpus="y", os="z"), "web2": instance(disks=[{"size": "1"}, {}])}
    found = [(f.object, f.code) for f in load(wrong)[1]]
    assert found == [("instance web1", "bad-value"), ("instance web1", "bad-value"), ("instance web2", "missing-value")]


CLUSTER_WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no secret": ({"twofold_cluster_secret": ""}, "cluster-secret"),
    "short secret": ({"twofold_cluster_secret": "short"}, "cluster-secret"),
    "bad port range": ({"twofold_drbd_ports": "many"}, "bad-value"),
    "network without bridge": ({"twofold_networks": {"lan": {}}}, "missing-value"),
    "network's cidr": ({"twofold_networks": {"lan": {"bridge": "b", "cidr": "203.0.113.7/24"}}}, "bad-value"),
    "gateway outside": (
        {"twofold_networks": {"lan": {"bridge": "b", "cidr": "203.0.113.0/24", "gateway": "192.0.2.1"}}}, "network",
    ),
    "gateway without cidr": ({"twofold_networks": {"lan": {"bridge": "b", "gateway": "192.0.2.1"}}}, "network"),
    "image without sum": ({"twofold_os_templates": {"debian-13": {"url": "https://x.example/y"}}}, "os-template"),
    "image without source": ({"twofold_os_templates": {"debian-13": {"sha256": "ab" * 32}}}, "os-template"),
    "script without script": ({"twofold_os_templates": {"debian-13": {"kind": "script"}}}, "os-template"),
    "bad sum": ({"twofold_os_templates": {"debian-13": {"url": "u", "sha256": "ab"}}}, "bad-value"),
    "node's volume group": ({"twofold_volume_group": "a b"}, "bad-value"),
    "node's address": ({"twofold_replication_address": "node1"}, "bad-value"),
    "misspelt": ({"twofold_netwroks": {}}, "unknown-variable"),
    "one address for all": ({"twofold_replication_address": "198.51.100.7"}, "duplicate-address"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "code"), CLUSTER_WRONG.values(), ids=CLUSTER_WRONG)
def test_a_wrong_cluster_or_node_blocks(given: dict[str, Any], code: str) -> None:
    desired, findings = load({"web1": instance()}, given)
    assert desired.blocked and code in [f.code for f in findings]
    assert all("twofold_" in f.message and f.remedy for f in findings)


@pytest.mark.parametrize(
    ("given", "errors"),
    [({"twofold_drbd_ports": "abc"}, 1), ({"twofold_cluster_secret": 7}, 1), ({"twofold_volume_group": "../x"}, 3)],
)
def test_one_wrong_value_makes_nothing_else_look_wrong(given: dict[str, Any], errors: int) -> None:
    """Least of all the secret, which whoever believes it makes anew."""
    (variable,) = given
    desired, findings = load({"web1": instance(), "web2": instance(memory="much")}, given)
    wrong = [found for found in findings if found.object != "instance web2"]
    assert len(wrong) == errors and all(variable in found.message for found in wrong)
    assert desired.blocked and len(findings) == errors + 1, "what is wrong with an instance itself is told, too"


def test_cluster_variables_have_to_agree_wherever_they_stand() -> None:
    moved = {name: value for name, value in CLUSTER.items() if name != "twofold_networks"}
    found = {name: {**moved, "ansible_host": f"192.0.2.{10 + i}"} for i, name in enumerate(("node1", "node2"))}
    given = {**instance(), "twofold_networks": CLUSTER["twofold_networks"]}
    desired, findings = inventory.load(found, {"web1": given})
    assert not findings and desired.cluster.networks["lan"].cidr == "203.0.113.0/24"
    other = {**given, "twofold_networks": {"lan": {"bridge": "br-other"}}}
    desired, findings = inventory.load(found, {"web1": given, "web2": other}, locate)
    assert [(f.code, f.object) for f in findings] == [("cluster-variable-differs", "cluster")]
    assert "web2" in findings[0].message and "web1" in findings[0].message and desired.blocked


def test_a_variable_of_a_group_is_reported_once() -> None:
    found, findings = inventory.load(
        nodes(), {f"web{i}": instance(memroy=1) for i in range(5)}, lambda host, name: "group_vars/instances.yml:3"
    )
    assert len(findings) == 1 and "also for 4 more" in findings[0].message
    assert len(found.rejected) == 5


def test_the_secret_is_not_shown() -> None:
    desired, _ignored = load({})
    assert CLUSTER["twofold_cluster_secret"] not in repr(desired)


PASSWORD = "Geheim+23"
CLOUD = "#cloud-config\npassword: "
SECRETS: dict[str, tuple[str, Any]] = {
    "a fence device as text": ("twofold_fence", f"fence_ipmilan password={PASSWORD}"),
    "a list of texts": ("twofold_fence", [f"fence_ipmilan password={PASSWORD}"]),
    "an agent with arguments": ("twofold_fence", [{"agent": f"fence_ipmilan -p {PASSWORD}"}]),
    "a program without its path": ("twofold_fence", [{"oob": f"power -p {PASSWORD}"}]),
    "options as text": ("twofold_fence", [{"agent": "fence_x", "options": f"ip=192.0.2.9 password={PASSWORD}"}]),
    "options without values": ("twofold_fence", [{"agent": "fence_x", "options": {f"password={PASSWORD}": None}}]),
    "an option beside the options": ("twofold_fence", [{"agent": "fence_x", "timeout": PASSWORD}]),
    "a key beside the options": ("twofold_fence", [{"agent": "fence_x", f"password={PASSWORD}": None}]),
    "a secret that is a list": ("twofold_cluster_secret", [PASSWORD]),
    "a secret that is a number": ("twofold_cluster_secret", 4711471147114711),
    "a number for a script": ("twofold_os_templates", {"x": {"environment": {"TWOFOLD_P": 4711471147114711}}}),
    "a zero byte for a script": ("twofold_os_templates", {"x": {"environment": {"TWOFOLD_P": f"{PASSWORD}\0"}}}),
    "a script's variables as text": ("twofold_os_templates", {"x": {"environment": f"TWOFOLD_P={PASSWORD}"}}),
    "user data as text": ("twofold_user_data", f"password: {PASSWORD}"),
    "user data that is a number": ("twofold_user_data", 4711471147114711),
    "user data with a tag": ("twofold_user_data", f"{CLOUD}!{PASSWORD}"),
    "user data with a reference": ("twofold_user_data", f"{CLOUD}*{PASSWORD}"),
    "user data with a character too many": ("twofold_user_data", f"{CLOUD}{PASSWORD}: x: y"),
    "user data with an odd number": ("twofold_user_data", f"{CLOUD}!!int {PASSWORD}"),
}


@pytest.mark.parametrize(("variable", "value"), SECRETS.values(), ids=SECRETS)
def test_a_misshapen_secret_is_named_and_not_shown(variable: str, value: Any) -> None:
    given = {} if variable == "twofold_user_data" else {variable: value}
    web1 = instance() | ({variable: value} if not given else {})
    _desired, findings = load({"web1": web1}, given)
    wrong = [found for found in findings if variable in found.message]
    assert wrong and all(found.remedy for found in wrong)
    assert not re.search(r"eheim|\b23\b|4711", " ".join(found.text for found in findings))


def test_user_data_that_is_not_yaml_is_pointed_at() -> None:
    _desired, findings = load({"web1": instance(user_data="#cloud-config\na: b\nc: [d\n")})
    assert [f.message.partition(": is ")[2] for f in findings] == [
        "not the YAML that cloud-init takes: see its line 4, column 1"
    ]


def test_the_variables_of_the_bootstrap_are_known() -> None:
    assert variables.known() >= set(settings.NODE_VARIABLES)
    assert set(settings.NODE_VARIABLES) >= variables.BOOTSTRAP


def test_every_variable_that_roles_and_playbooks_use_is_known() -> None:
    used: dict[str, str] = {}
    for folder in ("roles", "playbooks", "inventories"):
        for path in sorted((ROOT / folder).rglob("*.y*ml")):
            for name in re.findall(r"(?<![\w.])twofold_[a-z0-9_]+\b(?!\.)", path.read_text(encoding="utf-8")):
                used[name] = str(path.relative_to(ROOT))
    assert used
    assert {name: path for name, path in used.items() if name not in variables.known()} == {}
