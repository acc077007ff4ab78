# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node that does not answer is given up: which second copies on it can be made anew elsewhere, and which not yet.

What it holds is not known, so the guest has to be known: it runs on its other node with its disk Primary there, or it
is off there and the node is proven dead. Everything else is named and stops nothing.
"""

from __future__ import annotations

from typing import Any

from ..findings import ERROR, WARNING, Finding, listing
from ..model import Instance
from ..observed import Trace
from . import copies, replace
from .context import Context
from .proof import Proofs, replicating_with, witness_remedy


def losses(context: Context, name: str, instances: list[Instance], proofs: Proofs) -> tuple[list[Instance], set[str]]:
    """Of the instances those whose copy on a node can be replaced, and the nodes of which nothing needs to be known."""
    witness = replicating_with(context.observed, name)
    if witness is not None:
        message = f"it does not answer, but lives: {witness}; its copies are as good as they were"
        context.findings.append(Finding(ERROR, "node-alive", f"node {name}", message, witness_remedy(name)))
        return [], set()
    lost, off = list[Instance](), list[Instance]()
    for wanted in instances:
        trace = context.observed.trace(wanted.name)
        base = trace.newest
        if base is None or name not in base["nodes"]:
            continue
        if name in replace.dispensable(context, trace, base):
            lost.append(wanted)
        elif _is_off(trace, base, name):
            off.append(wanted)
        else:
            _refuse(context, wanted, trace, base, name)
    proven = bool(off) and proofs.of(name, [wanted.name for wanted in off]) is not None
    return [*lost, *off] if proven else lost, {name} if proven else set()


def _is_off(trace: Trace, base: dict[str, Any], name: str) -> bool:
    """Whether a replicated guest is meant to be off, and is so on its other node, where it lives with a good copy."""
    others = [node for node in base["nodes"] if node != name]
    at_home = base["state"] == "stopped" and base["disk_template"] == "drbd" and sorted(trace.domains) == others
    return at_home and not trace.domains[others[0]].active and copies.good(trace, others[0])


def _refuse(context: Context, wanted: Instance, trace: Trace, base: dict[str, Any], name: str) -> None:
    unknown = [node for node in base["nodes"] if context.observed.known(node) is None]
    known = [node for node in base["nodes"] if node not in unknown]
    active = [node for node in sorted(trace.domains) if trace.domains[node].active]
    if base["disk_template"] != "drbd" or not known:
        message = f"nothing is known of {' and '.join(unknown)}, which alone may have its disks"
        remedy = "bring a node back that has them, or restore it from a backup"
    elif active:
        message = f"it runs on {' and '.join(active)}, but not as the only one that may write to its disks"
        remedy = "see what verify says of it, mend that, then run this again"
    else:
        message = f"it runs on no node that answers, so {name} may run it"
        starts = "recover.yml" if wanted.state == "running" else f"failover.yml -e instance={wanted.name}"
        remedy = f"{starts} with the proof that {name} is dead brings it to {known[0]}; then run this again"
    context.error("node-unknown", wanted.name, message, remedy)


def remind(context: Context) -> None:
    """Say of each node that does not answer which instances have, or will have after this plan, one copy without it."""
    planned = {step.instance for step in context.steps.values()}
    for node in context.observed.unknown:
        names = [
            name
            for name in sorted(context.desired.instances)
            if (base := (trace := context.observed.trace(name)).newest) is not None
            and node in base["nodes"]
            and (name in planned or node in replace.dispensable(context, trace, base))
        ]
        if names:
            message = f"without it these have one copy of their disks: {listing(names)}"
            remedy = (
                f"bring it back, then site.yml; if it stays away, evacuate.yml -e node={node} "
                "makes the second copies of all of them on other nodes"
            )
            context.findings.append(Finding(WARNING, "redundancy-lost", f"node {node}", message, remedy))
