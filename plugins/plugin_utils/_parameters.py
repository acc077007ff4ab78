# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parameters of our playbooks: what was given is refused if it is not understood. Private to the collection."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars
from ansible_collections.twofold.cluster.plugins.plugin_utils import _inventory

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
# Variables of these names are no parameters: the inventory's, which are checked with it, and Ansible's own.
OTHERS = ("twofold_", "ansible_")

display = Display()


def check(play: Any, loader: Any, task_vars: Mapping[str, Any], templar: Any) -> None:
    """Look at what was given to a playbook of ours; those of others may have what variables they like.

    :raises AnsibleActionFail: a parameter's name is misspelt, or its value is none that it may have.
    """
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import arguments

    if Path(play.get_path().rpartition(":")[0]).resolve().parent != PLAYBOOKS:
        return
    taken = sorted(arguments.KINDS.keys() & play.vars.keys())
    _check_names(load_extra_vars(loader), taken, task_vars)
    _values, wrong = arguments.read({name: _inventory.templated(name, task_vars, templar) for name in taken})
    for finding in wrong:
        raise AnsibleActionFail(f"{finding.message}. Nothing was done: {finding.remedy}.")


def _check_names(given: Mapping[Any, Any], taken: Collection[str], task_vars: Mapping[str, Any]) -> None:
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import arguments, variables

    if "on" in taken and any(name is True for name in given):
        raise AnsibleActionFail('YAML takes the parameter\'s name on for true. Nothing was done: write "on" in quotes.')
    others = [name for name in map(str, given) if name not in taken and not name.startswith(OTHERS)]
    for name in others:
        # That of another of our playbooks is not misspelt: it may be for one that runs before or after this one.
        near = None if name in arguments.KINDS else variables.nearest(name, taken)
        if near is not None:
            raise AnsibleActionFail(f"There is no parameter {name}. Nothing was done: did you mean {near}?")
    sources = _inventory.Sources(task_vars)
    unknown = [name for name in others if not sources.mention(name)]
    if unknown:
        takes = f"takes {', '.join(taken)}" if taken else "takes no parameters"
        display.warning(
            f"-e {', '.join(unknown)}: neither this playbook nor the inventory knows it. The playbook {takes}."
        )
