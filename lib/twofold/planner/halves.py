# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an interrupted live migration left on the node to which the guest was to move: its half, paused.

It waits there until libvirt has ended the source's (`Migration.waits` in the modules), so it has never run. If the
source's domain is gone this half is the guest, and goes on. Else the source may have gone on, and what this half has in
memory is older than the disks: it is ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..observed import Trace
from . import document as plan
from .context import Chain

INTERRUPTED = "its migration was interrupted"
# What libvirt calls "paused (post-copy failed)" at the source, and "running (post-copy failed)" at the target.
POSTCOPY_FAILED = "postcopy-failed"


def waiting(trace: Trace, node: str) -> bool:
    """Whether a half waits on a node to which the guest may have been about to move, or what looks like one."""
    base, domain = trace.newest, trace.domains.get(node)
    if base is None or domain is None or node not in (*base["nodes"][1:], base.get("moving_to")):
        return False
    return domain.state == "paused" and not domain.migrating


def torn(trace: Trace) -> list[str]:
    """The nodes where a guest is whose post-copy migration lost its connection.

    What it has in memory is on both nodes then, and it has run on the second one: neither can go on without the other.
    libvirt could resume it, but the target's libvirtd 11.3 (Debian 13) crashes when it is asked to, with TLS.
    """
    return [node for node in sorted(trace.domains) if trace.domains[node].state == POSTCOPY_FAILED]


def stale(trace: Trace) -> tuple[str, ...]:
    """The nodes with a half while the source's domain is there: it runs, or is off and may have run on."""
    base = trace.newest
    moving = any(domain.migrating for domain in trace.domains.values())
    if base is None or moving or torn(trace) or base["nodes"][0] not in trace.domains:
        return ()
    uuid = trace.domains[base["nodes"][0]].uuid
    return tuple(node for node in sorted(trace.domains) if waiting(trace, node) and trace.domains[node].uuid == uuid)


def may_go_on(trace: Trace, node: str) -> bool:
    """Whether what is paused here is all there is of a guest: the source, or the half that the source has let go.

    In both cases the disks have to be the same on both nodes. A source that has come back as another machine has no
    definition; of what it had run nobody knows then.
    """
    base, resource = trace.newest, trace.resources.get(node)
    if base is None:
        return False
    source, others = base["nodes"][0], [other for other in trace.domains if other != node]
    let_go = source in trace.definitions and not others
    connected = resource is not None and resource.connected and resource.all_disks("UpToDate")
    return let_go and (connected or base["disk_template"] != "drbd")


def end(chain: Chain, trace: Trace, nodes: Iterable[str]) -> Trace:
    """Add the steps that end the halves on these nodes; what is there of the instance then.

    The source's domain has to be there still when they run; nobody asks a source that is proven dead.
    """
    ended, broken = tuple(nodes), torn(trace)
    if not ended or trace.newest is None:
        return trace
    source, args, after = trace.newest["nodes"][0], {"name": trace.name}, []
    if source in trace.domains:
        after = [chain.add(source, "domain.present", args, kind=plan.MOVE, why="it has not moved meanwhile")]
    for node in ended:
        why = f"its migration from {source} was interrupted, and what waits on {node} has never run"
        if node in broken:
            why = f"its post-copy migration lost its connection, so what it has in memory on {node} is not whole"
        risk = f"what it has in memory on {node} is given up; its disks stay as they are"
        chain.add(node, "domain.discard", args, kind=plan.MOVE, why=why, risk=risk, after=after)
    return replace(trace, domains={node: one for node, one in trace.domains.items() if node not in ended})
