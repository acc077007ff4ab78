# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ganeti's iallocator protocol, version 2: answering a message.

The answers are those of hail, so that this engine can be a cluster's iallocator; or, with `AllocOptions.own`, those to
which the rules of instances and the one definition of redundancy lead.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import dedicated
from .allocate import AllocOptions, Found, anywhere, describe, in_group, safe, search
from .errors import RequestError
from .evacuate import Evacuation, Mode, change_group, evacuate, leaving
from .message import Json, Message, Reader, instance_of
from .model import Instance, Mirror
from .moves import Kind, Move
from .state import BuildOptions, State


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
    request = Reader(message.source, "request", message.request)
    kinds: dict[str, Callable[[Message, Reader, AllocOptions, BuildOptions | None], Answer]] = {
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


def _new(reader: Reader) -> tuple[Instance, int]:
    return instance_of(reader.text("name"), reader), reader.whole("required_nodes")


def requested(message: Message) -> Instance:
    """The instance that an allocate request asks for."""
    return _new(Reader(message.source, "request", message.request))[0]


def _restricted(reader: Reader, options: AllocOptions) -> AllocOptions:
    nodes = reader.value.get("restrict-to-nodes")
    if options.restrict is None and nodes is not None:
        return replace(options, restrict=reader.strings("restrict-to-nodes"))
    return options


def _group_name(reader: Reader) -> str | None:
    return None if reader.value.get("group_name") is None else reader.text("group_name")


def _find(state: State, i: int, count: int, group: str | None, options: AllocOptions, *, whole: bool) -> Found:
    """Search in one group or in all, by score or, on clusters with exclusive storage, by what would be lost."""
    if whole and not options.own:
        return dedicated.allocate(state, i, count, group, options)
    return in_group(state, i, count, group, options) if group else anywhere(state, i, count, options)[1]


def _allocate(message: Message, request: Reader, options: AllocOptions, build: BuildOptions | None) -> Answer:
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


def _multi_allocate(message: Message, request: Reader, options: AllocOptions, build: BuildOptions | None) -> Answer:
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


def _number(state: State, reader: Reader, key: str, name: str) -> int:
    if name not in state.inst.names:
        raise reader.error(key, "the name of an instance of the message")
    return state.inst.names.index(name)


def _numbers(state: State, reader: Reader) -> list[int]:
    return [_number(state, reader, "instances", name) for name in reader.strings("instances")]


def _relocate(message: Message, request: Reader, options: AllocOptions, build: BuildOptions | None) -> Answer:
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
    done = _leave(state, [i], mode, options)
    if done.failed:
        return _failed(state, done.failed[0][1])
    return _done(state, "success", [names[done.moved[0][2][-1]]])


def _node_evacuate(message: Message, request: Reader, options: AllocOptions, build: BuildOptions | None) -> Answer:
    state = State(message.cluster, build)
    modes = {mode.value: mode for mode in Mode}
    mode = request.text("evac_mode")
    if mode not in modes:
        raise request.error("evac_mode", "one of " + ", ".join(modes))
    return _evacuated(state, _leave(state, _numbers(state, request), modes[mode], options))


def _leave(state: State, instances: list[int], mode: Mode, options: AllocOptions) -> Evacuation:
    """Move instances off their nodes: one after the other as hail, or all together by their rules."""
    if not options.own:
        return evacuate(state, instances, mode, options)
    # As hail it answers without waiting for this.
    from .emptying import EmptyOptions, empty

    left = leaving(state, instances, mode)
    if options.restrict is not None:
        left |= ~np.isin(state.nodes.names, options.restrict)
    survive = options.survive if options.capacity_checks else None
    settings = EmptyOptions(mode=mode, with_disks=False, survive=survive)
    return empty(state, options.book(state), left, instances, settings)


def _change_group(message: Message, request: Reader, options: AllocOptions, build: BuildOptions | None) -> Answer:
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


def _allocate_secondary(message: Message, request: Reader, options: AllocOptions, build: BuildOptions | None) -> Answer:
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
    if name in options.rules:
        options = replace(options, rules={**options.rules, instance.name: options.rules[name]})
    found = search(state, new, 2, members, options, good=safe(state, options), primary=p)
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
