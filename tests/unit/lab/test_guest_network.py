# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the guest image reads a seed's network-config."""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml
from tests.lab.guest import FILES
from tests.unit.needed import needed

MAC = "52:54:00:aa:bb:01"
VERSION_2 = {
    "version": 2,
    "ethernets": {
        "nic0": {
            "match": {"macaddress": MAC},
            "mtu": 1400,
            "dhcp4": False,
            "addresses": ["203.0.113.50/24", "2001:db8::5/64"],
            "routes": [{"to": "0.0.0.0/0", "via": "203.0.113.1"}],
            "nameservers": {"addresses": ["192.0.2.53"], "search": []},
        },
    },
}
VERSION_1 = {
    "version": 1,
    "config": [
        {
            "type": "physical",
            "name": "eth0",
            "mac_address": MAC.upper(),
            "mtu": 1400,
            "subnets": [
                {"type": "static", "address": "203.0.113.50/24", "gateway": "203.0.113.1"},
                {"type": "static6", "address": "2001:db8::5/64"},
            ],
        },
        {"type": "nameserver", "address": ["192.0.2.53"]},
    ],
}
WANTED = [
    f"dev=$(grep -lix '{MAC}' /sys/class/net/*/address | head -n 1 | cut -d/ -f5)",
    'if [ -n "$dev" ]; then',
    "ip link set $dev mtu 1400",
    "ip link set $dev up",
    "ip address add 203.0.113.50/24 dev $dev",
    "ip address add 2001:db8::5/64 dev $dev",
    "ip route add default via 203.0.113.1 dev $dev",
    "fi",
]


def commands(text: str) -> list[str]:
    argv = [needed("busybox", "busybox-static"), "awk", "-f", str(FILES / "lib/lab/network.awk")]
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(VERSION_2, indent=2, sort_keys=True),
        yaml.safe_dump(VERSION_2, default_flow_style=False),
        yaml.safe_dump(VERSION_2, default_flow_style=None),
        yaml.safe_dump(VERSION_1, default_flow_style=False, sort_keys=False),
    ],
    ids=["json", "block", "flow", "version-1"],
)
def test_every_way_to_write_it(text: str) -> None:
    assert commands(text) == WANTED


def test_dhcp() -> None:
    found = commands(json.dumps({"version": 2, "ethernets": {"nic0": {"dhcp4": True}}}, indent=2))
    assert found[0] == "dev=nic0"
    assert any(line.startswith("udhcpc ") for line in found)
