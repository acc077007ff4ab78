# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what became of a plan; the module of the same name documents it."""

from __future__ import annotations

from typing import Any

from ansible_collections.twofold.cluster.plugins.plugin_utils._cluster import ClusterAction
from ansible_collections.twofold.cluster.plugins.plugin_utils._run import Document, Run


class ActionModule(ClusterAction):
    """Show the steps of a run and fail if any of them failed or the plan has errors."""

    ARGUMENTS = {
        "run": {"type": "path"},
        "errors": {"type": "list", "elements": "dict", "default": []},
    }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Report and end the run."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        path = self.arguments["run"]
        steps, results = self._read(path) if path else ([], {})
        if steps:
            from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import report

            self.show(report.run_text(steps, results, self.width, self.color))
        failed = [
            step["id"] for step in steps if results.get(step["id"], {}).get("status") not in ("changed", "unchanged")
        ]
        errors = [f"{finding['object']}: {finding['message']}" for finding in self.arguments["errors"]]
        result.update(changed=False, failed_steps=failed)
        if failed or errors:
            result.update(failed=True, msg=summary([*errors, *(f"{step} was not done" for step in failed)]))
        return result

    @staticmethod
    def _read(path: str) -> tuple[list[Document], dict[str, Document]]:
        run = Run(path)
        steps, results = run.plan["steps"], run.results()
        run.finish()
        return steps, results


def summary(problems: list[str]) -> str:
    """Return one line for problems that were shown in full before."""
    more = f" (and {len(problems) - 1} more, shown above)" if len(problems) > 1 else ""
    return f"{problems[0]}{more}"
