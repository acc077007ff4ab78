# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of a cluster, before and after balancing (as Ganeti's hcheck), and which losses it would not survive.

Two faults of hcheck are put right: secondaries on offline nodes are counted as instances, not as nodes, and the final
verdict is about the state after balancing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .ganeti_n1 import unsafe_nodes
from .greedy import Limits, Plan, balance
from .redundancy import Loss, domain_losses, double_losses, single_losses
from .scan import Rules
from .score import bad_items, optimum, score
from .state import N_PRI, N_SEC, State


@dataclass(frozen=True, slots=True)
class Health:
    """Counts of what is wrong in a node group, or in the cluster.

    Attributes:
        n1_fail: online nodes that fail N+1. conflict_tags: nodes with conflicting primaries.
        offline_pri, offline_sec: primaries and secondaries on offline nodes.
        gn1_fail: nodes whose loss would strand an instance.
    """

    n1_fail: int = 0
    conflict_tags: int = 0
    offline_pri: int = 0
    offline_sec: int = 0
    gn1_fail: int = 0

    @property
    def counts(self) -> tuple[int, ...]:
        """All counts, in hcheck's order."""
        return (self.n1_fail, self.conflict_tags, self.offline_pri, self.offline_sec, self.gn1_fail)

    @property
    def bad(self) -> bool:
        """Whether anything is wrong."""
        return sum(self.counts) > 0


@dataclass(frozen=True, slots=True)
class GroupHealth:
    """The health and score of one node group."""

    group: int
    health: Health
    score: float


@dataclass(slots=True)
class Checked:
    """What a check found: before, and after balancing where that was simulated; losses that are not survived."""

    before: list[GroupHealth]
    after: list[GroupHealth]
    plans: dict[int, Plan] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong before balancing."""
        return not total(self.before).bad

    @property
    def healthy_after(self) -> bool:
        """Whether nothing is wrong after balancing."""
        return not total(self.after).bad


def total(groups: list[GroupHealth]) -> Health:
    """The sums over node groups."""
    columns = zip(*(g.health.counts for g in groups), strict=True)
    return Health(*(sum(column) for column in columns)) if groups else Health()


def check(
    state: State,
    rules: Rules | None = None,
    limits: Limits | None = None,
    *,
    capacity_checks: bool = True,
    simulate: bool = True,
    two: bool = True,
) -> Checked:
    """Check a cluster, group by group.

    Args:
        rules, limits: for the balancing that is simulated when something is wrong.
        capacity_checks: ask for each node whether it could be lost. two: ask the same for any two nodes.
    """
    numbers = sorted(set(state.nodes.group.tolist()))
    parts = {g: state.subset(g) for g in numbers}
    before = [_health(g, part, capacity_checks) for g, part in parts.items()]
    result = Checked(before, before)
    if simulate and total(before).bad:
        limits = limits or Limits()
        after = []
        for g, part in parts.items():
            trial = part.copy()
            if score(part) >= limits.min_score + optimum(part):
                result.plans[g] = balance(trial, rules, limits)
            after.append(_health(g, trial, capacity_checks))
        result.after = after
    if capacity_checks:
        result.losses = single_losses(state) + (double_losses(state) if two else []) + domain_losses(state)
    return result


def _health(group: int, state: State, capacity_checks: bool) -> GroupHealth:
    conflicts = np.maximum(state.tag_count - 1.0, 0.0).sum(axis=1)
    offline = state.nodes.offline
    health = Health(
        n1_fail=len(bad_items(state)[0]),
        conflict_tags=int((conflicts > 0).sum()),
        offline_pri=int(state.dyn[N_PRI][offline].sum()),
        offline_sec=int(state.dyn[N_SEC][offline].sum()),
        gn1_fail=len(unsafe_nodes(state)) if capacity_checks else 0,
    )
    return GroupHealth(group, health, score(state))
