# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what is wrong with the cluster; the module of the same name documents it."""

from __future__ import annotations

from typing import Any

from ansible_collections.twofold.cluster.plugins.plugin_utils._cluster import ClusterAction


class ActionModule(ClusterAction):
    """Check the cluster and fail if there are errors."""

    ARGUMENTS = {
        "file": {"type": "path"},
        "findings": {"type": "list", "elements": "dict", "default": []},
    }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Show and return the findings; fail if one of them is an error."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import Finding, report

        result: dict[str, Any] = super().run(tmp, task_vars)
        cluster = self.cluster(task_vars or {})
        more = [Finding.from_json(finding) for finding in self.arguments["findings"]]
        findings = report.verify(cluster.desired, cluster.observed, more)
        self.show(report.findings_text(findings, self.width, self.color))
        documents = [finding.to_json() for finding in findings]
        self.write(documents)
        errors = [document for document in documents if document["severity"] == "error"]
        result.update(changed=False, findings=documents)
        if errors:
            result.update(failed=True, msg="; ".join(f"{error['object']}: {error['message']}" for error in errors))
        return result
