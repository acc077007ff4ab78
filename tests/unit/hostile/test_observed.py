# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""One node whose answer is damaged: it is said, and everything else is planned, verified and shown as ever."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.hostile.full import ALL, CLUSTERS, NOW, WANTED, Document, Documents

from twofold import planner, report, shape
from twofold.observed import NEEDED, Observed
from twofold.planner import Plan
from twofold.planner.api import VERBS

ROOT = Path(__file__).parents[3]
Place = tuple[str | int, ...]
DEEP: Any = {"a": [{"a": [{"a": [None]}]}]}
HOSTILE: list[Any] = [
    None, True, 3, -1, 2**80, 0.5, float("nan"), float("inf"), "x", "", "\ud800", "9" * 5000, [], ["x"], [None],
    [[]], {}, {"x": 3}, {"x": None}, {"x": {}}, {"": []}, DEEP,
]  # fmt: skip
OPTIONAL = sorted(set(shape.OBSERVED) - set(NEEDED))


@cache
def documents(cluster: str) -> Documents:
    return CLUSTERS[cluster][0]()


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """The way to every value."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def damaged(cluster: str, path: Place, new: Any) -> Documents:
    """The documents with another value at a place of node1's."""
    changed = copy.deepcopy(documents(cluster)["node1"])
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return {**documents(cluster), "node1": changed}


def look(found: Documents, intents: list[Document]) -> list[Plan]:
    """Plan, verify and show; everything that is found says what it is about and what is wrong."""
    plans = [planner.plan(WANTED, found, intent) for intent in intents]
    status = report.status_document(WANTED, found, NOW)
    report.status_text(status).encode()
    json.dumps(status, allow_nan=False)
    for plan in plans:
        json.dumps(plan.to_json(), allow_nan=False)
        report.plan_text(plan, 120, False).encode()
        report.plan_markdown(plan).encode()
    for finding in (*report.verify(WANTED, found, now=NOW), *(one for plan in plans for one in plan.findings)):
        assert finding.object and finding.message and isinstance(finding.remedy, str)
    return plans


def understood(found: Documents) -> str:
    """What is made of node1's document, but for the words about what cannot be understood."""
    view = Observed({"node1": found["node1"]}).views["node1"]
    assert view is not None
    told = {**view.document, "problems": len(view.problems)}
    return json.dumps({**told, "definitions": sorted(view.damaged)} if view.damaged else told, sort_keys=True)


def cases(cluster: str, paths: Iterable[Place]) -> list[tuple[Place, Any]]:
    """Every way to damage these places of node1's answer that makes a difference, once."""
    found: dict[str, tuple[Place, Any]] = {}
    for path in paths:
        for new in HOSTILE:
            found.setdefault(understood(damaged(cluster, path, new)), (path, new))
    return list(found.values())


def test_the_documents_have_all_that_a_node_can_tell() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    described = json.loads(re.findall(r"^```json\n(.*?)^```$", text, re.M | re.S)[0])
    document = documents("whole")["node1"]
    assert document is not None
    assert set(document) == set(described) == {"format", *shape.OBSERVED}
    for part in ("resources", "domains"):
        assert set(described[part]["web1"]) == set(document[part]["web1"])
    assert [shape.observed_part(part, document[part]) for part in shape.OBSERVED] == [None] * len(shape.OBSERVED)
    assert {intent["verb"] for intent in ALL} == set(VERBS)


def test_a_part_that_is_damaged_stops_nobody() -> None:
    """Each part as a whole, with the intents in turn."""
    for index, (path, new) in enumerate(cases("whole", [(part,) for part in documents("whole")["node1"] or ()])):
        attempt("whole", path, new, [ALL[index % len(ALL)]])


PLACES = {cluster: list(places(documents(cluster)["node1"])) for cluster in CLUSTERS}


@pytest.mark.parametrize("cluster", CLUSTERS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_place_that_is_damaged_stops_nobody(cluster: str, data: st.DataObject) -> None:
    path, new = data.draw(st.sampled_from(PLACES[cluster])), data.draw(st.sampled_from(HOSTILE))
    attempt(cluster, path, new, [data.draw(st.sampled_from(CLUSTERS[cluster][1]))])


def test_what_the_format_does_not_name_is_not_passed_on() -> None:
    """A lock has a format, and a node may say more than we know."""
    for path in (("lock", "format"), ("lock", "more"), ("volume_groups", "twofold", "more")):
        look(damaged("lost", path, float("nan")), [{"verb": "converge"}])


@pytest.mark.nightly
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_what_is_damaged_stops_no_intent(cluster: str) -> None:
    """Everything with everything."""
    for path, new in cases(cluster, PLACES[cluster]):
        attempt(cluster, path, new, CLUSTERS[cluster][1])


def attempt(cluster: str, path: Place, new: Any, intents: list[Document]) -> None:
    try:
        look(damaged(cluster, path, new), intents)
    except Exception as error:
        error.add_note(f"{cluster}: {path} = {new!r:.100}, {intents}")
        raise


# What once ended a play with a traceback.
FOUND: dict[str, tuple[Place, Any]] = {
    "a step of the journal": (("journal", 0, "step"), 3),
    "what was left off": (("left_off",), ["off1"]),
    "one that was left off": (("left_off", "off1"), {}),
    "a remedy": (("problems", 0, "remedy"), ["x"]),
    "an address": (("definitions", "web1", "nics", 0, "address"), "x"),
    "a scoped address": (("definitions", "web1", "nics", 0, "address"), "fe80::1%<x/>"),
    "a disk template": (("definitions", "web1", "disk_template"), "x"),
    "processors": (("cpus",), "x"),
    "a note": (("rolling",), {"format": 1}),
    "a lock": (("lock",), "ann"),
    "versions": (("versions",), "x"),
    "kernels": (("kernels",), 3),
    "a time": (("time",), None),
    "readings of the clock": (("asked",), [1.0]),
    "certificates": (("certificates",), {"pem": 3}),
    "a certificate": (("certificates", 0, "pem"), "x"),
    "identifiers": (("resources", "web1", "volumes", 0, "uuids"), "x"),
    "a host name": (("hostname",), 'x" { } resource "y'),
    "a document of another format": (("format",), 2),
}


@pytest.mark.parametrize(("path", "new"), FOUND.values(), ids=FOUND)
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_what_was_found(cluster: str, path: Place, new: Any) -> None:
    attempt(cluster, path, new, CLUSTERS[cluster][1][:3])


@pytest.mark.parametrize("answer", [[], "x", 3, True, {}, {"format": "1"}], ids=repr)
def test_a_node_without_a_document_answers_but_is_not_known(answer: Any) -> None:
    found = {**documents("whole"), "node1": answer}
    (plan,) = look(found, [{"verb": "converge"}])
    assert {one.code for one in plan.findings if one.object == "node node1"} == {"node-incomplete", "node-problem"}
    assert steps(plan, "web2") == steps(planner.plan(WANTED, {**found, "node1": None}, {"verb": "converge"}), "web2")
    # Who answers is not dead, whatever anybody says.
    recover = planner.plan(WANTED, found, {"verb": "recover", "confirm_dead": "node1"})
    assert recover.steps == () and "node-alive" in {one.code for one in recover.errors}


def steps(plan: Plan, instance: str | None = None) -> list[Document]:
    """What is done, to one instance or to all; not what only clears away."""
    return [step.to_json() for step in plan.steps if step.instance is not None and instance in (None, step.instance)]


@pytest.mark.parametrize("part", OPTIONAL)
def test_without_a_part_that_a_plan_does_without_all_is_planned(part: str) -> None:
    whole, found = documents("whole"), damaged("whole", (part,), DEEP)
    for intent in ({"verb": "converge"}, {"verb": "migrate", "instance": "web1"}):
        plan = planner.plan(WANTED, found, intent)
        assert steps(plan) == steps(planner.plan(WANTED, whole, intent))
        said = [one for one in plan.findings if one.code == "node-problem" and one.message.startswith(f"{part}: ")]
        assert [(one.object, bool(one.remedy)) for one in said] == [("node node1", True)]
        assert "node-incomplete" not in {one.code for one in plan.findings}


@pytest.mark.parametrize("part", NEEDED)
def test_without_a_part_that_is_needed_the_node_is_not_known(part: str) -> None:
    found, silent = damaged("whole", (part,), DEEP), {**documents("whole"), "node1": None}
    plan = planner.plan(WANTED, found, {"verb": "converge"})
    incomplete = [one.message for one in plan.findings if one.code == "node-incomplete"]
    assert incomplete == [f"it could not tell its {part}"]
    assert steps(plan, "web2") == steps(planner.plan(WANTED, silent, {"verb": "converge"}), "web2") != []
    assert not any(step.node == "node1" for step in plan.steps)


def test_a_damaged_definition_is_named_by_every_plan() -> None:
    found = damaged("whole", ("definitions", "web1", "disks", 0, "size"), "x")
    for intent in ALL:
        (said,) = [one for one in planner.plan(WANTED, found, intent).errors if one.code == "definition-damaged"]
        assert said.object == "instance web1"
        assert "disks[0].size is not a whole number" in said.message and "node1" in said.message


@pytest.mark.parametrize("nodes", [["node1"], ["node1", "node2", "node3"]])
def test_a_replicated_definition_names_two_nodes(nodes: list[str]) -> None:
    found = copy.deepcopy(documents("whole"))
    for said in found.values():
        document = (said or {}).get("definitions", {}).get("web1")
        if document is not None:
            document["nodes"] = nodes
            for disk in document["disks"]:
                disk["volume_group"] |= {"node3": "twofold"}
                disk["minor"] |= {"node3": 999}
    for plan in look(found, ALL):
        faults = [one for one in plan.errors if one.code == "definition-damaged"]
        assert {one.object for one in faults} == {"instance web1"}
        assert all("on drbd has two" in one.message for one in faults)


def test_a_plain_definition_with_two_nodes_stops_nobody() -> None:
    found = copy.deepcopy(documents("whole"))
    for said in found.values():
        document = (said or {}).get("definitions", {}).get("web1")
        if document is not None:
            document["disk_template"] = "plain"
    look(found, ALL)
    assert "definition-layout" in {one.code for one in report.verify(WANTED, found, now=NOW)}
