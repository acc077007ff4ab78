# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Installing on a device for people who use nothing else of Twofold: what is there decides."""

from __future__ import annotations

import os
import re
from typing import Any

from ._errors import Refused
from ._names import instance_name
from ._node import Node


def install(node: Node, params: dict[str, Any]) -> dict[str, Any]:
    """Writes to an empty device, or to one on which the writing was interrupted."""
    device = params["device"]
    found = node.devices.contents(device)
    mark = f"install{re.sub(r'[^A-Za-z0-9.-]', '-', os.path.abspath(device))}"
    interrupted = any(one["key"].startswith(f"{mark}.") and not one["running"] for one in node.journal.entries())
    needed = found is None or interrupted or bool(params["overwrite"])
    after = {"holds": "the image" if params["image"] else "what the script makes"}
    before = {"holds": found or "nothing"}
    if not needed:
        return {"changed": False, "found": found, "diff": {"before": before, "after": before}}
    _check(node, params)
    if not node.check_mode:
        entry = {"run": mark, "holder": "os_install", "time": node.clock.time()}
        key = node.journal.begin({**entry, "step": {"id": "write", "op": "os.install", "instance": None}})
        _write(node, params, fresh=params["zeroed"] and found is None and not interrupted)
        node.journal.end(key)
    return {"changed": True, "found": found, "diff": {"before": before, "after": after}}


def _check(node: Node, params: dict[str, Any]) -> None:
    instance_name(params["name"])
    if not params["image"]:
        return
    size, room = node.images.virtual_size(params["image"], params["format"]), node.devices.size(params["device"])
    if size > room:
        message = f"the image {params['image']} needs {size} bytes, {params['device']} has {room}"
        raise Refused(message, "use a larger device")


def _write(node: Node, params: dict[str, Any], fresh: bool) -> None:
    if params["image"]:
        node.images.write(params["image"], params["format"], params["device"], fresh)
        return
    variables = {str(name): str(value) for name, value in params["environment"].items()}
    name, timeout = params["name"], float(params["script_timeout"])
    node.installer.run(name, params["device"], params["script"], variables, timeout)
