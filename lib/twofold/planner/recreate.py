# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lost disks: filled again from the copy that is left, or new and empty if none is; and installing an OS anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .. import definition
from ..model import Instance
from ..observed import Trace
from . import copies, named, put_back, report_only, volumes
from . import document as plan
from .context import Chain, Context
from .converge import Converge, wanted_definition
from .definitions import write_definitions
from .replace import Replacement, Together
from .situation import Situation
from .situation import of as situation_of
from .volumes import SYNC

GONE = (None, "Diskless", "Failed")
# In the details of a plan after which the rest can be planned: the playbook plans again.
AGAIN = "again"


def instance(context: Context, name: str, confirm: str | None) -> None:
    """Add the steps that make the lost disks of an instance anew."""
    found = situation_of(context, name)
    if found is None:
        return
    wanted, trace, situation = found
    base = situation.base or {}
    if volumes.report_moved(context, base, situation.nodes):
        return
    lost = _lost(base, trace, situation.nodes)
    hit = [node for node in situation.nodes if lost[node]]
    former = _from_before(base, trace, situation.nodes)
    if former is not None:
        _go_back(context, wanted, trace, former, word=confirm)
    elif not hit:
        context.info("nothing-lost", name, "none of its disks is lost")
    elif len(hit) == 1 and len(situation.nodes) == 2:
        side = situation.nodes.index(hit[0])
        if _in_doubt(trace, situation.nodes[1 - side], hit[0]):
            _declare_last(context, wanted, trace, situation.nodes[1 - side], lost=hit[0], word=confirm)
        else:
            Replacement(context, wanted, trace, situation, Together(context)).fresh(side)
    elif _none_set_aside(context, trace, situation.nodes) and _all_lost(context, name, base, lost):
        if let_go := _let_go(base, trace, situation.nodes):
            _attach(context, wanted, trace, let_go, confirm)
        elif _nothing_left(context, base, trace, situation.nodes):
            _empty(context, wanted, trace, situation, confirm)


def _lost(base: dict[str, Any], trace: Trace, nodes: Sequence[str]) -> dict[str, set[int]]:
    """The lost disks of each node. Where the other node's are not there, those that it was to fill count as well."""
    lost = {node: lost_disks(base, trace, node) for node in nodes}
    for node in nodes:
        if any(volumes.missing(base, trace, other) for other in nodes if other != node):
            lost[node] |= _unfilled(base, trace, node)
    return lost


def _unfilled(base: dict[str, Any], trace: Trace, node: str) -> set[int]:
    """The disks of a node that were never whole, as DRBD says; nothing if it is down."""
    resource, there = trace.resources.get(node), trace.volumes.get(node, {})
    marked = {one.disk for one in volumes.wanted(base, node) if one.key in there and SYNC in there[one.key].pending}
    known = resource.volumes if resource is not None and resource.up else ()
    return {volume.volume for volume in known if volume.disk == "Inconsistent"} & marked


def _from_before(base: dict[str, Any], trace: Trace, nodes: Sequence[str]) -> str | None:
    """The node that set its copy aside for one that nobody can fill: of the other node's disks nothing is there."""
    for node, other in zip(nodes, reversed(nodes), strict=True) if len(nodes) == 2 else ():
        gone = volumes.missing(base, trace, other) == list(volumes.wanted(base, other))
        if gone and put_back.possible(trace, node) and not copies.left(trace, node):
            return node
    return None


def _in_doubt(trace: Trace, node: str, lost: str) -> bool:
    """Whether a copy, which alone is left, may lack what was written last: nobody will ever tell it."""
    apart = not any(one.connected for one in trace.resources.values())
    doubt = apart and copies.left(trace, node) and not copies.good(trace, node)
    # It cannot know yet that the other node went on alone.
    return doubt or copies.refused(trace, lost, node)


def _declare_last(context: Context, wanted: Instance, trace: Trace, node: str, *, lost: str, word: str | None) -> None:
    """Go on with the copy that is left; the lost one is filled from it afterwards."""
    risk = f"what was written last may have been on {lost} alone, and is given up"
    if not named.confirmed(context, wanted.name, word, f"the copy on {node} is the only one left; {risk}"):
        return
    chain = Chain(context, wanted.name)
    _switch_off(chain, wanted, trace, lost)
    _declare(chain, context, wanted, trace, node, lost=lost, risk=risk)


def _declare(
    chain: Chain, context: Context, wanted: Instance, trace: Trace, node: str, *, lost: str, risk: str
) -> None:
    """The copy on a node is the last state from now on; the other node is Primary no more before."""
    settings, why = copies.settings(trace, wanted.replication.timeout), f"{lost} answers, and its copy is lost"
    args = {**settings, "peer": lost, "proof": why, "stale": True}
    after = chain.last_on(lost)
    chain.add(node, "replication.take_over", args, kind=plan.REPLACE, why=why, risk=risk, after=after)
    chain.add(node, "replication.demote", settings, kind=plan.REPLACE, why="nothing uses it yet")
    context.change(wanted.name, "declare the last copy", chain.nodes, f"{why}; it is made anew after that")
    context.details[AGAIN] = True


def _go_back(context: Context, wanted: Instance, trace: Trace, node: str, *, word: str | None) -> None:
    """Go on with what a replacement set aside on a node; the other one is filled from it afterwards."""
    if not put_back.unfilled(trace, node):
        chain, why = Chain(context, wanted.name), f"see whether the new copy on {node} was filled"
        copies.configure(chain, trace.newest or {}, node, why)
        context.change(wanted.name, "bring up", (node,), why)
        context.details[AGAIN] = True
        return
    lost = next(one for one in (trace.newest or {})["nodes"] if one != node)
    risk = f"what was written since, which was on {lost} alone, is given up"
    told = f"only the copy on {node} from before its replacement is left; {risk}"
    if not named.confirmed(context, wanted.name, word, told):
        return
    chain = Chain(context, wanted.name)
    _switch_off(chain, wanted, trace, lost)
    why = f"{lost} lost its disks before the new copy was filled"
    if put_back.steps(chain, wanted, trace, node, why, after=chain.last_on(lost)):
        copies.configure(chain, trace.newest or {}, node, "it is used again")
    _declare(chain, context, wanted, trace, node, lost=lost, risk=risk)


def _switch_off(chain: Chain, wanted: Instance, trace: Trace, node: str) -> None:
    """A guest whose disks are lost can do nothing but wait; where it goes on is where the copy is."""
    why, risk = "its disks are lost", "the guest, whose disks are lost, is switched off"
    _stop(chain, wanted, trace, node, timeout=0, why=why, risk=risk)
    if node in trace.domains:
        chain.add(node, "domain.undefine", {"name": wanted.name, "xml": None}, kind=plan.MOVE, why=why)
    _demote(chain, wanted, trace, node, kind=plan.REPLACE, why=why)


def lost_disks(base: dict[str, Any], trace: Trace, node: str) -> set[int]:
    """The disks whose volumes are not there, or that DRBD has let go of."""
    found = {volume.disk for volume in volumes.missing(base, trace, node)}
    resource = trace.resources.get(node)
    if resource is not None and resource.up:
        found |= {volume.volume for volume in resource.volumes if volume.disk in GONE}
    return found


def _none_set_aside(context: Context, trace: Trace, nodes: Sequence[str]) -> bool:
    """Whether no replacement has set a copy aside; a finding if one has, for it was whole then and is worth saving."""
    aside = {node for node in trace.volumes if volumes.set_aside(trace, node)}
    aside |= {node for node in copies.former(trace, nodes) if not copies.never_served(trace, node)}
    if aside:
        message = f"both nodes lost disks, but on {', '.join(sorted(aside))} is a copy from before a replacement"
        remedy = (
            f"switch the primary's node off, and failover.yml -e instance={trace.name} -e accept_stale={trace.name} "
            "goes on with that copy if it is whole; else save what it holds by hand"
        )
        context.error("partly-lost", trace.name, message, remedy)
    return not aside


def _all_lost(context: Context, name: str, base: dict[str, Any], lost: dict[str, set[int]]) -> bool:
    """Whether nothing is left of any disk; a finding if something is, for that is worth saving."""
    gone = set.intersection(*lost.values())
    left = sorted({disk["index"] for disk in base["disks"]} - gone)
    if left:
        where = "; ".join(f"{node} lost {sorted(disks)}" for node, disks in lost.items())
        message = f"both nodes lost disks ({where}), but of {left} there is still a copy"
        remedy = "save what is left by hand; then remove the instance (twofold_state: absent) and make it anew"
        context.error("partly-lost", name, message, remedy)
    return not left


def _let_go(base: dict[str, Any], trace: Trace, nodes: Sequence[str]) -> list[str]:
    """The nodes that have all disks, though DRBD has let go of them after an error: the data may be there."""
    return [node for node in nodes if not (volumes.missing(base, trace, node) or volumes.pending(trace, node, SYNC))]


def _nothing_left(context: Context, base: dict[str, Any], trace: Trace, nodes: Sequence[str]) -> bool:
    """Whether no volume is there that may hold data, be it of one disk of several; a finding names those that are."""
    found = {
        f"{volume.key} on {node}": f"on {node}: lvremove {volume.key}"
        for node in nodes
        for volume in volumes.wanted(base, node)
        if volume.role == "data" and (there := trace.volumes.get(node, {}).get(volume.key)) and not there.pending
    }
    if found:
        message = f"no node has all of its disks, but some are still there: {', '.join(found)}"
        remedy = f"save what is left by hand; what is of no use any more, remove ({'; '.join(found.values())})"
        context.error("partly-lost", trace.name, message, f"{remedy}, then run this again")
    return not found


def _attach(context: Context, wanted: Instance, trace: Trace, nodes: Sequence[str], word: str | None) -> None:
    """Take up again what DRBD has let go of, with the guest off: one in use takes nothing but what it saw last."""
    where, risk = " and ".join(nodes), "the guest, which has no disk any more, is switched off"
    told = f"DRBD has let go of its disks, which are still there on {where}: they are used again; {risk}"
    if not named.confirmed(context, wanted.name, word, told):
        return
    chain, why = Chain(context, wanted.name), "its disks are taken up again"
    for node in sorted(trace.domains):
        _stop(chain, wanted, trace, node, timeout=0, why=why, risk=risk)
    for node in sorted(trace.resources):
        _demote(chain, wanted, trace, node, kind=plan.REPLACE, why=why)
    off = list(chain.last.values())
    for node in nodes:
        copies.configure(chain, trace.newest or {}, node, why, after=off)
    context.change(wanted.name, "attach", chain.nodes, "DRBD has let go of its disks, which are there")
    context.details[AGAIN] = True


def _empty(context: Context, wanted: Instance, trace: Trace, situation: Situation, confirm: str | None) -> None:
    """New empty disks, with the OS template on the first; what is left of the old ones goes."""
    where = " and ".join(situation.nodes)
    if not named.confirmed(context, wanted.name, confirm, f"its disks are lost on {where}: it gets new, empty ones"):
        return
    chain, known = Chain(context, wanted.name), context.errors
    for node in situation.nodes:
        _shut_down(chain, wanted, trace, node)
        if node in trace.domains:
            # Without a domain an instance that is killed here counts as one whose creation was interrupted.
            args = {"name": wanted.name, "xml": None}
            chain.add(node, "domain.undefine", args, kind=plan.DESTROY, why="its disks are lost")
        _demote(chain, wanted, trace, node, kind=plan.DESTROY, why="its disks are lost")
        alone, seen = replace(trace, seeds={}, definitions={}), trace.generation(node)
        report_only.clean_up(chain, alone, node, "what is left of its lost disks", generation=seen)
    bare = replace(trace, domains={}, resources={}, volumes={})
    empty = replace(situation, undefine=(), has_data=False, reasons=("its disks were lost",))
    built = wanted_definition(context, wanted, bare, empty)
    if built is not None:
        Converge(context, wanted, bare, empty, built, chain=chain).run()
    if context.errors > known:
        context.call_off()


def _shut_down(chain: Chain, wanted: Instance, trace: Trace, node: str) -> None:
    why, risk = "its disk is written anew", "the guest is shut down, and switched off if it does not follow in time"
    _stop(chain, wanted, trace, node, timeout=wanted.shutdown_timeout, why=why, risk=risk)


def _stop(chain: Chain, wanted: Instance, trace: Trace, node: str, *, timeout: int, why: str, risk: str) -> None:
    """Stop the guest where it runs; `timeout` seconds are waited until it has shut down, 0 switches it off."""
    domain = trace.domains.get(node)
    if domain is not None and domain.active:
        args = {"name": wanted.name, "timeout": timeout, "force": True}
        chain.add(node, "domain.stop", args, kind=plan.RESTART, why=why, risk=risk)


def _demote(chain: Chain, wanted: Instance, trace: Trace, node: str, *, kind: str, why: str) -> None:
    resource = trace.resources.get(node)
    if resource is not None and resource.primary:
        args = copies.settings(trace, wanted.replication.timeout)
        chain.add(node, "replication.demote", args, kind=kind, why=why)


def reinstall(context: Context, name: str, confirm: str | None) -> None:
    """Add the steps that write the OS template over an instance's first disk."""
    found = situation_of(context, name)
    if found is None:
        return
    wanted, trace, situation = found
    base, node = situation.base or {}, situation.primary
    if volumes.report_moved(context, base, (node,)):
        return
    disk = volumes.os_disk(base, trace, node)
    if disk is None or wanted.os is None:
        context.error("nothing-to-install", name, *_why_nothing(wanted, base, node))
        return
    if not named.confirmed(context, name, confirm, f"{wanted.os} is written over its first disk: its data is lost"):
        return
    chain, known = Chain(context, name), context.errors
    if node in trace.domains:
        # A colleague may be moving it: then nothing is written over what it left behind.
        chain.add(node, "domain.present", {"name": name}, kind=plan.DESTROY, why="it has not moved meanwhile")
    _shut_down(chain, wanted, trace, node)
    volume = {"volume_group": disk.volume_group, "name": disk.name}
    risk = "all data of its first disk is lost"
    args = {"instance": name, **volume}
    if base["disk_template"] == "drbd":
        trace, situation = _say_owed(chain, trace, situation)
    first = list(chain.last.values())
    why = f"{wanted.os} is to be installed"
    chain.add(node, "volumes.owe_install", args, kind=plan.DESTROY, why=why, risk=risk, after=first)
    after = _owing(trace, node, disk.name)
    built = wanted_definition(context, wanted, after, replace(situation, has_data=False))
    if built is not None:
        Converge(context, wanted, after, situation, built, chain=chain).run()
    # Nothing is given up for an OS that cannot be written.
    if context.errors > known:
        context.call_off()


def _why_nothing(wanted: Instance, base: dict[str, Any], node: str) -> tuple[str, str]:
    """Why there is nothing to install, and what to do about it."""
    if not base["disks"]:
        return "it has no disk to install an OS to", "nothing can be installed without twofold_disks"
    if wanted.os is None:
        return "it has no OS to install", "set twofold_os"
    return f"its first disk is not on {node}", "see what verify says of it"


def _say_owed(chain: Chain, trace: Trace, situation: Situation) -> tuple[Trace, Situation]:
    """Tell both nodes that the OS is owed, once the guest is off; what they say then."""
    document = {**(situation.base or {}), definition.OWED: situation.primary}
    built, nodes = definition.Wanted(document, None, None), situation.nodes
    stopped = list(chain.last.values())
    written = write_definitions(chain, trace, built, nodes, kind=plan.DESTROY, after=stopped)
    definitions = {**trace.definitions, **dict.fromkeys(nodes, written)}
    return replace(trace, definitions=definitions), replace(situation, base=written)


def _owing(trace: Trace, node: str, disk: str) -> Trace:
    """What the nodes will say once the guest is off and its first disk waits for the OS."""
    tag = frozenset({f"twofold.pending={volumes.INSTALL}"})
    here = {
        key: replace(volume, tags=volume.tags | tag) if volume.name == disk else volume
        for key, volume in trace.volumes[node].items()
    }
    domains = {name: replace(one, state="shutoff") for name, one in trace.domains.items()}
    return replace(trace, volumes={**trace.volumes, node: here}, domains=domains)
