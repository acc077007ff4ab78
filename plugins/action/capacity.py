# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what still fits and what a loss would do; the module of the same name documents it."""

from __future__ import annotations

from typing import Any

from ansible_collections.twofold.cluster.plugins.plugin_utils._cluster import ClusterAction


class ActionModule(ClusterAction):
    """Show how many more instances fit, and the loss of each node."""

    ARGUMENTS = {"file": {"type": "path"}}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Show the capacity and return it as data."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import capacity, report

        result: dict[str, Any] = super().run(tmp, task_vars)
        cluster = self.cluster(task_vars or {})
        found = capacity.document(cluster.desired, cluster.observed)
        self.show(report.capacity_text(found, self.width, self.color))
        self.write(found)
        result.update(changed=False, capacity=found)
        return result
