# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and addresses in the lab: networks, nodes, the outsider."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from .errors import LabError

OUTSIDER_NUMBER = 99
OUTSIDER = "outsider"
MAX_NODES = 9


@dataclass(frozen=True)
class Network:
    """One bridge in the lab's namespace and one NIC in each machine."""

    name: str
    prefix: str
    index: int
    # The replication network has no address on the host's side: only nodes talk there.
    host_address: str | None

    def address(self, number: int) -> str:
        return f"{self.prefix}.{number}"

    def tap(self, machine: str) -> str:
        return f"{machine}-{self.index}"


MANAGEMENT = Network("management", "192.0.2", 0, "192.0.2.1/24")
REPLICATION = Network("replication", "198.51.100", 1, None)
GUEST = Network("guest", "203.0.113", 2, "203.0.113.1/24")
NETWORKS = (MANAGEMENT, REPLICATION, GUEST)


@dataclass(frozen=True)
class Machine:
    """One emulated machine; number is the last byte of its addresses."""

    name: str
    number: int

    @property
    def management(self) -> str:
        return MANAGEMENT.address(self.number)

    @property
    def replication(self) -> str:
        return REPLICATION.address(self.number)

    def mac(self, network: Network) -> str:
        return f"52:54:00:2f:{network.index:02x}:{self.number:02x}"

    @property
    def uuid(self) -> uuid.UUID:
        """The host's UUID; libvirt refuses to migrate between hosts that share one."""
        return uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.name}.lab.invalid")


def machines(nodes: int, outsider: bool) -> list[Machine]:
    """node1..nodeN and, if wanted, a machine that is no member of the cluster."""
    if not 1 <= nodes <= MAX_NODES:
        raise LabError(f"nodes {nodes}: a lab has 1 to {MAX_NODES} nodes")
    found = [Machine(f"node{number}", 10 + number) for number in range(1, nodes + 1)]
    return [*found, Machine(OUTSIDER, OUTSIDER_NUMBER)] if outsider else found


def network(name: str) -> Network:
    for candidate in NETWORKS:
        if candidate.name == name:
            return candidate
    raise LabError(f"network {name!r}: the lab has {', '.join(item.name for item in NETWORKS)}")
