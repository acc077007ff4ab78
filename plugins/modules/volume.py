#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: volume
short_description: Manage a logical volume that never shows old data
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Makes, grows or removes one LVM logical volume. With O(wipe=true) a new volume reads as zeros. If the module is
    interrupted while it zeroes, the next run finds that out by a tag of the volume and zeroes it again.
  - A volume is never made smaller, and it is never zeroed unless this module made it.
extends_documentation_fragment:
  - twofold.cluster._attributes
  - twofold.cluster._attributes.full
  - twofold.cluster._attributes.node
options:
  name:
    description:
      - The name of the logical volume.
    type: str
    required: true
  volume_group:
    description:
      - The volume group.
    type: str
    required: true
  state:
    description:
      - Whether the volume should exist.
    type: str
    choices: [present, absent]
    default: present
  size:
    description:
      - The size, for example V(20GiB). It is rounded up to whole extents. Required with O(state=present).
    type: str
  tags:
    description:
      - Tags that the volume should carry. Other tags are left alone.
    type: list
    elements: str
    default: []
  wipe:
    description:
      - Whether a volume that is made by this module is zeroed.
    type: bool
    default: true
  allow_destroy:
    description:
      - Whether O(state=absent) may remove a volume with what is on it.
    type: bool
    default: false
seealso:
  - module: twofold.cluster.drbd_resource
  - module: twofold.cluster.os_install
"""

EXAMPLES = r"""
- name: A disk of 20 GiB
  twofold.cluster.volume:
    volume_group: vg0
    name: web1-disk0
    size: 20GiB

- name: Remove it with its data
  twofold.cluster.volume:
    volume_group: vg0
    name: web1-disk0
    state: absent
    allow_destroy: true
"""

RETURN = r"""
volume:
  description: The volume as it is now, or as it would be. Empty if it does not exist.
  returned: success
  type: dict
  sample:
    volume_group: vg0
    name: web1-disk0
    size: 21474836480
    tags: []
    device: /dev/vg0/web1-disk0
"""

from typing import Any

from ansible_collections.twofold.cluster.plugins.module_utils._lvm import Volume
from ansible_collections.twofold.cluster.plugins.module_utils._module import Binding
from ansible_collections.twofold.cluster.plugins.module_utils._node import Node
from ansible_collections.twofold.cluster.plugins.module_utils._volume import absent, present


def shown(volume: Volume | None) -> dict[str, Any]:
    if volume is None:
        return {}
    return {**volume._asdict(), "tags": list(volume.tags), "device": volume.device}


def work(node: Node, params: dict[str, Any]) -> dict[str, Any]:
    ensure = present if params["state"] == "present" else absent
    before, after = ensure(node, params)
    difference = {"before": shown(before), "after": shown(after)}
    for one in difference.values():
        one.pop("open", None)
    return {"changed": difference["before"] != difference["after"], "volume": difference["after"], "diff": difference}


def main() -> None:
    spec = {
        "name": {"type": "str", "required": True},
        "volume_group": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "size": {"type": "str"},
        "tags": {"type": "list", "elements": "str", "default": []},
        "wipe": {"type": "bool", "default": True},
        "allow_destroy": {"type": "bool", "default": False},
    }
    Binding(spec, required_if=[("state", "present", ("size",))]).execute(work)


if __name__ == "__main__":
    main()
