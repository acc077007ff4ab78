# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node is silent and has power: what a recovery does to it, by what it is that failed and what the operator says."""

from __future__ import annotations

from random import Random

import pytest
from tests.simulation import fencing, inventories
from tests.simulation.faults import Fault, strikes
from tests.simulation.history import make_peace
from tests.simulation.operator import Run
from tests.simulation.world import World

WANTED: inventories.Instances = {
    "a": {
        **inventories.instance(Random(5), 3, ("drbd",)),
        "twofold_nodes": ["node1", "node2"],
        "twofold_state": "running",
        "twofold_memory": "256MiB",
        "twofold_os": None,
    }
}
SILENCED = ("management alone", "both networks", "frozen", "power")


def silenced(kind: str, seed: int = 5) -> World:
    """Three nodes, of which node1, which runs the guest, does not answer."""
    world = World(seed, 3)
    world.engine.run(Run(world, inventories.desired(WANTED, 3), {"verb": "converge"}, "first@here").start())
    node = world.machines["node1"]
    if kind == "frozen":
        node.freeze()
    elif kind == "power":
        node.power_off()
    else:
        world.unmanaged.add("node1")
        if kind == "both networks":
            world.cut_link("node1", "node2")
    # Until the keep-alives have expired node2 says that node1 lives.
    world.engine.wait(60)
    return world


def recovered(world: World, word: str, *faults: Fault) -> Run:
    """A recovery by an operator who says this of fencing."""
    intent = {"verb": "recover", "fence": word}
    run = Run(world, inventories.desired(WANTED, 3), intent, "operator@here", strikes(faults))
    world.engine.run(run.start())
    return run


@pytest.mark.parametrize("word", fencing.WORDS)
@pytest.mark.parametrize("kind", SILENCED)
def test_who_is_switched_off_and_what_starts(kind: str, word: str) -> None:
    world = silenced(kind)
    run = recovered(world, word)
    assert run.plan is not None
    asked = word != fencing.SILENT
    switched = asked and word != "false" and kind in ("both networks", "frozen")
    proven = switched or (asked and kind == "power")
    assert world.rules.counts["switched off"] == switched
    assert world.machines["node2"].libvirt.domains.keys() >= ({"a"} if proven else set())
    codes = [one.code for one in run.plan.errors]
    assert codes == ([] if proven else ["cut-off" if kind == "management alone" else "not-proven-dead"])
    make_peace(world, WANTED)


@pytest.mark.parametrize("kind", SILENCED)
def test_a_recovery_with_a_device_is_disturbed_at_any_moment(kind: str) -> None:
    """The fenced node comes back, the links heal, the survivor loses its power: the rules hold, and peace comes."""
    taken = 0
    for breath in range(1, 12):
        for fault in ("power", "process killed", "control process", "step fails"):
            world = silenced(kind, breath)
            world.engine.later(breath, world.machines["node1"].power_on)
            world.engine.later(breath + 1, world.mend_links)
            run = recovered(world, "true", Fault(breath, fault, 1))
            taken += any(step.op == "replication.take_over" for step in run.plan.steps) if run.plan else False
            make_peace(world, WANTED)
    assert taken > 3 or kind == "management alone"
