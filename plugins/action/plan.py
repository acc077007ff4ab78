# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan on the control host; the module of the same name documents it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible_collections.twofold.cluster.plugins.module_utils import _json
from ansible_collections.twofold.cluster.plugins.plugin_utils._cluster import Cluster, ClusterAction
from ansible_collections.twofold.cluster.plugins.plugin_utils._run import Run

if TYPE_CHECKING:
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import Plan


class ActionModule(ClusterAction):
    """Show, save or load a plan and prepare its run."""

    ARGUMENTS = {
        "intent": {"type": "dict", "default": {"verb": "converge"}},
        "save": {"type": "path"},
        "load": {"type": "path"},
        "fenced": {"type": "dict", "default": {}},
    }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Plan from what the inventory and the nodes say."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import planner, report

        result: dict[str, Any] = super().run(tmp, task_vars)
        cluster = self.cluster(task_vars or {})
        plan = load(self.arguments["load"], cluster) if self.arguments["load"] else self._make(cluster)
        self.show(report.plan_text(plan, self.width, self.color))
        if self.arguments["save"]:
            self.show(f"Saved as {' and '.join(save(plan, Path(self.arguments['save'])))}.")
            for finding in planner.bound_to_its_run(plan):
                self.show(f"It cannot be applied later. {finding.text}")
        document = plan.to_json()
        errors = [finding for finding in document["findings"] if finding["severity"] == "error"]
        prepare = not (self._task.check_mode or self.arguments["save"]) and document["steps"]
        if prepare:
            require_forks(plan, int((task_vars or {}).get("ansible_forks") or 0))
        result.update(
            changed=bool(document["steps"]),
            waves=document["waves"],
            summary=document["summary"],
            findings=document["findings"],
            errors=errors,
            fingerprint=document["fingerprint"],
            details=document["details"],
            run=str(Run.start(document).path) if prepare else None,
        )
        return result

    def _make(self, cluster: Cluster) -> Plan:
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import planner

        given = {**self.arguments["intent"], "fenced": self.arguments["fenced"]}
        intent = {key: value for key, value in given.items() if value not in (None, "", {})}
        return planner.plan(cluster.desired, cluster.observed, intent)


def require_forks(plan: Plan, forks: int) -> None:
    """Refuse a plan with more nodes that wait for each other than Ansible works on at once; 0: that is not known.

    The two sides of a migration settle together: one would wait for the other's call, which would wait for a worker.
    """
    waiting = {(step.wave, step.node) for step in plan.steps if step.op == "replication.settle"}
    together = max(Counter(wave for wave, _node in waiting).values(), default=0)
    if 0 < forks < together:
        raise AnsibleActionFail(
            f"{together} nodes wait for each other in a wave of this plan, and Ansible works on {forks} at once. "
            f"Nothing was done. Run this with --forks {together}, or set that in ansible.cfg."
        )


def save(plan: Plan, path: Path) -> list[str]:
    """Write the plan as JSON and, for a pull request, as Markdown; return the paths."""
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import report

    markdown = path.with_suffix(".md")
    if markdown == path:
        raise AnsibleActionFail(
            f"{path} is where the plan for people would go. Nothing was saved. "
            f"Let twofold_plan_file name the file {path.with_suffix('.json')}: the Markdown is put beside it."
        )
    try:
        path.write_text(json.dumps(plan.to_json(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        markdown.write_text(report.plan_markdown(plan), encoding="utf-8")
    except OSError as error:
        raise AnsibleActionFail(f"The plan cannot be saved as {path}: {error.strerror}.") from error
    return [str(path), str(markdown)]


def load(path: str, cluster: Cluster) -> Plan:
    """Return a saved plan, if what it was based on is still so and was no proof."""
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import Plan, TwofoldError, planner

    try:
        plan = Plan.from_json(_json.read(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise AnsibleActionFail(f"The plan {path} cannot be read: {error.strerror}.") from error
    except (ValueError, TwofoldError) as error:
        raise AnsibleActionFail(f"{path} is not a plan of ours ({error}). Save one with playbooks/plan.yml.") from error
    refused = planner.check_saved(plan, cluster.desired, cluster.observed)
    if refused:
        reasons = "; ".join(f"{finding.object}: {finding.message}" for finding in refused)
        remedies = "; ".join(dict.fromkeys(finding.remedy for finding in refused))
        raise AnsibleActionFail(f"The plan {path} is refused. {reasons}. Nothing was done. What to do: {remedies}.")
    return plan
