# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps on volumes. A volume is ours when it carries our tag and its instance's; nothing else is touched."""

from __future__ import annotations

from typing import Any, Callable

from . import _definitions
from ._clock import wait_for
from ._errors import OTHER_VERSION, Refused, TimedOut
from ._lvm import Volume, require_nothing_kept, round_up
from ._names import instance_name, volume_name
from ._node import Node
from ._steps import Args, Done, changed, step, unchanged

TAG = "twofold"
ZEROED = "twofold.zeroed"
# SYNC: a second copy that the first resync has not completed yet.
WIPE, INSTALL, METADATA, SYNC = "wipe", "install", "metadata", "sync"
PENDING = (WIPE, INSTALL, METADATA, SYNC)
# It waits to be filled, but holds the whole state from before a replacement until that begins.
FORMER = "twofold.former"


def pending_tag(what: str) -> str:
    return f"{TAG}.pending={what}"


def marks_of_unfilled() -> list[str]:
    """What a copy carries until it is whole."""
    return [pending_tag(SYNC), FORMER]


def unfilled(node: Node, instance: str) -> list[Volume]:
    """The volumes of an instance that are marked as a copy which is being filled."""
    mine = {TAG, f"{TAG}.instance={instance}"}
    return [one for one in node.volumes.volumes() if mine <= set(one.tags) and SYNC in one.pending()]


def require_ours(volume: Volume, instance: str) -> None:
    """Stops before anything is done to somebody else's volume."""
    if TAG not in volume.tags or f"{TAG}.instance={instance}" not in volume.tags:
        message = f"volume {volume.volume_group}/{volume.name} exists and is not marked as belonging to {instance}"
        raise Refused(message, f"look at its tags with 'lvs -o +tags {volume.volume_group}'; rename or remove it")


class Wanted:
    """One volume of `volumes.create`."""

    def __init__(self, args: Args, instance: str) -> None:
        self.instance = instance
        self.volume_group = volume_name(args.text("volume_group"))
        self.name = volume_name(args.text("name"))
        self.size = args.integer("size")
        self.disk = args.integer("disk")
        self.role = args.text("role")
        if self.role not in ("data", "meta"):
            raise Refused(f"volume {self.name}: role {self.role!r} is neither data nor meta", OTHER_VERSION)
        self.pending = set(args.texts("pending"))
        unknown = self.pending - set(PENDING)
        if unknown:
            raise Refused(f"volume {self.name}: nobody knows how to do {', '.join(sorted(unknown))}", OTHER_VERSION)
        if self.role == "meta":
            # Old metadata must not be taken for ours, and only a volume that is marked so gets new metadata.
            self.pending |= {WIPE, METADATA}

    def tags(self) -> list[str]:
        own = [TAG, f"{TAG}.instance={self.instance}", f"{TAG}.disk={self.disk}", f"{TAG}.role={self.role}"]
        return own + [pending_tag(one) for one in sorted(self.pending)]


@step("volumes.create")
def create(node: Node, args: Args) -> Done:
    """Makes what is missing, all of it before anything is zeroed; then zeroes the disks that are owed it.

    A metadata volume is zeroed where it gets its metadata, so that its marks go at once.
    """
    instance = instance_name(args.text("instance"))
    wanted = [Wanted(one, instance) for one in args.parts("volumes")]
    missing = [one for one in wanted if not _exists(node, one)]
    widowed = _widowed(node, wanted, missing)
    missing = [one for one in wanted if one in missing or one in widowed]
    _refuse_new_metadata(node, wanted, missing)
    _refuse_no_room(node, missing)
    disks = [one for one in wanted if one.role == "data"]
    owed = [one for one in disks if _owes_wipe(node, one) or (one in missing and WIPE in one.pending)]
    if not missing and not owed:
        return unchanged(f"{len(wanted)} volumes are there")
    if not node.check_mode:
        if widowed:
            node.volumes.remove(list(widowed.values()))
        for one in missing:
            node.volumes.create(one.volume_group, one.name, one.size, one.tags())
        _wipe(node, owed, instance)
    names = ", ".join(one.name for one in missing or owed)
    return changed(f"made {names}" if missing else f"zeroed {names}")


def _exists(node: Node, one: Wanted) -> bool:
    volume = node.volumes.find(one.volume_group, one.name)
    if volume is None:
        return False
    require_ours(volume, one.instance)
    size = round_up(one.size, node.volumes.groups()[one.volume_group].extent)
    if volume.size < size:
        message = f"volume {one.volume_group}/{one.name} has {volume.size} bytes, wanted are {size}"
        raise Refused(message, "grow the disk instead of creating it")
    return True


def _widowed(node: Node, wanted: list[Wanted], missing: list[Wanted]) -> dict[Wanted, Volume]:
    """Metadata whose data volume is gone. Beside a new one it would vouch for what is not there, so it is made anew."""
    gone = {one.disk for one in missing if one.role == "data"}
    found: dict[Wanted, Volume] = {}
    for one in wanted:
        volume = node.volumes.find(one.volume_group, one.name)
        if one.role != "meta" or one.disk not in gone or volume is None:
            continue
        if volume.open:
            raise Refused(f"{volume.path} is in use, but the disk that it is about is gone", "take DRBD down there")
        found[one] = volume
    return found


def _owes_wipe(node: Node, one: Wanted) -> bool:
    volume = node.volumes.find(one.volume_group, one.name)
    return volume is not None and WIPE in volume.pending()


def _is_empty(node: Node, one: Wanted) -> bool:
    """Whether a volume has never held a disk's data: it was never zeroed, or never filled from its peer."""
    volume = node.volumes.find(one.volume_group, one.name)
    return volume is not None and not {WIPE, SYNC}.isdisjoint(volume.pending())


def _refuse_new_metadata(node: Node, wanted: list[Wanted], missing: list[Wanted]) -> None:
    """A disk that has been in service never gets new metadata by the way: it would count as empty."""
    for meta in missing:
        if meta.role != "meta":
            continue
        for data in wanted:
            if data.role == "data" and data.disk == meta.disk and data not in missing and not _is_empty(node, data):
                message = f"{data.name} has been in service and its metadata volume {meta.name} is missing"
                raise Refused(message, "replace this copy of the disk from the other node")


def _refuse_no_room(node: Node, missing: list[Wanted]) -> None:
    groups = node.volumes.groups()
    need: dict[str, int] = {}
    for one in missing:
        if one.volume_group not in groups:
            raise Refused(f"there is no volume group {one.volume_group} on this node", "make it, or name another")
        extent = groups[one.volume_group].extent
        need[one.volume_group] = need.get(one.volume_group, 0) + round_up(one.size, extent)
    for name, size in need.items():
        if size > groups[name].free:
            message = f"volume group {name} has {groups[name].free} bytes free, needed are {size}"
            raise Refused(message, "use a smaller disk, another node, or add a device to the group")


def _wipe(node: Node, wanted: list[Wanted], instance: str) -> None:
    """Zeroes the volumes that are marked for it, then takes the marks off."""
    found = [volume for one in wanted if (volume := node.volumes.find(one.volume_group, one.name)) is not None]
    marked = [volume for volume in found if WIPE in volume.pending()]
    for volume in marked:
        require_ours(volume, instance)
        if volume.open:
            raise Refused(f"{volume.path} is to be zeroed but is in use", "see who has it open with lsblk")
        _refuse_served(node, volume, instance)
        node.devices.wait(volume.device)
        node.devices.zero(volume.device, _say_zeroed(node, instance, volume.name))
    node.progress.clear(instance)
    # An OS is written to a volume that is known to be zero without writing its holes; the mark goes when that starts.
    for_install = [volume for volume in marked if INSTALL in volume.pending()]
    others = [volume for volume in marked if volume not in for_install]
    if for_install:
        node.volumes.retag(for_install, [ZEROED], [pending_tag(WIPE)])
    if others:
        node.volumes.retag(others, [], [pending_tag(WIPE)])


def _refuse_served(node: Node, volume: Volume, instance: str) -> None:
    """A disk is zeroed before its guest is defined. Where one is, it may have written, whatever the mark says."""
    if node.hypervisor.domain(instance) is not None:
        message = f"{volume.path} is to be zeroed, but {instance} is defined on this node and may have used it"
        raise Refused(message, f"undefine it if it never ran here, else lvchange --deltag {pending_tag(WIPE)}")


def _say_zeroed(node: Node, instance: str, name: str) -> Callable[[int, int], None]:
    def say(done: int, total: int) -> None:
        node.progress.say(instance, f"zeroing {name}", done / total, bytes=done, total=total)

    return say


@step("volumes.tag")
def tag(node: Node, args: Args) -> Done:
    """Puts back tags that somebody removed, on volumes that the definition on this node names as the instance's."""
    instance = instance_name(args.text("instance"))
    document = _definitions.read(node.files, instance)
    todo: list[tuple[Volume, list[str]]] = []
    for one in args.parts("volumes"):
        group, name = volume_name(one.text("volume_group")), volume_name(one.text("name"))
        volume = node.volumes.find(group, name)
        if volume is None:
            raise Refused(f"there is no volume {group}/{name}", "plan again")
        wanted = [own for own in one.texts("tags") if own not in volume.tags]
        if wanted:
            _require_claim(volume, instance, document)
            todo.append((volume, wanted))
    if not todo:
        return unchanged("the tags are there")
    if not node.check_mode:
        for volume, wanted in todo:
            node.volumes.retag([volume], wanted, [])
    return changed("tagged " + ", ".join(volume.name for volume, _wanted in todo))


def _require_claim(volume: Volume, instance: str, document: dict[str, Any] | None) -> None:
    others = [own for own in volume.tags if own.startswith(f"{TAG}.instance=") and own != f"{TAG}.instance={instance}"]
    if others:
        raise Refused(f"volume {volume.path} is marked {others[0]}", f"it is not of {instance}; look at both instances")
    disks = (document or {}).get("disks") or []
    names = {f"{instance}-disk{one['index']}" for one in disks if volume.volume_group in one["volume_group"].values()}
    if volume.name.removesuffix("-meta") not in names:
        message = f"the definition of {instance} on this node has no disk {volume.path}"
        raise Refused(message, "remove or rename the volume, or tag it by hand")


@step("volumes.remove")
def remove(node: Node, args: Args) -> Done:
    """Removes volumes of the instance that nothing has open, if need be under the definition that was seen alone."""
    instance = instance_name(args.text("instance"))
    if "expect_generation" in args.values:
        seen = args.optional_integer("expect_generation")
        _definitions.require_generation(instance, _definitions.read(node.files, instance), {seen})
    found: list[Volume] = []
    for one in args.parts("volumes"):
        volume = node.volumes.find(volume_name(one.text("volume_group")), volume_name(one.text("name")))
        if volume is not None:
            require_ours(volume, instance)
            found.append(volume)
    # A snapshot before its origin, with which it would go.
    found.sort(key=lambda volume: f"{TAG}.role=kept" not in volume.tags)
    if not found:
        return unchanged("no such volumes")
    require_nothing_kept(node.volumes, found)
    if not node.check_mode:
        for volume in found:
            wait_closed(node, volume)
        node.volumes.remove(found)
    return changed("removed " + ", ".join(one.name for one in found))


def wait_closed(node: Node, volume: Volume) -> None:
    """udev or a stopping guest may hold a volume for a moment."""

    def look() -> Volume | None:
        node.volumes.forget()
        return node.volumes.find(volume.volume_group, volume.name)

    if not volume.open:
        return
    wait_for(
        node.clock,
        look,
        lambda one: one is None or not one.open,
        10,
        lambda _seen: TimedOut(f"{volume.volume_group}/{volume.name} is in use", "see who has it open with lsblk"),
    )
