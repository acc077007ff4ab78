# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is taken on the nodes, by what they hold already and by what the same plan takes."""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Container, Iterable
from copy import copy

from .. import names, units
from ..definition import reserved
from ..model import Desired, Disk, Instance, Network
from ..observed import NodeView, Observed

# Ports in DRBD's usual range that other programs of an ordinary cluster take: 7788 is every DRBD guide's example.
AVOIDED_PORTS = frozenset({7788})
_PORT = re.compile(r"address\s+[^;]*:(\d{1,5})\s*;")
_MINOR = re.compile(r"\bminor\s+(\d{1,7})\s*;")


class Claims:
    """Ports and minors by node, addresses, memory and space; grows as a plan is made.

    `holders` are the instances whose definitions have an address: if all is well, one for each.
    """

    def __init__(self, desired: Desired, observed: Observed) -> None:
        self._desired = desired
        self._observed = observed
        self.ports: dict[str, set[int]] = defaultdict(set)
        self.minors: dict[str, set[int]] = defaultdict(set)
        self.addresses: dict[str, str] = {}
        self.holders: dict[str, set[str]] = defaultdict(set)
        self._memory: dict[str, int] = defaultdict(int)
        self._space: dict[tuple[str, str], int] = defaultdict(int)
        for view in observed.all_known:
            self._read(view)
        for node in desired.nodes.values():
            for address in (node.address, node.replication_address, node.migration_address):
                if address:
                    self.addresses[address] = f"node {node.name}"
        for instance in desired.instances.values():
            for nic in instance.nics:
                if nic.address not in ("auto", "none") and instance.state != "absent":
                    self.addresses.setdefault(nic.address, f"instance {instance.name}")

    def copy(self) -> Claims:
        """Another one with the same claims, for what is only tried."""
        other = copy(self)
        other.ports = defaultdict(set, {node: set(taken) for node, taken in self.ports.items()})
        other.minors = defaultdict(set, {node: set(taken) for node, taken in self.minors.items()})
        other.addresses = dict(self.addresses)
        other._memory, other._space = self._memory.copy(), self._space.copy()
        return other

    def _read(self, view: NodeView) -> None:
        for name, document in view.definitions.items():
            # A definition that was written on one node only, before a run was killed, counts on all of its nodes.
            for node in (view.name, *document.get("nodes", ())):
                if document.get("port"):
                    self.ports[node].add(int(document["port"]))
            for disk in document.get("disks", ()):
                for node, minor in (disk.get("minor") or {}).items():
                    self.minors[node].add(int(minor))
            for nic in document.get("nics", ()):
                if nic.get("address"):
                    self.addresses[nic["address"]] = f"instance {name}"
                    self.holders[nic["address"]].add(name)
        for resource in view.resources.values():
            self.minors[view.name] |= {volume.minor for volume in resource.volumes}
            self.minors[view.name] |= {int(found) for found in _MINOR.findall(resource.config or "")}
            self.ports[view.name] |= {int(found) for found in _PORT.findall(resource.config or "")}

    def port(self, nodes: Iterable[str]) -> int | None:
        """The lowest port that is free on all of the nodes; it is taken from now on."""
        taken = set(AVOIDED_PORTS).union(*(self.ports[node] for node in nodes))
        return self._take(self._desired.cluster.drbd_ports, taken, [self.ports[node] for node in nodes])

    def contested(self, name: str, nodes: Iterable[str], kind: str, number: int) -> str | None:
        """The one of the nodes where another instance has a number, and this one's definition does not stand yet.

        Two operators chose it at the same time: who comes second to a node needs another one.
        """
        views = [view for node in nodes if (view := self._observed.known(node)) is not None]
        return next(
            (view.name
             for view in views if (kind, number) not in reserved(view.definitions.get(name, {}), view.name)
             for other in view.definitions.values()
             if other["name"] != name and (kind, number) in reserved(other, view.name)),
            None,
        )  # fmt: skip

    def minor(self, nodes: Iterable[str]) -> int | None:
        """The lowest minor that is free on all of the nodes, so that a disk has the same path on both.

        One that is free on every node is taken first: with it the disk can move to any of them later.
        """
        limits, into = self._desired.cluster.drbd_minors, [self.minors[node] for node in nodes]
        taken, everywhere = set[int]().union(*into), set[int]().union(*self.minors.values())
        found = self._take(limits, everywhere, into)
        return self._take(limits, taken, into) if found is None else found

    @staticmethod
    def _take(limits: tuple[int, int], taken: Container[int], into: list[set[int]]) -> int | None:
        found = next((number for number in range(limits[0], limits[1] + 1) if number not in taken), None)
        if found is not None:
            for numbers in into:
                numbers.add(found)
        return found

    def address(self, network: Network, instance: str) -> str | None:
        """The lowest free address of a network's pool; it is taken from now on."""
        if network.cidr is None:
            return None
        ranges = [_range(text) for text in network.reserved]
        pool = ipaddress.ip_network(network.cidr)
        first, last = _hosts(pool)
        number = first
        while number <= last:
            # A range may have more addresses than anybody can count.
            end = max((high for low, high in ranges if low <= number <= high), default=None)
            text = str(pool[number - int(pool.network_address)])
            if end is None and text not in self.addresses and text != network.gateway:
                self.addresses[text] = f"instance {instance}"
                return text
            number = (number if end is None else end) + 1
        return None

    def memory_free(self, node: str, besides: str | None = None) -> int:
        """Bytes that are promised to nobody; guests that run or should count in full, but for `besides`."""
        view = self._observed.known(node)
        if view is None:
            return 0
        reserved = self._desired.nodes[node].reserved_memory
        return view.memory_total - reserved - self.guests_memory(node, besides) - self._memory[node]

    def guests_memory(self, node: str, besides: str | None = None) -> int:
        """Bytes that the guests of a node have promised, but for `besides`; what this plan takes is not among them."""
        view = self._observed.known(node)
        if view is None:
            return 0
        return sum(self.guest_memory(node, name) for name in {*view.domains, *view.definitions} - {besides})

    def guest_memory(self, node: str, name: str) -> int:
        """Bytes that an instance has promised on a node; 0 if it is off and should be."""
        view = self._observed.known(node)
        if view is None:
            return 0
        domain, document = view.domains.get(name), view.definitions.get(name, {})
        meant = document.get("state") == "running"
        if domain is not None:
            return domain.memory if domain.active or meant else 0
        coming = meant and document["nodes"][0] == view.name and not self._domain_anywhere(name)
        return int(document["memory"]) if coming else 0

    def promised(self, node: str, name: str) -> bool:
        """Whether an instance's memory counts on a node already."""
        return self.guest_memory(node, name) > 0

    def _domain_anywhere(self, name: str) -> bool:
        return any(name in view.domains for view in self._observed.all_known)

    def space_free(self, node: str, volume_group: str) -> int | None:
        """Bytes that are free in a volume group; None if there is no such group."""
        view = self._observed.known(node)
        found = view.volume_group(volume_group) if view else None
        return None if found is None else int(found["free"]) - self._space[node, volume_group]

    def take_memory(self, node: str, size: int) -> None:
        """Promise memory of a node."""
        self._memory[node] += size

    def take_space(self, node: str, needed: dict[str, int]) -> None:
        """Promise space of a node by volume group."""
        for volume_group, size in needed.items():
            self._space[node, volume_group] += size

    def group_of(self, node: str, disk: Disk) -> str:
        """The volume group of a disk on a node."""
        return disk.volume_group or self._desired.nodes[node].volume_group

    def needed(self, node: str, instance: Instance) -> dict[str, int]:
        """Bytes that an instance's disks take on a node, by volume group."""
        view = self._observed.known(node)
        found: dict[str, int] = defaultdict(int)
        for disk in instance.disks:
            group = self.group_of(node, disk)
            extent = view.extent(group) if view else names.EXTENT
            found[group] += units.round_up(disk.size, extent)
            if instance.disk_template == "drbd":
                found[group] += units.round_up(names.meta_size(disk.size), extent)
        return dict(found)


def _hosts(pool: ipaddress.IPv4Network | ipaddress.IPv6Network) -> tuple[int, int]:
    """The first and the last address that a host may have: not the network's own, nor IPv4's broadcast."""
    first, last = int(pool.network_address), int(pool.broadcast_address)
    if last - first <= 1:
        return first, last
    return first + 1, last - 1 if pool.version == 4 else last


def _range(text: str) -> tuple[int, int]:
    first, _ignored, last = text.partition("-")
    return int(ipaddress.ip_address(first)), int(ipaddress.ip_address(last or first))
