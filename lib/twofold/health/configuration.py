# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration of the nodes themselves: what the inspection of the role `node` found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..findings import ERROR, WARNING, Finding

REMEDY = "run bootstrap.yml, which shows it with --check --diff and puts it right"
# A node that is silent is the planner's finding.
TOLD = frozenset({"silent"})


def findings(reviewed: Iterable[Finding], changes: Mapping[str, Iterable[Mapping[str, Any]]]) -> Iterator[Finding]:
    """The review's findings under codes of their own, and everything that differs, by node."""
    for finding in reviewed:
        if finding.code not in TOLD:
            # A second or two stops a bootstrap, not a cluster that runs.
            severity = WARNING if finding.code == "clock" and finding.severity == ERROR else finding.severity
            yield replace(finding, code=f"node-{finding.code}", severity=severity)
    for node, found in sorted(changes.items()):
        for change in found:
            yield Finding(WARNING, "node-differs", f"node {node}", f"{change['object']}: {change['message']}", REMEDY)
