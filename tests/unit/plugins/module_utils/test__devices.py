# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on a device: only what reads as zeros at its edges, and of which blkid knows nothing, is empty."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _devices
from ansible_collections.twofold.cluster.plugins.module_utils._devices import SystemDevices
from ansible_collections.twofold.cluster.plugins.module_utils._errors import CommandFailed, Refused, TwofoldError
from ansible_collections.twofold.cluster.plugins.module_utils._runner import Result

SIZE = 4 << 20


class Blkid:
    """Says one thing."""

    def __init__(self, code: int, said: str = "") -> None:
        self.code, self.said = code, said

    def run(self, argv: list[str], **_more: Any) -> Result:
        return Result(argv, self.code, self.said, "blkid: went wrong" if self.code == 4 else "")


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of zeros that stands for a device."""
    monkeypatch.setattr(_devices, "open_device", os.open)
    path = tmp_path / "disk"
    path.write_bytes(b"")
    os.truncate(path, SIZE)
    return path


def contents(disk: Path, code: int, said: str = "") -> str | None:
    return SystemDevices(Blkid(code, said)).contents(str(disk))


def test_zeros_are_nothing(disk: Path) -> None:
    assert contents(disk, 2) is None


@pytest.mark.parametrize("at", [0, 1000, SIZE - 1])
def test_what_blkid_does_not_know_is_something(disk: Path, at: int) -> None:
    with disk.open("r+b") as file:
        file.seek(at)
        file.write(b"x")
    assert contents(disk, 2) == "something that blkid does not know"


def test_what_blkid_knows_is_named(disk: Path) -> None:
    assert contents(disk, 0, "ext4\n") == "ext4"
    assert contents(disk, 8) == "more than one kind of data"


@pytest.mark.parametrize("code", [1, 4, -9])
def test_an_error_of_blkid_is_no_answer(disk: Path, code: int) -> None:
    with pytest.raises(CommandFailed, match=f"blkid .* ended with {code}"):
        contents(disk, code)


def test_a_device_that_cannot_be_read_is_not_empty(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", broken)
    with pytest.raises(TwofoldError, match="disk cannot be read: Input/output error"):
        contents(disk, 2)


def ioctls(monkeypatch: pytest.MonkeyPatch, error: OSError | None = None) -> list[tuple[int, int]]:
    """What is zeroed from now on: start and length; the error is the disk's."""
    asked: list[tuple[int, int]] = []

    def ioctl(_handle: int, _number: int, request: bytes) -> None:
        if error is not None:
            raise error
        asked.append(struct.unpack("QQ", request))

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    return asked


def test_a_device_is_zeroed_in_chunks_to_its_end(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_devices, "CHUNK", 3 << 20)
    asked, told = ioctls(monkeypatch), list[tuple[int, int]]()
    SystemDevices(Blkid(2)).zero(str(disk), lambda done, size: told.append((done, size)), start=512)
    assert asked == [(512, 3 << 20), (512 + (3 << 20), SIZE - 512 - (3 << 20))]
    assert told == [(512 + (3 << 20), SIZE), (SIZE, SIZE)]


def test_an_error_is_the_disks_only_if_the_disk_has_made_it(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_done: int, _size: int) -> None:
        raise OSError(28, "No space left on device")

    ioctls(monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        SystemDevices(Blkid(2)).zero(str(disk), full)
    ioctls(monkeypatch, OSError(5, "Input/output error"))
    with pytest.raises(TwofoldError, match="disk could not be zeroed: Input/output error"):
        SystemDevices(Blkid(2)).zero(str(disk), full)


def test_what_is_not_there_is_not_opened() -> None:
    with pytest.raises(Refused, match=r"/dev/no-such cannot be opened: No such file or directory .give the path of"):
        SystemDevices(Blkid(2)).size("/dev/no-such")
