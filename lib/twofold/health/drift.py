# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What differs from the inventory, read off the plan that would change it."""

from __future__ import annotations

from collections.abc import Iterator

from ..definition import same
from ..findings import ERROR, INFO, WARNING, Finding
from ..planner.document import Plan, Step
from .seen import Seen

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
    "replication.promote": "not-primary",
    "replication.take_over": "not-primary",
    "seed.write": "seed-differs",
    "seed.remove": "seed-differs",
    "domain.define": "domain-differs",
    "domain.undefine": "domain-left-over",
    "domain.discard": "domain-left-over",
    "domain.resume": "guest-state",
    "domain.stop": "should-be-stopped",
}
# What other subjects say better.
TOLD = frozenset({"replication.settle", "replication.demote", "domain.start", "domain.present"})
# Findings of the planner that other subjects tell in more detail.
SUPERSEDED = frozenset({"disk-not-up-to-date", "not-connected"})
REMEDY = "run site.yml"


def findings(seen: Seen, made: Plan) -> Iterator[Finding]:
    """The plan's own findings, the instances that it makes or removes, and every step of the others."""
    yield from (finding for finding in made.findings if finding.code not in SUPERSEDED)
    whole = {change.instance for change in made.summary if change.change in ("create", "remove")}
    for change in made.summary:
        if change.instance in whole:
            code, word = ("not-created", "there yet") if change.change == "create" else ("not-removed", "removed yet")
            yield Finding(INFO, code, f"instance {change.instance}", f"it is not {word}", REMEDY)
    for step in made.steps:
        if step.instance is None or step.instance in whole or step.op in TOLD:
            continue
        if step.op == "definition.write" and not _wanted_anew(seen, step):
            continue
        message = f"on {step.node}: {step.why}"
        code = CODES.get(step.op, "not-converged")
        severity = ERROR if step.op == "domain.resume" else WARNING
        yield Finding(severity, code, f"instance {step.instance}", message, REMEDY)


def _wanted_anew(seen: Seen, step: Step) -> bool:
    """Whether it is the inventory that makes a definition change, and not that a node's is missing or old."""
    return not same(step.args["document"], seen.observed.trace(step.instance or "").newest)
