# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The binding to AnsibleModule: the only file of this folder that knows Ansible."""

from __future__ import annotations

from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from ._drbd import PREFIX
from ._errors import TwofoldError
from ._libvirt import URI
from ._node import Node, this_node

Spec = dict[str, Any]
Work = Callable[[Node, dict[str, Any]], dict[str, Any]]


class Binding:
    """A module: its options, and a piece of work that gets the node and the options and returns the answer."""

    def __init__(self, spec: Spec, resource_prefix: str = PREFIX, **constraints: Any) -> None:
        self.module = AnsibleModule(argument_spec=spec, supports_check_mode=True, **constraints)
        self.resource_prefix = resource_prefix

    def execute(self, work: Work) -> None:
        """The one place where errors become answers."""
        module = self.module
        try:
            node = this_node(module.check_mode, module.params.get("local_uri") or URI, self.resource_prefix)
            answer = work(node, module.params)
        except TwofoldError as error:
            module.fail_json(msg=str(error), remedy=error.remedy)
        except OSError as error:
            # A file or device that a piece of work took for granted.
            remedy = "see if it is there, can be read and written, and has room; then run again"
            module.fail_json(
                msg=f"{error.filename or 'a file of this node'}: {error.strerror} ({remedy})", remedy=remedy
            )
        if not getattr(module, "_diff", False):
            answer.pop("diff", None)
        failed = [one for one in answer.get("results", []) if one["status"] == "failed"]
        if answer.get("lock") == "refused":
            first = answer["results"][0] if answer["results"] else {"message": "the node is locked"}
            module.fail_json(msg=first["message"], **answer)
        if failed:
            module.fail_json(msg=failed[0]["message"], **answer)
        module.exit_json(**answer)
