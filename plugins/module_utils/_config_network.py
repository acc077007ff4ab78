# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bridges, the firewall's table and libvirt's default network on a node."""

from __future__ import annotations

import os
from typing import Any

from ._addresses import ipv4_addresses, ipv6_addresses
from ._config_host import Change, Host, Problem

NET = "/sys/class/net"
IFF_UP = 1


def addresses(host: Host, interface: str) -> list[str]:
    """The addresses of an interface, without IPv6's link-local ones."""
    found = [address for name, address in ipv4_addresses() if name.split(":", 1)[0] == interface]
    found += [address for name, address in ipv6_addresses(host.lines("/proc/net/if_inet6")) if name == interface]
    return found


class BridgeItem:
    """A bridge that our script makes; an interface that has addresses is never put into one."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.name: str = item["name"]
        self.interface: str | None = item["interface"]
        self.mtu: int | None = item["mtu"]

    def changes(self, host: Host) -> list[Change]:
        thing = f"bridge {self.name}"
        if not host.exists(f"{NET}/{self.name}/bridge"):
            return [Change(thing, "is missing")]
        found = []
        if self.interface and not host.exists(f"{NET}/{self.name}/brif/{self.interface}"):
            found.append(Change(thing, f"lacks the interface {self.interface}"))
        for name in filter(None, [self.name, self.interface]):
            if not int(host.read(f"{NET}/{name}/flags") or "0", 16) & IFF_UP:
                found.append(Change(thing, f"{name} is down"))
            if self.mtu and int(host.read(f"{NET}/{name}/mtu") or "0") != self.mtu:
                found.append(Change(thing, f"{name} has an MTU other than {self.mtu}"))
        return found

    def problems(self, host: Host) -> list[Problem]:
        """What keeps the bridge from being made."""
        thing = f"bridge {self.name}"
        if host.exists(f"{NET}/{self.name}") and not host.exists(f"{NET}/{self.name}/bridge"):
            remedy = "choose another name for the bridge in twofold_networks"
            return [Problem("bridge", thing, f"{self.name} is there and is not a bridge", remedy)]
        if self.interface is None or host.exists(f"{NET}/{self.name}/brif/{self.interface}"):
            return []
        correct = f"correct the interface of {self.name} in twofold_networks or twofold_network_interfaces"
        if not host.exists(f"{NET}/{self.interface}"):
            return [Problem("bridge", thing, f"there is no interface {self.interface}", correct)]
        master = f"{NET}/{self.interface}/master"
        if os.path.islink(host.path(master)):
            owner = os.path.basename(os.readlink(host.path(master)))
            return [Problem("bridge", thing, f"{self.interface} belongs to {owner} already", correct)]
        carried = addresses(host, self.interface)
        if carried:
            message = f"{self.interface} carries {', '.join(carried)}, which would stop to work"
            remedy = (
                "make the bridge in the node's own network configuration, and drop the interface in twofold_networks"
            )
            return [Problem("bridge", thing, message, remedy)]
        return []

    def apply(self, host: Host, secrets: dict[str, Any]) -> None:
        host.change(["/etc/twofold/network.sh"])


class FirewallItem:
    """Our table in the kernel. What it should be is asked of nft itself, in an empty network namespace."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.table: list[str] = item["table"].split()
        self.path: str = item["path"]
        self.content: str = item["content"]

    def changes(self, host: Host) -> list[Change]:
        thing = f"firewall table {' '.join(self.table)}"
        if not host.installed("nftables"):
            return [Change(thing, "is not loaded")]
        listing = ["nft", "--stateless", "list", "table", *self.table]
        loaded = host.query(listing)
        if loaded.code != 0:
            return [Change(thing, "is not loaded")]
        script = 'nft --file - && exec "$@"'
        argv = ["unshare", "--net", "sh", "-c", script, "sh", *listing]
        wanted = host.runner.run(argv, mutates=False, stdin=self.content, timeout=60)
        if loaded.stdout == wanted.stdout:
            return []
        shown = {"before_header": thing, "after_header": thing, "before": loaded.stdout, "after": wanted.stdout}
        return [Change(thing, "has other rules", shown)]

    def apply(self, host: Host, secrets: dict[str, Any]) -> None:
        host.change(["nft", "--file", self.path])


class DefaultNetworkItem:
    """libvirt's own network with address translation: not started, and stopped when nothing is on it."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.path: str = item["path"]
        self.bridge: str = item["bridge"]

    def active(self, host: Host) -> bool:
        return host.exists(f"{NET}/{self.bridge}/bridge") and not host.names(f"{NET}/{self.bridge}/brif")

    def changes(self, host: Host) -> list[Change]:
        found = []
        if os.path.lexists(host.path(self.path)):
            found.append(Change("libvirt network default", "is started at boot"))
        if found and self.active(host):
            found.append(Change("libvirt network default", "is active and nothing uses it"))
        return found

    def apply(self, host: Host, secrets: dict[str, Any]) -> None:
        host.change(["virsh", "--quiet", "net-autostart", "--disable", "default"])
        if self.active(host):
            host.change(["virsh", "--quiet", "net-destroy", "default"])
