# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node: what it holds, its power, and the calls that run on it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from ansible_collections.twofold.cluster.plugins.module_utils import _apply, _bring_up, _observe
from ansible_collections.twofold.cluster.plugins.module_utils._devices import Devices
from ansible_collections.twofold.cluster.plugins.module_utils._drbd import Replication
from ansible_collections.twofold.cluster.plugins.module_utils._errors import HypervisorError, TwofoldError
from ansible_collections.twofold.cluster.plugins.module_utils._images import Images
from ansible_collections.twofold.cluster.plugins.module_utils._installer import Installer
from ansible_collections.twofold.cluster.plugins.module_utils._libvirt import Hypervisor
from ansible_collections.twofold.cluster.plugins.module_utils._lvm import Volumes
from ansible_collections.twofold.cluster.plugins.module_utils._node import Node
from ansible_collections.twofold.cluster.plugins.module_utils._progress import FileProgress

from .contents import Content, partial
from .domain import FOREIGN
from .drbd import Device, Kernel, Resource
from .engine import Killed, Task
from .libvirt import Guest, Libvirtd, SimHypervisor
from .power_back import Alone
from .replication import SimReplication
from .small import SimClock, SimFiles, SimHost, SimImages, SimInstaller, SimJournal, SimLock, SimSeeds
from .storage import Lv, SimDevices, SimVolumes, Storage

if TYPE_CHECKING:
    from .operator import Run
    from .world import World

GIB = 1 << 30
LONG = 3600.0


class Machine:
    """A node of the world."""

    def __init__(self, world: World, name: str, index: int, space: int, memory: int) -> None:
        self.world = world
        self.name = name
        self.hostname = f"{name}.example"
        self.address = f"192.0.2.{10 + index}"
        self.replication_address = f"198.51.100.{10 + index}"
        self.memory = memory
        self.bridges = {"br-lan"}
        self.on = True
        self.boots = 1
        self.frozen = False
        # When that began, and how many seconds it took.
        self.frozen_at = self.stood = 0.0
        # Seconds that its clock is ahead.
        self.skew = 0.0
        self.booted_at = world.engine.now - LONG
        # When the unit that brings DRBD up at boot has ended.
        self.up_at = 0.0
        # How likely that unit does.
        self.brings_up = 0.85
        self.storage = Storage(self, {"twofold": space})
        self.kernel = Kernel(self)
        self.libvirt = Libvirtd(self)
        self.files = SimFiles()
        self.seeds = SimSeeds()
        self.images: set[str] = set()
        self.installing: set[str] = set()
        self.flock: Task | None = None
        self.processes: dict[int, Task] = {}
        self.alone = Alone(self)
        self.files.kernel["/proc/drbd"] = self._proc

    def add_foreign(self) -> None:
        """What was there before us, and is nobody's business."""
        for name in ("swap", "backup-disk0"):
            lv = Lv("twofold", name, 4 << 20, set())
            self.storage.volumes[lv.path] = lv
        self.libvirt.domains["legacy"] = Guest(FOREIGN.format(name="legacy", uuid=f"{self.name}-legacy"))

    @property
    def uptime(self) -> float:
        """Seconds since it booted."""
        return self.world.engine.now - self.booted_at

    @property
    def awake(self) -> bool:
        """Whether anything goes on here."""
        return self.on and not self.frozen

    @property
    def booting(self) -> bool:
        """Whether its units are still being started."""
        return self.world.engine.now < self.up_at

    def _proc(self) -> str:
        return self.kernel.proc()

    # What holds what

    def reaches(self, other: Machine) -> bool:
        """Whether packets of the replication network get there, and something answers."""
        alive = self.awake and other.awake
        return alive and frozenset((self.name, other.name)) not in self.world.cut

    def holds_open(self, lv: Lv) -> bool:
        """Whether something has a volume open."""
        return self.kernel.holds(lv) or self.libvirt.opens(lv.path) or lv.path in self.installing

    def opens(self, resource: Resource) -> bool:
        """Whether something has a device of a resource open."""
        paths = [f"/dev/drbd{one.minor}" for one in resource.devices.values()]
        return any(self.libvirt.opens(path) or path in self.installing for path in paths)

    def replicated(self, path: str) -> tuple[Resource, Device] | None:
        """The resource behind a path, if it is one of DRBD's; an error if there is none with this minor."""
        if not path.startswith("/dev/drbd"):
            return None
        found = self.kernel.by_minor(int(path[len("/dev/drbd") :]))
        if found is None:
            raise TwofoldError(f"{path} does not exist", "look at it")
        return found

    def backing(self, path: str) -> Lv:
        """The volume that a path leads to."""
        found = self.replicated(path)
        if found is None:
            return self.storage.at(path)
        if found[1].data is None:
            raise TwofoldError(f"{path} has no disk", "look at it")
        return found[1].data

    def device_size(self, path: str) -> int:
        """Bytes of a device."""
        found = self.replicated(path)
        return self.storage.at(path).size if found is None else found[1].size

    def writable(self, path: str) -> None:
        """Open a device for writing, or say why not."""
        found = self.replicated(path)
        if found is None:
            if self.kernel.holds(self.storage.at(path)):
                raise HypervisorError(f"Could not open '{path}': Device or resource busy")
        elif not found[0].primary:
            raise HypervisorError(f"Could not open '{path}': Wrong medium type")

    # What is written

    def write(self, path: str, content: Content) -> bool:
        """Write through a path; whether it was acknowledged."""
        found = self.replicated(path)
        if found is not None:
            return self.kernel.write(*found, content)
        lv = self.storage.at(path)
        if not lv.failing:
            lv.content = content
        return not lv.failing

    def content(self, path: str) -> Content | None:
        """What a reader sees; a disk that is not up to date is read from the peer."""
        found = self.replicated(path)
        if found is None:
            return self.storage.at(path).content
        resource, device = found
        if device.disk == "UpToDate" and device.data is not None:
            return device.data.content
        peer = resource.peer.devices.get(device.volume) if resource.connected and resource.peer else None
        return peer.data.content if peer is not None and peer.disk == "UpToDate" and peer.data is not None else None

    def overwrite(self, lv: Lv, content: Content) -> None:
        """Something else is on a volume now."""
        lv.content = content
        self.touched(lv.path)

    def install(self, path: str, between: Callable[[], None]) -> None:
        """Write an OS to a device; half-way there is half of it."""
        self.writable(path)
        if self.backing(path).failing:
            raise TwofoldError(f"write to {path}: Input/output error", "look at the disk")
        self.world.rules.os_is_written(self.backing(path))
        self.installing.add(path)
        try:
            done = Content("os")
            self._must(path, partial(done))
            between()
            self._must(path, done)
        finally:
            self.installing.discard(path)

    def _must(self, path: str, content: Content) -> None:
        for _attempt in range(40):
            if self.write(path, content):
                self.touched(path)
                return
            self.world.engine.pause(0.5)
        raise TwofoldError(f"writing to {path} hangs", "look at DRBD")

    def touched(self, path: str) -> None:
        """The instance of a device is not as it was."""
        name = path.rpartition("/")[2]
        self.world.changed(name.partition("-disk")[0] if "-disk" in name else "")
        found = self.kernel.by_minor(int(name[4:])) if name.startswith("drbd") else None
        if found is not None:
            self.world.changed(found[0].name)

    # Power

    def power_off(self) -> None:
        """The power goes: what was being written may be on one copy, guests and processes are gone."""
        if not self.on:
            return
        self.world.guests.torn(self)
        self.on = self.frozen = False
        self.world.engine.thaw(self.name)
        for task in list(self.world.engine.tasks):
            if task.place == self.name:
                task.kill()
        for name in [name for name, guest in self.libvirt.domains.items() if guest.moving]:
            self.world.engine.later(1.0, functools.partial(self._forsaken, name))
        self.libvirt.power_lost()
        self.files.power_lost()
        for resource in self.kernel.resources.values():
            self.world.changed(resource.name)
        self.kernel = Kernel(self)
        self.installing.clear()
        self.flock = None
        self.world.drbd.watch()

    def freeze(self) -> None:
        """The machine stops without noticing, as under a hypervisor that is busy or a kernel that hangs."""
        if self.awake:
            self.frozen, self.frozen_at = True, self.world.engine.now
            self.world.engine.freeze(self.name)
            self.world.drbd.watch()

    def thaw(self) -> None:
        """It goes on, and finds that time has passed."""
        if self.frozen:
            self.frozen, self.stood = False, self.world.engine.now - self.frozen_at
            self.world.log(f"{self.name} goes on")
            self.world.engine.thaw(self.name)
            self.world.drbd.watch()
            self.world.drbd.look_again()

    def _forsaken(self, name: str) -> None:
        """The other half of a migration ends with the connection, unless it runs already."""
        for machine in self.world.machines.values():
            guest = machine.libvirt.domains.get(name)
            if machine is self or not machine.on or guest is None or not guest.moving or guest.state != "paused":
                continue
            if machine.frozen:
                self.world.engine.later(1.0, functools.partial(self._forsaken, name))
            else:
                machine.libvirt.stop(name)

    def power_on(self) -> None:
        """The node boots: DRBD comes up, mostly; no guest starts but what somebody marked for libvirt."""
        if self.on:
            return
        self.on = True
        self.boots += 1
        self.booted_at = self.world.engine.now
        for name, guest in list(self.libvirt.domains.items()):
            if guest.autostart:
                try:
                    self.libvirt.start(name)
                except TwofoldError as error:
                    self.world.log(f"{self.name}: autostart of {name}: {error.message}")
        self.up_at = self.world.engine.now + 2 + 15 * self.world.rng.random()
        if self.world.rng.random() < self.brings_up:
            boot = self.boots
            self.world.engine.later(self.up_at - self.world.engine.now, lambda: self._bring_up(boot))
        self.alone.begin(self.up_at - self.world.engine.now)
        self.world.drbd.look_again()

    def heal(self) -> None:
        """Everything is as it should be again."""
        self.skew = 0.0
        for lv in self.storage.volumes.values():
            lv.failing = False
        self.thaw()
        self.power_on()

    def lose(self, name: str) -> None:
        """The disk that holds the volumes of an instance here is replaced by an empty one."""
        lost = [lv for lv in self.storage.volumes.values() if lv.tagged("instance") == name]
        for lv in lost:
            self.kernel.disk_fails(lv)
            del self.storage.volumes[lv.path]
            self.touched(lv.path)

    def _bring_up(self, boot: int) -> None:
        """The real program, after a boot: every resource that has a file comes up; one that cannot be is left."""
        if self.frozen:
            self.world.engine.later(1.0, lambda: self._bring_up(boot))
        if not self.awake or self.boots != boot:
            return
        replication = SimReplication(self, lambda: None, lambda _seconds: None)
        for line in _bring_up.bring_up(replication):
            self.world.log(f"{self.name}: DRBD at boot: {line}")

    # Calls

    def pid(self, task: Task | None) -> int:
        """The process number of a task."""
        for pid, known in self.processes.items():
            if known is task:
                return pid
        self.world.pids += 1
        assert task is not None
        self.processes[self.world.pids] = task
        return self.world.pids

    def call(self, run: Run | None, operation: str, arguments: dict[str, Any], *, check: bool = False) -> Task:
        """Start a call of the node-side library."""

        def body() -> Any:
            node = self.node(run, check=check)
            try:
                if operation == "observe":
                    return _observe.observe(node, arguments["node"])
                return _apply.apply(node, arguments)
            except TwofoldError as error:
                return {"error": {"message": error.message, "remedy": error.remedy}}

        return self.world.engine.spawn(f"{operation}@{self.name}", body, place=self.name, run=run)

    def node(self, run: Run | None, *, check: bool = False) -> Node:
        """A node as steps see it, every interface behind a door where faults wait."""
        world = self.world

        def between() -> None:
            breathe("between", "commands", after=False)

        def breathe(what: str, method: str, *, after: bool) -> None:
            world.engine.pause(0.02 + 0.3 * world.rng.random() if not after else 0.0)
            if run is None:
                world.alone += 1
            else:
                run.breath(self, what, method, after=after)

        clock = SimClock(self, world.engine.pause)
        volumes: Volumes = SimVolumes(self)
        devices: Devices = SimDevices(self)
        replication: Replication = SimReplication(self, between, world.engine.pause)
        hypervisor: Hypervisor = SimHypervisor(self, world.engine.pause, between)
        images: Images = SimImages(self, between)
        installer: Installer = SimInstaller(self, between)
        doors: dict[str, Any] = {
            "volumes": volumes, "devices": devices, "replication": replication, "hypervisor": hypervisor,
            "files": self.files, "images": images, "seeds": self.seeds, "installer": installer,
            "journal": SimJournal(self), "lock": SimLock(self, clock),
        }  # fmt: skip
        made = {name: cast(Any, Door(self, name, real, breathe, check=check)) for name, real in doors.items()}
        progress = FileProgress(self.files, clock)
        return Node(**made, progress=progress, host=SimHost(self), clock=clock, check_mode=check)


class Door:
    """An interface, with a breath before and after every effect."""

    def __init__(self, machine: Machine, what: str, real: Any, breathe: Callable[..., None], *, check: bool) -> None:
        self._machine = machine
        self._what = what
        self._real = real
        self._breathe = breathe
        self._check = check

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        passed = self._through(name, method) if name in self._real.EFFECTS else method
        self.__dict__[name] = passed
        return passed

    def _through(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def through(*args: Any, **named: Any) -> Any:
            task = self._machine.world.engine.current
            if task is not None and task.killed:
                raise Killed
            # Looking at what an adjustment would do is none.
            dry = name == "adjust" and (args[1:2] == (True,) or named.get("dry") is True)
            if dry:
                return method(*args, **named)
            if self._check:
                self._machine.world.rules.changed_in_check_mode(self._machine, f"{self._what}.{name}")
            self._breathe(self._what, name, after=False)
            answer = method(*args, **named)
            self._breathe(self._what, name, after=True)
            return answer

        return through
