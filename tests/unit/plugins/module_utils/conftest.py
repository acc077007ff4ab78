# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the node side share: recordings, files below a temporary folder, volumes in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils._files import SystemFiles
from ansible_collections.twofold.cluster.plugins.module_utils._journal import FileJournal
from ansible_collections.twofold.cluster.plugins.module_utils._libvirt import Libvirt
from ansible_collections.twofold.cluster.plugins.module_utils._lock import FileLock
from ansible_collections.twofold.cluster.plugins.module_utils._lvm import Group, Volume, round_up
from ansible_collections.twofold.cluster.plugins.module_utils._node import Node, this_node
from ansible_collections.twofold.cluster.plugins.module_utils._progress import FileProgress

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "cmd"


@pytest.fixture
def recorded() -> Callable[[str], str]:
    """What a tool really said, by tool and case."""
    return lambda case: (FIXTURES / case).read_text()


class RootedFiles(SystemFiles):
    """Real files, all below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _place(self, path: str) -> str:
        return str(self.root) + path

    def read(self, path: str) -> str | None:
        return super().read(self._place(path))

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        super().write(self._place(path), text, mode)

    def remove(self, path: str) -> bool:
        return super().remove(self._place(path))

    def names(self, folder: str) -> list[str]:
        return super().names(self._place(folder))


class Clock:
    """Time that passes when somebody waits; the clock on the wall may be set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.ahead = 0.0

    def time(self) -> float:
        return self.now + self.ahead

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class MemoryVolumes:
    """Logical volumes that are only a list; a step sees of LVM nothing else."""

    def __init__(self, free: int = 1 << 34) -> None:
        self.group = Group("vg0", free, free, 4 << 20)
        self.known: dict[str, Volume] = {}
        self.content: dict[str, str] = {}
        self.origins: dict[str, Volume] = {}

    def groups(self) -> dict[str, Group]:
        return {"vg0": self.group}

    def volumes(self) -> list[Volume]:
        return list(self.known.values())

    def find(self, volume_group: str, name: str) -> Volume | None:
        return self.known.get(f"{volume_group}/{name}")

    def create(self, volume_group: str, name: str, size: int, tags: list[str]) -> None:
        size = round_up(size, self.group.extent)
        self.group = self.group._replace(free=self.group.free - size)
        volume = Volume(volume_group, name, size, tuple(sorted(tags)), False)
        self.known[volume.path] = volume
        self.content[volume.device] = "old data"

    def remove(self, volumes: list[Volume]) -> None:
        assert volumes, "lvremove wants to know what"
        for volume in volumes:
            del self.known[volume.path]
            for snapshot in [one for one in self.known.values() if one.origin == volume.name]:
                del self.known[snapshot.path]

    def retag(self, volumes: list[Volume], add: list[str], delete: list[str]) -> None:
        for volume in volumes:
            tags = tuple(sorted((set(self.known[volume.path].tags) | set(add)) - set(delete)))
            self.known[volume.path] = self.known[volume.path]._replace(tags=tags)

    def extend(self, volume: Volume, size: int) -> None:
        self.known[volume.path] = self.known[volume.path]._replace(size=size)

    def rename(self, volume: Volume, name: str) -> None:
        renamed = self.known.pop(volume.path)._replace(name=name)
        self.known[renamed.path] = renamed
        for one in [one for one in self.known.values() if one.origin == volume.name]:
            self.known[one.path] = one._replace(origin=name)

    def snapshot(self, volume: Volume, name: str, tags: list[str]) -> None:
        self.create(volume.volume_group, name, volume.size, tags)
        made = self.known[f"{volume.volume_group}/{name}"]._replace(origin=volume.name)
        self.known[made.path] = made
        self.content[made.device], self.origins[made.path] = self.content[volume.device], volume

    def unchanged(self, snapshots: list[Volume]) -> set[str]:
        pairs = [(one, self.origins[one.path]) for one in snapshots if one.path in self.origins]
        return {one.path for one, origin in pairs if self.content[one.device] == self.content[origin.device]}

    def forget(self) -> None:
        return

    # The devices of these volumes

    def size(self, path: str) -> int:
        return next(one.size for one in self.known.values() if one.device == path)

    def zero(self, path: str, report: Callable[[int, int], None], start: int = 0) -> None:
        self.content[path] = "zeros"
        report(1, 1)

    def contents(self, path: str) -> str | None:
        return None if self.content[path] == "zeros" else self.content[path]

    def wait(self, path: str) -> None:
        assert path in self.content


HOST = "<node><cpu><mhz>1000</mhz><model>i686</model><active>2</active></cpu><memory>8388608</memory></node>"


class BenchNode(Node):
    """A node of which a test may see and change more than a step."""

    volumes: MemoryVolumes
    lock: FileLock
    hypervisor: Libvirt
    devices: Any
    replication: Any
    host: Any


@pytest.fixture
def node(tmp_path: Path) -> BenchNode:
    """A node with real files and libvirt's own test driver; volumes are in memory."""
    files, clock, volumes = RootedFiles(tmp_path), Clock(), MemoryVolumes()
    made = BenchNode(**vars(this_node()))
    made.files, made.clock = files, clock
    made.volumes = made.devices = volumes
    made.journal, made.progress = FileJournal(files), FileProgress(files, clock)
    made.lock = FileLock(files, clock)
    made.lock.flock_path = str(tmp_path / "lock")
    # With a file of its own, a test host is not shared between tests.
    host = tmp_path / "host.xml"
    host.write_text(HOST)
    made.hypervisor = Libvirt(clock, f"test://{host}")
    return made
