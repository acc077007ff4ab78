#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The work is done on the control host, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: verify
short_description: Say what is wrong with the cluster
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Checks what the nodes said against the inventory and against each other, and fails if there are errors.
  - Every finding has a code; docs/playbooks/verify.md lists them all.
extends_documentation_fragment:
  - twofold.cluster._attributes
  - twofold.cluster._attributes.control
  - twofold.cluster._attributes.cluster
options:
  file:
    description:
      - Write the findings as JSON under this path of the control host too.
    type: path
  findings:
    description:
      - What was found elsewhere and is shown with the rest, like what M(twofold.cluster.fence) found, or
        M(twofold.cluster.node_config) in its phase V(compare).
    type: list
    elements: dict
    default: []
  fail_on:
    description:
      - How severe a finding has to be for the task to fail. V(never) only shows and returns what is wrong.
    type: str
    choices: [error, warning, never]
    default: error
  nodes:
    description:
      - Look only at what is wrong with these nodes themselves, not with the cluster or with instances.
    type: list
    elements: str
seealso:
  - module: twofold.cluster.node_facts
  - module: twofold.cluster.status
"""

EXAMPLES = r"""
- name: Verify
  twofold.cluster.verify:
    file: findings.json
  run_once: true
"""

RETURN = r"""
findings:
  description:
    - What is wrong, each with C(severity), C(code), C(object), C(message) and C(remedy).
    - A task that fails has shown them; O(file) has them in any case.
  returned: unless the task fails
  type: list
  elements: dict
  sample: []
status:
  description: V(0) if nothing is wrong, V(1) if there are warnings, V(2) if there are errors.
  returned: always
  type: int
  sample: 0
"""
