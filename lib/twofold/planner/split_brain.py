# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Split brain: both copies were written while apart. Found here, and said with what each side wrote since."""

from __future__ import annotations

from ..model import Instance
from ..observed import Resource, ResourceVolume, Trace
from ..units import format_size
from . import volumes
from .context import Context

REMEDY = (
    "resolve_split_brain.yml -e instance=NAME -e survivor=NODE keeps the data of NODE; what the other side has is "
    "kept in a snapshot"
)
PRIMARY_BIT = 1
# Metadata that was never in service: what `create-md` writes, and nothing. Such a copy is filled from the other one.
NEW = (0, 4)


def found(context: Context, instance: Instance, trace: Trace) -> bool:
    """Whether the copies of an instance refuse each other; a finding says so."""
    resources = pair(trace)
    # A copy that never was whole has nothing that could contradict the other: it is just connected.
    apart = {node: r for node, r in resources.items() if r.up and r.connection == "StandAlone" and not _never_whole(r)}
    if not apart:
        return False
    judged = verdict(list(resources.values()))
    made = any(_is_being_made(context, trace, node) for node in (trace.newest or {})["nodes"])
    if judged is False or made or (judged and _ends_by_itself(trace, resources)):
        return False
    where = ", ".join(sorted(apart))
    remedy = REMEDY.replace("NAME", instance.name)
    if judged:
        message = f"split brain: both copies were written while apart (DRBD is StandAlone on {where}); "
        context.error("split-brain", instance.name, message + sides(trace, resources), remedy)
    elif silent := down(trace):
        message = f"DRBD is StandAlone on {where} and down on {', '.join(silent)}: what was written there is not known"
        context.error("stand-alone", instance.name, message, "run site.yml, which brings it up there, and once more")
    else:
        message = f"DRBD is StandAlone on {where}: split brain, or it was disconnected by hand"
        remedy = f"'drbdadm connect {instance.name}' there, if it was disconnected by hand; else {remedy}"
        context.error("stand-alone", instance.name, message, remedy)
    return True


def down(trace: Trace) -> list[str]:
    """The nodes with all disks of a copy and without its DRBD, which alone could tell what was written there."""
    base, up = trace.newest or {}, {node for node, resource in trace.resources.items() if resource.up}
    return [node for node in base["nodes"] if node not in up and not volumes.missing(base, trace, node)]


def _ends_by_itself(trace: Trace, resources: dict[str, Resource]) -> bool:
    """Whether one side has written nothing since they were parted and runs nothing: nobody's data would be given up.

    A link that breaks in a migration leaves that behind, for both sides were Primary. DRBD itself compares what was
    written when they meet again, and the side that wrote nothing follows (`render.replication.options`).
    """
    return same_start(list(resources.values())) and any(
        resource.volumes and all(volume.out_of_sync == 0 for volume in resource.volumes)
        for node, resource in resources.items()
        if not (node in trace.domains and trace.domains[node].active)
    )


def _never_whole(resource: Resource) -> bool:
    return all(volume.disk in (None, "Diskless", "Inconsistent") for volume in resource.volumes)


def _is_being_made(context: Context, trace: Trace, node: str) -> bool:
    """Whether a node answers and has nothing yet but volumes that are to be filled."""
    found = trace.volumes.get(node, {}).values()
    return context.observed.known(node) is not None and node not in trace.resources and all(v.pending for v in found)


def pair(trace: Trace) -> dict[str, Resource]:
    """The resources of the two nodes that hold the copies now."""
    nodes = (trace.newest or {}).get("nodes", ())
    return {node: resource for node, resource in trace.resources.items() if node in nodes}


def sides(trace: Trace, resources: dict[str, Resource]) -> str:
    """What each side has written since they were parted, and what it does."""
    shown = []
    for node, resource in sorted(resources.items()):
        known = [volume.out_of_sync for volume in resource.volumes if volume.out_of_sync is not None]
        wrote = f"{node} has written {format_size(sum(known))} since" if known else f"{node}"
        domain = trace.domains.get(node)
        state = "the guest runs there" if domain is not None and domain.active else f"it is {resource.role} there"
        shown.append(f"{wrote}, {state}")
    return "; ".join(shown)


def verdict(resources: list[Resource]) -> bool | None:
    """True: split brain; False: the copies have a common history; None: the nodes did not tell."""
    if len(resources) != 2:
        return None
    verdicts = [_volumes(volume, other) for volume, other in _pairs(*resources)]
    if True in verdicts:
        return True
    return None if None in verdicts or not verdicts else False


def same_start(resources: list[Resource]) -> bool:
    """Whether both sides count what they wrote from the same generation on: then DRBD copies that and nothing more.

    It is another one when a copy from before a replacement went on. What was written in between and sent to the copy
    that was being filled then, is counted by neither side; DRBD itself does not end such a split brain (its rule 100).
    """
    return all(
        one.uuids and other.uuids and _generations(one.uuids)[1] == _generations(other.uuids)[1] != 0
        for one, other in _pairs(resources[0], resources[-1])
    )


def gone_on(one: Resource, other: Resource) -> bool:
    """Whether a disk of one was written from the very state on that the other's is in: so the other's lacks that."""
    return any(
        mine.uuids and theirs.uuids and _generations(mine.uuids)[1] == _generations(theirs.uuids)[0]
        for mine, theirs in _pairs(one, other)
    )


def written_alone(resource: Resource) -> bool:
    """Whether every disk has been in use without a peer's copy since the peers were parted."""
    volumes = resource.volumes
    return bool(volumes) and all(volume.uuids and _generations(volume.uuids)[1] for volume in volumes)


def _pairs(one: Resource, other: Resource) -> list[tuple[ResourceVolume, ResourceVolume]]:
    """Each volume with the same one on the other side."""
    return [(mine, theirs) for mine in one.volumes for theirs in other.volumes if mine.volume == theirs.volume]


def _volumes(one: ResourceVolume, other: ResourceVolume) -> bool | None:
    """DRBD's own rule: one's current identifier has to be the other's current one or a former one.

    A side without its disk has not been asked yet: once attached, DRBD compares them and discards nothing by itself.
    """
    if not (one.attached and other.attached):
        return False
    if not one.uuids or not other.uuids:
        return None
    mine, theirs = _identifiers(one.uuids), _identifiers(other.uuids)
    if mine[0] == theirs[0] or not {mine[0], theirs[0]}.isdisjoint(NEW):
        return False
    return theirs[0] not in mine[1:] and mine[0] not in theirs[1:]


def _generations(text: str) -> list[int]:
    """The current, the bitmap's and two former identifiers; the lowest bit only says Primary."""
    return [int(part, 16) & ~PRIMARY_BIT for part in text.split(":")[:4]]


def _identifiers(text: str) -> list[int]:
    """The current one, and those that there are of the bitmap's and the former ones."""
    current, *others = _generations(text)
    return [current, *(value for value in others if value)]
