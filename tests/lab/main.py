# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests/lab/lab starts."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

# Not this directory itself: its modules are a package.
sys.path[0] = str(Path(__file__).resolve().parents[1])
sys.exit(importlib.import_module("lab.cli").main())
