# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the library and the helpers of the tests importable without installing anything."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for folder in (ROOT / "lib", ROOT / "tests" / "differential"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
