# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people and programs get to see: plans, the cluster's status, what is wrong. Pure: text and documents."""

from __future__ import annotations

from ..findings import exit_status
from .capacity_text import capacity_text
from .plans import plan_markdown, plan_text
from .runs import findings_text, run_text
from .status import status_document
from .status_text import status_text
from .verify import findings_document, verify

__all__ = [
    "capacity_text",
    "exit_status",
    "findings_document",
    "findings_text",
    "plan_markdown",
    "plan_text",
    "run_text",
    "status_document",
    "status_text",
    "verify",
]
