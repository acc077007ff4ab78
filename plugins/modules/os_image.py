#!/usr/bin/python
# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: os_image
short_description: Keep an image of an operating system in a node's cache
version_added: 0.1.0
author:
  - The Twofold developers (@twofold)
description:
  - Fetches an image, checks its SHA-256 sum while it is downloaded, and keeps it under that sum. An image with another
    sum is not kept, so what is in the cache is what was asked for.
extends_documentation_fragment:
  - twofold.cluster._attributes
  - twofold.cluster._attributes.full
  - twofold.cluster._attributes.node
options:
  sha256:
    description:
      - The SHA-256 sum of the file, in hexadecimal.
    type: str
    required: true
  url:
    description:
      - Where to get it, as C(http://), C(https://) or C(file://), or a path on the node. Required with
        O(state=present) if the image is not in the cache.
    type: str
  state:
    description:
      - Whether the image should be in the cache.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: twofold.cluster.os_install
"""

EXAMPLES = r"""
- name: Keep a cloud image
  twofold.cluster.os_image:
    url: https://images.example.org/debian-13-generic-amd64.qcow2
    sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  register: image
"""

RETURN = r"""
path:
  description: The path of the image on the node.
  returned: success
  type: str
  sample: /var/lib/twofold/images/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
"""

from typing import Any

from ansible_collections.twofold.cluster.plugins.module_utils._errors import UsageError
from ansible_collections.twofold.cluster.plugins.module_utils._module import Binding
from ansible_collections.twofold.cluster.plugins.module_utils._names import digest
from ansible_collections.twofold.cluster.plugins.module_utils._node import Node


def work(node: Node, params: dict[str, Any]) -> dict[str, Any]:
    sha256, wanted = digest(params["sha256"]), params["state"] == "present"
    there, path = sha256 in node.images.cached(), node.images.path(sha256)
    difference = {"before": {"cached": there}, "after": {"cached": wanted}}
    if wanted and not there and not params["url"]:
        raise UsageError(f"image {sha256[:12]} is not in the cache and has no url", "give the url")
    if there != wanted and not node.check_mode:
        if wanted:
            node.images.fetch(sha256, params["url"], lambda _done, _total: None)
        else:
            node.images.remove(sha256)
    return {"changed": there != wanted, "path": path, "diff": difference}


def main() -> None:
    spec = {
        "sha256": {"type": "str", "required": True},
        "url": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    Binding(spec).execute(work)


if __name__ == "__main__":
    main()
