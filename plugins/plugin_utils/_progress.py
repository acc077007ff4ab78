# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live progress of long steps: what a node writes to /run/twofold/progress is shown while its call runs. Private."""

from __future__ import annotations

import copy
import json
import math
import threading
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from ansible.errors import AnsibleError
from ansible.utils.display import Display

COMMAND = "cat /run/twofold/progress/*.json 2>/dev/null; true"
# Most calls are over before the first look, and cost nothing more.
FIRST_LOOK = 4.0
INTERVAL = 3.0
# The pace is that of so many looks.
LOOKS = 20
MINUTE = 60

display = Display()


class Progress:
    """Context manager that shows the progress of a node's long steps until it is left."""

    def __init__(self, node: str, connection: Any) -> None:
        self._node = node
        # A second command on the same connection's settings; the original is busy with the call.
        self._connection = copy.copy(connection)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._shown: dict[str, str] = {}
        # The share of each step that was done, and when.
        self._seen: dict[tuple[str, str], deque[tuple[float, float]]] = {}

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(timeout=10)

    def _watch(self) -> None:
        wait = FIRST_LOOK
        while not self._done.wait(wait):
            wait = INTERVAL
            try:
                _ignored, output, _ignored = self._connection.exec_command(COMMAND, sudoable=False)
            except AnsibleError:
                continue
            for entry in documents(output.decode(errors="replace")):
                self._show(entry)

    def _show(self, entry: dict[str, Any]) -> None:
        try:
            name, text = str(entry["name"]), str(entry["what"])
            done = None if entry.get("done") is None else float(entry["done"])
            left = "" if done is None else self._left((name, text), done, float(entry["time"]))
        except (ValueError, KeyError, TypeError):
            return
        text += "" if done is None else f" {done:.0%}"
        if self._shown.get(name) != text and not self._done.is_set():
            self._shown[name] = text
            display.display(f"  {self._node}: {name}: {text}{left}")

    def _left(self, step: tuple[str, str], done: float, time: float) -> str:
        """How long a step still takes at the pace of the last looks that saw it come forward; nothing without two."""
        seen = self._seen.setdefault(step, deque(maxlen=LOOKS))
        if seen and done < seen[-1][0]:
            seen.clear()
        if not seen or done > seen[-1][0]:
            seen.append((done, time))
        (before, since), (last, until) = seen[0], seen[-1]
        if until <= since:
            return ""
        return f", about {_duration((1 - last) * (until - since) / (last - before))} left"


def _duration(seconds: float) -> str:
    """Seconds for people, rounded up: `40 s`, `3 min`, `2 h 10 min`."""
    if seconds < MINUTE:
        return f"{math.ceil(seconds)} s"
    hours, minutes = divmod(math.ceil(seconds / MINUTE), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def documents(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects that stand one after another in a text, up to one that is not whole."""
    decoder, start = json.JSONDecoder(), 0
    while True:
        while start < len(text) and text[start].isspace():
            start += 1
        try:
            found, start = decoder.raw_decode(text, start)
        except ValueError:
            return
        if isinstance(found, dict):
            yield found
