# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Written histories: a split brain is resolved, interrupted, and the side that was to lose goes on meanwhile."""

from __future__ import annotations

import pytest
from tests.simulation.faults import Fault
from tests.simulation.history import make_peace, run_of
from tests.simulation.inventories import Instances
from tests.simulation.test_replacements import LAPSED, at_peace
from tests.simulation.world import World

RESOLVE = {"verb": "resolve_split_brain", "instance": "a", "survivor": "node2"}


def parted() -> tuple[World, Instances]:
    """The guest runs on node1, where it goes on; node2 was promoted by hand while the link was cut, and written."""
    world, wanted = at_peace()
    world.cut_link("node1", "node2")
    world.engine.wait(30)
    kernel = world.machines["node2"].kernel
    resource = kernel.resources["a"]
    kernel.primary(resource, force=False, wait=world.engine.wait)
    for device in resource.devices.values():
        assert device.data is not None
        record = world.guests.record(("a", device.volume), device.data.content)
        assert kernel.write(resource, device, record)
        world.guests.acknowledged(("a", device.volume), record)
    kernel.secondary(resource)
    world.mend_links()
    world.engine.wait(60)
    return world, wanted


def kept(world: World, node: str = "node1") -> list[str]:
    return sorted(lv.name for lv in world.machines[node].storage.volumes.values() if lv.tagged("kept"))


def interrupted() -> tuple[World, Instances]:
    """The resolution is killed when the data of node1 is kept, and before it is given up."""
    for breath in range(1, 100):
        world, wanted = parted()
        run_of(world, wanted, RESOLVE, (Fault(breath, "process killed", 1),))
        world.engine.wait(LAPSED)
        apart = world.machines["node1"].kernel.resources["a"].connection == "StandAlone"
        if apart and len(kept(world)) == len(wanted["a"]["twofold_disks"]):
            return world, wanted
    pytest.fail("it is never killed there")


def test_what_was_written_after_an_interrupted_resolution_is_kept_too() -> None:
    world, wanted = interrupted()
    first = kept(world)
    node1, node2 = world.machines["node1"], world.machines["node2"]
    node2.brings_up = 1.0
    node2.power_off()
    world.engine.wait(30)
    run_of(world, wanted, {"verb": "recover", "confirm_dead": ["node2"]})
    assert node1.libvirt.domains["a"].state == "running"
    world.engine.wait(60)
    node2.power_on()
    world.engine.wait(60)
    run_of(world, wanted, RESOLVE)
    world.engine.wait(60)
    assert kept(world) == sorted([*first, *(f"{name}-2" for name in first)])
    make_peace(world, wanted)


def test_a_resolution_that_goes_on_at_once_keeps_nothing_twice() -> None:
    world, wanted = interrupted()
    first = kept(world)
    run_of(world, wanted, RESOLVE)
    world.engine.wait(60)
    assert kept(world) == first
    make_peace(world, wanted)
