# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Call a method of Lab as root: at once when root, otherwise through sudo and the command line."""

from __future__ import annotations

import functools
import json
import subprocess
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
        done = subprocess.run(argv, check=False, stderr=subprocess.PIPE if self.quiet else None, text=True)
        if done.returncode != 0:
            raise LabError((done.stderr or f"lab {self.name}: {method.__name__} failed").removeprefix("lab: ").strip())

    return cast("Callable[Concatenate[Lab, Arguments], None]", call)
