# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ganeti's text format: reading with errors that name the place, and writing.

Five sections parted by one empty line each: groups, nodes, instances, cluster tags, instance policies.
Fields are parted by "|", lists inside a field by ",". The last section may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from . import literals
from .errors import DataError
from .model import STATUSES, TEMPLATES, AllocPolicy, Cluster, Group, Instance, Node, Policy, Spec

T = TypeVar("T", Group, Node, Instance)
N = TypeVar("N", int, float)

_GROUP_FIELDS = ("name", "uuid", "alloc_policy", "tags", "networks")
_NODE_FIELDS = [
    "name",
    "total_memory",
    "node_memory",
    "free_memory",
    "total_disk",
    "free_disk",
    "total_cpus",
    "flag",
    "group",
    "spindles",
    "tags",
    "exclusive_storage",
    "free_spindles",
    "node_cpus",
    "cpu_speed",
]
_NODE_DEFAULTS = {
    "spindles": "1",
    "tags": "",
    "exclusive_storage": "N",
    "free_spindles": "0",
    "node_cpus": "1",
    "cpu_speed": "1.0",
}
_INSTANCE_FIELDS = [
    "name",
    "memory",
    "disk",
    "vcpus",
    "status",
    "auto_balance",
    "primary",
    "secondary",
    "template",
    "tags",
    "spindle_use",
    "spindles",
    "forthcoming",
]
_INSTANCE_DEFAULTS = {"spindle_use": "1", "spindles": "-", "forthcoming": "N"}
_POLICY_FIELDS = ("owner", "std", "bounds", "templates", "vcpu_ratio", "spindle_ratio", "memory_ratio")
_SPEC_FIELDS = ("memory", "vcpus", "disk_size", "disk_count", "nic_count", "spindle_use")


class _Row:
    """One line cut into named fields; its readers raise errors that name file, line and field."""

    def __init__(self, source: str, line: int, text: str, names: Iterable[str], defaults: dict[str, str]) -> None:
        self.source, self.line = source, line
        names = list(names)
        values = text.split("|")
        least = len(names) - len(defaults)
        if not least <= len(values) <= len(names):
            wanted = f"{least}" if least == len(names) else f"{least} to {len(names)}"
            raise DataError(source, line, "line", f"has {len(values)} fields; expected {wanted}: {'|'.join(names)}")
        self.values = {**defaults, **dict(zip(names, values, strict=False))}

    def error(self, name: str, expected: str) -> DataError:
        return DataError(self.source, self.line, name, f"is {self.values[name]!r}; expected {expected}")

    def text(self, name: str, what: str) -> str:
        if not self.values[name]:
            raise self.error(name, what)
        return self.values[name]

    def whole(self, name: str, unit: str = "a whole number", *, signed: bool = False) -> int:
        return self._quantity(name, literals.whole, unit, signed)

    def number(self, name: str, unit: str = "a number") -> float:
        return self._quantity(name, literals.number, unit, False)

    def _quantity(self, name: str, read: Callable[[str], N], unit: str, signed: bool) -> N:
        try:
            value = read(self.values[name])
        except ValueError:
            raise self.error(name, unit) from None
        if value < 0 and not signed:
            raise self.error(name, f"{unit}, not below 0")
        return value

    def flag(self, name: str) -> bool:
        if self.values[name] not in ("Y", "N"):
            raise self.error(name, "Y or N")
        return self.values[name] == "Y"

    def items(self, name: str) -> tuple[str, ...]:
        return tuple(part for part in self.values[name].split(",") if part)

    def one_of(self, name: str, choices: Iterable[str]) -> str:
        choices = list(choices)
        if self.values[name] not in choices:
            raise self.error(name, "one of " + ", ".join(choices))
        return self.values[name]


def parse(text: str, source: str = "<text>") -> Cluster:
    """Read a cluster from the text format.

    Args:
        text: the content. source: its name in errors, usually the path of the file.
    Raises:
        DataError: for the first thing that is wrong.
    """
    sections = _sections(text, source)
    groups = _table(sections[0], lambda n, line: _group(_Row(source, n, line, _GROUP_FIELDS, {"networks": ""})), source)
    by_uuid = {group.uuid for group in groups}
    nodes = _table(
        sections[1], lambda n, line: _node(_Row(source, n, line, _NODE_FIELDS, _NODE_DEFAULTS), by_uuid), source
    )
    by_name = {node.name for node in nodes}
    instances = _table(
        sections[2],
        lambda n, line: _instance(_Row(source, n, line, _INSTANCE_FIELDS, _INSTANCE_DEFAULTS), by_name),
        source,
    )
    tags = tuple(line for _ignored, line in sections[3])
    cluster = Cluster(tuple(groups), tuple(nodes), tuple(instances), tags)
    return _with_policies(cluster, sections[4] if len(sections) > 4 else [], source)


def _sections(text: str, source: str) -> list[list[tuple[int, str]]]:
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    sections: list[list[tuple[int, str]]] = [[]]
    for number, line in enumerate(lines, 1):
        if line:
            sections[-1].append((number, line))
        else:
            sections.append([])
    if len(sections) < 4:
        raise DataError(
            source,
            len(lines) or 1,
            "sections",
            f"found {len(sections)}; expected at least 4 parted by one empty line each: "
            "groups, nodes, instances, cluster tags, policies",
        )
    return sections


def _table(rows: list[tuple[int, str]], read: Callable[[int, str], T], source: str) -> list[T]:
    seen: dict[str, int] = {}
    result: list[T] = []
    for number, line in rows:
        item = read(number, line)
        if item.name in seen:
            raise DataError(
                source, number, "name", f"is {item.name!r}, already on line {seen[item.name]}; expected a new one"
            )
        seen[item.name] = number
        result.append(item)
    return result


def _group(row: _Row) -> Group:
    policy = AllocPolicy(row.one_of("alloc_policy", [p.value for p in AllocPolicy]))
    return Group(
        row.text("name", "a name"), row.text("uuid", "a UUID"), policy, row.items("tags"), row.items("networks")
    )


def _node(row: _Row, groups: set[str]) -> Node:
    flag = row.one_of("flag", ["Y", "N", "M"])
    unknown = any("?" in row.values[name] for name in _NODE_FIELDS[1:7])
    if unknown:
        # A node that did not answer: nothing is known of it, so nothing may be put there.
        row.values.update(dict.fromkeys(_NODE_FIELDS[1:7], "0"))
    group = row.values["group"]
    if group not in groups:
        raise row.error("group", "the UUID of a group of the first section")
    exclusive = row.flag("exclusive_storage")
    return Node(
        name=row.text("name", "a name"),
        total_memory=row.number("total_memory", "MiB"),
        # What a node reports of itself may be below 0, where more was promised than there is.
        node_memory=row.whole("node_memory", "a whole number of MiB", signed=True),
        free_memory=row.whole("free_memory", "a whole number of MiB", signed=True),
        total_disk=row.number("total_disk", "MiB"),
        free_disk=row.whole("free_disk", "a whole number of MiB", signed=True),
        total_cpus=row.number("total_cpus", "a number of CPUs"),
        group=group,
        offline=unknown or flag == "Y",
        master=flag == "M",
        spindles=row.whole("spindles"),
        tags=row.items("tags"),
        exclusive_storage=exclusive,
        free_spindles=row.whole("free_spindles", signed=True),
        node_cpus=row.whole("node_cpus"),
        cpu_speed=row.number("cpu_speed"),
    )


def _instance(row: _Row, nodes: set[str]) -> Instance:
    primary, secondary = row.values["primary"], row.values["secondary"]
    if primary not in nodes:
        raise row.error("primary", "the name of a node of the second section")
    if secondary and secondary not in nodes:
        raise row.error("secondary", "the name of a node of the second section, or nothing")
    if primary == secondary:
        raise row.error("secondary", "another node than the primary")
    template = row.one_of("template", TEMPLATES)
    if template == "drbd" and not secondary:
        raise row.error("secondary", "the name of a node: a drbd instance has two")
    disk = row.whole("disk", "a whole number of MiB")
    return Instance(
        name=row.text("name", "a name"),
        memory=row.whole("memory", "a whole number of MiB"),
        disk=disk,
        vcpus=row.whole("vcpus"),
        primary=primary,
        secondary=secondary,
        template=template,
        status=row.one_of("status", STATUSES),
        auto_balance=row.flag("auto_balance"),
        tags=row.items("tags"),
        spindle_use=row.whole("spindle_use"),
        spindles=None if row.values["spindles"] == "-" else row.whole("spindles", "a whole number or -"),
        forthcoming=row.flag("forthcoming"),
        disks=(disk,),
    )


def _with_policies(cluster: Cluster, rows: list[tuple[int, str]], source: str) -> Cluster:
    groups = {group.name: group for group in cluster.groups}
    policy = cluster.policy
    for number, line in rows:
        row = _Row(source, number, line, _POLICY_FIELDS, {"memory_ratio": "1.0"})
        owner, read = row.values["owner"], _policy(row)
        if not owner:
            policy = read
        elif owner in groups:
            groups[owner] = replace(groups[owner], policy=read)
        else:
            raise row.error("owner", "the name of a group, or nothing for the cluster")
    return replace(cluster, groups=tuple(groups[g.name] for g in cluster.groups), policy=policy)


def _policy(row: _Row) -> Policy:
    specs = row.values["bounds"].split(";")
    if len(specs) % 2:
        raise row.error("bounds", "pairs min;max, parted by ;")
    bounds = tuple(
        (_spec(row, "bounds", low), _spec(row, "bounds", high))
        for low, high in zip(specs[::2], specs[1::2], strict=True)
    )
    templates = row.items("templates")
    if not templates or any(name not in TEMPLATES for name in templates):
        raise row.error("templates", "some of " + ", ".join(TEMPLATES))
    return Policy(
        std=_spec(row, "std", row.values["std"]),
        bounds=bounds,
        templates=templates,
        vcpu_ratio=row.number("vcpu_ratio"),
        spindle_ratio=row.number("spindle_ratio"),
        memory_ratio=row.number("memory_ratio"),
    )


def _spec(row: _Row, name: str, text: str) -> Spec:
    parts = text.split(",")
    if len(parts) != len(_SPEC_FIELDS):
        raise row.error(name, "six whole numbers each: " + ",".join(_SPEC_FIELDS))
    try:
        return Spec(*map(literals.whole, parts))
    except ValueError:
        raise row.error(name, "six whole numbers each: " + ",".join(_SPEC_FIELDS)) from None


def serialize(cluster: Cluster) -> str:
    """Write a cluster in the text format; parse() of the result gives the same cluster."""
    sections = [
        [_group_line(group) for group in cluster.groups],
        [_node_line(node) for node in cluster.nodes],
        [_instance_line(instance) for instance in cluster.instances],
        list(cluster.tags),
        [_policy_line("", cluster.policy)] + [_policy_line(g.name, g.policy) for g in cluster.groups],
    ]
    return "\n".join("".join(line + "\n" for line in section) for section in sections)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _yes(value: bool) -> str:
    return "Y" if value else "N"


def _group_line(g: Group) -> str:
    return "|".join((g.name, g.uuid, g.alloc_policy.value, ",".join(g.tags), ",".join(g.networks)))


def _node_line(n: Node) -> str:
    sizes = (n.total_memory, n.node_memory, n.free_memory, n.total_disk, n.free_disk, n.total_cpus)
    flag = "Y" if n.offline else "M" if n.master else "N"
    rest = (str(n.spindles), ",".join(n.tags), _yes(n.exclusive_storage), str(n.free_spindles), str(n.node_cpus))
    return "|".join((n.name, *(_number(size) for size in sizes), flag, n.group, *rest, repr(float(n.cpu_speed))))


def _instance_line(i: Instance) -> str:
    spindles = "-" if i.spindles is None else str(i.spindles)
    sizes = (str(i.memory), str(i.disk), str(i.vcpus))
    where = (i.primary, i.secondary, i.template, ",".join(i.tags), str(i.spindle_use), spindles, _yes(i.forthcoming))
    return "|".join((i.name, *sizes, i.status, _yes(i.auto_balance), *where))


def _policy_line(owner: str, p: Policy) -> str:
    bounds = ";".join(_spec_text(spec) for pair in p.bounds for spec in pair)
    ratios = [repr(float(p.vcpu_ratio)), repr(float(p.spindle_ratio))]
    if p.memory_ratio != 1.0:
        # Only later releases of Ganeti know this field, so it is written only where it says something.
        ratios.append(repr(float(p.memory_ratio)))
    return "|".join((owner, _spec_text(p.std), bounds, ",".join(p.templates), *ratios))


def _spec_text(s: Spec) -> str:
    return ",".join(str(n) for n in (s.memory, s.vcpus, s.disk_size, s.disk_count, s.nic_count, s.spindle_use))
