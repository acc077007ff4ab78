# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the messages of Ganeti's iallocator protocol, version 2, with errors that name the path of a field."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from . import literals
from .errors import DataError
from .model import TEMPLATES, AllocPolicy, Cluster, Group, Instance, Node, Policy, Spec

Json = dict[str, Any]

#: Memory that Ganeti assumes a KVM node to need for itself, MiB, instead of what it reports.
STATIC_KVM_MEMORY = 4096
_SPEC_KEYS = ("memory-size", "cpu-count", "disk-size", "disk-count", "nic-count", "spindle-use")
_ADMIN = {"up": "running", "down": "ADMIN_down", "offline": "ADMIN_offline"}


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was read: the cluster that it describes and what it asks for."""

    cluster: Cluster
    request: Json
    source: str


class Reader:
    """A JSON object whose fields are read with errors that name their path."""

    def __init__(self, source: str, path: str, value: object) -> None:
        self.source, self.path = source, path
        if not isinstance(value, dict):
            raise DataError(source, None, path or "message", f"is {_shown(value)}; expected an object")
        self.value: Json = value

    def error(self, key: str, expected: str) -> DataError:
        path = f"{self.path}.{key}" if self.path else key
        if key not in self.value:
            return DataError(self.source, None, path, f"is missing; expected {expected}")
        return DataError(self.source, None, path, f"is {_shown(self.value[key])}; expected {expected}")

    def get(self, key: str, kind: type | tuple[type, ...], expected: str, default: object = ...) -> Any:
        if key not in self.value and default is not ...:
            return default
        value = self.value.get(key)
        if (isinstance(value, bool) and kind is not bool) or not isinstance(value, kind):
            raise self.error(key, expected)
        return value

    def whole(self, key: str, default: object = ...) -> int:
        value = int(self.get(key, int, "a whole number", default))
        if not 0 <= value < literals.LARGEST:
            raise self.error(key, "a whole number, not below 0")
        return value

    def number(self, key: str, default: object = ..., *, signed: bool = False) -> float:
        value = self.get(key, (int, float), "a number", default)
        if not abs(value) < literals.LARGEST or (value < 0 and not signed):
            raise self.error(key, f"a number{'' if signed else ' from 0'} below {literals.LARGEST}")
        return float(value)

    def text(self, key: str, default: object = ...) -> str:
        return str(self.get(key, str, "a string", default))

    def flag(self, key: str, default: object = ...) -> bool:
        return bool(self.get(key, bool, "true or false", default))

    def strings(self, key: str, default: object = ...) -> tuple[str, ...]:
        value = self.get(key, list, "a list of strings", default)
        if any(not isinstance(item, str) for item in value):
            raise self.error(key, "a list of strings")
        return tuple(value)

    def child(self, key: str) -> Reader:
        if key not in self.value:
            raise self.error(key, "an object")
        return Reader(self.source, f"{self.path}.{key}" if self.path else key, self.value[key])

    def children(self, key: str) -> list[tuple[str, Reader]]:
        inner = self.child(key)
        return [(name, inner.child(name)) for name in inner.value]

    def items(self, key: str, default: object = ...) -> list[Reader]:
        values = self.get(key, list, "a list of objects", default)
        path = f"{self.path}.{key}" if self.path else key
        return [Reader(self.source, f"{path}[{k}]", value) for k, value in enumerate(values)]


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def parse(text: str, source: str = "<message>", static_kvm_memory: int = STATIC_KVM_MEMORY) -> Message:
    """Read a message.

    Args:
        source: its name in errors. static_kvm_memory: MiB that a KVM node keeps for itself; 0 for what it reports.
    Raises:
        DataError: for the first thing that is wrong.
    """
    top = Reader(source, "", literals.document(text, source, "an iallocator message"))
    groups = tuple(_group(uuid, reader) for uuid, reader in top.children("nodegroups"))
    kvm = top.strings("enabled_hypervisors", [])[:1] == ("kvm",)
    memory = static_kvm_memory if kvm else 0
    uuids = {g.uuid for g in groups}
    nodes = tuple(_node(name, reader, uuids, memory) for name, reader in top.children("nodes"))
    names = {n.name for n in nodes}
    instances = tuple(_placed(name, reader, names) for name, reader in top.children("instances"))
    cluster = Cluster(groups, nodes, instances, top.strings("cluster_tags"))
    return Message(cluster, top.child("request").value, source)


def _group(uuid: str, reader: Reader) -> Group:
    policy = reader.text("alloc_policy")
    if policy not in {p.value for p in AllocPolicy}:
        raise reader.error("alloc_policy", "one of " + ", ".join(p.value for p in AllocPolicy))
    networks, tags = reader.strings("networks"), reader.strings("tags")
    return Group(reader.text("name"), uuid, AllocPolicy(policy), tags, networks, _policy(reader.child("ipolicy")))


def _policy(reader: Reader) -> Policy:
    bounds = tuple((_spec(pair.child("min")), _spec(pair.child("max"))) for pair in reader.items("minmax"))
    return Policy(
        std=_spec(reader.child("std")),
        bounds=bounds,
        templates=reader.strings("disk-templates"),
        vcpu_ratio=reader.number("vcpu-ratio"),
        spindle_ratio=reader.number("spindle-ratio"),
        memory_ratio=reader.number("memory-ratio", 1.0),
    )


def _spec(reader: Reader) -> Spec:
    return Spec(*(reader.whole(key) for key in _SPEC_KEYS))


def _node(name: str, reader: Reader, groups: set[str], static_memory: int) -> Node:
    group = reader.text("group")
    if group not in groups:
        raise reader.error("group", "the UUID of a node group of the message")
    offline, drained = reader.flag("offline"), reader.flag("drained")
    # Nodes that run no instances, or cannot be asked, have no live values.
    live = not offline and reader.flag("vm_capable", True) and (not drained or "total_memory" in reader.value)
    params = reader.child("ndparams")
    exclusive = params.flag("exclusive_storage")

    def value(key: str, *, signed: bool = False) -> float:
        return reader.number(key, signed=signed) if live else 0.0

    own = static_memory if static_memory and live else int(value("reserved_memory", signed=True))
    return Node(
        name=name,
        total_memory=value("total_memory"),
        node_memory=own,
        free_memory=int(value("free_memory", signed=True)),
        total_disk=value("total_disk"),
        free_disk=int(value("free_disk", signed=True)),
        total_cpus=value("total_cpus"),
        group=group,
        offline=not live or drained,
        spindles=int(value("total_spindles")) if exclusive else params.whole("spindle_count"),
        tags=reader.strings("tags", []),
        exclusive_storage=exclusive,
        free_spindles=int(value("free_spindles", signed=True)),
        node_cpus=int(value("reserved_cpus")),
    )


def _placed(name: str, reader: Reader, nodes: set[str]) -> Instance:
    homes = reader.strings("nodes")
    if not homes or any(home not in nodes for home in homes):
        raise reader.error("nodes", "one or two names of nodes of the message")
    return replace(instance_of(name, reader), primary=homes[0], secondary=homes[1] if len(homes) > 1 else "")


def instance_of(name: str, reader: Reader) -> Instance:
    template = reader.text("disk_template")
    if template not in TEMPLATES:
        raise reader.error("disk_template", "one of " + ", ".join(TEMPLATES))
    state = reader.text("admin_state", "up")
    if state not in _ADMIN:
        raise reader.error("admin_state", "one of " + ", ".join(_ADMIN))
    disks = reader.items("disks")
    known = [disk.whole("spindles") for disk in disks if disk.value.get("spindles") is not None]
    networks = [nic.value.get("network") for nic in reader.items("nics", [])]
    return Instance(
        name=name,
        memory=reader.whole("memory"),
        disk=reader.whole("disk_space_total"),
        vcpus=reader.whole("vcpus"),
        template=template,
        status=_ADMIN[state],
        tags=reader.strings("tags"),
        spindle_use=reader.whole("spindle_use"),
        spindles=sum(known) if len(known) == len(disks) else None,
        forthcoming=reader.flag("forthcoming", False),
        disks=tuple(disk.whole("size") for disk in disks),
        networks=tuple(str(network) for network in networks if network),
    )
