# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What still fits, and what the loss of a node would do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance, nodes
from tests.unit.lib.world import GIB, World

from twofold import capacity, inventory
from twofold.model import Desired
from twofold.report import capacity_text

RICH = {"twofold_vcpu_ratio": 64}
SMALL = {"memory": "512MiB", "disks": [{"size": "1GiB"}]}


def counted(wanted: Desired, world: World) -> dict[str, Any]:
    """The document; it has to be JSON."""
    found = capacity.document(wanted, world.documents())
    assert json.loads(json.dumps(found)) == found
    return found


def with_flavours(instances: dict[str, Any], **flavours: Any) -> tuple[Desired, World]:
    """Three nodes that took in the instances."""
    wanted = desired(instances, cluster={**RICH, "twofold_flavours": flavours})
    world = World(list(wanted.nodes))
    assert not world.converge(wanted).errors
    return wanted, world


@pytest.mark.parametrize(
    "flavour",
    [
        {"memory": "700MiB", "disks": [{"size": "1GiB"}]},
        {"memory": "700MiB", "disks": [{"size": "6GiB"}]},
        {"memory": "300MiB", "vcpus": 60, "disks": [{"size": "1GiB"}], "disk_template": "plain"},
        {"memory": "900MiB", "disk_template": "diskless"},
    ],
    ids=["memory", "disk", "processors", "diskless"],
)
def test_as_many_as_are_said_to_fit_do_fit(flavour: dict[str, Any]) -> None:
    given = {"web1": instance(memory="1GiB", nodes=["node1", "node2"])}
    wanted, world = with_flavours(given, one=flavour)
    (found,) = counted(wanted, world)["flavours"]
    assert found["count"] > 0 and sum(found["primaries"].values()) == found["count"]
    new = {"disks": [], **flavour}
    for extra in (0, 1):
        more = {f"new{i:03}": instance(**new) for i in range(found["count"] + extra)}
        plan = world.plan(desired({**given, **more}, cluster=RICH))
        assert [f.code for f in plan.errors] == ["no-node-fits"] * extra


def test_the_reason_why_no_more_fit() -> None:
    wanted, world = with_flavours({}, wide=SMALL, deep={**SMALL, "disks": [{"size": "9GiB"}]})
    wide, deep = counted(wanted, world)["flavours"]
    assert all("N+1" in reason or "memory" in reason for reason in wide["then"].values())
    assert any("disk: needs" in reason for reason in deep["then"].values())


def test_a_node_without_kvm_takes_only_what_needs_none() -> None:
    wanted, world = with_flavours({}, fast=SMALL, slow={**SMALL, "virtualization": "qemu"})
    world.nodes["node3"]["kvm"] = False
    fast, slow = counted(wanted, world)["flavours"]
    assert "node3" not in fast["primaries"] and 0 < fast["count"] < slow["count"]
    assert fast["then"]["node3"].startswith("no /dev/kvm")
    world.nodes["node2"]["kvm"] = False
    fast, slow = counted(wanted, world)["flavours"]
    assert fast["count"] == 0 and slow["count"] > 0


def test_without_flavours_it_counts_with_the_sizes_of_the_instances() -> None:
    given = {"b": instance(), "a": instance(), "c": instance(disk_template="plain"), "d": instance(state="absent")}
    wanted, world = with_flavours(given)
    assert [found["name"] for found in counted(wanted, world)["flavours"]] == ["like a", "like c"]
    none, world = with_flavours({})
    assert "no sizes: set twofold_flavours" in capacity_text(counted(none, world))


def test_copies_in_one_failure_domain_do_not_count() -> None:
    racks: dict[str, Any] = {name: {"twofold_failure_domain": "r1"} for name in nodes(3)}
    wanted = desired({}, cluster={**RICH, "twofold_flavours": {"one": SMALL}}, **racks)
    found = counted(wanted, World(list(wanted.nodes)))
    assert [one["count"] for one in found["flavours"]] == [0]
    assert [(one["name"], one["nodes"]) for one in found["domains"]] == [("r1", ["node1", "node2", "node3"])]


def test_the_loss_of_a_node() -> None:
    given = {
        "pair1": instance(memory="2GiB", nodes=["node1", "node2"]),
        "plain1": instance(disk_template="plain", nodes="node1"),
        "none1": instance(disk_template="diskless", disks=[], nodes="node1"),
        "off1": instance(state="stopped", nodes=["node3", "node2"]),
    }
    wanted, world = with_flavours(given)
    one, two, three = counted(wanted, world)["nodes"]
    assert (sorted(one["restarted"]), one["memory"]) == (["none1", "pair1"], (2048 + 256) << 20)
    assert (one["degraded"], [hurt["instance"] for hurt in one["hurt"]]) == (["pair1"], ["plain1"])
    assert one["hurt"][0]["reason"] == "the only copy of its disks is lost"
    assert (two["restarted"], two["degraded"], two["hurt"]) == ([], ["off1", "pair1"], [])
    assert (three["restarted"], three["degraded"]) == ([], ["off1"])
    shown = capacity_text(counted(wanted, world))
    assert (
        "plain1: the only copy of its disks is lost" in shown and "Not survived without loss: that of node1." in shown
    )


def test_the_rest_may_lack_the_memory() -> None:
    wanted, world = with_flavours({"pair1": instance(memory="2GiB", nodes=["node1", "node2"])})
    assert "The loss of any one node is survived" in capacity_text(counted(wanted, world))
    world.nodes["node2"]["memory"]["total"] = 1 * GIB
    (hurt,) = counted(wanted, world)["nodes"][0]["hurt"]
    assert hurt["reason"] == "node2 has no memory for it: needs 2048 MiB, has 512 MiB"


def test_a_node_that_is_not_there_counts_as_lost() -> None:
    wanted, world = with_flavours({"pair1": instance(nodes=["node1", "node2"])}, one=SMALL)
    world.down = {"node2"}
    found = counted(wanted, world)
    assert [node["state"] for node in found["nodes"]] == ["online", "unknown", "online"]
    assert found["nodes"][0]["hurt"][0]["reason"] == "both copies of its disks are lost"
    assert found["nodes"][0]["degraded"] == []
    assert set(found["flavours"][0]["primaries"]) == {"node1", "node3"}
    assert "node2 is unknown" in capacity_text(found) and set(found["flavours"][0]["then"]) == {"node1", "node3"}
    world.down = {"node1", "node2", "node3"}
    assert "No node is online." in capacity_text(counted(wanted, world))


def test_a_flavour_that_is_wrong_is_said() -> None:
    given = {name: {**found, "twofold_flavours": {"x": {"memory": "1GiB"}}} for name, found in nodes(2).items()}
    found, findings = inventory.load(given, {"web1": instance()})
    assert found.blocked and "twofold_flavours.x" in findings[0].message and "has no disk" in findings[0].message
