# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Definitions: whole, of the newest generation, and the same on every node of an instance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..definition import same
from ..findings import Finding
from ..observed import Trace
from .seen import Seen, error, warning

# Templates that keep an instance on one node. With another number for drbd a definition counts as damaged.
ALONE = ("plain", "diskless")
FIX = "run site.yml, or verify with -e fix=true"


def findings(seen: Seen) -> Iterator[Finding]:
    """What is wrong with the definitions."""
    for trace, base in seen.settled:
        yield from _layout(trace, base)
        for node in base["nodes"]:
            if seen.observed.known(node) is not None:
                yield from _copy(trace, base, node)


def _layout(trace: Trace, base: dict[str, Any]) -> Iterator[Finding]:
    if base["disk_template"] in ALONE and len(base["nodes"]) != 1:
        message = f"it has the disk template {base['disk_template']} and the nodes {', '.join(base['nodes'])}"
        remedy = "that template has one node; see what was interrupted, and repeat it"
        yield error("definition-layout", f"instance {trace.name}", message, remedy)


def _copy(trace: Trace, base: dict[str, Any], node: str) -> Iterator[Finding]:
    target, there = f"instance {trace.name}", trace.definitions.get(node)
    newest = int(base["generation"])
    if there is None:
        yield warning("definition-missing", target, f"its definition is missing on {node}", FIX)
    elif int(there["generation"]) < newest:
        message = f"its definition on {node} is of generation {there['generation']}, the newest is {newest}"
        message += f"; it differs in {', '.join(_differing(there, base)) or 'nothing else'}"
        yield warning("definition-outdated", target, message, FIX)
    elif not same(there, base):
        differing = ", ".join(_differing(there, base))
        message = f"its definitions of generation {newest} differ between its nodes in {differing}"
        yield error("definition-conflict", target, message, FIX)


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return sorted(key for key in one.keys() | other.keys() if key != "generation" and one.get(key) != other.get(key))
