# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments of intents have one form for their readers, or are refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance, nodes
from tests.unit.lib.world import World

from twofold import arguments, planner


@pytest.mark.parametrize(
    ("name", "given", "form"),
    [
        ("node", " node1 ,node2", "node1,node2"),
        ("node", ["node1", " node2"], "node1,node2"),
        ("instance", ["web1"], "web1"),
        ("fence", True, True),
        ("fence", ["node1"], "node1"),
        ("again", "No", False),
        ("disk", 0, "0"),
        ("max_moves", 5, "5"),
        ("target", None, None),
        ("other", {"any": 1}, {"any": 1}),
    ],
)
def test_each_has_one_form(name: str, given: Any, form: Any) -> None:
    assert arguments.read({name: given}) == ({name: form}, [])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"node": 5}, "node is 5, a number"),
        ({"confirm_dead": [True]}, "confirm_dead is [True], a list"),
        ({"instance": "web1,web2"}, "instance is 'web1,web2'"),
        ({"power": False}, "power is False, a truth value"),
        ({"size": ["2GiB"]}, "size is ['2GiB'], a list"),
        ({"disk": "vda"}, "disk is 'vda'"),
        ({"packages": "upgrad"}, "packages is 'upgrad'"),
        ({"disk_moves": "few"}, "disk_moves is 'few'"),
        ({"verb": "migrate"}, "no instance is named"),
        ({"verb": "drain", "node": ""}, "no node is named"),
    ],
)
def test_what_has_none_is_refused(given: dict[str, Any], said: str) -> None:
    found = arguments.read(given)[1]
    assert [(one.code, one.message) for one in found] == [("wrong-arguments", said)]
    assert found[0].remedy.startswith("give ")


def test_a_wrong_argument_leaves_no_steps_and_nobody_is_suspected() -> None:
    world, wanted = World(list(nodes())), desired({"web1": instance(nodes=["node1", "node2"])})
    world.down.add("node2")
    intent = {"verb": "recover", "confirm_dead": True}
    plan = world.plan(wanted, **intent)
    assert plan.steps == () and "wrong-arguments" in {finding.code for finding in plan.errors}
    assert planner.suspects(wanted, world.documents(), intent) == planner.Suspects()
