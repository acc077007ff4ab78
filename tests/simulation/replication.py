# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""`Replication` of one call: drbdadm and drbdsetup over the simulated kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ansible_collections.twofold.cluster.plugins.module_utils._drbd import (
    FOLDER,
    PREFIX,
    Configuration,
    DiskState,
    ResourceState,
    Resync,
)
from ansible_collections.twofold.cluster.plugins.module_utils._drbd_parse import put_secret, take_secret
from ansible_collections.twofold.cluster.plugins.module_utils._errors import CommandFailed

from . import drbd_config
from .drbd import CONNECTING, STAND_ALONE, Device, Resource, refused
from .drbd_config import Host
from .drbd_meta import JUST_CREATED, Superblock
from .storage import Lv

if TYPE_CHECKING:
    from .machine import Machine

Action = Callable[[], None]


class SimReplication:
    """Every `drbdsetup` of an `adjust` is a moment of its own: `between` lets others in, or ends it there."""

    EFFECTS = frozenset(
        {"write", "forget", "create_metadata", "adjust", "down", "clean_start", "primary", "secondary",
         "allow_two_primaries", "detach", "disconnect", "discard", "resize", "outdate"}
    )  # fmt: skip

    def __init__(self, machine: Machine, between: Callable[[], None], wait: Callable[[float], None]) -> None:
        self.machine = machine
        self.kernel = machine.kernel
        self.between = between
        self.wait = wait

    def versions(self) -> dict[str, str | None]:
        return {"drbd_kernel": "8.4.11"}

    def states(self) -> dict[str, ResourceState]:
        return {name: _state(one) for name, one in sorted(self.kernel.resources.items())}

    def state(self, name: str) -> ResourceState | None:
        found = self.kernel.resources.get(name)
        return None if found is None else _state(found)

    def resyncs(self) -> dict[int, Resync]:
        """Nothing, as with DRBD 9: how far they are has to be asked."""
        return {}

    def equal(self) -> set[int]:
        """As with DRBD 9."""
        return set()

    def names(self) -> list[str]:
        files = [file for file in self.machine.files.names(FOLDER) if file.startswith(PREFIX)]
        return [file[len(PREFIX) : -len(".res")] for file in files]

    def configurations(self) -> dict[str, Configuration]:
        found = {name: self.configuration(name) for name in self.names()}
        return {name: one for name, one in found.items() if one is not None}

    def configuration(self, name: str) -> Configuration | None:
        text = self.machine.files.read(self.path(name))
        return None if text is None else Configuration(*take_secret(text))

    @staticmethod
    def path(name: str) -> str:
        return f"{FOLDER}/{PREFIX}{name}.res"

    def validate(self, name: str, wanted: Configuration) -> None:
        drbd_config.read(wanted.text)

    def write(self, name: str, wanted: Configuration) -> None:
        self.machine.files.write(self.path(name), put_secret(wanted.text, wanted.secret), 0o600)

    def forget(self, name: str) -> None:
        self.machine.files.remove(self.path(name))

    def _here(self, name: str) -> tuple[Configuration, Host]:
        configuration = self.configuration(name)
        if configuration is None:
            raise refused("", f"'{name}' not defined in your config", 3)
        host = drbd_config.read(configuration.text).hosts.get(self.machine.hostname)
        if host is None:
            raise refused("", f"'{name}' not defined in your config (for this host)", 3)
        return configuration, host

    def _meta(self, name: str, volume: int) -> Lv:
        _configuration, host = self._here(name)
        if volume not in host.volumes:
            raise refused("", f"'{name}/{volume}' not defined in your config (for this host).", 10)
        return self.machine.storage.at(host.volumes[volume][2])

    def volumes(self, name: str) -> list[int]:
        """The volumes of a resource by its file."""
        return list(self._here(name)[1].volumes)

    def metadata(self, name: str, volume: int, device: str | None, wanted: Configuration | None = None) -> str:
        assert wanted is None, "no step looks before the configuration is in place"
        block = self._meta(name, volume).superblock
        return "none" if block is None else "new" if block.current == JUST_CREATED else "used"

    def create_metadata(self, name: str, volume: int) -> None:
        found = self._meta(name, volume)
        if self.kernel.holds(found):
            raise refused("create-md", f"Device '{found.path}' is configured!", 20)
        found.superblock = Superblock()
        self.machine.touched(found.path)

    def just_created(self, name: str, volume: int) -> bool:
        block = self._meta(name, volume).superblock
        if block is None:
            raise refused("get-gi", "No valid meta data found", 255)
        return block.current == JUST_CREATED

    def generations(self, name: str, volume: int) -> str:
        found = self.machine.storage.volumes.get(self._here(name)[1].volumes[volume][2])
        block = found.superblock if found is not None else None
        if block is None:
            raise refused("get-gi", "No valid meta data found", 255)
        current = block.current | (1 if block.primary else 0)
        flags = [str(int(one)) for one in (block.consistent, block.up_to_date, block.primary)]
        return ":".join([*(f"{one:016X}" for one in (current, block.bitmap, *block.history)), *flags, "0:0:0"])

    def size(self, minor: int) -> int | None:
        found = self.kernel.by_minor(minor)
        return None if found is None else found[1].size

    def resize(self, name: str, volume: int, clean: bool) -> None:
        resource = self._need(name)
        if not (resource.connected and resource.peer is not None and resource.reachable):
            raise refused("resize", f"{name}: Failure: (130) Resize not allowed during resync or without the peer")
        sides = [resource.devices[volume], resource.peer.devices[volume]]
        size = min(one.data.size for one in sides if one.data is not None)
        for one in sides:
            one.size = size

    def detach(self, name: str) -> None:
        """The peer has to agree: one that is gone without being missed yet is waited for until it is missed."""
        resource = self._need(name)
        while resource.connected and not resource.reachable:
            self.wait(0.5)
        for device in resource.devices.values():
            alone = not resource.connected or device.peer_disk != "UpToDate"
            needed = resource.connected and resource.peer_role == "Primary" and device.peer_disk != "UpToDate"
            if (resource.primary and alone) or needed:
                raise refused("detach", f"{name}: State change failed: (-2) Need access to UpToDate data")
            self.kernel.detach(resource, device)

    def disconnect(self, name: str) -> None:
        resource = self._need(name)
        self.kernel.may_part(resource)
        self.kernel.disconnect(resource)

    def discard(self, name: str, anew: Sequence[int] = ()) -> None:
        resource = self._need(name)
        if resource.primary:
            raise refused("connect", "Failure: (123) --discard-my-data not allowed when primary.", 10)
        self.machine.world.rules.gives_up(resource)
        if anew:
            self._do([partial(self.down, name), *(partial(self.create_metadata, name, volume) for volume in anew)])
            self.adjust(name, dry=False)
            return
        resource.gives_up = True
        self.kernel.connect(resource)

    def clean_start(self, name: str, volume: int) -> None:
        resource = self._need(name)
        self.kernel.clean_start(resource, resource.devices[volume])

    def adjust(self, name: str, dry: bool) -> bool:
        configuration, host = self._here(name)
        config = drbd_config.read(configuration.text)
        resource = self.kernel.resources.get(name)
        todo = list(self._start(name, configuration, host) if resource is None else self._differences(resource, host))
        if resource is not None and self._net_differs(resource, configuration):
            todo += [lambda: self.disconnect(name), lambda: self._renet(name, configuration)]
        if resource is None or resource.connection == STAND_ALONE or len(todo) > 1:
            todo.append(lambda: self.kernel.connect(self._need(name)))
        if resource is not None and (resource.allow or resource.options != config.options):
            todo.append(lambda: self._reoption(name, config.options))
        if not dry:
            self._do(todo)
        return bool(todo)

    def _do(self, todo: list[Action]) -> None:
        """One after another. When a disk cannot be attached, drbdadm goes on, connects, and ends with that error."""
        failed: CommandFailed | None = None
        for action in todo:
            self.between()
            try:
                action()
            except CommandFailed as error:
                if not (isinstance(action, partial) and action.func == self._attach):
                    raise
                failed = failed or error
        if failed is not None:
            raise failed

    def _start(self, name: str, configuration: Configuration, host: Host) -> list[Action]:
        config = drbd_config.read(configuration.text)
        todo: list[Action] = [lambda: self._new(name, configuration)]
        for volume, (minor, data, meta) in host.volumes.items():
            todo.append(partial(self._minor, name, volume, minor))
            todo.append(partial(self._attach, name, volume, data, meta))
        return todo if config else []

    def _new(self, name: str, configuration: Configuration) -> None:
        self.kernel.new(name, drbd_config.read(configuration.text), configuration.secret)

    def _minor(self, name: str, volume: int, minor: int) -> None:
        self.kernel.new_minor(self._need(name), volume, minor)

    def _attach(self, name: str, volume: int, data: str, meta: str) -> None:
        resource = self._need(name)
        self.kernel.attach(resource, resource.devices[volume], data, meta)

    def _differences(self, resource: Resource, host: Host) -> list[Action]:
        """What is there and not wanted goes first; another minor is another device."""
        devices, name = resource.devices, resource.name
        gone = {number for number, one in devices.items() if one.minor != host.volumes.get(number, (None,))[0]}
        todo: list[Action] = [partial(self._delete, name, volume) for volume in sorted(gone)]
        for volume, (minor, data, meta) in host.volumes.items():
            new = volume in gone or volume not in devices
            if new:
                todo.append(partial(self._minor, name, volume, minor))
            if new or devices[volume].disk == "Diskless":
                todo.append(partial(self._attach, name, volume, data, meta))
        return todo

    def _delete(self, name: str, volume: int) -> None:
        resource = self._need(name)
        if resource.primary:
            raise refused("del-minor", "Failure: (168) Minor is configured", 10)
        self.kernel.detach(resource, resource.devices[volume])
        del resource.devices[volume]

    def _net_differs(self, resource: Resource, configuration: Configuration) -> bool:
        config = drbd_config.read(configuration.text)
        addresses = {name: host.address for name, host in config.hosts.items()}
        return resource.secret != configuration.secret or addresses != {
            name: host.address for name, host in resource.config.hosts.items()
        }

    def _renet(self, name: str, configuration: Configuration) -> None:
        resource = self._need(name)
        resource.config, resource.secret = drbd_config.read(configuration.text), configuration.secret

    def _reoption(self, name: str, options: dict[str, str]) -> None:
        resource = self._need(name)
        self.kernel.allow_two_primaries(resource, False)
        resource.options = dict(options)

    def _need(self, name: str) -> Resource:
        found = self.kernel.resources.get(name)
        if found is None:
            raise refused("", f"{name}: unknown resource", 10)
        return found

    def down(self, name: str) -> None:
        if name in self.kernel.resources:
            self.kernel.down(self._need(name))

    def outdate(self, name: str) -> None:
        if name in self.kernel.resources:
            self.kernel.outdate(self._need(name))
            return
        # What the kernel does not have, drbdadm marks on its disk.
        for volume in self._here(name)[1].volumes:
            found = self._meta(name, volume)
            if found.superblock is None:
                raise refused("outdate", "No valid meta data found", 255)
            found.superblock.up_to_date = False
            self.machine.touched(found.path)

    def primary(self, name: str, force: bool = False) -> None:
        self.kernel.primary(self._need(name), force, self.wait)

    def secondary(self, name: str) -> None:
        self.kernel.secondary(self._need(name))

    def allow_two_primaries(self, name: str, allow: bool) -> None:
        self.kernel.allow_two_primaries(self._need(name), allow)


def _state(resource: Resource) -> ResourceState:
    options = {**resource.options, "allow-two-primaries": "yes" if resource.allow else "no"}
    volumes = tuple(_disk(resource, one) for _number, one in sorted(resource.devices.items()))
    peer = None
    if resource.connection != STAND_ALONE:
        hosts = resource.config.hosts.items()
        peer = next((f"ipv4 {host.address}" for name, host in hosts if name != resource.machine.hostname), None)
    return ResourceState(resource.name, resource.role, resource.peer_role, resource.connection, options, volumes, peer)


def _disk(resource: Resource, one: Device) -> DiskState:
    peer_disk = one.peer_disk if resource.connection != CONNECTING else "DUnknown"
    replication = {"source": "SyncSource", "target": "SyncTarget", None: "Established"}[one.syncing]
    return DiskState(
        volume=one.volume,
        minor=one.minor,
        disk=one.disk,
        peer_disk=peer_disk,
        done=50.0 if one.syncing else None,
        backing=one.data.path if one.data is not None else None,
        replication=replication if resource.connected else "Off",
        out_of_sync=None if one.block is None else 4096 * one.block.written,
    )
