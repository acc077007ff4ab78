# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one node's logical volumes of an instance need."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .. import names, units
from ..model import Instance
from ..observed import MARK, NodeView, Trace, Volume
from .context import Context

WIPE = "wipe"
INSTALL = "install"
SYNC = "sync"
ASIDE = "-old"


@dataclass(frozen=True)
class WantedVolume:
    """A volume that an instance has on a node. `size` in bytes."""

    volume_group: str
    name: str
    size: int
    disk: int
    role: str

    @property
    def key(self) -> str:
        """As `Trace.volumes` names it."""
        return f"{self.volume_group}/{self.name}"

    @property
    def gets_os(self) -> bool:
        """Whether it is the disk on which the OS is."""
        return (self.disk, self.role) == (0, "data")


def wanted(document: dict[str, Any], node: str, planned: Instance | None = None) -> Iterator[WantedVolume]:
    """The volumes of a definition on a node; metadata has room for the size that is planned."""
    name = document["name"]
    larger = {index: disk.size for index, disk in enumerate(planned.disks)} if planned is not None else {}
    for disk in document["disks"]:
        group, index = disk["volume_group"][node], disk["index"]
        yield WantedVolume(group, names.data_volume(name, index), disk["size"], index, "data")
        if disk["minor"] is not None:
            size = names.meta_size(max(disk["size"], larger.get(index, 0)))
            yield WantedVolume(group, names.meta_volume(name, index), size, index, "meta")


def create_args(
    document: dict[str, Any], node: str, *, install: bool, sync: bool = False, planned: Instance | None = None
) -> dict[str, Any]:
    """The arguments of `volumes.create`; with `install` disk 0 owes its OS, with `sync` the peer fills the disks."""
    volumes = []
    for volume in wanted(document, node, planned):
        pending = [SYNC] if sync and volume.role == "data" else [WIPE]
        if install and volume.gets_os:
            pending.append(INSTALL)
        volumes.append(
            {
                "volume_group": volume.volume_group, "name": volume.name, "size": volume.size, "disk": volume.disk,
                "role": volume.role, "pending": pending,
            }
        )  # fmt: skip
    return {"instance": document["name"], "volumes": volumes}


def report_moved(context: Context, document: dict[str, Any], nodes: Iterable[str]) -> bool:
    """Whether one of the nodes where an instance is found is none of its definition's; a finding if so."""
    moved = not set(nodes) <= set(document["nodes"])
    if moved:
        context.error("not-settled", document["name"], "an earlier move left something behind", "run site.yml first")
    return moved


def report_unfinished(context: Context, document: dict[str, Any], trace: Trace, nodes: Collection[str]) -> bool:
    """Whether it is elsewhere, or a volume is not there, or something is owed to it; a finding says which."""
    if report_moved(context, document, nodes):
        return True
    found = [f"{volume.name} on {node}" for node in nodes for volume in unfinished(document, trace, node)]
    if found:
        message = f"its disks are not finished: {', '.join(found)}"
        remedy = "run site.yml first, it makes what is missing or says why not"
        context.error("disks-unfinished", document["name"], message, remedy)
    return bool(found)


def unfinished(document: dict[str, Any], trace: Trace, node: str) -> list[WantedVolume]:
    """The volumes that are not there, or to which something is owed."""
    there = trace.volumes.get(node, {})
    return [one for one in wanted(document, node) if one.key not in there or there[one.key].pending]


def missing(document: dict[str, Any], trace: Trace, node: str) -> list[WantedVolume]:
    """The volumes that are not there."""
    there = trace.volumes.get(node, {})
    return [volume for volume in wanted(document, node) if volume.key not in there]


def report_vanished(context: Context, document: dict[str, Any], gone: Iterable[WantedVolume], node: str) -> None:
    """Say that volumes of a node are not there which may have held data."""
    lost = "redundancy is lost" if document["disk_template"] == "drbd" else "its data is lost"
    message = f"{lost}: {', '.join(volume.key for volume in gone)} is not on {node} any more"
    remedy = f"check the disks of {node}, then recreate_disks.yml -e instance={document['name']}"
    context.error("volume-missing", document["name"], message, remedy)


def report_lost(context: Context, name: str, node: str, other: str) -> None:
    """Say that fresh disks are not filled: who uses the instance is kept apart from the copy that is left."""
    message = (
        f"its disks on {node}, where it is in use, are lost, and DRBD does not connect {node} with the copy on "
        f"{other}, which may lack what was written last"
    )
    remedy = (
        f"'drbdadm connect {name}' on {node} and {other}, if it was disconnected by hand; else recreate_disks.yml "
        f"-e instance={name} -e confirm={name} goes on with the copy on {other}"
    )
    context.error("disk-lost", name, message, remedy)


def pending(trace: Trace, node: str, what: str) -> list[Volume]:
    """The volumes to which something is owed."""
    return [volume for volume in trace.volumes.get(node, {}).values() if what in volume.pending]


def owes(trace: Trace, node: str, disk: str) -> bool:
    """Whether the volume of a disk, or that of its metadata, still owes what it was made with."""
    there = trace.volumes.get(node, {})
    return any(part in there and there[part].pending for part in (disk, f"{disk}-meta"))


def data(trace: Trace, node: str) -> list[Volume]:
    """The volumes that hold the disks, without those of their metadata."""
    return [one for one in trace.volumes.get(node, {}).values() if not one.name.endswith("-meta")]


def unfilled(trace: Trace, node: str) -> bool:
    """Whether a node has data volumes of a copy that was never filled."""
    disks = data(trace, node)
    return bool(disks) and all(SYNC in one.pending for one in disks)


def os_disk(document: dict[str, Any], trace: Trace, node: str) -> Volume | None:
    """The disk on which the OS is, if it is there."""
    there = trace.volumes.get(node, {})
    return next((there.get(one.key) for one in wanted(document, node) if one.gets_os), None)


def os_owed(document: dict[str, Any], trace: Trace, node: str) -> bool:
    """Whether the OS that a definition says is owed on a node still is: its disk says so, or is not there.

    One that a replacement set aside tells for the fresh one, which is filled with what the other copy has.
    """
    there, held = os_disk(document, trace, node), trace.volumes.get(node, {})
    aside = next((held.get(one.key + ASIDE) for one in wanted(document, node) if one.gets_os), None)
    return any(INSTALL in one.pending for one in (there, aside) if one) or (there is None and aside is None)


def set_aside(trace: Trace, node: str) -> list[Volume]:
    """The volumes that a replacement on the same node set aside."""
    return [volume for volume in trace.volumes.get(node, {}).values() if volume.name.endswith(ASIDE)]


def bare(trace: Trace, node: str) -> list[Volume]:
    """The volumes without some tag of their owner: nobody removes them as they are."""
    owner = names.owner_tags(trace.name)
    return [one for one in trace.volumes.get(node, {}).values() if not one.tags.issuperset(owner)]


def unclaimed(trace: Trace, node: str) -> list[Volume]:
    """Those of them that the definition there does not name either: whose they are cannot be proven."""
    disks = trace.definitions.get(node, {}).get("disks", ())
    named = {(disk["volume_group"].get(node), names.data_volume(trace.name, disk["index"])) for disk in disks}
    return [one for one in bare(trace, node) if (one.volume_group, one.name.removesuffix("-meta")) not in named]


def removable(trace: Trace, node: str) -> list[Volume]:
    """The volumes that go with what the node holds of the instance; bare ones once they are tagged."""
    left = unclaimed(trace, node)
    return [one for one in trace.volumes.get(node, {}).values() if one not in left]


def report_unclaimed(context: Context, trace: Trace, nodes: Iterable[str]) -> None:
    """Name the volumes that stay because somebody removed their tags; one without any of ours is somebody else's."""
    for node in nodes:
        for volume in unclaimed(trace, node):
            if any(tag.startswith(MARK) for tag in volume.tags):
                message = (
                    f"{volume.volume_group}/{volume.name} on {node} is left alone: it lacks tags of its owner, and no "
                    "definition there names it"
                )
                remedy = f"if nobody needs it, run 'lvremove {volume.volume_group}/{volume.name}' on {node}"
                context.warning("left-over", trace.name, message, remedy)


def tag_args(name: str, found: Iterable[Volume]) -> dict[str, Any]:
    """The arguments of `volumes.tag` that put back the tags of the owner."""
    tags = names.owner_tags(name)
    listed = [{"volume_group": one.volume_group, "name": one.name, "tags": tags} for one in found]
    return {"instance": name, "volumes": listed}


def untagged(document: dict[str, Any], trace: Trace, node: str) -> list[dict[str, Any]]:
    """The volumes that lack tags, as the arguments of `volumes.tag`."""
    found = []
    for volume in wanted(document, node):
        there = trace.volumes.get(node, {}).get(volume.key)
        tags = names.volume_tags(document["name"], volume.disk, volume.role)
        if there is not None and not set(tags) <= there.tags:
            lacking = [tag for tag in tags if tag not in there.tags]
            found.append({"volume_group": volume.volume_group, "name": volume.name, "tags": lacking})
    return found


def check_sizes(context: Context, document: dict[str, Any], trace: Trace, view: NodeView) -> None:
    """Report data volumes that are smaller or larger than the definition says."""
    for volume in wanted(document, view.name):
        there = trace.volumes.get(view.name, {}).get(volume.key)
        size = units.round_up(volume.size, view.extent(volume.volume_group))
        grows = there is not None and (there.zero_from is not None or there.grown is not None)
        if volume.role == "data" and there is not None and there.size != size and not (grows and there.size > size):
            message = (
                f"{volume.name} on {view.name} has {units.format_size(there.size)}, "
                f"the definition says {units.format_size(size)}"
            )
            remedy = "somebody changed the volume's size: set the disk's size to it, or have this copy replaced"
            context.warning("volume-size", document["name"], message, remedy)
