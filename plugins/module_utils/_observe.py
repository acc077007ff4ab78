# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a node is now: one document. A part that cannot be read is null and named among the problems."""

from __future__ import annotations

from typing import Any, Callable

from . import _definitions, _maintenance, _power_back_notes, _steps_rolling
from ._clock import wait_for
from ._drbd import Configuration, ResourceState
from ._errors import TimedOut, TwofoldError
from ._files import read_json
from ._lock import LEASE
from ._lvm import Volume
from ._node import Node

Document = dict[str, Any]
# The part, how it is read, and whether it is a whole key of the document or several.
Part = tuple[str, Callable[[Node], Any]]


def observe(node: Node, name: str) -> Document:
    """The observed document of this node, which the inventory calls `name`."""
    problems: list[dict[str, str | None]] = []
    document: Document = {"format": 1, "node": name, "time": node.clock.time()}
    facts = _facts(node)
    kernel = facts.pop("kernel")
    document.update(facts)
    versions: dict[str, str | None] = {"kernel": kernel}
    for what, read in VERSIONS:
        try:
            versions.update(read(node))
        except TwofoldError as error:
            problems.append(_problem(f"version of {what}", error))
    document["versions"] = {key: versions.get(key) for key in VERSION_KEYS}
    for part, read in PARTS:
        try:
            document[part] = read(node)
        except TwofoldError as error:
            document[part] = None
            problems.append(_problem(part, error))
        except OSError as error:
            document[part] = None
            problems.append({"object": part, "message": str(error), "remedy": "look at the node's file systems"})
    document["problems"] = problems
    return document


def _problem(part: str, error: TwofoldError) -> dict[str, str | None]:
    return {"object": part, "message": error.message, "remedy": error.remedy}


def _facts(node: Node) -> Document:
    return dict(node.host.facts())


def _volume_groups(node: Node) -> Document:
    return {
        group.name: {"size": group.size, "free": group.free, "extent": group.extent, "missing": group.missing}
        for group in node.volumes.groups().values()
    }


def _volumes(node: Node) -> list[Document]:
    found = node.volumes.volumes()
    unchanged = node.volumes.unchanged([one for one in found if one.kept])
    return [_volume(one, unchanged) for one in found]


def _volume(one: Volume, unchanged: set[str]) -> Document:
    document = {
        "volume_group": one.volume_group, "name": one.name, "size": one.size, "tags": list(one.tags), "open": one.open
    }  # fmt: skip
    return {**document, "unchanged": one.path in unchanged} if one.kept else document


# What brings DRBD up at boot, ours and the distribution's.
UNITS = ("twofold-replication.service", "drbd.service")
# Seconds for that.
BRING_UP = 90.0


def resources(node: Node) -> Document:
    """The DRBD resources by name.

    Soon after a boot a resource is down or StandAlone only because nobody has come to it yet; that is waited for, or
    it would look like a split brain. Raises TimedOut if it does not end.
    """
    found = _resources(node)
    if any(one["role"] is None or one["connection"] == "StandAlone" for one in found.values()):
        _wait_for_units(node)
        # Read again in any case: they may have ended after the first look.
        found = _resources(node)
    return found


def _wait_for_units(node: Node) -> None:
    remedy = f"see 'systemctl status {' '.join(UNITS)}' there, then run again"
    wait_for(
        node.clock,
        lambda: node.host.starting(UNITS),
        lambda busy: not busy,
        BRING_UP,
        lambda _busy: TimedOut(f"DRBD is still being brought up after {BRING_UP:.0f} s", remedy),
    )


def _resources(node: Node) -> Document:
    states, files = node.replication.states(), node.replication.configurations()
    return {name: _resource(node, states.get(name), files.get(name)) for name in sorted({*states, *files})}


def _resource(node: Node, state: ResourceState | None, file: Configuration | None) -> Document:
    volumes = [] if state is None else [_replicated(one) for one in state.volumes]
    if state is not None and file is not None and not state.connected:
        # Only these say whether copies that are apart have a common history.
        for one in volumes:
            one["uuids"] = _generations(node, state.name, one["volume"])
    return {
        "role": state.role if state else None,
        "peer_role": state.peer_role if state else None,
        "connection": state.connection if state else None,
        "peer_address": state.peer_address if state else None,
        "allow_two_primaries": state.allow_two_primaries if state else False,
        "configured": file is not None,
        "config": file.text if file else None,
        "secret_digest": file.secret_digest if file else None,
        "options": state.options if state else {},
        "volumes": volumes,
    }


def _replicated(one: Any) -> Document:
    return {
        "volume": one.volume,
        "minor": one.minor,
        "disk": one.disk,
        "peer_disk": one.peer_disk,
        "done": one.done,
        "backing": one.backing,
        "replication": one.replication,
        "out_of_sync": one.out_of_sync,
    }


def _generations(node: Node, name: str, volume: int) -> str | None:
    try:
        return node.replication.generations(name, volume)
    except TimedOut:
        # Each of many would be waited for.
        raise
    except TwofoldError:
        return None


def _domains(node: Node) -> Document:
    return {
        one.name: {
            "uuid": one.uuid,
            "state": one.state,
            "persistent": one.persistent,
            "autostart": one.autostart,
            "memory": one.memory,
            "vcpus": one.vcpus,
            "xml": one.xml,
            "migrating": one.migrating,
            "stranded": one.stranded,
        }
        for one in node.hypervisor.domains().values()
    }


# The node's certificates: what `pki` of the control host made, and the authority that each side trusts.
CERTIFICATES = (
    "/etc/pki/CA/cacert.pem",
    "/etc/pki/libvirt/clientcert.pem",
    "/etc/pki/libvirt/servercert.pem",
    "/etc/pki/qemu/ca-cert.pem",
    "/etc/pki/qemu/client-cert.pem",
    "/etc/pki/qemu/server-cert.pem",
)


def _certificates(node: Node) -> list[Document]:
    """Each certificate once, with the files that hold it; `pem` is null for files that are missing."""
    paths: dict[str | None, list[str]] = {}
    for path in CERTIFICATES:
        paths.setdefault(_text(node, path), []).append(path)
    return [{"paths": found, "pem": pem} for pem, found in paths.items()]


def _text(node: Node, path: str) -> str | None:
    try:
        return node.files.read(path)
    except (OSError, TwofoldError) as error:
        # No certificate either; who reads it on the control host says so.
        return f"unreadable: {error}"


def _lock(node: Node) -> Document | None:
    """The lease on the node; `expired` says that it has run out and binds nobody."""
    held = node.lock.holder()
    lease = held or read_json(node.files, LEASE)
    return None if lease is None else {**lease, "expired": held is None}


VERSION_KEYS = ("kernel", "drbd_kernel", "drbd_utils", "libvirt", "qemu", "python")
VERSIONS: list[Part] = [
    ("DRBD", lambda node: node.replication.versions()),
    ("libvirt", lambda node: node.hypervisor.versions()),
    ("the tools", lambda node: node.host.tool_versions()),
]
PARTS: list[Part] = [
    ("volume_groups", _volume_groups),
    ("volumes", _volumes),
    ("resources", resources),
    ("domains", _domains),
    ("definitions", lambda node: _definitions.read_all(node.files)),
    ("seeds", lambda node: node.seeds.digests()),
    ("images", lambda node: node.images.cached()),
    ("bridges", lambda node: node.host.bridges()),
    ("addresses", lambda node: node.host.addresses()),
    ("journal", lambda node: node.journal.entries()),
    ("lock", _lock),
    ("certificates", _certificates),
    ("maintenance", lambda node: _maintenance.read(node.files)),
    ("rolling", lambda node: _steps_rolling.read(node.files)),
    ("left_off", lambda node: _power_back_notes.left(node.files)),
]
