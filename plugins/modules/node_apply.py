#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_apply
short_description: Carry out steps of a plan on a node
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Carries out the steps of a plan that belong to this node, in order, under the node's lock. This is what the
    playbooks of Twofold use; the modules that do one thing on one node are easier to use by hand.
  - Every step checks its own preconditions on the node and may be repeated. A failed step stops the steps that need it
    and no others.
extends_documentation_fragment:
  - twofold.cluster._attributes
  - twofold.cluster._attributes.node
attributes:
  check_mode:
    support: full
    details:
      - Each step says what it would do. A step that depends on one that would change something is reported as changed.
  diff_mode:
    support: none
    details:
      - The plan is the difference; the step that shows it is on the control host.
  idempotent:
    support: full
options:
  format:
    description:
      - The version of the request's format.
    type: int
    choices: [1]
    default: 1
  run:
    description:
      - The identity of the run. Calls of one run share the lock.
    type: str
    required: true
  holder:
    description:
      - Who runs it, for the message that another operator gets.
    type: str
    required: true
  lease:
    description:
      - Seconds after which the lock lapses if no call of the run renews it.
    type: int
    default: 120
  lock_wait:
    description:
      - How many seconds to wait for a lock that somebody else has.
    type: int
    default: 30
  lock:
    description:
      - Whether to take the lock.
    type: bool
    default: true
  held:
    description:
      - Whether an earlier call of the run left the node locked. If that lock was lost meanwhile (broken, or lapsed and
        taken by another, or the node has booted), nothing is done but the steps that clean up.
    type: bool
    default: false
  release:
    description:
      - Whether this is the run's last call on this node.
    type: bool
    default: false
  steps:
    description:
      - 'The steps. An argument that is a mapping with the only key C($secret) stands for the value of that name
        in O(secrets).'
    type: list
    elements: dict
    required: true
    suboptions:
      id:
        description: The identity of the step.
        type: str
        required: true
      op:
        description: What to do, for example V(volumes.create).
        type: str
        required: true
      args:
        description: The arguments of the step.
        type: dict
        default: {}
      needs:
        description: The identities of steps that must have succeeded.
        type: list
        elements: str
        default: []
      always:
        description: Whether to run even when a needed step failed. This is for cleaning up.
        type: bool
        default: false
      instance:
        description: The instance that the step belongs to.
        type: str
      generation:
        description:
          - The generation that the definition of the instance had on this node when the step was planned, V(0) if there was none.
          - If it is another when the run comes here for the first time, the steps of the instance are skipped. Without it
            nothing is compared.
        type: int
  secrets:
    description:
      - The secrets that the steps refer to, by name. They are kept in memory alone.
    type: dict
    default: {}
  local_uri:
    description:
      - The connection URI of libvirt on this node.
    type: str
    default: qemu:///system
seealso:
  - module: twofold.cluster.node_facts
"""

EXAMPLES = r"""
- name: Make a volume for an instance and release the lock
  twofold.cluster.node_apply:
    run: "{{ run_id }}"
    holder: "{{ lookup('ansible.builtin.env', 'USER') }}"
    release: true
    steps:
      - id: web1/volumes.create
        op: volumes.create
        args:
          instance: web1
          volumes:
            - {volume_group: vg0, name: web1-disk0, size: 1073741824, disk: 0, role: data, pending: [wipe]}
"""

RETURN = r"""
results:
  description: What came of each step, in order.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: The identity of the step.
      type: str
    status:
      description: V(changed), V(unchanged), V(failed) or V(skipped).
      type: str
    message:
      description: What was done, or why it was not.
      type: str
    remedy:
      description: What to do about a failure.
      type: str
    seconds:
      description: How long it took.
      type: float
    data:
      description: Numbers about a step that has some, for example a migration.
      type: dict
      returned: when there are some
lock:
  description: Whether the lock is V(held), V(released) or was V(refused).
  returned: always
  type: str
"""

from ansible_collections.twofold.cluster.plugins.module_utils._apply import apply
from ansible_collections.twofold.cluster.plugins.module_utils._libvirt import URI
from ansible_collections.twofold.cluster.plugins.module_utils._module import Binding

STEP = {
    "id": {"type": "str", "required": True},
    "op": {"type": "str", "required": True},
    "args": {"type": "dict", "default": {}},
    "needs": {"type": "list", "elements": "str", "default": []},
    "always": {"type": "bool", "default": False},
    "instance": {"type": "str"},
    "generation": {"type": "int"},
}
SPEC = {
    "format": {"type": "int", "choices": [1], "default": 1},
    "run": {"type": "str", "required": True},
    "holder": {"type": "str", "required": True},
    "lease": {"type": "int", "default": 120},
    "lock_wait": {"type": "int", "default": 30},
    "lock": {"type": "bool", "default": True},
    "held": {"type": "bool", "default": False},
    "release": {"type": "bool", "default": False},
    "steps": {"type": "list", "elements": "dict", "required": True, "options": STEP},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "local_uri": {"type": "str", "default": URI},
}


def main() -> None:
    Binding(SPEC).execute(apply)


if __name__ == "__main__":
    main()
