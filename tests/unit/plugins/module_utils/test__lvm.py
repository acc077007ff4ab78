# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what LVM says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils._errors import ParseFailed
from ansible_collections.twofold.cluster.plugins.module_utils._lvm import (
    Lvm,
    Volume,
    parse_report,
    parse_snapshots,
    round_up,
)
from ansible_collections.twofold.cluster.plugins.module_utils._runner import Result
from hypothesis import given
from hypothesis import strategies as st


def test_a_recorded_report(recorded: Callable[[str], str]) -> None:
    groups, volumes = parse_report(recorded("lvm/fullreport-web1.json"))
    assert groups["twofold"].free == 8313110528
    assert groups["twofold"].extent == 4 << 20
    assert [(one.name, one.size, one.open) for one in volumes] == [
        ("web1-disk0", 256 << 20, True),
        ("web1-disk0-meta", 4 << 20, True),
    ]
    assert "twofold.instance=web1" in volumes[0].tags
    assert volumes[0].device == "/dev/twofold/web1-disk0"


def test_a_group_tells_how_many_of_its_disks_are_missing(recorded: Callable[[str], str]) -> None:
    text = recorded("lvm/fullreport-web1.json")
    assert parse_report(text)[0]["twofold"].missing == 0
    text = text.replace('"vg_extent_size":"4194304"', '"vg_extent_size":"4194304", "vg_missing_pv_count":"1"')
    assert parse_report(text)[0]["twofold"].missing == 1


def test_a_snapshot_tells_of_what(recorded: Callable[[str], str]) -> None:
    text = recorded("lvm/fullreport-web1.json")
    assert [one.origin for one in parse_report(text)[1]] == ["", ""]
    text = text.replace('"lv_name":"web1-disk0-meta",', '"lv_name":"web1-disk0-kept-ab", "origin":"web1-disk0",')
    assert [one.origin for one in parse_report(text)[1]] == ["", "web1-disk0"]


@given(st.text())
def test_other_text_is_told_apart(text: str) -> None:
    with pytest.raises(ParseFailed):
        parse_report(text)


@pytest.mark.parametrize(
    ("said", "unchanged"),
    [
        ("16/2113536 16", True),
        ("24/2113536 16", False),
        ("2113536/2113536 8272", False),
        ("Invalid", False),
        ("Overflow", False),
        ("Merge failed", False),
        ("Unknown", False),
        ("", False),
    ],
    ids=["nothing", "one block", "every block", "invalid", "full", "merged", "unknown", "cut off"],
)
def test_a_snapshot_whose_origin_was_written_is_told_by_its_first_block(said: str, unchanged: bool) -> None:
    """8 sectors are a chunk: one for the header, one for the records of the first area, whatever is copied besides."""
    text = f"vg-web1--disk0--kept--ab: 0 2097152 snapshot {said}\n"
    assert parse_snapshots(text) == ({"vg-web1--disk0--kept--ab"} if unchanged else set())


@given(st.text())
def test_nothing_follows_from_other_text(text: str) -> None:
    assert parse_snapshots(text) == set() == parse_snapshots("No devices found\n")


class Kernel:
    """Says of two snapshots what the kernel says."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def run(self, argv: list[str], **_more: Any) -> Result:
        self.asked.append(argv)
        said = "my--vg-a--disk0--kept--ab: 0 8192 snapshot 16/8448 16\nmy--vg-b: 0 8192 snapshot 24/8448 16\n"
        return Result(argv, 0, said, "")


def test_the_kernel_is_asked_by_its_own_names_and_only_where_there_are_snapshots() -> None:
    kernel = Kernel()
    lvm = Lvm(kernel)
    assert lvm.unchanged([]) == set() and not kernel.asked
    volumes = [Volume("my-vg", name, 1 << 22, (), False) for name in ("a-disk0-kept-ab", "b", "not-active")]
    assert lvm.unchanged(volumes) == {"my-vg/a-disk0-kept-ab"} and len(kernel.asked) == 1


@given(st.integers(1, 1 << 45), st.sampled_from([1 << 20, 4 << 20]))
def test_sizes_are_rounded_up_to_extents(size: int, extent: int) -> None:
    rounded = round_up(size, extent)
    assert rounded % extent == 0
    assert 0 <= rounded - size < extent
