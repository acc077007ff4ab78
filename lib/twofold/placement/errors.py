# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of the placement engine; every message says what, where and what was expected."""

from __future__ import annotations


class PlacementError(Exception):
    """Base of everything that the placement engine raises on purpose."""


class DataError(PlacementError):
    """Input that cannot be understood.

    Attributes:
        source: name of the file, or of the stream, that holds the input.
        line: line number counted from 1, or None where the input has no lines (a JSON document).
        field: the field at fault (a column's name, or a path inside a JSON document).
        problem: what is wrong with it and what was expected.
    """

    def __init__(self, source: str, line: int | None, field: str, problem: str) -> None:
        self.source, self.line, self.field, self.problem = source, line, field, problem
        where = source if line is None else f"{source}:{line}"
        super().__init__(f"{where}: {field}: {problem}")


class RequestError(PlacementError):
    """A request that is well formed and cannot be carried out; the message says which object and why."""
