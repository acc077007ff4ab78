# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sizes, rates and ranges."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold import units
from twofold.errors import ValueProblem


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 << 30), ("512MiB", 512 << 20), ("1.5 GiB", 3 << 29), ("7B", 7), (4096, 4096), ("4096", 4096)],
)
def test_sizes(text: Any, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "4GB", "4G", "4gib", "-1GiB", "0", 0, True, None, [], "1.5", "0.3B", "GiB", 1.5])
def test_what_is_no_size(text: Any) -> None:
    with pytest.raises(ValueProblem, match=r"size|unit|bytes"):
        units.parse_size(text)


@given(st.integers(1, 1023), st.sampled_from(sorted(units.UNITS)))
def test_round_sizes_are_written_as_they_were_read(number: int, unit: str) -> None:
    assert units.format_size(units.parse_size(f"{number}{unit}")) == f"{number}{unit}"


@given(st.integers(1, 1 << 55), st.integers(1, 1 << 30))
def test_rounding_up(size: int, multiple: int) -> None:
    result = units.round_up(size, multiple)
    assert result % multiple == 0 and size <= result < size + multiple


def test_rates_and_ranges() -> None:
    assert units.parse_rate("100MiB/s") == units.parse_rate("100MiB") == 100 << 20
    assert units.parse_range("7000-7999") == (7000, 7999)
    for wrong in ("7999-7000", "7000", "a-b"):
        with pytest.raises(ValueProblem):
            units.parse_range(wrong)


def test_odd_sizes_have_one_decimal() -> None:
    assert [units.format_size(size) for size in (0, 1500 << 20, -(1 << 20))] == ["0B", "1.5GiB", "-1MiB"]
