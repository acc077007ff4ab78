# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one node's half of a DRBD resource needs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Any

from .. import names, secrets
from ..model import Instance
from ..observed import Resource, Trace
from . import diff

# An address with its port, as DRBD's configuration and its tools write it.
ADDRESS = re.compile(r"\baddress\s+(?:ipv[46]\s+)?\[?([0-9A-Fa-f:.]+?)\]?:(\d+)\s*;")

DOWN = "the DRBD resource is down"
DISCONNECTED = "DRBD is disconnected"


def configure_args(document: dict[str, Any], node: str) -> dict[str, Any]:
    """The arguments of `replication.configure` on a node."""
    name = document["name"]
    volumes = [
        {
            "volume": disk["index"],
            "minor": disk["minor"][node],
            "disk": names.volume_device(disk["volume_group"][node], names.data_volume(name, disk["index"])),
            "meta": names.volume_device(disk["volume_group"][node], names.meta_volume(name, disk["index"])),
        }
        for disk in document["disks"]
    ]
    secret = {secrets.FILLED_IN: f"drbd/{name}"}
    return {"resource": name, "config": document["replication_config"], "secret": secret, "volumes": volumes}


def reasons(instance: Instance, document: dict[str, Any], trace: Trace, node: str, *, has_data: bool) -> list[str]:
    """Why the resource has to be configured (again) on a node; empty if it is as wanted."""
    resource = trace.resources.get(node)
    if resource is None or (not resource.configured and not resource.up):
        return ["DRBD is not configured"]
    found = []
    if (difference := diff.config(document["replication_config"], resource.config)) is not None:
        found.append(f"the DRBD configuration differs: {difference}")
    elif resource.secret_digest != document["secret_digest"]:
        found.append("the DRBD secret differs")
    if not resource.up:
        return [*found, DOWN]
    found += [f"DRBD runs with other options: {text}" for text in diff.options(instance.replication, resource.options)]
    if resource.peer_address is not None and not _is_configured(document, resource.peer_address):
        found.append(f"DRBD still connects to {resource.peer_address}")
    found += _volumes(document, resource, node, has_data=has_data)
    if resource.connection == "StandAlone":
        found.append(DISCONNECTED)
    return found


def apart(resource: Resource | None) -> str | None:
    """Why one side will not meet its peer by itself; None if it tries to."""
    if resource is None or not resource.up:
        return DOWN
    return DISCONNECTED if resource.connection == "StandAlone" else None


def _is_configured(document: dict[str, Any], address: str) -> bool:
    """Whether an address is in the wanted configuration."""
    return _addresses(f"address {address};") <= _addresses(document["replication_config"])


def _addresses(config: str) -> set[tuple[str, str]]:
    return {(_plain(address), port) for address, port in ADDRESS.findall(config)}


def _plain(address: str) -> str:
    """The one way to write an address."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address


def _volumes(document: dict[str, Any], resource: Resource, node: str, *, has_data: bool) -> list[str]:
    minors = {volume.volume: volume.minor for volume in resource.volumes}
    wanted = {disk["index"]: disk["minor"][node] for disk in document["disks"]}
    if minors != wanted:
        return [f"DRBD has the volumes {minors}, {wanted} are wanted"]
    if any(volume.disk in (None, "Diskless") for volume in resource.volumes):
        return ["a DRBD volume has no disk yet" if not has_data else "a DRBD volume has let go of its disk"]
    return []


def has_other_minors(document: dict[str, Any], resource: Resource, node: str) -> bool:
    """Whether a disk is up under another minor than its definition's, which nothing but taking it down changes."""
    wanted = {disk["index"]: disk["minor"][node] for disk in document["disks"]}
    return any(volume.minor != wanted.get(volume.volume, volume.minor) for volume in resource.volumes if resource.up)


def needs_settling(trace: Trace, primary: str) -> list[str]:
    """Why two primaries have to be forbidden again; empty if they are."""
    found = []
    for node, resource in sorted(trace.resources.items()):
        if resource.allow_two_primaries:
            found.append(f"two primaries are allowed on {node}")
        if resource.primary and node != primary:
            found.append(f"the disks are Primary on {node} too" if primary in trace.domains else f"Primary on {node}")
    return found


def not_in_sync(trace: Trace, nodes: Iterable[str]) -> str | None:
    """Why the copies on the nodes are not both complete and connected; None if they are."""
    return next((why for node in nodes if (why := _not_replicated(trace, node, "UpToDate"))), None)


def not_at_peer(trace: Trace, source: str, target: str) -> str | None:
    """Why not everything that is written on one node is on the other; None if it is.

    A node whose disk failed writes to the other one's alone.
    """
    return _not_replicated(trace, source, "UpToDate", "Diskless") or _not_replicated(trace, target, "UpToDate")


def _not_replicated(trace: Trace, node: str, *states: str) -> str | None:
    resource = trace.resources.get(node)
    if resource is not None and resource.connected and resource.all_disks(*states):
        return None
    disks = ", ".join(str(v.disk) for v in resource.volumes) if resource else "none"
    state = resource.connection if resource is not None else "not configured"
    return f"its disks are not replicated: on {node} DRBD is {state}, the disks are {disks}"
