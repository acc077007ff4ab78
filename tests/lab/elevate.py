# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Call a method of Lab as root: at once when root, otherwise through sudo and the command line."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, cast

from .command import check_sudo, elevated, is_root
from .errors import LabError

if TYPE_CHECKING:
    from .core import Lab

Arguments = ParamSpec("Arguments")
PROGRAM = Path(__file__).with_name("lab")


def privileged(
    method: Callable[Concatenate[Lab, Arguments], None],
) -> Callable[Concatenate[Lab, Arguments], None]:
    """Decorate a method of Lab that needs root, takes JSON values and returns nothing."""

    @functools.wraps(method)
    def call(self: Lab, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        if is_root():
            method(self, *args, **kwargs)
            return
        check_sudo()
        document = json.dumps([args, kwargs])
        argv = elevated([str(PROGRAM), "call", "--name", self.name, method.__name__, document])
        _follow(argv, f"lab {self.name}: {method.__name__} failed", self.quiet)

    return cast("Callable[Concatenate[Lab, Arguments], None]", call)


def _follow(argv: list[str], otherwise: str, quiet: bool) -> None:
    """Run a command, pass its progress on, and raise its error message."""
    errors: list[str] = []
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr or ():
            # The first line of the message has the program's name; what it quotes follows, indented.
            if line.startswith("lab: ") or (errors and line.startswith("  ")):
                errors.append(line)
            elif not quiet:
                print(line, end="", file=sys.stderr, flush=True)
    if process.returncode != 0:
        raise LabError("".join(errors).removeprefix("lab: ").strip() or otherwise)
