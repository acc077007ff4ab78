# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules have in common in their documentation. Private to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
  diff_mode:
    description:
      - Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled by the module has not changed in a relevant way.
"""

    # Modules that only look.
    FACTS = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This module does not modify state.
  diff_mode:
    support: N/A
    details:
      - This module does not modify state.
  idempotent:
    support: full
    details:
      - This module does not modify state.
"""

    # Modules that change something and say exactly what.
    FULL = r"""
options: {}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
"""

    # Where they run.
    NODE = r"""
options: {}
attributes:
  platform:
    description: Target OS that can be operated against.
    support: full
    platforms: linux
requirements:
  - python >= 3.9
  - root on the node
"""

    # Actions that run on the control host; what they do to nodes, they do through node_facts and node_apply.
    CONTROL = r"""
options: {}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
  platform:
    description: Target OS that can be operated against.
    support: full
    platforms: linux
  action:
    description:
      - Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    support: full
requirements:
  - the libraries of meta/ee-requirements.txt on the control host
"""

    # Those of them that look at the whole cluster; _cluster.ClusterAction has the option.
    CLUSTER = r"""
options:
  observed:
    description:
      - The name of the variable in which M(twofold.cluster.node_facts) was registered on every node.
    type: str
    default: operate_observed
"""
