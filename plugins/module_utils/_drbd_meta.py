# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DRBD's metadata: its size, and what it says.

The size follows the formula of the DRBD user's guide ("Estimating metadata size"), in sectors of 512 bytes:
`Ms = ceil(Cs / 2^18) * 8 * N + 72`: one bit of bitmap for each 4 KiB of data and each peer, in units of 4 KiB of
bitmap, plus 4 KiB for the superblock and 32 KiB for the activity log with its default of one stripe.
"""

from __future__ import annotations

from typing import NamedTuple

from ._errors import ParseFailed, Refused

SECTOR = 512
JUST_CREATED = 0x4
SUPERBLOCK = 4096


def metadata_size(data: int, peers: int = 1) -> int:
    """Bytes that external metadata needs for a disk of this many bytes."""
    sectors = -(-data // SECTOR)
    return (-(-sectors // (1 << 18)) * 8 * peers + 72) * SECTOR


def is_blank(path: str) -> bool:
    """Whether the place of the superblock of external metadata is empty."""
    try:
        with open(path, "rb", buffering=0) as device:
            return not device.read(SUPERBLOCK).strip(b"\0")
    except OSError as error:
        remedy = "see with lsblk if the device is there, and correct its meta_disk if not"
        raise Refused(f"the metadata's device {path} cannot be read: {error.strerror}", remedy) from error


class Generations(NamedTuple):
    """What the metadata of a volume say: the current generation, the peer's last one if this side went on without it.

    `consistent` and `up_to_date` are what the disk was when it was last in use.
    """

    current: int
    bitmap: int
    consistent: bool
    up_to_date: bool


def parse_generations(text: str) -> Generations:
    """The output of `get-gi`: `CURRENT:BITMAP:HISTORY:HISTORY` in hexadecimal, then flags."""
    try:
        current, bitmap, _newer, _older, consistent, up_to_date, *_rest = text.strip().split(":")
        return Generations(int(current, 16), int(bitmap, 16), consistent == "1", up_to_date == "1")
    except ValueError as error:
        raise ParseFailed("get-gi", text, "no generations") from error
