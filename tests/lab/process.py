# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that the lab started, known by pid and start time, so that no other process is ever signalled."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError


@dataclass(frozen=True)
class Process:
    """A process identity that survives the reuse of pids; started is in clock ticks since the host's boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        return cls(pid, int(_stat(pid)[19]))

    @classmethod
    def load(cls, path: Path) -> Process | None:
        try:
            pid, started = path.read_text().split()
        except (OSError, ValueError):
            return None
        return cls(int(pid), int(started))

    def save(self, path: Path) -> None:
        path.write_text(f"{self.pid} {self.started}\n")

    def alive(self) -> bool:
        try:
            fields = _stat(self.pid)
        except OSError:
            return False
        return int(fields[19]) == self.started and fields[0] not in "ZX"

    def frozen(self) -> bool:
        return self.alive() and _stat(self.pid)[0] == "T"

    def cpu_seconds(self) -> float:
        """CPU time used since the process started, user and system."""
        fields = _stat(self.pid)
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def signal(self, number: signal.Signals) -> None:
        if self.alive():
            os.kill(self.pid, number)

    def kill(self, timeout: float = 20) -> None:
        """SIGKILL, and wait until it is gone; timeout in seconds."""
        self.signal(signal.SIGKILL)
        end = time.monotonic() + timeout
        while self.alive():
            if time.monotonic() > end:
                raise LabError(f"process {self.pid}: still there {timeout:g} s after SIGKILL")
            time.sleep(0.01)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state (field 3) on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
