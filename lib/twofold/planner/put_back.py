# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Volumes that a replacement on the same node set aside go on, because the only good copy is lost for good.

They are as they were when the replacement began. Only the operator's word brings them back, and until the new copy is
whole nothing else touches them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import names
from ..model import Instance, ReplicationSettings
from ..observed import Resource, Trace
from . import copies, volumes
from . import document as plan
from .context import Chain

NO_DISK = (None, "Diskless", "Failed", "Detaching")
JUST_CREATED = 4


def possible(trace: Trace, node: str) -> bool:
    """Whether a node has the whole copy from before a replacement on it, all of its disks from the same moment.

    Each disk was set aside, was put back and nothing has been written to it since, or has not been attached since all
    were let go of together.
    """
    document, there, resource = trace.newest or {}, trace.volumes.get(node, {}), trace.resources.get(node)
    let_go = resource is not None and resource.up and all(one.disk in NO_DISK for one in resource.volumes)
    begun = False
    for one in _data(document, node):
        held = there.get(one.key)
        if one.key + volumes.ASIDE in there or (held is not None and held.former and _untouched(resource, one.disk)):
            begun = True
        elif held is None or held.pending or not let_go:
            return False
    return begun


def unfilled(trace: Trace, node: str) -> bool:
    """Whether the copy that a node has in place is certainly not whole; not so if only DRBD, which is down, knows."""
    document, there, resource = trace.newest or {}, trace.volumes.get(node, {}), trace.resources.get(node)
    if any(one.key not in there or there[one.key].pending - {volumes.SYNC} for one in volumes.wanted(document, node)):
        return True
    if resource is not None and resource.up:
        return not resource.whole
    return any(there[one.key].former for one in _data(document, node))


def helpless(trace: Trace, node: str) -> bool:
    """Whether a guest that runs on a node can neither read nor write: its copy is being replaced, the other is gone."""
    resource = trace.resources.get(node)
    alone = resource is not None and resource.primary and not resource.connected
    return alone and node in (trace.newest or {"nodes": ()})["nodes"] and goes_on(trace, node)


def goes_on(trace: Trace, node: str) -> bool:
    """Whether the copy from before is what a node can go on with, and nothing newer."""
    return unfilled(trace, node) and possible(trace, node)


def steps(
    chain: Chain, wanted: Instance | None, trace: Trace, node: str, why: str, *, after: Iterable[str] = ()
) -> bool:
    """Add the steps that put the copy from before in place, without its DRBD; whether there is anything to do."""
    document, there, resource = trace.newest or {}, trace.volumes.get(node, {}), trace.resources.get(node)
    ready = not (volumes.missing(document, trace, node) or volumes.set_aside(trace, node))
    ready = ready and all(there[one.key].former for one in _data(document, node))
    if ready and resource is not None and not resource.primary and _is_attached(document, resource):
        return False

    def add(op: str, args: dict[str, Any], why: str = why, risk: str | None = None) -> None:
        chain.add(node, op, args, kind=plan.MOVE, why=why, risk=risk, after=() if node in chain.last else after)

    domain = trace.domains.get(node)
    if domain is not None and domain.active:
        risk = "the guest, which has no disk any more, is switched off"
        add("domain.stop", {"name": trace.name, "timeout": 0, "force": True}, risk=risk)
    if resource is not None and resource.primary:
        settings = wanted.replication if wanted is not None else ReplicationSettings()
        add("replication.demote", copies.settings(trace, settings.timeout))
    if resource is not None:
        add("replication.remove", {"resource": trace.name})
    listed = [
        {"volume_group": one.volume_group, "name": one.name, "meta": names.meta_volume(trace.name, one.disk)}
        for one in _data(document, node)
    ]
    risk = "what the unfilled copy holds is removed"
    add("volumes.put_back", {"instance": trace.name, "volumes": listed}, risk=risk)
    made = volumes.create_args(document, node, install=False, sync=True, planned=wanted)
    add("volumes.create", made, "it gets new DRBD metadata")
    return True


def _data(document: dict[str, Any], node: str) -> list[volumes.WantedVolume]:
    return [one for one in volumes.wanted(document, node) if one.role == "data"]


def _is_attached(document: dict[str, Any], resource: Resource) -> bool:
    """Whether DRBD is up with all disks; a killed run may have brought it up half-way."""
    disks = {volume.volume for volume in resource.volumes if volume.disk not in NO_DISK}
    return resource.up and disks == {disk["index"] for disk in document["disks"]}


def _untouched(resource: Resource | None, disk: int) -> bool:
    """Whether no peer has begun to fill a disk that was put back, as far as its node tells: its metadata is new."""
    if resource is None or not resource.up:
        return True
    own = next((volume for volume in resource.volumes if volume.volume == disk), None)
    if own is None or own.disk in NO_DISK or not own.uuids:
        return True
    return int(own.uuids.split(":")[0], 16) == JUST_CREATED
