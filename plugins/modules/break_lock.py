#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The work is done by the action plugin of the same name, with one call of the node.

from __future__ import annotations

DOCUMENTATION = r"""
module: break_lock
short_description: Take a node's lock away from a dead run
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Every run locks the nodes that it works on. The lock of a run that is not heard of any more lapses by itself, after
    C(twofold_lock_lease) seconds. This is for whoever knows that the run is dead and does not want to wait.
  - It is refused while a process of the run is at work on the node.
extends_documentation_fragment:
  - twofold.cluster._attributes
  - twofold.cluster._attributes.node
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options: {}
seealso:
  - module: twofold.cluster.apply_wave
"""

EXAMPLES = r"""
- name: Break the lock
  twofold.cluster.break_lock:
"""

RETURN = r"""
lock:
  description:
    - Whose lock it was, with C(holder), C(run) and C(age), the seconds since it was heard of; null if there was none.
    - One that was C(damaged) tells none of these.
  returned: success
  type: dict
  sample: {holder: ann@desk, run: 0a1b2c3d4e5f6071, age: 41.5}
"""
