# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several moves of one instance in one plan: each is planned as if those before it had been made."""

from __future__ import annotations

import copy

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import World

from twofold.model import Desired
from twofold.observed import Observed, Trace
from twofold.planner import Plan, waves
from twofold.planner.claims import Claims
from twofold.planner.context import Context
from twofold.planner.moves import Mover

NAME = "web1"
Route = list[tuple[str, str | None]]
ROUTES: list[Route] = [
    [("migrate", None), ("replace", "node3")],
    [("replace", "node3"), ("migrate", None)],
    [("migrate", None), ("replace", "node3"), ("migrate", None)],
    [("replace", "node3"), ("migrate", "node3"), ("replace", "node4")],
]
ENDS = [("node2", "node3"), ("node3", "node1"), ("node3", "node2"), ("node3", "node4")]


def begun(state: str) -> tuple[World, Desired, Context]:
    wanted = desired({NAME: instance(nodes=["node1", "node2"], state=state, os="debian-13")}, 4)
    world = World(list(wanted.nodes))
    world.converge(wanted)
    seen = Observed(world.documents())
    return world, wanted, Context(wanted, seen, Claims(wanted, seen))


def planned(context: Context, route: Route) -> Plan:
    mover, steps = Mover(context), list[str]()
    for verb, target in route:
        added = mover.migrate(NAME, target, steps) if verb == "migrate" else mover.replace(NAME, str(target), steps)
        assert added and not set(added) & set(steps), context.findings
        steps = [*steps, *added]
    return Plan({}, waves.assign(context.steps.values()), (), (), {}, "", {})


def matters(trace: Trace) -> list[object]:
    """What the planner reads of a trace."""
    resources = {n: (r.role, r.connected, r.all_disks("UpToDate")) for n, r in trace.resources.items()}
    found = {
        n: {(v.volume_group, v.name, v.size, v.pending) for v in held.values()} for n, held in trace.volumes.items()
    }
    domains = {n: d.state for n, d in trace.domains.items()}
    return [trace.definitions, domains, resources, found, trace.seeds]


@pytest.mark.parametrize("state", ["running", "stopped"])
@pytest.mark.parametrize(("route", "end"), list(zip(ROUTES, ENDS, strict=True)))
def test_what_is_foreseen_is_what_comes(route: Route, end: tuple[str, str], state: str) -> None:
    world, wanted, context = begun(state)
    plan = planned(context, route)
    world.apply(plan, wanted)
    real, foreseen = Observed(world.documents()).trace(NAME), context.observed.trace(NAME)
    assert matters(foreseen) == matters(real)
    assert foreseen.newest is not None and tuple(foreseen.newest["nodes"]) == end
    assert not world.plan(wanted).steps


def test_a_guest_does_not_follow_its_new_copy_to_a_node_that_will_lack_its_seed() -> None:
    world, _wanted, _context = begun("running")
    other = instance(nodes=["node1", "node2"], os="debian-13", user_data={"packages": ["git"]})
    wanted, seen = desired({NAME: other}, 4), Observed(world.documents())
    context = Context(wanted, seen, Claims(wanted, seen))
    mover = Mover(context)
    assert mover.replace(NAME, "node3")
    assert mover.migrate(NAME, "node3") == []
    assert [(one.severity, one.code) for one in context.findings] == [
        ("warning", "seed-missing"), ("error", "seed-missing"),
    ]  # fmt: skip


def test_a_move_waits_for_the_one_before() -> None:
    plan = planned(begun("running")[2], ROUTES[0])
    moved = max(step.wave for step in plan.steps if step.op in ("domain.migrate", "replication.settle"))
    assert min(step.wave for step in plan.steps if step.op == "volumes.create") > moved


@pytest.mark.parametrize("route", ROUTES[:3])
def test_killed_anywhere_the_rest_is_cleared_up(route: Route) -> None:
    begin, wanted, context = begun("running")
    plan = planned(context, route)
    for limit in range(0, len(plan.steps), 2):
        world = copy.deepcopy(begin)
        world.apply(plan, wanted, limit)
        for _again in range(2):
            world.converge(wanted)
            world.resync()
        assert not world.plan(wanted).steps, limit
        assert sum(NAME in doc["domains"] for doc in world.nodes.values()) == 1
