# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The disks of an instance that is off, made usable on its primary and let go of again."""

from __future__ import annotations

from ..model import Instance
from ..observed import Trace
from ..render.domain import disk_source
from . import copies, replicated, volumes
from .context import Chain, Context
from .situation import Situation
from .situation import of as situation_of


def activate(context: Context, name: str) -> None:
    """Add the steps after which the disks can be opened on the primary."""
    found = _off(context, name)
    if found is None:
        return
    wanted, trace, situation = found
    base, node = situation.base or {}, situation.primary
    if volumes.report_unfinished(context, base, trace, situation.nodes):
        return
    resource = trace.resources.get(node)
    if resource is not None and any(volume.disk == "Inconsistent" for volume in resource.volumes):
        message, remedy = f"its copy on {node} is not whole yet", "run site.yml, and this when its resync has ended"
        context.error("disk-not-up-to-date", name, message, remedy)
        return
    chain = Chain(context, name)
    if base["disk_template"] == "drbd":
        for one in situation.nodes:
            reasons = replicated.reasons(wanted, base, trace, one, has_data=True)
            if reasons:
                copies.configure(chain, base, one, "; ".join(reasons))
        if chain.added or resource is None or not resource.primary:
            args = copies.settings(trace, wanted.replication.timeout)
            chain.add(node, "replication.promote", args, why="its disks are used", after=tuple(chain.last.values()))
    devices = ", ".join(disk_source(base, disk, node) for disk in base["disks"]) or "none"
    context.info(
        "disks", name, f"its disks on {node}: {devices}", f"deactivate_disks.yml -e instance={name} afterwards"
    )
    if chain.added:
        context.change(name, "activate disks", chain.nodes, f"they can be opened on {node}")


def deactivate(context: Context, name: str) -> None:
    """Add the steps after which nothing can open the disks."""
    found = _off(context, name)
    if found is None:
        return
    wanted, trace, situation = found
    chain = Chain(context, name)
    for node in situation.nodes:
        resource = trace.resources.get(node)
        if resource is not None and resource.primary:
            args = copies.settings(trace, wanted.replication.timeout)
            chain.add(node, "replication.demote", args, why="its disks are not used any more")
    if chain.added:
        context.change(name, "deactivate disks", chain.nodes, "nothing is to open them")
    else:
        context.info("disks", name, "its disks are not active on any node")


def _off(context: Context, name: str) -> tuple[Instance, Trace, Situation] | None:
    """The instance, if it does not run."""
    found = situation_of(context, name)
    if found is None:
        return None
    _wanted, trace, _situation = found
    running = [node for node, domain in sorted(trace.domains.items()) if domain.active]
    if running:
        message = f"it runs on {running[0]}, its disks are in use"
        context.error("running", name, message, "set twofold_state to stopped and run converge first")
        return None
    return found
