# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's own network namespace, with one bridge for each network and one tap for each NIC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .command import run
from .errors import LabError
from .topology import NETWORKS, Machine


def namespace(name: str) -> str:
    return f"twofold-{name}"


def namespace_path(name: str) -> Path:
    return Path("/run/netns") / namespace(name)


def exists(name: str) -> bool:
    return namespace_path(name).exists()


def inside(name: str, argv: Sequence[str]) -> list[str]:
    """argv, run in the lab's network namespace."""
    return ["nsenter", f"--net={namespace_path(name)}", "--", *argv]


def create(name: str, machines: Sequence[Machine]) -> None:
    """Make the namespace, its bridges and the machines' taps."""
    if exists(name):
        raise LabError(f"lab {name}: the namespace {namespace(name)} is already there; run 'lab down --name {name}'")
    run(["ip", "netns", "add", namespace(name)])
    script = ["link set lo up"]
    for network in NETWORKS:
        script.append(f"link add {network.name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
        if network.host_address:
            script.append(f"address add {network.host_address} dev {network.name}")
        script.append(f"link set {network.name} up")
        for machine in machines:
            tap = network.tap(machine.name)
            script.append(f"tuntap add dev {tap} mode tap")
            script.append(f"link set {tap} master {network.name} up")
    run(inside(name, ["ip", "-batch", "-"]), stdin="\n".join(script) + "\n", what=f"lab {name}: network")


def remove(name: str) -> None:
    """Delete the namespace; its bridges and taps go with it."""
    if exists(name):
        run(["ip", "netns", "del", namespace(name)])


def process_ids(name: str) -> list[int]:
    """Processes that run in the lab's namespace."""
    if not exists(name):
        return []
    return [int(word) for word in run(["ip", "netns", "pids", namespace(name)]).stdout.split()]
