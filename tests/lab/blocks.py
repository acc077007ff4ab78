# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbered, checksummed blocks that a guest writes past every cache: what they look like, and which are missing.

Block N stands in slot N modulo SLOTS of a ring, behind what the guest's image needs of the disk. Its first line is
'block N SHA256'; then comes what the sum is of, with the number in every sector.
"""

from __future__ import annotations

import hashlib
import re

SIZE = 4096
SLOTS = 1024
# Where the ring begins, in blocks: behind the 64 MiB of the image.
FIRST = (64 << 20) // SIZE
# How many of the last numbers are looked at. Less than a whole ring: the next blocks may be half written over old ones.
WINDOW = 900
HEADER = re.compile(rb"block (\d+) ([0-9a-f]{64})")


def program(device: str, gateway: str) -> str:
    """What a guest runs: it says where it begins, then each number once that is durable.

    A block costs an emulated guest half a second of processor, so it pauses: its node has to get its share.
    It ends the one of a lost connection, which may not have noticed yet. The pings are for who listens to the
    network: the guest is never silent for more than a second.
    """
    return f"""
kill -9 $(cat /run/blocks.pid 2>/dev/null) 2>/dev/null
while pidof dd >/dev/null; do usleep 10000; done
echo $$ >/run/blocks.pid
pidof ping >/dev/null || ping -q {gateway} >/dev/null 2>&1 </dev/null &
number=$(dd if={device} bs={SIZE} skip={FIRST} count={SLOTS} iflag=direct 2>/dev/null |
    awk '$1 == "block" && $2 + 0 > last {{ last = $2 + 0 }} END {{ print last + 0 }}')
echo "begin $number $(cat /proc/sys/kernel/random/boot_id)"
while :; do
    number=$((number + 1))
    body=$(printf '%0500d' $number $number $number $number $number $number $number $number)
    sum=$(printf %s "$body" | sha256sum)
    printf '%-{SIZE - 1}s\\n' "block $number ${{sum%% *}}
$body" | dd of={device} bs={SIZE} seek=$(({FIRST} + number % {SLOTS})) count=1 \\
        iflag=fullblock oflag=direct conv=notrunc 2>/dev/null || exit 1
    echo "$number"
    usleep 1000000
done
"""


def number(block: bytes | bytearray) -> int:
    """The number of a whole block; 0 if it is none, or torn."""
    header, _newline, body = block.rstrip().partition(b"\n")
    found = HEADER.fullmatch(header)
    if not found or hashlib.sha256(body).hexdigest().encode() != found[2]:
        return 0
    return int(found[1])


def missing(ring: bytes | bytearray, acknowledged: int) -> list[int]:
    """The numbers up to the last acknowledged one that are neither in their slots nor overwritten by later ones."""
    found = [number(ring[start : start + SIZE]) for start in range(0, SLOTS * SIZE, SIZE)]
    wanted = range(max(1, acknowledged - WINDOW + 1), acknowledged + 1)
    return [one for one in wanted if found[one % SLOTS] < one or found[one % SLOTS] % SLOTS != one % SLOTS]
