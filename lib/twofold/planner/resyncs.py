# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many copies are filled at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable


class Resyncs:
    """How many resyncs a node takes part in at once; further ones wait for the earlier."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waits: dict[str, list[str]] = defaultdict(list)

    def copy(self) -> Resyncs:
        """Another one with the same resyncs."""
        other = Resyncs(self._limit)
        other._waits.update((node, list(waits)) for node, waits in self._waits.items())
        return other

    def before(self, nodes: Iterable[str]) -> list[str]:
        """The steps that have to be done before one more resync starts on these nodes."""
        return [self._waits[node][-self._limit] for node in nodes if len(self._waits[node]) >= self._limit]

    def add(self, nodes: Iterable[str], wait: str) -> None:
        """One more resync, which is over when the step `wait` is done."""
        for node in nodes:
            self._waits[node].append(wait)
