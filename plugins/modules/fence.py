#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The work is done on the control host, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: fence
short_description: Switch the power of nodes, and ask their fence devices
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Talks to the fence devices that C(twofold_fence) gives to nodes, from the control host. These are programs of
    fence-agents, which get their options with passwords on standard input, or programs of Ganeti's OOB protocol.
  - The ways of a node are tried in their order. Power counts as switched when the device confirms it.
  - Without O(node) and O(intent) every device of every node is asked, and what is wrong with them is found.
extends_documentation_fragment:
  - twofold.cluster._attributes
  - twofold.cluster._attributes.control
  - twofold.cluster._attributes.cluster
options:
  action:
    description:
      - What to do. V(health) is answered by programs of the OOB protocol alone, V(cycle) is one command for them; for
        others it is off and on.
    type: str
    choices: [status, "on", "off", cycle, health]
    default: status
  node:
    description:
      - The node, as a name or a list of one.
    type: raw
  intent:
    description:
      - Instead of O(node), the nodes that this intent of M(twofold.cluster.plan) needs to know dead. They do not answer.
      - Their devices are asked, whatever O(action) is, and with them those of all other nodes that do not answer. These
        are not switched off, but they tell whether it is the network that has failed.
    type: dict
  switch_off:
    description:
      - With O(intent), which of these nodes are switched off if no device says that they are. V(true) for all, V(false)
        for none, or names, as a list or separated by commas.
      - A node that another one's DRBD is connected to lives, and is never switched off here.
      - With V(true) a node is left on of which no guest could be started elsewhere; a name switches it off all the same.
      - If more than one node and more than a third of those in use is silent at once, only names are taken, for that is
        how a network fails. A node is not in use that is known to be off, by its device, by the intent or by the
        inventory; one that nothing waits for is.
    type: raw
    default: false
  force:
    description:
      - Whether to take the power of a node that answers and runs guests, or by whose copy of a disk another node lives,
        for its own is not up to date; or that does not answer while the DRBD of one that is in O(observed) is connected
        to it.
    type: bool
    default: false
seealso:
  - module: twofold.cluster.node_facts
  - module: twofold.cluster.plan
"""

EXAMPLES = r"""
- name: Ask every fence device
  twofold.cluster.fence:
  run_once: true

- name: Switch a node off that hangs
  twofold.cluster.fence:
    node: node2
    action: "off"
  run_once: true
"""

RETURN = r"""
fenced:
  description:
    - By node, C(state) (on, off, silent), C(method) and C(message); a list of these if every device was asked.
    - With O(intent) also C(in_vain), the reason, for a node that is on and of which no guest could be started elsewhere.
  returned: always, but for O(action=health)
  type: dict
  sample:
    node2: {state: "off", method: fence_ipmilan, message: says off}
findings:
  description:
    - What is wrong with the devices, or with variables of nodes, each with C(severity), C(code), C(object), C(message) and
      C(remedy).
  returned: when every device was asked
  type: list
  elements: dict
  sample: []
health:
  description: What the machine's own sensors say, each with C(item) and C(status).
  returned: O(action=health)
  type: list
  elements: dict
  sample: [{item: fan1, status: OK}]
"""
