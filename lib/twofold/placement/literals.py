# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers and JSON as the engine's inputs may write them: stricter than Python, which also takes 1_000, nan and ٣."""

from __future__ import annotations

import json

from .errors import DataError

#: Beyond this, whole numbers of MiB are no longer exact in the engine's arithmetic.
LARGEST = 10**15


def whole(text: str) -> int:
    """A whole number in decimal digits, blanks around it allowed.

    Raises:
        ValueError: for anything else, and from LARGEST on.
    """
    text = text.strip()
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 15:
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def number(text: str) -> float:
    """A finite number in decimal digits, with or without fraction and exponent, blanks around it allowed.

    Raises:
        ValueError: for anything else, and from LARGEST on.
    """
    value = float(text)
    if "_" in text or not text.isascii() or not abs(value) < LARGEST:
        raise ValueError(f"{text!r} is not a number")
    return value


def document(text: str, source: str, expected: str) -> object:
    """What a JSON text says.

    Args:
        source: its name in errors. expected: what it should be, for errors.
    Raises:
        DataError: if it is no JSON; NaN and Infinity are none.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise DataError(source, None, "JSON", f"is nested too deeply; expected {expected}") from None
    except ValueError as error:
        line = getattr(error, "lineno", None)
        raise DataError(source, line, "JSON", f"{error}; expected {expected}") from None


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
