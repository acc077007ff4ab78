# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Progress of long steps in /run/twofold/progress, for whoever looks; no secrets in it.

What it tells of goes on whether it can be told or not: a full or broken /run is no error of any of these.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

from ._clock import Clock
from ._files import RUN, Files, write_json

FOLDER = f"{RUN}/progress"
INTERVAL = 1.0


class Progress(Protocol):
    """Says how far something is."""

    def say(self, name: str, what: str, done: float | None, **more: Any) -> None: ...

    def clear(self, name: str) -> None: ...

    def clear_all(self) -> None: ...


class FileProgress:
    """One small file per object, rewritten about once a second."""

    def __init__(self, files: Files, clock: Clock) -> None:
        self.files = files
        self.clock = clock
        self.last: dict[str, tuple[str, float]] = {}

    def say(self, name: str, what: str, done: float | None, **more: Any) -> None:
        """`done` is a share between 0 and 1, or None when it is not known."""
        now = self.clock.monotonic()
        before = self.last.get(name)
        if before and before[0] == what and now - before[1] < INTERVAL:
            return
        self.last[name] = (what, now)
        document = {"format": 1, "name": name, "what": what, "done": done, "time": self.clock.time(), **more}
        with suppress(OSError):
            write_json(self.files, f"{FOLDER}/{name}.json", document, 0o644)

    def clear(self, name: str) -> None:
        """The work is over."""
        if self.last.pop(name, None):
            self._remove(f"{name}.json")

    def clear_all(self) -> None:
        """What killed processes left behind; whoever holds the node's lock is the only one at work."""
        self.last.clear()
        with suppress(OSError):
            for name in self.files.names(FOLDER):
                self._remove(name)

    def _remove(self, name: str) -> None:
        with suppress(OSError):
            self.files.remove(f"{FOLDER}/{name}")
