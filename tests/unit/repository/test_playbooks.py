# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks, and the role that they are, ask the planner for what there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2.nativetypes import NativeEnvironment

from twofold.arguments import KINDS, NEEDED
from twofold.planner import wish
from twofold.planner.api import VERBS

PARAMETERS = re.compile(r"\{\{ (" + "|".join(KINDS) + r")\b")


def intents(found: Any) -> Iterator[dict[Any, Any]]:
    """Every intent below a piece of a playbook."""
    if isinstance(found, dict):
        if "operate_intent" in found:
            yield found["operate_intent"]
        found = list(found.values())
    if isinstance(found, list):
        for part in found:
            yield from intents(part)


def test_each_intent_is_a_verb_with_arguments(root: Path) -> None:
    seen = set()
    for path in sorted([*root.glob("playbooks/*.yml"), *root.glob("roles/operate/tasks/*.yml")]):
        for intent in intents(yaml.safe_load(path.read_text(encoding="utf-8"))):
            assert intent["verb"] in VERBS, path.name
            # YAML takes words like "on" for true, unless they are quoted.
            assert all(isinstance(key, str) for key in intent), path.name
            seen.add(intent["verb"])
    assert seen == set(VERBS)


@pytest.mark.parametrize("fence", ["true", "node1,node2", "false"])
@pytest.mark.parametrize(("save", "load"), [("", ""), ("plan.json", ""), ("", "plan.json")])
def test_no_power_is_cut_for_a_plan_that_is_saved_or_was(root: Path, fence: str, save: str, load: str) -> None:
    tasks = yaml.safe_load((root / "roles/operate/tasks/main.yml").read_text(encoding="utf-8"))
    (text,) = [task["twofold.cluster.fence"]["switch_off"] for task in tasks if "twofold.cluster.fence" in task]
    variables = {"operate_fence": fence, "operate_save": save, "operate_load": load}
    said = NativeEnvironment().from_string(text).render(variables)
    assert wish(said) == (False if save or load else wish(fence))


def test_what_has_to_be_named_is_of_verbs_that_there_are() -> None:
    assert {verb for verbs in NEEDED.values() for verb in verbs} <= set(VERBS)


def test_each_play_declares_the_parameters_that_it_reads(root: Path) -> None:
    for path in sorted(root.glob("playbooks/*.yml")):
        for play in (play for play in yaml.safe_load(path.read_text(encoding="utf-8")) if "hosts" in play):
            # As a variable of the inventory an undeclared one would be read, by its everyday name.
            read = set(PARAMETERS.findall(yaml.safe_dump(play, width=1000)))
            declared = {name for name in play.get("vars", {}) if not name.startswith(f"{path.stem}_")}
            assert read <= declared <= set(KINDS), path.name


def test_each_play_is_on_a_group_that_is_there(root: Path) -> None:
    for path in sorted(root.glob("playbooks/*.yml")):
        for play in yaml.safe_load(path.read_text(encoding="utf-8")):
            assert "hosts" not in play or play["hosts"].endswith("| twofold.cluster.node_group(groups) }}"), path.name
