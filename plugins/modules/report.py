#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The work is done on the control host, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Say what became of a plan
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Shows the steps of a run with their results, ends the run, and fails if a step failed or the plan had errors.
extends_documentation_fragment:
  - twofold.cluster._attributes
  - twofold.cluster._attributes.control
  - twofold.cluster._attributes.cluster
options:
  run:
    description:
      - The run that M(twofold.cluster.plan) prepared. Without it there is nothing to show but O(errors).
    type: path
  errors:
    description:
      - Findings of the plan that are errors.
    type: list
    elements: dict
    default: []
seealso:
  - module: twofold.cluster.plan
  - module: twofold.cluster.apply_wave
"""

EXAMPLES = r"""
- name: Report
  twofold.cluster.report:
    run: "{{ operate_plan.run }}"
    errors: "{{ operate_plan.errors }}"
  run_once: true
"""

RETURN = r"""
failed_steps:
  description: The steps that were not done.
  returned: always
  type: list
  elements: str
  sample: []
"""
