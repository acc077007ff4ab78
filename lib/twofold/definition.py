# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The definition of an instance: what the inventory wants, with the choices that were made once and are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import names, secrets
from .model import Cluster, Desired, Instance, Nic, OsTemplate
from .observed import Observed
from .render import domain, replication, seed

if TYPE_CHECKING:
    from .planner.claims import Claims

FORMAT = 1
Document = dict[str, Any]
# The kinds of numbers that a definition reserves on its nodes.
PORT, MINOR = "port", "minor"
# Characters of the mark of a creation.
MARK = 16

# The node on whose first disk the OS has yet to be written. It stands in the definitions of both nodes from before that
# disk owes its OS until after it is written, and while it stands in either the guest was not started: so the node with
# the other copy, whose disk does not tell, knows that there is nothing on it to start.
OWED = "os_owed_on"

# What an instance keeps from when it was made, wherever it goes: it tells what it has left behind from the disks of
# another one of the same name. Instances of older versions have none.
BORN = "born"


class Impossible(Exception):
    """A choice that cannot be made. `code` and `remedy` are for a finding."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.remedy = remedy


@dataclass(frozen=True)
class Wanted:
    """The wanted definition (its generation is that of `base`, 0 without) and the seed's files, if there is a seed."""

    document: Document
    seed: dict[str, str] | None
    template: OsTemplate | None


def same(one: Document | None, other: Document | None) -> bool:
    """Whether two definitions say the same; the generation does not count."""
    if one is None or other is None:
        return one is other
    return {**one, "generation": 0} == {**other, "generation": 0}


def installed(document: Document) -> Document:
    """A definition once the OS is written."""
    return {key: value for key, value in document.items() if key != OWED}


def holders(document: Document) -> list[str]:
    """The nodes where an instance may be: its own, and the one that it was being moved to."""
    moving_to = document.get("moving_to")
    return [*document["nodes"], *([moving_to] if moving_to and moving_to not in document["nodes"] else [])]


def reserved(document: Document, node: str) -> set[tuple[str, int]]:
    """The numbers that a definition reserves on a node: its port and its minors."""
    found = {(PORT, int(document["port"]))} if document.get("port") else set()
    minors = [disk["minor"].get(node) for disk in document.get("disks", ()) if disk.get("minor")]
    return found | {(MINOR, int(minor)) for minor in minors if minor is not None}


class Builder:
    """Builds the wanted definition of an instance on given nodes (primary first).

    `base` is the newest definition on the nodes: its minors, port, volume groups, sizes and addresses are kept; but for
    numbers that another instance has got on one of the nodes first.
    """

    def __init__(self, desired: Desired, observed: Observed, claims: Claims, instance: Instance) -> None:
        self.desired = desired
        self.observed = observed
        self.claims = claims
        self.instance = instance

    def build(
        self,
        nodes: Sequence[str],
        base: Document | None,
        *,
        installed: bool,
        has_data: bool = True,
        moves: bool = False,
    ) -> Wanted:
        """The wanted definition. `installed`: the OS was written, so another `twofold_os` does not matter any more.

        Until then another one can be chosen, but not none: the disk waits for it. A disk that `has_data` keeps its
        minor, which is its path. What only `moves` keeps its interfaces, and its seed is not made: whatever is wrong
        with those in the inventory must not hold it on a node that it has to leave.

        Raises Impossible if no port, minor or address is free, if another instance has a minor that is to be kept, or
        if a volume could not have its name.
        """
        instance, cluster = self.instance, self.desired.cluster
        template_name = base["disk_template"] if base else instance.disk_template
        os = base["os"] if base and (installed or instance.os is None) else instance.os
        document: Document = {
            "format": FORMAT,
            "name": instance.name,
            "uuid": secrets.instance_uuid(cluster.secret, instance.name),
            "generation": int(base["generation"]) if base else 0,
            "cluster": cluster.name,
            "disk_template": template_name,
            "nodes": list(nodes),
            "state": instance.state,
            "priority": instance.priority,
            "memory": instance.memory,
            "vcpus": instance.vcpus,
            "port": self._port(nodes, base) if template_name == "drbd" else None,
            "disks": self._disks(nodes, base, replicated=template_name == "drbd", has_data=has_data),
            "nics": base["nics"] if base and moves else self._nics(base),
            "os": os,
        }
        born = base.get(BORN) if base else self._birth(nodes)
        if born is not None:
            document[BORN] = born
        if base and base.get("home") not in (None, nodes[0]):
            document["home"] = base["home"]
        if base and OWED in base:
            document[OWED] = base[OWED]
        return self._rendered(document, cluster, cluster.os_templates.get(os) if os and not moves else None)

    def _rendered(self, document: Document, cluster: Cluster, template: OsTemplate | None) -> Wanted:
        files = None
        if template is not None and template.seed:
            files = seed.render(self.instance, document, cluster.networks)
        mtus = {name: network.mtu for name, network in cluster.networks.items() if network.mtu is not None}
        document["domain_xml"] = domain.render(self.instance, document, seed=files is not None, mtus=mtus)
        replicated = document["disk_template"] == "drbd"
        config = replication.render(document, self._hosts(document), self.instance.replication) if replicated else None
        secret = secrets.drbd_secret(cluster.secret, self.instance.name)
        document["replication_config"] = config
        document["secret_digest"] = secrets.text_digest(secret) if replicated else None
        document["seed_digest"] = seed.seed_digest(files) if files is not None else None
        return Wanted(document, files, template)

    def _hosts(self, document: Document) -> list[replication.Host]:
        found = []
        for name in document["nodes"]:
            view = self.observed.known(name)
            if view is None:
                raise Impossible("node-unknown", f"the host name of {name} is not known", f"bring {name} back")
            found.append(replication.Host(name, view.hostname, self.desired.nodes[name].replicate_at))
        return found

    def _birth(self, nodes: Sequence[str]) -> str:
        """A mark that no other creation of this name has: by the nodes, and by what their clocks say."""
        views = {node: self.observed.known(node) for node in sorted(nodes)}
        times = {node: view.document.get("time") for node, view in views.items() if view is not None}
        return secrets.digest([self.instance.name, times])[:MARK]

    def require_addresses(self, built: Wanted, base: Document | None = None) -> None:
        """Raises Impossible where DRBD would be told an address that is not its node's: it would leave its peer for it.

        One that it goes by already, in `base`, stays: where its interface is only down, guests can be started all the
        same.
        """
        if built.document["replication_config"] is None:
            return
        known = str((base or {}).get("replication_config"))
        for host in self._hosts(built.document):
            view = self.observed.known(host.node)
            if view is not None and view.lacks_address(host.address) and replication.place(host.address) not in known:
                message = f"{host.node} does not have its replication address {host.address}"
                remedy = (
                    f"bring its interface up on {host.node}, or correct twofold_replication_address in the inventory"
                )
                raise Impossible("node-address", message, remedy)

    def _port(self, nodes: Sequence[str], base: Document | None) -> int:
        kept = base["port"] if base else None
        if kept is not None and not self.claims.contested(self.instance.name, nodes, PORT, kept):
            return int(kept)
        port = self.claims.port(nodes)
        if port is None:
            message = f"no port of twofold_drbd_ports is free on {' and '.join(nodes)}"
            raise Impossible("no-free-port", message, "make twofold_drbd_ports wider")
        return port

    def _disks(
        self, nodes: Sequence[str], base: Document | None, *, replicated: bool, has_data: bool
    ) -> list[Document]:
        if base:
            return [self._kept(disk, nodes, replicated=replicated, has_data=has_data) for disk in base["disks"]]
        found = []
        for index, disk in enumerate(self.instance.disks):
            groups = {node: self.claims.group_of(node, disk) for node in sorted(nodes)}
            self._require_names(index, groups, {}, replicated=replicated)
            minors = self._minors(nodes) if replicated else None
            found.append({"index": index, "size": disk.size, "volume_group": groups, "minor": minors})
        return found

    def _minors(self, nodes: Sequence[str]) -> dict[str, int]:
        minor = self.claims.minor(nodes)
        if minor is None:
            message = f"no minor of twofold_drbd_minors is free on both {' and '.join(nodes)}"
            raise Impossible("no-free-minor", message, "make twofold_drbd_minors wider")
        return dict.fromkeys(sorted(nodes), minor)

    def _kept(self, disk: Document, nodes: Sequence[str], *, replicated: bool, has_data: bool) -> Document:
        """A disk of the newest definition, on nodes that may be others than its own (a plain disk that moves)."""
        size = self.instance.disks[disk["index"]] if disk["index"] < len(self.instance.disks) else None
        groups = {}
        for node in sorted(nodes):
            default = self.desired.nodes[node].volume_group
            groups[node] = disk["volume_group"].get(node) or (size.volume_group if size else None) or default
        self._require_names(disk["index"], groups, disk["volume_group"], replicated=replicated)
        if not replicated:
            return {**disk, "volume_group": groups, "minor": None}
        # The same on both nodes, so that its path does not change when the instance moves.
        minor = int(next(iter(disk["minor"].values())))
        contested = self.claims.contested(self.instance.name, nodes, MINOR, minor)
        if contested and has_data:
            message = f"its DRBD minor {minor} is another instance's on {contested}, where its definition is missing"
            remedy = f"replace_disks.yml -e instance={self.instance.name} moves its second copy to another node"
            raise Impossible("minor-taken", message, remedy)
        minors = self._minors(nodes) if contested else dict.fromkeys(groups, minor)
        return {**disk, "volume_group": groups, "minor": minors}

    def _require_names(self, disk: int, groups: dict[str, str], former: dict[str, str], *, replicated: bool) -> None:
        """Raises Impossible where device-mapper would not take the name of a volume of a disk.

        In a group that the disk is already in, that which it may need later is no reason to leave it alone now.
        """
        for node, group in groups.items():
            later = former.get(node) != group
            length = names.longest(group, self.instance.name, disk, replicated=replicated, later=later)
            if length > names.MAPPED:
                message = f"a volume of disk {disk} in {group} on {node} could not have its name: device-mapper takes "
                message += f"{names.MAPPED} characters, and it would be {length}, with each '-' counted twice"
                remedy = "name the instance otherwise, shorter or with fewer '-', or use a group with a shorter name"
                raise Impossible("bad-name", message, remedy)

    def _nics(self, base: Document | None) -> list[Document]:
        return [self._nic(index, nic, base) for index, nic in enumerate(self.instance.nics)]

    def _nic(self, index: int, nic: Nic, base: Document | None) -> Document:
        cluster = self.desired.cluster
        mac = nic.mac or secrets.mac(cluster.secret, self.instance.name, index)
        bridge = cluster.networks[nic.network].bridge
        address = self._address(index, nic, base)
        return {"index": index, "mac": mac, "network": nic.network, "bridge": bridge, "address": address}

    def _address(self, index: int, nic: Nic, base: Document | None) -> str | None:
        network = self.desired.cluster.networks[nic.network]
        if nic.address == "none" or (nic.address == "auto" and network.cidr is None):
            return None
        owner = f"instance {self.instance.name}"
        if nic.address != "auto":
            taken = self.claims.addresses.setdefault(nic.address, owner)
            if taken != owner:
                message = f"{nic.address} is the address of {taken}"
                raise Impossible("duplicate-address", message, f"choose another address for twofold_nics[{index}]")
            return nic.address
        kept = next((old for old in (base or {}).get("nics", ()) if old["index"] == index), None)
        if kept and kept["network"] == nic.network and kept["address"]:
            return str(kept["address"])
        address = self.claims.address(network, self.instance.name)
        if address is None:
            message = f"no address of {nic.network} ({network.cidr}) is free"
            raise Impossible("no-free-address", message, "make the network wider or reserve less of it")
        return address
