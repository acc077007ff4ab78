# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One emulated machine: its disks, its QEMU command line, and starting, killing and asking it."""

from __future__ import annotations

import re
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

from . import network
from .command import run
from .errors import LabError
from .image import Image
from .process import Process
from .qmp import Qmp
from .topology import NETWORKS, Machine, Network

# Empty disks for the product: one for the volume group, one spare. Sizes in GiB, sparse.
DATA_DISKS = {"vdb": 8, "vdc": 2}
DISKS = ("vda", *DATA_DISKS)
READY_MARKER = "twofold-lab: up"
KERNEL_OPTIONS = (
    "root=/dev/vda rw console=ttyS0 quiet mitigations=off random.trust_cpu=on tsc=reliable no_timer_check"
    " net.ifnames=0 panic=-1"
)


@dataclass(frozen=True)
class Shape:
    """What must be the same for a snapshot to be restored."""

    memory_mib: int = 1536
    cpus: int = 1
    accel: str = "tcg"
    confined: bool = False

    def document(self) -> dict[str, object]:
        return asdict(self)


def disk_path(directory: Path, machine: Machine, disk: str) -> Path:
    return directory / f"{machine.name}-{disk}.qcow2"


def make_disks(directory: Path, machine: Machine, image: Image) -> None:
    """Fresh disks: an overlay on the image for the system, and empty ones for the product."""
    directory.mkdir(parents=True, exist_ok=True)
    _qcow2(disk_path(directory, machine, "vda"), ["-b", str(image.root), "-F", "raw"])
    for disk, size in DATA_DISKS.items():
        _qcow2(disk_path(directory, machine, disk), [], f"{size}G")


def make_overlays(directory: Path, machine: Machine, backing: Path) -> None:
    """Fresh overlays on the disks of a snapshot."""
    directory.mkdir(parents=True, exist_ok=True)
    for disk in DISKS:
        below = disk_path(backing, machine, disk)
        _qcow2(disk_path(directory, machine, disk), ["-b", str(below), "-F", "qcow2"])


def _qcow2(path: Path, options: list[str], size: str = "") -> None:
    path.unlink(missing_ok=True)
    run(["qemu-img", "create", "-q", "-f", "qcow2", *options, path, *([size] if size else [])])


def kernel_command_line(machine: Machine, shape: Shape) -> str:
    words = f"{KERNEL_OPTIONS} systemd.machine_id={machine.uuid.hex} labid={machine.number} labhost={machine.name}"
    if shape.accel == "tcg":
        # On a busy host the kernel measures an emulated TSC wrongly, and the node's time runs several times too fast.
        words += " clocksource=hpet"
    # Loading AppArmor profiles costs seconds under emulation; --confined keeps Debian's default.
    return words if shape.confined else f"{words} apparmor=0"


class Emulator:
    """The QEMU of one machine of one lab."""

    def __init__(self, lab: str, machine: Machine, runtime: Path, disks: Path) -> None:
        self.lab = lab
        self.machine = machine
        self.runtime = runtime
        self.disks = disks

    def __str__(self) -> str:
        return f"{self.machine.name} of lab {self.lab}"

    def path(self, suffix: str) -> Path:
        """A runtime file of this machine, e.g. its 'serial' log."""
        return self.runtime / f"{self.machine.name}.{suffix}"

    def command_line(self, image: Image, shape: Shape) -> list[str]:
        argv = ["qemu-system-x86_64", "-name", f"{self.lab}-{self.machine.name}", "-uuid", str(self.machine.uuid)]
        argv += ["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35,usb=off,smbus=off,sata=off"]
        if shape.accel == "kvm":
            argv += ["-accel", "kvm", "-cpu", "host"]
        else:
            # Five-level page tables cost a lot when each walk is emulated.
            argv += ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,la57=off"]
        argv += ["-m", str(shape.memory_mib), "-smp", str(shape.cpus), "-rtc", "base=utc"]
        argv += ["-kernel", str(image.kernel), "-initrd", str(image.initramfs)]
        argv += ["-append", kernel_command_line(self.machine, shape)]
        argv += ["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"]
        for disk in DISKS:
            argv += self._disk(disk)
        for item in NETWORKS:
            argv += self._nic(item)
        serial = f"socket,id=serial,path={self.path('console')},server=on,wait=off,logfile={self.path('serial')}"
        argv += ["-chardev", f"{serial},logappend=on", "-serial", "chardev:serial"]
        argv += ["-qmp", f"unix:{self.path('qmp')},server=on,wait=off"]
        return [*argv, "-pidfile", str(self.path("qemu-pid")), "-daemonize"]

    def _disk(self, disk: str) -> list[str]:
        path = disk_path(self.disks, self.machine, disk)
        # 'unsafe' skips the host's fsync alone: what a guest flushed is in the host's page cache, and so survives
        # the SIGKILL of QEMU that stands for a power cut.
        drive = f"if=none,id={disk},file={path},format=qcow2,cache=unsafe,discard=unmap,detect-zeroes=off"
        return ["-drive", drive, "-device", f"virtio-blk-pci,id=disk-{disk},drive={disk},serial={disk}"]

    def _nic(self, item: Network) -> list[str]:
        netdev = f"tap,id={item.name},ifname={item.tap(self.machine.name)},script=no,downscript=no,vhost=off"
        nic = f"virtio-net-pci,id=nic-{item.name},netdev={item.name},mac={self.machine.mac(item)},romfile="
        return ["-netdev", netdev, "-device", nic]

    def start(self, image: Image, shape: Shape, incoming: Path | None = None) -> None:
        """Start QEMU; with incoming it continues a saved machine, stopped until 'cont'."""
        if self.process():
            raise LabError(f"{self}: is already on")
        for suffix in ("serial", "qemu-pid", "pid"):
            self.path(suffix).unlink(missing_ok=True)
        argv = self.command_line(image, shape)
        if incoming:
            argv += ["-incoming", f"exec:exec cat {incoming}"]
        run(network.inside(self.lab, argv), timeout=60, what=f"{self}: start QEMU")
        Process.of(int(self.path("qemu-pid").read_text())).save(self.path("pid"))

    def process(self) -> Process | None:
        """Its QEMU, if it runs."""
        found = Process.load(self.path("pid"))
        return found if found and found.alive() else None

    def require_process(self) -> Process:
        found = self.process()
        if not found:
            raise LabError(f"{self}: is off; switch it on with 'lab power on {self.machine.name} --name {self.lab}'")
        return found

    def kill(self) -> None:
        """A power cut."""
        found = self.process()
        if found:
            found.kill()
        self.path("pid").unlink(missing_ok=True)

    def freeze(self) -> None:
        self.require_process().signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.require_process().signal(signal.SIGCONT)

    def qmp(self) -> Qmp:
        self.require_process()
        return Qmp(self.path("qmp"), str(self))

    def set_link(self, item: Network, up: bool) -> None:
        with self.qmp() as qmp:
            qmp.execute("set_link", name=f"nic-{item.name}", up=up)

    def throttle(self, disk: str, bytes_per_second: int, iops: int) -> None:
        """Slow one disk; 0 means no limit."""
        if disk not in DISKS:
            raise LabError(f"{self}: disk {disk!r}: it has {', '.join(DISKS)}")
        limits = {"bps": bytes_per_second, "bps_rd": 0, "bps_wr": 0, "iops": iops, "iops_rd": 0, "iops_wr": 0}
        with self.qmp() as qmp:
            qmp.execute("block_set_io_throttle", device=disk, **limits)

    def said_ready(self) -> bool:
        """Whether the machine has said on its serial port that it is up."""
        try:
            text = self.path("serial").read_text(errors="replace")
        except OSError:
            return False
        return READY_MARKER in text

    def last_words(self) -> str:
        """The end of what the serial port showed."""
        try:
            text = self.path("serial").read_text(errors="replace")
        except OSError:
            return "(nothing on the serial port)"
        lines = [line for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).splitlines() if line.strip()]
        return "\n  ".join(lines[-6:]) or "(nothing on the serial port)"
