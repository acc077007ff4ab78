# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scripts that put an operating system on a disk.

A script runs on the instance's primary as root, in a mount and a process namespace of its own, so that whatever it
mounts or leaves running is gone when it ends, or when its time is up. It finds its instance's disk made into ext4 and
mounted. It gets:

TWOFOLD_TARGET    the folder where the disk is mounted
TWOFOLD_DEVICE    the block device
TWOFOLD_INSTANCE  the instance's name (also the file system's label, cut to 16 characters)
TWOFOLD_HOSTNAME  the host name for the guest (the instance's name unless the inventory says otherwise)

and what the OS template's parameters add, each as TWOFOLD_NAME.
"""

from __future__ import annotations

import os
import re
from typing import Protocol

from ._errors import CommandFailed, TimedOut, TwofoldError, UsageError
from ._files import RUN, write_bytes
from ._names import instance_name
from ._runner import Ended, Watcher

VARIABLE = re.compile(r"TWOFOLD_[A-Z0-9_]+\Z")
LABEL = 16
# So many lines, and so many characters, of a script's last words are shown.
LINES, SHOWN = 10, 1500
AGAIN = "then run again: the disk is made anew"
# Runs in the new namespaces. What the script left running is ended, for it would write on. The target is unmounted when
# the script ends; if it cannot be, the end of the mount namespace does it.
INSIDE = """
set -eu
mount -t ext4 "$TWOFOLD_DEVICE" "$TWOFOLD_TARGET"
code=0
"$1" </dev/null || code=$?
kill -s KILL -- -1 2>/dev/null || true
sync -f "$TWOFOLD_TARGET"
umount --recursive "$TWOFOLD_TARGET" || umount --recursive --lazy "$TWOFOLD_TARGET"
exit $code
"""


class Installer(Protocol):
    """Runs OS scripts."""

    def run(self, instance: str, device: str, script: str, environment: dict[str, str], timeout: float) -> None: ...


class SystemInstaller:
    """The real thing."""

    def __init__(self, runner: Watcher, folder: str = f"{RUN}/install") -> None:
        self.runner = runner
        self.folder = folder

    def run(self, instance: str, device: str, script: str, environment: dict[str, str], timeout: float) -> None:
        """Makes the file system, mounts it, runs the script, and always unmounts."""
        work = os.path.join(self.folder, instance_name(instance))
        target, program = os.path.join(work, "target"), os.path.join(work, "script")
        os.makedirs(target, mode=0o700, exist_ok=True)
        write_bytes(program, script.encode(), 0o700)
        variables = variables_for(instance, device, target, environment)
        try:
            argv = ["mkfs.ext4", "-q", "-F", "-O", "^metadata_csum_seed", "-L", instance[:LABEL], device]
            self.runner.run(argv, mutates=True, timeout=600)
            _judge(instance, self.runner.watch(namespaced(program), timeout=timeout, env=variables), timeout)
        except CommandFailed as error:
            said = (error.stderr.strip() or error.stdout.strip())[-SHOWN:]
            message = f"making a file system for {instance} ended with {error.code}: {said}"
            raise TwofoldError(message, "see what uses the disk, then run again") from None
        finally:
            os.unlink(program)


def _judge(instance: str, ended: Ended, timeout: float) -> None:
    """Raises TwofoldError unless the script ended well."""
    if ended.code == 0:
        return
    said = _last_words(ended.said)
    if ended.code is None:
        message = f"the OS script for {instance} did not end within {timeout:g} s and was killed: {said}"
        raise TimedOut(message, f"see what it waits for, or give it more time; {AGAIN}")
    raise TwofoldError(f"the OS script for {instance} ended with {ended.code}: {said}", f"correct the script; {AGAIN}")


def _last_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return " | ".join(lines[-LINES:])[-SHOWN:] or "it said nothing"


def namespaced(program: str) -> list[str]:
    """Mounts and processes of the script end with it."""
    return [
        "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
        "/bin/sh", "-c", INSIDE, "install", program,
    ]  # fmt: skip


def variables_for(instance: str, device: str, target: str, environment: dict[str, str]) -> dict[str, str]:
    """What a script is told."""
    for name, value in environment.items():
        if not VARIABLE.match(name):
            raise UsageError(f"{name!r} cannot be passed to an OS script", "names start with TWOFOLD_, in capitals")
        if "\0" in value:
            raise UsageError(f"{name} cannot be passed to an OS script: it has a zero byte", "correct its value")
    fixed = {"TWOFOLD_TARGET": target, "TWOFOLD_DEVICE": device, "TWOFOLD_INSTANCE": instance}
    return {"TWOFOLD_HOSTNAME": instance, **environment, **fixed}
