# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading JSON that others wrote."""

from __future__ import annotations

import json
from typing import Any

# None of our documents is nested half as deep; what is would stop those that write, copy or show it.
DEPTH = 32


def read(text: str) -> Any:
    """The value of a text. Raises ValueError for whatever is wrong with it, also for one that is nested too deeply."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _deeper(value, DEPTH):
        raise ValueError("it is nested too deeply")
    return value


def _deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _index in range(limit):
        level = [inner for one in level for inner in _inner(one)]
        if not level:
            return False
    return True


def _inner(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
