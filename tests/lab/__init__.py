# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real emulated nodes for tests: see README.md."""

from __future__ import annotations

from .core import Lab
from .errors import LabError

__all__ = ["Lab", "LabError"]
