# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Written histories: a colleague converges at every moment of a node's reboot; nothing runs there when it goes down."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _maintenance
from tests.simulation import inventories, reboot
from tests.simulation.faults import Fault
from tests.simulation.history import make_peace
from tests.simulation.inventories import Instances
from tests.simulation.operator import Run
from tests.simulation.reboot import VERBS
from tests.simulation.rules import Violation
from tests.simulation.world import World

from twofold.planner import api, rebooting

NODES = 3
CONVERGE = {"verb": "converge"}


def guest(template: str, nodes: list[str], state: str = "running") -> dict[str, Any]:
    made = inventories.instance(Random(5), NODES, (template,))
    return {**made, "twofold_nodes": nodes, "twofold_state": state, "twofold_memory": "128MiB", "twofold_os": None}


# On node1: one that runs, two that are off. A colleague wants these to run, and makes another one.
MINE: Instances = {
    "a": guest("drbd", ["node1", "node2"]),
    "b-1": guest("drbd", ["node1", "node3"], "stopped"),
    "c.example": guest("plain", ["node1"], "stopped"),
}
THEIRS: Instances = {
    name: {**variables, "twofold_state": "running"} for name, variables in MINE.items()
} | {"a-disk0": guest("diskless", [])}  # fmt: skip


def at_peace() -> World:
    world = World(7, NODES)
    make_peace(world, MINE)
    return world


def ann(world: World, *wrong: Fault) -> list[Run]:
    """Ann reboots node1."""
    return reboot.reboot(world, inventories.desired(MINE, NODES), "node1", "ann@here", wrong)


def colleague(at: int, run: int, intent: dict[str, Any]) -> Fault:
    """A colleague who comes in at a breath of one of her runs."""
    return Fault(at, "second operator", run, THEIRS, intent)


@pytest.mark.parametrize("intent", [CONVERGE, {"verb": "migrate", "instance": "a", "target": "node1"}])
@pytest.mark.parametrize("run", [0, 1])
def test_whenever_a_colleague_comes_in_the_reboot_ends_no_guest(run: int, intent: dict[str, Any]) -> None:
    rebooted = 0
    for breath in range(1, 400, 4):
        world = at_peace()
        runs = ann(world, colleague(breath, run, intent))
        struck = runs[run].struck if len(runs) > run else 0
        rebooted += len(runs) > VERBS.index("depart") + 1
        make_peace(world, THEIRS)
        if not struck:
            break
    assert rebooted, "she is not kept from it for good"


def test_a_colleague_who_converges_while_packages_are_upgraded_is_told_and_starts_nothing_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = at_peace()
    desired = inventories.desired(THEIRS, NODES)
    runs: list[Run] = []

    def come_in(seconds: float) -> None:
        assert seconds in reboot.PACKAGES
        monkeypatch.undo()
        run = Run(world, desired, CONVERGE, "bob@elsewhere")
        runs.append(run)
        world.engine.run(run.start())

    monkeypatch.setattr(reboot, "VERBS", VERBS[:1])
    monkeypatch.setattr(world.engine, "wait", come_in)
    (maintain,) = ann(world)
    assert reboot.went_well(maintain)
    (bob,) = runs
    assert bob.plan is not None and not bob.failed
    told = {one.object for one in bob.plan.errors if one.code == "node-rebooting"}
    assert told == {"instance b-1", "instance c.example"}
    assert not any(one.active for one in world.machines["node1"].libvirt.domains.values())
    assert any(one.libvirt.domains.get("a-disk0") for one in world.machines.values()), "what is new goes elsewhere"
    make_peace(world, THEIRS)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_interrupted_after_any_of_its_runs_it_leaves_what_undrain_clears(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = at_peace()
    monkeypatch.setattr(reboot, "VERBS", VERBS[:number])
    ann(world)
    assert _maintenance.read(world.machines["node1"].files) is not None
    make_peace(world, MINE)
    assert _maintenance.read(world.machines["node1"].files) is None
    assert world.machines["node1"].libvirt.domains["a"].active, "it is at home again"


def test_killed_at_any_moment_before_the_reboot_it_can_be_begun_anew() -> None:
    for breath in range(1, 400, 7):
        world = at_peace()
        (first, *_more) = ann(world, Fault(breath, "control process", 0))
        if not first.struck:
            break
        world.engine.wait(200)
        # What a migration left is cleared up by this, as is said; the node stays as it was noted.
        world.engine.run(Run(world, inventories.desired(MINE, NODES), CONVERGE, "ann@here").start())
        assert len(ann(world)) == len(VERBS), f"killed at breath {breath}"
        make_peace(world, MINE)


def test_without_its_note_a_node_would_be_rebooted_under_a_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    _nobody_heeds_the_note(monkeypatch)
    monkeypatch.setitem(api.VERBS, "depart", lambda _context, _intent: None)
    with pytest.raises(Violation, match="node1 is rebooted, which ends"):
        for breath in range(1, 400, 3):
            ann(at_peace(), colleague(breath, 0, CONVERGE))


def test_the_last_look_alone_would_keep_the_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    _nobody_heeds_the_note(monkeypatch)
    stopped = 0
    for breath in range(1, 120, 6):
        runs = ann(at_peace(), colleague(breath, 0, CONVERGE))
        stopped += [run.intent["verb"] for run in runs][-1] == "depart"
    assert stopped


def _nobody_heeds_the_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_args: object, **_named: object) -> None:
        pass

    monkeypatch.setattr(rebooting, "reason", nothing)
    monkeypatch.setattr(_maintenance, "require_none", nothing)
