# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Written histories: the disk under a guest dies, and the guest is brought to where its other copy is."""

from __future__ import annotations

from random import Random

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _stale_copies
from tests.simulation import inventories
from tests.simulation.history import make_peace, run_of
from tests.simulation.inventories import Instances
from tests.simulation.machine import Machine
from tests.simulation.replication import SimReplication
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


@pytest.mark.parametrize(
    ("first", "verb"), [("node1", None), ("node2", None), ("node1", "migrate"), ("node1", "failover")]
)
def test_disks_that_died_on_both_nodes_under_a_guest_come_back_together(first: str, verb: str | None) -> None:
    """Whichever has the last state is let in first, the other one waits for it and is filled; one run does it."""
    wanted: Instances = {"a": {**inventories.instance(Random(5), 2, ("drbd",)), **WANTED, "twofold_state": "running"}}
    world = World(7, 2)
    make_peace(world, wanted)
    world.rules.hurt.add("a")
    order = sorted(world.machines, key=lambda name: name != first)
    for name in order:
        fail(world, name, True)
        if name == first and verb is not None:
            run_of(world, wanted, {"verb": verb, "instance": "a"})
            assert lives_on(world.machines["node2"], "running")
    for name in order:
        fail(world, name, False)
    made = run_of(world, wanted, {"verb": "converge"})
    assert made.plan is not None and not made.plan.errors
    assert [one for one in made.results.values() if one["status"] == "failed"] == []
    make_peace(world, wanted)
    assert {machine.kernel.resources["a"].devices[0].disk for machine in world.machines.values()} == {"UpToDate"}


@pytest.mark.parametrize("died", [True, False])
def test_the_copy_through_which_a_guest_wrote_whose_disk_died_is_not_called_stale_when_the_connection_breaks(
    died: bool,
) -> None:
    """Without its peer's disk it is the only whole one; a copy whose connection breaks first is marked."""
    world, wanted = without_disk("running", 1, False) if died else peaceful()
    node = world.machines["node2"]
    world.engine.wait(60)
    world.cut_link("node1", "node2")
    world.engine.advance(lambda: not node.kernel.resources["a"].connected)
    copies = SimReplication(node, lambda: None, lambda _seconds: None)
    said = list(_stale_copies.mark(copies, node.node(None).files, "node2", lambda _peer: {"a": "running"}))
    assert bool(said) != died
    world.machines["node1"].power_off()
    world.engine.wait(60)
    made = run_of(world, wanted, {"verb": "recover", "confirm_dead": ["node1"]})
    assert made.plan is not None and bool(made.plan.errors) != died
    assert lives_on(node, "running") == died


def peaceful() -> tuple[World, Instances]:
    """Its guest runs on node1, and nothing is wrong."""
    wanted: Instances = {"a": {**inventories.instance(Random(5), 2, ("drbd",)), **WANTED, "twofold_state": "running"}}
    world = World(7, 3)
    make_peace(world, wanted)
    return world, wanted


def fail(world: World, name: str, failing: bool) -> None:
    """All disks of a node fail, and DRBD has seen it; or they are well again."""
    machine = world.machines[name]
    for lv in machine.storage.volumes.values():
        lv.failing = failing
    if failing:
        world.engine.advance(lambda: machine.kernel.resources["a"].devices[0].disk == "Diskless")
