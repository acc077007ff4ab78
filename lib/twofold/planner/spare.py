# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether nodes can be spared for a while: everything that they hold a copy of has to be whole."""

from __future__ import annotations

from collections.abc import Collection

from ..findings import ERROR, Finding
from . import copies, proof, replicated
from .context import Context


def is_healthy(context: Context, nodes: Collection[str] | None = None) -> bool:
    """Whether every node answers and every instance (with a copy on one of `nodes`) is whole; findings if not."""
    before = len(context.findings)
    for name in context.observed.unknown:
        if name in context.desired.nodes and context.desired.nodes[name].state != "offline":
            _unknown(context, name)
    for name in sorted(context.observed.names()):
        trace = context.observed.trace(name)
        base = trace.newest or {"nodes": (), "disk_template": None}
        if base["disk_template"] != "drbd" or (nodes is not None and not set(nodes) & set(base["nodes"])):
            continue
        if not copies.whole(trace, base["nodes"]):
            message = replicated.not_in_sync(trace, base["nodes"]) or "its copies are not whole"
            context.error("not-replicated", name, message, "run site.yml, wait until both copies are UpToDate")
    return len(context.findings) == before


def _unknown(context: Context, name: str) -> None:
    view, gone = context.observed.views.get(name), f"recover.yml, then evacuate.yml -e node={name}"
    if view is None:
        message = "nothing is known of it, so no other node is taken away"
        remedy = f"bring it back; if it is dead, {gone}"
        context.findings.append(Finding(ERROR, "node-unknown", f"node {name}", message, remedy))
    else:
        message = f"it {proof.incomplete(view)}, so no other node is taken away"
        remedy = f"mend there what its problems name; if that cannot be, {proof.switch_off(name)}, then {gone}"
        remedy = proof.incomplete_remedy(view, remedy)
        context.findings.append(Finding(ERROR, "node-incomplete", f"node {name}", message, remedy))
