# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Balance: migrations that gain, in jobs, within the budget, never at the cost of redundancy."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.lib.cases import desired, grouped, instance
from tests.unit.lib.world import World

from twofold.model import Desired
from twofold.observed import Observed
from twofold.placement.redundancy import takeover
from twofold.placement.state import State
from twofold.planner import Plan, cluster_view
from twofold.planner.claims import Claims
from twofold.report import plan_markdown, plan_text

RICH = {"twofold_vcpu_ratio": 64}
Variables = dict[str, dict[str, Any]]


def skewed(instances: Variables, count: int = 3, free: bool = True, **nodes: dict[str, Any]) -> tuple[World, Desired]:
    """Instances made where their pins said; with `free` the inventory pins them no more."""
    wanted = desired(instances, count, cluster=RICH, **nodes)
    world = World(list(wanted.nodes))
    assert not world.converge(wanted).errors
    later = {name: {**given, "twofold_nodes": []} for name, given in instances.items()} if free else instances
    return world, desired(later, count, cluster=RICH, **nodes)


def pairs(count: int, first: str, second: str, **variables: Any) -> Variables:
    """Replicated instances, all with the same nodes."""
    return {f"{first}{second}{i}": instance(nodes=[first, second], **variables) for i in range(count)}


def moves(plan: Plan, *, executed: bool = True) -> list[dict[str, Any]]:
    """The moves that the plan carries out, or the others."""
    return [move for move in plan.details["balance"]["moves"] if (move["job"] is not None) == executed]


def where(world: World) -> dict[str, str]:
    """Instance -> the node that runs it."""
    return {name: node for node, doc in world.nodes.items() for name in doc["domains"]}


def state(world: World, wanted: Desired) -> State:
    """The cluster as the engine sees it."""
    seen = Observed(world.documents())
    return State(cluster_view.cluster(wanted, seen, Claims(wanted, seen)))


def survives(world: World, wanted: Desired) -> bool:
    """Whether every node could be lost: each other one has memory for what it would take over."""
    now = state(world, wanted)
    return bool((now.unallocated[:, None] - takeover(now)[0] > 0).all())


def test_a_skewed_cluster_becomes_even_and_stays_so() -> None:
    world, wanted = skewed(pairs(6, "node1", "node2"), 2)
    plan = world.plan(wanted, verb="balance")
    assert not plan.findings
    assert [move["operations"] for move in moves(plan)] == [["migrate"]] * 3
    assert {step.op for step in plan.steps} == {
        "replication.dual_primary", "replication.promote", "domain.migrate", "replication.settle", "definition.write",
    }  # fmt: skip
    assert all(move["gain"] > 0 and move["bytes"] == 256 << 20 for move in moves(plan))
    world.apply(plan, wanted)
    assert sorted(where(world).values()) == ["node1"] * 3 + ["node2"] * 3
    again = world.plan(wanted, verb="balance")
    assert (again.steps, moves(again), again.findings) == ((), [], ())
    assert not world.plan(wanted).steps


def test_moves_that_share_no_node_are_one_job() -> None:
    world, wanted = skewed({**pairs(2, "node1", "node2"), **pairs(2, "node3", "node4")}, 4)
    plan = world.plan(wanted, verb="balance")
    assert [move["job"] for move in moves(plan)] == [1, 1]
    assert {step.wave for step in plan.steps if step.op == "domain.migrate"} == {2}


def test_moves_that_share_a_node_wait_for_each_other() -> None:
    world, wanted = skewed(pairs(4, "node1", "node2"), 2)
    plan = world.plan(wanted, verb="balance")
    assert [move["job"] for move in moves(plan)] == [1, 2]
    first, second = (move["instance"] for move in moves(plan))
    last = max(step.wave for step in plan.steps if step.instance == first)
    assert min(step.wave for step in plan.steps if step.instance == second) > last
    # A move that failed stops those that count on the room it leaves.
    written = {step.id for step in plan.steps if step.instance == first and step.op == "definition.write"}
    begin = [step for step in plan.steps if step.instance == second and step.op == "replication.dual_primary"]
    assert len(begin) == 2 and all(written <= set(step.needs) for step in begin)


def test_a_balance_killed_anywhere_is_cleared_up_by_the_next_run() -> None:
    for limit in range(40):
        world, wanted = skewed(pairs(4, "node1", "node2"), 2)
        plan = world.plan(wanted, verb="balance")
        if limit > len(plan.steps):
            break
        world.apply(plan, wanted, limit)
        assert not world.converge(wanted).errors
        assert not world.plan(wanted).steps
        world.apply(world.plan(wanted, verb="balance"), wanted)
        assert sorted(where(world).values()) == ["node1", "node1", "node2", "node2"], limit


def test_second_copies_are_replaced_too() -> None:
    world, wanted = skewed(pairs(4, "node1", "node2"))
    plan = world.plan(wanted, verb="balance")
    assert not plan.findings and moves(plan, executed=False) == []
    replaced = [move for move in moves(plan) if "replace-disks to node3" in move["operations"]]
    # Migrations before and after belong to the same move.
    assert {len(move["operations"]) for move in replaced} == {2, 3}
    assert all(move["bytes"] >= (256 + 132) << 20 for move in replaced)
    shown = plan_text(plan)
    assert "migrate, then replace-disks to node3" in shown and "388MiB" in shown
    assert "| JOB | INSTANCE |" in plan_markdown(plan)
    assert Plan.from_json(plan.to_json()).details == plan.details
    world.apply(plan, wanted)
    assert all({"node1", "node2", "node3"} >= set(nodes) for nodes in homes(world).values())
    assert {name for name, nodes in homes(world).items() if "node3" in nodes} >= {move["instance"] for move in replaced}
    assert survives(world, wanted)
    again = world.plan(wanted, verb="balance")
    assert (again.steps, moves(again)) == ((), [])
    assert not world.plan(wanted).steps


def homes(world: World) -> dict[str, list[str]]:
    """Instance -> the nodes that hold it."""
    names = {name for doc in world.nodes.values() for name in doc["definitions"]}
    return {name: [node for node, doc in world.nodes.items() if name in doc["definitions"]] for name in sorted(names)}


def test_a_node_takes_part_in_so_many_resyncs_at_once() -> None:
    world, wanted = skewed(pairs(6, "node1", "node2"), 4)
    plan = world.plan(wanted, verb="balance")
    begin = {step.instance: step for step in plan.steps if step.op == "replication.disconnect"}
    end = {step.instance: step.wave for step in plan.steps if step.op == "replication.wait"}
    assert len(begin) > 2
    for node in wanted.nodes:
        here = [name for name, step in begin.items() if node in {step.node, *plan_nodes(plan, name)}]
        for one in here:
            at_once = [o for o in here if begin[o].wave <= begin[one].wave <= end[o]]
            assert len(at_once) <= wanted.cluster.resyncs_at_once


def plan_nodes(plan: Plan, name: str | None) -> set[str]:
    """The nodes of an instance's steps."""
    return {step.node for step in plan.steps if step.instance == name}


def test_what_cannot_be_made_is_shown_with_the_reason_and_the_rest_goes() -> None:
    world, wanted = skewed(pairs(4, "node1", "node2"))
    (first, *_others) = [move for move in moves(world.plan(wanted, verb="balance")) if "node3" in move["to"]]
    name = first["instance"]
    (leaves,) = set(first["from"]) - set(first["to"])
    volumes = world.nodes[leaves]["volumes"]
    (disk,) = (volume for volume in volumes if volume["name"] == f"{name}-disk0")
    volumes.append({**disk, "name": f"{name}-disk0-kept", "tags": [*disk["tags"], "twofold.kept=split-brain"]})
    plan = world.plan(wanted, verb="balance")
    (left,) = moves(plan, executed=False)
    assert left["instance"] == name and f"{leaves} keeps data that was given up" in left["why"]
    assert [(f.severity, f.code, f.object) for f in plan.findings] == [("info", "not-balanced", f"instance {name}")]
    assert f"not made: {leaves} keeps data" in plan_text(plan)
    assert moves(plan) and name not in {move["instance"] for move in moves(plan)}
    (scores,) = plan.details["balance"]["scores"]
    assert scores["possible"] <= scores["after"] < scores["before"]
    world.apply(plan, wanted)
    assert survives(world, wanted)


def test_without_disk_moves_there_are_migrations_alone() -> None:
    world, wanted = skewed(pairs(4, "node1", "node2"))
    plan = world.plan(wanted, verb="balance", disk_moves="false")
    assert moves(plan) and {tuple(move["operations"]) for move in moves(plan)} == {("migrate",)}


def test_a_guest_that_is_off_makes_room_too() -> None:
    disks = [{"size": "3GiB"}]
    off = {f"off{i}": instance(nodes=["node1", "node2"], state="stopped", disks=disks) for i in range(3)}
    world, wanted = skewed(off)
    plan = world.plan(wanted, verb="balance")
    assert not plan.findings and any("node3" in move["to"] for move in moves(plan))
    world.apply(plan, wanted)
    assert not world.plan(wanted).steps and not where(world).keys() - off.keys()


def test_no_copy_goes_where_a_bridge_is_missing() -> None:
    world, wanted = skewed(pairs(4, "node1", "node2"))
    world.nodes["node3"]["bridges"] = []
    plan = world.plan(wanted, verb="balance")
    assert moves(plan) and not [move for move in plan.details["balance"]["moves"] if "node3" in move["to"]]


def test_the_budget_holds() -> None:
    world, wanted = skewed(pairs(6, "node1", "node2"), 2)
    assert len(moves(world.plan(wanted, verb="balance", max_moves="1"))) == 1
    assert len(moves(world.plan(wanted, verb="balance", max_copy="600MiB"))) == 2
    assert moves(world.plan(wanted, verb="balance", max_copy="100MiB")) == []
    assert moves(world.plan(wanted, verb="balance", max_moves=0)) == []


@pytest.mark.parametrize(
    ("given_now", "said"),
    [
        ({"max_copy": "much"}, "max_copy: 'much' is not a size"),
        ({"max_moves": "-1"}, "max_moves: '-1' is not a number of moves"),
        ({"max_moves": "2.5"}, "max_moves: '2.5' is not a number of moves"),
    ],
)
def test_a_wrong_budget_is_refused(given_now: dict[str, str], said: str) -> None:
    world, wanted = skewed(pairs(2, "node1", "node2"), 2)
    plan = world.plan(wanted, verb="balance", **given_now)
    assert (plan.steps, [f.code for f in plan.errors]) == ((), ["bad-value"])
    assert said in plan.errors[0].message


def test_a_guest_without_disks_moves_anywhere() -> None:
    world, wanted = skewed({f"d{i}": instance(disk_template="diskless", disks=[], nodes="node1") for i in range(3)})
    plan = world.plan(wanted, verb="balance")
    assert {tuple(move["operations"]) for move in moves(plan)} == {("migrate to node2",), ("migrate to node3",)}
    world.apply(plan, wanted)
    assert sorted(where(world).values()) == ["node1", "node2", "node3"]


def test_rules_and_pins_hold() -> None:
    # Moving any of the three to node2 gains, but two must not meet there, and none may leave its pins.
    world, wanted = skewed(grouped("web", "web1", "web2", nodes=["node1", "node2"]), 3)
    apart = desired(grouped("web", "web1", "web2", soft_affinity=["web"], affinity=["web"]), 3, cluster=RICH)
    assert moves(world.plan(apart, verb="balance", disk_moves=False)) == []
    assert len(moves(world.plan(wanted, verb="balance"))) == 1
    pinned = desired(grouped("web", "web1", "web2", nodes=["node1", "node2"]), 3, cluster=RICH)
    plan = world.plan(pinned, verb="balance")
    assert len(moves(plan)) == 1 and moves(plan, executed=False) == []


def test_what_must_not_move_is_left_and_said() -> None:
    world, wanted = skewed(pairs(4, "node1", "node2"), 2)
    fixed = {name: {**instance(), "twofold_auto_balance": False} for name in wanted.instances}
    assert moves(world.plan(desired(fixed, 2, cluster=RICH), verb="balance")) == []
    world.nodes["node2"]["resources"]["node1node20"]["volumes"][0]["disk"] = "Inconsistent"
    plan = world.plan(wanted, verb="balance")
    (finding,) = plan.findings
    assert (finding.severity, finding.code, finding.object) == ("info", "not-balanced", "instance node1node20")
    assert "its disks are not replicated" in finding.message and finding.remedy
    assert "node1node20" not in {move["instance"] for move in plan.details["balance"]["moves"]}
    assert len(moves(plan)) == 2


def test_nodes_that_are_unknown_or_drained_take_no_part() -> None:
    world, wanted = skewed({**pairs(2, "node1", "node2"), **pairs(2, "node3", "node1")})
    world.down = {"node3"}
    plan = world.plan(wanted, verb="balance")
    assert [move["instance"] for move in moves(plan)] == ["node1node20"]
    assert {f.object for f in plan.findings if f.code == "not-balanced"} == {
        "instance node3node10", "instance node3node11",
    }  # fmt: skip
    world.down = set()
    drained = desired({n: instance() for n in wanted.instances}, node3={"twofold_node_state": "drained"}, cluster=RICH)
    plan = world.plan(drained, verb="balance")
    assert "node3" not in {node for move in plan.details["balance"]["moves"] for node in move["to"]}
    assert all(f.code == "not-balanced" and "node3 is drained" in f.message for f in plan.findings)


def test_node_groups_are_balanced_each_for_itself() -> None:
    groups: dict[str, Any] = {f"node{i}": {"twofold_group": "left" if i < 3 else "right"} for i in range(1, 5)}
    world, wanted = skewed({**pairs(2, "node1", "node2"), **pairs(2, "node3", "node4")}, 4, **groups)
    plan = world.plan(wanted, verb="balance")
    assert [(move["group"], move["job"]) for move in moves(plan)] == [("left", 1), ("right", 1)]
    assert [scores["group"] for scores in plan.details["balance"]["scores"]] == ["left", "right"]
    assert "node group right: score" in plan_text(plan)


NODES = [f"node{i}" for i in range(1, 5)]


@settings(max_examples=25, deadline=None)
@given(
    placed=st.lists(
        st.tuples(st.permutations(NODES), st.sampled_from(["100MiB", "400MiB", "900MiB"])), min_size=2, max_size=8
    )
)
def test_the_moves_gain_and_no_step_of_the_way_loses_redundancy(placed: list[tuple[list[str], str]]) -> None:
    given_now = {f"i{k}": instance(memory=memory, nodes=order[:2]) for k, (order, memory) in enumerate(placed)}
    wanted = desired(given_now, 4, cluster=RICH)
    world = World(list(wanted.nodes))
    world.converge(wanted)
    free = desired({name: {**v, "twofold_nodes": []} for name, v in given_now.items()}, 4, cluster=RICH)
    free = type(free)(free.cluster, free.nodes, {n: i for n, i in free.instances.items() if n in where(world)})
    assert survives(world, free)
    plan = world.plan(free, verb="balance")
    assert not plan.errors
    scores = [move["score"] for move in moves(plan)]
    assert not scores or scores[-1] == min(scores) < scores[0] + moves(plan)[0]["gain"]
    order = sorted(plan.steps, key=lambda step: step.wave)
    ends = [index for index, step in enumerate(order, 1) if step.op == "domain.migrate"]
    for end in ends:
        trial = World(list(wanted.nodes))
        trial.nodes = {name: dict(doc) for name, doc in world.documents().items() if doc is not None}
        trial.apply(plan, free, end)
        assert survives(trial, free)
    # A guest moves once in a plan; where a chain of moves wants more, the next plan goes on.
    for _again in range(4):
        world.apply(plan, free)
        assert not world.plan(free).steps
        plan = world.plan(free, verb="balance")
        if not moves(plan):
            break
    assert moves(plan) == []
