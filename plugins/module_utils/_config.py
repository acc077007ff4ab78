# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compares a machine with what a node needs, and makes it so.

What is needed is a document that the control host computed: checks and a list of items. Looking changes nothing.
Applying goes through the items in order and looks at each again right before, so it is safe to repeat and to interrupt.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any, Protocol

from ._clock import SystemClock
from ._config_files import BlockItem, CredentialItem, DirectoryItem, FileItem, GoneItem
from ._config_host import Change, Host
from ._config_library import LibraryItem
from ._config_network import BridgeItem, DefaultNetworkItem, FirewallItem
from ._config_preflight import os_release, preflight
from ._config_storage import VolumeGroupItem
from ._config_system import ModulesItem, PackagesItem, ReservedPortsItem, UnitsItem
from ._errors import TwofoldError, UsageError
from ._files import SystemFiles
from ._lock import FileLock
from ._progress import FileProgress, Progress
from ._runner import SystemRunner

FORMAT = 1
# Installing packages may take long; nobody else should work on the node then. The lock ends with the call.
LEASE, LOCK_WAIT = 1800.0, 60.0
PROGRESS = "bootstrap"


class Item(Protocol):
    """Something that a node has to have."""

    def changes(self, host: Host) -> list[Change]: ...

    def apply(self, host: Host, secrets: dict[str, Any]) -> None: ...


KINDS: dict[str, Any] = {
    "block": BlockItem,
    "bridge": BridgeItem,
    "credential": CredentialItem,
    "default_network": DefaultNetworkItem,
    "directory": DirectoryItem,
    "file": FileItem,
    "firewall": FirewallItem,
    "gone": GoneItem,
    "library": LibraryItem,
    "modules": ModulesItem,
    "packages": PackagesItem,
    "reserved_ports": ReservedPortsItem,
    "units": UnitsItem,
    "volume_group": VolumeGroupItem,
}


def node_config(arguments: dict[str, Any]) -> dict[str, Any]:
    """The operation. Arguments: `wanted`; to apply it `apply`, `holder` and `run` for the lock, and `secrets` with the
    credentials that are to be replaced. Guests are never moved or started while a node is being changed.
    """
    wanted, apply = arguments["wanted"], bool(arguments.get("apply"))
    host = Host(SystemRunner(check_mode=not apply))
    if not apply:
        return inspect(host, wanted)
    lock = FileLock(SystemFiles(), SystemClock())
    lock.acquire(arguments["holder"], arguments["run"], LEASE, LOCK_WAIT)
    try:
        progress = FileProgress(SystemFiles(), SystemClock())
        return configure(host, wanted, arguments.get("secrets") or {}, progress)
    finally:
        lock.release(keep_lease=False)


def load(wanted: dict[str, Any]) -> list[Item]:
    """The items of a document."""
    if wanted.get("format") != FORMAT:
        raise UsageError(f"format {wanted.get('format')} of the document is unknown", "use one release of Twofold")
    return [KINDS[item["kind"]](item) for item in wanted["items"]]


def inspect(host: Host, wanted: dict[str, Any]) -> dict[str, Any]:
    """What is wrong with a node and what differs; the clock before and after, for whoever compares clocks."""
    started = time.time()
    items = load(wanted)
    problems = preflight(host, wanted["preflight"])
    for item in items:
        if isinstance(item, (VolumeGroupItem, BridgeItem)):
            problems += item.problems(host)
    broken = bool(problems)
    changes = [change for item in items for change in _look(host, item, broken)]
    return {
        "problems": [problem.document() for problem in problems],
        "changes": [change.document() for change in changes],
        "credentials": {item.name: item.state(host) for item in items if isinstance(item, CredentialItem)},
        "facts": facts(host),
        "clock": [started, time.time()],
    }


def _look(host: Host, item: Item, broken: bool) -> list[Change]:
    """An item that cannot be looked at matters only if nothing else is wrong."""
    try:
        return item.changes(host)
    except TwofoldError:
        if broken:
            return []
        raise


def facts(host: Host) -> dict[str, Any]:
    """What makes this machine different from the others."""
    return {
        "hostname": socket.gethostname(),
        "machine_id": (host.read("/etc/machine-id") or "").strip(),
        "release": os_release(host).get("VERSION_ID", ""),
        "architecture": os.uname().machine,
    }


def configure(host: Host, wanted: dict[str, Any], secrets: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Makes the node what the document says; returns what was changed."""
    done, items = [], load(wanted)
    try:
        for number, item in enumerate(items):
            changes = item.changes(host)
            if isinstance(item, CredentialItem) and item.name in secrets:
                changes = [*changes, Change(f"credential {item.name}", "is replaced")]
            if changes:
                progress.say(PROGRESS, changes[0].object, number / len(items))
                item.apply(host, secrets)
                done += changes
    finally:
        progress.clear(PROGRESS)
    return {"changes": [change.document() for change in done]}
