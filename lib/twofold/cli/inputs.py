# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the options name: files that are read, and settings of the engine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..placement import literals
from ..placement.errors import DataError, RequestError
from ..placement.greedy import Limits
from ..placement.model import Cluster
from ..placement.redundancy import Level
from ..placement.scan import Rules
from ..placement.simulate import simulate
from ..placement.state import BuildOptions, State
from ..placement.textformat import parse, serialize

if TYPE_CHECKING:
    from ..placement.affinity import Book
    from ..placement.affinity import Rules as InstanceRules


def names(text: str | None) -> tuple[str, ...]:
    """The names of a list parted by commas."""
    return tuple(name for name in (text or "").split(",") if name)


def read(path: str) -> str:
    """The text of a file; - is standard input."""
    content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    try:
        return content.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise DataError(path, None, "file", f"{error.reason} at byte {error.start}; expected UTF-8 text") from None


def build(options: argparse.Namespace) -> BuildOptions:
    """How to look at the cluster."""
    return BuildOptions(
        exclusion_tags=names(options.exclusion_tags),
        utilisation=utilisation(options.util) if options.util else {},
        ignore_utilisation=options.ignore_dynu,
        offline=tuple(options.offline),
        min_disk=options.min_disk,
        max_cpu=options.max_cpu,
        selected=names(getattr(options, "select_instances", "")),
        excluded=names(getattr(options, "exclude_instances", "")),
    )


def utilisation(path: str) -> dict[str, tuple[float, float, float, float]]:
    """The measured load of instances, from a file."""
    result: dict[str, tuple[float, float, float, float]] = {}
    for number, line in enumerate(read(path).splitlines(), 1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 5:
            raise DataError(path, number, "line", f"has {len(parts)} fields; expected instance cpu memory disk network")
        try:
            cpu, mem, dsk, net = (literals.number(part) for part in parts[1:])
        except ValueError:
            raise DataError(path, number, "load", f"is {' '.join(parts[1:])!r}; expected four numbers") from None
        result[parts[0]] = (cpu, mem, dsk, net)
    return result


def cluster(options: argparse.Namespace) -> Cluster:
    """The cluster that the options name: in the text format, in an iallocator message, or imagined."""
    if getattr(options, "simulate", None):
        return simulate(options.simulate)
    if getattr(options, "ialloc_src", None):
        # Few calls have one: what reads messages is loaded for those.
        from ..placement import message

        return message.parse(read(options.ialloc_src), options.ialloc_src).cluster
    return parse(read(options.text_data), options.text_data)


def save(path: str | None, kind: str, state: State) -> None:
    """Write a cluster as it is now to PATH.KIND, if there is a path, as the originals name such files."""
    if path:
        Path(f"{path}.{kind}").write_text(serialize(state.current()), encoding="utf-8")


def state(options: argparse.Namespace) -> State:
    """The cluster as the engine sees it."""
    return State(cluster(options), build(options))


def chosen(options: argparse.Namespace, state: State) -> State:
    """The node group of --group alone; the whole cluster without that option."""
    return state.subset(state.group_number(options.group)) if options.group else state


def one_group(options: argparse.Namespace, state: State) -> State:
    """The node group to work on: the only one, or the one asked for."""
    if options.group:
        return chosen(options, state)
    groups = state.cluster.groups
    used = sorted(set(state.nodes.group.tolist()))
    if len(used) > 1:
        names = ", ".join(groups[g].name for g in used)
        raise RequestError(f"the cluster has several node groups; choose one with --group: {names}")
    return state.subset(used[0]) if used else state


def rules(options: argparse.Namespace) -> Rules:
    """Which moves may be made."""
    return Rules(
        disk_moves=not options.no_disk_moves,
        instance_moves=not options.no_instance_moves,
        restricted=options.restricted_migration,
        ignore_soft=options.ignore_soft_errors,
        evacuate=options.evac_mode,
    )


def limits(options: argparse.Namespace) -> Limits:
    """When balancing stops."""
    most = None if options.max_length < 0 else options.max_length
    return Limits(most, options.min_score, options.min_gain, options.min_gain_limit)


def book(options: argparse.Namespace, state: State) -> Book | None:
    """The rules of instances; None without a file of them."""
    rules, weights = instance_rules(options, state.inst.names)
    if not options.rules:
        return None
    # Most calls have no rules: what reads them is loaded for those that have.
    from ..placement.affinity import Book

    return Book(state, rules, weights)


def instance_rules(
    options: argparse.Namespace, known: Collection[str]
) -> tuple[dict[str, InstanceRules], dict[str, float]]:
    """The rules of instances, of which these are known, and what breaking wishes costs, by label."""
    if not options.rules:
        if options.weight:
            raise RequestError("--weight is about the wishes of --rules, which is missing")
        return {}, {}
    return _rules_of(options.rules, known), dict(_weight(one) for one in options.weight)


def survive(options: argparse.Namespace) -> Level:
    """Which losses must be survived."""
    return Level(options.survive or Level.NODE.value)


def own_method(options: argparse.Namespace, other: str, *, implied: bool) -> bool:
    """Whether a verb goes about it in its own way, or as the other program; what only the own way knows implies it."""
    if options.method == other and implied:
        raise RequestError(f"--method {other} knows neither --rules nor --survive")
    return bool(options.method == "twofold" or implied)


def _weight(text: str) -> tuple[str, float]:
    label, _equals, number = text.partition("=")
    try:
        value = literals.number(number)
    except ValueError:
        value = -1.0
    if not label or value < 0:
        raise DataError("--weight", None, "weight", f"is {text!r}; expected LABEL=NUMBER, as web=0.5")
    return label, value


def _rules_of(path: str, names: Collection[str]) -> dict[str, InstanceRules]:
    from ..placement.affinity import Rules as InstanceRules

    data = literals.document(read(path), path, "an object: instance to its rules")
    if not isinstance(data, dict):
        raise DataError(path, None, "rules", "expected an object: instance to its rules")
    known = set(InstanceRules.__dataclass_fields__)
    texts = {"primary", "secondary"}
    result = {}
    for name, values in data.items():
        if name not in names:
            raise DataError(path, None, name, "expected the name of an instance of the cluster")
        if not isinstance(values, dict) or not set(values) <= known:
            raise DataError(path, None, name, f"expected an object with some of {', '.join(sorted(known))}")
        for key, value in values.items():
            good = isinstance(value, str) if key in texts else _is_list_of_strings(value)
            if not good:
                expected = "a string" if key in texts else "a list of strings"
                raise DataError(path, None, f"{name}.{key}", f"is {json.dumps(value)}; expected {expected}")
        fields: dict[str, Any] = {k: v if k in texts else tuple(v) for k, v in values.items()}
        result[name] = InstanceRules(**fields)
    return result


def _is_list_of_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
