# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names and paths on the nodes; the table under 'What is on a node' in docs/architecture.md."""

from __future__ import annotations

SEEDS = "/var/lib/twofold/seeds"
EXTENT = 4 << 20
# So many digits of a generation identifier tell two split brains apart.
SHORT = 12


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
