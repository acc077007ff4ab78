# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The blocks of the tests' guest: a missing, a torn and an overwritten one are told apart."""

from __future__ import annotations

import hashlib

from tests.lab import blocks

RING = blocks.SLOTS * blocks.SIZE


def block(number: int) -> bytes:
    body = f"{number:0500}".encode() * 8
    text = f"block {number} {hashlib.sha256(body).hexdigest()}\n".encode() + body
    return text.ljust(blocks.SIZE - 1) + b"\n"


def ring(*numbers: int) -> bytearray:
    found = bytearray(RING)
    for number in numbers:
        start = number % blocks.SLOTS * blocks.SIZE
        found[start : start + blocks.SIZE] = block(number)
    return found


def test_a_block_is_whole_or_none() -> None:
    assert blocks.number(block(17)) == 17
    assert blocks.number(bytes(blocks.SIZE)) == 0
    torn = block(18)[:1024] + block(17)[1024:]
    assert blocks.number(torn) == 0


def test_nothing_is_missing() -> None:
    assert blocks.missing(bytes(RING), 0) == []
    assert blocks.missing(ring(*range(1, 41)), 40) == []


def test_what_was_acknowledged_and_is_not_there_is_named() -> None:
    assert blocks.missing(ring(1, 2, 4), 5) == [3, 5]
    torn = ring(1, 2, 3)
    torn[2 * blocks.SIZE + 700] ^= 1
    assert blocks.missing(torn, 3) == [2]


def test_a_ring_that_went_round() -> None:
    """Later blocks stand where earlier ones stood; an earlier one in the place of a later one was never replaced."""
    last = 3 * blocks.SLOTS + 5
    whole = ring(*range(last - blocks.SLOTS + 1, last + 1))
    assert blocks.missing(whole, last) == []
    assert blocks.missing(whole, last - 3) == []
    whole[5 * blocks.SIZE : 6 * blocks.SIZE] = block(last - blocks.SLOTS)
    assert blocks.missing(whole, last) == [last]


def test_the_next_block_may_be_half_written() -> None:
    last = 2 * blocks.SLOTS
    half = ring(*range(last - blocks.SLOTS + 1, last + 1))
    half[blocks.SIZE + 100 : blocks.SIZE + 200] = bytes(100)
    assert blocks.missing(half, last) == []
