# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Written histories: somebody removes by hand what says whose something is."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _definitions
from tests.simulation import inventories
from tests.simulation.faults import Fault
from tests.simulation.history import make_peace, run_of
from tests.simulation.inventories import Instances
from tests.simulation.operator import Run
from tests.simulation.storage import Lv
from tests.simulation.world import World

NODES = 2
# A lock of a run that was killed has lapsed by then.
LAPSED = 200
OWNER = ("twofold", "twofold.instance=a")


def one(template: str, **variables: Any) -> Instances:
    """The inventory of one small instance; `state` and the like are its variables."""
    made = inventories.instance(Random(5), NODES, (template,))
    made |= {"twofold_nodes": ["node1"], "twofold_memory": "128MiB", "twofold_os": None}
    return {"a": {**made, **{f"twofold_{name}": value for name, value in variables.items()}}}


def said(made: Run) -> set[tuple[str, str]]:
    assert made.plan is not None
    return {(finding.object, finding.code) for finding in made.plan.findings}


def without_definition() -> World:
    """An instance without disks is off, and its definition is gone."""
    world = World(7, NODES)
    run_of(world, one("diskless", disks=[], state="stopped"), {"verb": "converge"})
    _definitions.remove(world.machines["node1"].files, "a")
    return world


def test_a_domain_without_a_definition_is_named_and_goes_by_the_word_that_is_named() -> None:
    world = without_definition()
    assert ("instance a", "not-in-inventory") in said(run_of(world, {}, {"verb": "converge"}))
    make_peace(world, {})
    assert "a" in world.machines["node1"].libvirt.domains
    make_peace(world, one("diskless", disks=[], state="absent"))
    assert "a" not in world.machines["node1"].libvirt.domains


def test_a_domain_of_ours_is_not_taken_for_somebody_elses() -> None:
    wanted = one("diskless", disks=[], state="stopped")
    refused = run_of(without_definition(), wanted, {"verb": "converge"}).plan
    assert refused is not None and not refused.steps
    assert [(one.code, "domain on node1" in one.message) for one in refused.errors] == [("orphan", True)]


def moving(breath: int) -> tuple[World, bool]:
    """An instance moves with its disk, until its operator's process is gone. Whether that moment came."""
    wanted = one("plain", disks=[{"size": "64MiB"}], state="running")
    world = World(7, NODES)
    run_of(world, wanted, {"verb": "converge"})
    world.engine.wait(60)
    moved = run_of(world, wanted, {"verb": "migrate", "instance": "a"}, (Fault(breath, "control process", 1),))
    world.engine.wait(LAPSED)
    return world, bool(moved.struck)


def untag(world: World, node: str, tag: str) -> list[Lv]:
    """Take a tag off the disk on a node, as far as it is there."""
    found = [lv for lv in world.machines[node].storage.volumes.values() if lv.tagged("instance") == "a"]
    for lv in found:
        lv.tags.discard(tag)
    return found


@pytest.mark.parametrize("tag", OWNER)
@pytest.mark.parametrize("node", ["node1", "node2"])
@pytest.mark.parametrize("state", ["absent", "running"])
def test_a_disk_that_was_being_moved_is_known_without_its_tags(state: str, node: str, tag: str) -> None:
    """Both nodes have the definition while it moves, which names the disk on both."""
    for breath in range(2, 100, 12):
        world, struck = moving(breath)
        untag(world, node, tag)
        make_peace(world, one("plain", disks=[{"size": "64MiB"}], state=state))
        left = [lv for machine in world.machines.values() for lv in machine.storage.volumes.values() if "a-" in lv.name]
        assert len(left) == (state == "running"), f"at breath {breath}"
        if not struck:
            assert breath > 20
            return


@pytest.mark.parametrize("tag", OWNER)
@pytest.mark.parametrize("state", ["absent", "running"])
def test_a_disk_that_nothing_claims_any_more_is_named_until_somebody_removes_it(state: str, tag: str) -> None:
    world, _struck = moving(14)
    target = world.machines["node2"]
    (lv,) = untag(world, "node2", tag)
    _definitions.remove(target.files, "a")
    wanted = one("plain", disks=[{"size": "64MiB"}], state=state)
    make_peace(world, wanted)
    assert lv.path in target.storage.volumes
    last = run_of(world, wanted, {"verb": "converge"}).plan
    assert last is not None and not last.steps
    (found,) = [finding for finding in last.findings if finding.code == "left-over"]
    assert found.remedy.endswith("run 'lvremove twofold/a-disk0' on node2")
    del target.storage.volumes[lv.path]
    assert ("instance a", "left-over") not in said(run_of(world, wanted, {"verb": "converge"}))
