# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main path on other nodes than the usual ones: Debian 12, and AppArmor as Debian has it by default."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import guest
from .cluster import Cluster
from .core import Lab
from .paths import default_name
from .test_migrate import goes_on, settled

# A boot and a bootstrap for each platform.
pytestmark = [pytest.mark.lab, pytest.mark.nightly]

PLATFORMS: dict[str, dict[str, Any]] = {"bookworm": {"release": "bookworm"}, "confined": {"confined": True}}


@pytest.fixture(params=sorted(PLATFORMS))
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes of a platform, before their first bootstrap."""
    guest.build()
    lab = Lab(f"{default_name()}-plat"[:20])
    lab.down()
    lab.up(nodes=2, **PLATFORMS[request.param])
    try:
        yield Cluster(lab, tmp_path)
    finally:
        lab.down()


def confinement(cluster: Cluster, node: str) -> str:
    """The security label of the guest's process; `unconfined` where AppArmor is off."""
    line = "cat /proc/$(cat /run/libvirt/qemu/tiny1.pid)/attr/current 2>/dev/null || echo unconfined"
    return cluster.sh(node, line).replace("\0", "")


def test_the_main_path(cluster: Cluster, request: pytest.FixtureRequest) -> None:
    """Bootstrap, create, migrate there and back, grow while the guest runs, remove."""
    cluster.instances = {"tiny1": {"twofold_nodes": ["node1", "node2"]}}
    cluster.play("site")
    device = cluster.sh("node1", "drbdadm sh-dev tiny1/0")
    goes_on(cluster, "node1", device)
    last = 0
    for now in ("node2", "node1"):
        cluster.play("migrate", "-e", "instance=tiny1")
        assert settled(cluster, "tiny1") == now
        count = cluster.counter(now, device)
        assert count > last, "the guest counts on, it does not start again"
        last = count
        goes_on(cluster, now, device)
    confined = "confined" in request.node.name
    assert confinement(cluster, "node1").startswith("libvirt-") == confined
    cluster.instances["tiny1"]["twofold_disks"] = [{"size": "96MiB"}]
    cluster.play("converge")
    assert cluster.sh("node1", "blockdev --getsize64 " + device) == str(96 << 20)
    goes_on(cluster, "node1", device)
    assert cluster.play("site").changed == 0
    assert cluster.findings() == []
    cluster.instances["tiny1"]["twofold_state"] = "absent"
    cluster.play("converge")
    for node in cluster.lab.nodes:
        assert cluster.sh(node, "virsh list --all --name; lvs --noheadings -o lv_name twofold; drbdsetup show") == ""
