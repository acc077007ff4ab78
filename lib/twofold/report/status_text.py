# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The status document on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..findings import Finding
from ..units import format_size
from . import screen

if TYPE_CHECKING:
    from rich.console import RenderableType

NODES = ("NODE", "STATE", "MEMORY FREE", "DISK FREE", "GUESTS", "LOAD", "UP")
INSTANCES = ("INSTANCE", "STATE", "PRIMARY", "SECONDARY", "DISKS", "REPLICATION", "MEMORY", "ADDRESS")
NONE = "-"
DAY, HOUR, MINUTE = 86400, 3600, 60


def status_text(document: dict[str, Any], width: int = 120, color: bool = False) -> str:
    """The status for a terminal of `width` characters."""
    nodes, instances = document["nodes"], document["instances"]
    running = sum(1 for instance in instances if instance["state"] == "running")
    head = f"{document['cluster']}: {len(nodes)} nodes, {len(instances)} instances, {running} running"
    parts: list[RenderableType] = [screen.heading(head), "", screen.table(NODES, [_node(node) for node in nodes])]
    if instances:
        parts += ["", screen.table(INSTANCES, [_instance(instance) for instance in instances])]
    findings = [Finding.from_json(finding) for finding in document["findings"]]
    parts += ["", *(screen.findings(findings) or ["Nothing is wrong."])]
    return screen.render(parts, width, color=color)


def _node(node: dict[str, Any]) -> Sequence[str]:
    if node["state"] == "unknown":
        return (node["name"], "unknown", *([NONE] * (len(NODES) - 2)))
    groups = sorted((node["volume_groups"] or {}).items())
    space = ", ".join(f"{_share(group['free'], group['size'])} ({name})" for name, group in groups)
    memory = node["memory"]
    free = memory["unpromised"] if memory["unpromised"] is not None else memory["available"]
    shown = NONE if free is None or memory["total"] is None else _share(free, memory["total"])
    guests = NONE if node["guests"] is None else str(node["guests"])
    load = NONE if node["load"] is None else f"{node['load']:.2f}"
    return node["name"], node["state"], shown, space or NONE, guests, load, _duration(node["uptime"])


def _share(free: int, total: int) -> str:
    return f"{format_size(free)} of {format_size(total)}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    if seconds >= DAY:
        return f"{int(seconds // DAY)}d"
    return f"{int(seconds // HOUR)}h" if seconds >= HOUR else f"{int(seconds // MINUTE)}m"


def _instance(instance: dict[str, Any]) -> Sequence[str]:
    state = instance["state"]
    wanted = instance["wanted"]
    if wanted is not None and wanted != state and state not in ("unknown", "not created"):
        state = f"{state} (wanted: {wanted})"
    memory = NONE if instance["memory"] is None else format_size(instance["memory"])
    return (
        instance["name"], state, instance["primary"] or NONE, instance["secondary"] or NONE,
        instance["disk_template"] or NONE, _replication(instance["replication"]), memory,
        ", ".join(instance["addresses"]) or NONE,
    )  # fmt: skip


def _replication(found: dict[str, Any] | None) -> str:
    if found is None:
        return NONE
    if found["connection"] == "Connected" and found["disk"] == found["peer_disk"] == "UpToDate":
        return "in sync" + (" (two primaries)" if found["two_primaries"] else "")
    done = f" {found['done']:.1f}%" if found["done"] is not None else ""
    return f"{found['connection'] or 'down'}, {found['disk'] or '?'}/{found['peer_disk'] or '?'}{done}"
