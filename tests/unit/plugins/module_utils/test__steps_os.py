# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An OS is written to a disk that waits for one, and that nobody uses."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils._errors import Refused
from ansible_collections.twofold.cluster.plugins.module_utils._steps import Args, Done, find
from tests.unit.plugins.module_utils.conftest import BenchNode

XML = "<domain type='test'><name>web1</name><memory>8192</memory><os><type>hvm</type></os></domain>"
SCRIPT = {"kind": "script", "device": "/dev/vg0/web1-disk0", "script": "#!/bin/sh\n"}


class Installer:
    """Remembers what was installed."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def run(self, instance: str, *_more: Any) -> None:
        self.did.append(instance)


@pytest.fixture
def installer(node: BenchNode) -> Installer:
    """The guest is defined, and its first disk waits for an OS."""
    tags = ["twofold", "twofold.instance=web1", "twofold.disk=0", "twofold.pending=install"]
    node.volumes.create("vg0", "web1-disk0", 64 << 20, tags)
    node.hypervisor.define(XML)
    made = Installer()
    vars(node)["installer"] = made
    return made


def install(node: BenchNode) -> Done:
    values = {**SCRIPT, "volume": {"volume_group": "vg0", "name": "web1-disk0"}}
    return find("os.install")(node, Args("os.install", values))


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("paused", [False, True])
def test_no_os_is_written_under_a_guest_that_was_started_by_hand(
    node: BenchNode, installer: Installer, check_mode: bool, paused: bool
) -> None:
    node.hypervisor.start("web1")
    if paused:
        node.hypervisor.suspend("web1")
    vars(node)["check_mode"] = check_mode
    with pytest.raises(Refused, match=r"web1 is (running|paused) on this node") as caught:
        install(node)
    assert "lvchange --deltag twofold.pending=install vg0/web1-disk0" in (caught.value.remedy or "")
    volume = node.volumes.find("vg0", "web1-disk0")
    assert installer.did == [] and volume is not None and volume.pending() == ["install"]


def test_once_it_is_off_the_os_is_written_and_no_second_time(node: BenchNode, installer: Installer) -> None:
    assert install(node).changed
    node.hypervisor.start("web1")
    assert not install(node).changed and installer.did == ["web1"]
