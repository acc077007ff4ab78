# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a node noted when it looked after its guests by itself: what it left off and why, and what it started."""

from __future__ import annotations

from typing import Any

from ._files import STATE, Files, read_json, write_json

NOTES = f"{STATE}/power_back.json"


def read_notes(files: Files) -> dict[str, Any]:
    """`left` (name to reason and remedy), `starts` (name to times) of a `boot`; empty before the first."""
    return read_json(files, NOTES) or {}


def write_notes(files: Files, notes: dict[str, Any]) -> None:
    """Replaces the notes."""
    write_json(files, NOTES, notes)


def left(files: Files) -> dict[str, Any]:
    """The guests that were left off, with `reason` and `remedy`."""
    found: dict[str, Any] = read_notes(files).get("left") or {}
    return found
