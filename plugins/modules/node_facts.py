#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_facts
short_description: Observe a virtualization node
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Returns one document about a node. It holds versions, memory, volume groups and volumes, DRBD resources, libvirt's
    domains, Twofold's definitions of instances, seeds, cached images, bridges, addresses, interrupted work and the lock.
  - A part that cannot be read is V(null) and is named with its reason in RV(observed.problems). It is never an empty
    list, so that what is unknown is not taken for what is not there.
  - Secrets are not part of the document. The secret of a DRBD resource is replaced by a placeholder and its SHA-256
    sum.
extends_documentation_fragment:
  - twofold.cluster._attributes
  - twofold.cluster._attributes.facts
  - twofold.cluster._attributes.node
options:
  node:
    description:
      - The node's name in the inventory. It is put into the document as RV(observed.node).
      - By default it is the name of the host that the task is for, C(inventory_hostname).
    type: str
  local_uri:
    description:
      - The connection URI of libvirt on this node.
    type: str
    default: qemu:///system
seealso:
  - module: twofold.cluster.node_apply
"""

EXAMPLES = r"""
- name: See what a node has
  twofold.cluster.node_facts:
    node: "{{ inventory_hostname }}"
  register: facts

- name: Show its domains
  ansible.builtin.debug:
    msg: "{{ facts.observed.domains | dict2items | map(attribute='key') }}"
"""

RETURN = r"""
observed:
  description: The document.
  returned: success
  type: dict
  contains:
    node:
      description: The O(node).
      type: str
    hostname:
      description: The node's own name for itself.
      type: str
    versions:
      description: Versions of the kernel, the DRBD module and tools, libvirt, QEMU and Python.
      type: dict
    volume_groups:
      description: Size, free space and extent size of each volume group, in bytes.
      type: dict
    volumes:
      description: Logical volumes with their tags.
      type: list
      elements: dict
    resources:
      description: DRBD resources that the kernel has or that Twofold's files configure.
      type: dict
    domains:
      description: Domains of libvirt.
      type: dict
    addresses:
      description: The node's own addresses, without the loopback's and link-local ones of IPv6.
      type: list
      elements: str
    problems:
      description: Parts that could not be read, each with C(object), C(message) and C(remedy).
      type: list
      elements: dict
  sample:
    format: 1
    node: node1
    hostname: node1
    problems: []
"""

import os

from ansible_collections.twofold.cluster.plugins.module_utils._libvirt import URI
from ansible_collections.twofold.cluster.plugins.module_utils._module import Binding
from ansible_collections.twofold.cluster.plugins.module_utils._observe import observe


def main() -> None:
    binding = Binding({"node": {"type": "str"}, "local_uri": {"type": "str", "default": URI}})
    # On a control host the action plugin of this name gives the inventory's name.
    here = os.uname().nodename
    binding.execute(lambda node, params: {"observed": observe(node, params["node"] or here), "changed": False})


if __name__ == "__main__":
    main()
