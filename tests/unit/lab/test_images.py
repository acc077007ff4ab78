# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure parts of images: archives, module order, partition table, the guest of one sector."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.lab import archive, guest, kernel, tiny_guest
from tests.lab.errors import LabError
from tests.lab.recipe import Recipe
from tests.unit.needed import needed

MODULES_DEP = """\
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko
kernel/fs/jbd2/jbd2.ko:
kernel/lib/crc16.ko:
kernel/drivers/virtio/virtio-pci.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
"""


def test_cpio_is_what_cpio_reads(tmp_path: Path) -> None:
    data = archive.cpio(
        [archive.directory("bin"), archive.file("bin/tool", b"12345", 0o755), archive.link("bin/sh", "tool")]
    )
    subprocess.run([needed("cpio", "cpio"), "-i", "--quiet"], input=data, cwd=tmp_path, check=True)
    assert (tmp_path / "bin/sh").read_bytes() == b"12345"
    assert (tmp_path / "bin/tool").stat().st_mode & 0o777 == 0o755


def test_modules_come_after_what_they_need() -> None:
    order = kernel.with_dependencies(("virtio_pci", "ext4", "built_in"), MODULES_DEP)
    assert [Path(path).stem for path in order] == ["virtio", "virtio-pci", "jbd2", "crc16", "ext4"]


def test_not_a_kernel() -> None:
    assert kernel.unpack(b"\0" * 2048) is None


def test_partition_table() -> None:
    sector = guest.mbr(b"\xaa" * 440)
    assert len(sector) == 512
    assert sector[510:] == b"\x55\xaa"
    assert sector[446] == 0x80
    assert int.from_bytes(sector[454:458], "little") == 2048
    assert int.from_bytes(sector[470:474], "little") == guest.STATE[0] * 2048


def test_guest_of_one_sector() -> None:
    disk = tiny_guest.disk()
    assert disk[510:512] == b"\x55\xaa"
    assert len(tiny_guest.CODE) <= 446
    assert tiny_guest.count(disk[512:1024]) == 0
    assert tiny_guest.count(b"00000042\r\n") == 42


def test_key_of_an_image_follows_its_contents() -> None:
    keys = {Recipe("trixie", bare, key).key for bare in (True, False) for key in ("one", "two")}
    assert len(keys) == 4
    with pytest.raises(LabError, match="trixie, bookworm"):
        Recipe("sid", False, "one")
