#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: instance_migrate
short_description: Migrate a running domain from this node to another
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Moves a running domain to another host while it runs, in one peer-to-peer job of libvirt, on any hosts with libvirt.
  - If the domain runs on the target already and not here, nothing is done.
  - If the migration fails or takes longer than O(timeout), the job is aborted and the domain goes on running here. The
    error says where it runs.
  - The disks of the domain are shared, or replicated by DRBD with two primaries allowed and the target promoted, or
    copied with O(copy_disks). A replicated disk that is not up to date at the target is refused.
  - While it runs, C(/run/twofold/progress/NAME.json) on this node says once a second how far it is.
extends_documentation_fragment:
  - twofold.cluster._attributes
  - twofold.cluster._attributes.full
  - twofold.cluster._attributes.node
options:
  name:
    description:
      - The name of the domain.
    type: str
    required: true
  uri:
    description:
      - How libvirt on this node reaches libvirt on the target, for example V(qemu+tls://node2/system).
    type: str
    required: true
  migrate_uri:
    description:
      - Where the memory goes, for example V(tcp://198.51.100.12) for a network of its own. Without it, libvirt chooses.
    type: str
  xml:
    description:
      - The persistent definition that the domain gets on the target, if it should be another than here.
    type: str
  bandwidth:
    description:
      - The highest rate in MiB per second.
    type: int
  downtime:
    description:
      - The longest pause of the guest that is aimed at, in milliseconds.
    type: int
  auto_converge:
    description:
      - Whether to slow the guest down when its memory changes faster than it is copied.
    type: bool
    default: false
  postcopy_after:
    description:
      - Seconds after which the guest is switched to the target before all its memory is there. From then on it cannot
        be aborted. Without it that is not done.
    type: float
  parallel:
    description:
      - The number of connections for the memory, if more than one.
    type: int
  tls:
    description:
      - Whether the memory goes over TLS with verified certificates. Both hosts need QEMU's migration certificates.
    type: bool
    default: true
  tls_hostname:
    description:
      - The name in the target's certificate, if it is another than that of O(migrate_uri).
    type: str
  copy_disks:
    description:
      - The targets of disks that are copied along, for example V(vda). Volumes of the same size have to exist there.
    type: list
    elements: str
    default: []
  persist:
    description:
      - Whether the domain becomes persistent on the target and is undefined here.
    type: bool
    default: true
  timeout:
    description:
      - Seconds after which the migration is aborted. V(0) waits as long as it takes.
    type: float
    default: 0
  local_uri:
    description:
      - The connection URI of libvirt on this node.
    type: str
    default: qemu:///system
seealso:
  - module: twofold.cluster.instance
  - module: twofold.cluster.drbd_resource
"""

EXAMPLES = r"""
- name: Move a guest to node2
  twofold.cluster.instance_migrate:
    name: web1
    uri: qemu+tls://node2/system
    migrate_uri: tcp://198.51.100.12
    auto_converge: true
    timeout: 600

- name: Move a guest with its disk to a host that is reached by ssh
  twofold.cluster.instance_migrate:
    name: web2
    uri: qemu+ssh://node2/system
    tls: false
    copy_disks: [vda]
"""

RETURN = r"""
migration:
  description: The numbers of the job. Empty if nothing was moved.
  returned: success
  type: dict
  contains:
    milliseconds:
      description: How long it took.
      type: int
    downtime_ms:
      description: How long the guest did not run.
      type: int
    waited_ms:
      description:
        - How long the guest waited on the target after that, until it was sure that it is gone from here and its disks are the same.
        - Not with post-copy.
      type: int
    bytes_processed:
      description: How much was sent.
      type: int
    postcopy:
      description: Whether the guest was switched to the target before all its memory was there.
      type: bool
  sample:
    milliseconds: 8120
    downtime_ms: 84
    waited_ms: 31
    bytes_processed: 143512021
    postcopy: false
message:
  description: What was done.
  returned: success
  type: str
  sample: migrated domain web1 in 8.1 s
"""

from typing import Any

from ansible_collections.twofold.cluster.plugins.module_utils._instance import move
from ansible_collections.twofold.cluster.plugins.module_utils._libvirt import URI
from ansible_collections.twofold.cluster.plugins.module_utils._module import Binding


def main() -> None:
    spec: dict[str, Any] = {
        "name": {"type": "str", "required": True},
        "uri": {"type": "str", "required": True},
        "migrate_uri": {"type": "str"},
        "xml": {"type": "str"},
        "bandwidth": {"type": "int"},
        "downtime": {"type": "int"},
        "auto_converge": {"type": "bool", "default": False},
        "postcopy_after": {"type": "float"},
        "parallel": {"type": "int"},
        "tls": {"type": "bool", "default": True},
        "tls_hostname": {"type": "str"},
        "copy_disks": {"type": "list", "elements": "str", "default": []},
        "persist": {"type": "bool", "default": True},
        "timeout": {"type": "float", "default": 0},
        "local_uri": {"type": "str", "default": URI},
    }
    Binding(spec).execute(move)


if __name__ == "__main__":
    main()
