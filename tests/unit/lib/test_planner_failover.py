# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failover and recover: what is done with a proof, what is refused without one, and how the dead node comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import Refused, World

from twofold import planner
from twofold.model import Desired
from twofold.observed import not_told
from twofold.planner import Plan

PAIR = {"nodes": ["node1", "node2"], "os": "debian-13"}
OFF = {"node1": {"state": "off", "method": "fence_ipmilan", "message": "off"}}


def world_with(count: int = 1, **variables: Any) -> tuple[World, Desired]:
    """Three nodes with web1, web2 and so on, running on node1."""
    wanted = desired({f"web{i}": instance(**{**PAIR, **variables}) for i in range(1, count + 1)})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    return world, wanted


def spread(count: int) -> tuple[World, Desired]:
    """So many nodes, each the primary of one instance, whose second copy is on the next node."""
    names = [f"node{i}" for i in range(1, count + 1)]
    pairs = zip(names, [*names[1:], names[0]], strict=True)
    wanted = desired({f"on-{one}": instance(nodes=[one, other]) for one, other in pairs}, count)
    world = World(names)
    world.converge(wanted)
    return world, wanted


def failover(world: World, wanted: Desired, **intent: Any) -> Plan:
    """The plan of a failover of web1."""
    return world.plan(wanted, verb="failover", instance="web1", **intent)


def recover(world: World, wanted: Desired, **intent: Any) -> Plan:
    """The plan of a recovery."""
    return world.plan(wanted, verb="recover", **intent)


def ops(plan: Plan, node: str) -> list[str]:
    """The operations on a node."""
    return [step.op for step in plan.steps if step.node == node]


def errors(plan: Plan) -> list[tuple[str, str]]:
    """Object and code of the errors."""
    return [(finding.object, finding.code) for finding in plan.errors]


TAKEN = ["replication.take_over", "domain.define", "definition.write", "domain.start"]


@pytest.mark.parametrize("proof", [{"confirm_dead": "node1"}, {"confirm_dead": ["node1"]}, {"fenced": OFF}])
def test_a_proof_of_death_is_not_saved(proof: dict[str, Any]) -> None:
    """Its power comes back, its guest too, and then it is cut off: nothing tells that from a node that stayed dead."""
    world, wanted = world_with()
    world.power_off("node1")
    for saved in (recover(world, wanted, **proof), failover(world, wanted, **proof)):
        (refused,) = planner.check_saved(saved, wanted, world.documents())
        assert (refused.object, refused.code) == ("node node1", "plan-with-proof")
        assert "may have lived again since" in refused.message and "without the plan's file" in refused.remedy
        # Nor is it an edited plan that says nothing of it.
        without = saved.with_(intent={key: saved.intent[key] for key in saved.intent.keys() - proof.keys()})
        assert [one.code for one in planner.check_saved(without, wanted, world.documents())] == ["plan-damaged"]


def test_a_plan_that_rests_on_no_proof_may_be_saved() -> None:
    """A device was asked about node3, which is silent, and said that it is on; another plan has nothing to do."""
    world, wanted = world_with()
    world.down.add("node3")
    asked = {"node3": {**OFF["node1"], "state": "on"}}
    saved = failover(world, wanted, fenced=asked)
    assert saved.steps and not planner.check_saved(saved, wanted, world.documents())
    saved = recover(world, wanted, fenced={"node3": OFF["node1"]})
    assert not saved.steps and not planner.check_saved(saved, wanted, world.documents())


@pytest.mark.parametrize("verb", ["failover", "recover"])
@pytest.mark.parametrize(
    ("proof", "words"),
    [
        ({"confirm_dead": "node1"}, "the operator confirmed that node1 is dead"),
        ({"confirm_dead": ["node1"]}, "the operator confirmed that node1 is dead"),
        ({"fenced": OFF}, "node1 is off, says its fence device (fence_ipmilan)"),
    ],
)
def test_the_survivor_takes_over_with_a_proof(verb: str, proof: dict[str, Any], words: str) -> None:
    world, wanted = world_with()
    world.power_off("node1")
    plan = world.plan(wanted, verb=verb, instance="web1", **proof)
    assert ([step.op for step in plan.steps], plan.waves, plan.errors) == (TAKEN, 1, [])
    taken = plan.steps[0]
    assert (taken.args["peer"], taken.args["proof"], taken.args["resource"]) == ("node1", words, "web1")
    assert taken.risk and words in plan.summary[0].why
    world.apply(plan, wanted)
    assert world.nodes["node2"]["domains"]["web1"]["state"] == "running"
    definition = world.nodes["node2"]["definitions"]["web1"]
    assert (definition["nodes"], definition["took_over"]) == (["node2", "node1"], "node1")
    assert definition["generation"] == world.nodes["node1"]["definitions"]["web1"]["generation"] + 1
    again = world.plan(wanted, verb=verb, instance="web1", **proof)
    assert (again.steps, again.errors) == ((), [])


def test_the_dead_node_comes_back_as_secondary_and_its_guest_never_starts() -> None:
    world, wanted = world_with()
    world.power_off("node1")
    world.apply(recover(world, wanted, confirm_dead="node1"), wanted)
    world.power_on("node1")
    plan = world.converge(wanted)
    assert ops(plan, "node1") == ["domain.undefine", "definition.write"]
    assert "took_over" not in world.nodes["node2"]["definitions"]["web1"]
    assert "web1" not in world.nodes["node1"]["domains"]
    assert world.nodes["node1"]["definitions"] == world.nodes["node2"]["definitions"]
    after = world.plan(wanted)
    assert (after.steps, after.findings) == ((), ())


@pytest.mark.parametrize("limit", range(5))
def test_a_recovery_killed_anywhere_is_gone_on_with_or_forgotten(limit: int) -> None:
    world, wanted = world_with()
    world.power_off("node1")
    world.apply(recover(world, wanted, confirm_dead="node1"), wanted, limit)
    world.apply(recover(world, wanted, confirm_dead="node1"), wanted)
    assert world.nodes["node2"]["domains"]["web1"]["state"] == "running"
    world, wanted = world_with()
    world.power_off("node1")
    world.apply(recover(world, wanted, confirm_dead="node1"), wanted, limit)
    world.power_on("node1")
    world.converge(wanted)
    assert not world.plan(wanted).steps


@pytest.mark.parametrize(
    ("fenced", "said"),
    [
        (None, "-e confirm_dead=node1"),
        ({"state": "on", "method": "fence_ipmilan", "message": "on"}, "-e fence=true"),
        ({"state": "silent", "method": "fence_ipmilan", "message": "no route"}, "no route"),
    ],
)
@pytest.mark.parametrize("verb", ["failover", "recover"])
def test_without_a_proof_nothing_is_done_and_it_is_said_what_to_do(
    verb: str, fenced: dict[str, str] | None, said: str
) -> None:
    world, wanted = world_with(2)
    world.power_off("node1")
    plan = world.plan(wanted, verb=verb, instance="web1", fenced={"node1": fenced} if fenced else None)
    assert (plan.steps, errors(plan)) == ((), [("node node1", "not-proven-dead")])
    assert said in plan.errors[0].remedy
    assert "web1" in plan.errors[0].message and ("web2" in plan.errors[0].message) == (verb == "recover")


@pytest.mark.parametrize("proof", [{"confirm_dead": "node1"}, {"fenced": OFF}])
def test_a_node_that_answers_is_not_dead_whatever_is_said(proof: dict[str, Any]) -> None:
    world, wanted = world_with()
    assert ("node node1", "node-alive") in errors(recover(world, wanted, **proof))


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ({"confirm_dead": "node1"}, "node-alive"),
        ({"confirm_dead": "node2"}, "node-alive"),
        ({"confirm_dead": "nodeX"}, "unknown-node"),
        ({"accept_stale": "webX"}, "unknown-instance"),
    ],
)
@pytest.mark.parametrize(
    "intent",
    [
        {"verb": "failover", "instance": "web1"},
        {"verb": "recover"},
        {"verb": "evacuate", "node": "node2"},
        {"verb": "evacuate", "node": "node1", "mode": "primaries"},
    ],
    ids=["failover", "recover", "evacuate", "evacuate primaries"],
)
def test_a_wrong_word_stops_all_of_it(intent: dict[str, Any], word: dict[str, Any], code: str) -> None:
    """Who says what is not so is not obeyed in the rest either: the guest that is up would be shut down."""
    world, wanted = world_with()
    assert world.plan(wanted, **intent).steps or intent["verb"] == "recover"
    plan = world.plan(wanted, **intent, **word)
    assert (plan.steps, [one.code for one in plan.errors]) == ((), [code])


@pytest.mark.parametrize("verb", ["recover", "converge", "evacuate", "rolling"])
def test_when_nobody_answers_the_operator_is_told_to_look_at_himself(verb: str) -> None:
    world, wanted = world_with()
    documents = dict.fromkeys(world.documents(), None)
    plan = planner.plan(wanted, documents, {"verb": verb, "node": "node1", "confirm_dead": "node1,node2,node3"})
    assert (plan.steps, errors(plan)) == ((), [("cluster", "nobody-answers")])
    assert "your own network" in plan.errors[0].remedy


def test_a_node_that_drbd_is_connected_to_is_not_dead_whatever_the_operator_says() -> None:
    world, wanted = world_with()
    documents = world.documents()
    world.down = {"node1"}
    documents["node1"] = None
    plan = planner.plan(wanted, documents, {"verb": "recover", "confirm_dead": "node1"})
    assert (plan.steps, errors(plan)) == ((), [("node node1", "node-alive")])
    assert "node2 still replicates web1" in plan.errors[0].message
    assert "restore the management network" in plan.errors[0].remedy
    # A fence device is believed: it may be faster than DRBD's keep-alives, and the step on the node waits for these.
    assert [step.op for step in planner.plan(wanted, documents, {"verb": "recover", "fenced": OFF}).steps] == TAKEN


def cut_off(world: World, *nodes: str) -> dict[str, dict[str, Any] | None]:
    """What is said while the management network does not get to some nodes, which go on as before."""
    return {name: None if name in nodes else document for name, document in world.documents().items()}


def waited(wanted: Desired, documents: dict[str, Any], intent: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Who an intent waits for: the dead, those that live, and all that are silent."""
    suspects = planner.suspects(wanted, documents, intent)
    return suspects.dead, suspects.alive, suspects.silent


SAID_ON = {"state": "on", "method": "fence_ipmilan", "message": "says on"}


@pytest.mark.parametrize("fenced", [None, SAID_ON, {**SAID_ON, "state": "silent", "message": "no route"}])
@pytest.mark.parametrize("verb", ["failover", "recover"])
def test_a_node_that_lives_is_not_offered_to_its_fence_device(verb: str, fenced: dict[str, str] | None) -> None:
    world, wanted = world_with(2)
    documents = cut_off(world, "node1")
    intent = {"verb": verb, "instance": "web1"}
    assert waited(wanted, documents, intent) == ((), ("node1",), ("node1",))
    plan = planner.plan(wanted, documents, {**intent, **({"fenced": {"node1": fenced}} if fenced else {})})
    assert (plan.steps, errors(plan)) == ((), [("node node1", "cut-off")])
    (found,) = plan.errors
    assert "node2 still replicates web1 with it; it may run web1" in found.message
    assert "restore the management network" in found.remedy and "fence=true" not in found.remedy
    assert "fence.yml -e node=node1 -e power=off -e force=true" in found.remedy
    # When the keep-alives have expired, nothing shows any more that it lives.
    world.power_off("node1")
    assert waited(wanted, world.documents(), intent) == (("node1",), (), ("node1",))


def test_many_that_are_silent_at_once_are_fenced_by_name_alone() -> None:
    world, wanted = spread(5)
    for node in ("node1", "node3"):
        world.power_off(node)
    intent = {"verb": "recover"}
    suspects = planner.suspects(wanted, world.documents(), intent)
    assert waited(wanted, world.documents(), intent) == (("node1", "node3"), (), ("node1", "node3"))
    on = dict.fromkeys(suspects.all, SAID_ON)
    plan = recover(world, wanted, fenced=on)
    assert errors(plan) == [("node node1", "not-proven-dead"), ("node node3", "not-proven-dead")]
    assert "2 of 5 nodes are silent at once: look at the network first; -e fence=node1 " in plan.errors[0].remedy
    # One of them is off for sure; the other is the ordinary case.
    plan = recover(world, wanted, fenced={**on, "node1": OFF["node1"]})
    assert [one.remedy for one in plan.errors] == ["its fence device says that it is on; -e fence=true switches it off"]


def behind_a_switch(**node_variables: dict[str, Any]) -> tuple[World, Desired]:
    """Seven nodes with pairs within each half, and one across: the switch of node1, node2 and node3 breaks."""
    pairs = {"across": ["node1", "node4"], "here": ["node1", "node2"], "too": ["node3", "node2"]}
    wanted = desired({name: instance(nodes=pair) for name, pair in pairs.items()}, 7, **node_variables)
    world = World(list(wanted.nodes))
    world.converge(wanted)
    for node in ("node1", "node2", "node3"):
        world.power_off(node)
    return world, wanted


@pytest.mark.parametrize("intent", [{"verb": "recover"}, {"verb": "failover", "instance": "across"}])
def test_silent_nodes_that_nothing_waits_for_are_part_of_the_crowd(intent: dict[str, Any]) -> None:
    world, wanted = behind_a_switch()
    suspects = planner.suspects(wanted, world.documents(), intent)
    assert waited(wanted, world.documents(), intent) == (("node1",), (), ("node1", "node2", "node3"))
    assert suspects.asked == ("node1", "node2", "node3"), "one that is off is none of a crowd"
    assert suspects.to_switch_off([], True) == []
    plan = world.plan(wanted, **intent, fenced={"node1": SAID_ON})
    assert errors(plan) == [("node node1", "not-proven-dead")]
    assert "3 of 7 nodes are silent at once: look at the network first; -e fence=node1 " in plan.errors[0].remedy
    # Its device tells of a node that it is off: two of the other six are not too many.
    assert suspects.to_switch_off(["node2"], True) == ["node1"]
    plan = world.plan(wanted, **intent, fenced={"node1": SAID_ON, "node2": OFF["node1"]})
    assert [one.remedy for one in plan.errors] == ["its fence device says that it is on; -e fence=true switches it off"]


@pytest.mark.parametrize(
    ("given", "state"), [({"confirm_dead": "node2"}, "online"), ({}, "offline")], ids=["confirmed", "declared"]
)
def test_nodes_that_are_said_to_be_off_are_no_part_of_the_crowd(given: dict[str, Any], state: str) -> None:
    world, wanted = behind_a_switch(node2={"twofold_node_state": state})
    intent = {"verb": "failover", "instance": "across", **given}
    suspects = planner.suspects(wanted, world.documents(), intent)
    assert waited(wanted, world.documents(), intent) == (("node1",), (), ("node1", "node3"))
    assert "node2" not in suspects.in_use and suspects.to_switch_off([], True) == ["node1"]
    plan = world.plan(wanted, **intent, fenced={"node1": SAID_ON})
    assert plan.errors[0].remedy.endswith("-e fence=true switches it off")


def test_nodes_that_are_declared_offline_do_not_make_a_crowd_a_small_one() -> None:
    """Ten nodes, of which four are known to be off; the switch of three of the others breaks."""
    offline = {f"node{number}": {"twofold_node_state": "offline"} for number in (7, 8, 9, 10)}
    wanted = desired({"web1": instance(nodes=["node1", "node4"])}, 10)
    world = World(list(wanted.nodes))
    world.converge(wanted)
    for node in ("node1", "node2", "node3", *offline):
        world.power_off(node)
    wanted = desired({"web1": instance(nodes=["node1", "node4"])}, 10, **offline)
    suspects = planner.suspects(wanted, world.documents(), {"verb": "recover"})
    assert (suspects.silent, suspects.to_switch_off([], True)) == (("node1", "node2", "node3"), [])
    plan = recover(world, wanted, fenced={"node1": SAID_ON})
    assert "3 of 6 nodes are silent at once" in plan.errors[0].remedy


def split(world: World, *broken: str) -> dict[str, dict[str, Any] | None]:
    """What is said when node1's networks are cut, and node2's copies of some instances lack what was written last."""
    world.power_off("node1")
    for name in broken:
        world.nodes["node2"]["resources"][name]["volumes"][0]["disk"] = "Outdated"
    return world.documents()


@pytest.mark.parametrize(
    ("verb", "broken", "word", "off"),
    [
        ("recover", ("web1", "web2"), {}, []),
        ("failover", ("web1",), {}, []),
        ("recover", ("web1",), {}, ["node1"]),
        ("failover", ("web2",), {}, ["node1"]),
        ("recover", ("web1", "web2"), {"accept_stale": "web2"}, ["node1"]),
    ],
    ids=["nothing would start", "not this one", "one of two", "this one", "accepted"],
)
def test_what_nobody_could_take_over_from_is_left_on(
    verb: str, broken: tuple[str, ...], word: dict[str, Any], off: list[str]
) -> None:
    world, wanted = world_with(2)
    documents, intent = split(world, *broken), {"verb": verb, "instance": "web1", **word}
    suspects = planner.suspects(wanted, documents, intent)
    assert (suspects.dead, suspects.to_switch_off([], True)) == (("node1",), off)
    assert suspects.to_switch_off([], ["node1"]) == ["node1"], "by name it is the operator's business"
    assert suspects.asked == ("node1",), "if its device says that it is off, it goes on"
    assert list(suspects.in_vain) == ([] if off else ["node1"])
    for why in suspects.in_vain.values():
        assert "none of its guests could be started (instance web1: its copy on node2 may lack what was " in why
        said = {"node1": {**SAID_ON, "in_vain": why}}
        plan = planner.plan(wanted, documents, {**intent, "fenced": said})
        assert errors(plan) == [("node node1", "not-proven-dead")]
        assert why in plan.errors[0].remedy and "-e fence=node1 " in plan.errors[0].remedy


def test_no_device_is_asked_while_nothing_waits() -> None:
    world, wanted = world_with()
    world.power_off("node3")
    suspects = planner.suspects(wanted, world.documents(), {"verb": "recover"})
    assert (suspects.silent, suspects.asked) == (("node3",), ())


def test_who_is_switched_off_by_which_word() -> None:
    def of(nodes: int, *dead: str, alive: tuple[str, ...] = ()) -> planner.Suspects:
        in_use = tuple(f"node{number}" for number in range(1, nodes + 1))
        return planner.Suspects(dead, alive, (*dead, *alive), in_use)

    def two(nodes: int) -> planner.Suspects:
        return of(nodes, "node1", "node3", alive=("node4",))

    assert two(9).to_switch_off([], True) == ["node1", "node3"]
    assert two(9).to_switch_off([], False) == []
    assert two(8).to_switch_off([], True) == [], "three of eight are more than a third, also if one of them lives"
    assert two(8).to_switch_off(["node3"], True) == ["node1"]
    assert two(6).to_switch_off(["node3"], True) == [], "who is off is none of the others"
    assert two(4).to_switch_off([], ["node3"]) == ["node3"]
    assert two(4).to_switch_off(["node3"], ["node3", "node4", "node5"]) == []
    assert of(2, "node1").to_switch_off([], True) == ["node1"], "one is the ordinary case"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (True, True), ("true", True), ("yes", True), (False, False), ("False", False), ("", False), (None, False),
        ("node1, node2", ["node1", "node2"]), (["node1"], ["node1"]),
    ],
)  # fmt: skip
def test_what_an_operator_says_of_switching_off(said: Any, meant: Any) -> None:
    assert planner.wish(said) == meant


def test_a_misspelt_node_proves_nothing() -> None:
    world, wanted = world_with()
    world.power_off("node1")
    plan = recover(world, wanted, confirm_dead="node11")
    assert errors(plan) == [("node node11", "unknown-node")]


def test_all_primaries_of_a_dead_node_in_one_call_by_priority() -> None:
    wanted = desired({
        f"web{i}": instance(**PAIR, memory="64MiB", priority=priority)
        for i, priority in enumerate((50, 10, 90, 50), start=1)
    })  # fmt: skip
    world = World(list(wanted.nodes))
    world.converge(wanted)
    world.power_off("node1")
    plan = recover(world, wanted, confirm_dead="node1")
    starts = [step.instance for step in plan.steps if step.op == "domain.start"]
    assert (starts, plan.waves, plan.nodes) == (["web3", "web1", "web4", "web2"], 1, ["node2"])
    world.apply(plan, wanted)


def test_what_does_not_fit_is_named_and_the_rest_goes_on() -> None:
    wanted = desired({
        "web1": instance(**PAIR, memory="2GiB"),
        "web2": instance(**PAIR, memory="1GiB", priority=90),
    })  # fmt: skip
    world = World(list(wanted.nodes))
    world.converge(wanted)
    world.nodes["node2"]["memory"]["total"] = (2 << 30) + (512 << 20)
    world.power_off("node1")
    plan = recover(world, wanted, confirm_dead="node1")
    assert errors(plan) == [("instance web1", "target-does-not-fit")]
    assert {step.instance for step in plan.steps} == {"web2"}
    assert "1GiB memory free, 2GiB needed; by twofold_priority these start there first: web2" in plan.errors[0].message


def test_what_a_recovery_leaves_unprotected_is_warned_of_and_stops_nothing() -> None:
    wanted = desired({
        "web1": instance(**PAIR, memory="1GiB"),
        "web2": instance(nodes=["node3", "node2"], memory="1GiB"),
        "web3": instance(nodes=["node3", "node2"], memory="2GiB"),
    })  # fmt: skip
    world = World(list(wanted.nodes))
    world.converge(wanted)
    # web3 alone has been too much before, web2 becomes so.
    world.nodes["node2"]["memory"]["total"] = (2 << 30) + (256 << 20)
    world.power_off("node1")
    plan = recover(world, wanted, confirm_dead="node1")
    assert ([step.op for step in plan.steps], plan.errors) == (TAKEN, [])
    (found,) = (one for one in plan.findings if one.code == "loss-not-absorbed")
    assert (found.severity, found.object) == ("warning", "node node3")
    assert found.message.startswith("after this its loss could not be absorbed: web2 would not run again; web2: node2 ")
    world.apply(plan, wanted)
    assert "loss-not-absorbed" not in {one.code for one in recover(world, wanted, confirm_dead="node1").findings}


def test_a_recovery_that_leaves_room_for_another_loss_warns_of_nothing() -> None:
    world, wanted = spread(3)
    world.power_off("node1")
    plan = recover(world, wanted, confirm_dead="node1")
    assert "loss-not-absorbed" not in {one.code for one in plan.findings}


def test_a_node_starts_so_many_guests_at_once() -> None:
    wanted = desired({f"web{i}": instance(**PAIR, memory="64MiB") for i in range(1, 6)})
    cluster = wanted.cluster.model_copy(update={"starts_at_once": 2, "start_delay": 7, "vcpu_ratio": 8.0})
    wanted = Desired(cluster, wanted.nodes, wanted.instances)
    world = World(list(wanted.nodes))
    world.converge(wanted)
    world.power_off("node1")
    plan = recover(world, wanted, confirm_dead="node1")
    delays = [step.args.get("delay") for step in plan.steps if step.op == "domain.start"]
    assert delays == [None, None, 7, None, 7]


def test_a_copy_that_is_not_complete_does_not_take_over() -> None:
    world, wanted = world_with()
    world.nodes["node2"]["resources"]["web1"]["volumes"][0]["disk"] = "Inconsistent"
    world.power_off("node1")
    plan = recover(world, wanted, confirm_dead="node1")
    assert (plan.steps, errors(plan)) == ((), [("instance web1", "disk-not-up-to-date")])


@pytest.mark.parametrize("disk", ["Outdated", "Consistent"])
def test_a_copy_that_lacks_the_last_changes_is_taken_when_that_is_accepted(disk: str) -> None:
    world, wanted = world_with()
    world.nodes["node2"]["resources"]["web1"]["volumes"][0]["disk"] = disk
    world.power_off("node1")
    refused = recover(world, wanted, confirm_dead="node1")
    assert (refused.steps, errors(refused)) == ((), [("instance web1", "disk-not-up-to-date")])
    assert "-e accept_stale=web1" in refused.errors[0].remedy
    plan = recover(world, wanted, confirm_dead="node1", accept_stale="web1")
    taken = plan.steps[0]
    assert taken.op == "replication.take_over" and taken.args["stale"] and "given up" in (taken.risk or "")
    world.nodes["node2"]["resources"]["web1"]["volumes"][0]["disk"] = "Inconsistent"
    assert not recover(world, wanted, confirm_dead="node1", accept_stale="web1").steps


def test_a_copy_that_was_just_filled_is_taken_over_and_its_mark_goes() -> None:
    world, wanted = world_with()
    for volume in world.nodes["node2"]["volumes"]:
        volume["tags"].append("twofold.pending=sync")
    world.power_off("node1")
    plan = recover(world, wanted, confirm_dead="node1")
    assert [step.op for step in plan.steps] == TAKEN
    world.apply(plan, wanted)
    assert world.nodes["node2"]["domains"]["web1"]["state"] == "running"


def test_a_copy_that_was_just_filled_is_looked_at_before_the_guest_stops_and_its_mark_goes() -> None:
    """Both nodes answer; the run that filled the copy was killed before it took the mark off."""
    world, wanted = world_with()
    tagged = [one for one in world.nodes["node2"]["volumes"] if one["name"] == "web1-disk0"]
    tagged[0]["tags"].append("twofold.pending=sync")
    plan = world.plan(wanted, verb="failover", instance="web1")
    assert not plan.errors
    order = [(step.node, step.op) for step in sorted(plan.steps, key=lambda step: step.wave)]
    assert order[:2] == [("node2", "replication.wait"), ("node1", "domain.stop")]
    world.apply(plan, wanted)
    assert world.nodes["node2"]["domains"]["web1"]["state"] == "running"
    assert "twofold.pending=sync" not in tagged[0]["tags"]


def test_a_copy_of_a_creation_that_had_not_ended_is_not_taken_over() -> None:
    world, wanted = world_with()
    world.nodes["node2"]["volumes"][0]["tags"].append("twofold.pending=wipe")
    world.power_off("node1")
    assert errors(recover(world, wanted, confirm_dead="node1")) == [("instance web1", "not-created")]


def test_after_an_outage_of_all_the_primary_starts_without_its_peer_with_a_proof() -> None:
    world, wanted = world_with()
    for node in ("node1", "node2"):
        world.power_off(node)
    world.power_on("node1")
    assert errors(recover(world, wanted)) == [("node node2", "not-proven-dead")]
    plan = recover(world, wanted, confirm_dead="node2")
    assert [step.op for step in plan.steps] == ["replication.take_over", "definition.write", "domain.start"]
    world.apply(plan, wanted)


def test_a_resource_that_is_down_is_taken_when_that_is_accepted() -> None:
    """Its peer may have gone on without it for long."""
    world, wanted = world_with()
    world.nodes["node2"]["resources"]["web1"]["role"] = None
    world.power_off("node1")
    refused = recover(world, wanted, confirm_dead="node1")
    assert (refused.steps, errors(refused)) == ((), [("instance web1", "disk-not-up-to-date")])
    assert "-e accept_stale=web1" in refused.errors[0].remedy
    plan = recover(world, wanted, confirm_dead="node1", accept_stale="web1")
    assert [step.op for step in plan.steps] == ["replication.configure", *TAKEN]


def test_several_copies_in_doubt_are_accepted_with_one_command() -> None:
    world, wanted = world_with(count=3)
    for name in ("web1", "web3"):
        world.nodes["node2"]["resources"][name]["volumes"][0]["disk"] = "Outdated"
    world.power_off("node1")
    plan = recover(world, wanted, confirm_dead="node1")
    (found,) = (one for one in plan.findings if one.code == "stale-copies")
    assert (found.object, found.severity) == ("cluster", "info")
    assert found.remedy.startswith("-e accept_stale=web1,web3 ")
    assert {step.instance for step in plan.steps} == {"web2"}


def test_a_seed_that_is_missing_is_written_again() -> None:
    world, wanted = world_with()
    del world.nodes["node2"]["seeds"]["web1"]
    world.power_off("node1")
    plan = recover(world, wanted, confirm_dead="node1")
    assert [step.op for step in plan.steps] == ["seed.write", *TAKEN]
    world.apply(plan, wanted)


OTHER = desired({"web1": instance(**PAIR, user_data={"packages": ["git"]})})
BARE = {"twofold_networks": {"bare": {"bridge": "br-lan"}}}
WITHOUT_ITS_NETWORK = desired({"web1": instance(**PAIR, nics=[])}, cluster=BARE)
WRONG_VARIABLES = Desired(OTHER.cluster, OTHER.nodes, {}, frozenset({"web1"}))
ANOTHER = "the inventory describes another one"


@pytest.mark.parametrize(
    ("wanted", "intent", "said"),
    [
        (OTHER, {"verb": "failover", "confirm_dead": "node1"}, ANOTHER),
        (OTHER, {"verb": "recover", "confirm_dead": "node1"}, ANOTHER),
        (OTHER, {"verb": "failover"}, ANOTHER),
        (WITHOUT_ITS_NETWORK, {"verb": "recover", "confirm_dead": "node1"}, ANOTHER),
        (WITHOUT_ITS_NETWORK, {"verb": "failover"}, ANOTHER),
        (WRONG_VARIABLES, {"verb": "recover", "confirm_dead": "node1"}, "its variables in the inventory are wrong"),
    ],
)
def test_a_seed_that_cannot_be_made_as_it_was_is_named(wanted: Desired, intent: dict[str, Any], said: str) -> None:
    world, before = world_with()
    del world.nodes["node2"]["seeds"]["web1"]
    if "confirm_dead" in intent:
        world.power_off("node1")
    plan = world.plan(wanted, instance="web1", **intent)
    (found,) = plan.errors
    assert (plan.steps, found.code, found.object) == ((), "seed-missing", "instance web1")
    assert found.message == f"its seed is not on node2, and {said}"
    assert found.remedy.endswith("then run this again")
    # The remedy is one: with the inventory as it was the same goes on.
    world.apply(world.plan(before, instance="web1", **intent), before)
    assert world.nodes["node2"]["domains"]["web1"]["state"] == "running"


def test_recovery_leaves_alone_what_runs_and_what_should_not() -> None:
    wanted = desired({
        "here": instance(nodes=["node2", "node1"]),
        "off": instance(nodes=["node1", "node2"], state="stopped"),
        "plain": instance(nodes=["node1"], disk_template="plain"),
    })  # fmt: skip
    world = World(list(wanted.nodes))
    world.converge(wanted)
    world.power_off("node1")
    plan = recover(world, wanted, confirm_dead="node1")
    assert (plan.steps, plan.errors) == ((), [])
    assert [(f.object, f.code) for f in plan.findings if f.code == "no-copy"] == [("instance plain", "no-copy")]


def test_recovery_needs_no_right_variables_of_the_instance() -> None:
    world, wanted = world_with()
    world.power_off("node1")
    broken = Desired(wanted.cluster, wanted.nodes, {}, frozenset({"web1"}))
    assert [step.op for step in recover(world, broken, confirm_dead="node1").steps] == TAKEN
    forgotten = Desired(wanted.cluster, wanted.nodes, {})
    plan = recover(world, forgotten, confirm_dead="node1")
    assert not plan.steps and "not-in-inventory" in {finding.code for finding in plan.findings}


# Inside the window of a replacement


def in_the_window() -> tuple[World, Desired]:
    """The second copy is on its way from node2 to node3, which is not filled yet, and node1 is lost."""
    world, wanted = world_with()
    plan = world.plan(wanted, verb="replace_disks", instance="web1", new_secondary="node3")
    order = [step.op for step in sorted(plan.steps, key=lambda step: step.wave)]
    world.apply(plan, wanted, limit=order.index("replication.wait"))
    for volume in world.nodes["node3"]["resources"]["web1"]["volumes"]:
        volume["disk"] = "Inconsistent"
    world.nodes["node2"]["resources"]["web1"]["volumes"][0]["disk"] = "Outdated"
    world.power_off("node1")
    return world, wanted


@pytest.mark.parametrize("verb", ["failover", "recover"])
def test_the_copy_from_before_a_replacement_is_named_but_not_used_without_a_word(verb: str) -> None:
    world, wanted = in_the_window()
    plan = world.plan(wanted, verb=verb, instance="web1", confirm_dead="node1")
    assert (plan.steps, errors(plan)) == ((), [("instance web1", "disk-not-up-to-date")])
    assert "-e accept_stale=web1 goes on with the copy on node2" in str(plan.errors[0].remedy)


@pytest.mark.parametrize("verb", ["failover", "recover"])
def test_with_a_word_the_copy_from_before_a_replacement_goes_on(verb: str) -> None:
    world, wanted = in_the_window()
    plan = world.plan(wanted, verb=verb, instance="web1", confirm_dead="node1", accept_stale="web1")
    assert not plan.errors
    assert ops(plan, "node3") == ["replication.remove", "seed.remove", "definition.remove", "volumes.remove"]
    assert ops(plan, "node2") == [TAKEN[0], "replication.configure", *TAKEN[1:]]
    taken = next(step for step in plan.steps if step.op == "replication.take_over")
    assert taken.args["stale"] and "since the replacement of this copy began is given up" in str(taken.risk)
    assert taken.needs == ("web1/volumes.remove@node3",), "the dead node finds nobody when it comes back"
    world.apply(plan, wanted)
    assert world.nodes["node2"]["domains"]["web1"]["state"] == "running"
    document = world.nodes["node2"]["definitions"]["web1"]
    assert (document["nodes"], document["took_over"]) == (["node2", "node1"], "node1")
    assert document["generation"] > world.nodes["node1"]["definitions"]["web1"]["generation"]


def test_without_a_proof_the_copy_from_before_a_replacement_stays_where_it_is() -> None:
    world, wanted = in_the_window()
    plan = recover(world, wanted, accept_stale="web1")
    assert (plan.steps, errors(plan)) == ((), [("node node1", "not-proven-dead")])


# The same inside the window of fresh disks on the node that survives


def fresh_in_the_window(on: str, limit: int | None = None) -> tuple[World, Desired, str, str]:
    """A node's disks are set aside and the fresh ones are not filled; its peer, which has all, is lost."""
    world, wanted = world_with()
    node, peer = ("node1", "node2") if on == "primary" else ("node2", "node1")
    plan = world.plan(wanted, verb="replace_disks", instance="web1", on=on)
    order = [step.op for step in sorted(plan.steps, key=lambda step: step.wave)]
    world.apply(plan, wanted, limit=order.index("replication.wait") if limit is None else limit)
    world.power_off(peer)
    return world, wanted, node, peer


@pytest.mark.parametrize("on", ["primary", "secondary"])
@pytest.mark.parametrize("verb", ["failover", "recover"])
def test_volumes_that_were_set_aside_are_named_but_not_used_without_a_word(verb: str, on: str) -> None:
    world, wanted, node, peer = fresh_in_the_window(on)
    plan = world.plan(wanted, verb=verb, instance="web1", confirm_dead=peer)
    assert (plan.steps, errors(plan)) == ((), [("instance web1", "disk-not-up-to-date")])
    assert f"-e accept_stale=web1 goes on with the copy on {node}" in str(plan.errors[0].remedy)
    unproven = world.plan(wanted, verb=verb, instance="web1", accept_stale="web1")
    assert (unproven.steps, errors(unproven)) == ((), [(f"node {peer}", "not-proven-dead")])


@pytest.mark.parametrize("on", ["primary", "secondary"])
@pytest.mark.parametrize("verb", ["failover", "recover"])
def test_with_a_word_the_volumes_that_were_set_aside_go_on(verb: str, on: str) -> None:
    world, wanted, node, peer = fresh_in_the_window(on)
    old = [v for v in world.nodes[node]["volumes"] if v["name"] == "web1-disk0-old"]
    plan = world.plan(wanted, verb=verb, instance="web1", confirm_dead=peer, accept_stale="web1")
    assert not plan.errors
    stop = ["domain.stop", "replication.demote"] if on == "primary" else []
    define = [] if on == "primary" else ["domain.define"]
    back = ["replication.remove", "volumes.put_back", "volumes.create", "replication.configure"]
    assert ops(plan, node) == [*stop, *back, "replication.take_over", *define, "definition.write", "domain.start"]
    taken = next(step for step in plan.steps if step.op == "replication.take_over")
    assert taken.args["stale"] and "since the replacement of this copy began is given up" in str(taken.risk)
    world.apply(plan, wanted)
    doc = world.nodes[node]
    assert doc["domains"]["web1"]["state"] == "running" and doc["definitions"]["web1"]["took_over"] == peer
    assert sorted(v["name"] for v in doc["volumes"]) == ["web1-disk0", "web1-disk0-meta"]
    assert next(v for v in doc["volumes"] if v["name"] == "web1-disk0") is old[0]
    assert not any("pending" in tag or "former" in tag for v in doc["volumes"] for tag in v["tags"])
    assert doc["definitions"]["web1"]["generation"] > world.nodes[peer]["definitions"]["web1"]["generation"]


@pytest.mark.parametrize("on", ["primary", "secondary"])
@pytest.mark.parametrize("limit", range(10))
def test_a_recovery_with_volumes_that_were_set_aside_goes_on_where_it_was_killed(limit: int, on: str) -> None:
    world, wanted, node, peer = fresh_in_the_window(on)
    words = {"confirm_dead": peer, "accept_stale": "web1"}
    world.apply(recover(world, wanted, **words), wanted, limit=limit)
    if ops(recover(world, wanted, **words), node)[:2] == ["replication.configure", "replication.take_over"]:
        # Where DRBD was taken away and nothing else was done yet, it is asked first whether the fresh copy is whole.
        with pytest.raises(Refused, match="not up to date"):
            world.apply(recover(world, wanted, **words), wanted)
    elif not any(one["role"] == "Primary" for one in world.nodes[node]["resources"].values()):
        assert "accept_stale" in str(recover(world, wanted, confirm_dead=peer).errors[0].remedy)
    again = recover(world, wanted, **words)
    assert not again.errors
    world.apply(again, wanted)
    assert world.nodes[node]["domains"]["web1"]["state"] == "running"
    names = [v["name"] for v in world.nodes[node]["volumes"]]
    assert sorted(names) == ["web1-disk0", "web1-disk0-meta"]


@pytest.mark.parametrize("limit", range(2, 5))
def test_a_replacement_killed_after_the_volumes_were_set_aside_does_not_need_its_peer(limit: int) -> None:
    world, wanted, node, peer = fresh_in_the_window("secondary", limit)
    assert "accept_stale=web1" in str(recover(world, wanted, confirm_dead=peer).errors[0].remedy)
    world.apply(recover(world, wanted, confirm_dead=peer, accept_stale="web1"), wanted)
    assert world.nodes[node]["domains"]["web1"]["state"] == "running"


def test_a_fresh_copy_that_was_filled_goes_on_and_not_what_was_set_aside() -> None:
    world, wanted, node, peer = fresh_in_the_window("secondary")
    for volume in world.nodes[node]["resources"]["web1"]["volumes"]:
        volume["disk"] = "UpToDate"
    plan = recover(world, wanted, confirm_dead=peer, accept_stale="web1")
    assert ops(plan, node) == TAKEN
    world.apply(plan, wanted)
    assert "web1-disk0-old" in [v["name"] for v in world.nodes[node]["volumes"]], "converge removes it once both are"


@pytest.mark.parametrize("limit", range(5))
def test_a_peer_that_comes_back_instead_fills_what_was_put_back(limit: int) -> None:
    world, wanted, node, peer = fresh_in_the_window("secondary")
    world.apply(recover(world, wanted, confirm_dead=peer, accept_stale="web1"), wanted, limit=limit)
    world.power_on(peer)
    for _round in range(3):
        world.converge(wanted)
        world.resync()
    assert world.data_copies("web1") == ["node1", "node2"] and not world.plan(wanted).steps
    names = [v["name"] for v in world.nodes[node]["volumes"]]
    assert sorted(names) == ["web1-disk0", "web1-disk0-meta"]
    assert not any("pending" in tag or "former" in tag for v in world.nodes[node]["volumes"] for tag in v["tags"])


def test_disks_that_were_set_aside_at_different_moments_do_not_go_on_together() -> None:
    """One of two was set aside; the other was attached again, and has gone on with the peer."""
    world, wanted = world_with(disks=[{"size": "1GiB"}, {"size": "1GiB"}])
    for volume in world.nodes["node2"]["volumes"]:
        if volume["name"].startswith("web1-disk0"):
            volume["name"] += "-old"
    world.nodes["node2"]["resources"]["web1"]["volumes"][0]["disk"] = "Diskless"
    world.power_off("node1")
    world.nodes["node2"]["resources"]["web1"]["role"] = "Secondary"
    plan = recover(world, wanted, confirm_dead="node1", accept_stale="web1")
    assert (plan.steps, errors(plan)) == ((), [("instance web1", "disk-not-up-to-date")])
    world.nodes["node2"]["resources"]["web1"]["volumes"][1]["disk"] = "Diskless"
    assert not recover(world, wanted, confirm_dead="node1", accept_stale="web1").errors


# Both nodes answer


def test_failover_stops_here_and_starts_there() -> None:
    world, wanted = world_with()
    for source, target in (("node1", "node2"), ("node2", "node1")):
        plan = failover(world, wanted)
        assert ops(plan, source) == ["domain.stop", "replication.demote", "domain.undefine", "definition.write"]
        assert ops(plan, target) == ["replication.promote", "domain.define", "definition.write", "domain.start"]
        assert (plan.waves, plan.errors) == (3, [])
        world.apply(plan, wanted)
        assert list(world.nodes[target]["domains"]) == ["web1"] and not world.nodes[source]["domains"]
        assert not world.plan(wanted).steps


def test_failover_of_a_stopped_instance_moves_it_without_starting_it() -> None:
    world, wanted = world_with(state="stopped")
    plan = failover(world, wanted)
    world.apply(plan, wanted)
    assert world.nodes["node2"]["domains"]["web1"]["state"] == "shutoff"
    assert not world.plan(wanted).steps


@pytest.mark.parametrize("limit", range(9))
def test_a_failover_killed_anywhere_is_cleared_up_by_the_next_run(limit: int) -> None:
    world, wanted = world_with()
    world.apply(failover(world, wanted), wanted, limit)
    assert not world.converge(wanted).errors
    assert not world.plan(wanted).steps
    running = [node for node, doc in world.nodes.items() if doc["domains"].get("web1", {}).get("state") == "running"]
    assert len(running) == 1


def _disconnect(world: World) -> None:
    world.nodes["node2"]["resources"]["web1"]["role"] = None


def _no_memory(world: World) -> None:
    world.nodes["node2"]["memory"]["total"] = 512 << 20


def _secondary_gone(world: World) -> None:
    world.power_off("node2")


def _both_gone(world: World) -> None:
    world.power_off("node1")
    world.power_off("node2")


def _left_on(world: World) -> None:
    world.nodes["node1"]["resources"]["web1"]["allow_two_primaries"] = True


def _no_kvm(world: World) -> None:
    world.nodes["node2"]["kvm"] = False


def _nothing(world: World) -> None:
    pass


@pytest.mark.parametrize(
    ("hurt", "target", "code"),
    [
        (_no_kvm, None, "target-does-not-fit"),
        (_disconnect, None, "not-replicated"),
        (_no_memory, None, "target-does-not-fit"),
        (_secondary_gone, "node2", "node-unknown"),
        (_both_gone, None, "no-copy"),
        (_left_on, None, "not-settled"),
        (_nothing, "node3", "target-without-disk"),
    ],
)
def test_what_cannot_fail_over_is_refused(hurt: Callable[[World], None], target: str | None, code: str) -> None:
    world, wanted = world_with()
    hurt(world)
    plan = failover(world, wanted, target=target)
    assert (plan.steps, [finding.code for finding in plan.errors]) == ((), [code])
    assert plan.errors[0].remedy


@pytest.mark.parametrize("dead", [False, True])
def test_a_guest_does_not_fail_over_to_where_it_cannot_start(dead: bool) -> None:
    world, wanted = world_with()
    _no_kvm(world)
    if dead:
        world.power_off("node1")
    plan = failover(world, wanted, **({"confirm_dead": "node1"} if dead else {}))
    (found,) = plan.errors
    assert not plan.steps, "it is not stopped either"
    assert "it cannot run on node2: no /dev/kvm (switch virtualization on in the firmware, or" in found.message


def test_the_guest_starts_with_the_xml_that_it_has() -> None:
    """A wish that no run has carried out yet neither keeps it from a node nor brings it to one."""
    world, wanted = world_with(virtualization="qemu")
    _no_kvm(world)
    kvm = desired({"web1": instance(**PAIR)})
    assert not failover(world, wanted).errors and not failover(world, kvm).errors
    world, _wanted = world_with()
    _no_kvm(world)
    assert errors(failover(world, wanted)) == [("instance web1", "target-does-not-fit")]


def test_a_node_that_answers_in_part_is_not_dead() -> None:
    world, wanted = world_with()
    documents = world.documents()
    assert documents["node1"] is not None
    documents["node1"]["domains"] = None
    for verb in ("failover", "recover"):
        plan = planner.plan(wanted, documents, {"verb": verb, "instance": "web1"})
        (found,) = [one for one in plan.errors if "guests may run there" in one.message]
        assert not plan.steps and (found.object, found.code) == ("node node1", "node-incomplete")
        assert "could not tell its domains" in found.message
        assert "switch it off with fence.yml -e node=node1 -e power=off -e force=true; then run this" in found.remedy


@pytest.mark.parametrize("verb", ["failover", "recover"])
@pytest.mark.parametrize("proof", [{}, {"confirm_dead": "node1"}, {"fenced": OFF}])
def test_a_node_that_was_reached_and_could_not_be_asked_is_not_dead(verb: str, proof: dict[str, Any]) -> None:
    world, wanted = world_with()
    documents = {**world.documents(), "node1": not_told("No space left on device")}
    intent = {"verb": verb, "instance": "web1", **proof}
    plan = planner.plan(wanted, documents, intent)
    assert not plan.steps and "No space left on device" in " ".join(one.message for one in plan.findings)
    assert {target for target, _code in errors(plan)} == {"node node1"}
    alive = [one for one in plan.errors if one.code == "node-alive"]
    assert bool(alive) == bool(proof)
    for one in alive:
        assert "answers, but could not tell its hostname, " in one.message
        assert "fence.yml -e node=node1 -e power=off -e force=true" in one.remedy
    assert planner.suspects(wanted, documents, intent) == planner.Suspects(), "nobody takes its power"
    # It is no part of a crowd either.
    documents["node3"] = None
    assert planner.suspects(wanted, documents, intent).silent == ("node3",)


@pytest.mark.parametrize(("template", "disks"), [("plain", [{"size": "64MiB"}]), ("diskless", [])])
def test_without_a_second_copy_there_is_no_failover(template: str, disks: list[dict[str, str]]) -> None:
    wanted = desired({"web1": instance(disk_template=template, nodes=["node1"], disks=disks)})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    assert errors(failover(world, wanted)) == [("instance web1", "no-second-copy")]


def test_an_instance_that_is_not_in_the_inventory() -> None:
    world, wanted = world_with()
    plan = world.plan(wanted, verb="failover", instance="web9")
    assert errors(plan) == [("instance web9", "unknown-instance")]


def test_already_there_is_no_error() -> None:
    world, wanted = world_with()
    plan = failover(world, wanted, target="node1")
    assert (plan.steps, [finding.code for finding in plan.findings]) == ((), ["already-there"])
