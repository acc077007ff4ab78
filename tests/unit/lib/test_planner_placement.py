# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where new instances go: all at once, by the inventory's rules, with the reasons."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.lib.cases import desired, grouped, instance, nodes
from tests.unit.lib.world import GIB, World

from twofold import inventory
from twofold.model import Desired
from twofold.observed import Observed
from twofold.planner import Plan, cluster_view
from twofold.planner.claims import Claims

RICH = {"twofold_vcpu_ratio": 64}


def planned(wanted: Desired, world: World | None = None) -> Plan:
    """The plan for new nodes."""
    return (world or World(list(wanted.nodes))).plan(wanted)


def homes(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Instance -> its nodes, primary first, as the definitions say."""
    documents = (step.args["document"] for step in plan.steps if step.op == "definition.write")
    return {document["name"]: tuple(document["nodes"]) for document in documents}


def refusals(plan: Plan) -> dict[str, str]:
    """Instance -> why it fits nowhere."""
    return {f.object.removeprefix("instance "): f.message for f in plan.findings if f.code == "no-node-fits"}


def test_new_instances_are_spread() -> None:
    plan = planned(desired({f"web{i}": instance() for i in range(6)}))
    assert Counter(pair[0] for pair in homes(plan).values()) == {"node1": 2, "node2": 2, "node3": 2}
    assert Counter(pair[1] for pair in homes(plan).values()) == {"node1": 2, "node2": 2, "node3": 2}


def test_all_at_once_leaves_room_for_the_one_that_fits_in_one_place_only() -> None:
    # One after the other, by name, the first would take the node that the second needs.
    small = instance(disk_template="plain", memory="2GiB")
    pinned = instance(disk_template="plain", memory="3GiB", nodes=["node1"])
    plan = planned(desired({"a-small": small, "b-pinned": pinned}, 2))
    assert (homes(plan), plan.errors) == ({"a-small": ("node2",), "b-pinned": ("node1",)}, [])


def test_the_plan_says_why_and_why_not() -> None:
    wanted = desired({"web1": instance(), "web2": instance(nodes=["node3", "node1"])})
    world = World(list(wanted.nodes))
    world.nodes["node2"]["bridges"] = []
    why = {change.instance: change.why for change in planned(wanted, world).summary}
    assert "node1 has 3.5GiB of memory and 16GiB in twofold free" in why["web1"]
    assert "they even the load out best (score " in why["web1"] and "not node2: no bridge br-lan" in why["web1"]
    assert why["web2"] == "node3 is pinned; node1 is pinned"


def test_one_that_fits_nowhere_names_every_node_and_does_not_block_the_others() -> None:
    wanted = desired({"big": instance(memory="3GiB"), "web1": instance()})
    world = World(list(wanted.nodes))
    world.nodes["node1"]["memory"]["total"] = 1 * GIB
    world.nodes["node2"]["volume_groups"] = {}
    plan = planned(wanted, world)
    message = refusals(plan)["big"]
    assert "node1 as primary: memory: needs 3072 MiB and some left over, has " in message
    assert "node2: no volume group twofold" in message
    assert "node3 could be primary" in message
    assert set(homes(plan)) == {"web1"}


def test_secondaries_keep_memory_for_the_failure_of_a_node_unless_it_is_not_wanted() -> None:
    four = {f"web{i}": instance(memory="1200MiB") for i in range(5)}
    refused = refusals(planned(desired(four)))
    assert len(refused) == 1 and "N+1" in next(iter(refused.values()))
    keep = {name: {**variables, "twofold_auto_balance": False} for name, variables in four.items()}
    assert not refusals(planned(desired(keep)))


def test_anti_affinity_with_a_group_of_the_inventory() -> None:
    plan = planned(desired(grouped("web", "web1", "web2", "web3", "web4", anti_affinity=["web"])))
    assert len({pair[0] for pair in homes(plan).values()}) == 3
    (message,) = refusals(plan).values()
    assert message.count("anti-affinity: runs web") == 3


def test_who_keeps_from_a_group_does_not_part_its_members() -> None:
    wanted = desired(
        {
            **grouped("db", "db1", "db2", nodes=["node1", "node2"]),
            **grouped("app", "app1", anti_affinity=["db"], excluded_nodes=["node3"], disk_template="plain"),
            **grouped("one", "one1", anti_affinity="db1", disk_template="plain", excluded_nodes=["node2"]),
        }
    )
    where = homes(planned(wanted))
    assert [where[name][0] for name in ("db1", "db2", "app1", "one1")] == ["node1", "node1", "node2", "node3"]


def test_anti_affinity_holds_for_what_exists() -> None:
    old = {"web1": instance(disk_template="diskless", disks=[], nodes=["node2"], anti_affinity=["web2"])}
    wanted = desired({**old, "web2": instance(disk_template="diskless", disks=[], excluded_nodes=["node1"])})
    world = World(list(wanted.nodes))
    world.apply(world.plan(wanted, instances=["web1"]), wanted)
    assert homes(world.plan(wanted)) == {"web2": ("node3",)}


def test_affinity_keeps_together() -> None:
    plan = planned(desired({"a": instance(affinity=["b"]), "b": instance(), "c": instance(nodes=["node1"])}))
    assert homes(plan)["a"][0] == homes(plan)["b"][0]


def test_soft_rules_give_way() -> None:
    plan = planned(desired(grouped("web", *(f"web{i}" for i in range(5)), soft_anti_affinity=["web"]), cluster=RICH))
    assert sorted(Counter(pair[0] for pair in homes(plan).values()).values()) == [1, 2, 2]
    near = desired({"a": instance(soft_affinity="b"), "b": instance(), "c": instance()})
    where = homes(planned(near))
    assert where["a"][0] == where["b"][0]


def test_excluded_nodes_tags_and_groups() -> None:
    wanted = desired(
        {
            "tagged": instance(required_tags=["ssd"]),
            "away": instance(excluded_nodes="node1", groups=["left"]),
            "grouped": instance(groups="right"),
            "nowhere": instance(required_tags=["ssd", "gpu"]),
        },
        5,
        node1={"twofold_node_tags": ["ssd", "gpu"]},
        node2={"twofold_node_tags": "ssd"},
        node4={"twofold_group": "right"},
        node5={"twofold_group": "right"},
        cluster={"twofold_group": "left"},
    )
    plan = planned(wanted)
    where = homes(plan)
    assert set(where["tagged"]) == {"node1", "node2"}
    assert set(where["away"]) == {"node2", "node3"}
    assert set(where["grouped"]) == {"node4", "node5"}
    message = refusals(plan)["nowhere"]
    assert "node2: lacks the tag gpu" in message and "node4: lacks the tag ssd, gpu" in message


def test_the_copies_of_a_disk_are_never_in_one_failure_domain() -> None:
    racks: dict[str, Any] = {
        f"node{i}": {"twofold_failure_domain": "r1" if i < 4 else ["r2", "power-b"]} for i in range(1, 5)
    }
    plan = planned(desired({f"web{i}": instance() for i in range(4)}, 4, **racks))
    assert all("node4" in pair for pair in homes(plan).values())
    one: dict[str, Any] = {name: {"twofold_failure_domain": "r1"} for name in nodes(3)}
    message = refusals(planned(desired({"web1": instance()}, **one)))["web1"]
    assert message.count("shares a failure domain with the primary") == 2


def test_an_existing_pair_in_one_failure_domain_is_said() -> None:
    wanted = desired({"web1": instance(nodes=["node1", "node2"])})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    later = desired(
        {"web1": instance()}, node1={"twofold_failure_domain": "r1"}, node2={"twofold_failure_domain": "r1"}
    )
    (finding,) = world.plan(later).findings
    assert finding.code == "rule-broken" and "in the failure domain r1: on node1 and node2" in finding.message


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"anti_affinity": ["web"]}, "it is on node1 with web2, from which twofold_anti_affinity keeps it"),
        ({"affinity": ["web3"]}, "it is on node1 without web3, with which twofold_affinity keeps it"),
        ({"affinity": ["web2", "new"]}, None),
        ({"excluded_nodes": ["node2"]}, "it is on node2, which is in twofold_excluded_nodes"),
        ({"required_tags": ["ssd"]}, "it is on node2, which lacks the tag ssd"),
    ],
)
def test_rules_that_came_later_are_not_kept_silently(rules: dict[str, Any], said: str | None) -> None:
    old = {
        **grouped("web", "web1", "web2", nodes=["node1", "node2"]),
        **grouped("other", "web3", disk_template="plain", nodes="node3"),
    }
    wanted = desired(old)
    world = World(list(wanted.nodes))
    world.converge(wanted)
    later = {**old, **grouped("web", "web1", **rules), "new": instance(state="stopped")}
    plan = world.plan(desired(later, node1={"twofold_node_tags": "ssd"}))
    found = [f.message for f in plan.findings if (f.code, f.object) == ("rule-broken", "instance web1")]
    assert found == ([said] if said else [])
    assert {step.instance for step in plan.steps} == {"new"}


def test_drained_nodes_take_nothing_new() -> None:
    wanted = desired({f"web{i}": instance() for i in range(3)}, node2={"twofold_node_state": "drained"})
    assert "node2" not in {node for pair in homes(planned(wanted)).values() for node in pair}


def test_a_new_instance_waits_for_every_node_but_those_declared_offline() -> None:
    world = World(["node1", "node2", "node3"])
    world.down = {"node3"}
    plan = planned(desired({"web1": instance(nodes=["node1", "node2"])}), world)
    error = next(f for f in plan.errors)
    assert (plan.steps, error.code) == ((), "node-unknown") and "twofold_node_state" in error.remedy
    offline = desired({"web1": instance()}, node3={"twofold_node_state": "offline"})
    plan = planned(offline, world)
    assert set(homes(plan)["web1"]) == {"node1", "node2"}
    assert [(f.severity, f.code) for f in plan.findings] == [("info", "node-offline")]
    world.down = set()
    plan = planned(offline, world)
    assert set(homes(plan)["web1"]) == {"node1", "node2"}
    assert [(f.severity, f.code) for f in plan.findings] == [("warning", "node-offline")]


def test_processors_are_not_given_away_without_end() -> None:
    one = {"web1": instance(vcpus=3, disk_template="plain", nodes="node1"), "web2": instance(vcpus=2, nodes="node1")}
    message = refusals(planned(desired(one)))["web2"]
    assert "node1 as primary: CPU: 3 of 4 vCPUs are given away, needs 2" in message
    assert not refusals(planned(desired(one, cluster={"twofold_vcpu_ratio": 5})))


def test_priority_decides_who_gets_what_there_is() -> None:
    both = {
        "a": instance(memory="3GiB", disk_template="plain", nodes="node1"),
        "z": instance(memory="3GiB", disk_template="plain", nodes="node1", priority=1),
    }
    plan = planned(desired(both))
    assert (set(homes(plan)), set(refusals(plan))) == ({"z"}, {"a"})


def test_another_volume_group_than_the_nodes_own_is_not_overfilled() -> None:
    wanted = desired({f"web{i}": instance(disks=[{"size": "3GiB", "volume_group": "fast"}]) for i in range(4)})
    world = World(list(wanted.nodes))
    for doc in world.nodes.values():
        doc["volume_groups"]["fast"] = {"size": 5 * GIB, "free": 5 * GIB, "extent": 4 << 20}
    plan = world.plan(wanted)
    assert len(homes(plan)) == 1
    assert "2.0GiB free in volume group fast, 3.0GiB needed" in next(iter(refusals(plan).values()))
    world.apply(plan, wanted)


def test_a_stopped_instance_takes_disk_alone() -> None:
    wanted = desired({f"web{i}": instance(state="stopped", memory="3GiB", vcpus=4) for i in range(5)})
    assert len(homes(planned(wanted))) == 5


def wrong(variables: dict[str, Any], **node_variables: dict[str, Any]) -> list[str]:
    """What the inventory's reader says about web1."""
    given = {name: {**found, **node_variables.get(name, {})} for name, found in nodes(3).items()}
    others = grouped("web", "web2", anti_affinity=["web"])
    web1 = {**instance(**variables), "group_names": ["instances", "web"]}
    return [f"{f.message} ({f.remedy})" for f in inventory.load(given, {"web1": web1, **others})[1]]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"anti_affinity": ["wbe"]}, "twofold_anti_affinity of web1: there is no instance, and no inventory group"),
        ({"anti_affinity": ["webb"]}, "(did you mean web?)"),
        ({"affinity": ["web2"], "anti_affinity": ["web"]}, "web2 is in twofold_affinity too"),
        ({"excluded_nodes": ["node9"]}, "twofold_excluded_nodes of web1: there is no node 'node9'"),
        ({"nodes": ["node1"], "excluded_nodes": ["node1"]}, "node1 is in twofold_excluded_nodes too"),
        ({"required_tags": ["ssd"]}, "there is no node with the tag 'ssd' (there are big)"),
        ({"required_tags": ["big"], "nodes": "node2"}, "node2 lacks the tag big"),
        ({"groups": ["far"]}, "there is no node group 'far'"),
        ({"groups": ["default"], "nodes": "node3"}, "node3 is of the node group other, not default"),
        ({"nodes": ["node1", "node3"]}, "node1 and node3 are of different node groups (default, other)"),
        ({"nodes": ["node1", "node2"]}, "node1 and node2 are both in the failure domain r1"),
        ({"priority": "high"}, "twofold_priority of web1"),
    ],
)
def test_what_is_wrong_with_the_rules_is_said(variables: dict[str, Any], said: str) -> None:
    found = wrong(
        variables,
        node1={"twofold_failure_domain": "r1", "twofold_node_tags": "big"},
        node2={"twofold_failure_domain": ["r1"]},
        node3={"twofold_group": "other"},
    )
    assert any(said in text for text in found), found


def test_a_node_variable_that_is_wrong_blocks() -> None:
    given = {**nodes(3), "node1": {**nodes(1)["node1"], "twofold_node_state": "resting"}}
    found, findings = inventory.load(given, {})
    assert found.blocked and "twofold_node_state of node1" in findings[0].message


SIZES = st.sampled_from(["200MiB", "700MiB", "1300MiB"])


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.tuples(SIZES, st.sampled_from(["drbd", "plain"]), st.booleans()), min_size=1, max_size=7),
    racks=st.lists(st.sampled_from(["", "r1", "r2"]), min_size=4, max_size=4),
)
def test_no_plan_breaks_a_hard_rule_or_overfills(sizes: list[tuple[str, str, bool]], racks: list[str]) -> None:
    given_now: dict[str, dict[str, Any]] = {}
    for index, (memory, template, shy) in enumerate(sizes):
        rules = {"anti_affinity": ["web"]} if shy else {}
        given_now |= grouped("web", f"web{index}", memory=memory, disk_template=template, **rules)
    domains = {f"node{i}": {"twofold_failure_domain": rack} for i, rack in enumerate(racks, 1) if rack}
    wanted = desired(given_now, 4, cluster=RICH, **domains)
    world = World(list(wanted.nodes))
    plan = world.converge(wanted)
    where = homes(plan)
    assert set(where) | set(refusals(plan)) == set(given_now)
    for name, pair in where.items():
        used = [racks[int(node.removeprefix("node")) - 1] for node in pair]
        assert len(pair) == len(set(pair)) and (len(pair) < 2 or not used[0] or used[0] != used[1])
        for other in given_now.keys() - {name} if wanted.instances[name].anti_affinity else ():
            assert other not in where or where[other][0] != pair[0]
    seen = Observed(world.documents())
    claims = Claims(wanted, seen)
    assert all(claims.memory_free(node) >= 0 for node in wanted.nodes)
    assert not world.plan(wanted).steps
    view = cluster_view.cluster(wanted, seen, claims)
    assert {guest.name: (guest.primary, guest.secondary) for guest in view.instances} == {
        name: (pair[0], pair[1] if len(pair) > 1 else "") for name, pair in where.items()
    }
