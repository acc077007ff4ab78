# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps on one of the two copies of an instance's disks: give it up, set it aside, fill it again, keep what it held."""

from __future__ import annotations

from ._clock import Clock
from ._drbd import DiskState, ResourceState
from ._errors import Refused, TimedOut
from ._lvm import Volume, require_nothing_kept
from ._names import instance_name, volume_name
from ._node import Node
from ._steps import Args, Done, changed, step, unchanged
from ._steps_replication import WAIT, state_of
from ._steps_volumes import (
    FORMER,
    INSTALL,
    SYNC,
    TAG,
    ZEROED,
    marks_of_unfilled,
    pending_tag,
    require_ours,
    unfilled,
    wait_closed,
)

ASIDE = "-old"
NO_DISK = (None, "Diskless", "Failed", "Detaching")
# A copy that was given up goes before the rest of the resync; so this long is not the time that it takes.
LONGEST_PAUSE = 3.0
# Seconds between two looks at how far a resync is.
GLANCE = 0.5


@step("replication.detach")
def detach(node: Node, args: Args) -> Done:
    """Lets go of this node's disks; the peer has them up to date, and a Primary goes on there."""
    name = instance_name(args.text("resource"))
    state = node.replication.state(name)
    attached = [one for one in state.volumes if one.disk not in NO_DISK] if state is not None else []
    if state is None or not attached:
        return unchanged(f"{name} has no disk on this node")
    if not state.connected or any(one.peer_disk != "UpToDate" for one in state.volumes):
        message = f"{name} keeps its disk on this node: the peer's copy is not up to date ({state.summary()})"
        raise Refused(message, "wait until the peer is connected and UpToDate")
    if not node.check_mode:
        node.replication.detach(name)
    return changed(f"{name} let go of its disk on this node")


@step("replication.disconnect")
def disconnect(node: Node, args: Args) -> Done:
    """Ends the connection from the side that is given up; DRBD marks its disk as outdated."""
    name = instance_name(args.text("resource"))
    state = node.replication.state(name)
    if state is None or state.connection == "StandAlone":
        return unchanged(f"{name} is not connected")
    if state.role == "Primary":
        raise Refused(f"{name} is Primary on this node", "only a secondary is given up; stop or migrate it first")
    if state.connected and any(one.peer_disk != "UpToDate" for one in state.volumes):
        message = f"{name} stays connected: the peer's copy is not up to date, this one is needed ({state.summary()})"
        raise Refused(message, "see why the peer has no whole copy, then plan again")
    if not node.check_mode:
        node.replication.disconnect(name)
    return changed(f"{name} is disconnected")


@step("replication.discard")
def discard(node: Node, args: Args) -> Done:
    """Takes over the peer's data; what this side wrote while apart has to be kept aside already.

    The volumes `anew` get new metadata, so that DRBD copies everything and not only what both sides know to differ.
    """
    name = instance_name(args.text("resource"))
    state = state_of(node, name)
    if state.connected:
        return unchanged(f"{name} is connected")
    if state.role == "Primary":
        raise Refused(f"{name} is Primary on this node", "its data is to be given up: stop what uses it first")
    for one in args.parts("kept"):
        kept = node.volumes.find(volume_name(one.text("volume_group")), volume_name(one.text("name")))
        if kept is None or kept.path not in node.volumes.unchanged([kept]):
            what = "is not there" if kept is None else "is older than what was written last"
            message = f"{name}: nothing was given up, because {one.text('name')}, which should keep it, {what}"
            raise Refused(message, "plan again")
    anew = {one.integer("volume") for one in args.parts("anew")}
    if not node.check_mode:
        if state.connection != "StandAlone":
            node.replication.disconnect(name)
        node.replication.discard(name, [one.volume for one in state.volumes if one.volume in anew])
    return changed(f"{name} takes over the peer's data")


@step("replication.wait")
def wait(node: Node, args: Args) -> Done:
    """Waits until both copies are complete, then takes the mark of an incomplete copy off this node's volumes."""
    name, timeout = instance_name(args.text("resource")), args.number("timeout", WAIT)
    marked = unfilled(node, name)
    if not marked and node.check_mode and node.replication.state(name) is None:
        return unchanged(f"{name} is not there yet")
    whole = _complete(state_of(node, name)) if not node.check_mode else False
    if whole and not marked:
        return unchanged(f"both copies of {name} are up to date")
    if node.check_mode:
        return changed(f"would wait for the resync of {name}")
    if not whole:
        _follow(node, name, timeout)
    if marked:
        node.volumes.retag(marked, [], marks_of_unfilled())
    return changed(f"both copies of {name} are up to date")


def _complete(state: ResourceState) -> bool:
    return (
        state.connected
        and bool(state.volumes)
        and all((one.disk, one.peer_disk) == ("UpToDate", "UpToDate") for one in state.volumes)
    )


def _follow(node: Node, name: str, timeout: float) -> None:
    """Looks until both sides are up to date; `timeout` is for a resync that does not move, not for one that does."""
    pause, pace = 0.1, _Pace(node.clock, timeout)
    while True:
        state = state_of(node, name)
        if _complete(state):
            node.progress.clear(name)
            return
        _refuse_hopeless(state)
        if pace.lost(_left(state)):
            raise _standing_still(state, timeout)
        node.progress.say(name, "resync", _share(state))
        node.clock.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)
        _glance(node, state, pace)


class _Pace:
    """When a resync last came forward, by what is left of each minor. One that begins anew may have more left."""

    def __init__(self, clock: Clock, timeout: float) -> None:
        self.clock, self.timeout = clock, timeout
        self.moved = clock.monotonic()
        self.left: dict[int | None, float] = {}

    def lost(self, left: dict[int | None, float]) -> bool:
        """Takes what is left now; whether that has become less for no minor within the time."""
        now = self.clock.monotonic()
        if any(amount < self.left.get(minor, amount + 1) for minor, amount in left.items()):
            self.moved = now
        self.left.update(left)
        return now - self.moved > self.timeout


def _glance(node: Node, state: ResourceState, pace: _Pace) -> None:
    """Goes with a resync as long as it can be seen without DRBD's programs, which take their time from it."""
    minors = {one.minor for one in state.volumes}
    while seen := {minor: one for minor, one in node.replication.resyncs().items() if minor in minors}:
        if pace.lost({minor: _amount(one.left, one.done) for minor, one in seen.items()}):
            return
        node.progress.say(state.name, "resync", min(one.done for one in seen.values()) / 100)
        node.clock.sleep(GLANCE)


def _left(state: ResourceState) -> dict[int | None, float]:
    return {one.minor: _amount(one.out_of_sync, one.done) for one in state.volumes if _syncs(one)}


def _amount(left: int | None, done: float | None) -> float:
    """What is left, in bytes if they are known: DRBD slows down for a busy guest, and a percent of a disk is much."""
    return left if left is not None else 100 - (done or 0)


def _standing_still(state: ResourceState, timeout: float) -> TimedOut:
    if not any(_syncs(one) for one in state.volumes):
        message = f"{state.name} is not resynced ({state.summary()})"
        return TimedOut(message, "look at the replication network; when it is back, run again")
    paused = any((one.replication or "").startswith("PausedSync") for one in state.volumes)
    still = f"has not come forward for {timeout:.0f} s ({state.summary()})"
    if paused:
        remedy = f"if somebody paused it: drbdadm resume-sync {state.name} on both nodes; then run again"
        return TimedOut(f"the resync of {state.name} is paused and {still}", remedy)
    remedy = (
        "look for errors of a disk or of the replication network in the kernel's logs of both nodes; then run again"
    )
    return TimedOut(f"the resync of {state.name} {still}", remedy)


def _syncs(one: DiskState) -> bool:
    return (one.replication or "").startswith(("Sync", "StartingSync", "WFBitMap", "WFSyncUUID", "PausedSync"))


def _share(state: ResourceState) -> float | None:
    """How far the slowest disk is, between 0 and 1."""
    known = [one.done for one in state.volumes if one.done is not None]
    return min(known) / 100 if known else None


def _refuse_hopeless(state: ResourceState) -> None:
    if state.connection == "StandAlone":
        raise Refused(f"{state.name} refuses its peer: it is StandAlone", "see what verify says of it")
    for one in state.volumes:
        if one.disk in NO_DISK or one.peer_disk in ("Diskless", "Failed"):
            where = "on this node" if one.disk in NO_DISK else "at the peer"
            raise Refused(f"{state.name}/{one.volume} has no disk {where}", "see the kernel's log about that disk")


@step("volumes.set_aside")
def set_aside(node: Node, args: Args) -> Done:
    """Renames volumes that are replaced, so that what they hold stays until the new copy is complete."""
    instance = instance_name(args.text("instance"))
    todo: list[Volume] = []
    for one in args.parts("volumes"):
        group, name = volume_name(one.text("volume_group")), volume_name(one.text("name"))
        volume, aside = node.volumes.find(group, name), node.volumes.find(group, name + ASIDE)
        if volume is None:
            continue
        require_ours(volume, instance)
        if aside is None:
            todo.append(volume)
        elif SYNC not in volume.pending() and not name.endswith("-meta"):
            message = f"{aside.path} is there already, and {volume.path} holds a whole copy"
            raise Refused(message, "run converge first, it removes what is not needed any more")
    if not todo:
        return unchanged("nothing is left to set aside")
    if not node.check_mode:
        for volume in todo:
            wait_closed(node, volume)
        for volume in todo:
            node.volumes.rename(volume, volume.name + ASIDE)
    return changed("set aside " + ", ".join(volume.name for volume in todo))


@step("volumes.put_back")
def put_back(node: Node, args: Args) -> Done:
    """Gives data that was set aside its place again, instead of a copy that was never filled.

    Its metadata goes: what the peer's bitmap says is missing, is what the unfilled copy lacks, and not this one. With
    new metadata DRBD fills it as a whole if the peer comes back before `replication.take_over` has used it as it is.
    """
    instance = instance_name(args.text("instance"))
    todo: list[tuple[Volume, str, list[Volume]]] = []
    for one in args.parts("volumes"):
        group, name, meta = (volume_name(one.text(key)) for key in ("volume_group", "name", "meta"))
        volume, aside = node.volumes.find(group, name), node.volumes.find(group, name + ASIDE)
        rest = [found for old in (meta, meta + ASIDE) if (found := node.volumes.find(group, old))]
        for found in (volume, aside, *rest):
            if found is not None:
                require_ours(found, instance)
        if aside is None and volume is None:
            raise Refused(f"there is neither {group}/{name} nor {name + ASIDE}", "plan again")
        if aside is not None and volume is not None and SYNC not in volume.pending():
            raise Refused(f"{volume.path} holds a whole copy", "plan again: nothing has to be put back")
        if aside is not None:
            todo.append((aside, name, [volume, *rest] if volume is not None else rest))
        elif volume is not None and FORMER not in volume.tags:
            todo.append((volume, name, rest))
    if not todo:
        return unchanged("nothing has to be put back")
    require_nothing_kept(node.volumes, [one for _volume, _name, gone in todo for one in gone])
    if not node.check_mode:
        _put_back(node, todo)
    return changed("put back " + ", ".join(name for _volume, name, _gone in todo))


def _put_back(node: Node, todo: list[tuple[Volume, str, list[Volume]]]) -> None:
    """The marks come first: at no moment a copy without its metadata counts as one that serves."""
    for volume, _name, gone in todo:
        for one in (volume, *gone):
            wait_closed(node, one)
    for volume, name, gone in todo:
        node.volumes.retag([volume], marks_of_unfilled(), [])
        if gone:
            node.volumes.remove(gone)
        if volume.name != name:
            node.volumes.rename(volume, name)


@step("volumes.keep")
def keep(node: Node, args: Args) -> Done:
    """Keeps what volumes hold now in snapshots, which only an explicit word removes."""
    instance, reason = instance_name(args.text("instance")), args.text("reason")
    todo: list[tuple[Volume, str]] = []
    for one in args.parts("volumes"):
        group, name = volume_name(one.text("volume_group")), volume_name(one.text("name"))
        snapshot = volume_name(one.text("snapshot"))
        volume = node.volumes.find(group, name)
        if volume is None:
            raise Refused(f"there is no volume {group}/{name}", "plan again")
        require_ours(volume, instance)
        there = node.volumes.find(group, snapshot)
        if there is None:
            todo.append((volume, snapshot))
        elif there.path not in node.volumes.unchanged([there]):
            message = f"{volume.path} was written after {there.path} was taken, which is to keep what it holds"
            raise Refused(message, "plan again: then another snapshot is taken")
    _refuse_no_room(node, todo)
    if not todo:
        return unchanged("the data is kept already")
    if not node.check_mode:
        for volume, snapshot in todo:
            disk = [tag for tag in volume.tags if tag.startswith(f"{TAG}.disk=")]
            tags = [TAG, f"{TAG}.instance={instance}", *disk, f"{TAG}.role=kept", f"{TAG}.kept={reason}"]
            node.volumes.snapshot(volume, snapshot, tags)
    return changed("kept " + ", ".join(snapshot for _volume, snapshot in todo))


def _refuse_no_room(node: Node, todo: list[tuple[Volume, str]]) -> None:
    """A snapshot that may have to hold every block needs the volume's size and some for its own records."""
    for group in sorted({volume.volume_group for volume, _name in todo}):
        need = sum(one.size + one.size // 100 for one, _name in todo if one.volume_group == group)
        free = node.volumes.groups()[group].free
        if need > free:
            message = f"volume group {group} has {free} bytes free, keeping the data needs {need}"
            raise Refused(message, "add a device to the group; nothing is given up without being kept")


@step("volumes.owe_install")
def owe_install(node: Node, args: Args) -> Done:
    """Marks the first disk of a guest that is off, so that its OS is written anew before it starts again."""
    instance = instance_name(args.text("instance"))
    group, name = volume_name(args.text("volume_group")), volume_name(args.text("name"))
    volume, domain = node.volumes.find(group, name), node.hypervisor.domain(instance)
    if volume is None:
        raise Refused(f"there is no volume {group}/{name}", "recreate the disk first")
    require_ours(volume, instance)
    if INSTALL in volume.pending():
        return unchanged(f"{volume.path} waits for its OS")
    if domain is not None and domain.active:
        raise Refused(f"domain {instance} is {domain.state} on this node", "stop it first")
    if not node.check_mode:
        node.volumes.retag([volume], [pending_tag(INSTALL)], [ZEROED])
    return changed(f"{volume.path} waits for its OS")
