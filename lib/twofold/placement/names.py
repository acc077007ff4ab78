# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that people shorten: "web1" for "web1.example.com" (Ganeti's MatchNameComponent)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .errors import RequestError


class Names:
    """The names of a cluster's nodes, or of its instances."""

    def __init__(self, what: str, names: Iterable[str]) -> None:
        """what they are the names of, in errors."""
        self.what, self.full = what, frozenset(names)
        starts = [(start, name) for name in self.full for start in _starts(name)]
        self._count = Counter(start for start, _name in starts)
        self._by_start = dict(starts)

    def all(self, names: Iterable[str]) -> frozenset[str]:
        """The full names.

        Raises:
            RequestError: for one that is unknown, or short for several.
        """
        return frozenset(map(self._one, names))

    def _one(self, name: str) -> str:
        if name in self.full:
            return name
        if self._count[name] > 1:
            raise RequestError(f"{self.what} {name!r} is short for several; give its full name")
        if name not in self._by_start:
            raise RequestError(f"unknown {self.what} {name!r}")
        return self._by_start[name]


def _starts(name: str) -> list[str]:
    """Everything that the name begins with, up to a dot."""
    return [name[:k] for k, letter in enumerate(name) if letter == "."]
