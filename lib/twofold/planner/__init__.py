# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The planner: `plan(desired, observed, intent)`, a pure function."""

from __future__ import annotations

from .api import bound_to_its_run, check_saved, plan, suspects, witness
from .document import Change, Plan, Step
from .fingerprint import fingerprint
from .proof import Suspects, wish

__all__ = [
    "Change", "Plan", "Step", "Suspects", "bound_to_its_run", "check_saved", "fingerprint", "plan", "suspects", "wish",
    "witness",
]  # fmt: skip
