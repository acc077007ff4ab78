# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans and status as text, Markdown and documents."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import World

from twofold import planner, report
from twofold.errors import DocumentError
from twofold.model import Desired

GIVEN = {"web1": instance(os="debian-13", nodes=["node1", "node2"]), "web2": instance(disk_template="plain")}
WANTED = desired(GIVEN)


def fresh() -> World:
    return World(list(WANTED.nodes))


def running() -> World:
    world = fresh()
    world.converge(WANTED)
    return world


@pytest.mark.parametrize("color", [False, True])
def test_a_plan_as_text(color: bool) -> None:
    text = report.plan_text(fresh().plan(WANTED), 100, color)
    assert ("\x1b[" in text) == color
    plain = report.plan_text(fresh().plan(WANTED), 100, False)
    assert all(len(line) <= 100 for line in plain.splitlines())
    for expected in (
        "+ web1: create on node1, node2",
        "volumes.create",
        "5 waves on node1, node2, node3",
        "image.fetch",
    ):
        assert expected in plain


def test_a_plan_with_risks_and_findings() -> None:
    world = running()
    gone = desired({"web1": instance(state="absent", nodes=["node1", "node2"])})
    plan = world.plan(gone)
    text, markdown = report.plan_text(plan, 140, False), report.plan_markdown(plan)
    for shown in (text, markdown):
        assert "DESTROY" in shown and "all data of the instance is lost" in shown and "not in the inventory" in shown
    assert plan.fingerprint[:16] in markdown


def test_steps_of_an_instance_with_two_changes_are_shown_once() -> None:
    """It leaves a node with its primary and its second copy: it is migrated, and its disks are replaced."""
    wanted = desired({"web1": GIVEN["web1"]})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    plan = world.plan(wanted, verb="evacuate", node="node1", mode="both")
    assert [change.change for change in plan.summary] == ["migrate", "replace disks"]
    for shown in (report.plan_text(plan, 160, False), report.plan_markdown(plan)):
        assert f"1 instance, {len(plan.steps)} steps" in shown
        assert "migrate on node1, node2" in shown and "replace disks on node2, node3, node1" in shown
        assert shown.count("domain.migrate") == 1
        assert all(shown.count(op) == sum(step.op == op for step in plan.steps) for op in {s.op for s in plan.steps})


def test_markdown_does_not_break_on_what_it_shows() -> None:
    plan = fresh().plan(WANTED)
    step = plan.steps[0]
    odd = plan.with_(steps=(planner.Step(**{**step.__dict__, "why": "a|b *c*\nd"}), *plan.steps[1:]))
    assert "a\\|b \\*c\\* d" in report.plan_markdown(odd)


def test_nothing_to_do() -> None:
    assert report.plan_text(running().plan(WANTED), 80, False) == "Nothing to do.\n"


def test_a_plan_goes_through_json_unchanged() -> None:
    plan = fresh().plan(WANTED)
    assert planner.Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    for damaged in ({}, {"format": 2}, {**plan.to_json(), "steps": [{}]}):
        with pytest.raises(DocumentError):
            planner.Plan.from_json(damaged)


def test_the_status_of_a_healthy_cluster() -> None:
    world = running()
    document = report.status_document(WANTED, world.documents())
    json.dumps(document)
    web1 = next(found for found in document["instances"] if found["name"] == "web1")
    assert (web1["state"], web1["primary"], web1["secondary"]) == ("running", "node1", "node2")
    assert web1["addresses"] == ["203.0.113.2"] and web1["replication"]["disk"] == "UpToDate"
    assert document["findings"] == []
    text = report.status_text(document, 140, False)
    for expected in ("3 nodes, 2 instances, 2 running", "in sync", "203.0.113.2", "Nothing is wrong."):
        assert expected in text


def test_the_status_of_a_sick_one() -> None:
    world = running()
    world.down = {"node2"}
    world.nodes["node3"]["domains"] = None
    document = report.status_document(WANTED, world.documents())
    states = {node["name"]: node["state"] for node in document["nodes"]}
    assert states == {"node1": "up", "node2": "unknown", "node3": "incomplete"}
    text = report.status_text(document, 140, False)
    assert "Connecting" in text and "nothing is known of it" in text and "-> " in text


def test_the_status_before_anything_exists_and_of_strangers() -> None:
    document = report.status_document(WANTED, fresh().documents())
    assert {found["state"] for found in document["instances"]} == {"not created"}
    document = report.status_document(desired({}), running().documents())
    assert {(found["name"], found["wanted"]) for found in document["instances"]} == {("web1", None), ("web2", None)}


CHANGES: dict[str, Any] = {
    "instance web1": lambda world: world.nodes["node1"]["definitions"].clear(),
    "node node2": lambda world: world.nodes["node2"].update(hostname="other"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_saved_plan_is_refused_after_the_world_changed(name: str) -> None:
    world = running()
    bigger = desired({**GIVEN, "web1": {**GIVEN["web1"], "twofold_memory": "512MiB"}})
    plan = world.plan(bigger)
    assert planner.check_saved(plan, bigger, world.documents()) == []
    CHANGES[name](world)
    (finding,) = planner.check_saved(plan, bigger, world.documents())
    assert (finding.code, finding.object, finding.severity) == ("plan-outdated", name, "error")


def test_a_saved_plan_is_refused_after_the_inventory_changed_or_the_plan_was_edited() -> None:
    world = running()
    bigger = desired({**GIVEN, "web1": {**GIVEN["web1"], "twofold_memory": "512MiB"}})
    plan = world.plan(bigger)
    assert [f.object for f in planner.check_saved(plan, WANTED, world.documents())] == ["instance web1"]
    edited = plan.with_(steps=plan.steps[1:])
    assert [f.code for f in planner.check_saved(edited, bigger, world.documents())] == ["plan-damaged"]


def test_a_saved_plan_does_not_mind_what_does_not_matter() -> None:
    world = running()
    bigger = desired({**GIVEN, "web1": {**GIVEN["web1"], "twofold_memory": "512MiB"}})
    plan = world.plan(bigger)
    world.nodes["node1"].update(load=9.0, uptime=1e6, memory={"total": 4 << 30, "available": 1})
    world.nodes["node3"]["hostname"] = "other"
    assert planner.check_saved(plan, bigger, world.documents()) == []


BRINGS: dict[str, dict[str, Any]] = {
    "started": {"verb": "converge"},
    "migrated": {"verb": "migrate", "instance": "web3", "target": "node2"},
    "migrated with its disks": {"verb": "migrate", "instance": "web4", "target": "node2"},
    "moved by an evacuation": {"verb": "evacuate", "node": "node1", "mode": "primaries"},
}


def crowded() -> tuple[World, Desired]:
    """What could come to node2: web3 and web4 from node1, web5 from node3, and web6, which is new."""
    plain = {"disk_template": "plain", "memory": "1GiB"}
    given = {
        "web3": instance(nodes=["node1", "node2"]),
        "web4": instance(nodes=["node1"], **plain),
        "web5": instance(nodes=["node3"], **plain),
    }
    world = World(["node1", "node2", "node3"])
    world.converge(desired(given))
    return world, desired({**given, "web6": instance(nodes=["node2", "node1"])})


@pytest.mark.parametrize("intent", BRINGS.values(), ids=BRINGS)
def test_the_memory_of_a_node_is_not_promised_by_two_plans(intent: dict[str, Any]) -> None:
    world, wanted = crowded()
    plan = world.plan(wanted, **intent)
    assert plan.steps and planner.check_saved(plan, wanted, world.documents()) == []
    world.nodes["node2"].update(memory={"total": 4 << 30, "available": 1})
    assert planner.check_saved(plan, wanted, world.documents()) == [], "what is free changes every second"
    world.apply(world.plan(wanted, verb="migrate", instance="web5", target="node2"), wanted)
    (finding,) = planner.check_saved(plan, wanted, world.documents())
    assert (finding.code, finding.object) == ("plan-outdated", "node node2") and "memory" in finding.message


@pytest.mark.parametrize("intent", list(BRINGS.values())[:3], ids=list(BRINGS)[:3])
def test_guests_may_come_and_go_where_a_saved_plan_brings_none(intent: dict[str, Any]) -> None:
    """It starts one on node2, whose second copy is on node1, or brings one from node1 to node2."""
    world, wanted = crowded()
    plan = world.plan(wanted, **intent)
    stranger = world.nodes["node3"]["domains"].pop("web5")
    world.nodes["node1"]["domains"]["stranger"] = stranger
    assert plan.steps and planner.check_saved(plan, wanted, world.documents()) == []
    world.nodes["node2"]["domains"]["stranger"] = stranger
    assert [one.object for one in planner.check_saved(plan, wanted, world.documents())] == ["node node2"]


STEPS = [
    {"id": f"web{number}/start@node1", "wave": 0, "node": "node1", "instance": f"web{number}", "op": "domain.start"}
    for number in (1, 2, 3)
]
LOCKED = {"status": "skipped", "message": "ann@desk works on this node", "remedy": "wait until it is done"}


def test_a_refused_step_has_its_remedy_below_and_each_remedy_stands_there_once() -> None:
    failed = {"status": "failed", "message": "it broke", "remedy": "mend it"}
    results = {"web1/start@node1": LOCKED, "web2/start@node1": failed, "web3/start@node1": LOCKED}
    text = report.run_text(STEPS, results, 160)
    assert text.count("wait until it is done") == 1 and text.count("mend it") == 1
    assert "web1/start@node1, web3/start@node1: wait until it is done" in text


def test_a_step_that_waited_for_another_in_vain_has_no_remedy_of_its_own() -> None:
    blocked = {"status": "skipped", "message": "it needs web1/start@node1, which failed", "remedy": None}
    text = report.run_text(STEPS[:2], {"web1/start@node1": LOCKED, "web2/start@node1": blocked}, 160)
    assert text.count("web2/start@node1") == 0


def test_a_node_that_gave_no_answer_is_to_be_looked_at() -> None:
    text = report.run_text(STEPS, {}, 160)
    assert text.count("not reached") == 3
    assert text.count("status.yml") == 1 and "run the same again" in text
