# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random histories: whatever fails, no rule under *Never* is broken, and in the end there is peace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from tests.simulation import inventories, peace
from tests.simulation.__main__ import histories
from tests.simulation.faults import Fault
from tests.simulation.history import Action, Story, play, story
from tests.simulation.operator import Run
from tests.simulation.world import GIB, World

ORDINARY, NIGHTLY = 3_000, 100_000
ROOT = Path(__file__).parents[2]


def test_a_history_always_goes_the_same_way() -> None:
    for seed in range(20):
        first, second = play(story(seed)), play(story(seed))
        assert first.lines == second.lines and first.counts == second.counts


def test_no_history_breaks_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    failed = histories(ORDINARY, 1, 1)
    said = capsys.readouterr().out
    assert not failed, said
    print(said)


def test_a_survivor_that_has_booted_goes_on_whatever_an_unrelated_node_does() -> None:
    """Both nodes of an instance lose power, one comes back, and a third, which has nothing of it, is not reached.

    Whether the other one wrote on meanwhile nobody there can know: the operator says that it goes on.
    """
    wanted = {"a": {**inventories.instance(Random(5), 3, ("drbd",)), "twofold_nodes": ["node1", "node2"]}}
    wanted["a"] |= {"twofold_state": "running", "twofold_memory": "256MiB", "twofold_os": None}
    world, desired = World(5, 3), inventories.desired(wanted, 3)
    world.engine.run(Run(world, desired, {"verb": "converge"}, "first@here").start())
    for name in ("node2", "node1"):
        world.machines[name].power_off()
    world.machines["node2"].power_on()
    world.engine.wait(40)
    world.unmanaged.add("node3")
    refused = Run(world, desired, {"verb": "recover"}, "second@here")
    world.engine.run(refused.start())
    assert refused.plan is not None and not refused.plan.steps
    assert [one.code for one in refused.plan.errors if one.object == "instance a"] == ["disk-not-up-to-date"]
    world.engine.run(Run(world, desired, {"verb": "recover", "accept_stale": "a"}, "third@here").start())
    assert world.machines["node2"].libvirt.domains["a"].active


@pytest.mark.parametrize(("before", "breaths"), [((), range(115, 190)), (({"verb": "converge"},), range(1, 100))])
def test_no_guest_starts_without_its_os_whenever_its_primary_is_lost(
    before: tuple[dict[str, str], ...], breaths: range
) -> None:
    """A new one, or one whose OS is written anew: its primary loses power at any moment, its peer is to take over."""
    wanted = {"a": {**inventories.instance(Random(5), 2, ("drbd",)), "twofold_nodes": ["node1", "node2"]}}
    wanted["a"] |= {"twofold_state": "running", "twofold_memory": "256MiB", "twofold_os": "image"}
    wanted["a"]["twofold_disks"] = wanted["a"]["twofold_disks"][:1]
    verb = {"verb": "reinstall", "instance": "a", "confirm": "a"} if before else {"verb": "converge"}
    refused = taken = 0
    for breath in breaths:
        actions = [Action(one, wanted) for one in before]
        struck = Action(verb, wanted, (Fault(breath, "power", 1),))
        done = play(Story(5, 2, 16 * GIB, (*actions, struck, Action({"verb": "recover"}, wanted))))
        assert done.violation is None, (breath, done.violation, done.lines)
        refused += any("not-created" in line and "its OS was being written" in line for line in done.lines)
        taken += any("replication.take_over" in line for line in done.lines)
    assert refused > 3 and taken > 3, "its primary was lost while the OS was being written, and after that"


@pytest.mark.parametrize("kind", ["process killed", "power"])
def test_an_instance_that_was_being_removed_can_be_wanted_again(kind: str) -> None:
    """Its removal ends at any moment; then it runs again, and what was removed already is made anew by a word."""
    wanted = {"a": {**inventories.instance(Random(5), 2, ("drbd",)), "twofold_nodes": ["node1", "node2"]}}
    wanted["a"] |= {"twofold_state": "running", "twofold_memory": "256MiB", "twofold_os": None}
    removed = {"a": {**wanted["a"], "twofold_state": "absent"}}
    words = 0
    for breath in range(1 + (kind == "power"), 90, 4):
        struck = Action({"verb": "converge"}, removed, (Fault(breath, kind, 1),))
        again = Action({"verb": "converge"}, wanted)
        done = play(Story(5, 2, 16 * GIB, (Action({"verb": "converge"}, wanted), struck, again)))
        assert done.violation is None, (breath, done.violation, done.lines)
        words += any("'recreate_disks'" in line for line in done.lines)
    assert words, "it was ended with a part of the disks gone"


@pytest.mark.parametrize("breath", range(12, 40, 3))
def test_a_creation_under_two_definitions_at_once_is_gone_on_with(breath: int) -> None:
    """Two operators make it on the same nodes, each with minors of his own, and both of their runs end half-way."""
    made = {**inventories.instance(Random(5), 2, ("drbd",)), "twofold_state": "running", "twofold_memory": "256MiB"}
    made |= {"twofold_os": None, "twofold_disks": [{"size": "64MiB"}] * 2}
    mine = {"b": {**made, "twofold_nodes": ["node1", "node2"]}, "c": {**made, "twofold_nodes": ["node2", "node1"]}}
    theirs = {"a": mine["b"], **mine}
    wrong = (Fault(2, "second operator", 1, theirs, {"verb": "converge"}), Fault(breath, "process killed", 1))
    done = play(Story(5, 2, 16 * GIB, (Action({"verb": "converge"}, mine, wrong),)))
    assert done.violation is None, (done.violation, done.lines)


def test_a_guest_that_is_off_starts_when_its_primary_is_filled_again() -> None:
    """Its disk failed, and it went off before its disk was given up: the node is Primary still, without a disk."""
    wanted = {"a": {**inventories.instance(Random(5), 2, ("drbd",)), "twofold_nodes": ["node1", "node2"]}}
    wanted["a"] |= {"twofold_state": "running", "twofold_memory": "256MiB", "twofold_os": None}
    world, desired = World(5, 2), inventories.desired(wanted, 2)
    world.engine.run(Run(world, desired, {"verb": "converge"}, "first@here").start())
    world.engine.wait(30)
    machine = world.machines["node1"]
    machine.kernel.disk_fails(machine.storage.volumes["/dev/twofold/a-disk0"])
    machine.libvirt.stop("a")
    run = Run(world, desired, {"verb": "converge"}, "second@here")
    run.predict = True
    world.engine.run(run.start())
    assert run.plan is not None and "a/domain.start@node1" in {step.id for step in run.plan.steps}
    peace.nothing_failed(world, run)
    assert machine.libvirt.domains["a"].active


def test_the_order_of_sets_decides_nothing() -> None:
    """Python orders a set of strings anew in each process, unless it is told how."""
    argv = [sys.executable, "-m", "tests.simulation", "--histories", "200", "--seed", "1"]
    said = [
        subprocess.run(
            argv, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": value}, text=True, stdout=subprocess.PIPE, check=False
        )
        for value in ("1", "2")
    ]
    assert [one.returncode for one in said] == [0, 0]
    digests = [one.stdout.splitlines()[-1] for one in said]
    assert digests[0].startswith("digest") and digests[0] == digests[1]


@pytest.mark.nightly
def test_none_of_very_many_histories_breaks_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    failed = histories(NIGHTLY, 1_000_000, 1)
    assert not failed, capsys.readouterr().out
