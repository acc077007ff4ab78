# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator demands or wishes of an instance's nodes: pins, exclusions, node groups, affinity, failure domains.

Hard rules forbid places; soft ones add to the score, so that they give way only where the cluster would suffer more.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np

from .errors import RequestError
from .moves import Kind
from .scan import Scores
from .state import Bools, Floats, Ints, State

#: What breaking one wish costs, in units of the score, where nothing else is said. On three nodes the load of one
#: instance in the wrong place costs about two; a wish that weighed less would never be heard there.
SOFT_WEIGHT = 4.0
#: What an instance costs that lies where its hard rules forbid: as much as one on an offline node.
BROKEN_WEIGHT = 16.0


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


@dataclass(frozen=True, slots=True)
class _Constraint:
    """One reason against some nodes, as primary or as secondary; why says it of a node in words."""

    primary: Bools | None
    secondary: Bools | None
    why: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Terms:
    """What the places of one instance cost by its rules.

    Attributes:
        primary, secondary: per node the cost in each role; infinity where a hard rule forbids it.
        apart: which pairs of nodes lie in different failure domains.
        own: what its present place costs.
    """

    primary: Floats
    secondary: Floats
    apart: Bools | None
    own: float

    def change(self, p: int | Ints, s: int | Ints) -> Floats:
        """How the cost changes when the instance goes to the primary p and the secondary s (-1 for none)."""
        result = np.asarray(self.primary[p] - self.own)
        if isinstance(s, int) and s < 0:
            return result
        result = result + self.secondary[s]
        return result if self.apart is None else np.where(self.apart[p, s], result, np.inf)


def _alone(label: str, _node: int) -> str:
    return f"affinity: no other instance labelled {label} runs here"


def _left_alone(label: str, _node: int) -> str:
    return f"affinity: would leave another instance labelled {label} alone"


class Book:
    """The rules of every instance, and what they mean for a place.

    Raises:
        RequestError: for rules that name unknown node groups or nodes.
    """

    def __init__(self, state: State, rules: Mapping[str, Rules], weights: Mapping[str, float] | None = None) -> None:
        """Take in rules by instance, and what breaking a wish costs by label (SOFT_WEIGHT for others)."""
        self.state = state
        names = state.nodes.names
        self.index = {name: n for n, name in enumerate(names)}
        self.rules = [rules.get(name, Rules()) for name in state.inst.names]
        self.weights = dict(weights or {})
        self.ruled: Bools = np.array([rule != Rules() for rule in self.rules], dtype=bool)
        self.any = bool(self.ruled.any())
        self.members: dict[tuple[str, str], Ints] = {}
        self._fixed: dict[int, list[_Constraint]] = {}
        for i, (name, rule) in enumerate(zip(state.inst.names, self.rules, strict=True)):
            self._check(name, rule)
            for kind in ("anti_affinity", "affinity", "avoid", "near"):
                for label in getattr(rule, kind):
                    self.members[kind, label] = np.append(self.members.get((kind, label), []), i).astype(np.intp)

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

    def on(self, state: State) -> Book:
        """The same rules for another state of the same cluster."""
        other = copy.copy(self)
        other.state = state
        return other

    def _weight(self, label: str) -> float:
        return self.weights.get(label, SOFT_WEIGHT)

    def _others(self, i: int, kind: str, label: str) -> tuple[Floats, Floats]:
        """How many other instances with a label each node holds, as primaries and as secondaries."""
        others = self.members[kind, label]
        return self._count(others[others != i])

    def _count(self, which: Ints) -> tuple[Floats, Floats]:
        count = len(self.index)
        primaries, secondaries = self.state.pri[which], self.state.sec[which]
        return (
            np.bincount(primaries[primaries >= 0], minlength=count).astype(np.float64),
            np.bincount(secondaries[secondaries >= 0], minlength=count).astype(np.float64),
        )

    # -- hard -----------------------------------------------------------------------------------------------------

    def _constraints(self, i: int) -> Iterator[_Constraint]:
        if i not in self._fixed:
            self._fixed[i] = list(self._pins(self.rules[i]))
        yield from self._fixed[i]
        yield from self._apart_from(i, self.rules[i])
        yield from self._together_with(i, self.rules[i])

    def _pins(self, rule: Rules) -> Iterator[_Constraint]:
        """What holds wherever other instances are."""
        groups, nodes = self.state.cluster.groups, self.state.nodes
        names = np.array(nodes.names, dtype=object)
        if rule.groups:
            good = np.array([g.name in rule.groups or g.uuid in rule.groups for g in groups], dtype=bool)
            outside = ~good[nodes.group]
            wanted = " or ".join(rule.groups)
            yield _Constraint(
                outside,
                outside,
                lambda n: f"is in node group {groups[nodes.group[n]].name}; the instance must be in {wanted}",
            )
        if rule.excluded:
            bad = np.isin(names, rule.excluded)
            yield _Constraint(bad, bad, lambda _n: "is excluded for the instance")
        for role, wanted in (("primary", rule.primary), ("secondary", rule.secondary)):
            if wanted:
                other, here = names != wanted, names == wanted
                primary, secondary = (other, here) if role == "primary" else (here, other)
                yield _Constraint(primary, secondary, partial(self._pinned, role, wanted))

    def _pinned(self, role: str, wanted: str, n: int) -> str:
        if self.state.nodes.names[n] == wanted:
            return f"the instance is pinned to {wanted} in its other role"
        return f"the instance's {role} is pinned to {wanted}"

    def _apart_from(self, i: int, rule: Rules) -> Iterator[_Constraint]:
        for label in rule.anti_affinity:
            here = self._others(i, "anti_affinity", label)[0] > 0
            yield _Constraint(here, None, partial(self._runs, i, label))

    def _together_with(self, i: int, rule: Rules) -> Iterator[_Constraint]:
        for label in rule.affinity:
            there, p = self._others(i, "affinity", label)[0], int(self.state.pri[i])
            if there.any():
                yield _Constraint(there == 0, None, partial(_alone, label))
            if p >= 0 and there[p] == 1 and there.sum() > 1:
                yield _Constraint(np.arange(len(there)) != p, None, partial(_left_alone, label))

    def _runs(self, i: int, label: str, n: int) -> str:
        members = self.members["anti_affinity", label].tolist()
        names = [self.state.inst.names[k] for k in members if k != i and self.state.pri[k] == n]
        return f"anti-affinity: runs {', '.join(names)}"

    def forbidden(self, i: int) -> tuple[list[str], list[str]]:
        """Per node why the rules forbid instance i there as primary and as secondary; "" where they do not."""
        as_primary, as_secondary = [""] * len(self.index), [""] * len(self.index)
        for one in self._constraints(i):
            for mask, reasons in ((one.primary, as_primary), (one.secondary, as_secondary)):
                for n in np.flatnonzero(mask).tolist() if mask is not None else ():
                    reasons[n] = reasons[n] or one.why(n)
        return as_primary, as_secondary

    def _masks(self, constraints: Iterable[_Constraint]) -> tuple[Bools, Bools]:
        """Which nodes they leave, as primary and as secondary."""
        primary, secondary = np.ones(len(self.index), dtype=bool), np.ones(len(self.index), dtype=bool)
        for one in constraints:
            if one.primary is not None:
                primary &= ~one.primary
            if one.secondary is not None:
                secondary &= ~one.secondary
        return primary, secondary

    def allowed(self, i: int, mirrored: bool) -> Bools:
        """Where the rules let instance i be: per node, or per (primary, secondary)."""
        return self._left_by(i, self._constraints(i), mirrored)

    def wanted(self, i: int, mirrored: bool) -> Bools:
        """The same without regard to instances that it is to be kept apart from: these can be moved."""
        return self._left_by(i, chain(self._pins(self.rules[i]), self._together_with(i, self.rules[i])), mirrored)

    def in_the_way(self, i: int) -> Floats:
        """How many instances run on each node that instance i must be kept apart from."""
        result = np.zeros(len(self.index))
        for label in self.rules[i].anti_affinity:
            result += self._others(i, "anti_affinity", label)[0]
        return result

    def _left_by(self, i: int, constraints: Iterable[_Constraint], mirrored: bool) -> Bools:
        primary, secondary = self._masks(constraints)
        if not mirrored:
            return primary
        pairs: Bools = primary[:, None] & secondary[None, :]
        return pairs & self.apart(i)

    def apart(self, i: int) -> Bools:
        """Which pairs lie in different failure domains, of the kinds that the instance cares for."""
        kinds = tuple(kind + ":" for kind in self.rules[i].apart)
        count = len(self.index)
        if not kinds:
            return np.ones((count, count), dtype=bool)
        tags = sorted({tag for tags in self.state.nodes.tags for tag in tags if tag.startswith(kinds)})
        member = np.array([[tag in own for tag in tags] for own in self.state.nodes.tags], dtype=np.float64)
        shared: Bools = (member.reshape(count, len(tags)) @ member.reshape(count, len(tags)).T) == 0
        return shared

    def kept(self, i: int) -> bool:
        """Whether instance i is where its hard rules want it."""
        p, s = int(self.state.pri[i]), int(self.state.sec[i])
        mask = self.allowed(i, s >= 0)
        return bool(mask[p] if s < 0 else mask[p, s])

    # -- soft -----------------------------------------------------------------------------------------------------

    def _wishes(self, i: int) -> tuple[Floats, Floats]:
        """What each node costs for the wishes that it breaks, as primary and as secondary."""
        rule, count = self.rules[i], len(self.index)
        primary, secondary = np.zeros(count), np.zeros(count)
        for label in rule.avoid:
            primary += self._weight(label) * self._others(i, "avoid", label)[0]
        for label in rule.near:
            there = self._others(i, "near", label)[0]
            if there.any():
                primary += self._weight(label) * (there == 0)
        # After a failover the two should still be apart, if that can be had.
        for label in rule.anti_affinity:
            primaries, secondaries = self._others(i, "anti_affinity", label)
            primary += self._weight(label) / 2 * secondaries
            secondary += self._weight(label) / 2 * primaries
        return primary, secondary

    def penalty(self, i: int, mirrored: bool) -> Floats:
        """What a place adds to the score for the wishes that it breaks: per node, or per (primary, secondary)."""
        primary, secondary = self._wishes(i)
        return primary[:, None] + secondary[None, :] if mirrored else primary

    # -- both, for moves ------------------------------------------------------------------------------------------

    def cost(self, state: State) -> float:
        """What broken wishes and broken hard rules cost altogether in a state."""
        book, total = self.on(state), 0.0
        for (kind, label), members in self.members.items():
            primaries, secondaries = book._count(members)
            if kind == "avoid":
                total += self._weight(label) * float(np.sum(primaries * (primaries - 1) / 2))
            elif kind == "near":
                total += self._weight(label) * max(0, int((primaries > 0).sum()) - 1)
            elif kind == "anti_affinity":
                total += self._weight(label) / 2 * float(np.sum(primaries * secondaries))
        placed = np.flatnonzero(self.ruled & (state.pri >= 0)).tolist()
        return total + BROKEN_WEIGHT * sum(not book.kept(i) for i in placed)

    def terms(self, i: int) -> Terms:
        """What every place of an instance that is placed costs."""
        masks, wishes = self._masks(self._constraints(i)), self._wishes(i)
        primary, secondary = (np.where(mask, wish, np.inf) for mask, wish in zip(masks, wishes, strict=True))
        apart = self.apart(i) if self.rules[i].apart else None
        p, s = int(self.state.pri[i]), int(self.state.sec[i])
        own = float(wishes[0][p]) + (float(wishes[1][s]) if s >= 0 else 0.0)
        return Terms(primary, secondary, apart, own + (0.0 if self.kept(i) else BROKEN_WEIGHT))

    def adjust(self, table: Scores) -> None:
        """Add to the scores of moves what they change for the rules; infinity where a hard rule forbids one."""
        for row in np.flatnonzero(self.ruled[table.which]).tolist():
            i = int(table.which[row])
            terms, p, s = self.terms(i), int(self.state.pri[i]), int(self.state.sec[i])
            for kind, matrix in table.matrices():
                first, second = _ends(kind, p, s, table.targets)
                matrix[row] += terms.change(first, second)


def _ends(kind: Kind, p: int, s: int, targets: Ints) -> tuple[int | Ints, int | Ints]:
    """The primary and the secondary that a kind of move leads to, for each target."""
    ends: dict[Kind, tuple[int | Ints, int | Ints]] = {
        Kind.FAILOVER: (s, p),
        Kind.REPLACE_SECONDARY: (p, targets),
        Kind.REPLACE_AND_FAILOVER: (targets, p),
        Kind.REPLACE_PRIMARY: (targets, s),
        Kind.FAILOVER_AND_REPLACE: (s, targets),
        Kind.FAILOVER_TO_ANY: (targets, s),
    }
    return ends[kind]
