#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: os_install
short_description: Put an operating system on a block device
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Writes an image to a block device, or makes a file system on it and runs a script that fills it.
  - A device that holds data is left alone. It holds data if C(blkid) knows what is on it, or if its first or last MiB is not
    all zeros. An installation that was interrupted is found and done again.
  - An image is not trusted. Only raw and qcow2 are read, and a qcow2 that refers to another file is refused.
extends_documentation_fragment:
  - twofold.cluster._attributes
  - twofold.cluster._attributes.node
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - With O(overwrite=true) the device is written each time.
options:
  device:
    description:
      - The block device.
    type: path
    required: true
  image:
    description:
      - The path of an image on the node, for example what M(twofold.cluster.os_image) returns.
    type: path
  format:
    description:
      - The format of the O(image). It is never guessed, since whoever made the image could choose what is guessed.
    type: str
    choices: [raw, qcow2]
    default: qcow2
  script:
    description:
      - The text of a script. It runs as root in a mount namespace of its own with the device, made into ext4, mounted
        on the folder that the environment variable E(TWOFOLD_TARGET) names. E(TWOFOLD_DEVICE), E(TWOFOLD_INSTANCE) and
        E(TWOFOLD_HOSTNAME) are set too. What it leaves running when it ends is killed. If it fails, the last lines that it
        said are shown.
    type: str
  name:
    description:
      - The name of the instance, for the script. It becomes the label of the file system.
    type: str
    default: guest
  environment:
    description:
      - More variables for the script. Their names start with C(TWOFOLD_).
    type: dict
    default: {}
  script_timeout:
    description:
      - How many seconds the script may take. Then it is killed, with everything that it started.
    type: float
    default: 3600
  zeroed:
    description:
      - Whether the device is known to read as zeros, for example a new volume of M(twofold.cluster.volume). Then the
        holes of an image are not written.
    type: bool
    default: false
  overwrite:
    description:
      - Whether a device that holds data is written all the same.
    type: bool
    default: false
seealso:
  - module: twofold.cluster.os_image
  - module: twofold.cluster.volume
"""

EXAMPLES = r"""
- name: Write an image to a new disk
  twofold.cluster.os_install:
    device: /dev/vg0/web1-disk0
    image: "{{ image.path }}"
    format: qcow2
    zeroed: true

- name: Fill a disk with a script
  twofold.cluster.os_install:
    device: /dev/vg0/web2-disk0
    name: web2
    script: |
      #!/bin/sh
      exec mmdebstrap trixie "$TWOFOLD_TARGET"
"""

RETURN = r"""
found:
  description: The kind of data that was on the device before, or V(null).
  returned: success
  type: str
  sample: ext4
"""

from typing import Any

from ansible_collections.twofold.cluster.plugins.module_utils._install import install
from ansible_collections.twofold.cluster.plugins.module_utils._module import Binding


def main() -> None:
    spec: dict[str, Any] = {
        "device": {"type": "path", "required": True},
        "image": {"type": "path"},
        "format": {"type": "str", "choices": ["raw", "qcow2"], "default": "qcow2"},
        "script": {"type": "str"},
        "name": {"type": "str", "default": "guest"},
        "environment": {"type": "dict", "default": {}},
        "script_timeout": {"type": "float", "default": 3600},
        "zeroed": {"type": "bool", "default": False},
        "overwrite": {"type": "bool", "default": False},
    }
    one = [("image", "script")]
    Binding(spec, mutually_exclusive=one, required_one_of=one).execute(install)


if __name__ == "__main__":
    main()
