# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m twofold.cli."""

from __future__ import annotations

import sys

from . import main

sys.exit(main())
