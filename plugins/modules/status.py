#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The work is done on the control host, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: status
short_description: Show the cluster on one screen
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Shows nodes with their memory, space and guests, instances with their state, primary, secondary, replication and address, and what is wrong.
extends_documentation_fragment:
  - twofold.cluster._attributes
  - twofold.cluster._attributes.control
  - twofold.cluster._attributes.cluster
options:
  file:
    description:
      - Write the status as JSON under this path of the control host too.
    type: path
seealso:
  - module: twofold.cluster.node_facts
  - module: twofold.cluster.verify
"""

EXAMPLES = r"""
- name: Show the status
  twofold.cluster.status:
    file: status.json
  run_once: true
"""

RETURN = r"""
status:
  description: The status as data.
  returned: always
  type: dict
  contains:
    nodes:
      description: The nodes.
      type: list
    instances:
      description: The instances.
      type: list
    findings:
      description: What is wrong.
      type: list
"""
