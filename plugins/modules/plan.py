#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The work is done on the control host, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Plan the way from what is to what the inventory wants
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Compares what the inventory wants with what the nodes said, and shows the steps between the two. Nothing is changed.
  - It runs once, for all nodes. Each of them has to have answered M(twofold.cluster.node_facts), or counts as unknown.
  - Outside check mode, and unless O(save) is given, it prepares a run, which M(twofold.cluster.apply_wave) carries out.
extends_documentation_fragment:
  - twofold.cluster._attributes
  - twofold.cluster._attributes.control
  - twofold.cluster._attributes.cluster
options:
  intent:
    description:
      - What to do, as C(verb) and its arguments. The verb V(converge) brings all instances to what the inventory
        says. C(accept_new) names those that are new whatever nodes that are declared offline hold. The verb
        V(balance) evens out the load with at most C(max_moves) moves, which copy at most C(max_copy) between nodes.
        The verb V(migrate) moves the running C(instance) to C(target), or for DRBD to its secondary; V(failover)
        stops it first, or starts it there if its primary is dead. V(recover) does so for all that dead nodes ran. For
        both, C(confirm_dead) lists the nodes that are dead by the operator's word.
    type: dict
    default:
      verb: converge
  save:
    description:
      - Save the plan under this path of the control host, as JSON, and beside it as Markdown. No run is prepared.
      - A name that ends in C(.md) is refused, for that is the Markdown's.
      - A plan that was made on the proof that a node is dead, by O(fenced) or C(confirm_dead), is only to be read.
    type: path
  load:
    description:
      - Use the plan saved under this path. It is refused if what it was based on has changed since, or if it was made on
        the proof that a node is dead, which may have lived again.
    type: path
  fenced:
    description:
      - What fence devices said, as M(twofold.cluster.fence) returns it. Becomes part of the intent.
    type: dict
    default: {}
seealso:
  - module: twofold.cluster.node_facts
  - module: twofold.cluster.fence
  - module: twofold.cluster.apply_wave
  - module: twofold.cluster.report
"""

EXAMPLES = r"""
- name: Observe the nodes
  twofold.cluster.node_facts:
    node: "{{ inventory_hostname }}"
  register: operate_observed
  ignore_unreachable: true

- name: Show what would be done
  twofold.cluster.plan:
    intent: {verb: converge}
    save: plan.json
  run_once: true
"""

RETURN = r"""
waves:
  description: How many waves of steps the plan has.
  returned: always
  type: int
  sample: 2
summary:
  description: What is to be done to each instance, and why.
  returned: always
  type: list
  elements: dict
  sample:
    - instance: web1
      change: create
      "on": [node1, node2]
findings:
  description: What is wrong, each with C(severity), C(code), C(object), C(message) and C(remedy).
  returned: always
  type: list
  elements: dict
  sample: []
errors:
  description: Those of RV(findings) that are errors.
  returned: always
  type: list
  elements: dict
  sample: []
details:
  description: What the intent has to say beyond steps, by its verb; empty for most.
  returned: always
  type: dict
  sample: {}
fingerprint:
  description: A digest of what the plan was based on.
  returned: always
  type: str
run:
  description: The directory of the prepared run, if there is one.
  returned: always
  type: str
"""
