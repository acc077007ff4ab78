# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names and paths on the nodes; the table under 'What is on a node' in docs/architecture.md."""

from __future__ import annotations

SEEDS = "/var/lib/twofold/seeds"
EXTENT = 4 << 20
# So many digits of a generation identifier tell two split brains apart.
SHORT = 12
# LVM keeps names that begin so to itself, as those with parts like `_rmeta`; but no instance's name has a `_`.
RESERVED = ("pvmove", "snapshot")
# What device-mapper takes: 128 bytes with the zero at the end. More snapshots of one generation nobody keeps.
MAPPED, MANY = 127, 99


def data_volume(instance: str, disk: int) -> str:
    """The logical volume of a disk's data."""
    return f"{instance}-disk{disk}"


def meta_volume(instance: str, disk: int) -> str:
    """The logical volume of a disk's DRBD metadata."""
    return f"{instance}-disk{disk}-meta"


def kept_volume(instance: str, disk: int, generation: str, number: int) -> str:
    """The snapshot that keeps a generation of a disk's data; the first one of it has no number."""
    name = f"{data_volume(instance, disk)}-kept-{generation[:SHORT]}"
    return name if number == 1 else f"{name}-{number}"


def mapped_length(volume_group: str, name: str) -> int:
    """The characters of device-mapper's name of a volume, in which LVM doubles each hyphen that is not its own."""
    return sum(len(part) + part.count("-") for part in (volume_group, name)) + 1


def records_length(volume_group: str, snapshot: str) -> int:
    """The same of what holds the blocks of a snapshot."""
    return mapped_length(volume_group, snapshot) + len("-cow")


def longest(volume_group: str, instance: str, disk: int, *, replicated: bool, later: bool) -> int:
    """The characters of the longest such name that a disk needs: to be made, or `later` as well, when data is kept."""
    if not replicated:
        return mapped_length(volume_group, data_volume(instance, disk))
    if not later:
        return mapped_length(volume_group, meta_volume(instance, disk))
    return records_length(volume_group, kept_volume(instance, disk, "0" * SHORT, MANY))


def meta_size(size: int) -> int:
    """Bytes for the DRBD metadata of a disk: a bit for each 4 KiB and 1 MiB for log and superblock, in whole 4 MiB."""
    return -(-(size // 32768 + (1 << 20)) // EXTENT) * EXTENT


def seed_path(instance: str) -> str:
    """The NoCloud seed."""
    return f"{SEEDS}/{instance}.iso"


def drbd_device(minor: int) -> str:
    """The device of a DRBD minor."""
    return f"/dev/drbd{minor}"


def volume_device(volume_group: str, name: str) -> str:
    """The stable path of a logical volume."""
    return f"/dev/{volume_group}/{name}"


def owner_tags(instance: str) -> list[str]:
    """The tags without which a volume is not an instance's, and is left alone."""
    return ["twofold", f"twofold.instance={instance}"]


def volume_tags(instance: str, disk: int, role: str) -> list[str]:
    """The tags that a volume always carries; `role` is data or meta."""
    return [*owner_tags(instance), f"twofold.disk={disk}", f"twofold.role={role}"]
