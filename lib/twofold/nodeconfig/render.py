# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of the files that a node gets."""

from __future__ import annotations

import ipaddress
import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from .settings import LIBVIRT_PORT, Bridge, Member, Settings

HEADER = "# Written by Twofold (role twofold.cluster.node); changes made here are undone by its next run.\n"
CA = "/etc/pki/CA/cacert.pem"
QEMU_PKI = "/etc/pki/qemu"
FIREWALL = "/etc/twofold/firewall.nft"
TABLE = "inet twofold"
# What the script of the bridges can do. Each command says by itself what its failure costs: `set -e` would leave out
# the bridges after it too, and means nothing in what stands before `||`.
NETWORK_FUNCTIONS = """
failed=0 waited=0
MEND="mend it, or name another one in twofold_networks, and run bootstrap.yml"

fail() {
    echo "bridge $1: $2" >&2
    failed=1
}

# make BRIDGE INTERFACE MTU; what it does not have is empty.
make() {
    [ -d /sys/class/net/$1 ] || ip link add name $1 type bridge forward_delay 0 stp_state 0 ||
        { fail $1 "it cannot be made"; return; }
    [ -z "$3" ] || ip link set dev $1 mtu $3 || fail $1 "it does not take the MTU $3"
    # Before its interface, which may be gone: the guests of this node start and reach each other all the same.
    ip link set dev $1 up || fail $1 "it cannot be brought up"
    [ -z "$2" ] || connect "$@"
}

connect() {
    # All of them together are waited for so long: while one was, the others had the same time to come.
    while [ ! -d /sys/class/net/$2 ] && [ $waited -lt 30 ]; do waited=$((waited + 1)); sleep 1; done
    [ -d /sys/class/net/$2 ] ||
        { fail $1 "there is no interface $2, so its guests reach no other node; $MEND"; return; }
    [ -z "$3" ] || ip link set dev $2 mtu $3 || fail $1 "its interface $2 does not take the MTU $3"
    [ -d /sys/class/net/$1/brif/$2 ] || ip link set dev $2 master $1 ||
        { fail $1 "its interface $2 cannot be put into it"; return; }
    ip link set dev $2 up || fail $1 "its interface $2 cannot be brought up"
}

"""


def hosts(members: Iterable[Member]) -> str:
    """Return the names of all nodes for /etc/hosts: the management address bears the node's names."""
    return "".join(f"{member.management} {' '.join(member.names)}\n" for member in members)


def lvm(settings: Settings) -> str:
    """Return LVM's settings: the host never looks into guests' volumes, whichever way they are reached."""
    group = settings.volume_group.replace("-", "--")
    ours = ["r|^/dev/drbd.*|", f"r|^/dev/{settings.volume_group}/.*|", f"r|^/dev/mapper/{group}-.*|"]
    patterns = ", ".join(json.dumps(pattern) for pattern in [*ours, *settings.lvm_filter])
    return f"devices {{\n    scan_lvs = 0\n    global_filter = [ {patterns} ]\n}}\n"


def drbd() -> str:
    """Return DRBD's global settings; each resource brings its own options."""
    body = "global {\n    usage-count no;\n    udev-always-use-vnr;\n}\n\ncommon {\n}\n"
    return HEADER + body


def libvirtd(settings: Settings, members: Iterable[Member]) -> str:
    """Return libvirtd.conf: verified TLS for the cluster's nodes, no plain TCP."""
    wanted: dict[str, Any] = {
        "listen_tls": 1,
        "listen_tcp": 0,
        "auth_tls": "none",
        "tls_no_verify_certificate": 0,
        "tls_allowed_dn_list": sorted(f"CN={member.hostname}" for member in members),
    }
    return _libvirt_settings({**wanted, **settings.libvirtd_settings})


def qemu(settings: Settings, member: Member) -> str:
    """Return qemu.conf: migrations over verified TLS alone, in their own range of ports."""
    wanted: dict[str, Any] = {
        "default_tls_x509_cert_dir": QEMU_PKI,
        "default_tls_x509_verify": 1,
        "migrate_tls_x509_cert_dir": QEMU_PKI,
        "migrate_tls_x509_verify": 1,
        "migrate_tls_force": 1,
        "migration_host": member.replication,
        "migration_port_min": settings.migration_ports.first,
        "migration_port_max": settings.migration_ports.last,
        "auto_start_bypass_cache": 0,
    }
    return _libvirt_settings({**wanted, **settings.qemu_settings})


def _libvirt_settings(settings: Mapping[str, Any]) -> str:
    return HEADER + "".join(f"{name} = {_libvirt_value(value)}\n" for name, value in settings.items())


def _libvirt_value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[ {', '.join(_libvirt_value(item) for item in value)} ]" if value else "[ ]"
    if isinstance(value, (bool, int)):
        return str(int(value))
    return json.dumps(str(value), ensure_ascii=False)


def libvirtd_unit() -> str:
    """Return a drop-in: libvirtd stays, for starting it again costs more than keeping it."""
    return HEADER + "[Service]\nExecStart=\nExecStart=/usr/sbin/libvirtd\n"


def libvirt_guests() -> str:
    """Return the settings of libvirt-guests: guests are shut down with their node, and never started by it."""
    wanted = {"ON_BOOT": "ignore", "ON_SHUTDOWN": "shutdown", "PARALLEL_SHUTDOWN": "10", "SHUTDOWN_TIMEOUT": "300"}
    return HEADER + "".join(f"{name}={value}\n" for name, value in wanted.items())


def firewall(settings: Settings, members: Iterable[Member]) -> str:
    """Return a table of our own: the cluster's ports are closed to all but the cluster's nodes."""
    addresses = {ipaddress.ip_address(text) for member in members for text in member.addresses}
    ports = f"{LIBVIRT_PORT}, {settings.drbd_ports}, {settings.migration_ports}"
    sets = _address_set("nodes4", 4, addresses) + _address_set("nodes6", 6, addresses)
    # Creating before deleting makes the deletion succeed in either case; the whole file is one transaction.
    return f"""{HEADER}table {TABLE}
delete table {TABLE}
table {TABLE} {{
{sets}
    chain input {{
        type filter hook input priority filter - 5; policy accept;
        iif "lo" return
        tcp dport {{ {ports} }} jump cluster
    }}

    chain cluster {{
        ip saddr @nodes4 return
        ip6 saddr @nodes6 return
        counter drop
    }}
}}
"""


def _address_set(name: str, version: int, addresses: set[Any]) -> str:
    chosen = sorted(address for address in addresses if address.version == version)
    elements = f"\n        elements = {{ {', '.join(str(address) for address in chosen)} }}" if chosen else ""
    return f"    set {name} {{\n        type ipv{version}_addr{elements}\n    }}\n"


def unit(
    description: str,
    *,
    start: str,
    prepare: Iterable[str] = (),
    reload: bool = False,
    retry: bool = False,
    **lines: str,
) -> str:
    """Return a oneshot unit that stays active; with retry it is started again, for some minutes, if it fails.

    What is to ``prepare`` comes before it, and may fail.
    """
    head = {"Description": description, **{key: value for key, value in lines.items() if key != "WantedBy"}}
    text = HEADER + "[Unit]\n" + "".join(f"{key}={value}\n" for key, value in head.items())
    text += "StartLimitIntervalSec=600\nStartLimitBurst=30\n" if retry else ""
    text += "\n[Service]\nType=oneshot\nRemainAfterExit=yes\n"
    text += "".join(f"ExecStartPre=-{command}\n" for command in prepare)
    text += f"ExecStart={start}\n"
    text += "Restart=on-failure\nRestartSec=5\n" if retry else ""
    text += f"ExecReload={start}\n" if reload else ""
    return text + f"\n[Install]\nWantedBy={lines.get('WantedBy', 'multi-user.target')}\n"


def network_script(bridges: Iterable[Bridge]) -> str:
    """Return the script that makes the bridges at boot; it may run at any time and changes only what is missing."""
    calls = (shlex.join(["make", one.name, one.interface or "", str(one.mtu or "")]) for one in bridges)
    lines = [
        HEADER.replace("#", "#!/bin/sh\n#", 1),
        NETWORK_FUNCTIONS,
        *(f"{call}\n" for call in calls),
        "exit $failed\n",
    ]
    return "".join(lines)


def program(library: str, module: str) -> str:
    """Return a program that runs on a node by itself; ``module`` of the library beside it does the work."""
    lines = ["import sys", "", f'sys.path.insert(0, "{library}")', f"from twofold_node.{module} import main", ""]
    return "#!/usr/bin/python3 -I\n" + HEADER + "\n".join([*lines, "sys.exit(main())", ""])


def power_back_settings(settings: Settings, member: Member, members: Iterable[Member]) -> str:
    """Return what that program has to know: the node's own name, its peers, and limits."""
    peers = {
        peer.name: [
            f"qemu+tls://{_host(address)}/system" for address in dict.fromkeys((peer.migration, peer.management))
        ]
        for peer in members
        if peer.name != member.name
    }
    document = {
        "format": 1,
        "node": member.name,
        "peers": peers,
        "restarts": settings.power_back_restarts,
        "start_delay": settings.start_delay,
        "starts_at_once": settings.starts_at_once,
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def power_back_service(program: str) -> str:
    """Return the unit that runs it once."""
    return f"""{HEADER}[Unit]
Description=Twofold: start this node's own guests
Wants=network-online.target libvirtd.service
After=network-online.target libvirtd.service libvirt-guests.service twofold-replication.service

[Service]
Type=oneshot
ExecStart={program}
TimeoutStartSec=1800

[Install]
WantedBy=multi-user.target
"""


def power_back_timer(interval: int) -> str:
    """Return the timer that runs it every `interval` seconds."""
    return f"""{HEADER}[Unit]
Description=Twofold: see that this node's own guests run

[Timer]
OnBootSec=60
OnUnitInactiveSec={max(interval, 1)}
AccuracySec=5

[Install]
WantedBy=multi-user.target
"""
