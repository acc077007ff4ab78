# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what is wrong with the cluster; the module of the same name documents it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible_collections.twofold.cluster.plugins.action.report import summary
from ansible_collections.twofold.cluster.plugins.plugin_utils._cluster import ClusterAction

FAILING = {"error": ("error",), "warning": ("error", "warning"), "never": ()}


class ActionModule(ClusterAction):
    """Check the cluster and fail if something is as bad as asked."""

    ARGUMENTS = {
        "file": {"type": "path"},
        "findings": {"type": "list", "elements": "dict", "default": []},
        "fail_on": {"type": "str", "choices": ["error", "warning", "never"], "default": "error"},
        "nodes": {"type": "list", "elements": "str"},
    }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Show and return the findings; fail if one of them is as severe as ``fail_on``."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import Finding, report

        result: dict[str, Any] = super().run(tmp, task_vars)
        cluster = self.cluster(task_vars or {})
        more = [Finding.from_json(finding) for finding in self.arguments["findings"]]
        findings = report.verify(cluster.desired, cluster.observed, more, datetime.now(UTC))
        if self.arguments["nodes"] is not None:
            asked = {f"node {node}" for node in self.arguments["nodes"]}
            findings = [finding for finding in findings if finding.object in asked]
        self.show(report.findings_text(findings, self.width, self.color))
        document = report.findings_document(cluster.desired, findings)
        self.write(document)
        result.update(changed=False, findings=document["findings"], status=document["status"])
        failing = FAILING[self.arguments["fail_on"]]
        severe = [f"{finding.object}: {finding.message}" for finding in findings if finding.severity in failing]
        if severe:
            # Ansible prints the whole result of a failed task, and the findings stand above already.
            del result["findings"]
            result.update(failed=True, msg=summary(severe))
        return result
