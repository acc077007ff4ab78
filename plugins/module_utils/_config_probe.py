# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether other nodes answer, and at which packet size: an echo request that must not be fragmented.

A bare node has no ping, so the packets are made here. The peers' kernels answer; nothing has to run there.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time

# From <linux/in.h> and <linux/in6.h>; Python does not name them all.
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3
ANSWERS, TOO_BIG, SILENT = "answers", "too big", "silent"
SMALL, FULL = 1, 2
ROUNDS, ROUND = 4, 0.5


class NoAddress(Exception):
    """The source address is not this machine's."""


def checksum(data: bytes) -> int:
    """The Internet checksum."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(version: int, identity: int, sequence: int, size: int) -> bytes:
    """An ICMP echo request whose IP packet has `size` bytes; the kernel sums ICMPv6 itself."""
    kind = 8 if version == 4 else 128
    body = bytes(max(0, size - (28 if version == 4 else 48)))
    head = struct.pack("!BBHHH", kind, 0, 0, identity, sequence)
    total = checksum(head + body) if version == 4 else 0
    return struct.pack("!BBHHH", kind, 0, total, identity, sequence) + body


def parse_reply(version: int, packet: bytes, identity: int) -> int | None:
    """The sequence number of a reply to us, or None."""
    if version == 4:
        if not packet:
            return None
        packet = packet[(packet[0] & 0xF) * 4 :]
    if len(packet) < 8:
        return None
    kind, _code, _sum, answered, sequence = struct.unpack("!BBHHH", packet[:8])
    return sequence if kind == (0 if version == 4 else 129) and answered == identity else None


class Prober:
    """Sends to all peers at once and collects the replies."""

    def __init__(self, source: str, mtu: int) -> None:
        self.version = 6 if ":" in source else 4
        self.mtu = mtu
        self.identity = os.getpid() & 0xFFFF
        self.socket = self._open(source)
        self.replies: set[tuple[str, int]] = set()
        self.refused: set[str] = set()

    def _open(self, source: str) -> socket.socket:
        family = socket.AF_INET if self.version == 4 else socket.AF_INET6
        protocol = socket.IPPROTO_ICMP if self.version == 4 else socket.IPPROTO_ICMPV6
        made = socket.socket(family, socket.SOCK_RAW, protocol)
        try:
            if self.version == 4:
                made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
            else:
                made.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
            made.bind((source, 0))
        except OSError as error:
            made.close()
            raise NoAddress(source) from error
        return made

    def probe(self, peers: list[str]) -> dict[str, str]:
        """How each address answers."""
        with self.socket:
            for _round in range(ROUNDS):
                missing = [(peer, kind) for peer in peers for kind in (SMALL, FULL) if (peer, kind) not in self.replies]
                missing = [entry for entry in missing if entry[1] == SMALL or entry[0] not in self.refused]
                if not missing:
                    break
                for peer, kind in missing:
                    self._send(peer, kind)
                self._collect(set(missing), time.monotonic() + ROUND)
        return {peer: self._verdict(peer) for peer in peers}

    def _verdict(self, peer: str) -> str:
        if (peer, FULL) in self.replies:
            return ANSWERS
        return TOO_BIG if (peer, SMALL) in self.replies else SILENT

    def _send(self, peer: str, kind: int) -> None:
        import errno

        size = self.mtu if kind == FULL else 64
        try:
            self.socket.sendto(echo_request(self.version, self.identity, kind, size), (peer, 0))
        except OSError as error:
            if error.errno == errno.EMSGSIZE and kind == FULL:
                self.refused.add(peer)

    def _collect(self, wanted: set[tuple[str, int]], deadline: float) -> None:
        wanted = {entry for entry in wanted if not (entry[1] == FULL and entry[0] in self.refused)}
        while wanted - self.replies:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                return
            packet, sender = self.socket.recvfrom(65535)
            sequence = parse_reply(self.version, packet, self.identity)
            if sequence is not None:
                self.replies.add((str(sender[0]).split("%", 1)[0], sequence))


def local(address: str) -> bool:
    """Whether an address is this machine's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
