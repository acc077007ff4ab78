# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A play on a group that is not there ends with a message, not with success."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible import context
from ansible.errors import AnsibleFilterError
from ansible_collections.twofold.cluster.plugins.plugin_utils._cluster import NO_NODES, no_such_group

DOCUMENTATION = r"""
name: node_group
short_description: The name of the nodes' group, if the inventory has it
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - For C(hosts) of a play. Ansible only warns of a group that it does not find, and ends well without having done
    anything; with this filter the play fails, also if the group is empty.
  - A check of the syntax needs no inventory, so it accepts every name.
options:
  _input:
    description:
      - The name of the group.
    type: str
    required: true
  groups:
    description:
      - The groups of the inventory, which are the variable C(groups).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Look at the nodes
  hosts: "{{ twofold_node_group | default('nodes') | twofold.cluster.node_group(groups) }}"
  gather_facts: false
  tasks:
    - name: Observe the nodes
      twofold.cluster.node_facts:
"""

RETURN = r"""
_value:
  description:
    - The same name.
  type: str
"""


def node_group(name: Any, groups: Mapping[str, Any]) -> str:
    """Return the name of a group that has hosts.

    :raises AnsibleFilterError: there is no such group, or it is empty.
    """
    group = str(name)
    if context.CLIARGS.get("syntax") or groups.get(group):
        return group
    missing = group not in groups and group != "nodes"
    raise AnsibleFilterError(no_such_group("twofold_node_group", group, groups) if missing else NO_NODES)


class FilterModule:
    """The filter, for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by its name."""
        return {"node_group": node_group}
