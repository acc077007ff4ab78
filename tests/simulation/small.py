# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The small interfaces of a node: files, images, seeds, OS scripts, clock, host; lock and journal are the real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ansible_collections.twofold.cluster.plugins.module_utils._errors import TwofoldError, UsageError
from ansible_collections.twofold.cluster.plugins.module_utils._images import FOLDER, Report
from ansible_collections.twofold.cluster.plugins.module_utils._installer import variables_for
from ansible_collections.twofold.cluster.plugins.module_utils._journal import FileJournal
from ansible_collections.twofold.cluster.plugins.module_utils._lock import FileLock
from ansible_collections.twofold.cluster.plugins.module_utils._seed import FOLDER as SEEDS
from ansible_collections.twofold.cluster.plugins.module_utils._seed import NAMES

if TYPE_CHECKING:
    from .machine import Machine

SIZE = 32 << 20


class SimFiles:
    """Files: what is under /run goes with the power; `kernel` are those that the kernel makes up."""

    EFFECTS = frozenset({"write", "remove"})

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, int]] = {}
        self.kernel: dict[str, Callable[[], str]] = {}

    def read(self, path: str) -> str | None:
        if path in self.kernel:
            return self.kernel[path]()
        found = self.kept.get(path)
        return None if found is None else found[0]

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        self.kept[path] = text, mode

    def remove(self, path: str) -> bool:
        return self.kept.pop(path, None) is not None

    def names(self, folder: str) -> list[str]:
        start = folder + "/"
        return sorted(path[len(start) :] for path in self.kept if path.startswith(start))

    def power_lost(self) -> None:
        """/run is in memory."""
        self.kept = {path: file for path, file in self.kept.items() if not path.startswith("/run/")}


class SimImages:
    """The cache of images."""

    EFFECTS = frozenset({"adopt", "fetch", "remove", "write"})

    def __init__(self, machine: Machine, between: Callable[[], None]) -> None:
        self.machine = machine
        self.between = between

    def cached(self) -> list[str]:
        return sorted(self.machine.images)

    def adopt(self, sha256: str, uploaded: str, report: Report) -> None:
        self.fetch(sha256, uploaded, report)

    def fetch(self, sha256: str, url: str, report: Report) -> None:
        report(0, SIZE)
        self.between()
        self.machine.images.add(sha256)

    def remove(self, sha256: str) -> bool:
        there = sha256 in self.machine.images
        self.machine.images.discard(sha256)
        return there

    def path(self, sha256: str) -> str:
        return f"{FOLDER}/{sha256}"

    def virtual_size(self, path: str, image_format: str) -> int:
        return SIZE

    def write(self, path: str, image_format: str, device: str, zeroed: bool) -> None:
        if path.rpartition("/")[2] not in self.machine.images:
            raise TwofoldError(f"{path} does not exist")
        self.machine.install(device, self.between)


class SimInstaller:
    """OS scripts."""

    EFFECTS = frozenset({"run"})

    def __init__(self, machine: Machine, between: Callable[[], None]) -> None:
        self.machine = machine
        self.between = between

    def run(self, instance: str, device: str, script: str, environment: dict[str, str], timeout: float) -> None:
        variables_for(instance, device, "/target", environment)
        self.machine.install(device, self.between)


class SimSeeds:
    """Seeds."""

    EFFECTS = frozenset({"write", "remove"})

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def there(self, path: str) -> bool:
        """Whether the file of a seed exists."""
        return path.startswith(SEEDS) and path[len(SEEDS) + 1 : -len(".iso")] in self.kept

    def digests(self) -> dict[str, str]:
        return dict(self.kept)

    def digest(self, name: str) -> str | None:
        return self.kept.get(name)

    def write(self, name: str, wanted: str, files: dict[str, str]) -> None:
        if not set(files) <= set(NAMES):
            raise UsageError(f"{sorted(files)} are not files of a seed")
        self.kept[name] = wanted

    def remove(self, name: str) -> bool:
        return self.kept.pop(name, None) is not None


class SimHost:
    """The machine itself."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def facts(self) -> dict[str, Any]:
        return {
            "hostname": self.machine.hostname,
            "boot_id": f"boot-{self.machine.boots}",
            "uptime": self.machine.uptime,
            "kernel": "6.12",
            "memory": {"total": self.machine.memory, "available": self.machine.memory},
            "cpus": 2,
            "load": 0.0,
        }

    def bridges(self) -> list[str]:
        return sorted(self.machine.bridges)

    def addresses(self) -> list[str]:
        return [self.machine.address, self.machine.replication_address]

    def tool_versions(self) -> dict[str, str | None]:
        return {"drbd_utils": "9.22.0", "python": "3.13.5"}

    def starting(self, units: tuple[str, ...]) -> bool:
        return bool(units) and self.machine.booting


class SimClock:
    """The node's clock, which may be wrong, and its uptime, which is not; who sleeps lets the others go on."""

    def __init__(self, machine: Machine, wait: Callable[[float], None]) -> None:
        self.machine = machine
        self.wait = wait

    def time(self) -> float:
        return self.machine.world.engine.now + self.machine.skew

    def monotonic(self) -> float:
        return self.machine.uptime

    def sleep(self, seconds: float) -> None:
        self.wait(seconds)


class SimLock(FileLock):
    """The real lease; the file lock of a process goes when the process does."""

    EFFECTS = frozenset({"acquire", "renew", "release"})

    def __init__(self, machine: Machine, clock: SimClock) -> None:
        super().__init__(machine.files, clock)
        self.machine = machine

    def _flock(self) -> int | None:
        held = self.machine.flock
        task = self.machine.world.engine.current
        if held is not None and not held.over and held is not task:
            return None
        self.machine.flock = task
        return 1

    def _let_go(self, handle: int) -> None:
        self.machine.flock = None


class SimJournal(FileJournal):
    """The real journal; a process is a task, and its number never comes again."""

    EFFECTS = frozenset({"begin", "end"})

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.files)
        self.machine = machine

    def _pid(self) -> int:
        return self.machine.pid(self.machine.world.engine.current)

    def _identity(self, pid: int) -> str | None:
        task = self.machine.processes.get(pid)
        return f"boot-{self.machine.boots}/{pid}" if task is not None and not task.over else None
