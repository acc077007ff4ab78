# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether an instance that no node tells of is new: none is made while it may exist where nobody looks."""

from __future__ import annotations

from collections.abc import Collection

from .. import secrets
from ..model import Instance
from ..observed import Trace
from .context import Context
from .situation import silent_nodes


def may_be_made(context: Context, instance: Instance, trace: Trace, accepted: Collection[str] = ()) -> bool:
    """Whether an instance without a definition is new: nothing of it exists anywhere, and every node has said so.

    Every node, because it may have been made on any of them under an inventory that said something else, and it must
    never run twice. That a node is off, as the inventory may declare, does not tell what its disks hold; that an
    instance is not among it is `accepted` by its name.
    """
    uuid = secrets.instance_uuid(context.desired.cluster.secret, instance.name)
    foreign = sorted(node for node, domain in trace.domains.items() if domain.uuid != uuid)
    if foreign:
        where = ", ".join(foreign)
        message = f"there is a domain of this name on {where} that is not Twofold's"
        context.error("foreign-domain", instance.name, message, "rename the instance, or remove that domain")
        return False
    if trace.domains or trace.volumes or trace.resources:
        found = [f"{path} on {node}" for node, volumes in sorted(trace.volumes.items()) for path in sorted(volumes)]
        found += [f"DRBD resource on {node}" for node in sorted(trace.resources)]
        found += [f"domain on {node}" for node in sorted(trace.domains)]
        message = f"something of this name exists without a definition: {', '.join(found)}"
        remedy = "put the definition back from a backup, or remove these if their data is not needed"
        context.error("orphan", instance.name, message, remedy)
        return False
    return all_heard(context, instance.name, "it is new") and (
        instance.name in accepted or _is_not_away(context, instance)
    )


def _is_not_away(context: Context, instance: Instance) -> bool:
    """Whether the nodes that are declared offline are too few to hold all of an instance, without a trace elsewhere."""
    # Of all others something is known by now.
    away = context.observed.unknown
    if len(away) < (2 if instance.disk_template == "drbd" else 1):
        return True
    message = f"it is new, or on {' and '.join(away)} alone, declared offline: then it would be made anew, empty, and "
    remedy = (
        "bring the node back, or take it out of the inventory if it is gone for good; or, if the instance has never "
        f"been made, or what is there is given up, -e accept_new={instance.name}"
    )
    context.error("node-unknown", instance.name, f"{message}run twice when they are back", remedy)
    return False


def all_heard(context: Context, name: str, what: str) -> bool:
    """Whether no node is left on which an instance may have been made that has never run as far as is known."""
    unknown = silent_nodes(context)
    if unknown:
        message = f"{what}, but may exist already on {', '.join(unknown)}, of which nothing is known"
        remedy = "bring the node back, or set twofold_node_state to offline for it if it is off for sure"
        context.error("node-unknown", name, message, remedy)
    return not unknown
