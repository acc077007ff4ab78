# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one place that starts programs."""

from __future__ import annotations

import os
from typing import Any, NamedTuple, Protocol

from ._errors import CommandFailed, Missing, TimedOut
from ._limit import ANSWER, CHANGE

# Of what a program of somebody else's says, so many bytes at its end are kept.
KEPT = 8192
# Seconds between two looks whether it has ended, and for what it started to be gone when it is killed.
LOOK, GONE = 0.2, 10.0
# Seconds for a program to die of SIGKILL. One that waits for a disk which hangs does not.
DIES = 2.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Result(NamedTuple):
    """What a command said."""

    argv: list[str]
    code: int
    stdout: str
    stderr: str


class Runner(Protocol):
    """Runs programs, or answers as if it did. Without a timeout a look has ANSWER, a change has CHANGE."""

    def run(
        self,
        argv: list[str],
        *,
        mutates: bool,
        check: bool = True,
        stdin: str | None = None,
        timeout: float | None = None,
        env: dict[str, str] | None = None,
    ) -> Result: ...


class Ended(NamedTuple):
    """How a program of somebody else's ended: its code, None if its time was up, and its last words."""

    code: int | None
    said: str


class Watcher(Runner, Protocol):
    """Runs programs of somebody else's too."""

    def watch(self, argv: list[str], *, timeout: float, env: dict[str, str] | None = None) -> Ended: ...


class CheckModeViolation(AssertionError):
    """A command that changes something was about to run in check mode: a mistake in the caller."""


class SystemRunner:
    """Runs programs with a fixed environment, never through a shell."""

    def __init__(self, check_mode: bool = False) -> None:
        self.check_mode = check_mode
        # The looks that hung: the same is not asked twice.
        self._hung: set[tuple[str, ...]] = set()

    def run(
        self,
        argv: list[str],
        *,
        mutates: bool,
        check: bool = True,
        stdin: str | None = None,
        timeout: float | None = None,
        env: dict[str, str] | None = None,
    ) -> Result:
        import subprocess

        if mutates and self.check_mode:
            raise CheckModeViolation(f"in check mode: {argv}")
        seconds = timeout or (CHANGE if mutates else ANSWER)
        if not mutates and tuple(argv) in self._hung:
            raise _hangs(argv, seconds)
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(env),
                cwd="/",
            )
        except FileNotFoundError as error:
            raise Missing(f"{argv[0]} is not installed", f"install the package that has {argv[0]}") from error
        try:
            out, complaint = process.communicate(None if stdin is None else stdin.encode(), seconds)
        except subprocess.TimeoutExpired as error:
            self._hung.add(tuple(argv))
            raise _hangs(argv, seconds) from error
        finally:
            _let_go(process)
        result = Result(argv, process.returncode, out.decode(errors="replace"), complaint.decode(errors="replace"))
        if check and result.code != 0:
            raise CommandFailed(argv, result.code, result.stdout, result.stderr)
        return result

    def watch(self, argv: list[str], *, timeout: float, env: dict[str, str] | None = None) -> Ended:
        """Runs a program that may hang, say anything without end, or leave others behind; it changes something.

        Whatever happens, its process group is killed afterwards, also if it is this process that is killed.
        """
        import subprocess

        if self.check_mode:
            raise CheckModeViolation(f"in check mode: {argv}")
        try:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment(env),
                cwd="/",
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise Missing("setpriv is not installed", "install util-linux") from error
        try:
            return _watched(process, timeout)
        finally:
            _let_go(process)


def _hangs(argv: list[str], seconds: float) -> TimedOut:
    remedy = "see the kernel's log there: mostly it waits for a disk, and 'ps -eo pid,stat,args' shows it in state D"
    return TimedOut(f"{' '.join(argv)} did not end within {seconds:.0f} s", remedy)


def _let_go(process: Any) -> None:
    """Ends a program that is still there, and what it says; if it does not die, goes on without it."""
    import contextlib
    import subprocess

    if process.returncode is None:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(DIES)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _watched(process: Any, timeout: float) -> Ended:
    """Listens until a program ends or its time is up; then ends what is left of it, and takes what it said last."""
    import time

    tail, deadline = _Tail(process.stdout.fileno()), time.monotonic() + timeout
    ended = False
    try:
        while not ended and time.monotonic() < deadline:
            if not tail.read(min(LOOK, max(0.0, deadline - time.monotonic()))) and tail.closed:
                time.sleep(LOOK)
            ended = _has_ended(process.pid)
    finally:
        # It was not waited for yet, so nobody else can have the number of its group.
        _kill_group(process.pid)
    code = process.wait() if ended else None
    gone = time.monotonic() + GONE
    while not tail.closed and time.monotonic() < gone:
        tail.read(LOOK)
    return Ended(code, tail.text())


class _Tail:
    """The end of what comes through a pipe."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        self.kept = b""
        self.closed = False

    def read(self, seconds: float) -> bool:
        """Waits so long for something, and takes a part of it; whether there was something."""
        import select

        if self.closed or not select.select([self.pipe], [], [], seconds)[0]:
            return False
        found = os.read(self.pipe, 1 << 16)
        self.kept = (self.kept + found)[-KEPT:]
        self.closed = not found
        return bool(found)

    def text(self) -> str:
        """What of it can be shown."""
        text = self.kept.decode(errors="replace")
        return "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in text)


def _has_ended(pid: int) -> bool:
    """Whether a process has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(pid: int) -> None:
    import contextlib
    import signal

    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of every command: no locale, no surprises from the caller's."""
    base = {"PATH": PATH, "LC_ALL": "C", "HOME": os.environ.get("HOME", "/root")}
    return {**base, **(extra or {})}
