# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong between variables that are each right: names that do not exist, things that are taken twice."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from . import names, secrets, variables
from .model import Cluster, Instance, Nic, Node, OsTemplate

if TYPE_CHECKING:
    from .inventory import Loader


class Spot(NamedTuple):
    """Where something is wrong: `kind` is cluster, node or instance."""

    kind: str
    host: str
    variable: str


CHOOSE = {"duplicate-mac": "choose another one", "duplicate-address": "choose another one, or auto"}
SECRET_LENGTH = 16
PAIR = 2


class Checks:
    """The checks across the inventory; `loader` takes the findings."""

    def __init__(self, loader: Loader, cluster: Cluster, nodes: dict[str, Node]) -> None:
        self.loader = loader
        self.cluster = cluster
        self.nodes = nodes
        self.macs: dict[str, Owner] = {}
        self.addresses: dict[str, Owner] = {}

    def of_cluster(self, instances: bool) -> bool:
        """Check cluster and nodes; whether something is wrong."""
        before = len(self.loader.findings)
        host = next(iter(self.nodes), "all")
        if instances and len(self.cluster.secret) < SECRET_LENGTH:
            message = "is missing" if not self.cluster.secret else f"is shorter than {SECRET_LENGTH} characters"
            remedy = "put a random text of 32 characters into it, encrypted with ansible-vault, and never change it"
            self.loader.error(Spot("cluster", host, "twofold_cluster_secret"), "cluster-secret", message, remedy)
        for name, network in self.cluster.networks.items():
            self._network(host, name, network)
        for name, template in self.cluster.os_templates.items():
            for message, remedy in _template_problems(template):
                label = f"twofold_os_templates.{name}"
                self.loader.error(Spot("cluster", host, label), "os-template", message, remedy)
        for name, flavour in self.cluster.flavours.items():
            if (flavour.disk_template == "diskless") == bool(flavour.disks):
                message = "is diskless and has disks" if flavour.disks else "has no disk"
                remedy = "list at least one disk, like [{size: 20GiB}], or set disk_template to diskless, not both"
                self.loader.error(Spot("cluster", host, f"twofold_flavours.{name}"), "flavour", message, remedy)
        self._node_addresses()
        return len(self.loader.findings) > before

    def _network(self, host: str, name: str, network: Any) -> None:
        label = f"twofold_networks.{name}"
        if network.gateway and network.cidr is None:
            self.loader.error(Spot("cluster", host, label), "network", "has a gateway but no cidr", "set its cidr")
        elif network.gateway and not _inside(network.gateway, network.cidr):
            message = f"the gateway {network.gateway} is not in {network.cidr}"
            self.loader.error(Spot("cluster", host, label), "network", message, "correct the gateway or the cidr")

    def _node_addresses(self) -> None:
        for what in ("address", "replication_address", "migration_address"):
            seen: dict[str, str] = {}
            for node in self.nodes.values():
                address = getattr(node, what)
                if address and address in seen:
                    message = f"{address} is the address of {seen[address]} too"
                    variable = f"twofold_{what}"
                    remedy = "give each node an address of its own"
                    self.loader.error(Spot("node", node.name, variable), "duplicate-address", message, remedy)
                seen[address] = node.name

    def of_instances(self, instances: dict[str, Instance]) -> None:
        """Check each instance, in the inventory's order: of two that want the same thing the second is wrong."""
        for node in self.nodes.values():
            for address in (node.address, node.replication_address, node.migration_address):
                if address:
                    self.addresses[address] = Owner(f"node {node.name}", None, "")
        for instance in instances.values():
            if instance.name in self.nodes:
                self._wrong(instance, "twofold_state", "bad-name", "a node has the same name", "rename one of them")
            if instance.state != "absent":
                self._disks(instance)
                self._pin(instance)
                self._os(instance)
                for index, nic in enumerate(instance.nics):
                    self._nic(instance, index, nic)

    def _wrong(self, instance: Instance, variable: str, code: str, message: str, remedy: str) -> None:
        self.loader.error(Spot("instance", instance.name, variable), code, message, remedy)

    def _disks(self, instance: Instance) -> None:
        if instance.disk_template == "diskless" and instance.disks:
            remedy = "remove the disks or choose another twofold_disk_template"
            self._wrong(instance, "twofold_disks", "diskless-with-disks", "a diskless instance has no disks", remedy)
        if instance.disk_template != "diskless" and not instance.disks:
            remedy = "list at least one disk, like [{size: 20GiB}], or set twofold_disk_template to diskless"
            self._wrong(instance, "twofold_disks", "no-disks", "there is no disk", remedy)
        if instance.disks and instance.name.startswith(names.RESERVED):
            message = (
                f"LVM makes no volumes whose names begin with {' or '.join(names.RESERVED)}: it has such of its own"
            )
            self._wrong(instance, "twofold_disks", "bad-name", message, "name it otherwise")

    def _pin(self, instance: Instance) -> None:
        for name in instance.nodes:
            if name not in self.nodes:
                meant = variables.nearest(name, self.nodes)
                hint = f"did you mean {meant}?" if meant else f"the nodes are {', '.join(sorted(self.nodes))}"
                self._wrong(instance, "twofold_nodes", "unknown-node", f"there is no node {name!r}", hint)
        if len(instance.nodes) == PAIR and instance.nodes[0] == instance.nodes[1]:
            message = "the secondary is the primary"
            self._wrong(instance, "twofold_nodes", "same-node", message, "name two different nodes")
        if len(instance.nodes) == PAIR and instance.disk_template != "drbd":
            message = f"the template {instance.disk_template} lives on one node"
            self._wrong(instance, "twofold_nodes", "too-many-nodes", message, "name one node")
        if instance.disk_template == "drbd" and len(self.nodes) < PAIR:
            message = f"drbd needs two nodes and there is {'one' if self.nodes else 'none'}"
            self._wrong(instance, "twofold_disk_template", "too-few-nodes", message, "add a node or use plain")

    def _os(self, instance: Instance) -> None:
        if instance.os is None:
            return
        if instance.os not in self.cluster.os_templates:
            hint = self._hint(instance.os, self.cluster.os_templates, "twofold_os_templates")
            self._wrong(instance, "twofold_os", "unknown-os", f"there is no OS template {instance.os!r}", hint)
        if instance.disk_template == "diskless":
            message = "a diskless instance has nothing to install to"
            self._wrong(instance, "twofold_os", "diskless-with-os", message, "set it to null")

    @staticmethod
    def _hint(name: str, known: dict[str, Any], variable: str) -> str:
        meant = variables.nearest(name, known)
        if meant:
            return f"did you mean {meant}?"
        return f"define it in {variable}" + (f", which has {', '.join(sorted(known))}" if known else ", which is empty")

    def _nic(self, instance: Instance, index: int, nic: Nic) -> None:
        label = f"twofold_nics[{index}]"
        if nic.network not in self.cluster.networks:
            hint = self._hint(nic.network, self.cluster.networks, "twofold_networks")
            message = f"there is no network {nic.network!r}"
            self._wrong(instance, f"{label}.network", "unknown-network", message, hint)
            return
        owner = f"{label} of {instance.name}"
        mac = nic.mac or secrets.mac(self.cluster.secret, instance.name, index)
        self._take(self.macs, mac, Owner(owner, instance, f"{label}.mac"), "the MAC address", "duplicate-mac")
        if nic.address not in ("auto", "none"):
            self._address(instance, label, nic, owner)

    def _take(self, taken: dict[str, Owner], value: str, owner: Owner, what: str, code: str) -> None:
        """Of two instances with the same, neither is touched: nobody can tell which one is the mistake."""
        first = taken.setdefault(value, owner)
        if first is owner:
            return
        for one, other in ((owner, first), (first, owner)):
            if one.instance is not None:
                message = f"{value} is {what} of {other.text} too"
                self._wrong(one.instance, one.variable, code, message, CHOOSE[code])

    def _address(self, instance: Instance, label: str, nic: Nic, owner: str) -> None:
        network = self.cluster.networks[nic.network]
        name = f"{label}.address"
        self._take(self.addresses, nic.address, Owner(owner, instance, name), "the address", "duplicate-address")
        if network.cidr and not _inside(nic.address, network.cidr):
            message = f"{nic.address} is not in {nic.network}'s {network.cidr}"
            self._wrong(instance, name, "address-outside", message, "choose one of that network, or auto")
        if nic.address == network.gateway:
            message = f"{nic.address} is the gateway of {nic.network}"
            self._wrong(instance, name, "duplicate-address", message, "choose another one, or auto")


@dataclass(frozen=True)
class Owner:
    """What has an address: for people, and the instance and variable that are wrong if it is taken twice."""

    text: str
    instance: Instance | None
    variable: str


def _inside(address: str, cidr: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)


def _template_problems(template: OsTemplate) -> list[tuple[str, str]]:
    """Message and remedy of what is wrong with an OS template."""
    if template.kind == "script":
        return [] if template.script else [("it is a script, but names none", "set script")]
    problems = []
    if template.sha256 is None:
        problems.append(("the image has no sha256", "set sha256, so that nobody installs another image"))
    if (template.url is None) == (template.file is None):
        problems.append(("an image needs a url or a file, one of them", "set url, or file"))
    return problems
