# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Instances: whether they run where they should, and could run on their other node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..findings import Finding
from ..observed import OFF, Trace
from .seen import Seen, error, migrating, warning


def findings(seen: Seen) -> Iterator[Finding]:
    """What is wrong with instances that exist."""
    for trace, base in seen.settled:
        yield from _state(seen, trace, base)
        yield from _bridges(seen, trace, base)
        yield from _groups(seen, trace, base)


def _state(seen: Seen, trace: Trace, base: dict[str, Any]) -> Iterator[Finding]:
    wanted = seen.desired.instances.get(trace.name)
    known = all(seen.observed.known(node) is not None for node in base["nodes"])
    if wanted is None or wanted.state != "running" or not known or migrating(trace):
        return
    if all(domain.state in OFF for domain in trace.domains.values()):
        where = ", ".join(f"{domain.state} on {node}" for node, domain in sorted(trace.domains.items()))
        message = f"it should run and does not: its domain is {where or 'not defined'}"
        yield error("should-run", f"instance {trace.name}", message, "see why it stopped, then run site.yml")


def _bridges(seen: Seen, trace: Trace, base: dict[str, Any]) -> Iterator[Finding]:
    wanted = {nic["bridge"] for nic in base["nics"]}
    for node in base["nodes"]:
        view = seen.observed.known(node)
        missing = sorted(wanted - view.bridges) if view is not None else []
        if not missing:
            continue
        here = node in trace.domains
        message = f"{node} has no bridge {', '.join(missing)}: it cannot {'start' if here else 'move'} there"
        remedy = "run bootstrap.yml, or make the bridge in the node's own network configuration"
        yield (error if here else warning)("bridge-missing", f"instance {trace.name}", message, remedy)


def _groups(seen: Seen, trace: Trace, base: dict[str, Any]) -> Iterator[Finding]:
    nodes = [seen.desired.nodes[node] for node in base["nodes"] if node in seen.desired.nodes]
    if len({node.group for node in nodes}) > 1:
        where = " and ".join(f"{node.name} ({node.group})" for node in nodes)
        message = f"its nodes are of different node groups: {where}"
        remedy = "give it a secondary of the same group, or correct twofold_group of a node"
        yield warning("groups-split", f"instance {trace.name}", message, remedy)
