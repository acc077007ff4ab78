# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that run on the control host: fence agents. Private to the collection."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import fencing

# Fence agents are where an ordinary user's shell does not look.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def programs() -> fencing.Programs:
    """Return how the fence devices' programs are run here."""
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import fencing

    return fencing.Programs(run, time.monotonic, time.sleep)


def run(argv: list[str], stdin: str, seconds: float) -> fencing.Ran:
    """Run a program with a text on its standard input, which is where passwords go."""
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import fencing

    environment = {"PATH": PATH, "LC_ALL": "C", "HOME": os.environ.get("HOME", "/"), "PYTHONWARNINGS": "ignore"}
    program = shutil.which(argv[0], path=PATH) or argv[0]
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return fencing.Ran(None, "", f"did not end within {seconds:.0f} s")
    except OSError as error:
        agent = os.path.basename(argv[0]).startswith("fence_")
        remedy = "install fence-agents on the control host" if agent else f"look at {argv[0]} on the control host"
        return fencing.Ran(None, "", f"cannot be run: {error.strerror}; {remedy}")
    return fencing.Ran(done.returncode, done.stdout, done.stderr)
