# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of a split brain: one side's data survives, the other side's is kept aside until somebody drops it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

from .. import definition, names
from ..model import Instance
from ..observed import WHOLE, Trace
from ..units import format_size
from . import copies, fit, named, split_brain
from . import document as plan
from .context import Chain, Context
from .definitions import write_definitions
from .starts import start_args

# A hundredth of a volume is for the records of its snapshot.
SHARE = 100


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
    resources = split_brain.pair(trace)
    judged = split_brain.verdict(list(resources.values()))
    apart = [node for node, one in resources.items() if one.up and one.connection == "StandAlone"]
    if not apart or not judged:
        message = "its copies are not in split brain, as far as their nodes tell"
        context.info("no-split-brain", name, message, "if they are apart, converge connects them")
        return
    if survivor is None or survivor not in base["nodes"]:
        message = f"whose data survives? {split_brain.sides(trace, resources)}"
        remedy = f"add -e survivor={base['nodes'][0]} or -e survivor={base['nodes'][1]}"
        context.error("no-survivor", name, message, remedy)
        return
    _resolve(context, wanted, trace, base, survivor)


def _resolve(context: Context, wanted: Instance, trace: Trace, base: dict[str, Any], survivor: str) -> None:
    victim = next(node for node in base["nodes"] if node != survivor)
    if not _can_survive(context, trace, base, survivor):
        return
    if not (_has_names(context, trace, base, victim) and _has_room(context, trace, base, victim)):
        return
    chain, name = Chain(context, wanted.name), wanted.name
    settings = copies.settings(trace, wanted.replication.timeout)
    domain, resource = trace.domains.get(victim), trace.resources[victim]
    why = f"the data of {survivor} survives"
    # By an older one the survivor might start the guest by itself as soon as they are connected.
    newest = definition.Wanted(base, None, None)
    write_definitions(chain, trace, newest, base["nodes"], kind=plan.REPLACE)
    if domain is not None and domain.active:
        args = {"name": name, "timeout": wanted.shutdown_timeout, "force": True}
        risk = "the guest on this side is shut down, and switched off if it does not follow in time"
        chain.add(victim, "domain.stop", args, kind=plan.RESTART, why=why, risk=risk)
    if resource.primary:
        chain.add(victim, "replication.demote", settings, kind=plan.REPLACE, why=why)
    kept = list(_snapshots(base, trace, victim))
    args = {"instance": name, "volumes": kept, "reason": "split-brain"}
    chain.add(victim, "volumes.keep", args, kind=plan.REPLACE, why=f"what {victim} has is kept first")
    snapshots = [{"volume_group": one["volume_group"], "name": one["snapshot"]} for one in kept]
    risk = f"what {victim} wrote while apart is given up; it stays in {', '.join(one['name'] for one in snapshots)}"
    # Everything is copied where nobody counted all that differs.
    counted = split_brain.same_start(list(split_brain.pair(trace).values()))
    anew = [] if counted else [{"volume": volume.volume} for volume in resource.volumes]
    args = {**settings, "kept": snapshots, "anew": anew}
    given_up = chain.add(victim, "replication.discard", args, kind=plan.REPLACE, why=why, risk=risk)
    joined = copies.configure(chain, base, survivor, f"connect to {victim}", after=[given_up])
    filled = copies.fill(chain, base, victim, wanted.replication.timeout, after=[joined])
    why = f"{survivor} survives, {victim} takes over its data"
    if _is_off(wanted, trace, base, victim):
        why += _start(context, chain, trace, base, filled)
    context.change(name, "resolve split brain", (survivor, victim), why)


def _can_survive(context: Context, trace: Trace, base: dict[str, Any], survivor: str) -> bool:
    """Whether every disk of the survivor is whole; a finding if not, for the other side's may be the last that is."""
    resource = trace.resources.get(survivor)
    states = {volume.volume: volume.disk for volume in resource.volumes} if resource is not None else {}
    torn = {disk["index"]: states.get(disk["index"]) for disk in base["disks"]}
    wrong = [f"disk {index} is {state or 'down'}" for index, state in torn.items() if state not in WHOLE]
    if wrong:
        message = f"the data of {survivor} cannot survive, for it is not whole: {', '.join(wrong)} there"
        remedy = f"bring that back on {survivor}, then run this again; or name the other side, if it is whole"
        context.error("no-good-copy", trace.name, message, remedy)
    return not wrong


def _is_off(wanted: Instance, trace: Trace, base: dict[str, Any], victim: str) -> bool:
    """Whether the guest should run and, once it is stopped on the losing side, does not."""
    active = {node for node, domain in trace.domains.items() if domain.active} - {victim}
    return wanted.state == base["state"] == "running" and definition.OWED not in base and not active


def _start(context: Context, chain: Chain, trace: Trace, base: dict[str, Any], filled: str) -> str:
    """Start the guest where it is at home, on the losing side once that is filled; what is to be said of it."""
    home, victim = base["nodes"][0], context.steps[filled].node
    survivor = next(node for node in base["nodes"] if node != victim)
    settings = copies.settings(trace, context.desired.instances[trace.name].replication.timeout)
    domain = trace.domains.get(home)
    problems = fit.problems(context, base, home, base["memory"])
    if domain is None or domain.uuid != base["uuid"]:
        problems.append("its domain is not defined there")
    if problems:
        return f"; it is not started on {home} ({', '.join(problems)}): mend that, then converge.yml starts it"
    if home == victim and trace.resources[survivor].primary:
        why = f"it is used on {home}"
        chain.add(survivor, "replication.demote", settings, kind=plan.REPLACE, why=why, after=[filled])
    after = [filled, *chain.last_on(survivor)] if home == victim else []
    chain.add(home, "replication.promote", settings, kind=plan.REPLACE, why="it is used here", after=after)
    args = start_args(context, base, home)
    chain.add(home, "domain.start", args, kind=plan.RESTART, why="it should run")
    return f", the guest starts on {home}"


def _has_names(context: Context, trace: Trace, base: dict[str, Any], victim: str) -> bool:
    """Whether device-mapper takes the names of the snapshots; a finding if not."""
    for one in _snapshots(base, trace, victim):
        if names.records_length(one["volume_group"], one["snapshot"]) > names.MAPPED:
            message = f"what {victim} has cannot be kept: the name {one['snapshot']} is too long for device-mapper"
            copied = f"with the guest off, copy /dev/{one['volume_group']}/{one['name']} on {victim} to somewhere else"
            remedy = f"{copied}, then run 'drbdadm connect --discard-my-data {base['name']}' there, and converge.yml"
            context.error("bad-name", base["name"], message, remedy)
            return False
    return True


def _has_room(context: Context, trace: Trace, base: dict[str, Any], victim: str) -> bool:
    """Whether the data that is given up can be kept; a finding if not."""
    there, needed = trace.volumes.get(victim, {}), dict[str, int]()
    for one in _snapshots(base, trace, victim):
        volume = there.get(f"{one['volume_group']}/{one['name']}")
        if volume is not None and f"{one['volume_group']}/{one['snapshot']}" not in there:
            # A snapshot that may have to hold every block needs some for its own records.
            size = volume.size + volume.size // SHARE
            needed[one["volume_group"]] = needed.get(one["volume_group"], 0) + size
    short = {
        group: free
        for group, size in needed.items()
        if (free := context.claims.space_free(victim, group)) is None or free < size
    }
    for group, free in short.items():
        message = f"what {victim} has is kept first, which needs {format_size(needed[group])} in volume group {group}"
        remedy = f"add a device to the group there, or free space: {format_size(max(free or 0, 0))} are free"
        context.error("no-room", base["name"], message, remedy)
    return not short


def _snapshots(base: dict[str, Any], trace: Trace, victim: str) -> Iterable[dict[str, str]]:
    """A name for each that says which generation of the data it is, so that two split brains are told apart.

    A side that is in use again after an interrupted run stays in its generation. So a snapshot that is there serves
    only if nothing was written since, nor will be; else another one is taken.
    """
    resource, there = trace.resources[victim], trace.volumes.get(victim, {})
    uuids = {volume.volume: volume.uuids or "" for volume in resource.volumes}
    for disk in base["disks"]:
        index, group = disk["index"], disk["volume_group"][victim]
        generation = uuids.get(index, "").partition(":")[0].lower()
        for number in count(1):
            name = names.kept_volume(base["name"], index, generation, number)
            held = there.get(f"{group}/{name}")
            if held is None or (held.unchanged and not resource.primary):
                yield {"volume_group": group, "name": names.data_volume(base["name"], index), "snapshot": name}
                break


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
