#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: instance
short_description: Manage a domain of libvirt on this node
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Defines, starts, stops or undefines one domain, on any host with libvirt.
  - A domain counts as defined when everything in O(xml) is in it, and when it has no disks, interfaces or host devices
    beyond those. What libvirt adds by itself, such as addresses and controllers, is no difference.
  - The disks of a domain are never touched.
extends_documentation_fragment:
  - twofold.cluster._attributes
  - twofold.cluster._attributes.full
  - twofold.cluster._attributes.node
options:
  name:
    description:
      - The name of the domain.
    type: str
    required: true
  xml:
    description:
      - The domain as libvirt wants it. Its name is O(name). Without it the domain's definition is left as it is.
    type: str
  state:
    description:
      - V(defined) does not care whether the domain runs. V(absent) needs it to be stopped, or O(force=true).
    type: str
    choices: [running, stopped, defined, absent]
    default: running
  autostart:
    description:
      - Whether libvirt starts the domain when the host boots. Without it that is left as it is.
    type: bool
  stop_timeout:
    description:
      - How many seconds the guest has for shutting down.
    type: float
    default: 120
  force:
    description:
      - Whether a guest that does not shut down in time loses its power.
    type: bool
    default: false
  local_uri:
    description:
      - The connection URI of libvirt on this node.
    type: str
    default: qemu:///system
notes:
  - A change of the definition of a running domain takes effect when it is started the next time.
seealso:
  - module: twofold.cluster.instance_migrate
"""

EXAMPLES = r"""
- name: Run a guest
  twofold.cluster.instance:
    name: web1
    xml: "{{ lookup('ansible.builtin.template', 'web1.xml.j2') }}"

- name: Shut it down and forget it
  twofold.cluster.instance:
    name: web1
    state: absent
    force: true
"""

RETURN = r"""
instance:
  description: The domain as it is now, or as it was in check mode. Empty if it does not exist.
  returned: success
  type: dict
  contains:
    state:
      description: The state of the domain, for example V(running) or V(shutoff).
      type: str
    uuid:
      description: Its UUID.
      type: str
    xml:
      description: Its persistent definition.
      type: str
  sample:
    name: web1
    state: running
changes:
  description: What was done, or would be.
  returned: success
  type: list
  elements: str
  sample: [defined domain web1, started domain web1]
"""

from typing import Any

from ansible_collections.twofold.cluster.plugins.module_utils._instance import ensure
from ansible_collections.twofold.cluster.plugins.module_utils._libvirt import URI
from ansible_collections.twofold.cluster.plugins.module_utils._module import Binding


def main() -> None:
    spec: dict[str, Any] = {
        "name": {"type": "str", "required": True},
        "xml": {"type": "str"},
        "state": {"type": "str", "choices": ["running", "stopped", "defined", "absent"], "default": "running"},
        "autostart": {"type": "bool"},
        "stop_timeout": {"type": "float", "default": 120},
        "force": {"type": "bool", "default": False},
        "local_uri": {"type": "str", "default": URI},
    }
    Binding(spec).execute(ensure)


if __name__ == "__main__":
    main()
