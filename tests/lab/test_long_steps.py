# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A step may take hours, and nothing is said to libvirtd meanwhile."""

from __future__ import annotations

import pytest

from .cluster import Cluster

pytestmark = pytest.mark.lab

# What a call does that zeroes a large disk between two looks at a domain.
CALL = """
import sys, time
sys.path.insert(0, "/usr/local/lib/twofold")
from twofold_node._node import this_node
hypervisor = this_node().hypervisor
hypervisor.domains()
{meanwhile}
print(hypervisor.domain("nothing"))
"""
SILENT = "time.sleep(5)"
RESTARTED = "import subprocess; subprocess.run(['systemctl', 'restart', 'libvirtd'], check=True)"


@pytest.mark.parametrize(
    "meanwhile",
    [pytest.param(SILENT, id="silent"), pytest.param(RESTARTED, id="libvirtd restarted", marks=pytest.mark.nightly)],
)
def test_libvirt_is_still_there_afterwards(cluster: Cluster, meanwhile: str) -> None:
    # It hangs up on who does not answer for two seconds, which are thirty by default.
    settings = "printf 'keepalive_interval = 1\\nkeepalive_count = 1\\n' >>/etc/libvirt/libvirtd.conf"
    cluster.sh("node1", f"{settings}; systemctl restart libvirtd")
    said = cluster.lab.run("node1", ["python3", "-I", "-"], stdin=CALL.format(meanwhile=meanwhile)).stdout
    assert said.strip() == "None"
