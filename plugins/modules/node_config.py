#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_config
short_description: Turn a machine into a node
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Computes on the control host what a node needs, and applies it on the node in one call. It covers packages, kernel
    modules, the volume group, the settings of LVM, DRBD, libvirt and QEMU, certificates, bridges, the firewall and
    services.
  - It works in three phases, so that all nodes are looked at before anything is changed on any of them. The role
    P(twofold.cluster.node#role) does them in order, and is what most people want.
  - V(inspect) runs on each node and changes nothing. V(review) runs once; it fails with the findings of all nodes if
    one of them is an error, and makes the certificate authority if there is none and no node has certificates.
    V(apply) runs on each node that differs.
  - V(compare) runs once in place of V(review), and only returns what is wrong and what differs.
  - A node that is as it should be costs one call.
  - The connection's user has to be root, or use become.
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying the target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check mode), when in diff mode.
    support: full
    details:
      - Keys are never part of a difference.
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: debian
options:
  phase:
    description:
      - What to do.
    type: str
    choices: [inspect, review, compare, apply]
    required: true
  settings:
    description:
      - What is wanted of the node. The role P(twofold.cluster.node#role) documents each setting under its name with the
        prefix C(node_). What is missing has its default.
    type: dict
    default: {}
  node_group:
    description:
      - The inventory group of all nodes of the cluster. Their addresses are read from C(ansible_host),
        C(twofold_address), C(twofold_replication_address), C(twofold_migration_address) and
        C(twofold_node_addresses), and their host names from C(twofold_hostname).
    type: str
    default: nodes
  pki_dir:
    description:
      - The directory on the control host with the cluster's certificate authority, C(ca.pem) and C(ca-key.pem).
      - The key may be encrypted by C(ansible-vault).
    type: path
    required: true
  new_authority:
    description:
      - Whether to make a new certificate authority though nodes have certificates of one that is not in O(pki_dir), so
        that all of them get new ones. A node that does not answer keeps the old one, and no other can reach its libvirt
        until it was set up again.
      - Without it that is an error in V(review) and V(compare). Where there is an authority, it changes nothing.
    type: bool
    default: false
  inspection:
    description:
      - The name of the variable in which the phase V(inspect) was registered.
    type: str
    default: node_inspection
seealso:
  - module: twofold.cluster.node_facts
"""

EXAMPLES = r"""
- name: Inspect the nodes
  twofold.cluster.node_config:
    phase: inspect
    settings:
      volume_group_devices: [/dev/sdb]
    pki_dir: "{{ inventory_dir }}/pki"
  register: node_inspection

- name: Stop if one of them cannot be set up
  twofold.cluster.node_config:
    phase: review
    pki_dir: "{{ inventory_dir }}/pki"
  run_once: true

- name: Set up those that differ
  twofold.cluster.node_config:
    phase: apply
    settings:
      volume_group_devices: [/dev/sdb]
    pki_dir: "{{ inventory_dir }}/pki"
"""

RETURN = r"""
changes:
  description:
    - What differs (V(inspect)), with C(object), C(message) and C(diff), or sentences about what was changed, or would be
      (V(apply)).
  returned: in the phases inspect and apply
  type: list
  elements: raw
problems:
  description: What keeps the node from being set up, each with C(object), C(message) and C(remedy).
  returned: in the phase inspect
  type: list
  elements: dict
needed:
  description: Whether the node differs from what it should be.
  returned: in the phase inspect
  type: bool
facts:
  description: What makes the node different from the others, like its machine-id.
  returned: in the phase inspect
  type: dict
clock:
  description: Lower and upper bound of the node's clock less the control host's, in seconds.
  returned: in the phase inspect
  type: list
  elements: float
credentials:
  description: The credentials that have to be replaced.
  returned: in the phase inspect
  type: list
  elements: str
certified:
  description: Whether the node has a certificate with its key already, of whatever authority.
  returned: in the phase inspect
  type: bool
findings:
  description: Everything that is wrong with all nodes.
  returned: in the phases review and compare
  type: list
  elements: dict
"""
