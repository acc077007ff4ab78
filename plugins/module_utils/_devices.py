# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Block devices: their size, zeroing them, what is on them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable, Protocol

from ._errors import CommandFailed, Refused, TwofoldError
from ._runner import Runner

BLKZEROOUT = 0x127F
CHUNK = 64 * 1024 * 1024
# So much is read at either end of a device to see whether it is empty.
EDGE = 1 << 20
# The codes of blkid: it knows what is there, nothing that it knows is there, more than one thing is.
KNOWN, NOTHING, MIXED = 0, 2, 8
Report = Callable[[int, int], None]


class Devices(Protocol):
    """What is done to block devices as such."""

    def size(self, path: str) -> int: ...

    def zero(self, path: str, report: Report, start: int = 0) -> None: ...

    def contents(self, path: str) -> str | None: ...

    def wait(self, path: str) -> None: ...


class SystemDevices:
    """The machine's own devices."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def size(self, path: str) -> int:
        """Bytes of a device."""
        handle = open_device(path, os.O_RDONLY)
        try:
            return os.lseek(handle, 0, os.SEEK_END)
        finally:
            os.close(handle)

    def zero(self, path: str, report: Report, start: int = 0) -> None:
        """Makes a device read as zeros from a byte on, without reading it and without the page cache.

        From the beginning only if nothing else has it open; a later part may be new space of a disk in use.

        The kernel's BLKZEROOUT (what `blkdiscard -z` uses) lets the device do it where it can and writes zeros past
        the cache where it cannot. It is done in chunks, so that it can be watched and stopped.
        """
        handle = open_device(path, os.O_WRONLY | (0 if start else os.O_EXCL))
        try:
            with _zeroing(path):
                size = os.lseek(handle, 0, os.SEEK_END)
            for done in range(start, size, CHUNK):
                step = min(CHUNK, size - done)
                with _zeroing(path):
                    _zero_out(handle, done, step)
                report(done + step, size)
            with _zeroing(path):
                os.fsync(handle)
        finally:
            os.close(handle)

    def contents(self, path: str) -> str | None:
        """What a device carries: what blkid knows, or anything but zeros at its edges; None if it is empty.

        That blkid knows nothing does not say that nothing is there: it knows no database and no guest's own format.
        """
        known = self._signature(path)
        if known:
            return known
        handle = open_device(path, os.O_RDONLY)
        try:
            return "something that blkid does not know" if _written(handle) else None
        except OSError as error:
            message = f"{path} cannot be read: {error.strerror}"
            raise TwofoldError(message, "look for errors of the disk in the kernel's log") from error
        finally:
            os.close(handle)

    def _signature(self, path: str) -> str | None:
        argv = ["blkid", "--probe", "--match-tag", "TYPE", "--match-tag", "PTTYPE", "--output", "value", path]
        result = self.runner.run(argv, mutates=False, check=False)
        if result.code == MIXED:
            return "more than one kind of data"
        if result.code not in (KNOWN, NOTHING):
            raise CommandFailed(argv, result.code, result.stdout, result.stderr, f"see if {path} can be read")
        return result.stdout.strip().replace("\n", ", ") or None

    def wait(self, path: str) -> None:
        """Lets udev finish with a device that was just made."""
        if not os.path.exists(path):
            self.runner.run(["udevadm", "settle", "--timeout", "30"], mutates=False, timeout=40)
        if not os.path.exists(path):
            raise TwofoldError(f"the device {path} did not appear", "look at the logs of udev and LVM")


@contextmanager
def _zeroing(path: str) -> Iterator[None]:
    """An error of the disk is told as one, and nothing else is."""
    try:
        yield
    except OSError as error:
        raise TwofoldError(f"{path} could not be zeroed: {error.strerror}", "look for errors of the disk") from error


def _zero_out(handle: int, start: int, length: int) -> None:
    from fcntl import ioctl

    ioctl(handle, BLKZEROOUT, struct.pack("QQ", start, length))


def _written(handle: int) -> bool:
    """Whether there is anything but zeros at an edge of a device."""
    size = os.lseek(handle, 0, os.SEEK_END)
    return any(any(os.pread(handle, EDGE, start)) for start in sorted({0, max(0, size - EDGE)}))


def open_device(path: str, flags: int) -> int:
    """Opens a block device and nothing else."""
    import stat

    try:
        handle = os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        remedy = "give the path of a block device" if missing else "see what uses it with lsblk and fuser"
        raise Refused(f"{path} cannot be opened: {error.strerror}", remedy) from error
    if not stat.S_ISBLK(os.fstat(handle).st_mode):
        os.close(handle)
        raise Refused(f"{path} is not a block device", "give the path of a block device")
    return handle
