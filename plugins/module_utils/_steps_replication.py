# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps on replicated disks."""

from __future__ import annotations

from . import _maintenance
from ._clock import wait_for
from ._drbd import Configuration, DiskState, ResourceState
from ._drbd_meta import metadata_size
from ._drbd_parse import PLACEHOLDER
from ._errors import CommandFailed, Refused, TimedOut, UsageError
from ._libvirt import END_TORN, POSTCOPY_FAILED, TORN
from ._lvm import Volume
from ._names import instance_name
from ._node import Node
from ._stale_copies import mark_before_up
from ._steps import Args, Done, changed, step, unchanged
from ._steps_volumes import FORMER, METADATA, SYNC, WIPE, marks_of_unfilled, pending_tag, require_ours, unfilled

WAIT = 60.0
# A copy that is whole, but lacks the last changes, or may.
STALE = ("Outdated", "Consistent")


class Backing:
    """One volume of `replication.configure`: its number, minor and devices."""

    def __init__(self, args: Args) -> None:
        self.volume = args.integer("volume")
        self.minor = args.integer("minor")
        self.disk = args.text("disk")
        self.meta = args.text("meta")


@step("replication.configure")
def configure(node: Node, args: Args) -> Done:
    """Writes the file, makes metadata where it is owed, brings the resource up or adjusts it."""
    name = instance_name(args.text("resource"))
    wanted = Configuration(args.text("config"), args.optional_text("secret"))
    if wanted.text.count(PLACEHOLDER) > 1:
        raise UsageError(f"the configuration of {name} has more than one place for the secret", "make a new plan")
    volumes = [Backing(one) for one in args.parts("volumes")]
    present = node.replication.configuration(name)
    write = present != wanted
    if write:
        node.replication.validate(name, wanted)
    state = node.replication.state(name)
    attached = set() if state is None else {one.volume for one in state.volumes if one.disk not in (None, "Diskless")}
    owed = [_owed_metadata(node, name, one) for one in volumes if one.volume not in attached]
    if node.check_mode:
        needed = write or node.replication.adjust(name, dry=True)
        return changed(f"would configure {name}") if needed else unchanged(f"{name} is configured")
    if write:
        node.replication.write(name, wanted)
    for one in owed:
        if one is not None:
            _make_metadata(node, name, *one)
    if state is None and not all(owed):
        # A copy that is new as a whole has nothing to be marked.
        mark_before_up(node.replication, name, [one.volume for one in volumes])
    adjusted = _adjust(node, name)
    if not (write or adjusted):
        return unchanged(f"{name} is configured")
    return changed(f"configured {name}")


def _adjust(node: Node, name: str) -> bool:
    """Brings it up; while it is in use, a side that lost its disk gets it back once its peer has the newer data.

    Before that the kernel lets in nothing but the very state that was seen last; drbdadm connects all the same.
    """
    try:
        return node.replication.adjust(name, dry=False)
    except CommandFailed as error:
        state = node.replication.state(name)
        if state is None or all(one.disk != "Diskless" for one in state.volumes):
            raise
        if "Primary" not in (state.role, state.peer_role):
            raise
        refused = _with_what_is_missing(name, state, error)
        if state.role != "Primary" and not _peer_has_all(state) and unfilled(node, name):
            raise refused from error  # The plan gives the peer its disk first: it did not come.
        late = TimedOut(f"{name}: the peer did not have the newer data within {WAIT:.0f} s")
        try:
            wait_for(node.clock, lambda: state_of(node, name), _peer_has_all, WAIT, lambda _seen: late)
        except TimedOut:
            raise refused from late
    return node.replication.adjust(name, dry=False) or True


def _with_what_is_missing(name: str, state: ResourceState, error: CommandFailed) -> CommandFailed:
    """The kernel's refusal, and what the peer lacks."""
    if state.connected:
        remedy = "the peer has lost its disk while it is in use: run site.yml, which gives it back to the peer first"
    else:
        remedy = f"{name}'s peer, which has the newer data, is not connected: see its DRBD and the replication network"
    return CommandFailed(error.argv, error.code, error.stdout, error.stderr, remedy)


def _peer_has_all(state: ResourceState) -> bool:
    return state.connected and all(one.peer_disk == "UpToDate" for one in state.volumes if one.disk == "Diskless")


def volume_of(node: Node, device: str) -> Volume | None:
    """The logical volume behind a path, if it is one."""
    for volume in node.volumes.volumes():
        if volume.device == device:
            return volume
    return None


def _owed_metadata(node: Node, name: str, one: Backing) -> tuple[Backing, Volume] | None:
    """The metadata volume, if it is ours and marked as never used; nothing when the metadata is in service."""
    data, meta = volume_of(node, one.disk), volume_of(node, one.meta)
    for volume, device in ((data, one.disk), (meta, one.meta)):
        if volume is None:
            raise Refused(f"{name}: there is no volume {device}", "create the volumes first")
        require_ours(volume, name)
        if WIPE in volume.pending() and METADATA not in volume.pending():
            raise Refused(f"{name}: {volume.path} has not been zeroed yet", "create the volumes first")
    if data is None or meta is None or METADATA not in meta.pending():
        return None
    if meta.open:
        raise Refused(f"{name}: {meta.path} is marked as new but is in use", "see who has it open with lsblk")
    need = metadata_size(data.size)
    if meta.size < need:
        message = f"{name}: {meta.path} has {meta.size} bytes; the metadata of {data.path} needs {need}"
        raise Refused(message, "make the metadata volume larger")
    return one, meta


def _make_metadata(node: Node, name: str, one: Backing, meta: Volume) -> None:
    """Zeroes a volume that never was, writes metadata to it, then takes the marks off."""
    if WIPE in meta.pending():
        node.devices.wait(meta.device)
        node.devices.zero(meta.device, lambda _done, _total: None)
    found = node.replication.metadata(name, one.volume, one.meta)
    if found == "used":
        message = f"{name}: {meta.path} is marked as new but holds metadata of a disk that was in service"
        raise Refused(message, "look at it with 'drbdadm show-gi'; nothing was overwritten")
    if found == "none":
        node.replication.create_metadata(name, one.volume)
    node.volumes.retag([meta], [], [pending_tag(WIPE), pending_tag(METADATA)])


def state_of(node: Node, name: str) -> ResourceState:
    state = node.replication.state(name)
    if state is None:
        raise Refused(f"{name} is down on this node", "configure the resource first")
    return state


def _wait_connected(node: Node, name: str, timeout: float, why: str) -> ResourceState:
    return wait_for(
        node.clock,
        lambda: state_of(node, name),
        lambda state: state.connected and all(one.peer_disk != "DUnknown" for one in state.volumes),
        timeout,
        lambda state: TimedOut(
            f"{name}: the peer did not connect within {timeout:.0f} s ({state.summary()}); {why}",
            "look at the peer's DRBD and at the replication network and its firewall",
        ),
    )


@step("replication.initialise")
def initialise(node: Node, args: Args) -> Done:
    """Makes a new pair UpToDate without a sync, if both sides are new and were zeroed."""
    name = instance_name(args.text("resource"))
    state = state_of(node, name)
    if _settled(state):
        return unchanged(f"{name} is in service")
    if node.check_mode:
        return changed(f"would declare both sides of {name} equal")
    state = _wait_connected(node, name, args.number("timeout", WAIT), "both sides are needed to initialise it")
    todo = [one for one in state.volumes if not (one.disk == "UpToDate" or one.peer_disk == "UpToDate")]
    for one in todo:
        if (one.disk, one.peer_disk) != ("Inconsistent", "Inconsistent"):
            message = f"{name}/{one.volume} is {one.disk} here and {one.peer_disk} at the peer: it is not a new pair"
            raise Refused(message, "nothing was changed; look at it with 'drbdadm status'")
        _require_zeroed(node, name, one.backing)
        if not node.replication.just_created(name, one.volume):
            message = f"{name}/{one.volume} has held data before: its current UUID is not the one of new metadata"
            raise Refused(message, "nothing was changed; recover it from the side that has the data")
    for one in todo:
        node.replication.clean_start(name, one.volume)
    if not todo:
        return unchanged(f"{name} is in service")
    return changed(f"{name}: both sides are up to date without a sync")


def _settled(state: ResourceState) -> bool:
    return bool(state.volumes) and all(
        one.disk == "UpToDate" or "UpToDate" in one.peer_disk or one.disk in ("Outdated", "Consistent")
        for one in state.volumes
    )


def _require_zeroed(node: Node, name: str, backing: str | None) -> None:
    volume = volume_of(node, backing) if backing else None
    if volume is not None and not {WIPE, SYNC}.isdisjoint(volume.pending()):
        raise Refused(f"{name}: {volume.path} has not been zeroed", "create the volumes first")


@step("replication.promote")
def promote(node: Node, args: Args) -> Done:
    """Waits for the handshake and the end of a resync to this side, then makes it Primary.

    A Primary may have lost its disk and been given it back: that is filled as well before anything counts on it.
    """
    name = instance_name(args.text("resource"))
    state = state_of(node, name)
    if state.role == "Primary":
        return _whole_primary(node, name, state, args.number("timeout", WAIT))
    _maintenance.require_none(node, f"{name} is not made Primary")
    if node.check_mode:
        return changed(f"would make {name} Primary")
    if not _peer_outdated(state):
        timeout = args.number("timeout", WAIT)
        state = _wait_connected(node, name, timeout, "a disk is promoted only after that")
        state = _wait_resynced(node, name, timeout)
    _require_up_to_date(name, state, "wait for its resync, or use the other node")
    if state.peer_role == "Primary" and not state.allow_two_primaries:
        raise Refused(f"{name} is Primary at the peer", "stop or migrate the instance there first")
    node.replication.primary(name)
    return changed(f"{name} is Primary")


def _whole_primary(node: Node, name: str, state: ResourceState, timeout: float) -> Done:
    filled = any(_is_filled(one) for one in state.volumes)
    if filled and not node.check_mode:
        _require_up_to_date(name, _wait_resynced(node, name, timeout), f"check {name}'s disks on this node")
    return (changed if filled else unchanged)(f"{name} is Primary")


@step("replication.take_over")
def take_over(node: Node, args: Args) -> Done:
    """Makes this side Primary without its peer, which is proven dead; a peer that lives after all is left in charge.

    `peer` and `proof` say which node is dead and how that is known. A connection that is still there is given `timeout`
    seconds to break: the keep-alives may not have noticed yet. `stale` allows a copy that is known to lack the last
    changes, never one that is no state at all.
    """
    name, peer, proof = instance_name(args.text("resource")), args.text("peer"), args.text("proof")
    state = state_of(node, name)
    stale = args.flag("stale")
    if state.role == "Primary":
        good = bool(state.volumes) and all(one.disk == "UpToDate" for one in state.volumes)
        return (changed if good and _whole(node, name) else unchanged)(f"{name} is Primary")
    _maintenance.require_none(node, f"{name} is not taken over")
    _require_usable(node, name, state, peer, stale)
    if node.check_mode:
        return changed(f"would make {name} Primary without {peer}")
    state = wait_for(
        node.clock,
        lambda: state_of(node, name),
        lambda seen: not (seen.connected and seen.peer_role == "Primary"),
        args.number("timeout", WAIT),
        lambda seen: TimedOut(
            f"{name} is not taken over: {peer} is connected and Primary ({seen.summary()}), "
            f"so it lives, whatever was said ({proof})",
            f"migrate or fail over while both answer, or switch {peer} off",
        ),
    )
    _require_usable(node, name, state, peer, stale)
    if stale and any(one.disk != "UpToDate" for one in state.volumes):
        node.replication.primary(name, force=True)
    else:
        node.replication.primary(name)
    _whole(node, name)
    return changed(f"{name} is Primary without {peer}: {proof}")


def _whole(node: Node, name: str) -> bool:
    """Takes the mark of a copy that is being filled off volumes that DRBD has accepted; whether there was one."""
    marked = unfilled(node, name)
    if marked and not node.check_mode:
        node.volumes.retag(marked, [], marks_of_unfilled())
    return bool(marked)


def _require_usable(node: Node, name: str, state: ResourceState, peer: str, stale: bool) -> None:
    """The disks are up to date, or a whole state of earlier if that is accepted."""
    whole = all(one.disk in ("UpToDate", *STALE) or _as_put_back(node, name, one) for one in state.volumes)
    if not (stale and state.volumes and whole):
        remedy = f"bring {peer} back, it has the newer copy, or may; run this again to see if an older one can go on"
        _require_up_to_date(name, state, remedy)


def _as_put_back(node: Node, name: str, one: DiskState) -> bool:
    """Whether a disk holds what `volumes.put_back` gave it: no peer has begun to fill it since."""
    volume = volume_of(node, one.backing) if one.backing is not None else None
    former = volume is not None and FORMER in volume.tags
    return former and one.disk == "Inconsistent" and node.replication.just_created(name, one.volume)


def _require_up_to_date(name: str, state: ResourceState, remedy: str) -> None:
    """Every volume of the resource holds all data, as far as this side knows."""
    if not state.volumes:
        raise Refused(f"{name} has no volumes on this node", "configure the resource first")
    for one in state.volumes:
        if one.disk != "UpToDate":
            message = f"{name}/{one.volume} is {one.disk} on this node; only an up-to-date disk is promoted"
            raise Refused(message, remedy)


def _wait_resynced(node: Node, name: str, timeout: float) -> ResourceState:
    """After a crash a resync follows the handshake, and is short."""
    return wait_for(
        node.clock,
        lambda: state_of(node, name),
        lambda state: not any(_is_filled(one) for one in state.volumes),
        timeout,
        lambda state: TimedOut(
            f"{name}: the resync from the peer did not end within {timeout:.0f} s ({state.summary()})",
            "wait until it has ended and run this again, or use the other node",
        ),
    )


def _is_filled(one: DiskState) -> bool:
    return (one.disk, one.peer_disk) == ("Inconsistent", "UpToDate")


def _peer_outdated(state: ResourceState) -> bool:
    return bool(state.volumes) and all(one.peer_disk == "Outdated" for one in state.volumes)


@step("replication.demote")
def demote(node: Node, args: Args) -> Done:
    """Makes this side Secondary; a guest that is just stopping gets a moment."""
    name = instance_name(args.text("resource"))
    state = node.replication.state(name)
    if state is None or state.role != "Primary":
        return unchanged(f"{name} is not Primary")
    if not node.check_mode:
        _demote(node, name, args.number("timeout", WAIT))
    return changed(f"{name} is Secondary")


def _demote(node: Node, name: str, timeout: float) -> None:
    """The kernel refuses while the disk is open; that passes when the guest has gone."""
    said = [""]

    def attempt() -> bool:
        try:
            node.replication.secondary(name)
        except CommandFailed as error:
            if "held open" not in error.stdout + error.stderr:
                raise
            said[0] = (error.stderr.strip() or error.stdout.strip()).splitlines()[0]
            return False
        return True

    wait_for(
        node.clock,
        attempt,
        bool,
        timeout,
        lambda _seen: TimedOut(f"{name} cannot be demoted: {said[0]}", "stop what has the disk open"),
    )


@step("replication.dual_primary")
def dual_primary(node: Node, args: Args) -> Done:
    """Allows or forbids two primaries at run time."""
    name, allow = instance_name(args.text("resource")), args.flag("allow")
    state = state_of(node, name)
    if state.allow_two_primaries == allow:
        return unchanged(f"{name}: two primaries are {'allowed' if allow else 'forbidden'}")
    if allow and not state.connected:
        raise Refused(f"{name} is not connected to its peer ({state.summary()})", "wait until it is connected")
    if not node.check_mode:
        node.replication.allow_two_primaries(name, allow)
    return changed(f"{name}: two primaries are {'allowed' if allow else 'forbidden'} now")


@step("replication.settle")
def settle(node: Node, args: Args) -> Done:
    """After a migration, however it ended: one primary, and no second one allowed."""
    name, domain_name = instance_name(args.text("resource")), instance_name(args.text("domain"))
    timeout = args.number("timeout", WAIT)
    state = node.replication.state(name)
    if state is None:
        return unchanged(f"{name} is down on this node")
    domain = node.hypervisor.domain(domain_name)
    if domain is not None and domain.migrating:
        raise Refused(f"{domain_name} is still being migrated", "wait until that is over")
    if domain is not None and domain.state == POSTCOPY_FAILED:
        raise Refused(f"{domain_name}: {TORN}", END_TORN.format(domain_name))
    here = domain is not None and domain.active
    demote_here = state.role == "Primary" and not here
    if not demote_here and not state.allow_two_primaries:
        return unchanged(f"{name} has at most one primary")
    if node.check_mode:
        return changed(f"would settle {name}")
    if demote_here:
        _demote(node, name, timeout)
    wait_for(
        node.clock,
        lambda: state_of(node, name),
        lambda seen: not (seen.role == "Primary" and seen.peer_role == "Primary"),
        timeout,
        lambda seen: TimedOut(
            f"{name} still has two primaries after {timeout:.0f} s ({seen.summary()})",
            "demote it on the node where the instance does not run",
        ),
    )
    _forbid_two_primaries(node, name)
    return changed(f"{name}: {'primary here' if here else 'secondary here'}, two primaries forbidden")


def _forbid_two_primaries(node: Node, name: str) -> None:
    """A connection that DRBD has ended meanwhile allows nothing any more, and cannot be told so either."""
    try:
        node.replication.allow_two_primaries(name, False)
    except CommandFailed:
        if state_of(node, name).allow_two_primaries:
            raise


@step("replication.remove")
def remove(node: Node, args: Args) -> Done:
    """Takes a resource down and removes its file."""
    name = instance_name(args.text("resource"))
    state, file = node.replication.state(name), node.replication.configuration(name)
    if state is None and file is None:
        return unchanged(f"{name} is not configured")
    if state is not None and state.role == "Primary":
        raise Refused(f"{name} is Primary on this node", "stop the instance and demote it first")
    if not node.check_mode:
        if state is not None:
            node.replication.down(name)
        node.replication.forget(name)
    return changed(f"took {name} down")
