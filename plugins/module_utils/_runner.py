# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one place that starts programs."""

from __future__ import annotations

import os
from typing import NamedTuple, Protocol

from ._errors import CommandFailed, Missing, TimedOut

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Result(NamedTuple):
    """What a command said."""

    argv: list[str]
    code: int
    stdout: str
    stderr: str


class Runner(Protocol):
    """Runs programs, or answers as if it did."""

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


class CheckModeViolation(AssertionError):
    """A command that changes something was about to run in check mode: a mistake in the caller."""


class SystemRunner:
    """Runs programs with a fixed environment, never through a shell."""

    def __init__(self, check_mode: bool = False) -> None:
        self.check_mode = check_mode

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
        try:
            done = subprocess.run(
                argv,
                input=None if stdin is None else stdin.encode(),
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                timeout=timeout,
                env=environment(env),
                cwd="/",
                check=False,
            )
        except FileNotFoundError as error:
            raise Missing(f"{argv[0]} is not installed", f"install the package that has {argv[0]}") from error
        except subprocess.TimeoutExpired as error:
            raise TimedOut(f"{' '.join(argv)} did not end within {timeout:.0f} s") from error
        result = Result(
            argv, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        if check and result.code != 0:
            raise CommandFailed(argv, result.code, result.stdout, result.stderr)
        return result


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of every command: no locale, no surprises from the caller's."""
    base = {"PATH": PATH, "LC_ALL": "C", "HOME": os.environ.get("HOME", "/root")}
    return {**base, **(extra or {})}
