# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with a cluster, collected: what the planner found, what a run would change, and its health."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from .. import health
from ..findings import ERROR, INFO, WARNING, Finding, exit_status, ordered
from ..health import drift
from ..health.seen import Seen
from ..model import Desired
from ..observed import Observed
from ..planner import plan
from ..planner.claims import Claims

FORMAT = 1
Documents = dict[str, dict[str, Any] | None]


def verify(
    desired: Desired, observed: Documents, more: Iterable[Finding] = (), now: datetime | None = None
) -> list[Finding]:
    """Everything that is wrong, the worst first; `findings.exit_status` turns it into an exit status.

    `more` was found elsewhere, by asking what is not a node. Without the time `now` certificates are not judged.
    """
    seen_nodes = Observed.of(desired, observed)
    seen = Seen(desired, seen_nodes, Claims(desired, seen_nodes), now)
    found = drift.findings(seen, plan(desired, observed, {"verb": "converge"}))
    return ordered([*map(_as_health, found), *health.findings(seen), *more])


def _as_health(finding: Finding) -> Finding:
    """The severity for the cluster's health, where what matters to a plan matters more or less to it."""
    if finding.code in ("node-unknown", "node-address") and finding.object.startswith("node "):
        return replace(finding, severity=ERROR)
    if finding.code == "interrupted-step":
        return replace(finding, severity=WARNING)
    if finding.code == "migrating":
        return replace(finding, severity=INFO)
    return finding


def findings_document(desired: Desired, findings: Iterable[Finding]) -> dict[str, Any]:
    """The findings for programs; `status` is 0 if nothing is wrong, 1 with warnings, 2 with errors."""
    found = list(findings)
    return {
        "format": FORMAT,
        "cluster": desired.cluster.name,
        "status": exit_status(found),
        "findings": [finding.to_json() for finding in found],
    }
