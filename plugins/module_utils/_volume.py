# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One logical volume for people who use nothing else of Twofold."""

from __future__ import annotations

import re
from typing import Any

from ._errors import Refused, UsageError
from ._lvm import Volume, require_nothing_kept, round_up
from ._names import volume_name
from ._node import Node

UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
WIPE = "twofold.pending=wipe"
Change = tuple[Volume, Volume]


def parse_size(text: str) -> int:
    """Bytes of a size such as 20GiB."""
    match = re.match(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*\Z", text)
    unit = match.group(2).upper() if match else "?"
    if not match or unit not in UNITS:
        raise UsageError(f"{text!r} is not a size", "write it like 20GiB or 512MiB")
    size = int(float(match.group(1)) * UNITS[unit])
    if size <= 0:
        raise UsageError(f"a size of {text!r} is nothing", "give a size of at least one extent")
    return size


def present(node: Node, params: dict[str, Any]) -> tuple[Volume | None, Volume]:
    """The volume is there, large enough, with its tags; what it was and is."""
    group_name, name = volume_name(params["volume_group"]), volume_name(params["name"])
    group = node.volumes.groups().get(group_name)
    if group is None:
        raise Refused(f"there is no volume group {group_name} on this node", "make it, or name another")
    size, before = round_up(parse_size(params["size"]), group.extent), node.volumes.find(group_name, name)
    more = size - (before.size if before else 0)
    if more < 0 and before is not None:
        message = f"{before.path} has {before.size} bytes, wanted are {size}"
        raise Refused(message, "a volume is never made smaller; make a new one")
    if more > group.free:
        message = f"volume group {group_name} has {group.free} bytes free, {more} more are needed"
        raise Refused(message, "use a smaller size, or add a device to the group")
    tags = sorted({*params["tags"], *(before.tags if before else ())} - {WIPE})
    after = Volume(group_name, name, size, tuple(tags), before.open if before else False)
    if not node.check_mode:
        _realise(node, before, after, params)
    return before, after


def _realise(node: Node, before: Volume | None, after: Volume, params: dict[str, Any]) -> None:
    if before is None:
        marks = [WIPE] if params["wipe"] else []
        node.volumes.create(after.volume_group, after.name, after.size, [*after.tags, *marks])
    else:
        if after.size > before.size:
            node.volumes.extend(before, after.size)
        missing = [tag for tag in after.tags if tag not in before.tags]
        if missing:
            node.volumes.retag([before], missing, [])
    now = node.volumes.find(after.volume_group, after.name)
    if now is not None and WIPE in now.tags:
        node.devices.wait(now.device)
        node.devices.zero(now.device, lambda _done, _total: None)
        node.volumes.retag([now], [], [WIPE])


def absent(node: Node, params: dict[str, Any]) -> tuple[Volume | None, None]:
    """The volume is gone."""
    before = node.volumes.find(volume_name(params["volume_group"]), volume_name(params["name"]))
    if before is None:
        return None, None
    if not params["allow_destroy"]:
        raise Refused(f"{before.path} holds data that would be lost", "set allow_destroy if that is meant")
    if before.open:
        raise Refused(f"{before.path} is in use", "see who has it open with lsblk")
    require_nothing_kept(node.volumes, [before])
    if not node.check_mode:
        node.volumes.remove([before])
    return before, None
