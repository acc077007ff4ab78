#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The work is done on the control host, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: apply_wave
short_description: Apply a node's steps of one wave of a plan
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Sends this node its steps of a wave, with the images and secrets that they need, and keeps their results in the run.
  - A failed step does not fail the task. What depends on it is not tried, everything else goes on, and M(twofold.cluster.report) fails at the end.
  - The first call of a run locks the node, the last one releases it.
extends_documentation_fragment:
  - twofold.cluster._attributes
  - twofold.cluster._attributes.control
options:
  run:
    description:
      - The run that M(twofold.cluster.plan) prepared.
    type: path
    required: true
  wave:
    description:
      - The number of the wave, from 0.
    type: int
    required: true
seealso:
  - module: twofold.cluster.plan
  - module: twofold.cluster.report
  - module: twofold.cluster.node_apply
"""

EXAMPLES = r"""
- name: Apply the first wave of a plan
  twofold.cluster.apply_wave:
    run: "{{ operate_plan.run }}"
    wave: 0
"""

RETURN = r"""
results:
  description: What became of each step.
  returned: when the node has steps in this wave
  type: list
  elements: dict
  sample:
    - id: web1/volumes.create@node1
      status: changed
      message: made web1-disk0
      seconds: 0.4
"""
