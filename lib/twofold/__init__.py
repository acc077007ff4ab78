# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Twofold's core on the control host: model, planner, rendering and reports. It knows nothing of Ansible."""

from __future__ import annotations

__version__ = "0.1.0"
