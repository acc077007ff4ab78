# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starting guests: in which order, and how many at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import volumes
from .context import Context


def ordered(context: Context, names: Iterable[str]) -> list[str]:
    """Instances in their start order: the highest `twofold_priority` first, then by name."""
    instances = context.desired.instances

    def priority(name: str) -> int:
        wanted, base = instances.get(name), context.observed.trace(name).newest or {}
        return wanted.priority if wanted is not None else int(base.get("priority") or 0)

    return sorted(names, key=lambda name: (-priority(name), name))


def start_args(context: Context, document: dict[str, Any], node: str) -> dict[str, Any]:
    """The arguments of `domain.start`; a node that was given enough guests at once waits before the next."""
    name, cluster = document["name"], context.desired.cluster
    args: dict[str, Any] = {
        "name": name,
        "resource": name if document["disk_template"] == "drbd" else None,
        "volumes": [
            {"volume_group": volume.volume_group, "name": volume.name}
            for volume in volumes.wanted(document, node)
            if volume.role == "data"
        ],
    }
    before = context.starts[node]
    context.starts[node] += 1
    if before and before % cluster.starts_at_once == 0 and cluster.start_delay:
        args["delay"] = cluster.start_delay
    return args
