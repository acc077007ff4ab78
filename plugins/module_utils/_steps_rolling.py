# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The note of a rolling reboot: the same on every node, so that any of them can tell what is done.

A node adds to its own that its packages were upgraded.
"""

from __future__ import annotations

from typing import Any

from ._files import STATE, Files, read_json, write_json
from ._node import Node
from ._steps import Args, Done, changed, step, unchanged

NOTE = f"{STATE}/rolling.json"


def read(files: Files) -> dict[str, Any] | None:
    """The note, or None if no rolling reboot goes on."""
    return read_json(files, NOTE)


@step("rolling.begin")
def begin(node: Node, args: Args) -> Done:
    """Writes the note."""
    note = args.mapping("note")
    if read(node.files) == note:
        return unchanged("the note is there")
    if not node.check_mode:
        write_json(node.files, NOTE, note)
    return changed("wrote the note of the rolling reboot")


@step("rolling.upgraded")
def upgraded(node: Node, args: Args) -> Done:
    """Marks in the note that this node got its packages; a reboot without that may have been a power cut."""
    packages, note = args.text("packages"), read(node.files)
    if note is None or note.get("packages") != packages:
        return unchanged("no rolling reboot with these packages goes on")
    if note.get("upgraded") == packages:
        return unchanged("it is marked that the packages were upgraded")
    if not node.check_mode:
        write_json(node.files, NOTE, {**note, "upgraded": packages})
    return changed("marked that the packages were upgraded")


@step("rolling.end")
def end(node: Node, args: Args) -> Done:
    """Removes the note."""
    if node.files.read(NOTE) is None:
        return unchanged("there is no note")
    if not node.check_mode:
        node.files.remove(NOTE)
    return changed("removed the note of the rolling reboot")
