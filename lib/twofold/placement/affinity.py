# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator demands or wishes of an instance's nodes: pins, exclusions, node groups, affinity, failure domains.

Hard rules forbid places; soft ones add to the score, so that they give way only where the cluster would suffer more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import RequestError
from .state import Bools, Floats, State

#: What breaking one wish costs, in units of the score. On three nodes the load of one instance in the wrong place costs
#: about two; a wish that weighed less would never be heard there.
SOFT_WEIGHT = 4.0


@dataclass(frozen=True, slots=True)
class Rules:
    """Demands and wishes for one instance.

    Attributes:
        groups: names or UUIDs of the only node groups; empty for all.
        primary, secondary: names of the nodes that must hold it; "" for any.
        excluded: names of nodes that must not hold it, in either role.
        anti_affinity: labels; no two instances that share one may run on the same node.
        affinity: labels; the instance must run where others with that label run, if there are any.
        avoid, near: the same as wishes.
        apart: kinds of failure domain (the part of a location tag before the colon, as "rack") that primary and
            secondary must not share.
    """

    groups: tuple[str, ...] = ()
    primary: str = ""
    secondary: str = ""
    excluded: tuple[str, ...] = ()
    anti_affinity: tuple[str, ...] = ()
    affinity: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()


class Book:
    """The rules of every instance, and what they mean for a place.

    Raises:
        RequestError: for rules that name unknown node groups or nodes.
    """

    def __init__(self, state: State, rules: Mapping[str, Rules]) -> None:
        self.state = state
        names = state.nodes.names
        self.index = {name: n for n, name in enumerate(names)}
        self.rules = [rules.get(name, Rules()) for name in state.inst.names]
        self.any = any(rule != Rules() for rule in self.rules)
        for name, rule in zip(state.inst.names, self.rules, strict=True):
            self._check(name, rule)

    def _check(self, name: str, rule: Rules) -> None:
        known = {key for g in self.state.cluster.groups for key in (g.name, g.uuid)}
        for node in (rule.primary, rule.secondary, *rule.excluded):
            if node and node not in self.index:
                raise RequestError(f"instance {name}: unknown node {node!r}")
        for group in rule.groups:
            if group not in known:
                raise RequestError(f"instance {name}: unknown node group {group!r}")
        if rule.primary and rule.primary == rule.secondary:
            raise RequestError(f"instance {name}: pinned to {rule.primary} as primary and as secondary")

    # -- hard -----------------------------------------------------------------------------------------------------

    def forbidden(self, i: int) -> tuple[Sequence[str], Sequence[str]]:
        """Per node why the rules forbid instance i there as primary and as secondary; "" where they do not."""
        rule, nodes = self.rules[i], self.state.nodes
        as_primary, as_secondary = [""] * len(nodes.names), [""] * len(nodes.names)
        groups = self.state.cluster.groups
        for n, name in enumerate(nodes.names):
            group = groups[nodes.group[n]]
            common = ""
            if rule.groups and group.name not in rule.groups and group.uuid not in rule.groups:
                common = f"is in node group {group.name}; the instance must be in {' or '.join(rule.groups)}"
            elif name in rule.excluded:
                common = "is excluded for the instance"
            as_primary[n] = common or self._pinned(name, rule.primary, rule.secondary, "primary")
            as_secondary[n] = common or self._pinned(name, rule.secondary, rule.primary, "secondary")
        self._labels(i, rule, as_primary)
        return as_primary, as_secondary

    def _pinned(self, name: str, wanted: str, other: str, role: str) -> str:
        if wanted and name != wanted:
            return f"the instance's {role} is pinned to {wanted}"
        if other and name == other:
            return f"the instance is pinned to {name} in its other role"
        return ""

    def _labels(self, i: int, rule: Rules, as_primary: list[str]) -> None:
        state = self.state
        for n, others in self._holders(i, rule.anti_affinity, "anti_affinity").items():
            as_primary[n] = as_primary[n] or f"anti-affinity: runs {', '.join(others)}"
        for label in rule.affinity:
            holders = self._holders(i, (label,), "affinity")
            for n in range(len(state.nodes.names)) if holders else ():
                if n not in holders:
                    as_primary[n] = as_primary[n] or f"affinity: no other instance labelled {label} runs here"

    def _holders(self, i: int, labels: Sequence[str], kind: str) -> dict[int, list[str]]:
        """Nodes where other instances with one of the labels run, and which."""
        result: dict[int, list[str]] = {}
        for other, rule in enumerate(self.rules):
            n = int(self.state.pri[other])
            if other != i and n >= 0 and set(labels) & set(getattr(rule, kind)):
                result.setdefault(n, []).append(self.state.inst.names[other])
        return result

    def allowed(self, i: int, mirrored: bool) -> Bools:
        """Where the rules let instance i be: per node, or per (primary, secondary)."""
        as_primary, as_secondary = self.forbidden(i)
        primary = np.array([not why for why in as_primary])
        if not mirrored:
            return primary
        secondary = np.array([not why for why in as_secondary])
        pairs: Bools = primary[:, None] & secondary[None, :]
        return pairs & self.apart(i)

    def apart(self, i: int) -> Bools:
        """Which pairs lie in different failure domains, of the kinds that the instance cares for."""
        kinds = tuple(kind + ":" for kind in self.rules[i].apart)
        count = len(self.index)
        if not kinds:
            return np.ones((count, count), dtype=bool)
        mine = [{tag for tag in tags if tag.startswith(kinds)} for tags in self.state.nodes.tags]
        return np.array([[not (a & b) for b in mine] for a in mine], dtype=bool)

    def kept(self, i: int) -> bool:
        """Whether instance i is where its hard rules want it."""
        p, s = int(self.state.pri[i]), int(self.state.sec[i])
        mask = self.allowed(i, s >= 0)
        return bool(mask[p] if s < 0 else mask[p, s])

    # -- soft -----------------------------------------------------------------------------------------------------

    def penalty(self, i: int, mirrored: bool) -> Floats:
        """What a place adds to the score for the wishes that it breaks: per node, or per (primary, secondary)."""
        rule, count = self.rules[i], len(self.index)
        primary, secondary = np.zeros(count), np.zeros(count)
        for n, others in self._holders(i, rule.avoid, "avoid").items():
            primary[n] += SOFT_WEIGHT * len(others)
        for label in rule.near:
            holders = self._holders(i, (label,), "near")
            if holders:
                primary += SOFT_WEIGHT
                primary[list(holders)] -= SOFT_WEIGHT
        # After a failover the two should still be apart, if that can be had.
        for n in self._holders(i, rule.anti_affinity, "anti_affinity"):
            secondary[n] += SOFT_WEIGHT / 2
        return primary[:, None] + secondary[None, :] if mirrored else primary
