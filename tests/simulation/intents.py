# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What operators want. A new intent is a function that draws its arguments, and a line in INTENTS."""

from __future__ import annotations

from collections.abc import Callable, Container
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


def failover(rng: Random, instances: Instances, _nodes: list[str]) -> Intent:
    """Start one on its other node; the operator confirms as dead what is off (see `Run`)."""
    return {"verb": "failover", "instance": _one(rng, instances)}


def recover(_rng: Random, _instances: Instances, _nodes: list[str]) -> Intent:
    """Start everything that dead nodes ran."""
    return {"verb": "recover"}


def evacuate(rng: Random, _instances: Instances, nodes: list[str]) -> Intent:
    """Empty a node."""
    return {"verb": "evacuate", "node": rng.choice(nodes), "mode": rng.choice(("primaries", "secondaries", "both"))}


def drain(rng: Random, _instances: Instances, nodes: list[str]) -> Intent:
    """Move the guests away for a while."""
    return {"verb": "drain", "node": rng.choice(nodes)}


def undrain(rng: Random, _instances: Instances, nodes: list[str]) -> Intent:
    """Bring them home."""
    return {"verb": "undrain", "node": rng.choice(nodes)}


def replace_disks(rng: Random, instances: Instances, nodes: list[str]) -> Intent:
    """A new second copy, elsewhere or of fresh volumes."""
    where: Intent = rng.choice(({}, {"new_secondary": rng.choice(nodes)}, {"on": rng.choice(nodes)}))
    return {"verb": "replace_disks", "instance": _one(rng, instances), **where}


def grow(rng: Random, instances: Instances, _nodes: list[str]) -> Intent:
    """A larger disk."""
    return {"verb": "grow", "instance": _one(rng, instances), "disk": "0", "size": rng.choice(("+64MiB", "2GiB"))}


def deactivate(rng: Random, instances: Instances, _nodes: list[str]) -> Intent:
    """Take the disks of one that is stopped down."""
    return {"verb": "deactivate_disks", "instance": _one(rng, instances)}


def activate(rng: Random, instances: Instances, _nodes: list[str]) -> Intent:
    """Bring them up."""
    return {"verb": "activate_disks", "instance": _one(rng, instances)}


def _one(rng: Random, instances: Instances) -> str:
    return rng.choice(sorted(instances) or ["a"])


# How often, and what.
INTENTS: list[tuple[int, Draw]] = [
    (6, converge), (6, migrate), (2, failover), (2, recover), (2, evacuate), (1, drain), (1, undrain),
    (3, replace_disks), (2, grow), (1, activate), (1, deactivate),
]  # fmt: skip


def draw(rng: Random, instances: Instances, nodes: list[str], only: Container[str] = ()) -> Intent:
    """Some intent, or one of those whose names are given."""
    choices = [(weight, intent) for weight, intent in INTENTS if not only or intent.__name__ in only]
    intent = rng.choices([intent for _weight, intent in choices], [weight for weight, _intent in choices])[0]
    return intent(rng, instances, nodes)
