# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Block devices: their size, zeroing them, what is on them."""

from __future__ import annotations

import os
import struct
from typing import Callable, Protocol

from ._errors import Refused, TwofoldError
from ._runner import Runner

BLKZEROOUT = 0x127F
CHUNK = 64 * 1024 * 1024
Report = Callable[[int, int], None]


class Devices(Protocol):
    """What is done to block devices as such."""

    def size(self, path: str) -> int: ...

    def zero(self, path: str, report: Report, start: int = 0) -> None: ...

    def signature(self, path: str) -> str | None: ...

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
        from fcntl import ioctl

        handle = open_device(path, os.O_WRONLY | (0 if start else os.O_EXCL))
        try:
            size = os.lseek(handle, 0, os.SEEK_END)
            done = start
            while done < size:
                step = min(CHUNK, size - done)
                ioctl(handle, BLKZEROOUT, struct.pack("QQ", done, step))
                done += step
                report(done, size)
            os.fsync(handle)
        except OSError as error:
            raise TwofoldError(
                f"{path} could not be zeroed: {error.strerror}", "look for errors of the disk"
            ) from error
        finally:
            os.close(handle)

    def signature(self, path: str) -> str | None:
        """The kind of data on a device that blkid knows, or None."""
        argv = ["blkid", "--probe", "--match-tag", "TYPE", "--match-tag", "PTTYPE", "--output", "value", path]
        result = self.runner.run(argv, mutates=False, check=False)
        if result.code == 8:
            return "more than one kind of data"
        return result.stdout.strip().replace("\n", ", ") or None

    def wait(self, path: str) -> None:
        """Lets udev finish with a device that was just made."""
        if not os.path.exists(path):
            self.runner.run(["udevadm", "settle", "--timeout", "30"], mutates=False, timeout=40)
        if not os.path.exists(path):
            raise TwofoldError(f"the device {path} did not appear", "look at the logs of udev and LVM")


def open_device(path: str, flags: int) -> int:
    """Opens a block device and nothing else."""
    import stat

    try:
        handle = os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"{path} cannot be opened: {error.strerror}", "see what uses it with lsblk and fuser") from error
    if not stat.S_ISBLK(os.fstat(handle).st_mode):
        os.close(handle)
        raise Refused(f"{path} is not a block device", "give the path of a block device")
    return handle
