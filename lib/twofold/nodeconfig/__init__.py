# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Computes what a node needs from the inventory's variables, and judges what the nodes answered."""

from __future__ import annotations

from .review import Answer, absent_authority, authority_finding, certified, credential_faults, report, review
from .settings import (
    MEMBER_VARIABLES,
    NODE_VARIABLES,
    SETTINGS,
    Member,
    SettingError,
    Settings,
    read_member,
    read_settings,
)
from .wanted import CREDENTIALS, subjects, wanted

__all__ = [
    "CREDENTIALS",
    "MEMBER_VARIABLES",
    "NODE_VARIABLES",
    "SETTINGS",
    "Answer",
    "Member",
    "SettingError",
    "Settings",
    "absent_authority",
    "authority_finding",
    "certified",
    "credential_faults",
    "read_member",
    "read_settings",
    "report",
    "review",
    "subjects",
    "wanted",
]
