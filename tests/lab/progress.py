# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress lines with elapsed seconds."""

from __future__ import annotations

import sys
import time


class Progress:
    """Prints one line an event to standard error, with the seconds since the start."""

    def __init__(self, subject: str, quiet: bool = False) -> None:
        self.subject = subject
        self.quiet = quiet
        self.start = time.monotonic()

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def say(self, message: str) -> None:
        if not self.quiet:
            print(f"{self.subject} {self.elapsed():6.1f}s  {message}", file=sys.stderr, flush=True)
