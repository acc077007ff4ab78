# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names as operators give them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.twofold.cluster.plugins.plugin_utils import _inventory

DOCUMENTATION = r"""
name: names
short_description: Names of nodes, given as a list or as text with commas
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Blanks around names do not count. Anything but a list of names and a text is refused.
options:
  _input:
    description:
      - The names.
    type: raw
    required: true
  known:
    description:
      - The names that there are. Without it all are accepted.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Show the nodes that were named
  ansible.builtin.debug:
    msg: "{{ 'node1, node2' | twofold.cluster.names(groups['nodes']) }}"
"""

RETURN = r"""
_value:
  description:
    - The names.
  type: list
  elements: str
"""


def names(value: Any, known: Collection[str] | None = None) -> list[str]:
    """Return the names.

    :raises AnsibleFilterError: these are none, or one of them is not known.
    """
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import arguments

    read, wrong = arguments.read({"node": _inventory.plain(value)})
    for finding in wrong:
        raise AnsibleFilterError(f"{finding.message}. Nothing was done: {finding.remedy}.")
    found = [name for name in (read["node"] or "").split(",") if name]
    for name in found:
        if known is not None and name not in known:
            raise AnsibleFilterError(
                f"There is no node {name!r}. Nothing was done. The nodes are {', '.join(sorted(known))}."
            )
    return found


class FilterModule:
    """The filter, for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by its name."""
        return {"names": names}
