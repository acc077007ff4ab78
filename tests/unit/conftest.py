# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is true for all unit tests."""

from __future__ import annotations

import os

# A worker of pytest-xdist is told of a terminal of 80 columns, and programs that tests start would believe it.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)
