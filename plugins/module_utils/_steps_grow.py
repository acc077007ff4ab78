# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps that make a disk larger: its volumes, what DRBD makes of them, and what a running guest sees."""

from __future__ import annotations

import re
from contextlib import suppress

from ._clock import wait_for
from ._domain_xml import disk_sources
from ._drbd_meta import metadata_size
from ._errors import Refused, TimedOut
from ._lvm import LARGER, Volume, round_up
from ._names import instance_name, volume_name
from ._node import Node
from ._steps import Args, Done, changed, step, unchanged
from ._steps_replication import WAIT, state_of, volume_of
from ._steps_volumes import TAG, require_ours

# The range that was zeroed when a volume was made larger.
ZEROED_RANGE = f"{TAG}.grown="
# Seconds in which DRBD that has just come up finds its peer, if that is there.
MEET = 10.0
RANGE = re.compile(re.escape(ZEROED_RANGE) + r"(\d+)-(\d+)\Z")


class Growing:
    """One volume of `volumes.grow`: a disk's data, with its DRBD minor if it has one."""

    def __init__(self, node: Node, args: Args, instance: str) -> None:
        group, name = volume_name(args.text("volume_group")), volume_name(args.text("name"))
        found = node.volumes.find(group, name)
        if found is None:
            raise Refused(f"there is no volume {group}/{name}", "recreate the disk first")
        require_ours(found, instance)
        self.volume: Volume = found
        self.size = round_up(args.integer("size"), node.volumes.groups()[group].extent)
        self.minor = args.optional_integer("minor")

    @property
    def unzeroed(self) -> str | None:
        """The tag that says from where on it has to be zeroed."""
        return next((tag for tag in self.volume.tags if tag.startswith(LARGER)), None)

    @property
    def begun(self) -> bool:
        """Whether an earlier run made it larger, so that somebody may have used since what is not zeroed."""
        return self.unzeroed is not None and self.volume.size > int(self.unzeroed[len(LARGER) :])

    @property
    def done(self) -> bool:
        return self.volume.size >= self.size and self.unzeroed is None


@step("volumes.grow")
def grow(node: Node, args: Args) -> Done:
    """Makes data volumes larger and zeroes what is new; what a disk holds is not touched."""
    instance = instance_name(args.text("instance"))
    todo = [one for one in (Growing(node, part, instance) for part in args.parts("volumes")) if not one.done]
    _refuse_no_room(node, todo)
    for one in todo:
        # Who may be refused is, before any of them is changed.
        _in_use(node, one, instance)
    if not todo:
        return unchanged("the volumes are large enough")
    if not node.check_mode:
        for one in todo:
            _grow(node, one, instance)
        node.progress.clear(instance)
    return changed("grew " + ", ".join(f"{one.volume.name} to {one.size} bytes" for one in todo))


def _refuse_no_room(node: Node, todo: list[Growing]) -> None:
    for group in sorted({one.volume.volume_group for one in todo}):
        need = sum(max(0, one.size - one.volume.size) for one in todo if one.volume.volume_group == group)
        free = node.volumes.groups()[group].free
        if need > free:
            message = f"volume group {group} has {free} bytes free, {need} more are needed"
            raise Refused(message, "grow it less, or add a device to the group")


def _grow(node: Node, one: Growing, instance: str) -> None:
    """The tag is there before the volume is larger, so an interruption leaves no space that was not zeroed."""
    volume, tag = one.volume, one.unzeroed
    if one.begun and one.minor is not None:
        _let_meet(node, instance)
    if tag is None:
        tag = f"{LARGER}{volume.size}"
        node.volumes.retag([volume], [tag], [])
    if volume.size < one.size:
        node.volumes.extend(volume, one.size)
    now = node.volumes.find(volume.volume_group, volume.name) or volume
    start = max(int(tag[len(LARGER) :]), _in_use(node, one, instance))

    def say(done: int, total: int) -> None:
        node.progress.say(instance, f"zeroing {now.name}", done / total, bytes=done, total=total)

    if start < now.size:
        node.devices.zero(now.device, say, start)
    former = [other for other in now.tags if other.startswith((LARGER, ZEROED_RANGE))]
    node.volumes.retag([now], [f"{ZEROED_RANGE}{start}-{now.size}"], former)


def _in_use(node: Node, one: Growing, instance: str) -> int:
    """Bytes of it that may have been written since it was made larger: what DRBD or a running guest sees of it.

    Whoever runs since before that sees the old size. Who was started by hand after it sees all.
    """
    if one.minor is not None:
        return _drbd_size(node, one, one.minor, instance)
    domain = node.hypervisor.domain(instance) if one.begun else None
    if domain is None or not domain.active:
        return 0
    path = one.volume.device
    target = next((to for to, source, _own in disk_sources(node.hypervisor.live_xml(instance)) if source == path), None)
    if target is None:
        message = f"{instance} runs, and how much of {path} it sees cannot be told, for that is none of its disks"
        raise Refused(message, _way_out(one, "shut it down and run this again"))
    return node.hypervisor.disk_size(instance, target)


def _drbd_size(node: Node, one: Growing, minor: int, instance: str) -> int:
    """A device that is down, or has no disk on either side, does not tell what it takes of a volume."""
    size = node.replication.size(minor)
    if not size and one.begun:
        message = f"{instance}: how much of {one.volume.device} is in use cannot be told while /dev/drbd{minor} is down"
        raise Refused(message, _way_out(one, "run site.yml, which brings it up"))
    return size or 0


def _let_meet(node: Node, instance: str) -> None:
    """Where both sides are larger, DRBD takes that when they meet: rather now than in the middle of the zeroing."""
    with suppress(TimedOut):
        wait_for(
            node.clock,
            lambda: node.replication.state(instance),
            lambda state: state is None or state.connected,
            MEET,
            lambda _state: TimedOut(f"{instance} is not connected"),
        )


def _way_out(one: Growing, otherwise: str) -> str:
    keep = f"'lvchange --deltag {one.unzeroed} {one.volume.path}' leaves what it has"
    return f"if its guest ran with the new size already, {keep}; else {otherwise}"


@step("replication.resize")
def resize(node: Node, args: Args) -> Done:
    """DRBD takes what both sides have more: without a resync where that is known to be zero on both."""
    name, clean = instance_name(args.text("resource")), args.flag("clean")
    todo = []
    for one in args.parts("volumes"):
        volume, minor, size = one.integer("volume"), one.integer("minor"), one.integer("size")
        backing = volume_of(node, one.text("disk"))
        if backing is None:
            raise Refused(f"{name}: there is no volume {one.text('disk')}", "recreate the disk first")
        _require_metadata(node, name, one, size)
        now = node.replication.size(minor)
        if now is not None and now < size:
            todo.append((volume, minor, size, clean and _zeroed(backing, now)))
    if not todo:
        return unchanged(f"{name} is large enough")
    if not node.check_mode:
        state = state_of(node, name)
        if not state.connected or any((v.disk, v.peer_disk) != ("UpToDate", "UpToDate") for v in state.volumes):
            raise Refused(f"{name} cannot grow now ({state.summary()})", "wait until both copies are UpToDate")
        for volume, minor, size, zeroed in todo:
            node.replication.resize(name, volume, zeroed)
            _wait_larger(node, f"{name}/{volume}", minor, size, args.number("timeout", WAIT))
    plain = [volume for volume, _minor, _size, zeroed in todo if not zeroed]
    return changed(f"{name} grew" + (f"; the new part of {plain} is resynced" if plain else ""))


def _zeroed(backing: Volume, now: int) -> bool:
    """Whether everything beyond DRBD's present size was zeroed here and not used since."""
    ranges = [match for tag in backing.tags if (match := RANGE.match(tag))]
    return any(int(found[1]) <= now and int(found[2]) >= backing.size for found in ranges)


def _require_metadata(node: Node, name: str, one: Args, size: int) -> None:
    """DRBD would cut the disk down to what its metadata can describe."""
    meta = volume_of(node, one.text("meta"))
    if meta is not None and meta.size < metadata_size(size):
        message = f"{name}: the metadata volume {meta.path} has {meta.size} bytes, {metadata_size(size)} are needed"
        raise Refused(message, "replace this instance's disks, on both nodes one after the other, then grow")


def _wait_larger(node: Node, what: str, minor: int, size: int, timeout: float) -> None:
    wait_for(
        node.clock,
        lambda: node.replication.size(minor) or 0,
        lambda now: now >= size,
        timeout,
        lambda now: TimedOut(f"{what} has {now} bytes, {size} are wanted", "look at the kernel's log of this node"),
    )


@step("domain.resize")
def resize_domain(node: Node, args: Args) -> Done:
    """A running guest sees its disk's new size."""
    name, target, device = instance_name(args.text("name")), args.text("target"), args.text("device")
    found = node.hypervisor.domain(name)
    if found is None or not found.active:
        return unchanged(f"domain {name} does not run; it sees the new size when it starts")
    size = node.devices.size(device)
    if node.hypervisor.disk_size(name, target) >= size:
        return unchanged(f"domain {name} sees {size} bytes")
    if not node.check_mode:
        node.hypervisor.resize_disk(name, target, size)
    return changed(f"domain {name} sees {size} bytes of {target} now")
