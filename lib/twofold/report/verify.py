# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with a cluster: the planner's findings, and everything that a run would change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..findings import INFO, WARNING, Finding, ordered
from ..model import Desired
from ..planner import plan
from ..planner.document import Plan

CODES = {
    "definition.write": "definition-differs",
    "definition.remove": "left-over",
    "volumes.create": "disks-unfinished",
    "volumes.tag": "tags-missing",
    "volumes.remove": "left-over",
    "volumes.grow": "disk-too-small",
    "replication.resize": "disk-too-small",
    "replication.wait": "copy-unfinished",
    "replication.remove": "left-over",
    "domain.resize": "disk-too-small",
    "replication.configure": "replication-differs",
    "replication.settle": "two-primaries",
    "replication.promote": "not-primary",
    "replication.take_over": "not-primary",
    "replication.demote": "primary-unused",
    "seed.write": "seed-differs",
    "seed.remove": "seed-differs",
    "domain.define": "domain-differs",
    "domain.undefine": "domain-left-over",
    "domain.start": "should-run",
    "domain.stop": "should-be-stopped",
}
REMEDY = "run site.yml"


def verify(desired: Desired, observed: dict[str, dict[str, Any] | None], more: Iterable[Finding] = ()) -> list[Finding]:
    """Everything that is wrong, the worst first; `findings.exit_status` turns it into an exit status.

    `more` was found elsewhere, by asking what is not a node.
    """
    made = plan(desired, observed, {"verb": "converge"})
    return ordered([*made.findings, *_changes(made), *_drift(made), *more])


def _whole(made: Plan) -> set[str]:
    """Instances that change as a whole: created or removed."""
    return {change.instance for change in made.summary if change.change in ("create", "remove")}


def _changes(made: Plan) -> list[Finding]:
    found = []
    for change in made.summary:
        if change.instance in _whole(made):
            word = "is not there yet" if change.change == "create" else "is still there"
            code = "not-created" if change.change == "create" else "not-removed"
            found.append(Finding(INFO, code, f"instance {change.instance}", f"it {word}", REMEDY))
    return found


def _drift(made: Plan) -> list[Finding]:
    whole = _whole(made)
    found = []
    for step in made.steps:
        if step.instance is not None and step.instance not in whole:
            code = CODES.get(step.op, "not-converged")
            message = f"on {step.node}: {step.why}"
            found.append(Finding(WARNING, code, f"instance {step.instance}", message, REMEDY))
    return found
