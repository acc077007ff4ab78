# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Broken and hostile inventories: each is a clear error of the host that has it, and nothing is planned for that."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.lib.cases import SECRET, instance, nodes
from tests.unit.lib.world import World

from twofold import inventory, planner, variables
from twofold.findings import Finding
from twofold.model import Cluster, Desired, Instance, Node

NAMES = [
    "../etc/passwd", "a/b", "/etc", "..", ".", "", "web1;reboot", "web1$(id)", "web1`id`", "web1 web2", "-rf", "--help",
    "web1\nweb2", "web1\0", "<domain/>", "web1'--", "WEB1", "wéb1", "\u202eweb", "a" * 64, "a..b", "@all", "#x", "%s",
    "{{ x }}",
]  # fmt: skip
LONG = "x" * 100_000
BOMB = "#cloud-config\na: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
INSTANCES: dict[str, tuple[str, Any]] = {
    "memory of a wrong type": ("memory", ["1GiB"]),
    "memory that is negative": ("memory", "-1GiB"),
    "memory that is nothing": ("memory", 0),
    "memory beyond every machine": ("memory", "9" * 400 + "GiB"),
    "memory with a command": ("memory", "1GiB; reboot"),
    "memory that is no number": ("memory", float("nan")),
    "processors without end": ("vcpus", 10**9),
    "a disk as text": ("disks", "20GiB"),
    "too many disks": ("disks", [{"size": "1GiB"}] * 200),
    "a disk with a path for its group": ("disks", [{"size": "1GiB", "volume_group": "../vg"}]),
    "a disk with an option for its group": ("disks", [{"size": "1GiB", "volume_group": "--yes"}]),
    "a disk with a line break in its group": ("disks", [{"size": "1GiB", "volume_group": "vg\n"}]),
    "a disk with an unknown key": ("disks", [{"size": "1GiB", "onerror": "x"}]),
    "a network that is not there": ("nics", [{"network": "<x/>"}]),
    "a MAC with XML": ("nics", [{"network": "lan", "mac": "02:00:00:00:00:01'/><disk"}]),
    "an address with a command": ("nics", [{"network": "lan", "address": "203.0.113.5; reboot"}]),
    "a template that is a path": ("os", "../../etc/passwd"),
    "a state nobody knows": ("state", "destroyed"),
    "a machine with XML": ("machine", "q35'/><x"),
    "a machine with a line break": ("machine", "q35\n"),
    "a processor with XML": ("cpu", "</model>"),
    "a host name with a command": ("hostname", "web1;reboot"),
    "a host name that never ends": ("hostname", LONG),
    "a template of disks that is not there": ("disk_template", "drbd; rm"),
    "nodes that are no list": ("nodes", {"node1": "node2"}),
    "nodes of elsewhere": ("nodes", ["../node1", "node2"]),
    "user data that is no cloud-config": ("user_data", "#!/bin/sh\nreboot"),
    "user data that is no YAML": ("user_data", "#cloud-config\n{"),
    "user data that makes objects": ("user_data", "#cloud-config\nx: !!python/object/apply:os.system [id]\n"),
    "user data that grows without end": ("user_data", BOMB),
    "a timeout of a wrong type": ("shutdown_timeout", "soon"),
    "keys that are no texts": ("ssh_keys", [{"a": 1}]),
}
CLUSTERS: dict[str, tuple[str, Any]] = {
    "a bridge with a command": ("networks", {"lan": {"bridge": "br;reboot"}}),
    "a bridge with a line break": ("networks", {"lan": {"bridge": "br\n"}}),
    "a network that is none": ("networks", {"lan": {"bridge": "br", "cidr": "203.0.113.0/99"}}),
    "networks of a wrong type": ("networks", "lan"),
    "a script's variable that sets the path": (
        "os_templates",
        {"x": {"kind": "script", "script": "debian", "environment": {"PATH": "/tmp"}}},
    ),
    "a script's variable with a zero byte": (
        "os_templates",
        {"x": {"kind": "script", "script": "debian", "environment": {"TWOFOLD_X": "a\0b"}}},
    ),
    "a checksum that is a path": (
        "os_templates",
        {"x": {"url": "https://images.example/x", "sha256": "../" * 21 + "x"}},
    ),
    "an image by another protocol": ("os_templates", {"x": {"url": "gopher://x/", "sha256": "ab" * 32}}),
    "ports that are a word": ("drbd_ports", "many"),
    "ports the wrong way round": ("drbd_ports", "7699-7100"),
    "ports that do not exist": ("drbd_ports", "1-99999999"),
}


def errors(found: list[Finding], target: str) -> list[Finding]:
    return [one for one in found if one.severity == "error" and one.object == target]


def nothing_planned(desired: Desired, name: str | None) -> None:
    """Nothing is done for what is wrong (or at all, if the cluster is)."""
    world = World(["node1", "node2", "node3"])
    plan = planner.plan(desired, world.documents(), {"verb": "converge"})
    assert [step.id for step in plan.steps if name is None or step.instance == name] == []


def clear(one: Finding) -> None:
    """Which object, why, what to do, in a length that a person reads."""
    assert one.object and one.message and one.remedy and len(one.message) < 1000, one.message[:200]
    assert SECRET not in one.message and "Traceback" not in one.message


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_hostile_name_is_refused(name: str) -> None:
    desired, found = inventory.load(nodes(), {name: instance(), "good": instance()})
    clear(errors(found, f"instance {name}")[0])
    assert set(desired.instances) == {"good"}
    nothing_planned(desired, name)


@pytest.mark.parametrize(("variable", "value"), INSTANCES.values(), ids=INSTANCES)
def test_a_hostile_instance_is_refused_alone(variable: str, value: Any) -> None:
    desired, found = inventory.load(nodes(), {"bad": instance(**{variable: value}), "good": instance()})
    (first, *_more) = errors(found, "instance bad")
    clear(first)
    assert f"twofold_{variable}" in first.message
    assert set(desired.instances) == {"good"}
    nothing_planned(desired, "bad")


@pytest.mark.parametrize(("variable", "value"), CLUSTERS.values(), ids=CLUSTERS)
def test_a_hostile_cluster_is_refused_as_a_whole(variable: str, value: Any) -> None:
    hosts = {name: {**given, f"twofold_{variable}": value} for name, given in nodes().items()}
    desired, found = inventory.load(hosts, {"good": instance(nics=[])})
    assert desired.blocked
    clear(next(one for one in found if one.severity == "error"))
    nothing_planned(desired, None)


@pytest.mark.parametrize("address", ["192.0.2.11; reboot", "-oProxyCommand=id", "a b", "", "x\ny", {"a": 1}], ids=repr)
def test_a_hostile_address_of_a_node_is_refused(address: Any) -> None:
    hosts = nodes()
    hosts["node1"]["twofold_replication_address"] = address
    desired, found = inventory.load(hosts, {})
    assert desired.blocked and errors(found, "node node1")


NAMES_OF_VARIABLES = sorted({*variables.of(Cluster), *variables.of(Node), *variables.of(Instance)})
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.sampled_from(NAMES)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
HOSTS = st.dictionaries(st.sampled_from(NAMES_OF_VARIABLES) | st.text(max_size=20), VALUES, max_size=5)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(on_node=HOSTS, on_instance=HOSTS, name=st.sampled_from(NAMES) | st.text(max_size=20))
def test_whatever_an_inventory_holds_is_read_or_refused(
    on_node: dict[str, Any], on_instance: dict[str, Any], name: str
) -> None:
    hosts = nodes()
    hosts["node1"] |= on_node
    desired, found = inventory.load(hosts, {name: instance() | on_instance})
    assert isinstance(desired, Desired)
    for one in found:
        assert one.object and one.message
    world = World(["node1", "node2", "node3"])
    planner.plan(desired, world.documents(), {"verb": "converge"})
