# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The node-side library, kept on the node for what runs there without a control host."""

from __future__ import annotations

import os
from typing import Any

from ._config_files import own
from ._config_host import Change, Host

# What this code is part of now: the copy that came with the call.
HERE = os.path.dirname(os.path.abspath(__file__))


class LibraryItem:
    """A copy of the library that is running, in a package of its own."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.path: str = item["path"]

    def changes(self, host: Host) -> list[Change]:
        wanted, there = sources(HERE), sources(host.path(self.path))
        if wanted == there:
            return []
        message = "is missing" if not there else "is of another version"
        return [Change(f"library {self.path}", message)]

    def apply(self, host: Host, secrets: dict[str, Any]) -> None:
        wanted, there = sources(HERE), sources(host.path(self.path))
        os.makedirs(host.path(self.path), mode=0o755, exist_ok=True)
        own(host, self.path, 0)
        for name, text in wanted.items():
            if there.get(name) != text:
                host.write(f"{self.path}/{name}", text, 0o644)
        for name in there.keys() - wanted.keys():
            os.unlink(host.path(f"{self.path}/{name}"))


def sources(folder: str) -> dict[str, str]:
    """The Python files of the node-side library in a folder, with an empty `__init__.py`; nothing if there are none."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.startswith("_") and name.endswith(".py"))
    except FileNotFoundError:
        return {}
    found = {"__init__.py": ""} if names else {}
    for name in names:
        if name != "__init__.py":
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                found[name] = file.read()
    return found
