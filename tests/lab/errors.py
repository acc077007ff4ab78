# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception that users of the lab see."""

from __future__ import annotations


class LabError(Exception):
    """Something that the user can act on: says which object, what is wrong and what to do."""
