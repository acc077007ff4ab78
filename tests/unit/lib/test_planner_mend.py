# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mending: what was so before is put back; nothing that costs data, a guest or a choice is begun."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.lib import test_planner_repair as repair
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import World

from twofold import codes, report
from twofold.planner import Plan
from twofold.planner.mend import OPS

WANTED = repair.WANTED
Hurt = Callable[[World], None]
ENTRY = {"key": "run.web1", "holder": "a@b", "step": {"id": "web1/volumes.create@node1"}, "running": False}
LOCK = {"holder": "a@b", "run": "r1", "time": 0.0, "lease": 120, "expired": True}


def mend(world: World, wanted: Any = WANTED) -> Plan:
    return world.plan(wanted, verb="mend")


def stray_seed(world: World) -> None:
    world.nodes["node3"]["seeds"]["gone"] = "0" * 64


def left_journal(world: World) -> None:
    world.nodes["node3"]["journal"] = [ENTRY]


def left_lock(world: World) -> None:
    world.nodes["node3"]["lock"] = dict(LOCK)


def lost_seed(world: World) -> None:
    world.nodes["node2"]["seeds"].clear()


MENDED: dict[str, tuple[Hurt, str, str]] = {
    "definition gone": (repair.lose_definition, "definition-missing", "definition.write"),
    "definition old": (repair.old_definition, "definition-outdated", "definition.write"),
    "definition edited": (repair.other_definition, "definition-conflict", "definition.write"),
    "tag": (repair.lose_tag, "tags-missing", "volumes.tag"),
    "DRBD option": (
        repair.set_drbd("node1", options={"ping-int": "10"}), "replication-differs", "replication.configure",
    ),
    "DRBD file": (repair.edit_config, "replication-differs", "replication.configure"),
    "DRBD down": (
        repair.set_drbd("node2", role=None, volumes=[], options={}), "replication-differs", "replication.configure",
    ),
    "two primaries allowed": (
        repair.set_drbd("node1", allow_two_primaries=True), "two-primaries-allowed", "replication.settle",
    ),
    "two primaries": (repair.two_primaries, "two-primaries", "replication.settle"),
    "unused primary": (repair.set_drbd("node2", role="Primary"), "primary-unused", "replication.settle"),
    "stale domain": (repair.defined_twice, "domain-left-over", "domain.undefine"),
    "seed gone": (lost_seed, "seed-differs", "seed.write"),
    "seed of nobody": (stray_seed, "orphan-seed", "seed.remove"),
    "journal": (left_journal, "interrupted-step", "journal.clear"),
    "lock": (left_lock, "lock-expired", "journal.clear"),
}  # fmt: skip


def found(world: World) -> set[str]:
    return {finding.code for finding in report.verify(WANTED, world.documents())}


@pytest.mark.parametrize(("hurt", "code", "op"), MENDED.values(), ids=MENDED)
def test_it_is_mended_and_nothing_is_wrong_any_more(hurt: Hurt, code: str, op: str) -> None:
    world = repair.healthy()
    hurt(world)
    assert code in found(world)
    plan = mend(world)
    assert op in {step.op for step in plan.steps}, [step.id for step in plan.steps]
    assert not plan.errors and {step.kind for step in plan.steps} <= {"live", "next_boot"}
    assert all(step.risk is None for step in plan.steps)
    world.apply(plan, WANTED)
    for node in plan.nodes:
        # The run released what it had taken over.
        world.nodes[node]["lock"] = None
    assert found(world) == set()
    assert mend(world).steps == ()


def test_what_is_called_mended_is() -> None:
    tested = {code for _hurt, code, _op in MENDED.values()}
    assert {name for name, code in codes.ALL.items() if code.mended} == tested


UNTOUCHED: dict[str, Hurt] = {
    "guest stopped": repair.set_domain(state="shutoff"),
    "domain edited": repair.edit_xml('cache="none"', 'cache="writeback"'),
    "domain undefined": repair.lose_domain,
    "volume gone": repair.lose_volume,
    "runs twice": repair.run_twice,
    "split brain": repair.split,
    "node silent": lambda world: world.down.add("node2"),
    "healthy": lambda _world: None,
}


@pytest.mark.parametrize("hurt", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_needs_more_than_mending_is_left_alone(hurt: Hurt) -> None:
    world = repair.healthy()
    hurt(world)
    assert mend(world).steps == ()


CHANGES: dict[str, dict[str, Any]] = {
    "memory": {"memory": "512MiB"},
    "stopped": {"state": "stopped"},
    "removed": {"state": "absent"},
    "options": {"replication_ping_interval": 10},
    "user data": {"user_data": {"packages": ["vim"]}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_the_inventory_wants_anew_is_not_begun(change: dict[str, Any]) -> None:
    world = repair.healthy()
    wanted = desired({"web1": instance(**{**repair.PAIR, **change}), "new": instance(**repair.PAIR)})
    assert world.plan(wanted).steps, "converge would do something"
    assert mend(world, wanted).steps == ()


def test_two_primaries_are_forbidden_whatever_else_the_inventory_wants() -> None:
    world = repair.healthy()
    repair.two_primaries(world)
    plan = mend(world, desired({"web1": instance(**repair.PAIR, memory="512MiB")}))
    assert [(step.op, step.node) for step in plan.steps] == [
        ("replication.settle", "node1"),
        ("replication.settle", "node2"),
    ]
    world.apply(plan, WANTED)
    assert found(world) == set()


def test_no_side_connects_before_two_primaries_are_forbidden_on_both() -> None:
    """DRBD parts a side that allows them from one that does not."""
    world = repair.healthy()
    repair.two_primaries(world)
    plan = world.plan(desired({"web1": instance(**repair.PAIR, replication_ping_interval=10)}))
    settled = {"web1/replication.settle@node1", "web1/replication.settle@node2"}
    configured = [step for step in plan.steps if step.op == "replication.configure"]
    assert len(configured) == 2 and all(settled <= set(step.needs) for step in configured)


def test_a_creation_that_was_interrupted_is_not_gone_on_with() -> None:
    for limit in range(1, 12):
        world = World(list(WANTED.nodes))
        world.apply(world.plan(WANTED), WANTED, limit=limit)
        assert {step.op for step in mend(world).steps} <= OPS - {"replication.configure"}


def test_seeds_stay_while_a_node_is_silent() -> None:
    world = repair.healthy()
    stray_seed(world)
    world.down.add("node2")
    assert mend(world).steps == ()
