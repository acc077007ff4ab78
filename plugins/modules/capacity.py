#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The work is done on the control host, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: capacity
short_description: Say how many more instances fit, and what the loss of a node would do
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Counts how many more instances of each size in C(twofold_flavours) fit, each size alone in the cluster as it is, with the
    rules by which M(twofold.cluster.plan) places new instances. Where C(twofold_flavours) is not set, it counts with the
    sizes of the instances in the inventory.
  - Says for each node, and each failure domain, which instances would start elsewhere if it were lost, which could not, and
    which would have one copy of their disks left.
extends_documentation_fragment:
  - twofold.cluster._attributes
  - twofold.cluster._attributes.control
  - twofold.cluster._attributes.cluster
options:
  file:
    description:
      - Write the result as JSON under this path of the control host too.
    type: path
seealso:
  - module: twofold.cluster.node_facts
  - module: twofold.cluster.status
"""

EXAMPLES = r"""
- name: Show what still fits
  twofold.cluster.capacity:
    file: capacity.json
  run_once: true
"""

RETURN = r"""
capacity:
  description: The result as data. Sizes are bytes.
  returned: always
  type: dict
  contains:
    flavours:
      description:
        - The sizes, each with C(count), the number that fits, C(primaries), where they would run, and C(then), what speaks
          against each node when nothing more fits.
      type: list
    nodes:
      description:
        - The nodes, each with what its loss does. C(restarted) start elsewhere and need C(memory) there, C(hurt) cannot,
          C(degraded) have one copy of their disks left.
      type: list
    domains:
      description: The same for failure domains.
      type: list
"""
