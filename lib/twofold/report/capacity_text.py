# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The capacity document on one screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..units import format_size
from . import screen

if TYPE_CHECKING:
    from rich.console import RenderableType

FLAVOURS = ("FLAVOUR", "MEMORY", "VCPUS", "DISK", "TEMPLATE", "FIT", "THEN IN THE WAY")
LOSSES = ("LOSS OF", "START ELSEWHERE", "MEMORY", "ONE COPY LEFT", "CANNOT START")
NONE = "-"
#: A line names so many instances, and counts the rest.
SHOWN = 6


def capacity_text(document: dict[str, Any], width: int = 120, color: bool = False) -> str:
    """What fits and what a loss does, for a terminal of `width` characters."""
    parts: list[RenderableType] = [screen.heading(f"{document['cluster']}: what still fits, each alone"), ""]
    flavours, online = document["flavours"], [node for node in document["nodes"] if node["state"] == "online"]
    parts.append(screen.table(FLAVOURS, map(_flavour, flavours)) if flavours else "no sizes: set twofold_flavours")
    rows = [(node["name"], *_loss(node)) for node in online]
    rows += [(f"{one['name']} ({', '.join(one['nodes'])})", *_loss(one)) for one in document["domains"]]
    parts += ["", screen.heading("what a loss would do"), "", screen.table(LOSSES, rows)]
    parts += ["", *_verdict(document, online)]
    return screen.render(parts, width, color=color)


def _flavour(flavour: dict[str, Any]) -> Sequence[str]:
    count = f"{flavour['count']} and more" if flavour["more"] else str(flavour["count"])
    why = _grouped(flavour["then"].items())
    disk = format_size(flavour["disk"]) if flavour["disk"] else NONE
    return (
        flavour["name"], format_size(flavour["memory"]), str(flavour["vcpus"]), disk, flavour["disk_template"], count,
        why or NONE,
    )  # fmt: skip


def _loss(found: dict[str, Any]) -> Sequence[str]:
    hurt = _grouped((one["instance"], one["reason"]) for one in found["hurt"])
    memory = format_size(found["memory"]) if found["memory"] else NONE
    return _names(found["restarted"]), memory, _names(found["degraded"]), hurt or NONE


def _grouped(pairs: Iterable[tuple[str, str]]) -> str:
    """Names with their reasons, each reason once."""
    found: dict[str, list[str]] = {}
    for name, reason in pairs:
        found.setdefault(reason, []).append(name)
    return "; ".join(f"{_names(names)}: {reason}" for reason, names in found.items())


def _names(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more if found else NONE


def _verdict(document: dict[str, Any], online: list[dict[str, Any]]) -> list[str]:
    away = [node for node in document["nodes"] if node["state"] != "online"]
    lines = [f"{node['name']} is {node['state']}: it takes nothing, and what it has counts as lost" for node in away]
    if not online:
        return [*lines, "No node is online."]
    if bad := [node["name"] for node in online if node["hurt"]]:
        return [*lines, f"Not survived without loss: that of {', '.join(bad)}."]
    return [*lines, "The loss of any one node is survived: all of its instances start elsewhere."]
