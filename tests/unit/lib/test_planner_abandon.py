# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node is gone for good: the second copies that it had are made anew elsewhere, all of them by one command."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import World

from twofold import planner
from twofold.model import Desired
from twofold.planner import Plan

COUNT = 4
DEAD = "node2"
PROOF: dict[str, Any] = {"confirm_dead": DEAD}
OFF = {DEAD: {"state": "off", "method": "fence_ipmilan", "message": "off"}}
GUESTS = {
    "web1": instance(nodes=["node1", DEAD]),
    "web2": instance(nodes=["node3", DEAD]),
    "web3": instance(nodes=["node1", DEAD]),
    "db1": instance(nodes=[DEAD, "node1"]),
    "off1": instance(nodes=["node1", DEAD], state="stopped"),
    "off2": instance(nodes=[DEAD, "node1"], state="stopped"),
    "far1": instance(nodes=["node1", "node3"]),
}
WANTED = desired(GUESTS, COUNT)


def bereaved(wanted: Desired = WANTED) -> World:
    """All is well, then node2 loses its power."""
    world = World(list(wanted.nodes))
    world.converge(wanted)
    world.power_off(DEAD)
    return world


def evacuate(world: World, wanted: Desired = WANTED, **intent: Any) -> Plan:
    return world.plan(wanted, verb="evacuate", node=DEAD, **intent)


def play(world: World, verb: str, wanted: Desired = WANTED, limit: int | None = None, **intent: Any) -> Plan:
    plan = world.plan(wanted, verb=verb, node=DEAD, **intent)
    world.apply(plan, wanted, limit)
    return plan


def errors(plan: Plan) -> dict[str, tuple[str, str]]:
    return {finding.object: (finding.code, finding.remedy) for finding in plan.errors}


def second_copies(plan: Plan) -> dict[str, str]:
    """Where a plan fills a copy, by instance."""
    return {str(step.instance): step.node for step in plan.steps if step.op == "replication.wait"}


def whole(world: World, *names: str) -> None:
    """Each has two copies that are up to date and connected, none of them on the dead node."""
    documents = world.documents()
    for name in names:
        nodes = [node for node in world.data_copies(name) if node != DEAD]
        assert len(nodes) == 2, (name, nodes)
        for node in nodes:
            document = documents[node]
            assert document is not None and document["resources"][name]["connection"] == "Connected"
            assert sorted(document["definitions"][name]["nodes"]) == nodes


def test_the_copies_of_running_guests_are_made_anew_and_the_rest_is_named() -> None:
    world = bereaved()
    plan = play(world, "evacuate")
    assert DEAD not in {step.node for step in plan.steps}
    assert set(second_copies(plan)) == {"web1", "web2", "web3"}
    whole(world, "web1", "web2", "web3")
    found = errors(plan)
    assert {name: code for name, (code, _remedy) in found.items()} == {
        f"node {DEAD}": "not-proven-dead", "instance db1": "node-unknown", "instance off2": "node-unknown",
    }  # fmt: skip
    assert "recover.yml with the proof that node2 is dead" in found["instance db1"][1]
    assert "failover.yml -e instance=off2 with the proof that node2 is dead" in found["instance off2"][1]
    assert "confirm_dead=node2" in found[f"node {DEAD}"][1]


def test_copies_share_the_nodes_that_are_left_and_few_are_filled_at_once() -> None:
    guests = {f"g{i}": instance(nodes=["node1", DEAD]) for i in range(4)}
    wanted = desired(guests, COUNT, {"twofold_resyncs_at_once": 1})
    world = bereaved(wanted)
    plan = evacuate(world, wanted)
    made = {step.instance: step.wave for step in plan.steps if step.op == "replication.configure"}
    filled = {step.instance: step.wave for step in plan.steps if step.op == "replication.wait"}
    for wave in made.values():
        assert sum(made[other] <= wave <= filled[other] for other in made) == 1
    assert sorted(list(second_copies(plan).values()).count(node) for node in ("node3", "node4")) == [2, 2]
    world.apply(plan, wanted)
    whole(world, *guests)


@pytest.mark.parametrize("proof", [PROOF, {"fenced": OFF}])
def test_a_guest_that_is_off_needs_the_proof_that_the_node_is_dead(proof: dict[str, Any]) -> None:
    world = bereaved()
    assert "off1" not in second_copies(evacuate(world))
    plan = play(world, "evacuate", **proof)
    assert set(second_copies(plan)) == {"web1", "web2", "web3", "off1"}
    assert set(errors(plan)) == {"instance db1", "instance off2"}
    whole(world, "off1")
    assert world.nodes["node1"]["domains"]["off1"]["state"] == "shutoff"


def test_recover_says_how_to_go_on_and_then_everything_has_two_copies_again() -> None:
    world = bereaved()
    plan = play(world, "recover", **PROOF)
    (said,) = [finding for finding in plan.findings if finding.code == "redundancy-lost"]
    assert (said.object, said.message) == (
        f"node {DEAD}", "without it these have one copy of their disks: db1, web1, web2, web3"
    )  # fmt: skip
    assert f"evacuate.yml -e node={DEAD}" in said.remedy
    play(world, "failover", instance="off2", **PROOF)
    plan = play(world, "evacuate", **PROOF)
    assert not plan.errors
    whole(world, "web1", "web2", "web3", "db1", "off1", "off2", "far1")
    assert world.nodes["node1"]["domains"]["db1"]["state"] == "running"
    world.converge(WANTED)
    assert not world.plan(WANTED).steps and not world.plan(WANTED).errors
    assert not evacuate(world).steps and not evacuate(world).errors
    assert "redundancy-lost" not in {finding.code for finding in world.plan(WANTED, verb="recover", **PROOF).findings}


def test_what_comes_back_with_the_node_is_removed() -> None:
    world = bereaved()
    play(world, "recover", **PROOF)
    play(world, "failover", instance="off2", **PROOF)
    play(world, "evacuate", **PROOF)
    world.power_on(DEAD)
    for _ignored in range(2):
        world.converge(WANTED)
    assert not world.plan(WANTED).steps
    found = world.nodes[DEAD]
    assert not any(found[part] for part in ("definitions", "volumes", "resources", "domains"))


def test_killed_anywhere_it_is_gone_on_with() -> None:
    guests = {name: GUESTS[name] for name in ("web1", "web2", "off1")}
    wanted = desired(guests, COUNT)
    count = len(evacuate(bereaved(wanted), wanted, **PROOF).steps)
    assert count
    for limit in range(count):
        world = bereaved(wanted)
        play(world, "evacuate", wanted, limit, **PROOF)
        plan = play(world, "evacuate", wanted, **PROOF)
        assert not plan.errors, (limit, plan.errors)
        whole(world, *guests)
        world.converge(wanted)
        after = world.plan(wanted)
        assert not after.steps and not after.errors, limit


def test_a_node_that_drbd_is_connected_to_is_not_given_up() -> None:
    world = World(list(WANTED.nodes))
    world.converge(WANTED)
    documents = {**world.documents(), DEAD: None}
    plan = planner.plan(WANTED, documents, {"verb": "evacuate", "node": DEAD, **PROOF})
    assert (plan.steps, list(errors(plan))) == ((), [f"node {DEAD}"])
    assert plan.errors[0].code == "node-alive" and "node1 still replicates" in plan.errors[0].message


def test_where_no_other_node_fits_it_is_named_and_the_others_go() -> None:
    guests = {"web1": instance(nodes=["node1", DEAD]), "big1": instance(nodes=["node1", DEAD], memory="1GiB")}
    wanted = desired({**guests, "big1": {**guests["big1"], "twofold_excluded_nodes": ["node3", "node4"]}}, COUNT)
    plan = evacuate(bereaved(wanted), wanted)
    assert {name: code for name, (code, _remedy) in errors(plan).items()} == {"instance big1": "no-node-fits"}
    assert set(second_copies(plan)) == {"web1"}


def test_an_instance_of_which_both_nodes_are_gone_is_named() -> None:
    world = bereaved()
    # A copy from before, on a node that answers, tells of it.
    world.nodes["node4"]["definitions"]["web1"] = {**world.nodes["node1"]["definitions"]["web1"]}
    world.power_off("node1")
    plan = evacuate(world, **PROOF)
    assert set(second_copies(plan)) == {"web2"}
    code, remedy = errors(plan)["instance web1"]
    assert code == "node-unknown" and "restore it from a backup" in remedy


def test_only_where_a_proof_is_needed_is_a_fence_device_asked() -> None:
    intent = {"verb": "evacuate", "node": DEAD}
    world = bereaved()
    assert planner.suspects(WANTED, world.documents(), intent).all == (DEAD,)
    without = desired({name: found for name, found in GUESTS.items() if not name.startswith("off")}, COUNT)
    assert planner.suspects(without, bereaved(without).documents(), intent).all == ()
    world.power_on(DEAD)
    assert planner.suspects(WANTED, world.documents(), intent).all == ()


def test_the_primaries_of_a_node_that_is_gone_are_recovers() -> None:
    plan = evacuate(bereaved(), mode="primaries")
    assert (plan.steps, list(errors(plan))) == ((), [f"node {DEAD}"])
    assert "recover.yml" in plan.errors[0].remedy


def test_a_living_node_that_is_evacuated_again_is_rid_of_what_an_interruption_left() -> None:
    wanted = desired({"web1": instance(nodes=["node1", DEAD])}, COUNT)
    count = len(unhurt(wanted).steps)
    for limit in range(count):
        world = World(list(wanted.nodes))
        world.converge(wanted)
        play(world, "evacuate", wanted, limit, mode="secondaries")
        for _ignored in range(2):
            assert not play(world, "evacuate", wanted, mode="secondaries").errors
        assert not world.nodes[DEAD]["definitions"] and not world.nodes[DEAD]["volumes"], limit


def unhurt(wanted: Desired) -> Plan:
    world = World(list(wanted.nodes))
    world.converge(wanted)
    return evacuate(world, wanted, mode="secondaries")


def test_a_node_that_is_gone_can_be_taken_out_once_nothing_needs_it() -> None:
    world = bereaved()
    assert "instance off2" in errors(play(world, "remove_node"))
    play(world, "recover", **PROOF)
    play(world, "failover", instance="off2", **PROOF)
    play(world, "evacuate", **PROOF)
    plan = play(world, "remove_node")
    (said,) = [finding for finding in plan.findings if finding.code == "node-empty"]
    assert not plan.errors and "make sure that it stays off" in said.remedy
    fewer = desired(GUESTS | {"far1": {**GUESTS["far1"]}}, COUNT)
    fewer.nodes.pop(DEAD)
    after = world.plan(fewer)
    assert not after.errors, after.errors


def test_an_instance_that_only_the_dead_node_may_have_keeps_it() -> None:
    wanted = desired({"plain1": instance(nodes=[DEAD], disk_template="plain")}, COUNT)
    world = bereaved(wanted)
    assert errors(world.plan(wanted, verb="remove_node", node=DEAD))["instance plain1"][0] == "node-not-empty"


def test_a_dead_node_to_which_a_guest_was_moving_with_its_disks_is_needed() -> None:
    """It may be there alone: the definition on its former node says where it was going."""
    wanted = desired({"plain1": instance(nodes=["node1"], disk_template="plain")}, COUNT)
    world = World(list(wanted.nodes))
    world.converge(wanted)
    plan = world.plan(wanted, verb="migrate", instance="plain1", target=DEAD)
    until = next(
        n for n, step in enumerate(sorted(plan.steps, key=lambda one: one.wave)) if step.op == "domain.migrate"
    )
    world.apply(plan, wanted, until + 1)
    world.power_off(DEAD)
    assert errors(world.plan(wanted, verb="remove_node", node=DEAD))["instance plain1"][0] == "node-not-empty"


def test_a_dead_node_whose_former_copy_is_the_last_good_one_is_needed() -> None:
    """The copy that was to take its place is half filled, and the node that fills it is silent too."""
    world = World(list(WANTED.nodes))
    world.converge(desired({"web1": GUESTS["web1"]}, COUNT))
    wanted = desired({"web1": GUESTS["web1"]}, COUNT)
    plan = world.plan(wanted, verb="replace_disks", instance="web1", new_secondary="node3")
    until = next(n for n, step in enumerate(sorted(plan.steps, key=lambda s: s.wave)) if step.op == "replication.wait")
    world.apply(plan, wanted, until)
    world.power_off(DEAD)
    world.power_off("node1")
    assert errors(world.plan(wanted, verb="remove_node", node=DEAD))["instance web1"][0] == "node-not-empty"


def test_what_is_to_be_removed_does_not_keep_a_dead_node() -> None:
    """Once the node is taken out, as is said, the rest of the instance is removed."""
    gone = {"web1": {**GUESTS["web1"], "twofold_state": "absent"}}
    wanted = desired(gone, COUNT)
    world = World(list(wanted.nodes))
    world.converge(desired({"web1": GUESTS["web1"]}, COUNT))
    world.power_off(DEAD)
    assert errors(world.plan(wanted))["instance web1"][0] == "node-unknown"
    assert not play(world, "remove_node", wanted).errors
    fewer = desired(gone, COUNT)
    fewer.nodes.pop(DEAD)
    del world.nodes[DEAD]
    world.down.clear()
    plan = world.plan(fewer)
    world.apply(plan, fewer)
    assert not plan.errors and not world.nodes["node1"]["volumes"]


def test_disks_that_are_down_elsewhere_do_not_keep_a_dead_node() -> None:
    wanted = desired({"far1": {**GUESTS["far1"], "twofold_state": "stopped"}}, COUNT)
    world = bereaved(wanted)
    for node in ("node1", "node3"):
        resource = world.nodes[node]["resources"]["far1"]
        resource["role"] = None
        for volume in resource["volumes"]:
            volume["disk"] = None
    assert not world.plan(wanted, verb="remove_node", node=DEAD).errors
