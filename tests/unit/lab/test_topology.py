# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, addresses, and the files that lead to them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.lab import inventory, ssh, topology
from tests.lab.errors import LabError
from tests.lab.paths import check_name, check_snapshot


def test_machines() -> None:
    machines = topology.machines(2, outsider=True)
    assert [machine.name for machine in machines] == ["node1", "node2", "outsider"]
    assert [machine.management for machine in machines] == ["192.0.2.11", "192.0.2.12", "192.0.2.99"]
    assert machines[0].replication == "198.51.100.11"
    assert len({machine.mac(network) for machine in machines for network in topology.NETWORKS}) == 9
    with pytest.raises(LabError, match="1 to 9 nodes"):
        topology.machines(10, outsider=False)


def test_inventory_has_nodes_alone() -> None:
    document = yaml.safe_load(inventory.render(topology.machines(2, outsider=True), Path("/cache/labs/x")))
    assert list(document["nodes"]["hosts"]) == ["node1", "node2"]
    assert document["nodes"]["hosts"]["node2"]["ansible_host"] == "192.0.2.12"
    assert document["all"]["vars"]["ansible_ssh_common_args"] == "-F /cache/labs/x/ssh_config"


def test_ssh_configuration() -> None:
    text = ssh.config(topology.machines(1, outsider=False), Path("/key"), Path("/proxy"), Path("/control"))
    assert text.startswith("Host node1\n  HostName 192.0.2.11\n")
    assert "ProxyCommand /proxy %h %p\n" in text


@pytest.mark.parametrize("name", ["", "Lab", "a b", "-a", "a" * 21, "../x"])
def test_names_that_no_lab_can_have(name: str) -> None:
    with pytest.raises(LabError, match="lower-case"):
        check_name(name)


@pytest.mark.parametrize("name", ["", "a/b", ".x", "*"])
def test_names_that_no_snapshot_can_have(name: str) -> None:
    with pytest.raises(LabError, match="snapshot"):
        check_snapshot(name)
