#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: drbd_resource
short_description: Manage a DRBD resource on this node
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Writes the configuration of one DRBD resource for two hosts, makes its metadata where there is none and that is
    allowed, brings it up, and gives this side its role. It works with DRBD 8.4 and 9.
  - Run it on both hosts with the same options, first without O(role), then with O(role=primary) on the one.
  - Metadata is never written over data or over other metadata. A device holds data if C(blkid) knows what is on it, or if
    its first or last MiB is not all zeros.
  - A resource that was down comes up C(Outdated) until the handshake with its peer, which may have gone on without it. One
    that was itself in use without its peer stays as it is.
extends_documentation_fragment:
  - twofold.cluster._attributes
  - twofold.cluster._attributes.full
  - twofold.cluster._attributes.node
options:
  name:
    description:
      - The name of the resource.
    type: str
    required: true
  state:
    description:
      - V(absent) takes the resource down and removes its configuration. What is on the disks stays.
    type: str
    choices: [present, absent]
    default: present
  hosts:
    description:
      - The two hosts. Required with O(state=present).
    type: list
    elements: dict
    suboptions:
      name:
        description: The host's own name (C(uname -n)).
        type: str
        required: true
      address:
        description: Its IP address for replication.
        type: str
        required: true
      port:
        description: Its port, if it is another than O(port).
        type: int
  port:
    description:
      - The TCP port of the resource.
    type: int
  volumes:
    description:
      - The disks of the resource. Required with O(state=present).
    type: list
    elements: dict
    suboptions:
      number:
        description: The number of the volume in the resource.
        type: int
        default: 0
      minor:
        description: The minor number of the device, so that it is C(/dev/drbdMINOR).
        type: int
        required: true
      disk:
        description: The device that holds the data, the same path on both hosts.
        type: path
        required: true
      meta_disk:
        description: The device for the metadata, or V(internal).
        type: str
        default: internal
  protocol:
    description:
      - The replication protocol.
    type: str
    choices: [A, B, C]
    default: C
  secret:
    description:
      - A secret with which the hosts prove to each other who they are. Without it anybody who reaches the port can
        connect.
    type: str
  net_options:
    description:
      - More options of DRBD's C(net) section.
    type: dict
    default: {}
  disk_options:
    description:
      - Options of DRBD's C(disk) section.
    type: dict
    default: {}
  create_metadata:
    description:
      - Whether metadata is made where there is none. A place that holds something else is refused even so.
    type: bool
    default: false
  first_sync:
    description:
      - How a pair begins that has never been in service. This is done on one host.
      - V(skip) declares both sides equal without a sync. Use it only if both disks hold the same, for example zeros.
      - V(from_here) makes this side's data the good one, and the peer's disk is overwritten.
      - V(none) leaves the pair as it is.
    type: str
    choices: [none, skip, from_here]
    default: none
  role:
    description:
      - The role of this side. It is promoted only after the handshake with the peer. Without it, the role is left
        alone.
    type: str
    choices: [primary, secondary]
  timeout:
    description:
      - How many seconds to wait for the peer, or for the disk to be closed.
    type: float
    default: 60
seealso:
  - module: twofold.cluster.volume
  - module: twofold.cluster.instance_migrate
"""

EXAMPLES = r"""
- name: Pair two new volumes
  twofold.cluster.drbd_resource: &resource
    name: web1
    port: 7700
    secret: "{{ vaulted_secret }}"
    hosts:
      - {name: node1, address: 198.51.100.11}
      - {name: node2, address: 198.51.100.12}
    volumes:
      - {minor: 10, disk: /dev/vg0/web1, meta_disk: /dev/vg0/web1-meta}
    create_metadata: true

- name: Begin without a sync, since both were zeroed, and use it on the first host
  twofold.cluster.drbd_resource:
    name: web1
    port: 7700
    secret: "{{ vaulted_secret }}"
    hosts:
      - {name: node1, address: 198.51.100.11}
      - {name: node2, address: 198.51.100.12}
    volumes:
      - {minor: 10, disk: /dev/vg0/web1, meta_disk: /dev/vg0/web1-meta}
    first_sync: skip
    role: primary
  when: inventory_hostname == 'node1'
"""

RETURN = r"""
resource:
  description: The resource as it is now. Empty if it is down.
  returned: success
  type: dict
  contains:
    role:
      description: The role of this side.
      type: str
    peer_role:
      description: The role of the peer.
      type: str
    connection:
      description: The state of the connection, in the words of DRBD 9.
      type: str
    volumes:
      description: The states of the disks on both sides.
      type: list
      elements: dict
  sample:
    name: web1
    role: Primary
    peer_role: Secondary
    connection: Connected
changes:
  description: What was done, or would be.
  returned: success
  type: list
  elements: str
  sample: [configured web1, web1 is Primary]
"""

from typing import Any

from ansible_collections.twofold.cluster.plugins.module_utils._module import Binding
from ansible_collections.twofold.cluster.plugins.module_utils._resource import manage

HOST = {
    "name": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "port": {"type": "int"},
}
VOLUME = {
    "number": {"type": "int", "default": 0},
    "minor": {"type": "int", "required": True},
    "disk": {"type": "path", "required": True},
    "meta_disk": {"type": "str", "default": "internal"},
}


def main() -> None:
    spec: dict[str, Any] = {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "hosts": {"type": "list", "elements": "dict", "options": HOST},
        "port": {"type": "int"},
        "volumes": {"type": "list", "elements": "dict", "options": VOLUME},
        "protocol": {"type": "str", "choices": ["A", "B", "C"], "default": "C"},
        "secret": {"type": "str", "no_log": True},
        "net_options": {"type": "dict", "default": {}},
        "disk_options": {"type": "dict", "default": {}},
        "create_metadata": {"type": "bool", "default": False},
        "first_sync": {"type": "str", "choices": ["none", "skip", "from_here"], "default": "none"},
        "role": {"type": "str", "choices": ["primary", "secondary"]},
        "timeout": {"type": "float", "default": 60},
    }
    Binding(spec, resource_prefix="", required_if=[("state", "present", ("hosts", "volumes"))]).execute(manage)


if __name__ == "__main__":
    main()
