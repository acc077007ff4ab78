# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Written histories: the disk under a guest dies, and the guest is brought to where its other copy is."""

from __future__ import annotations

from random import Random

import pytest
from tests.simulation import inventories
from tests.simulation.history import make_peace, run_of
from tests.simulation.inventories import Instances
from tests.simulation.machine import Machine
from tests.simulation.world import World

WANTED = {"twofold_nodes": ["node1", "node2"], "twofold_memory": "256MiB", "twofold_os": None}


def without_disk(state: str, disks: int, gone: bool) -> tuple[World, Instances]:
    """Its guest runs on node1, or is off there; one of its disks died on that node, and perhaps LVM has lost it too."""
    wanted: Instances = {"a": {**inventories.instance(Random(5), 2, ("drbd",)), **WANTED, "twofold_state": state}}
    wanted["a"]["twofold_disks"] = [{"size": "64MiB"}] * disks
    world = World(7, 3)
    make_peace(world, wanted)
    node = world.machines["node1"]
    for lv in node.storage.volumes.values():
        lv.failing = lv.failing or (lv.tagged("instance"), lv.tagged("disk")) == ("a", "0")
    world.rules.hurt.add("a")
    if state == "running":
        world.engine.advance(lambda: node.kernel.resources["a"].devices[0].disk == "Diskless")
    else:
        resource = node.kernel.resources["a"]
        node.kernel.detach(resource, resource.devices[0])
    if gone:
        world.rules.disk_lost(node, "a")
        node.lose("a")
    return world, wanted


def lives_on(node: Machine, state: str) -> bool:
    guest, resource = node.libvirt.domains.get("a"), node.kernel.resources.get("a")
    return guest is not None and guest.active == (state == "running") and resource is not None


@pytest.mark.parametrize(("disks", "gone"), [(1, False), (1, True), (2, False)])
@pytest.mark.parametrize(
    ("verb", "state"),
    [("migrate", "running"), ("failover", "running"), ("failover", "stopped"),
     ("evacuate", "running"), ("evacuate", "stopped")],
)  # fmt: skip
def test_a_guest_leaves_the_node_whose_disk_died(verb: str, state: str, disks: int, gone: bool) -> None:
    world, wanted = without_disk(state, disks, gone)
    intent = {"node": "node1"} if verb == "evacuate" else {"instance": "a"}
    made = run_of(world, wanted, {"verb": verb, **intent})
    assert made.plan is not None and not made.plan.errors
    assert lives_on(world.machines["node2"], state)
    if verb == "evacuate":
        new = world.machines["node3"].kernel.resources["a"]
        assert all(device.disk == "UpToDate" for device in new.devices.values())
        assert "a" not in world.machines["node1"].kernel.resources
        wanted["a"]["twofold_nodes"] = ["node2", "node3"]
    make_peace(world, wanted)
    assert lives_on(world.machines["node2"], state)
