# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the parts of the planner share while one plan is made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, count
from typing import Any

from ..findings import ERROR, INFO, WARNING, Finding
from ..model import Desired
from ..observed import Observed
from . import document as plan
from .claims import Claims
from .document import Change, Step
from .resyncs import Resyncs


@dataclass(frozen=True)
class Place:
    """The nodes of a new instance, primary first, and why these."""

    nodes: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass
class Context:
    """The inputs of a plan and what came of it so far.

    `places` are those of the new instances for which there is room, `details` what an intent has to say beyond steps,
    `starts` counts the guests that it starts by node.
    """

    desired: Desired
    observed: Observed
    claims: Claims
    steps: dict[str, Step] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    summary: list[Change] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @cached_property
    def resyncs(self) -> Resyncs:
        """The resyncs that the plan starts, and how many may go on at once."""
        return Resyncs(self.desired.cluster.resyncs_at_once)

    def trial(self) -> Context:
        """A copy to plan with; `adopt` keeps what came of it, and who does not adopt it has lost nothing."""
        other = replace(
            self,
            claims=self.claims.copy(),
            steps=dict(self.steps),
            findings=list(self.findings),
            summary=list(self.summary),
            starts=self.starts.copy(),
        )
        other.resyncs = self.resyncs.copy()
        return other

    def adopt(self, other: Context) -> None:
        """Go on from what a trial came to."""
        vars(self).update(vars(other))

    @property
    def errors(self) -> int:
        """How many errors were found so far."""
        return sum(finding.severity == ERROR for finding in self.findings)

    def call_off(self) -> None:
        """Take back everything that was planned: part of it is worse than nothing."""
        self.steps.clear()
        self.summary.clear()

    def error(self, code: str, instance: str, message: str, remedy: str) -> None:
        """Something keeps an instance from being planned."""
        self.findings.append(Finding(ERROR, code, f"instance {instance}", message, remedy))

    def warning(self, code: str, instance: str, message: str, remedy: str) -> None:
        """Something about an instance that somebody should look at."""
        self.findings.append(Finding(WARNING, code, f"instance {instance}", message, remedy))

    def info(self, code: str, instance: str, message: str, remedy: str = "") -> None:
        """Something about an instance that is worth knowing."""
        self.findings.append(Finding(INFO, code, f"instance {instance}", message, remedy))

    def change(self, instance: str, change: str, on: Iterable[str], why: str) -> None:
        """What the plan does to an instance, in a word."""
        self.summary.append(Change(instance, change, tuple(on), why))


class Chain:
    """The steps of one instance: on each node one after another, so that a failure stops what follows on that node.

    The first on each node waits for the steps `after`, which are another instance's.
    """

    def __init__(self, context: Context, instance: str, after: Iterable[str] = ()) -> None:
        self._context = context
        self._first = tuple(after)
        self.instance = instance
        self.last: dict[str, str] = {}
        self.added: list[Step] = []

    def add(
        self,
        node: str,
        op: str,
        args: dict[str, Any],
        *,
        after: Iterable[str] = (),
        kind: str = plan.LIVE,
        why: str = "",
        **more: Any,
    ) -> str:
        """Add a step after the node's last one and after the steps `after`; return its id."""
        needs = dict.fromkeys([*([self.last[node]] if node in self.last else self._first), *after])
        identifier = self._identifier(node, op)
        step = Step(identifier, node, self.instance, op, args, tuple(needs), kind=kind, why=why, **more)
        self._context.steps[identifier] = step
        self.last[node] = identifier
        self.added.append(step)
        return identifier

    def _identifier(self, node: str, op: str) -> str:
        """A name of its own, also where a plan has several chains of one instance."""
        base = f"{self.instance}/{op}@{node}"
        names = chain((base,), (f"{base}#{number}" for number in count(2)))
        return next(name for name in names if name not in self._context.steps)

    def has(self, node: str, op: str) -> bool:
        """Whether a step was added."""
        return any(step.node == node and step.op == op for step in self.added)

    def last_on(self, *nodes: str) -> list[str]:
        """The last step of each of these nodes that has one."""
        return [self.last[node] for node in nodes if node in self.last]

    @property
    def nodes(self) -> list[str]:
        """The nodes with steps, in order of their first."""
        return list(dict.fromkeys(step.node for step in self.added))
