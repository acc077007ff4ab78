# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ssh configuration through which tests, ansible and people reach machines and guests of a lab."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .command import give_to_owner
from .network import namespace_path
from .paths import write_atomically
from .topology import Machine

# Runs as whoever calls ssh, so sudo is decided when it runs.
PROXY = """#!/bin/sh
# Connects standard input and output to HOST PORT inside the lab's network namespace.
set -- nsenter --net={namespace} -- nc -- "$1" "$2"
[ "$(id -u)" = 0 ] || set -- sudo -n "$@"
exec "$@"
"""

# Cheap key exchange: an emulated machine needs a second of CPU for a post-quantum one. The keepalive ends
# connections to a machine that lost its power.
COMMON = """Host *
  User root
  IdentityFile {key}
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /dev/null
  LogLevel ERROR
  KexAlgorithms curve25519-sha256
  PreferredAuthentications publickey
  ConnectTimeout 20
  ServerAliveInterval 5
  ServerAliveCountMax 3
  ControlMaster auto
  ControlPath {control}/%i-%C
  ControlPersist 60
  ProxyCommand {proxy} %h %p
"""


def config(machines: Sequence[Machine], key: Path, proxy: Path, control: Path) -> str:
    """The text of the ssh_config: machines by name, and any other address as it is."""
    hosts = [f"Host {machine.name}\n  HostName {machine.management}\n" for machine in machines]
    return "".join(hosts) + COMMON.format(key=key, proxy=proxy, control=control)


def write(name: str, directory: Path, machines: Sequence[Machine], key: Path, control: Path) -> Path:
    """Write ssh_config and its proxy command below directory; returns the ssh_config."""
    proxy, path = directory / "proxy", directory / "ssh_config"
    write_atomically(proxy, PROXY.format(namespace=namespace_path(name)), 0o755)
    write_atomically(path, config(machines, key, proxy, control))
    control.mkdir(parents=True, exist_ok=True)
    # Any user of the lab keeps its connections here; %i in the names keeps users apart.
    control.chmod(0o1777)
    give_to_owner(directory, proxy, path)
    return path
