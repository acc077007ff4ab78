# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ganeti's iallocator protocol, version 2: read a message, answer it.

The answers are those of hail, so that this engine can be a cluster's iallocator.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from . import dedicated
from .allocate import AllocOptions, Found, anywhere, describe, in_group, safe, search
from .errors import DataError, RequestError
from .evacuate import Evacuation, Mode, change_group, evacuate
from .model import TEMPLATES, AllocPolicy, Cluster, Group, Instance, Mirror, Node, Policy, Spec
from .moves import Kind, Move
from .state import BuildOptions, State

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


class _Reader:
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
        return int(self.get(key, int, "a whole number", default))

    def number(self, key: str, default: object = ...) -> float:
        return float(self.get(key, (int, float), "a number", default))

    def text(self, key: str, default: object = ...) -> str:
        return str(self.get(key, str, "a string", default))

    def flag(self, key: str, default: object = ...) -> bool:
        return bool(self.get(key, bool, "true or false", default))

    def strings(self, key: str, default: object = ...) -> tuple[str, ...]:
        value = self.get(key, list, "a list of strings", default)
        if any(not isinstance(item, str) for item in value):
            raise self.error(key, "a list of strings")
        return tuple(value)

    def child(self, key: str) -> _Reader:
        if key not in self.value:
            raise self.error(key, "an object")
        return _Reader(self.source, f"{self.path}.{key}" if self.path else key, self.value[key])

    def children(self, key: str) -> list[tuple[str, _Reader]]:
        inner = self.child(key)
        return [(name, inner.child(name)) for name in inner.value]

    def items(self, key: str, default: object = ...) -> list[_Reader]:
        values = self.get(key, list, "a list of objects", default)
        path = f"{self.path}.{key}" if self.path else key
        return [_Reader(self.source, f"{path}[{k}]", value) for k, value in enumerate(values)]


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
    try:
        value = json.loads(text)
    except ValueError as error:
        line = getattr(error, "lineno", None)
        raise DataError(source, line, "JSON", f"{error}; expected an iallocator message") from None
    top = _Reader(source, "", value)
    groups = tuple(_group(uuid, reader) for uuid, reader in top.children("nodegroups"))
    kvm = top.strings("enabled_hypervisors", [])[:1] == ("kvm",)
    memory = static_kvm_memory if kvm else 0
    uuids = {g.uuid for g in groups}
    nodes = tuple(_node(name, reader, uuids, memory) for name, reader in top.children("nodes"))
    names = {n.name for n in nodes}
    instances = tuple(_placed(name, reader, names) for name, reader in top.children("instances"))
    cluster = Cluster(groups, nodes, instances, top.strings("cluster_tags"))
    return Message(cluster, top.child("request").value, source)


def _group(uuid: str, reader: _Reader) -> Group:
    policy = reader.text("alloc_policy")
    if policy not in {p.value for p in AllocPolicy}:
        raise reader.error("alloc_policy", "one of " + ", ".join(p.value for p in AllocPolicy))
    networks, tags = reader.strings("networks"), reader.strings("tags")
    return Group(reader.text("name"), uuid, AllocPolicy(policy), tags, networks, _policy(reader.child("ipolicy")))


def _policy(reader: _Reader) -> Policy:
    bounds = tuple((_spec(pair.child("min")), _spec(pair.child("max"))) for pair in reader.items("minmax"))
    return Policy(
        std=_spec(reader.child("std")),
        bounds=bounds,
        templates=reader.strings("disk-templates"),
        vcpu_ratio=reader.number("vcpu-ratio"),
        spindle_ratio=reader.number("spindle-ratio"),
        memory_ratio=reader.number("memory-ratio", 1.0),
    )


def _spec(reader: _Reader) -> Spec:
    return Spec(*(reader.whole(key) for key in _SPEC_KEYS))


def _node(name: str, reader: _Reader, groups: set[str], static_memory: int) -> Node:
    group = reader.text("group")
    if group not in groups:
        raise reader.error("group", "the UUID of a node group of the message")
    offline, drained = reader.flag("offline"), reader.flag("drained")
    # Nodes that run no instances, or cannot be asked, have no live values.
    live = not offline and reader.flag("vm_capable", True) and (not drained or "total_memory" in reader.value)
    params = reader.child("ndparams")
    exclusive = params.flag("exclusive_storage")

    def value(key: str) -> float:
        return reader.number(key) if live else 0.0

    own = static_memory if static_memory and live else int(value("reserved_memory"))
    return Node(
        name=name,
        total_memory=value("total_memory"),
        node_memory=own,
        free_memory=int(value("free_memory")),
        total_disk=value("total_disk"),
        free_disk=int(value("free_disk")),
        total_cpus=value("total_cpus"),
        group=group,
        offline=not live or drained,
        spindles=int(value("total_spindles")) if exclusive else params.whole("spindle_count"),
        tags=reader.strings("tags", []),
        exclusive_storage=exclusive,
        free_spindles=int(value("free_spindles")),
        node_cpus=int(value("reserved_cpus")),
    )


def _placed(name: str, reader: _Reader, nodes: set[str]) -> Instance:
    homes = reader.strings("nodes")
    if not homes or any(home not in nodes for home in homes):
        raise reader.error("nodes", "one or two names of nodes of the message")
    return replace(_instance(name, reader), primary=homes[0], secondary=homes[1] if len(homes) > 1 else "")


def _instance(name: str, reader: _Reader) -> Instance:
    template = reader.text("disk_template")
    if template not in TEMPLATES:
        raise reader.error("disk_template", "one of " + ", ".join(TEMPLATES))
    state = reader.text("admin_state", "up")
    if state not in _ADMIN:
        raise reader.error("admin_state", "one of " + ", ".join(_ADMIN))
    disks = reader.items("disks")
    spindles = [disk.value.get("spindles") for disk in disks]
    known = [int(count) for count in spindles if isinstance(count, int)]
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
        spindles=sum(known) if len(known) == len(spindles) else None,
        forthcoming=reader.flag("forthcoming", False),
        disks=tuple(disk.whole("size") for disk in disks),
        networks=tuple(str(network) for network in networks if network),
    )


@dataclass(slots=True)
class Answer:
    """An answer: whether the request could be fulfilled, what was considered, the result, and the state afterwards."""

    success: bool
    info: str
    result: Any
    state: State

    def dump(self) -> str:
        """The answer as the protocol writes it."""
        body = {"success": self.success, "info": self.info, "result": self.result}
        return json.dumps(body, separators=(",", ":"))


def answer(message: Message, options: AllocOptions | None = None, build: BuildOptions | None = None) -> Answer:
    """Carry out the request of a message.

    Raises:
        DataError: when the request itself is malformed. One that cannot be fulfilled is answered with success false.
    """
    options = options or AllocOptions()
    request = _Reader(message.source, "request", message.request)
    kinds: dict[str, Callable[[Message, _Reader, AllocOptions, BuildOptions | None], Answer]] = {
        "allocate": _allocate,
        "multi-allocate": _multi_allocate,
        "relocate": _relocate,
        "node-evacuate": _node_evacuate,
        "change-group": _change_group,
        "allocate-secondary": _allocate_secondary,
    }
    kind = request.text("type")
    if kind not in kinds:
        raise request.error("type", "one of " + ", ".join(kinds))
    return kinds[kind](message, request, options, build)


def _failed(state: State, problem: str) -> Answer:
    return Answer(False, f"Request failed: {problem}", [], state)


def _done(state: State, info: str, result: Any) -> Answer:
    return Answer(True, f"Request successful: {info}", result, state)


def _new(reader: _Reader) -> tuple[Instance, int]:
    return _instance(reader.text("name"), reader), reader.whole("required_nodes")


def requested(message: Message) -> Instance:
    """The instance that an allocate request asks for."""
    return _new(_Reader(message.source, "request", message.request))[0]


def _restricted(reader: _Reader, options: AllocOptions) -> AllocOptions:
    nodes = reader.value.get("restrict-to-nodes")
    if options.restrict is None and nodes is not None:
        return replace(options, restrict=reader.strings("restrict-to-nodes"))
    return options


def _group_name(reader: _Reader) -> str | None:
    return None if reader.value.get("group_name") is None else reader.text("group_name")


def _find(state: State, i: int, count: int, group: str | None, options: AllocOptions, *, whole: bool) -> Found:
    """Search in one group or in all, by score or, on clusters with exclusive storage, by what would be lost."""
    if whole:
        return dedicated.allocate(state, i, count, group, options)
    return in_group(state, i, count, group, options) if group else anywhere(state, i, count, options)[1]


def _allocate(message: Message, request: _Reader, options: AllocOptions, build: BuildOptions | None) -> Answer:
    instance, count = _new(request)
    state = State(message.cluster, build, [instance])
    group, i = _group_name(request), len(message.cluster.instances)
    options = _restricted(request, options)
    try:
        found = _find(state, i, count, group, options, whole=dedicated.is_dedicated(state, group))
    except RequestError as error:
        return _failed(state, str(error))
    if not found.nodes:
        return _failed(state, ", ".join(found.log))
    state.place(i, found.nodes[0], found.nodes[1] if count > 1 else -1)
    return _done(state, ", ".join(found.log), [state.nodes.names[n] for n in found.nodes])


def _multi_allocate(message: Message, request: _Reader, options: AllocOptions, build: BuildOptions | None) -> Answer:
    readers = request.items("instances")
    wanted = [_new(reader) for reader in readers]
    state = State(message.cluster, build, [instance for instance, _ignored in wanted])
    first = len(message.cluster.instances)
    common = _group_name(request)
    groups = [_group_name(reader) or common for reader in readers]
    only = set(filter(None, groups))
    whole = dedicated.is_dedicated(state, only.pop() if len(only) == 1 else None)
    placed: list[list[Any]] = []
    failed: list[list[str]] = []
    for k, (instance, count) in enumerate(wanted):
        try:
            found = _find(state, first + k, count, groups[k], _restricted(readers[k], options), whole=whole)
        except RequestError as error:
            # As with hail: the whole request fails, unless the instance had named its node group.
            return _failed(state, str(error))
        if not found.nodes:
            failed.append([instance.name, ", ".join(found.log)])
            continue
        state.place(first + k, found.nodes[0], found.nodes[1] if count > 1 else -1)
        placed.append([instance.name, [state.nodes.names[n] for n in found.nodes]])
    info = f"{len(failed)} instances failed to allocate and {len(placed)} were allocated successfully"
    return _done(state, info, [placed, failed])


def _number(state: State, reader: _Reader, key: str, name: str) -> int:
    if name not in state.inst.names:
        raise reader.error(key, "the name of an instance of the message")
    return state.inst.names.index(name)


def _numbers(state: State, reader: _Reader) -> list[int]:
    return [_number(state, reader, "instances", name) for name in reader.strings("instances")]


def _relocate(message: Message, request: _Reader, options: AllocOptions, build: BuildOptions | None) -> Answer:
    state = State(message.cluster, build)
    i = _number(state, request, "name", request.text("name"))
    names, inst = state.nodes.names, state.inst
    leave = request.strings("relocate_from")
    if request.whole("required_nodes") != 1:
        return _failed(state, f"Exchange {request.whole('required_nodes')} nodes mode is not implemented")
    mirror = inst.instances[i].mirror
    if mirror is Mirror.NONE:
        return _failed(state, "Can't relocate non-mirrored instances")
    mode, current = (
        (Mode.SECONDARY, int(state.sec[i])) if mirror is Mirror.INTERNAL else (Mode.PRIMARY, int(state.pri[i]))
    )
    if list(leave) != [names[current]]:
        wanted = "secondary" if mode is Mode.SECONDARY else "primary"
        problem = f"excluded nodes {', '.join(leave)} are not the instance's {wanted} {names[current]}"
        return _failed(state, f"Unsupported request: {problem}")
    done = evacuate(state, [i], mode, options)
    if done.failed:
        return _failed(state, done.failed[0][1])
    return _done(state, "success", [names[done.moved[0][2][-1]]])


def _node_evacuate(message: Message, request: _Reader, options: AllocOptions, build: BuildOptions | None) -> Answer:
    state = State(message.cluster, build)
    modes = {mode.value: mode for mode in Mode}
    mode = request.text("evac_mode")
    if mode not in modes:
        raise request.error("evac_mode", "one of " + ", ".join(modes))
    return _evacuated(state, evacuate(state, _numbers(state, request), modes[mode], options))


def _change_group(message: Message, request: _Reader, options: AllocOptions, build: BuildOptions | None) -> Answer:
    state = State(message.cluster, build)
    groups = {key: k for k, g in enumerate(message.cluster.groups) for key in (g.uuid, g.name)}
    targets = request.strings("target_groups")
    if any(target not in groups for target in targets):
        raise request.error("target_groups", "UUIDs or names of node groups of the message")
    return _evacuated(state, change_group(state, _numbers(state, request), [groups[t] for t in targets], options))


def _evacuated(state: State, done: Evacuation) -> Answer:
    names, nodes = state.inst.names, state.nodes.names
    groups = [g.name for g in state.cluster.groups]
    moved = [[names[i], groups[g], [nodes[n] for n in where]] for i, g, where in done.moved]
    failed = [[names[i], why] for i, why in done.failed]
    jobs = [[op for move in job for op in opcodes(state, move)] for job in done.jobs]
    info = f"{len(failed)} instances failed to move and {len(moved)} were moved successfully"
    return _done(state, info, [moved, failed, jobs])


def _allocate_secondary(
    message: Message, request: _Reader, options: AllocOptions, build: BuildOptions | None
) -> Answer:
    name = request.text("name")
    state = State(message.cluster, build)
    old = _number(state, request, "name", name)
    if state.sec[old] >= 0:
        return _failed(state, "Instance already has a secondary")
    p = int(state.pri[old])
    # The same instance, but mirrored, is placed anew with its primary given.
    instance = replace(message.cluster.instances[old], template="drbd", primary="", secondary="", name=f"{name}\0")
    state = State(message.cluster, build, [instance])
    state.unplace(old)
    new = len(message.cluster.instances)
    members = state.nodes.group == state.nodes.group[p]
    found = search(state, new, 2, members, options, good=safe(options), primary=p)
    if not found.nodes:
        return _failed(state, describe(state, found))
    state.place(new, *found.nodes)
    return _done(state, describe(state, found), state.nodes.names[found.nodes[1]])


def opcodes(state: State, move: Move) -> list[Json]:
    """A move as Ganeti's opcodes."""
    name = state.inst.names[move.instance]
    node = state.nodes.names[move.target] if move.target >= 0 else ""
    swap: Json = {
        "OP_ID": "OP_INSTANCE_MIGRATE",
        "instance_name": name,
        "allow_runtime_changes": False,
        "ignore_ipolicy": False,
        "cleanup": False,
        "allow_failover": True,
        "ignore_hvversions": True,
    }
    if state.inst.forthcoming[move.instance]:
        swap = {
            "OP_ID": "OP_INSTANCE_FAILOVER",
            "instance_name": name,
            "shutdown_timeout": 120,
            "ignore_consistency": False,
            "ignore_ipolicy": False,
            "cleanup": False,
        }
    replaced: Json = {
        "OP_ID": "OP_INSTANCE_REPLACE_DISKS",
        "instance_name": name,
        "early_release": False,
        "ignore_ipolicy": False,
        "mode": "replace_new_secondary",
        "disks": [],
        "remote_node": node,
    }
    return {
        Kind.FAILOVER: [swap],
        Kind.FAILOVER_TO_ANY: [{**swap, "target_node": node}],
        Kind.REPLACE_SECONDARY: [replaced],
        Kind.REPLACE_AND_FAILOVER: [replaced, swap],
        Kind.REPLACE_PRIMARY: [swap, replaced, swap],
        Kind.FAILOVER_AND_REPLACE: [swap, replaced],
    }[move.kind]
