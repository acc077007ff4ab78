# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node's volume group, as LVM would keep it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ansible_collections.twofold.cluster.plugins.module_utils._errors import CommandFailed, Refused, TwofoldError
from ansible_collections.twofold.cluster.plugins.module_utils._lvm import Group, Volume, device, round_up

from .contents import ZEROS, Content, garbage

if TYPE_CHECKING:
    from .drbd_meta import Superblock
    from .machine import Machine

EXTENT = 4 << 20


@dataclass
class Lv:
    """A logical volume with what is on it.

    `superblock` is DRBD's metadata; a `failing` one answers with errors; `origin` is what it is a snapshot of.
    """

    group: str
    name: str
    size: int
    tags: set[str]
    content: Content = field(default_factory=garbage)
    superblock: Superblock | None = None
    failing: bool = False
    origin: Lv | None = None

    @property
    def path(self) -> str:
        """The device."""
        return device(self.group, self.name)

    def tagged(self, what: str) -> str | None:
        """The value of one of our tags."""
        start = f"twofold.{what}="
        return next((tag[len(start) :] for tag in self.tags if tag.startswith(start)), None)


class Storage:
    """The volume groups of a node; survives its power."""

    def __init__(self, machine: Machine, sizes: dict[str, int]) -> None:
        self.machine = machine
        self.sizes = sizes
        self.volumes: dict[str, Lv] = {}

    def free(self, group: str) -> int:
        """Bytes that are free."""
        return self.sizes[group] - sum(one.size for one in self.volumes.values() if one.group == group)

    def at(self, path: str) -> Lv:
        """The volume of a device."""
        found = self.volumes.get(path)
        if found is None:
            raise TwofoldError(f"{path} does not exist", "look at it")
        return found


class SimVolumes:
    """`Volumes` of one call. As with the real one, what was read is kept and follows the changes made here."""

    EFFECTS = frozenset({"create", "remove", "retag", "extend", "rename", "snapshot"})

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.storage = machine.storage
        self._read: tuple[dict[str, Group], list[Volume]] | None = None

    def _report(self) -> tuple[dict[str, Group], list[Volume]]:
        if self._read is None:
            sizes = self.storage.sizes
            groups = {name: Group(name, size, self.storage.free(name), EXTENT) for name, size in sizes.items()}
            volumes = [
                Volume(
                    one.group,
                    one.name,
                    one.size,
                    tuple(sorted(one.tags)),
                    self.machine.holds_open(one),
                    one.origin.name if one.origin is not None else "",
                )
                for one in self.storage.volumes.values()
            ]
            self._read = groups, volumes
        return self._read

    def groups(self) -> dict[str, Group]:
        return self._report()[0]

    def volumes(self) -> list[Volume]:
        return self._report()[1]

    def find(self, volume_group: str, name: str) -> Volume | None:
        return next((one for one in self.volumes() if (one.volume_group, one.name) == (volume_group, name)), None)

    def create(self, volume_group: str, name: str, size: int, tags: list[str]) -> None:
        group = self.groups()[volume_group]
        self._read = None
        path, size = device(volume_group, name), round_up(size, EXTENT)
        if path in self.storage.volumes:
            raise failed(["lvcreate"], f'Logical Volume "{name}" already exists in volume group "{volume_group}"')
        if size > self.storage.free(volume_group):
            raise failed(["lvcreate"], f'Volume group "{volume_group}" has insufficient free space')
        self.storage.volumes[path] = Lv(volume_group, name, size, set(tags))
        self.machine.touched(path)
        groups, volumes = self._report()
        self._read = {**groups, volume_group: group._replace(free=group.free - size)}, volumes

    def remove(self, volumes: list[Volume]) -> None:
        self._read = None
        for one in volumes:
            found = self.storage.volumes.get(one.device)
            if found is None:
                raise failed(["lvremove"], f'Failed to find logical volume "{one.path}"')
            if self.machine.holds_open(found):
                raise failed(["lvremove"], f"Logical volume {one.path} in use.")
            # With an origin LVM removes its snapshots.
            for gone in [lv for lv in self.storage.volumes.values() if lv is found or lv.origin is found]:
                self.machine.world.rules.volume_goes(self.machine, gone)
                del self.storage.volumes[gone.path]
                self.machine.touched(gone.path)

    def retag(self, volumes: list[Volume], add: list[str], delete: list[str]) -> None:
        self._read = None
        for one in volumes:
            found = self.storage.volumes.get(one.device)
            if found is None:
                raise failed(["lvchange"], f'Failed to find logical volume "{one.path}"')
            if "twofold.pending=install" in add:
                self.machine.world.rules.installs_anew(found)
            found.tags = (found.tags | set(add)) - set(delete)

    def extend(self, volume: Volume, size: int) -> None:
        self._read = None
        found, size = self.storage.at(volume.device), round_up(size, EXTENT)
        if size - found.size > self.storage.free(found.group):
            raise failed(["lvextend"], "Insufficient free space")
        found.size = size

    def rename(self, volume: Volume, name: str) -> None:
        self._read = None
        found, path = self.storage.at(volume.device), device(volume.volume_group, name)
        if path in self.storage.volumes:
            raise failed(["lvrename"], f'Logical Volume "{name}" already exists')
        del self.storage.volumes[found.path]
        found.name = name
        self.storage.volumes[path] = found
        self.machine.touched(volume.device)

    def snapshot(self, volume: Volume, name: str, tags: list[str]) -> None:
        self._read = None
        found, path = self.storage.at(volume.device), device(volume.volume_group, name)
        if path in self.storage.volumes or found.size > self.storage.free(found.group):
            raise failed(["lvcreate"], f"cannot make the snapshot {name}")
        block = found.superblock.copy() if found.superblock is not None else None
        self.storage.volumes[path] = Lv(found.group, name, found.size, set(tags), found.content, block, origin=found)

    def unchanged(self, snapshots: list[Volume]) -> set[str]:
        taken = [(one.path, self.storage.at(one.device)) for one in snapshots]
        return {path for path, lv in taken if lv.origin is not None and lv.origin.content is lv.content}

    def forget(self) -> None:
        self._read = None


class SimDevices:
    """`Devices` of one call."""

    EFFECTS = frozenset({"zero"})

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def size(self, path: str) -> int:
        return self.machine.device_size(path)

    def zero(self, path: str, report: Callable[[int, int], None], start: int = 0) -> None:
        found = self.machine.storage.at(path)
        if start:
            report(1, 1)
            return
        if self.machine.holds_open(found):
            raise Refused(f"{path} cannot be opened: Device or resource busy", "see what uses it")
        if found.failing:
            raise failed(["blkdiscard"], f"{path}: BLKZEROOUT ioctl failed: Input/output error")
        self.machine.overwrite(found, ZEROS)
        found.superblock = None
        report(1, 1)

    def contents(self, path: str) -> str | None:
        return None if self.machine.backing(path).content is ZEROS else "data"

    def wait(self, path: str) -> None:
        self.machine.storage.at(path)


def failed(argv: list[str], said: str) -> CommandFailed:
    """A command's error."""
    return CommandFailed(argv, 5, "", said)
