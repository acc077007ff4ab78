# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""DRBD 8.4 in the kernels of the nodes: roles, connections, disk states, generations, resyncs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ansible_collections.twofold.cluster.plugins.module_utils._errors import CommandFailed

from .contents import Content, partial
from .drbd_config import Config
from .drbd_meta import NEW_BITMAP_OFFSET, Side, Superblock, verdict
from .storage import Lv

if TYPE_CHECKING:
    from .machine import Machine
    from .world import World

STAND_ALONE, CONNECTING, CONNECTED = "StandAlone", "Connecting", "Connected"
SYNCING: dict[str | None, str] = {"source": "SyncSource", "target": "SyncTarget"}
# What a promotion by force takes for the last state.
LESSER = ("Inconsistent", "Outdated", "Consistent")
HAS_DATA = ("Inconsistent", "Consistent", "UpToDate")


@dataclass
class Device:
    """A volume of a resource in one kernel.

    `exposed` is the generation that who used it without a disk saw last; `unheard`: it was attached while the peer did
    not answer, though it was not missed yet.
    """

    volume: int
    minor: int
    data: Lv | None = None
    meta: Lv | None = None
    disk: str = "Diskless"
    peer_disk: str = "DUnknown"
    crashed: bool = False
    syncing: str | None = None
    size: int = 0
    exposed: int = 0
    unheard: bool = False

    @property
    def block(self) -> Superblock | None:
        """Its metadata while it is attached."""
        return self.meta.superblock if self.meta is not None else None


@dataclass
class Resource:
    """A resource in one kernel. `met`: the peer shook hands since it came up."""

    name: str
    machine: Machine
    config: Config
    secret: str | None
    role: str = "Secondary"
    peer_role: str = "Unknown"
    connection: str = STAND_ALONE
    devices: dict[int, Device] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    allow: bool = False
    met: bool = False
    gives_up: bool = False
    refused: bool = False
    peer: Resource | None = None

    @property
    def primary(self) -> bool:
        """Whether it may write."""
        return self.role == "Primary"

    @property
    def connected(self) -> bool:
        """Whether it thinks that it has a peer."""
        return self.connection == CONNECTED

    @property
    def reachable(self) -> bool:
        """Whether the peer that it thinks it has can be reached."""
        peer = self.peer
        there = peer is not None and peer.machine.on and peer.machine.kernel.resources.get(self.name) is peer
        return there and peer is not None and peer.peer is self and self.machine.reaches(peer.machine)

    def stand_alone(self) -> None:
        """Nobody is waited for, and what was set for the connection at run time is forgotten."""
        self.connection, self.allow = STAND_ALONE, False

    def write_down(self) -> None:
        """The flags of the metadata follow the state."""
        for device in self.devices.values():
            block = device.block
            if block is not None and device.disk != "Diskless":
                block.consistent = device.disk in ("Outdated", "Consistent", "UpToDate")
                block.up_to_date = device.disk == "UpToDate"
                block.primary = self.primary or device.crashed


def refused(what: str, said: str, code: int = 17) -> CommandFailed:
    """What drbdadm says when the kernel refuses."""
    return CommandFailed(["drbdadm", what], code, "", said)


class Kernel:
    """The module on one node; gone with its power."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.world: World = machine.world
        self.resources: dict[str, Resource] = {}

    def by_minor(self, minor: int) -> tuple[Resource, Device] | None:
        """The resource and volume of a device."""
        for resource in self.resources.values():
            for device in resource.devices.values():
                if device.minor == minor:
                    return resource, device
        return None

    def holds(self, lv: Lv) -> bool:
        """Whether a volume is attached."""
        return any(
            lv is one.data or lv is one.meta
            for resource in self.resources.values()
            for one in resource.devices.values()
        )

    def proc(self) -> str:
        """The file /proc/drbd, as far as anybody reads it."""
        lines = ["version: 8.4.11 (api:1/proto:86-101)"]
        for resource in self.resources.values():
            for device in resource.devices.values():
                words = {CONNECTING: "WFConnection", CONNECTED: SYNCING.get(device.syncing, CONNECTED)}
                connection = words.get(resource.connection, resource.connection)
                roles, disks = f"{resource.role}/{resource.peer_role}", f"{device.disk}/{device.peer_disk}"
                lines.append(f"{device.minor:2}: cs:{connection} ro:{roles} ds:{disks} C r-----")
        return "\n".join(lines) + "\n"

    def changed(self, resource: Resource) -> None:
        """Something about a resource is not as it was."""
        resource.write_down()
        self.world.changed(resource.name)

    # What the tools do

    def new(self, name: str, config: Config, secret: str | None) -> Resource:
        """`new-resource`."""
        self.resources[name] = Resource(name, self.machine, config, secret, options=dict(config.options))
        self.world.changed(name)
        return self.resources[name]

    def new_minor(self, resource: Resource, volume: int, minor: int) -> None:
        """`new-minor`."""
        if self.by_minor(minor) is not None:
            raise refused("new-minor", f"Failure: (161) Minor or volume exists already: {minor}", 10)
        resource.devices[volume] = Device(volume, minor)

    def attach(self, resource: Resource, device: Device, data: str, meta: str) -> None:
        """`attach`: with fencing dont-care a disk that was up to date is so at once."""
        found = [self.machine.storage.volumes.get(path) for path in (data, meta)]
        if found[0] is None or found[1] is None:
            raise refused("attach", f"open({data}) failed: No such file or directory", 10)
        if any(self.machine.holds_open(one) for one in found if one is not None):
            raise refused("attach", f"open({data}) failed: Device or resource busy", 10)
        block = found[1].superblock
        if block is None or found[1].failing:
            raise refused("attach", "No valid meta data found", 119)
        used = resource.primary or resource.peer_role == "Primary"
        good_there = resource.connected and device.peer_disk == "UpToDate"
        if used and not good_there and device.exposed not in (0, block.current):
            said = f"Can only attach to data with current UUID={device.exposed:016X}"
            raise refused("attach", said, 10)
        device.data, device.meta = found[0], found[1]
        device.size = device.size or found[0].size
        device.disk = "Inconsistent" if not block.consistent else "UpToDate" if block.up_to_date else "Outdated"
        device.crashed = block.primary
        # The activity log names what may have been on its way.
        block.written, block.active = block.written or (device.crashed and block.active), False
        self.changed(resource)
        if resource.connected and resource.peer is not None and resource.reachable:
            self.world.drbd.meet(resource, resource.peer, device.volume)
        device.unheard = resource.connected and not resource.reachable

    def detach(self, resource: Resource, device: Device) -> None:
        """The disk is taken away, by hand or because of its errors; a connected peer goes on alone."""
        device.exposed = device.block.current if device.block is not None else device.exposed
        device.data = device.meta = None
        device.disk, device.syncing, device.crashed = "Diskless", None, False
        peer = resource.peer
        if resource.connected and resource.reachable and peer is not None and device.volume in peer.devices:
            self.world.drbd.misses_disk(peer, resource, device)
        self.changed(resource)

    def disk_fails(self, lv: Lv) -> None:
        """A disk answered with an error: DRBD lets go of it, and a guest goes on with the peer's."""
        for resource in self.resources.values():
            for device in resource.devices.values():
                if lv is device.data or lv is device.meta:
                    self.world.log(f"DRBD of {resource.name} detaches a failing disk on {self.machine.name}")
                    self.detach(resource, device)

    def connect(self, resource: Resource) -> None:
        """`connect`."""
        if resource.connection == STAND_ALONE:
            resource.connection = CONNECTING
            self.changed(resource)
            self.world.drbd.seek(resource.name)

    def may_part(self, resource: Resource) -> None:
        """A Primary that has no good copy of its own needs the other side's; where neither has one, nothing is held."""
        peer = resource.peer if resource.connected and resource.reachable else None
        for one, other in ((resource, peer), (peer, resource)):
            if one is None or other is None or not one.primary:
                continue
            good = {volume for volume, device in other.devices.items() if device.disk == "UpToDate"}
            if any(device.disk != "UpToDate" and volume in good for volume, device in one.devices.items()):
                said = f"{resource.name}: State change failed: (-2) Need access to UpToDate data"
                raise refused("disconnect", said, 17)

    def disconnect(self, resource: Resource) -> None:
        """`disconnect`: the peer waits for a new connection."""
        peer = resource.peer
        if resource.connected and peer is not None and resource.reachable:
            self.world.drbd.drop(peer)
        if resource.connected:
            self.world.drbd.drop(resource)
        resource.stand_alone()
        self.changed(resource)

    def down(self, resource: Resource) -> None:
        """`down`."""
        if self.machine.opens(resource):
            raise refused("down", f"{resource.name}: State change failed: (-12) Device is held open by someone", 11)
        resource.role = "Secondary"
        self.may_part(resource)
        self.disconnect(resource)
        del self.resources[resource.name]
        self.world.changed(resource.name)

    def primary(self, resource: Resource, force: bool, wait: Callable[[float], None]) -> None:
        """`primary`. A peer that is gone without being missed yet is waited for until it is missed."""
        if resource.primary:
            return
        while resource.connected and not resource.reachable:
            wait(0.5)
        if self.resources.get(resource.name) is not resource:
            raise refused("primary", f"{resource.name}: unknown resource", 10)
        peer = resource.peer if resource.connected else None
        if peer is not None and peer.primary and not (resource.allow and peer.allow):
            said = f"{resource.name}: State change failed: (-1) Multiple primaries not allowed by config"
            raise refused("primary", said, 11)
        for device in resource.devices.values():
            forced = force and device.disk in LESSER
            if not self._has_data(resource, device) and not forced:
                said = f"{resource.name}: State change failed: (-2) Need access to UpToDate data"
                raise refused("primary", said, 17)
        self.world.rules.promotes(resource, force)
        for device in resource.devices.values():
            block = device.block
            apart, forced = peer is None or device.peer_disk == "Diskless", not self._has_data(resource, device)
            if block is not None and ((apart and not block.bitmap) or forced):
                block.renew(self.world.identifier())
            if forced:
                device.disk = "UpToDate"
        resource.role, resource.gives_up = "Primary", False
        if peer is not None:
            peer.peer_role = "Primary"
            self.world.drbd.writes_without_disk(resource, peer)
        self.changed(resource)

    @staticmethod
    def _has_data(resource: Resource, device: Device) -> bool:
        """Whether all data can be read, here or at the peer."""
        return device.disk == "UpToDate" or (resource.connected and device.peer_disk == "UpToDate")

    def secondary(self, resource: Resource) -> None:
        """`secondary`."""
        if not resource.primary:
            return
        if self.machine.opens(resource):
            raise refused(
                "secondary", f"{resource.name}: State change failed: (-12) Device is held open by someone", 11
            )
        resource.role = "Secondary"
        for device in resource.devices.values():
            device.crashed = False
        if resource.connected and resource.peer is not None and resource.reachable:
            resource.peer.peer_role = "Secondary"
        self.changed(resource)

    def outdate(self, resource: Resource) -> None:
        """`outdate`: a copy that is connected stays as good as it is, and nobody is told."""
        if resource.connected:
            return
        if resource.primary:
            raise refused("outdate", f"{resource.name}: State change failed: (-10) State change was refused", 17)
        for device in resource.devices.values():
            if device.disk == "UpToDate":
                device.disk = "Outdated"
        self.changed(resource)

    def allow_two_primaries(self, resource: Resource, allow: bool) -> None:
        """`net-options --allow-two-primaries`."""
        if not allow and resource.primary and resource.connected and resource.peer_role == "Primary":
            raise refused("net-options", "Failure: (139) Need to allow two primaries", 10)
        if resource.connection == STAND_ALONE:
            raise refused("net-options", "Failure: (129) net conf missing, try connect", 10)
        resource.allow = allow
        self.changed(resource)

    def clean_start(self, resource: Resource, device: Device) -> None:
        """`new-current-uuid --clear-bitmap` on a new pair: both are declared up to date."""
        block, peer = device.block, resource.peer
        if block is None:
            raise refused("new-current-uuid", "Failure: (102) No disk")
        if not (resource.connected and peer is not None and resource.reachable and block.current == 4):
            raise refused("new-current-uuid", "Failure: (151) Connected; it has to be StandAlone", 10)
        identifier = self.world.identifier()
        for side in (resource, peer):
            one = side.devices[device.volume]
            if one.block is not None:
                one.block.current, one.block.bitmap, one.block.written = identifier, 0, False
            one.disk = one.peer_disk = "UpToDate"
            side.write_down()
        self.changed(resource)

    # What guests and installers do

    def write(self, resource: Resource, device: Device, content: Content) -> bool:
        """Write to a device; whether it was acknowledged, which protocol C does when every copy has it."""
        if not resource.primary or (resource.connected and not resource.reachable):
            return False
        other = resource.peer.devices.get(device.volume) if resource.connected and resource.peer else None
        if device.data is not None and device.data.failing:
            self.disk_fails(device.data)
        if other is not None and other.data is not None and other.data.failing:
            assert resource.peer is not None
            resource.peer.machine.kernel.disk_fails(other.data)
        if device.disk != "UpToDate" and (other is None or other.disk != "UpToDate"):
            return False
        if device.data is not None and device.disk == "UpToDate":
            device.data.content = content
            if device.block is not None:
                device.block.active = True
        if other is not None and other.data is not None and other.disk == "UpToDate":
            other.data.content = content
        elif device.block is not None:
            device.block.written = True
        return True


class Network:
    """What happens between two kernels by itself. `tossed` are the resources of which chance has decided something."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tossed: set[str] = set()

    def sides(self, name: str) -> list[Resource]:
        """The resource wherever it is up."""
        machines = self.world.machines.values()
        return [one.kernel.resources[name] for one in machines if one.on and name in one.kernel.resources]

    def split(self, name: str) -> bool:
        """Whether the copies of an instance refused each other: what needs both waits in vain, and a person decides."""
        sides = [one for one in self.sides(name) if one.connection == STAND_ALONE]
        return bool(sides) and all(one.refused for one in sides)

    def seek(self, name: str) -> None:
        """Who waits for a connection finds it after a while."""
        sides = [one for one in self.sides(name) if one.connection == CONNECTING]
        for index, one in enumerate(sides):
            for other in sides[index + 1 :]:
                if self._addressed(one, other) and one.machine.reaches(other.machine):
                    delay = 0.2 + 2.8 * self.world.rng.random()
                    self.world.engine.later(delay, functools.partial(self._shake, one, other))

    @staticmethod
    def _addressed(one: Resource, other: Resource) -> bool:
        ours, theirs = one.config.hosts, other.config.hosts
        names = {one.machine.hostname, other.machine.hostname}
        return names <= ours.keys() & theirs.keys() and all(
            ours[name].address == theirs[name].address for name in names
        )

    def _still(self, one: Resource) -> bool:
        return one.machine.on and one.machine.kernel.resources.get(one.name) is one and one.connection == CONNECTING

    def _shake(self, one: Resource, other: Resource) -> None:
        alive = self._still(one) and self._still(other) and one.machine.reaches(other.machine)
        if not alive or not self._addressed(one, other):
            return
        protocols = {side.options.get("protocol") for side in (one, other)}
        both = one.primary and other.primary
        if one.secret != other.secret or len(protocols) > 1 or one.allow != other.allow or (both and not one.allow):
            self._refuse(one, other)
            return
        verdicts = {volume: self._verdict(one, other, volume) for volume in one.devices}
        parted = any(self._saw_other_data(*pair) for pair in ((one, other), (other, one)))
        if None in verdicts.values() or parted:
            for side, peer in ((one, other), (other, one)):
                # It finds out last that it cannot go on with this peer, which has begun a generation for it.
                if self._saw_other_data(side, peer):
                    self.writes_without_disk(side, peer, stays=False)
            self._refuse(one, other)
            return
        self.world.log(f"DRBD of {one.name}: {one.machine.name} and {other.machine.name} shake hands {verdicts}")
        for side, peer in ((one, other), (other, one)):
            side.connection, side.peer, side.met, side.gives_up = CONNECTED, peer, True, False
            side.peer_role = peer.role
        self._agree(one, other, verdicts)
        for side, peer in ((one, other), (other, one)):
            if side.primary:
                self.writes_without_disk(side, peer)

    @staticmethod
    def _saw_other_data(one: Resource, other: Resource) -> bool:
        """Whether a side in use without a disk of its own was parted from newer data than the peer has."""
        pairs = [(device, other.devices.get(volume)) for volume, device in one.devices.items()]
        return one.primary and any(
            here.disk == "Diskless" and there is not None and there.block is not None
            and here.exposed not in (0, there.block.current)
            for here, there in pairs
        )  # fmt: skip

    def meet(self, one: Resource, other: Resource, attached: int) -> None:
        """A disk was attached to one while the peers are connected: they talk about it again."""
        verdicts = {volume: self._verdict(one, other, volume, attached) for volume in one.devices}
        if None in verdicts.values():
            self.drop(one)
            self.drop(other)
            self._refuse(one, other)
            return
        self._agree(one, other, verdicts)

    def _refuse(self, one: Resource, other: Resource) -> None:
        """One side drops the connection for good; the other may do the same or wait."""
        sides = [one, other]
        self.world.rng.shuffle(sides)
        for side in sides:
            side.refused = True
        sides[0].stand_alone()
        if self.world.rng.random() < 0.5:
            sides[1].stand_alone()
        else:
            sides[1].connection = CONNECTING
        self.world.log(f"DRBD of {one.name}: refused, {sides[0].machine.name} is StandAlone")
        for side in sides:
            side.machine.kernel.changed(side)

    @staticmethod
    def _side(resource: Resource, device: Device, *, negotiating: bool = False) -> Side | None:
        if device.block is None:
            return None
        return Side(device.block, device.disk, resource.primary, device.crashed, resource.gives_up, negotiating)

    def _verdict(self, one: Resource, other: Resource, volume: int, attached: int | None = None) -> int | None:
        if volume not in other.devices:
            return 0
        here = self._side(one, one.devices[volume], negotiating=volume == attached)
        there = self._side(other, other.devices[volume])
        if here is None or there is None:
            return 0
        either = [verdict(replace(here, follows=follows), there) for follows in (False, True)]
        if either[0] != either[1]:
            self.tossed.add(one.name)
        return either[int(10 * self.world.engine.now) % 2 == 0]

    def _agree(self, one: Resource, other: Resource, verdicts: dict[int, int | None]) -> None:
        for volume, found in verdicts.items():
            if volume not in other.devices:
                continue
            ours, theirs = one.devices[volume], other.devices[volume]
            if ours.syncing:
                continue
            if found:
                winner, loser = (one, other) if found > 0 else (other, one)
                self._sync(winner, loser, volume)
            elif ours.block is not None and theirs.block is not None:
                ours.crashed = theirs.crashed = False
            for device in (ours, theirs):
                # Both vanish with the connection, whatever the peer has (sanitize_state in drbd_state.c).
                if device.disk in ("Outdated", "Consistent"):
                    device.disk = "UpToDate"
            ours.peer_disk, theirs.peer_disk = theirs.disk, ours.disk
        for side in (one, other):
            side.machine.kernel.changed(side)

    def _sync(self, source: Resource, target: Resource, volume: int) -> None:
        ours, theirs = source.devices[volume], target.devices[volume]
        assert ours.block is not None and theirs.block is not None and ours.data is not None and theirs.data is not None
        old = ours.block.bitmap
        ours.block.set_bitmap(old + NEW_BITMAP_OFFSET if old > 4 else self.world.identifier())
        theirs.block.current, theirs.block.bitmap = ours.block.bitmap, 0
        theirs.disk, ours.syncing, theirs.syncing = "Inconsistent", "source", "target"
        ours.crashed = theirs.crashed = False
        theirs.data.content = partial(ours.data.content)
        delay = 1 + 20 * self.world.rng.random()
        self.world.engine.later(delay, lambda: self._synced(source, target, ours, theirs))

    def _synced(self, source: Resource, target: Resource, ours: Device, theirs: Device) -> None:
        alive = source.machine.on and target.machine.on and source.connected and source.peer is target
        if not alive or ours.syncing != "source" or theirs.syncing != "target":
            return
        if not source.reachable:
            self.world.engine.later(2, lambda: self._synced(source, target, ours, theirs))
            return
        assert ours.block is not None and theirs.block is not None and ours.data is not None and theirs.data is not None
        ours.block.set_bitmap(0)
        theirs.block.follow(ours.block)
        theirs.data.content = ours.data.content
        theirs.disk = ours.peer_disk = "UpToDate"
        theirs.peer_disk = ours.disk
        ours.syncing = theirs.syncing = None
        for side in (source, target):
            side.machine.kernel.changed(side)

    # When a peer is lost

    def lost_data(self, resource: Resource, device: Device, seen: str, *, primary_near: bool) -> None:
        """Without the peer's copy, what is written from now on belongs to a new generation."""
        had, device.peer_disk = device.peer_disk, seen
        block = device.block
        if had in HAS_DATA and primary_near and block is not None and not block.bitmap and device.disk == "UpToDate":
            block.renew(self.world.identifier())

    def misses_disk(self, resource: Resource, peer: Resource, lost: Device) -> None:
        """The peer says that it has lost a disk."""
        other = resource.devices[lost.volume]
        self.lost_data(resource, other, "Diskless", primary_near=resource.primary or peer.primary)
        other.syncing = None
        # A copy that is just being filled begins no generation, so nobody is told of one.
        if peer.primary and other.block is not None and other.disk == "UpToDate":
            lost.exposed = other.block.current
        resource.machine.kernel.changed(resource)

    def writes_without_disk(self, primary: Resource, peer: Resource, *, stays: bool = True) -> None:
        """A side is seen to be Primary that has no disk: what it writes to the peer's belongs to a new generation.

        That it was Primary before, unseen, makes no difference (`after_state_ch` in drbd_state.c).
        """
        for volume, device in peer.devices.items():
            block, there = device.block, primary.devices.get(volume)
            diskless = there is not None and there.disk == "Diskless"
            if diskless and block is not None and not block.bitmap and device.disk == "UpToDate":
                block.renew(self.world.identifier())
            if stays and there is not None and diskless and block is not None:
                there.exposed = block.current

    def drop(self, resource: Resource) -> None:
        """A side notices that its peer is gone, and looks for it."""
        if not resource.connected:
            return
        resource.connection, resource.peer, resource.peer_role = CONNECTING, None, "Unknown"
        for device in resource.devices.values():
            device.syncing, device.unheard = None, False
            self.lost_data(resource, device, "DUnknown", primary_near=resource.primary)
        resource.machine.kernel.changed(resource)
        self.seek(resource.name)

    def watch(self) -> None:
        """After a link or a node went: whoever cannot reach its peer notices within two pings."""
        for machine in self.world.machines.values():
            for resource in machine.kernel.resources.values() if machine.awake else ():
                if resource.connected and not resource.reachable:
                    delay = 1 + 5 * self.world.rng.random()
                    self.world.engine.later(delay, functools.partial(self._notice, resource))

    def _notice(self, resource: Resource) -> None:
        machine = resource.machine
        if machine.awake and machine.kernel.resources.get(resource.name) is resource and not resource.reachable:
            self.drop(resource)

    def _hear(self, resource: Resource, peer: Resource) -> None:
        """What was attached, or lost, while the peer did not answer is talked about now."""
        for device in resource.devices.values():
            other = peer.devices.get(device.volume)
            if device.disk == "Diskless" and other is not None and other.peer_disk != "Diskless":
                self.misses_disk(peer, resource, device)
            if device.unheard and resource.connected:
                device.unheard = False
                self.meet(resource, peer, device.volume)

    def look_again(self) -> None:
        """After a link or a node came back: who was not missed yet hears what it was not told meanwhile."""
        for machine in self.world.machines.values():
            for resource in machine.kernel.resources.values() if machine.on else ():
                if resource.connected and resource.reachable and resource.peer is not None:
                    resource.peer_role = resource.peer.role
                    self._hear(resource, resource.peer)
        for name in sorted({name for one in self.world.machines.values() if one.on for name in one.kernel.resources}):
            self.seek(name)
