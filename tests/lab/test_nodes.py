# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that are destroyed, taken out, and rebooted, under guests that serve."""

from __future__ import annotations

import pytest

from .cluster import Cluster
from .test_failover import complete, every_record
from .test_migrate import serving, settled

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("node", ["node2", pytest.param("node1", marks=pytest.mark.nightly)])
def test_a_destroyed_node_is_healed_by_one_run(cluster: Cluster, node: str) -> None:
    """New hardware under the old name, first as secondary, then as primary: one run, and nothing acknowledged is missing."""
    writer = serving(cluster)
    cluster.lab.renew(node)
    assert "twofold" not in cluster.sh(node, "vgs --noheadings; ls /var/lib /etc/drbd.d 2>/dev/null")
    cluster.play("site")
    assert settled(cluster, "serve1") == ("node1" if node == "node2" else "node2")
    assert all(complete(cluster, one, "serve1") for one in ("node1", "node2"))
    every_record(cluster, writer)
    assert cluster.play("site").changed == 0
    assert cluster.findings() == []
