# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What operators want. A new intent is a function that draws its arguments, and a line in INTENTS."""

from __future__ import annotations

from collections.abc import Callable, Container
from random import Random
from typing import Any

from . import fencing
from .inventories import Instances

Intent = dict[str, Any]
REBOOT = "reboot"
Draw = Callable[[Random, Instances, list[str]], Intent]


def converge(_rng: Random, _instances: Instances, _nodes: list[str]) -> Intent:
    """Make it as the inventory says."""
    return {"verb": "converge"}


def migrate(rng: Random, instances: Instances, nodes: list[str]) -> Intent:
    """Move one that runs."""
    return {"verb": "migrate", "instance": _one(rng, instances), "target": rng.choice((None, None, *nodes))}


def failover(rng: Random, instances: Instances, _nodes: list[str]) -> Intent:
    """Start one on its other node; the operator confirms as dead what is off, or asks the devices (see `Run`)."""
    return _proved(rng, _stale_too(rng, {"verb": "failover", "instance": _one(rng, instances)}, instances))


def recover(rng: Random, instances: Instances, _nodes: list[str]) -> Intent:
    """Start everything that dead nodes ran."""
    return _proved(rng, _stale_too(rng, {"verb": "recover"}, instances))


def evacuate(rng: Random, _instances: Instances, nodes: list[str]) -> Intent:
    """Empty a node."""
    mode = rng.choice(("primaries", "secondaries", "both"))
    return _proved(rng, {"verb": "evacuate", "node": rng.choice(nodes), "mode": mode})


def drain(rng: Random, _instances: Instances, nodes: list[str]) -> Intent:
    """Move the guests away for a while."""
    return {"verb": "drain", "node": rng.choice(nodes)}


def undrain(rng: Random, _instances: Instances, nodes: list[str]) -> Intent:
    """Bring them home."""
    return {"verb": "undrain", "node": rng.choice(nodes)}


def replace_disks(rng: Random, instances: Instances, nodes: list[str]) -> Intent:
    """A new second copy, elsewhere or of fresh volumes."""
    where: Intent = rng.choice(({}, {"new_secondary": rng.choice(nodes)}, {"on": rng.choice(("primary", "secondary"))}))
    return {"verb": "replace_disks", "instance": _one(rng, instances), **where}


def grow(rng: Random, instances: Instances, _nodes: list[str]) -> Intent:
    """A larger disk."""
    return {"verb": "grow", "instance": _one(rng, instances), "disk": "0", "size": rng.choice(("+64MiB", "2GiB"))}


def deactivate_disks(rng: Random, instances: Instances, _nodes: list[str]) -> Intent:
    """Take the disks of one that is stopped down."""
    return {"verb": "deactivate_disks", "instance": _one(rng, instances)}


def activate_disks(rng: Random, instances: Instances, _nodes: list[str]) -> Intent:
    """Bring them up."""
    return {"verb": "activate_disks", "instance": _one(rng, instances)}


def recreate_disks(rng: Random, instances: Instances, _nodes: list[str]) -> Intent:
    """Lost disks anew, empty ones if need be."""
    return _confirmed(rng, {"verb": "recreate_disks", "instance": _one(rng, instances)})


def reinstall(rng: Random, instances: Instances, _nodes: list[str]) -> Intent:
    """The OS anew."""
    return _confirmed(rng, {"verb": "reinstall", "instance": _one(rng, instances)})


def resolve_split_brain(rng: Random, instances: Instances, nodes: list[str]) -> Intent:
    """One side's data survives."""
    return {"verb": "resolve_split_brain", "instance": _one(rng, instances), "survivor": rng.choice((None, *nodes))}


def drop_kept(rng: Random, instances: Instances, _nodes: list[str]) -> Intent:
    """What was kept of a split brain goes."""
    return _confirmed(rng, {"verb": "drop_kept", "instance": _one(rng, instances)})


def balance(rng: Random, _instances: Instances, _nodes: list[str]) -> Intent:
    """Even out the load."""
    return {"verb": "balance", "max_moves": rng.choice((None, None, 1))}


def maintain(rng: Random, _instances: Instances, nodes: list[str]) -> Intent:
    """The guests of a node leave before it is rebooted."""
    return {"verb": "maintain", "node": rng.choice(nodes), "everything": rng.random() < 0.5}


def depart(rng: Random, _instances: Instances, nodes: list[str]) -> Intent:
    """The last look at a node before it is rebooted."""
    return {"verb": "depart", "node": rng.choice(nodes)}


def reboot(rng: Random, _instances: Instances, nodes: list[str]) -> Intent:
    """The whole of it: no intent of the planner, but the playbook (see `reboot.py`)."""
    return {"verb": REBOOT, "node": rng.choice(nodes)}


def rejoin(rng: Random, _instances: Instances, nodes: list[str]) -> Intent:
    """A node is back: what it holds is brought up."""
    return {"verb": "rejoin", "node": rng.choice(nodes)}


def rolling(rng: Random, _instances: Instances, _nodes: list[str]) -> Intent:
    """The note of a rolling reboot, and who comes home."""
    return {"verb": "rolling", "again": rng.random() < 0.5}


def mend(_rng: Random, _instances: Instances, _nodes: list[str]) -> Intent:
    """Put back what is safe to put back."""
    return {"verb": "mend"}


def remove_node(rng: Random, _instances: Instances, nodes: list[str]) -> Intent:
    """Ask whether a node can go."""
    return {"verb": "remove_node", "node": rng.choice(nodes)}


def _proved(rng: Random, intent: Intent) -> Intent:
    """With a proof by fence devices, or by the operator's word."""
    return {**intent, "fence": rng.choice(fencing.WORDS)} if rng.random() < 0.5 else intent


def _stale_too(rng: Random, intent: Intent, instances: Instances) -> Intent:
    """With the operator's word that an older copy of one instance will do, or without it."""
    return {**intent, "accept_stale": _one(rng, instances)} if rng.random() < 0.4 else intent


def _confirmed(rng: Random, intent: Intent) -> Intent:
    """With the operator's word, or without it."""
    return {**intent, "confirm": intent["instance"]} if rng.random() < 0.7 else intent


def _one(rng: Random, instances: Instances) -> str:
    return rng.choice(sorted(instances) or ["a"])


# How often, and what.
INTENTS: list[tuple[int, Draw]] = [
    (6, converge), (6, migrate), (2, failover), (2, recover), (2, evacuate), (1, drain), (1, undrain),
    (3, replace_disks), (2, grow), (1, activate_disks), (1, deactivate_disks), (1, recreate_disks), (1, reinstall),
    (1, resolve_split_brain), (1, drop_kept), (1, balance), (1, maintain), (1, rejoin), (1, rolling), (1, mend),
    (1, remove_node), (1, depart), (2, reboot),
]  # fmt: skip


# Those that a single run can have.
OF_A_RUN = frozenset(intent.__name__ for _weight, intent in INTENTS) - {REBOOT}


def draw(rng: Random, instances: Instances, nodes: list[str], only: Container[str] = ()) -> Intent:
    """Some intent, or one of those whose names are given."""
    choices = [(weight, intent) for weight, intent in INTENTS if not only or intent.__name__ in only]
    intent = rng.choices([intent for _weight, intent in choices], [weight for weight, _intent in choices])[0]
    return intent(rng, instances, nodes)
