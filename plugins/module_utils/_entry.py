# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way in for a caller that is not AnsibleModule: an operation and its arguments, a plain answer."""

from __future__ import annotations

from typing import Any

from ._errors import OTHER_VERSION, UsageError


def main(operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Carries out `observe` (arguments: node, the inventory's name), `apply` (arguments: the request), `break_lock`
    (arguments: check_mode) or `node_config` (see there).

    Answers with the observed document, or with the results. What a person has to know is raised as TwofoldError.
    """
    if operation == "node_config":
        from ._config import node_config

        return node_config(arguments)
    if operation == "break_lock":
        from ._clock import SystemClock
        from ._files import SystemFiles
        from ._lock import FileLock

        return {"lock": FileLock(SystemFiles(), SystemClock()).discard(bool(arguments.get("check_mode")))}
    from ._libvirt import URI
    from ._node import this_node

    node = this_node(bool(arguments.get("check_mode", False)), str(arguments.get("uri") or URI))
    if operation == "observe":
        from ._observe import observe

        return observe(node, str(arguments["node"]))
    if operation == "apply":
        from ._apply import apply

        return apply(node, arguments)
    raise UsageError(f"there is no operation {operation!r}", OTHER_VERSION)
