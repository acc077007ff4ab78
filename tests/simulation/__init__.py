# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes in memory: the real planner and steps run on them, with a fault at any moment. See docs/reliability.md."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in ("collections", "lib"):
    if str(ROOT / folder) not in sys.path:
        sys.path.insert(0, str(ROOT / folder))
