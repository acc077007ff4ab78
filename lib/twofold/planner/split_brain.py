# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Split brain: both copies were written while apart. Found here, never resolved here."""

from __future__ import annotations

from ..model import Instance
from ..observed import Resource, ResourceVolume, Trace
from .context import Context

REMEDY = (
    "decide by hand whose data goes: keep a copy of it, then on that node 'drbdadm secondary NAME' and "
    "'drbdadm connect --discard-my-data NAME', and on the other 'drbdadm connect NAME'"
)
PRIMARY_BIT = 1


def found(context: Context, instance: Instance, trace: Trace) -> bool:
    """Whether the copies of an instance refuse each other; a finding says so."""
    pair = (trace.newest or {}).get("nodes", ())
    resources = {node: resource for node, resource in trace.resources.items() if node in pair}
    apart = {node: r for node, r in resources.items() if r.up and r.connection == "StandAlone"}
    if not apart:
        return False
    verdict = _verdict(list(resources.values()))
    if verdict is False:
        return False
    where = ", ".join(sorted(apart))
    remedy = REMEDY.replace("NAME", instance.name)
    if verdict:
        message = f"split brain: both copies were written while apart (DRBD is StandAlone on {where})"
        context.error("split-brain", instance.name, message, remedy)
    else:
        message = f"DRBD is StandAlone on {where}: split brain, or it was disconnected by hand"
        remedy = f"'drbdadm connect {instance.name}' there, if it was disconnected by hand; else {remedy}"
        context.error("stand-alone", instance.name, message, remedy)
    return True


def _verdict(resources: list[Resource]) -> bool | None:
    """True: split brain; False: the copies have a common history; None: the nodes did not tell."""
    if len(resources) != 2:
        return None
    pairs = [
        (volume, other)
        for volume in resources[0].volumes
        for other in resources[1].volumes
        if volume.volume == other.volume
    ]
    verdicts = [_volumes(volume, other) for volume, other in pairs]
    if True in verdicts:
        return True
    return None if None in verdicts or not verdicts else False


def _volumes(one: ResourceVolume, other: ResourceVolume) -> bool | None:
    """DRBD's own rule: one's current identifier has to be the other's current one or a former one."""
    if not one.uuids or not other.uuids:
        return None
    mine, theirs = _identifiers(one.uuids), _identifiers(other.uuids)
    if mine[0] == theirs[0]:
        return False
    return theirs[0] not in mine[1:] and mine[0] not in theirs[1:]


def _identifiers(text: str) -> list[int]:
    """The current, the bitmap's and the former identifiers; the lowest bit only says Primary."""
    values = [int(part, 16) & ~PRIMARY_BIT for part in text.split(":")[:4]]
    return [values[0], *(value for value in values[1:] if value)]
