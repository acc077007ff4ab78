# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node is emptied: guests first, then second copies; a drained one gets its guests back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.lib.cases import CLUSTER, desired, instance
from tests.unit.lib.world import World

from twofold import inventory
from twofold.model import Desired
from twofold.planner import Plan

COUNT = 4
PAIR = {"nodes": ["node1", "node2"]}
GUESTS = {
    "web1": instance(**PAIR),
    "web2": instance(nodes=["node2", "node1"]),
    "web3": instance(nodes=["node2", "node3"]),
    "off1": instance(**PAIR, state="stopped"),
    "bare1": instance(disk_template="diskless", disks=[], nodes=["node1"]),
    "plain1": instance(disk_template="plain", nodes=["node1"]),
}
WANTED = desired(GUESTS, COUNT)


def with_state(state: str, node: str = "node1", guests: dict[str, Any] | None = None) -> Desired:
    hosts = {
        f"node{i}": {
            **CLUSTER, "ansible_host": f"192.0.2.{10 + i}", "twofold_replication_address": f"198.51.100.{10 + i}",
            "twofold_node_state": state if f"node{i}" == node else "online",
        }
        for i in range(1, COUNT + 1)
    }  # fmt: skip
    found, _ignored = inventory.load(hosts, guests or GUESTS)
    return found


def healthy(wanted: Desired = WANTED) -> World:
    world = World(list(wanted.nodes))
    world.converge(wanted)
    return world


def play(world: World, verb: str, wanted: Desired = WANTED, **intent: Any) -> Plan:
    plan = world.plan(wanted, verb=verb, node="node1", **intent)
    world.apply(plan, wanted)
    return plan


def primaries(world: World, node: str) -> set[str]:
    return set(world.nodes[node]["domains"])


def holds(world: World, node: str) -> set[str]:
    return set(world.nodes[node]["definitions"])


def peace(world: World, wanted: Desired = WANTED) -> None:
    world.converge(wanted)
    world.resync()
    world.converge(wanted)
    assert not world.plan(wanted).steps


def test_guests_leave_and_then_their_second_copies() -> None:
    world = healthy()
    plan = play(world, "evacuate", mode="primaries")
    assert not plan.errors
    assert primaries(world, "node1") == set()
    assert holds(world, "node1") == {"web1", "web2", "off1"}
    plan = play(world, "evacuate", mode="secondaries")
    assert not plan.errors
    assert holds(world, "node1") == set() and not world.nodes["node1"]["volumes"]
    peace(world)
    assert {name for doc in world.nodes.values() for name in doc["definitions"]} == set(GUESTS)


def test_both_is_one_plan() -> None:
    world = healthy()
    plan = play(world, "evacuate", mode="both")
    assert not plan.errors
    assert holds(world, "node1") == set() and not world.nodes["node1"]["volumes"]
    peace(world)


def test_second_copies_of_guests_that_moved_wait_for_that() -> None:
    plan = healthy().plan(WANTED, verb="evacuate", node="node1", mode="both")
    moved = {step.instance: step.wave for step in plan.steps if step.op == "domain.migrate"}
    made = {step.instance: step.wave for step in plan.steps if step.op == "volumes.create"}
    assert made["web1"] > moved["web1"]


def test_where_there_is_no_third_node_guests_leave_without_their_second_copies() -> None:
    wanted = desired({"web1": instance(**PAIR)}, 2)
    world = healthy(wanted)
    plan = play(world, "evacuate", wanted, mode="both")
    assert primaries(world, "node1") == set() and holds(world, "node1") == {"web1"}
    (finding,) = plan.errors
    assert finding.code == "no-node-fits" and "no node can take its second copy" in finding.message


TAGS: dict[str, Any] = {
    "node2": {"twofold_node_tags": ["ssd"], "twofold_failure_domain": ["rack1"]},
    "node3": {"twofold_node_tags": ["ssd"], "twofold_failure_domain": ["rack1"]},
    "node4": {"twofold_failure_domain": ["rack2"]},
    "node1": {"twofold_node_tags": ["ssd"], "twofold_failure_domain": ["rack2"]},
}


def test_new_places_keep_the_rules_and_what_cannot_is_named() -> None:
    made = {name: instance(nodes=["node2", "node1"]) for name in ("tag1", "rack1", "ex1", "free1")}
    world = healthy(desired(made, COUNT, **TAGS))
    later = {
        "tag1": instance(required_tags=["ssd"]), "rack1": instance(), "ex1": instance(excluded_nodes=["node4"]),
        "free1": instance(),
    }  # fmt: skip
    wanted = desired(later, COUNT, **TAGS)
    plan = play(world, "evacuate", wanted, mode="secondaries")
    # node3 may fail together with node2, node4 lacks the tag or is excluded.
    assert {f.object for f in plan.errors} == {"instance tag1", "instance ex1"}
    said = {f.object: f.message for f in plan.errors}
    assert "node3 may fail together with node2" in said["instance tag1"]
    assert "node4 lacks the tag ssd" in said["instance tag1"]
    assert "node4 is in twofold_excluded_nodes" in said["instance ex1"]
    assert holds(world, "node4") == {"rack1", "free1"}


def test_a_rule_gives_way_for_the_time_of_a_drain_alone() -> None:
    apart = {"web1": instance(**PAIR, anti_affinity=["web2"]), "web2": instance(nodes=["node2", "node3"])}
    wanted = desired(apart, 3)
    world = healthy(wanted)
    plan = world.plan(wanted, verb="evacuate", node="node1", mode="primaries")
    assert [f.code for f in plan.errors] == ["no-node-fits"] and "runs web2" in plan.errors[0].message
    drained = desired(apart, 3, node1={"twofold_node_state": "drained"})
    plan = play(world, "drain", drained)
    assert [f.code for f in plan.findings] == ["moved-in-need"]
    assert primaries(world, "node2") == {"web1", "web2"}


def test_guests_that_move_with_their_disks_share_the_room() -> None:
    # Each of the two others has memory for one of them.
    guests = {
        f"bare{i}": instance(disk_template="diskless", disks=[], nodes="node1", memory="1536MiB") for i in range(2)
    }
    guests |= {f"there{i}": instance(nodes=f"node{i}", disk_template="plain", memory="1GiB") for i in (2, 3)}
    wanted = desired(guests, 3)
    world = healthy(wanted)
    plan = play(world, "evacuate", wanted, mode="both")
    assert not plan.errors
    assert sorted(len(primaries(world, f"node{i}")) for i in (1, 2, 3)) == [0, 2, 2]


def test_killed_anywhere_the_rest_follows() -> None:
    count = len(healthy().plan(WANTED, verb="evacuate", node="node1", mode="both").steps)
    for limit in range(0, count, 3):
        world = healthy()
        world.apply(world.plan(WANTED, verb="evacuate", node="node1", mode="both"), WANTED, limit)
        peace(world)
        for _ignored in range(2):
            play(world, "evacuate", mode="both")
        assert holds(world, "node1") == set(), limit
        peace(world)


def test_one_migration_waits_until_the_one_before_is_settled() -> None:
    wanted = desired({"web1": instance(**PAIR), "web2": instance(**PAIR)}, COUNT)
    plan = healthy(wanted).plan(wanted, verb="evacuate", node="node1", mode="primaries")
    steps = {step.id: step for step in plan.steps}

    def before(identifier: str) -> set[str]:
        return {need for direct in steps[identifier].needs for need in {direct, *before(direct)}}

    assert {"web1/replication.settle@node1", "web1/replication.settle@node2"} <= before("web2/domain.migrate@node1")


def test_those_without_a_second_copy_move_one_after_the_other() -> None:
    plan = healthy().plan(WANTED, verb="evacuate", node="node1", mode="primaries")
    moves = [step for step in plan.steps if step.op == "domain.migrate"]
    # One call of the node that they leave, or a later one.
    assert [step.node for step in moves] == ["node1"] * 3


def test_what_cannot_move_is_named_and_the_rest_goes() -> None:
    world = healthy()
    world.nodes["node2"]["resources"]["web1"]["volumes"][0]["disk"] = "Inconsistent"
    plan = play(world, "evacuate", mode="primaries")
    assert [(f.code, f.object) for f in plan.errors] == [("not-replicated", "instance web1")]
    assert primaries(world, "node1") == {"web1"}


def test_copies_share_the_nodes_that_are_left_and_few_are_filled_at_once() -> None:
    guests = {f"g{i}": instance(nodes=["node2", "node1"]) for i in range(4)}
    wanted = desired(guests, COUNT)
    world = healthy(wanted)
    plan = world.plan(wanted, verb="evacuate", node="node1", mode="secondaries")
    cuts = {step.instance: step.wave for step in plan.steps if step.op == "replication.disconnect"}
    fills = {step.instance: step.wave for step in plan.steps if step.op == "replication.wait"}
    assert len(cuts) == 4
    for name, cut in cuts.items():
        going_on = [other for other in cuts if cuts[other] <= cut <= fills[other]]
        assert name in going_on and len(going_on) <= wanted.cluster.resyncs_at_once
    world.apply(plan, wanted)
    spread = [sum(1 for name in guests if name in world.nodes[node]["definitions"]) for node in ("node3", "node4")]
    assert sorted(spread) == [2, 2]


def test_a_drained_node_gets_nothing_and_its_guests_come_home() -> None:
    world = healthy()
    drained, online = with_state("drained"), with_state("online")
    before = primaries(world, "node1")
    plan = play(world, "drain", drained)
    assert not plan.errors
    assert primaries(world, "node1") == set()
    assert world.nodes["node2"]["definitions"]["web1"]["home"] == "node1"
    peace(world, drained)
    more = with_state("drained", guests={**GUESTS, "new1": instance(), "new2": instance()})
    world.converge(more)
    assert not {"new1", "new2"} & holds(world, "node1")
    assert [f.code for f in world.plan(drained, verb="undrain", node="node1").errors] == ["still-drained"]
    plan = play(world, "undrain", online)
    assert not plan.errors
    assert primaries(world, "node1") == before
    assert not any("home" in document for doc in world.nodes.values() for document in doc["definitions"].values())
    peace(world, online)


def test_a_guest_whose_copy_has_left_is_named() -> None:
    world = healthy()
    play(world, "drain", with_state("drained"))
    play(world, "evacuate", with_state("drained"), mode="secondaries")
    plan = world.plan(with_state("online"), verb="undrain", node="node1")
    assert {f.object for f in plan.findings if f.code == "home-without-disk"} == {"instance web1", "instance off1"}


def test_a_node_that_is_online_is_warned_about() -> None:
    plan = healthy().plan(WANTED, verb="drain", node="node1")
    assert [f.code for f in plan.findings] == ["not-drained"]


@pytest.mark.parametrize(
    ("intent", "code"),
    [
        ({"node": "node9"}, "unknown-node"),
        ({"node": "node1", "mode": "some"}, "wrong-arguments"),
        ({"node": "node3", "mode": "primaries"}, "node-unknown"),
    ],
)
def test_what_makes_no_sense_is_refused(intent: dict[str, str], code: str) -> None:
    world = healthy()
    world.down = {"node3"}
    plan = world.plan(WANTED, verb="evacuate", **intent)
    assert (plan.steps, [f.code for f in plan.errors]) == ((), [code])


@pytest.mark.parametrize("verb", ["evacuate", "drain", "undrain", "maintain", "remove_node"])
def test_off_a_node_that_could_not_tell_all_nothing_is_moved(verb: str) -> None:
    world = healthy()
    world.nodes["node1"]["volume_groups"] = None
    plan = world.plan(WANTED, verb=verb, node="node1")
    (found,) = [one for one in plan.errors if "nothing can be moved off it" in one.message]
    assert not plan.steps and (found.object, found.code) == ("node node1", "node-incomplete")
    assert "it answers, but could not tell its volume_groups" in found.message
    assert "fence.yml -e node=node1 -e power=off -e force=true, then recover.yml" in found.remedy


def test_of_two_operators_the_one_is_believed_who_moved_the_guest() -> None:
    # One has begun to give web1's second copy to node3 when the other moves the guest to node2.
    wanted = desired({"web1": instance(**PAIR)}, COUNT)
    world = healthy(wanted)
    mine = world.plan(wanted, verb="replace_disks", instance="web1", new_secondary="node3")
    first = next(i for i, step in enumerate(mine.steps, 1) if step.op == "definition.write")
    theirs = world.plan(wanted, verb="migrate", instance="web1")
    world.apply(mine, wanted, first)
    world.apply(theirs, wanted)
    assert world.nodes["node3"]["definitions"]["web1"]["generation"] == 2
    plan = world.converge(wanted)
    assert not plan.errors and primaries(world, "node2") == {"web1"}
    world.converge(wanted)
    assert not world.plan(wanted).steps and not world.nodes["node3"]["volumes"]


@pytest.mark.parametrize(
    ("state", "said", "remedy"),
    [
        ("shutoff", "it is off, and its disks are only on node1", "start it first"),
        ("paused", "it stays on node1, because it is paused", "bring it to run or stop it"),
    ],
)
def test_what_cannot_leave_as_it_is_stays_and_is_named(state: str, said: str, remedy: str) -> None:
    wanted = desired({"web1": instance(nodes=["node1"], disk_template="plain", os="debian-13")})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    world.nodes["node1"]["domains"]["web1"]["state"] = state
    plan = world.plan(wanted, verb="drain", node="node1")
    (found,) = plan.errors
    assert (plan.steps, found.code, found.object) == ((), "not-moved", "instance web1")
    assert found.message == said and found.remedy.startswith(remedy)


def test_a_guest_that_is_off_goes_on_where_its_move_was_cut_off() -> None:
    wanted = desired({"off1": instance(**PAIR, state="stopped")}, COUNT)
    count = len(healthy(wanted).plan(wanted, verb="evacuate", node="node1", mode="primaries").steps)
    for limit in range(count):
        world = healthy(wanted)
        world.apply(world.plan(wanted, verb="evacuate", node="node1", mode="primaries"), wanted, limit)
        again = play(world, "evacuate", wanted, mode="primaries")
        assert not again.errors
        world.converge(wanted)
        assert primaries(world, "node2") == {"off1"} and not primaries(world, "node1"), limit


def test_a_move_of_one_that_is_off_goes_on_without_its_old_node_and_leaves_nothing_there() -> None:
    """node1 loses its power before its domain is undefined; what it holds is older when it is back."""
    wanted = desired({"off1": instance(disk_template="diskless", disks=[], nodes=["node1"], state="stopped")}, 2)
    world = World(list(wanted.nodes))
    world.converge(wanted)
    plan = world.plan(wanted, verb="drain", node="node1")
    assert [step.op for step in plan.steps][:2] == ["definition.write", "domain.undefine"]
    world.apply(plan, wanted, limit=1)
    world.down = {"node1"}
    world.converge(wanted)
    assert "off1" in world.nodes["node2"]["domains"]
    world.down = set()
    assert not world.converge(wanted).errors
    assert not world.nodes["node1"]["domains"] and not world.nodes["node1"]["definitions"]
    assert not world.plan(wanted).steps


def off_with_its_disk_in_use() -> tuple[World, Desired]:
    """The guest died, or its reinstallation was killed: it is off on node1, where its disk is Primary still."""
    wanted = desired({"web1": instance(**PAIR)}, COUNT)
    world = healthy(wanted)
    world.nodes["node1"]["domains"]["web1"]["state"] = "shutoff"
    assert world.nodes["node1"]["resources"]["web1"]["role"] == "Primary"
    return world, wanted


def test_the_node_of_a_guest_that_is_off_is_the_first_to_know_that_it_leaves() -> None:
    """It may be about to start it by itself."""
    world, wanted = off_with_its_disk_in_use()
    waves = {(step.node, step.op): step.wave for step in world.plan(wanted, verb="drain", node="node1").steps}
    assert waves["node1", "definition.write"] < waves["node2", "definition.write"]


def test_a_start_without_a_promotion_wants_its_peer_connected() -> None:
    """While it waited for the lock, a migration may have brought the guest to the other node."""
    world, wanted = off_with_its_disk_in_use()
    (start,) = [step for step in world.plan(wanted).steps if step.op == "domain.start"]
    assert start.args["connected"] is True
    world.nodes["node1"]["resources"]["web1"]["role"] = "Secondary"
    assert [("connected" in step.args) for step in world.plan(wanted).steps if step.op == "domain.start"] == [False]


def test_a_guest_that_is_off_lets_go_of_its_disk_where_it_leaves() -> None:
    world, wanted = off_with_its_disk_in_use()
    plan = play(world, "evacuate", wanted, mode="both")
    assert not plan.errors
    order = [(step.node, step.op) for step in sorted(plan.steps, key=lambda step: step.wave)]
    assert order.index(("node1", "replication.demote")) < order.index(("node2", "domain.define"))
    world.converge(wanted)
    assert not holds(world, "node1") and primaries(world, "node2") == {"web1"}
    assert not world.plan(wanted).steps


def test_a_former_copy_that_is_still_in_use_is_let_go_of_first() -> None:
    """Its node was given up before it had demoted its disk."""
    world, wanted = off_with_its_disk_in_use()
    plan = world.plan(wanted, verb="evacuate", node="node1", mode="both")
    steps = [step for step in plan.steps if step.op != "replication.demote"]
    cut = [step.op for step in steps].index("replication.disconnect")
    world.apply(replace(plan, steps=tuple(steps[:cut])), wanted)
    again = world.plan(wanted)
    order = [(step.node, step.op) for step in sorted(again.steps, key=lambda step: step.wave)]
    assert order.index(("node1", "replication.demote")) < order.index(("node2", "replication.configure"))
