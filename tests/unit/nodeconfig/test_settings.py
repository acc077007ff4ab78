# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory's variables of a node: what is wrong names host and variable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2.nativetypes import NativeEnvironment

from twofold import nodeconfig, variables

ROOT = Path(__file__).resolve().parents[3]


def test_a_node_without_settings_is_possible() -> None:
    settings = nodeconfig.read_settings("node1", {})
    assert (str(settings.drbd_ports), settings.volume_group, settings.bridges) == ("7100-7699", "twofold", ())


def test_addresses_follow_from_each_other() -> None:
    member = nodeconfig.read_member("node1.example.com", {"ansible_host": "192.0.2.1"})
    assert (member.hostname, member.addresses, member.names) == (
        "node1",
        ("192.0.2.1",),
        ("node1", "node1.example.com"),
    )
    given = {
        "ansible_host": "gate.example.com",
        "twofold_address": "192.0.2.1",
        "twofold_replication_address": "2001:DB8::1",
        "twofold_node_addresses": ["203.0.113.1", "192.0.2.1"],
    }
    member = nodeconfig.read_member("node1", given)
    assert (member.management, member.replication, member.migration) == ("192.0.2.1", "2001:db8::1", "2001:db8::1")
    assert member.addresses == ("192.0.2.1", "2001:db8::1", "203.0.113.1")


@pytest.mark.parametrize(
    ("given", "variable"),
    [
        ({}, "twofold_address"),
        ({"ansible_host": "node1.example.com"}, "twofold_address"),
        ({"ansible_host": "192.0.2.1", "twofold_replication_address": "eth1"}, "twofold_replication_address"),
        ({"ansible_host": "192.0.2.1", "twofold_node_addresses": "192.0.2.2"}, "twofold_node_addresses"),
        ({"ansible_host": "192.0.2.1", "twofold_hostname": "no_host"}, "twofold_hostname"),
    ],
)
def test_members_that_are_wrong(given: dict[str, Any], variable: str) -> None:
    with pytest.raises(nodeconfig.SettingError) as caught:
        nodeconfig.read_member("node1", given)
    finding = caught.value.finding
    assert (finding.code, finding.object, finding.message.split(":")[0]) == ("setting", "node node1", variable)
    assert finding.remedy


@pytest.mark.parametrize(
    ("given", "variable"),
    [
        ({"volume_group": "a/b"}, "twofold_volume_group"),
        ({"volume_group_devices": ["sdb"]}, "twofold_volume_group_devices"),
        ({"volume_group_devices": "/dev/sdb"}, "twofold_volume_group_devices"),
        ({"wipe_devices": ["/dev/../etc/passwd"]}, "twofold_wipe_devices"),
        ({"wipe_devices": ["/dev/sdb; reboot"]}, "twofold_wipe_devices"),
        ({"drbd_ports": "7999-7000"}, "twofold_drbd_ports"),
        ({"drbd_ports": "16000-17000"}, "twofold_drbd_ports"),
        ({"drbd_ports": "80-90"}, "twofold_drbd_ports"),
        ({"migration_ports": "7500-8000"}, "twofold_migration_ports"),
        ({"replication_mtu": 100}, "twofold_replication_mtu"),
        ({"manage_firewall": "yes"}, "twofold_manage_firewall"),
        ({"clock_tolerance": True}, "twofold_clock_tolerance"),
        ({"packages": ["ok", 1]}, "twofold_node_packages"),
        ({"networks": {"lan": {"bridge": "br $(reboot)", "manage": True}}}, "twofold_networks.lan"),
        ({"networks": {"lan": {"bridge": "br0", "interface": "eth1/x"}}}, "twofold_networks.lan"),
        ({"network_interfaces": {"lan": "eth1"}}, "twofold_network_interfaces.lan"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_settings_that_are_wrong(given: dict[str, Any], variable: str) -> None:
    with pytest.raises(nodeconfig.SettingError) as caught:
        nodeconfig.read_settings("node1", given)
    finding = caught.value.finding
    assert (finding.code, finding.object, finding.message.split(":")[0]) == ("setting", "node node1", variable)
    assert finding.remedy


def test_an_interface_serves_one_bridge() -> None:
    networks = {"a": {"bridge": "br-a", "interface": "eth1"}, "b": {"bridge": "br-b", "interface": "eth2"}}
    with pytest.raises(nodeconfig.SettingError, match="same bridge or interface"):
        nodeconfig.read_settings("node1", {"networks": networks, "network_interfaces": {"b": "eth1"}})


def test_bridges_are_made_only_where_the_inventory_asks() -> None:
    networks = {
        "own": {"bridge": "br-own", "manage": True},
        "theirs": {"bridge": "br-theirs", "cidr": "203.0.113.0/24"},
        "wired": {"bridge": "br-wired", "interface": "eth2", "mtu": 9000},
    }
    given = {"networks": networks, "network_interfaces": {"wired": "enp3s0"}}
    bridges = nodeconfig.read_settings("node1", given).bridges
    assert [(bridge.name, bridge.interface, bridge.mtu) for bridge in bridges] == [
        ("br-own", None, None),
        ("br-wired", "enp3s0", 9000),
    ]


def test_the_model_knows_every_variable() -> None:
    assert set(nodeconfig.NODE_VARIABLES) - variables.known() == set()


def test_the_role_has_the_same_variables_and_defaults() -> None:
    """Each of the role's defaults is the inventory's variable, or else the default of the library."""
    defaults = yaml.safe_load((ROOT / "roles/node/defaults/main.yml").read_text())
    for name in ("node_group", "node_new_authority", "node_pki_dir", "node_silent_ok"):
        del defaults[name]
    assert sorted(defaults) == sorted(f"node_{name}" for name in nodeconfig.SETTINGS)
    environment = NativeEnvironment()
    for name, (variable, default) in nodeconfig.SETTINGS.items():
        template: Any = environment.from_string(defaults[f"node_{name}"])
        assert template.render() == default
        assert template.render({variable: ["given"]}) == ["given"]
