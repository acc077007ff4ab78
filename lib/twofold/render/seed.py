# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The NoCloud seed of an instance: meta-data, user-data, network-config. Pure and deterministic."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from ..model import Instance, Network
from ..secrets import digest


def render(instance: Instance, document: dict[str, Any], networks: dict[str, Network]) -> dict[str, str]:
    """The seed's files by name."""
    hostname = instance.hostname or instance.name
    meta = {"instance-id": document["uuid"], "local-hostname": hostname}
    return {
        "meta-data": _dump(meta),
        "user-data": user_data(instance),
        "network-config": _dump(_network(document, networks)),
    }


def again(instance: Instance, document: dict[str, Any], networks: dict[str, Network]) -> dict[str, str] | None:
    """The seed that a definition names, if the inventory still describes that one."""
    if any(nic["network"] not in networks for nic in document["nics"]):
        return None
    files = render(instance, document, networks)
    return files if seed_digest(files) == document["seed_digest"] else None


def seed_digest(files: dict[str, str]) -> str:
    """SHA-256 of a seed's sources."""
    return digest(files)


def _dump(value: dict[str, Any]) -> str:
    """JSON is YAML, and there is one way to write it."""
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def user_data(instance: Instance) -> str:
    """The user data: what is generated, and the user's own over it."""
    hostname = instance.hostname or instance.name
    ours: dict[str, Any] = {"hostname": hostname.partition(".")[0]}
    if "." in hostname:
        ours["fqdn"] = hostname
    if instance.ssh_keys:
        ours["ssh_authorized_keys"] = instance.ssh_keys
    return "#cloud-config\n" + _dump(ours | instance.user_data)


def _network(document: dict[str, Any], networks: dict[str, Network]) -> dict[str, Any]:
    ethernets = {f"nic{nic['index']}": _ethernet(nic, networks[nic["network"]]) for nic in document["nics"]}
    return {"version": 2, "ethernets": ethernets}


def _ethernet(nic: dict[str, Any], network: Network) -> dict[str, Any]:
    wanted: dict[str, Any] = {"match": {"macaddress": nic["mac"]}}
    if network.mtu is not None:
        wanted["mtu"] = network.mtu
    if nic["address"] is None:
        return wanted | {"dhcp4": True}
    address = ipaddress.ip_address(nic["address"])
    prefix = ipaddress.ip_network(network.cidr).prefixlen if network.cidr else address.max_prefixlen
    wanted |= {"dhcp4": False, "addresses": [f"{address}/{prefix}"]}
    if network.gateway and nic["index"] == 0:
        to = "0.0.0.0/0" if ipaddress.ip_address(network.gateway).version == 4 else "::/0"
        wanted["routes"] = [{"to": to, "via": network.gateway}]
    if network.nameservers or network.search:
        wanted["nameservers"] = {"addresses": network.nameservers, "search": network.search}
    return wanted
