# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show the cluster on one screen; the module of the same name documents it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible_collections.twofold.cluster.plugins.plugin_utils._cluster import ClusterAction


class ActionModule(ClusterAction):
    """Show what is and what is wrong."""

    ARGUMENTS = {"file": {"type": "path"}}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Show the status and return it as data."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import report

        result: dict[str, Any] = super().run(tmp, task_vars)
        cluster = self.cluster(task_vars or {})
        status = report.status_document(cluster.desired, cluster.observed, datetime.now(UTC))
        self.show(report.status_text(status, self.width, self.color))
        self.write(status)
        result.update(changed=False, status=status)
        return result
