# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Imagined clusters, written as "policy,count,disk,memory,cpus[,spindles[,exclusive]]", one per node group."""

from __future__ import annotations

from collections.abc import Iterable

from . import literals
from .errors import DataError
from .model import AllocPolicy, Cluster, Group, Node

_SHORT = {"p": AllocPolicy.PREFERRED, "a": AllocPolicy.LAST_RESORT, "u": AllocPolicy.UNALLOCABLE}
_UNITS = {
    "": 1.0,
    "m": 1.0,
    "g": 1024.0,
    "t": 1024.0**2,
    "M": 1e6 / 2**20,
    "G": 1e9 / 2**20,
    "T": 1e12 / 2**20,
    "MB": 1e6 / 2**20,
    "GB": 1e9 / 2**20,
    "TB": 1e12 / 2**20,
    "mib": 1.0,
    "gib": 1024.0,
    "tib": 1024.0**2,
}


def size(text: str, source: str, field: str) -> int:
    """A size in whole MiB: a number with m, g, t (binary) or M, G, T (decimal), or MiB and MB; bare is MiB.

    Raises:
        DataError: for anything else.
    """
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text[len(digits) :]
    factor = _UNITS.get(unit) or _UNITS.get(unit.lower() if unit.lower().endswith("ib") else unit)
    try:
        number = literals.number(digits)
    except ValueError:
        factor = None
    if factor is None or number < 0:
        raise DataError(source, None, field, f"is {text!r}; expected a size as 4g, 500G or 2048")
    return int(number * factor)


def simulate(specs: Iterable[str]) -> Cluster:
    """The cluster that the specifications describe; nodes are empty.

    Raises:
        DataError: for a malformed specification.
    """
    groups: list[Group] = []
    nodes: list[Node] = []
    for number, spec in enumerate(specs, 1):
        group, members = _group(number, spec)
        groups.append(group)
        nodes += members
    return Cluster(tuple(groups), tuple(nodes))


def _group(number: int, spec: str) -> tuple[Group, list[Node]]:
    source = f"--simulate {spec}"
    fields = spec.split(",")
    if not 5 <= len(fields) <= 7:
        expected = "policy,count,disk,memory,cpus[,spindles[,exclusive]]"
        raise DataError(source, None, "specification", f"has {len(fields)} fields; expected {expected}")
    policies = {**_SHORT, **{p.value: p for p in AllocPolicy}}
    if fields[0] not in policies:
        raise DataError(source, None, "policy", f"is {fields[0]!r}; expected one of {', '.join(policies)}")
    members, cpus = count(fields[1], source, "count"), count(fields[4], source, "cpus")
    disk, memory = size(fields[2], source, "disk"), size(fields[3], source, "memory")
    spindles = count(fields[5], source, "spindles") if len(fields) > 5 else 1
    if len(fields) > 6 and fields[6] not in ("True", "False"):
        raise DataError(source, None, "exclusive", f"is {fields[6]!r}; expected True or False")
    exclusive = fields[6:] == ["True"]
    group = Group(f"group-{number:02}", f"fake-uuid-{number:02}", policies[fields[0]])
    nodes = [
        Node(
            name=f"node-{number:02}-{k:03}",
            total_memory=memory,
            node_memory=0,
            free_memory=memory,
            total_disk=disk,
            free_disk=disk,
            total_cpus=cpus,
            group=group.uuid,
            master=number == 1 and k == 1,
            spindles=spindles,
            exclusive_storage=exclusive,
            free_spindles=spindles if exclusive else 0,
        )
        for k in range(1, members + 1)
    ]
    return group, nodes


def count(text: str, source: str, field: str) -> int:
    """A number of things, 0 or more.

    Raises:
        DataError: for anything else.
    """
    try:
        value = literals.whole(text)
    except ValueError:
        value = -1
    if value < 0:
        raise DataError(source, None, field, f"is {text!r}; expected a whole number")
    return value
