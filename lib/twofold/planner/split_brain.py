# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Split brain: both copies were written while apart. Shown with what each wrote; resolved by naming the survivor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import names
from ..model import Instance
from ..observed import Resource, ResourceVolume, Trace
from ..units import format_size
from . import copies, named
from . import document as plan
from .context import Chain, Context

REMEDY = (
    "resolve_split_brain.yml -e instance=NAME -e survivor=NODE keeps the data of NODE; what the other side has is "
    "kept in a snapshot"
)
PRIMARY_BIT = 1
SHORT = 12


def found(context: Context, instance: Instance, trace: Trace) -> bool:
    """Whether the copies of an instance refuse each other; a finding says so."""
    resources = _pair(trace)
    apart = {node: r for node, r in resources.items() if r.up and r.connection == "StandAlone"}
    if not apart:
        return False
    verdict = _verdict(list(resources.values()))
    if verdict is False:
        return False
    where = ", ".join(sorted(apart))
    remedy = REMEDY.replace("NAME", instance.name)
    if verdict:
        message = f"split brain: both copies were written while apart (DRBD is StandAlone on {where}); "
        context.error("split-brain", instance.name, message + _sides(trace, resources), remedy)
    else:
        message = f"DRBD is StandAlone on {where}: split brain, or it was disconnected by hand"
        remedy = f"'drbdadm connect {instance.name}' there, if it was disconnected by hand; else {remedy}"
        context.error("stand-alone", instance.name, message, remedy)
    return True


def _pair(trace: Trace) -> dict[str, Resource]:
    """The resources of the two nodes that hold the copies now."""
    nodes = (trace.newest or {}).get("nodes", ())
    return {node: resource for node, resource in trace.resources.items() if node in nodes}


def _sides(trace: Trace, resources: dict[str, Resource]) -> str:
    """What each side has written since they were parted, and what it does."""
    shown = []
    for node, resource in sorted(resources.items()):
        known = [volume.out_of_sync for volume in resource.volumes if volume.out_of_sync is not None]
        wrote = f"{node} has written {format_size(sum(known))} since" if known else f"{node}"
        domain = trace.domains.get(node)
        state = "the guest runs there" if domain is not None and domain.active else f"it is {resource.role} there"
        shown.append(f"{wrote}, {state}")
    return "; ".join(shown)


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


def resolve(context: Context, name: str, survivor: str | None) -> None:
    """Add the steps that give one side the data of the other, which the operator named."""
    known = named.existing(context, name)
    if known is None or not named.is_node(context, name, survivor):
        return
    wanted, trace = known
    base = trace.newest or {}
    unknown = [node for node in base["nodes"] if context.observed.known(node) is None]
    if unknown:
        message = f"nothing is known of {', '.join(unknown)}"
        context.error("node-unknown", name, message, "both sides are needed: bring it back and run this again")
        return
    resources = _pair(trace)
    verdict = _verdict(list(resources.values()))
    apart = [node for node, one in resources.items() if one.up and one.connection == "StandAlone"]
    if not apart or not verdict:
        message = "its copies are not in split brain, as far as their nodes tell"
        context.info("no-split-brain", name, message, "if they are apart, converge connects them")
        return
    if survivor is None or survivor not in base["nodes"]:
        message = f"whose data survives? {_sides(trace, resources)}"
        remedy = f"add -e survivor={base['nodes'][0]} or -e survivor={base['nodes'][1]}"
        context.error("no-survivor", name, message, remedy)
        return
    victim = next(node for node in base["nodes"] if node != survivor)
    _resolve(context, wanted, trace, base, survivor, victim)


def _resolve(  # noqa: PLR0917 - both sides by name
    context: Context, wanted: Instance, trace: Trace, base: dict[str, Any], survivor: str, victim: str
) -> None:
    chain, name = Chain(context, wanted.name), wanted.name
    settings = copies.settings(trace, wanted.replication.timeout)
    domain, resource = trace.domains.get(victim), trace.resources[victim]
    why = f"the data of {survivor} survives"
    if domain is not None and domain.active:
        args = {"name": name, "timeout": wanted.shutdown_timeout, "force": True}
        risk = "the guest on this side is shut down, and switched off if it does not follow in time"
        chain.add(victim, "domain.stop", args, kind=plan.RESTART, why=why, risk=risk)
    if resource.primary:
        chain.add(victim, "replication.demote", settings, kind=plan.REPLACE, why=why)
    kept = list(_snapshots(base, resource.volumes, victim))
    args = {"instance": name, "volumes": kept, "reason": "split-brain"}
    chain.add(victim, "volumes.keep", args, kind=plan.REPLACE, why=f"what {victim} has is kept first")
    snapshots = [{"volume_group": one["volume_group"], "name": one["snapshot"]} for one in kept]
    risk = f"what {victim} wrote while apart is given up; it stays in {', '.join(one['name'] for one in snapshots)}"
    given_up = chain.add(
        victim, "replication.discard", {**settings, "kept": snapshots}, kind=plan.REPLACE, why=why, risk=risk
    )
    joined = copies.configure(chain, base, survivor, f"connect to {victim}", after=[given_up])
    copies.fill(chain, base, victim, wanted.replication.timeout, after=[joined])
    why = f"{survivor} survives, {victim} takes over its data"
    context.change(name, "resolve split brain", (survivor, victim), why)


def _snapshots(base: dict[str, Any], volumes: Iterable[ResourceVolume], victim: str) -> Iterable[dict[str, str]]:
    """A name for each that says which generation of the data it is, so that two split brains are told apart."""
    uuids = {volume.volume: volume.uuids or "" for volume in volumes}
    for disk in base["disks"]:
        data = names.data_volume(base["name"], disk["index"])
        generation = uuids.get(disk["index"], "").partition(":")[0].lower()[:SHORT]
        yield {"volume_group": disk["volume_group"][victim], "name": data, "snapshot": f"{data}-kept-{generation}"}


def drop(context: Context, name: str, confirm: str | None) -> None:
    """Add the steps that remove what is kept of an instance."""
    known = named.existing(context, name)
    if known is None:
        return
    _wanted, trace = known
    kept = {node: [v for v in there.values() if v.kept] for node, there in sorted(trace.volumes.items())}
    kept = {node: found for node, found in kept.items() if found}
    if not kept:
        context.info("nothing-kept", name, "no data of it is kept")
        return
    listed = ", ".join(f"{volume.name} on {node}" for node, found in kept.items() for volume in found)
    if not named.confirmed(context, name, confirm, f"{listed} is removed, and the data in it is lost"):
        return
    chain = Chain(context, name)
    for node, found in kept.items():
        volumes = [{"volume_group": volume.volume_group, "name": volume.name} for volume in found]
        args = {"instance": name, "volumes": volumes}
        risk = "the data that was kept is lost"
        chain.add(node, "volumes.remove", args, kind=plan.DESTROY, why="it is not needed any more", risk=risk)
    context.change(name, "drop kept data", chain.nodes, listed)


def report_kept(context: Context, trace: Trace) -> None:
    """Say what is kept, until somebody has it removed."""
    for node, there in sorted(trace.volumes.items()):
        for volume in sorted(there.values(), key=lambda one: one.name):
            if volume.kept:
                message = f"{volume.name} on {node} keeps {format_size(volume.size)} of data ({volume.kept})"
                remedy = f"save what you need of it; drop_kept.yml -e instance={trace.name} removes it"
                context.info("data-kept", trace.name, message, remedy)
