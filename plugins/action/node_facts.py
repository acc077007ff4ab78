# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observe one node; the module of the same name documents it."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.twofold.cluster.plugins.plugin_utils._node_call import NodeAction


class ActionModule(NodeAction):
    """Return what the node says about itself."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Observe the node."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = {"node": task_vars["inventory_hostname"], **self._task.args}
        begun = time.time()
        observed = self.call_node("observe", arguments, task_vars)
        # The node read its clock between these two readings of ours.
        result["observed"] = {**observed, "asked": [begun, time.time()]}
        result["changed"] = False
        return result
