# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Time, so that a simulation can supply its own."""

from __future__ import annotations

import time
from typing import Callable, Protocol, TypeVar

from ._errors import TimedOut

T = TypeVar("T")


class Clock(Protocol):
    """Tells the time and waits."""

    def time(self) -> float: ...

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def wait_for(
    clock: Clock, look: Callable[[], T], good: Callable[[T], bool], timeout: float, missing: Callable[[T], TimedOut]
) -> T:
    """Looks until it is good; the pause grows, so that a quick event is seen quickly and a slow one costs little."""
    end = clock.monotonic() + timeout
    pause = 0.1
    while True:
        seen = look()
        if good(seen):
            return seen
        left = end - clock.monotonic()
        if left <= 0:
            raise missing(seen)
        clock.sleep(min(pause, left))
        pause = min(pause * 1.5, 1.0)
