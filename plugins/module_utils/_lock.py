# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock of a node: a lease that outlives one call, and a file lock while a call is at work.

The lease says who works on the node; it is renewed by each call and taken over when it has run out. The file lock
keeps two processes apart even when the operator's connection broke and the process of the first goes on.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from typing import Any, Protocol

from ._clock import Clock
from ._errors import ParseFailed, Refused
from ._files import RUN, Files, read_json, write_json

LEASE = f"{RUN}/lock.json"
DAMAGED = "when no run is at work on this node, take the lock away with break_lock.yml"


class Lock(Protocol):
    """Who works on a node."""

    def holder(self) -> dict[str, Any] | None: ...

    def acquire(self, holder: str, run: str, lease: float, wait: float) -> bool: ...

    def renew(self) -> None: ...

    def release(self, keep_lease: bool) -> None: ...


def _unwritten(path: str, error: OSError) -> Refused:
    message = f"this node's lock cannot be written ({path}: {error.strerror}), and without it others may work here, too"
    return Refused(message, "see 'df /run' and why it cannot be written there, then run this again")


class FileLock:
    """The real thing."""

    def __init__(self, files: Files, clock: Clock, folder: str = RUN) -> None:
        self.files = files
        self.clock = clock
        self.lease_path = f"{folder}/lock.json"
        self.flock_path = f"{folder}/lock"
        self.handle: int | None = None
        self.held: dict[str, Any] = {}
        self.kept = False

    def holder(self) -> dict[str, Any] | None:
        """The lease that is in force, or None."""
        lease = self._read()
        return None if lease is None or self._age(lease) > float(lease["lease"]) else lease

    def _read(self) -> dict[str, Any] | None:
        """The lease that is there, in force or not."""
        lease = None
        try:
            lease = read_json(self.files, self.lease_path)
            if lease is not None:
                self._age(lease), float(lease["lease"]), lease["run"], lease["holder"]
        except ParseFailed as error:
            error.remedy = DAMAGED
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ParseFailed(self.lease_path, str(lease), repr(error), DAMAGED) from error
        return lease

    def _at_work(self) -> dict[str, Any]:
        """Whose lease there is while a process has the file lock; empty if that does not tell."""
        try:
            return self._read() or {}
        except ParseFailed:
            return {}

    def _age(self, lease: dict[str, Any]) -> float:
        """Seconds since it was renewed. They are counted by the uptime, for the clock may have been set since.

        A lease with a longer uptime is from before a boot, and of a run that did not survive it.
        """
        if "uptime" not in lease:
            return self.clock.time() - float(lease["time"])
        age = self.clock.monotonic() - float(lease["uptime"])
        return age if age >= 0 else math.inf

    def acquire(self, holder: str, run: str, lease: float, wait: float) -> bool:
        """Takes the lease and the file lock, or says who has them.

        Returns whether the last lease was this run's own. If an earlier call of the run left one and this is False, it
        was broken, or lapsed and somebody else has worked here since, or the node has booted.
        """
        end = self.clock.monotonic() + wait
        while True:
            other = self._try(holder, run, lease)
            if other is None:
                return self.kept
            if self.clock.monotonic() >= end:
                raise Refused(*self._message(other))
            self.clock.sleep(0.5)

    def _try(self, holder: str, run: str, lease: float) -> dict[str, Any] | None:
        """None when it was taken, else the one who has it."""
        handle = self._flock()
        if handle is None:
            return self._at_work()
        try:
            other = self.holder()
            if other is not None and other["run"] != run:
                return other
            self.kept = (self._read() or {}).get("run") == run
            self.held = {"format": 1, "holder": holder, "run": run, "lease": lease}
            self._write()
            self.handle = handle
        finally:
            if self.handle is None:
                self._let_go(handle)
        return None

    def _write(self) -> None:
        """The lease counts from now; `time` is for people."""
        self.held = {**self.held, "time": self.clock.time(), "uptime": self.clock.monotonic()}
        try:
            write_json(self.files, self.lease_path, self.held, 0o644)
        except OSError as error:
            raise _unwritten(self.lease_path, error) from error

    def _message(self, other: dict[str, Any]) -> tuple[str, str]:
        if not other:
            return "another process of Twofold works on this node", "wait until it is done"
        age = self._age(other)
        message = f"{other['holder']} works on this node (run {other['run']}, last heard of {age:.0f} s ago)"
        left = max(0.0, float(other["lease"]) - age)
        remedy = f"wait until it is done; a lock that is not renewed lapses in {left:.0f} s"
        return message, f"{remedy}. If that run is dead, break_lock.yml -e node=NODE takes its lock away at once"

    def _flock(self) -> int | None:
        import fcntl

        try:
            os.makedirs(os.path.dirname(self.flock_path), mode=0o755, exist_ok=True)
            handle = os.open(self.flock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritten(self.flock_path, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle

    def discard(self, check_mode: bool = False) -> dict[str, Any] | None:
        """Takes the lease away from a run that is dead; returns it with its age in seconds, None if there was none.

        Raises Refused while a process of the run is at work on this node: it would go on beside the next one.
        """
        handle = self._flock()
        if handle is None:
            other = self._at_work()
            who = f"{other['holder']} (run {other['run']})" if other else "a process of Twofold"
            message = f"{who} is at work on this node now; its lock was left alone"
            raise Refused(message, "wait until its step is done, then run this again")
        try:
            lease = self._found()
            if lease is not None and not check_mode:
                self.files.remove(self.lease_path)
        finally:
            self._let_go(handle)
        return lease

    def _found(self) -> dict[str, Any] | None:
        """The lease in force with its age; one that is damaged binds everybody, and nobody knows whose it is."""
        try:
            lease = self.holder()
        except ParseFailed:
            return {"holder": "unknown", "run": "unknown", "age": 0.0, "damaged": True}
        return None if lease is None else {**lease, "age": self._age(lease)}

    def _let_go(self, handle: int) -> None:
        os.close(handle)

    def renew(self) -> None:
        """Between steps: the lease counts from now. Raises Refused where that cannot be written down."""
        if self.held:
            self._write()

    def release(self, keep_lease: bool) -> None:
        """Ends the call; the lease stays for the run's next call unless this was the last.

        One that can be neither renewed nor removed lapses in its time.
        """
        with suppress(Refused, OSError):
            if self.held and keep_lease:
                self.renew()
            elif self.held:
                self.files.remove(self.lease_path)
        if self.handle is not None:
            self._let_go(self.handle)
            self.handle = None
        self.held = {}
