# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply one node's steps of one wave; the module of the same name documents it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible_collections.twofold.cluster.plugins.plugin_utils import _inventory
from ansible_collections.twofold.cluster.plugins.plugin_utils._cluster import read_desired, with_groups
from ansible_collections.twofold.cluster.plugins.plugin_utils._node_call import NodeAction, NotUnderstood
from ansible_collections.twofold.cluster.plugins.plugin_utils._progress import Progress
from ansible_collections.twofold.cluster.plugins.plugin_utils._run import Document, Run

# Stands in a plan for the text of a file of the control host.
FILE = "$file"
SCRIPTS = Path(__file__).resolve().parents[2] / "playbooks" / "files" / "os"


class ActionModule(NodeAction):
    """Send this node its steps, with what they need."""

    ARGUMENTS = {
        "run": {"type": "path", "required": True},
        "wave": {"type": "int", "required": True},
    }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Apply the steps of the wave and keep their results in the run."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import apply

        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _ignored, arguments = self.validate_argument_spec(self.ARGUMENTS)
        node, run, wave = task_vars["inventory_hostname"], Run(arguments["run"]), arguments["wave"]
        turn = apply.turn(run.plan, node, wave, run.results())
        if self._task.check_mode or turn is None:
            result.update(skipped=True, changed=False)
            return result
        answer: Document = {"results": [], "changed": False}
        steps, unsent = self._bring_all(turn.ready)
        if steps or (turn.last and holds_lock(run, node)):
            answer = self._call(run, steps, turn.last, task_vars)
        answer["results"] += unsent + turn.blocked
        run.record(node, wave, answer)
        result.update(changed=answer["changed"], results=answer["results"])
        if "problem" in answer:
            # The task does not fail: the node would be taken out of the play, and with it what cleans up.
            result["warnings"] = [f"{node}: {answer['problem']}"]
        return result

    def _call(self, run: Run, steps: list[Document], last: bool, task_vars: dict[str, Any]) -> Document:
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import apply

        request = apply.request(
            run.identity,
            steps,
            secrets_of(steps, task_vars, self._templar),
            held=holds_lock(run, task_vars["inventory_hostname"]),
            last=last,
            lease=self._seconds("twofold_lock_lease", 120, task_vars),
            wait=self._seconds("twofold_lock_wait", 150, task_vars),
        )
        with Progress(task_vars["inventory_hostname"], self._connection):
            try:
                return apply.understood(self.call_node("apply", request, task_vars), request)
            except NotUnderstood as error:
                return apply.damaged(str(error), request)
            except AnsibleActionFail as error:
                return apply.broken(str(error), request)

    def _seconds(self, name: str, default: int, task_vars: dict[str, Any]) -> int:
        """Return a number of the inventory, which the plan has checked; a task may have variables of its own."""
        value = _inventory.templated(name, task_vars, self._templar)
        try:
            return default if value is None else int(value)
        except (TypeError, ValueError) as error:
            node = task_vars["inventory_hostname"]
            raise AnsibleActionFail(f"{name} of {node} is {value!r}, no number of seconds. Correct it.") from error

    def _bring_all(self, steps: list[Document]) -> tuple[list[Document], list[Document]]:
        """Return the steps to send, and the results of those that lack a file and of those that need them."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import apply

        brought, lacking = [], {}
        for step in steps:
            try:
                brought.append(self._bring(step))
            except AnsibleConnectionFailure:
                raise
            except (AnsibleError, OSError, UnicodeDecodeError) as error:
                lacking[step["id"]] = apply.lacking(step, str(error))
        if not lacking:
            return brought, []
        ready, blocked = apply.split(brought, lacking)
        return ready, [*lacking.values(), *blocked]

    def _bring(self, step: Document) -> Document:
        """Return the step with what it needs of the control host: an image's file is uploaded, a script is put in."""
        args = dict(step["args"])
        if step["op"] == "image.fetch" and args.get("file") and not args.get("url"):
            # A second one would take the place of the first, which nobody would remove then.
            if self._connection._shell.tmpdir is None:
                self._make_tmp_path()
            target = self._connection._shell.join_path(self._connection._shell.tmpdir, args["sha256"])
            args["uploaded"] = self._transfer_file(self._find_needle("files", args["file"]), target)
        if isinstance(args.get("script"), dict):
            args["script"] = script_text(args["script"][FILE], self._find_needle)
        return {**step, "args": args}


def script_text(name: str, find: Callable[[str, str], str]) -> str:
    """Return the text of an OS script: one that we ship, by its name, or a file of the control host."""
    shipped = SCRIPTS / name
    path = shipped if shipped.parent == SCRIPTS and shipped.is_file() else Path(find("files", name))
    return path.read_text(encoding="utf-8")


def holds_lock(run: Run, node: str) -> bool:
    """Return whether the last call to the node left it locked; a wave whose steps are all in vain makes none."""
    return [answer["lock"] for name, answer in run.answers() if name == node and "lock" in answer][-1:] == ["held"]


def secrets_of(steps: list[Document], task_vars: dict[str, Any], templar: Any) -> dict[str, str]:
    """Return the secrets that the steps name; only these leave the control host."""
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import TwofoldError, secrets

    names = set().union(*(secrets.used(step["args"]) for step in steps))
    if not names:
        return {}
    desired = read_desired(with_groups(task_vars, templar))
    try:
        return {name: secrets.resolve(desired, name) for name in sorted(names)}
    except TwofoldError as error:
        raise AnsibleActionFail(str(error)) from error
