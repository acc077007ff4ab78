# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs and files of other packages that judge what we make: without them a test fails, it does not skip."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# Where some programs are, but the PATH of an ordinary user does not lead.
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def needed(what: str | Path, package: str) -> str:
    """The path of a program, given by its name, or of a file, given by its path.

    Fails the test if it is not there, with the Debian package that has it.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SBIN])
    found = str(what) if Path(what).is_absolute() and Path(what).exists() else shutil.which(str(what), path=path)
    if found is None:
        pytest.fail(f"{what} is missing; tools/setup installs it (Debian package {package})", pytrace=False)
    return found
