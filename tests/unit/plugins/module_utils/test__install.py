# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An operating system is put on an empty device, and on nothing else unasked."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils._install import install
from tests.unit.plugins.module_utils.conftest import BenchNode

DEVICE = "/dev/vg0/web1"
UNKNOWN = "something that blkid does not know"


class Images:
    """Remembers what was written."""

    def __init__(self) -> None:
        self.written: list[tuple[str, bool]] = []

    def virtual_size(self, _image: str, _format: str) -> int:
        return 1 << 20

    def write(self, _image: str, _format: str, device: str, fresh: bool) -> None:
        self.written.append((device, fresh))


@pytest.fixture
def images(node: BenchNode) -> Images:
    node.volumes.create("vg0", "web1", 4 << 20, [])
    found = Images()
    vars(node)["images"] = found
    return found


def wanted(**more: Any) -> dict[str, Any]:
    base = {"name": "web1", "device": DEVICE, "image": "/i", "format": "raw", "zeroed": True, "overwrite": False}
    return {**base, **more}


def test_an_empty_device_is_written(node: BenchNode, images: Images) -> None:
    node.volumes.content[DEVICE] = "zeros"
    assert install(node, wanted())["changed"]
    assert images.written == [(DEVICE, True)]


def test_what_nobody_knows_is_left_alone(node: BenchNode, images: Images) -> None:
    node.volumes.content[DEVICE] = UNKNOWN
    answer = install(node, wanted())
    assert (answer["changed"], answer["found"]) == (False, UNKNOWN)
    assert images.written == []


def test_it_is_overwritten_on_demand_with_its_holes(node: BenchNode, images: Images) -> None:
    node.volumes.content[DEVICE] = UNKNOWN
    assert install(node, wanted(overwrite=True))["changed"]
    assert images.written == [(DEVICE, False)]
