# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The clocks of nodes against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

REMEDY = "let the nodes' clocks be set by NTP (chrony or systemd-timesyncd)"


class Apart(NamedTuple):
    """A node whose clock is so many seconds at least "ahead of" or "behind" that of the node in the middle."""

    node: str
    seconds: float
    way: str
    middle: str


def apart(clocks: Mapping[str, tuple[float, float]], allowed: float) -> Iterator[Apart]:
    """Each node against the one in the middle; between which two bounds its clock is, is all that an answer tells."""
    if len(clocks) < 2:
        return
    order = sorted(clocks, key=lambda name: (sum(clocks[name]), name))
    middle = order[(len(order) - 1) // 2]
    low, high = clocks[middle]
    for name, (first, last) in sorted(clocks.items()):
        seconds = max(first - high, low - last)
        if seconds > allowed:
            yield Apart(name, seconds, "ahead of" if first > high else "behind", middle)
