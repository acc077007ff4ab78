# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks, and the role that they are, ask the planner for what there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from twofold.planner.api import VERBS


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
