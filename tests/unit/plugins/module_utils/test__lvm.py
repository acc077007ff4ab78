# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what LVM says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils._errors import ParseFailed
from ansible_collections.twofold.cluster.plugins.module_utils._lvm import parse_report, round_up
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


@given(st.text())
def test_other_text_is_told_apart(text: str) -> None:
    with pytest.raises(ParseFailed):
        parse_report(text)


@given(st.integers(1, 1 << 45), st.sampled_from([1 << 20, 4 << 20]))
def test_sizes_are_rounded_up_to_extents(size: int, extent: int) -> None:
    rounded = round_up(size, extent)
    assert rounded % extent == 0
    assert 0 <= rounded - size < extent
