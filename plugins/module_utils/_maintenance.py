# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The note of a node that is about to be rebooted: until it has booted, no guest is brought to it.

It counts in the boot that it was written in, so a node that has booted takes guests again, whoever wrote it.
"""

from __future__ import annotations

from typing import Any

from ._errors import Refused
from ._files import STATE, Files, read_json
from ._node import Node

NOTE = f"{STATE}/maintenance.json"


def read(files: Files) -> dict[str, Any] | None:
    """The note, or None if there is none."""
    return read_json(files, NOTE)


def in_force(node: Node) -> dict[str, Any] | None:
    """The note, if the node has not booted since it was written."""
    note = read(node.files)
    if note is None or note.get("boot") != node.host.facts()["boot_id"]:
        return None
    return note


def why_not(note: dict[str, Any]) -> tuple[str, str]:
    """What is said to whoever would bring a guest here, and the remedy."""
    message = f"this node is about to be rebooted by {note.get('holder')}, and takes no guest until then"
    return message, f"wait until it is back; if nobody is at it any more, undrain.yml -e node={note.get('node')}"


def require_none(node: Node, what: str) -> None:
    """Refuses what would bring a guest here."""
    note = in_force(node)
    if note is not None:
        message, remedy = why_not(note)
        raise Refused(f"{what}: {message}", remedy)
