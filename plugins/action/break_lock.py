# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a node's lock away from a dead run; the module of the same name documents it."""

from __future__ import annotations

from typing import Any

from ansible.utils.display import Display
from ansible_collections.twofold.cluster.plugins.plugin_utils._node_call import NodeAction, shaped

display = Display()


class ActionModule(NodeAction):
    """Break the lock of this node, and say whose it was."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Break the lock."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        self.validate_argument_spec({})
        answer = self.call_node("break_lock", {"check_mode": self._task.check_mode}, task_vars)
        lock = shaped(answer, "UNLOCKED")["lock"]
        display.display(f"{task_vars['inventory_hostname']}: {said(lock, self._task.check_mode)}")
        result.update(changed=lock is not None, lock=lock)
        return result


def said(lock: dict[str, Any] | None, check_mode: bool) -> str:
    """Return one line about a lock that was broken, or that there was none."""
    if lock is None:
        return "there is no lock"
    if lock.get("damaged"):
        return f"a lock that is damaged {'would be' if check_mode else 'was'} broken; nobody knows whose it was"
    done = "would be broken" if check_mode else "was broken"
    return f"the lock of {lock['holder']} (run {lock['run']}, last heard of {lock['age']:.0f} s ago) {done}"
