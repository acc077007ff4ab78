# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""DRBD 8.4's memory of a disk, and what two of them say to each other when they meet.

The rules and their numbers are those of `drbd_uuid_compare` and `drbd_sync_handshake` in the kernel's drbd_receiver.c.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

JUST_CREATED = 4
NEW_BITMAP_OFFSET = 1 << 48
UNRELATED = -1000
SPLIT = -100


@dataclass
class Superblock:
    """The metadata of a disk: generation identifiers (the lowest bit is `primary`) and flags.

    `written`: the bitmap says that something was written which the peer does not have; `active`: the activity log says
    that something was written at all since the disk was attached.
    """

    current: int = JUST_CREATED
    bitmap: int = 0
    history: tuple[int, int] = (0, 0)
    consistent: bool = False
    up_to_date: bool = False
    primary: bool = False
    written: bool = False
    active: bool = False

    def renew(self, identifier: int) -> None:
        """A new generation begins: what changes from now on is missing on the peer."""
        self.bitmap, self.current = self.current, identifier

    def set_bitmap(self, identifier: int) -> None:
        """Another bitmap generation; the former one goes into the history."""
        if self.bitmap:
            self.history = (self.bitmap, self.history[0])
        self.bitmap = identifier
        self.written = self.written and bool(identifier)

    def follow(self, other: Superblock) -> None:
        """Take over the generations of the peer after a resync."""
        self.current, self.bitmap, self.history = other.current, other.bitmap, other.history
        self.written = False

    def copy(self) -> Superblock:
        """The same again."""
        return copy.copy(self)


@dataclass
class Side:
    """One side of a handshake.

    `crashed`: it was Primary when its node lost power; `gives_up` what it wrote apart; `negotiating`: its disk was
    attached just now, and nothing was read from it yet; `follows` if nobody wrote anything: the kernel lets the way in
    which the connection was made decide.
    """

    block: Superblock
    disk: str
    primary: bool
    crashed: bool
    gives_up: bool = False
    negotiating: bool = False
    follows: bool = False


def compare(mine: Superblock, theirs: Superblock, here: Side, there: Side) -> int:
    """Who has newer data: 0 nobody, >0 this side, <0 the peer; 2: a full sync; -100 split brain, -1000 unrelated."""
    new = JUST_CREATED
    if mine.current == theirs.current == new:
        return 0
    if mine.current in (new, 0):
        return -2
    if theirs.current in (new, 0):
        return 2
    if mine.current == theirs.current:
        return _same(mine, theirs, here, there)
    return _history(mine, theirs)


def _history(mine: Superblock, theirs: Superblock) -> int:
    """Different generations: whoever knows the other's current one has gone on from it."""
    if mine.current == theirs.bitmap:
        return -1
    if mine.current == theirs.history[0] and theirs.history[0] + NEW_BITMAP_OFFSET == theirs.bitmap:
        return -1
    if mine.current in theirs.history:
        return -2
    if mine.bitmap == theirs.current:
        return 1
    if theirs.current == mine.history[0] and mine.history[0] + NEW_BITMAP_OFFSET == mine.bitmap:
        return 1
    if theirs.current in mine.history:
        return 2
    if mine.bitmap and mine.bitmap == theirs.bitmap:
        return SPLIT
    if {one for one in mine.history if one} & {one for one in theirs.history if one}:
        return SPLIT
    return UNRELATED


def _same(mine: Superblock, theirs: Superblock, here: Side, there: Side) -> int:
    """The same generation: an unfinished resync, a crash of whoever was Primary, or nothing but a lost connection."""
    if mine.bitmap and not theirs.bitmap:
        return 1
    if theirs.bitmap and not mine.bitmap:
        return -1
    if not here.crashed and not there.crashed:
        return 0
    if here.primary != there.primary:
        return 1 if here.primary else -1
    if here.primary:
        return SPLIT
    return 1 if here.crashed else -1


ORDER = ("Diskless", "Inconsistent", "Outdated", "Consistent", "UpToDate")


def _by_what_was_written(here: Side, there: Side) -> int:
    """`after-sb-0pri discard-zero-changes` and `after-sb-1pri consensus`; of two Primaries none gives way."""
    if (here.primary and there.primary) or (here.block.written and there.block.written):
        return SPLIT
    if here.block.written == there.block.written:
        return -1 if here.follows else 1
    return 1 if here.block.written else -1


def verdict(here: Side, there: Side) -> int | None:
    """What a handshake leads to: >0 this side becomes the source, 2 of everything; None: the connection is refused."""
    found = compare(here.block, there.block, here, there)
    if found == UNRELATED:
        return None
    mine, theirs = ORDER.index(here.disk), ORDER.index(there.disk)
    if (mine == 1 and theirs > 1) or (theirs == 1 and mine > 1):
        full = found == SPLIT or abs(found) == 2
        found = (1 if mine > 1 else -1) * (2 if full else 1)
    if found == SPLIT and here.gives_up != there.gives_up:
        found = -1 if here.gives_up else 1
    if found == SPLIT:
        found = _by_what_was_written(here, there)
    if found == SPLIT or (found > 0 and mine <= 1) or (found < 0 and theirs <= 1):
        return None
    loser, rank = (here, mine) if found < 0 else (there, theirs)
    if found and loser.primary and not loser.negotiating and rank >= ORDER.index("Consistent"):
        return None
    return found
