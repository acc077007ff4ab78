# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sizes, rates and ranges as people write them. Bytes inside."""

from __future__ import annotations

import re
from typing import Any

from .errors import ValueProblem

UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50}
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?\s*(B|KiB|MiB|GiB|TiB|PiB)$"
RATE_PATTERN = r"^[0-9]+(\.[0-9]+)?\s*(B|KiB|MiB|GiB|TiB|PiB)(/s)?$"
_NUMBER = re.compile(r"^([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z]*)$")
LARGEST = 1 << 60
SHOWN = 60


def parse_size(value: Any) -> int:
    """Bytes of `4GiB`, `512MiB` or a whole number of bytes.

    Raises ValueProblem for anything else, units without the `i` included: whether GB is 10^9 or 2^30 is a guess.
    """
    if isinstance(value, bool) or value is None:
        raise ValueProblem(f"{value!r} is not a size; write it like 4GiB or 512MiB")
    if isinstance(value, int):
        return _positive(value, value)
    match = _NUMBER.match(str(value).strip())
    if not match:
        raise ValueProblem(f"{_cut(value)} is not a size; write it like 4GiB or 512MiB")
    number, unit = match.groups()
    if unit not in UNITS and not (unit == "" and "." not in number):
        known = ", ".join(UNITS)
        raise ValueProblem(f"{str(value)!r} has no unit that is known ({known}); write it like 4GiB or 512MiB")
    exact = float(number) * UNITS[unit] if "." in number else int(number) * UNITS.get(unit, 1)
    if exact != int(exact):
        raise ValueProblem(f"{str(value)!r} is not a whole number of bytes")
    return _positive(int(exact), value)


def _positive(size: int, value: Any) -> int:
    if size <= 0:
        raise ValueProblem(f"{value!r} is not a size: it has to be more than zero")
    if size > LARGEST:
        raise ValueProblem(f"{_cut(value)} is not a size: no machine has more than {format_size(LARGEST)}")
    return size


def _cut(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def parse_rate(value: Any) -> int:
    """Bytes per second of `100MiB`, `100MiB/s` or a whole number. Raises ValueProblem."""
    text = str(value).strip()
    return parse_size(text[:-2] if text.endswith("/s") else value)


def format_size(size: int) -> str:
    """A size for people: exact if it is a round one, else one decimal: `4GiB`, `1.5GiB`, `0B`."""
    if size < 0:
        return "-" + format_size(-size)
    unit = next((name for name in reversed(UNITS) if size >= UNITS[name]), "B")
    whole, rest = divmod(size, UNITS[unit])
    return f"{whole}{unit}" if not rest else f"{size / UNITS[unit]:.1f}{unit}"


def parse_range(value: Any) -> tuple[int, int]:
    """First and last number of `7100-7999`, both included. Raises ValueProblem."""
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*-\s*([0-9]{1,9})\s*", str(value))
    if not match or int(match[1]) > int(match[2]):
        raise ValueProblem(f"{_cut(value)} is not a range; write it like 7100-7999")
    return int(match[1]), int(match[2])


def round_up(size: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is not less than `size`."""
    return -(-size // multiple) * multiple
