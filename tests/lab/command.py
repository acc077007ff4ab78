# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the host's tools, with one clear message when they fail."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from .errors import LabError
from .paths import cache_dir, default_name

Completed = subprocess.CompletedProcess[str]


def run(
    argv: Sequence[str | Path],
    *,
    check: bool = True,
    timeout: float | None = None,
    stdin: str | None = None,
    what: str = "",
) -> Completed:
    """Run a tool and return its output; timeout in seconds."""
    words = [str(word) for word in argv]
    label = what or shlex.join(words[:6])
    try:
        done = subprocess.run(
            words, check=False, input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout
        )
    except FileNotFoundError:
        raise LabError(f"{words[0]}: not installed; install the packages in tests/lab/packages.txt") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{label}: no answer within {timeout:g} s") from None
    if check and done.returncode != 0:
        raise LabError(failure(label, done))
    return done


def failure(label: str, done: Completed) -> str:
    """One message for a failed command: its last lines of output."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()[-8:]
    return f"{label}: exit code {done.returncode}: " + "\n  ".join(lines)


def require_tool(tool: str, package: str) -> str:
    """The path of a host tool, or a message that names the package to install."""
    found = shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise LabError(f"{tool}: not found; install the package {package} (see tests/lab/packages.txt)")
    return found


def is_root() -> bool:
    return os.geteuid() == 0


def elevated(argv: Sequence[str]) -> list[str]:
    """argv as root by sudo, with the variables that say where the lab keeps things."""
    keep = {"TWOFOLD_CACHE": str(cache_dir()), "TWOFOLD_LAB": default_name(), "TWOFOLD_OWNER": str(os.getuid())}
    return ["sudo", "-n", "env", *(f"{key}={value}" for key, value in keep.items()), *argv]


def check_sudo() -> None:
    """Fail clearly when neither root nor sudo is to be had."""
    if is_root():
        return
    if not shutil.which("sudo"):
        raise LabError("the lab needs root (namespaces, taps): run it as root or install sudo")
    if subprocess.run(["sudo", "-n", "true"], check=False, capture_output=True).returncode != 0:
        raise LabError("the lab needs root: run it as root, or allow this user sudo without a password")


def become_root() -> None:
    """Re-execute the program by sudo when not root."""
    if is_root():
        return
    check_sudo()
    become(elevated([sys.executable, *sys.argv]))


def become(argv: list[str]) -> NoReturn:
    """Go on as another program."""
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606 - no shell is what is wanted


@contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold an exclusive lock on a file; says so when it has to wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                print(waiting, file=sys.stderr, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def give_to_owner(*paths: Path) -> None:
    """Hand files made under sudo to the user who called it."""
    owner = os.environ.get("TWOFOLD_OWNER")
    if not owner or not is_root():
        return
    for path in paths:
        os.chown(path, int(owner), -1, follow_symlinks=False)
