# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What actions on the whole cluster share: reading inventory and nodes, showing text. Private to the collection."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.twofold.cluster.plugins.plugin_utils import _inventory, _parameters

if TYPE_CHECKING:
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import Desired

display = Display()

NODE_GROUP = "twofold_node_group"
INSTANCE_GROUP = "twofold_instance_group"
# Strategies that do not do a task on all hosts before the next one.
AHEAD = ("free", "host_pinned", "mitogen_free", "mitogen_host_pinned")
NO_NODES = (
    "The inventory has no nodes: it needs hosts in the group 'nodes', or twofold_node_group "
    "has to name the group that they are in."
)


@dataclass
class Cluster:
    """What is wanted (with what is wrong with the inventory) and what is observed."""

    desired: Desired
    observed: dict[str, dict[str, Any] | None]


def read_desired(task_vars: Mapping[str, Any]) -> Desired:
    """Return what the inventory wants."""
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import inventory

    nodes = _inventory.variables(task_vars, members(task_vars, NODE_GROUP, "nodes"))
    instances = _inventory.variables(task_vars, members(task_vars, INSTANCE_GROUP, "instances"))
    desired, _ignored = inventory.load(nodes, instances, _inventory.Sources(task_vars).locate)
    return desired


def with_groups(task_vars: Mapping[str, Any], templar: Any) -> dict[str, Any]:
    """Return the variables with the names of the two groups templated.

    :raises AnsibleActionFail: one of them is no group of the inventory.
    """
    settings = [setting for setting in (NODE_GROUP, INSTANCE_GROUP) if setting in task_vars]
    return {**task_vars, **{setting: _group(task_vars, setting, templar) for setting in settings}}


def _group(task_vars: Mapping[str, Any], setting: str, templar: Any) -> str:
    name = str(_inventory.templated(setting, task_vars, templar))
    if name not in task_vars["groups"]:
        raise AnsibleActionFail(no_such_group(setting, name, task_vars["groups"]))
    return name


def no_such_group(setting: str, name: str, groups: Iterable[str]) -> str:
    """Return what is said of a group that the inventory does not have."""
    known = ", ".join(sorted(set(map(str, groups)) - {"all", "ungrouped"}))
    return (
        f"{setting} is {name!r}, and the inventory has no such group. Nothing was done. "
        f"Its groups are {known}: name one of them, or remove the variable."
    )


def members(task_vars: Mapping[str, Any], setting: str, default: str) -> list[str]:
    """Return the hosts of the group that the variable ``setting`` names."""
    name = str(task_vars.get(setting, default))
    return [str(host) for host in task_vars["groups"].get(name, [])]


def said(answer: Mapping[str, Any]) -> Any:
    """Return what a node said by the registered result of its observation; None if it did not answer.

    One that was reached and could not be asked is no silent one: its guests may run.
    """
    document = _inventory.plain(answer.get("observed"))
    if document is None and answer.get("failed") and not answer.get("unreachable"):
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import observed

        return observed.not_told(" ".join(str(answer.get("msg") or "its observation failed").split()))
    return document


def _require_steps_of_all(play: Any) -> None:
    """Refuse a strategy in which one node's part of a play runs ahead of another's: they wait for each other."""
    strategy = str(play.strategy)
    if strategy.rpartition(".")[2] in AHEAD:
        raise AnsibleActionFail(
            f"The strategy {strategy} lets one node run ahead of another, and a plan's steps wait for each other. "
            "Nothing was done. Run this with ANSIBLE_STRATEGY=linear, or set that in ansible.cfg."
        )


def _require_asked(answers: Mapping[str, Any], in_play: Collection[str]) -> None:
    """Refuse to go on without the answer of a node that was not asked.

    It must not count as one that is silent, whose guests are started elsewhere and whose power is taken.
    """
    unasked = [node for node, answer in answers.items() if answer is None]
    if unasked:
        # Ansible leaves a host out for which something failed before, and tells the play of it all the same.
        failed = [node for node in unasked if node in in_play]
        why = f" If an earlier part of this run failed for {', '.join(failed)}, see above, or run converge.yml alone."
        raise AnsibleActionFail(
            f"{', '.join(unasked)}: not asked in this run, so nothing is known of the cluster as a whole. Nothing was "
            f"done. Run this without --limit and --start-at-task.{why if failed else ''}"
        )


class ClusterAction(ActionBase):
    """An action plugin that looks at the whole cluster and touches no host."""

    ARGUMENTS: ClassVar[dict[str, dict[str, Any]]] = {}
    _supports_check_mode = True
    _supports_diff = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the playbook's parameters, and validate the arguments into ``self.arguments``."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _parameters.check(self._task.get_play(), self._loader, task_vars or {}, self._templar)
        specification = {"observed": {"type": "str", "default": "operate_observed"}, **self.ARGUMENTS}
        _ignored, self.arguments = self.validate_argument_spec(specification)
        return result

    def cluster(self, task_vars: Mapping[str, Any], *, asked: bool = True) -> Cluster:
        """Return what the inventory wants and what the nodes said in the registered variable ``observed``.

        With ``asked`` it is an error if one was not asked.
        """
        task_vars = with_groups(task_vars, self._templar)
        if not members(task_vars, NODE_GROUP, "nodes"):
            raise AnsibleActionFail(NO_NODES)
        _inventory.Sources(task_vars).refuse_bombs()
        nodes, name = members(task_vars, NODE_GROUP, "nodes"), self.arguments["observed"]
        answers = {node: task_vars["hostvars"][node].get(name) for node in nodes}
        if asked:
            _require_steps_of_all(self._task.get_play())
            _require_asked(answers, task_vars.get("ansible_play_hosts_all") or ())
        return Cluster(read_desired(task_vars), {node: said(answer or {}) for node, answer in answers.items()})

    def write(self, document: Any) -> None:
        """Write a document as JSON to the path of the argument ``file``, if there is one."""
        path = self.arguments["file"]
        if not path:
            return
        try:
            Path(path).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise AnsibleActionFail(f"{path} cannot be written: {error.strerror}.") from error

    @property
    def width(self) -> int:
        """The width of the operator's screen, in characters."""
        return max(80, shutil.get_terminal_size((120, 40)).columns)

    @property
    def color(self) -> bool:
        """Whether the operator's screen takes colours."""
        return "NO_COLOR" not in os.environ and sys.stdout.isatty()

    @staticmethod
    def show(text: str) -> None:
        """Show text to the operator as it is."""
        display.display(text.rstrip("\n"))
