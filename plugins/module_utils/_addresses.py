# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The machine's own addresses, as the kernel lists them: no process, and nothing of its routes is read."""

from __future__ import annotations

import socket
import struct

SIOCGIFCONF = 0x8912
IPV6, GLOBAL = "/proc/net/if_inet6", "00"


def own_addresses() -> list[str]:
    """Every address that others may know the machine by: not the loopback's, nor IPv6's link-local ones."""
    try:
        with open(IPV6, encoding="ascii") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        lines = []
    ipv4 = [address for _interface, address in ipv4_addresses() if not address.startswith("127.")]
    return sorted({*ipv4, *(address for _interface, address in ipv6_addresses(lines))})


def ipv4_addresses() -> list[tuple[str, str]]:
    """Every IPv4 address with its interface."""
    import array
    from fcntl import ioctl

    entry = struct.calcsize("16s16s8x") if struct.calcsize("P") == 8 else 32
    buffer = array.array("B", bytes(entry * 1024))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("iP", len(buffer), buffer.buffer_info()[0])
        length = struct.unpack("iP", ioctl(probe, SIOCGIFCONF, request))[0]
    data = buffer.tobytes()[:length]
    return [
        (data[at : at + 16].split(b"\0", 1)[0].decode(errors="replace"), socket.inet_ntoa(data[at + 20 : at + 24]))
        for at in range(0, len(data), entry)
    ]


def ipv6_addresses(lines: list[str]) -> list[tuple[str, str]]:
    """The IPv6 addresses of global scope with their interfaces, from the lines of /proc/net/if_inet6."""
    rows = [line.split() for line in lines]
    return [(row[5], socket.inet_ntop(socket.AF_INET6, bytes.fromhex(row[0]))) for row in rows if row[3] == GLOBAL]
