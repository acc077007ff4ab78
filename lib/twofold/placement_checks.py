# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with the variables that say where instances may go.

Names that do not exist, and demands that exclude each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from . import variables
from .inventory_checks import PAIR, Spot
from .model import Instance, Node

if TYPE_CHECKING:
    from .inventory import Loader

AFFINITIES = ("affinity", "anti_affinity", "soft_affinity", "soft_anti_affinity")
Groups = Mapping[str, frozenset[str]]


def check(loader: Loader, nodes: dict[str, Node], instances: dict[str, Instance], groups: Groups) -> None:
    """Check every instance; `groups` are the inventory groups with their instances. `loader` takes the findings."""
    for instance in instances.values():
        if instance.state != "absent":
            _Check(loader, nodes, instances, groups, instance).run()


class _Check:
    def __init__(
        self, loader: Loader, nodes: dict[str, Node], instances: dict[str, Instance], groups: Groups, instance: Instance
    ) -> None:
        self.loader, self.nodes, self.instances = loader, nodes, instances
        self.groups, self.instance = groups, instance

    def run(self) -> None:
        """All checks."""
        instance, nodes = self.instance, self.nodes
        tags = {tag for node in nodes.values() for tag in node.tags}
        self._known("excluded_nodes", instance.excluded_nodes, nodes, "unknown-node", "node")
        self._known("groups", instance.groups, {node.group for node in nodes.values()}, "unknown-group", "node group")
        self._known("required_tags", instance.required_tags, tags, "unknown-tag", "node with the tag")
        named = {*self.groups, *self.instances}
        for field in AFFINITIES:
            what = "instance, and no inventory group with instances,"
            self._known(field, getattr(instance, field), named, "unknown-group", what)
        self._together_and_apart()
        for name in instance.nodes:
            if name in nodes:
                self._pin(nodes[name])
        self._pair([nodes[name] for name in instance.nodes if name in nodes])

    def _wrong(self, field: str, code: str, message: str, remedy: str) -> None:
        self.loader.error(Spot("instance", self.instance.name, f"twofold_{field}"), code, message, remedy)

    def _known(self, field: str, names: list[str], known: Collection[str], code: str, what: str) -> None:
        for name in names:
            if name not in known:
                meant = variables.nearest(name, known)
                hint = f"did you mean {meant}?" if meant else f"there are {', '.join(sorted(known)) or 'none'}"
                self._wrong(field, code, f"there is no {what} {name!r}", hint)

    def _together_and_apart(self) -> None:
        near, far = self._members("affinity"), self._members("anti_affinity")
        if both := sorted(near & far):
            message = f"{', '.join(both)} is in twofold_affinity too"
            self._wrong("anti_affinity", "contradiction", message, "take it out of one of the two")

    def _members(self, field: str) -> frozenset[str]:
        """The other instances that an affinity means."""
        names = getattr(self.instance, field)
        found = {name for name in names if name in self.instances}.union(*(self.groups.get(n, ()) for n in names))
        return frozenset(found - {self.instance.name})

    def _pin(self, node: Node) -> None:
        instance = self.instance
        if node.name in instance.excluded_nodes:
            self._wrong("nodes", "contradiction", f"{node.name} is in twofold_excluded_nodes too", "take it out of one")
        if instance.groups and node.group not in instance.groups:
            message = f"{node.name} is of the node group {node.group}, not {' or '.join(instance.groups)}"
            self._wrong("nodes", "contradiction", message, "correct one of the two")
        if missing := [tag for tag in instance.required_tags if tag not in node.tags]:
            message = f"{node.name} lacks the tag {', '.join(missing)}, which twofold_required_tags wants"
            self._wrong("nodes", "contradiction", message, "pin it to another node, or give this one the tag")

    def _pair(self, pins: list[Node]) -> None:
        if len(pins) != PAIR or pins[0].name == pins[1].name:
            return
        first, second = pins
        if first.group != second.group:
            message = f"{first.name} and {second.name} are of different node groups ({first.group}, {second.group})"
            self._wrong("nodes", "contradiction", message, "name two nodes of one group")
        if shared := sorted(set(first.failure_domain) & set(second.failure_domain)):
            message = f"{first.name} and {second.name} are both in the failure domain {', '.join(shared)}"
            self._wrong("nodes", "contradiction", message, "name nodes that do not fail together")
