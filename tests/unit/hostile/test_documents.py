# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plan files, Ganeti's files and nodes' answers that were damaged or made up: read, or refused with a sentence."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import World

from twofold import planner
from twofold.errors import DocumentError, TwofoldError
from twofold.placement import message, textformat
from twofold.placement.errors import DataError
from twofold.planner import Plan

WANTED = desired({"web1": instance(nodes=["node1", "node2"], os="debian-13")})
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.floats(allow_nan=False)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def saved() -> dict[str, Any]:
    """A plan as it stands in a file."""
    world = World(list(WANTED.nodes))
    found: dict[str, Any] = json.loads(json.dumps(world.plan(WANTED).to_json()))
    return found


def running() -> World:
    """web1 on node1 and node2."""
    world = World(list(WANTED.nodes))
    world.converge(WANTED)
    return world


SAVED, RUNNING = saved(), running()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of a document."""
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        found += places(one, (*path, key))
    return found


def replaced(document: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The document with another value at a place."""
    changed = copy.deepcopy(document)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return changed


def read_plan(document: Any) -> Plan | None:
    try:
        return Plan.from_json(document)
    except DocumentError as error:
        assert str(error)
        return None


@pytest.mark.parametrize("document", [None, [], "plan", 7, {}, {"format": 1}, {"format": 2}, {"format": "1"}], ids=repr)
def test_what_is_no_plan_is_refused(document: Any) -> None:
    assert read_plan(document) is None


@QUIET
@given(path=st.sampled_from(places(SAVED)), new=VALUES)
def test_a_damaged_plan_is_refused_before_anything_is_done(path: tuple[Any, ...], new: Any) -> None:
    document = replaced(SAVED, path, new)
    plan = read_plan(document)
    if plan is None or document == SAVED:
        return
    if path[0] in ("intent", "based_on", "steps", "fingerprint") and plan.to_json() != SAVED:
        world = World(list(WANTED.nodes))
        stale = planner.check_saved(plan, WANTED, world.documents())
        assert [finding.code for finding in stale] == ["plan-damaged"]


NODE1 = {name: doc for name, doc in RUNNING.documents().items() if name == "node1"}["node1"]
assert NODE1 is not None


@QUIET
@given(path=st.sampled_from(places(NODE1)), new=VALUES)
def test_a_node_that_answers_nonsense_is_refused_or_left_alone(path: tuple[Any, ...], new: Any) -> None:
    documents = {**RUNNING.documents(), "node1": replaced(NODE1, path, new)}
    for intent in ({"verb": "converge"}, {"verb": "migrate", "instance": "web1"}):
        try:
            plan = planner.plan(WANTED, documents, intent)
        except DocumentError as error:
            assert "node1" in str(error)
            continue
        for finding in plan.findings:
            assert finding.object and finding.message


def test_a_node_that_names_another_node_in_its_answers_gets_no_steps_for_it() -> None:
    hostile = copy.deepcopy(NODE1)
    assert hostile is not None
    hostile["definitions"]["../../etc/passwd"] = hostile["definitions"]["web1"]
    hostile["domains"]["$(reboot)"] = hostile["domains"]["web1"]
    plan = planner.plan(WANTED, {**RUNNING.documents(), "node1": hostile}, {"verb": "converge"})
    assert plan.steps == ()


@QUIET
@given(text=st.text(alphabet="gu12|,;\n -YNpreferd.\0é", max_size=120))
def test_ganetis_text_is_read_or_refused(text: str) -> None:
    try:
        textformat.parse(text, "cluster.txt")
    except DataError as error:
        assert "cluster.txt" in str(error)


@QUIET
@given(value=VALUES, text=st.text(max_size=60))
def test_ganetis_requests_are_read_or_refused(value: Any, text: str) -> None:
    for request in (text, json.dumps(value)):
        try:
            message.parse(request)
        except (DataError, TwofoldError) as error:
            assert str(error)
