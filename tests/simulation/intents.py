# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What operators want. A new intent is a function that draws its arguments, and a line in INTENTS."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from .inventories import Instances

Intent = dict[str, Any]
Draw = Callable[[Random, Instances, list[str]], Intent]


def converge(_rng: Random, _instances: Instances, _nodes: list[str]) -> Intent:
    """Make it as the inventory says."""
    return {"verb": "converge"}


def migrate(rng: Random, instances: Instances, nodes: list[str]) -> Intent:
    """Move one that runs."""
    return {"verb": "migrate", "instance": _one(rng, instances), "target": rng.choice((None, None, *nodes))}


def _one(rng: Random, instances: Instances) -> str:
    return rng.choice(sorted(instances) or ["a"])


# How often, and what.
INTENTS: list[tuple[int, Draw]] = [(3, converge), (3, migrate)]


def draw(rng: Random, instances: Instances, nodes: list[str]) -> Intent:
    """Some intent."""
    weights = [weight for weight, _intent in INTENTS]
    _weight, intent = rng.choices(INTENTS, weights)[0]
    return intent(rng, instances, nodes)
