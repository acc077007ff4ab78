# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the inventory demands of an instance's nodes, as the placement engine's rules.

The engine keeps instances apart, or together, that share a label. The inventory names groups: an instance is apart from
each member of the group, whether or not the members are apart from each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace

from ..model import Desired
from ..placement import Rules
from .placed import unwanted

DOMAIN = "domain"
Labels = dict[str, set[str]]


def rules(desired: Desired, refused: Mapping[str, Collection[str]]) -> dict[str, Rules]:
    """The rules of every instance of the inventory; `refused` are further nodes that each of some must not be on."""
    anti, avoid = _apart(desired, "anti_affinity"), _apart(desired, "soft_anti_affinity")
    together, near = _together(desired, "affinity"), _together(desired, "soft_affinity")
    apart = (DOMAIN,) if any(node.failure_domain for node in desired.nodes.values()) else ()
    found = {}
    for name, instance in sorted(desired.instances.items()):
        pins = [*instance.nodes, "", ""]
        found[name] = Rules(
            primary=pins[0],
            secondary=pins[1],
            excluded=tuple(sorted({*unwanted(desired, instance), *refused.get(name, ())})),
            anti_affinity=tuple(sorted(anti[name])),
            affinity=tuple(sorted(together[name])),
            avoid=tuple(sorted(avoid[name])),
            near=tuple(sorted(near[name])),
            apart=apart,
        )
    return found


def unpinned(desired: Desired, names: Collection[str]) -> dict[str, Rules]:
    """The rules of instances that exist: a pin says where one is made, who has it moved has decided otherwise."""
    found = rules(desired, {})
    return {name: replace(rule, primary="", secondary="") for name, rule in found.items() if name in names}


def _apart(desired: Desired, field: str) -> Labels:
    """Labels that keep each instance from every member of the groups that it names."""
    labels: Labels = defaultdict(set)
    for name, instance in desired.instances.items():
        for group in getattr(instance, field):
            members = desired.members(group)
            mutual = {m for m in members if group in getattr(desired.instances[m], field)}
            if name in mutual:
                # They all keep from each other: one label for all.
                labels[name].add(group)
                members -= mutual
            for other in members - {name}:
                label = " ".join(sorted((name, other)))
                labels[name].add(label)
                labels[other].add(label)
    return labels


def _together(desired: Desired, field: str) -> Labels:
    """Labels that keep each instance with the members of the groups that it names."""
    labels: Labels = defaultdict(set)
    for name, instance in desired.instances.items():
        for group in getattr(instance, field):
            for member in {name, *desired.members(group)}:
                labels[member].add(group)
    return labels
