# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the subjects of the cluster's health look at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from ..findings import ERROR, INFO, WARNING, Finding
from ..model import Desired
from ..observed import NodeView, Observed, Trace
from ..planner.claims import Claims
from ..planner.situation import has_data


@dataclass(frozen=True)
class Seen:
    """What is wanted, what the nodes said, what of it is taken, and the time (None: nothing is judged by it)."""

    desired: Desired
    observed: Observed
    claims: Claims
    now: datetime | None = None

    @cached_property
    def settled(self) -> list[tuple[Trace, dict[str, Any]]]:
        """Instances that exist, with their newest definition; those that are only being made are left out."""
        traces = [self.observed.trace(name) for name in sorted(self.observed.names())]
        found = [(trace, trace.newest) for trace in traces]
        return [(trace, base) for trace, base in found if base is not None and has_data(base, trace)]

    @property
    def answered(self) -> list[NodeView]:
        """Every node that said something, by name; parts of it may be missing."""
        return [view for _ignored, view in sorted(self.observed.views.items()) if view is not None]

    def listed(self, instance: str) -> bool:
        """Whether the inventory names an instance; the planner speaks about those."""
        return instance in self.desired.instances or instance in self.desired.rejected


def migrating(trace: Trace) -> bool:
    """Whether a live migration of an instance is going on."""
    return any(domain.migrating for domain in trace.domains.values())


def error(code: str, target: str, message: str, remedy: str) -> Finding:
    """Something that is wrong now."""
    return Finding(ERROR, code, target, message, remedy)


def warning(code: str, target: str, message: str, remedy: str) -> Finding:
    """Something that somebody should look at."""
    return Finding(WARNING, code, target, message, remedy)


def info(code: str, target: str, message: str, remedy: str = "") -> Finding:
    """Something that is worth knowing."""
    return Finding(INFO, code, target, message, remedy)
