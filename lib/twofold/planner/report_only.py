# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the planner sees and says, but does not touch in this version."""

from __future__ import annotations

from typing import Any

from ..model import Instance
from ..observed import Trace
from ..units import format_size
from . import document as plan
from . import placed, twins, volumes
from .context import Chain, Context
from .situation import Situation

SMALLER = "a disk is never made smaller: set the size that it has, or make a new instance and copy the data"
NOT_YET = "this version does not change it; put the old value back, or make the instance anew"


def inventory(context: Context, wanted: Instance, document: dict[str, Any], situation: Situation) -> None:
    """Report what the inventory asks for that an existing instance does not get."""
    base = situation.base
    if base is None:
        return
    if wanted.disk_template != base["disk_template"]:
        message = f"it has the disk template {base['disk_template']}, the inventory says {wanted.disk_template}"
        context.warning("disk-template-differs", wanted.name, message, NOT_YET)
    elif len(wanted.disks) != len(base["disks"]):
        message = f"it has {len(base['disks'])} disks, the inventory says {len(wanted.disks)}"
        context.warning("disks-differ", wanted.name, message, NOT_YET)
    else:
        for disk, asked in zip(base["disks"], wanted.disks, strict=True):
            if disk["size"] > asked.size:
                is_, should = format_size(disk["size"]), format_size(asked.size)
                message = f"disk {disk['index']} has {is_}, the inventory says {should}"
                context.warning("disk-size-differs", wanted.name, message, SMALLER)
    if wanted.nodes and not set(wanted.nodes) <= set(situation.nodes):
        message = f"it lives on {', '.join(situation.nodes)}, twofold_nodes says {', '.join(wanted.nodes)}"
        remedy = "migrate it, if that is possible; twofold_nodes only decides where an instance is made"
        context.info("placement-differs", wanted.name, message, remedy)
    placed.check(context, wanted, situation)
    if document["os"] != wanted.os:
        message = f"it was made from {document['os']}, twofold_os says {wanted.os}"
        context.info("os-differs", wanted.name, message, "twofold_os only matters when an instance is made")


def left_over_volumes(
    context: Context, chain: Chain, trace: Trace, situation: Situation, document: dict[str, Any]
) -> None:
    """Copies of a plain instance's disks that an interrupted move left on another node.

    Volumes go only while the guest runs on its own disks: then what is left over is not the last copy.
    """
    if document["disk_template"] == "drbd":
        return
    others = sorted((set(trace.volumes) | set(trace.definitions) | set(trace.seeds)) - set(situation.nodes))
    domain = trace.domains.get(situation.primary)
    volumes.report_unclaimed(context, trace, others)
    for node in twins.left_by(context, trace, others, situation.nodes):
        if volumes.removable(trace, node) and not (domain and domain.active):
            message = f"{node} holds something of it, but it lives on {', '.join(situation.nodes)}"
            remedy = "start it and run this again, or remove what is left over by hand"
            context.warning("left-over", document["name"], message, remedy)
            continue
        clean_up(chain, trace, node, f"left over from a move: it runs on {situation.primary}")


def clean_up(
    chain: Chain, trace: Trace, node: str, why: str, after: tuple[str, ...] = (), *, generation: int | None = None
) -> None:
    """Remove what a node holds of an instance that lives elsewhere; `generation`: its definition's by then."""
    name, args = chain.instance, dict[str, Any]()
    expected = generation or trace.generation(node)
    if node in trace.resources:
        chain.add(node, "replication.remove", {"resource": name}, kind=plan.DESTROY, why=why, after=after)
    if found := volumes.removable(trace, node):
        # A volume without its owner's tags is left alone; the definition there still claims it.
        if bare := [volume for volume in volumes.bare(trace, node) if volume in found]:
            args = volumes.tag_args(name, bare)
            chain.add(node, "volumes.tag", args, why="somebody removed the tags of its volumes", after=after)
        listed = [{"volume_group": volume.volume_group, "name": volume.name} for volume in found]
        # Who wrote another one meanwhile needs them.
        args = {"instance": name, "volumes": listed, "expect_generation": expected}
        risk = "the copy of the disks on this node is removed"
        chain.add(node, "volumes.remove", args, kind=plan.DESTROY, why=why, risk=risk, after=after)
    if node in trace.seeds:
        chain.add(node, "seed.remove", {"name": name}, why=why, after=after)
    if node in trace.definitions:
        args = {"name": name, "expect_generation": expected}
        chain.add(node, "definition.remove", args, why=why, after=after)
