# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a balance may cost, as the operator gave it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from .. import units
from ..errors import ValueProblem

MIB = 1 << 20
T = TypeVar("T")


@dataclass
class Budget:
    """What is left of what may be spent: MiB and moves, None for no limit; whether second copies may be replaced."""

    copy: float | None
    moves: int | None
    disk_moves: bool = True

    @classmethod
    def of(cls, max_copy: Any, max_moves: Any, disk_moves: bool | None) -> Budget:
        """From a size, a number, and true or false, each None if it was not given. Raises ValueProblem."""
        return cls(
            _given("max_copy", max_copy, _mib),
            _given("max_moves", max_moves, _count),
            disk_moves is not False,
        )

    def spend(self, copied: Iterable[float]) -> None:
        """Take off moves that copy so many MiB each."""
        for size in copied:
            self.copy = None if self.copy is None else self.copy - size
            self.moves = None if self.moves is None else self.moves - 1


def _given(name: str, value: Any, parse: Callable[[Any], T]) -> T | None:
    try:
        return None if value is None else parse(value)
    except ValueProblem as error:
        raise ValueProblem(f"{name}: {error}") from None


def _mib(value: Any) -> float:
    return units.parse_size(value) / MIB


def _count(value: Any) -> int:
    if not str(value).isdecimal():
        raise ValueProblem(f"{str(value)!r} is not a number of moves; write it like 5")
    return int(value)
