# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The DRBD resource of an instance. Pure: the same definition gives the same text."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any

from .. import names
from ..model import ReplicationSettings

PLACEHOLDER = "@SECRET@"
KIB = 1024
# Pages that may be on their way to the other node, at most 32 MiB for a resource. DRBD's default of 2048 holds a resync
# up more than disk and network do; 8000 is what its user's guide recommends ("Tuning recommendations").
MAX_BUFFERS = "8000"


@dataclass(frozen=True)
class Host:
    """A node as DRBD sees it: `hostname` is its `uname -n`."""

    node: str
    hostname: str
    address: str


def options(settings: ReplicationSettings) -> dict[str, dict[str, str]]:
    """The options by section. Rates are in KiB per second with an explicit unit, as drbdsetup shows them."""
    return {
        "net": {
            "protocol": settings.protocol,
            "cram-hmac-alg": "sha256",
            "shared-secret": f'"{PLACEHOLDER}"',
            "ping-int": str(settings.ping_interval),
            "max-buffers": MAX_BUFFERS,
            # Who wrote nothing while apart follows, unless it is Primary. Data is never given up by itself.
            "after-sb-0pri": "discard-zero-changes",
            "after-sb-1pri": "consensus",
            "after-sb-2pri": "disconnect",
        },
        "disk": {
            "on-io-error": "detach",
            "resync-rate": f"{_kib(settings.resync_rate)}k",
            "c-max-rate": f"{_kib(max(settings.resync_rate, settings.resync_max_rate))}k",
        },
    }


def _kib(rate: int) -> int:
    return -(-rate // KIB)


def render(document: dict[str, Any], hosts: list[Host], settings: ReplicationSettings) -> str:
    """The resource's text, with a placeholder for the secret. The order of nodes in the definition does not matter."""
    lines = [f'resource "{document["name"]}" {{']
    for section, found in options(settings).items():
        lines.append(f"    {section} {{")
        lines.extend(f"        {name} {value};" for name, value in found.items())
        lines.append("    }")
    for host in sorted(hosts, key=lambda item: item.node):
        lines.extend(_host(document, host))
    return "\n".join([*lines, "}", ""])


def hosts(text: str) -> set[str]:
    """The host names that a resource's text is about."""
    return set(re.findall(r'^\s*on\s+"?([^"\s{]+)', text, re.MULTILINE))


def place(address: str) -> str:
    """An address as it stands there, up to the port."""
    found = ipaddress.ip_address(address)
    return f"ipv4 {found}:" if found.version == 4 else f"ipv6 [{found}]:"


def _host(document: dict[str, Any], host: Host) -> list[str]:
    lines = [f'    on "{host.hostname}" {{', f"        address {place(host.address)}{document['port']};"]
    for disk in document["disks"]:
        group, index = disk["volume_group"][host.node], disk["index"]
        data, meta = names.data_volume(document["name"], index), names.meta_volume(document["name"], index)
        lines += [
            f"        volume {index} {{",
            f"            device minor {disk['minor'][host.node]};",
            f'            disk "{names.volume_device(group, data)}";',
            f'            flexible-meta-disk "{names.volume_device(group, meta)}";',
            "        }",
        ]
    return [*lines, "    }"]
