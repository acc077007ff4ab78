# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Room: promised memory, volume groups, and what the loss of a node would do."""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import Finding
from ..units import format_size
from .seen import Seen, warning

# The part of a volume group that should stay free.
FREE = 0.1


def findings(seen: Seen) -> Iterator[Finding]:
    """Where room runs out."""
    for view in seen.observed.all_known:
        if view.name not in seen.desired.nodes:
            continue
        free = seen.claims.memory_free(view.name)
        if free < 0:
            message = f"{format_size(-free)} more memory is promised to guests than it has besides its own"
            remedy = "move guests away, make them smaller, or lower twofold_reserved_memory"
            yield warning("memory-overcommitted", f"node {view.name}", message, remedy)
        yield from _space(seen, view.name)


def _space(seen: Seen, node: str) -> Iterator[Finding]:
    name = seen.desired.nodes[node].volume_group
    view = seen.observed.known(node)
    group = view.volume_group(name) if view is not None else None
    if group is not None and group["free"] < group["size"] * FREE:
        share = 100 * group["free"] / max(group["size"], 1)
        message = f"the volume group {name} is nearly full: {format_size(group['free'])} free, {share:.0f}%"
        yield warning("volume-group-full", f"node {node}", message, "add a disk to it, or move instances away")
