# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what DRBD's tools say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils._drbd_meta import (
    JUST_CREATED,
    metadata_size,
    parse_generations,
)
from ansible_collections.twofold.cluster.plugins.module_utils._drbd_parse import (
    connection,
    parse_config,
    parse_equal,
    parse_events,
    parse_out_of_sync,
    parse_proc,
    parse_show,
    put_secret,
    take_secret,
)
from ansible_collections.twofold.cluster.plugins.module_utils._errors import ParseFailed
from hypothesis import given
from hypothesis import strategies as st

Recorded = Callable[[str], str]


@pytest.mark.parametrize(
    ("case", "role", "peer"), [("primary", "Primary", "Secondary"), ("secondary", "Secondary", "Primary")]
)
def test_recorded_events(recorded: Recorded, case: str, role: str, peer: str) -> None:
    found = parse_events(recorded(f"drbdsetup/8.4-events2-{case}.txt"))["web1"]
    assert (found["role"], found["peer_role"], found["connection"]) == (role, peer, "Connected")
    assert found["volumes"][0]["minor"] == 1000
    assert (found["volumes"][0]["disk"], found["volumes"][0]["peer_disk"]) == ("UpToDate", "UpToDate")


def test_recorded_options_hold_no_secret(recorded: Recorded) -> None:
    text = recorded("drbdsetup/8.4-show-defaults.txt")
    assert "not-the-real-one" in text
    found = parse_show(text)["web1"]
    assert "not-the-real-one" not in str(found)
    assert found["options"]["protocol"] == "C"
    assert found["options"]["resync-rate"] == "51200k"
    assert found["options"]["allow-two-primaries"] == "no"
    assert found["backing"] == {0: "/dev/twofold/web1-disk0"}
    assert found["peer_address"] == "ipv4 198.51.100.12:7000"


def test_recorded_proc_says_nothing_when_nothing_is_synced(recorded: Recorded) -> None:
    assert parse_proc(recorded("drbdsetup/8.4-proc.txt")) == {}


@pytest.mark.parametrize(
    ("roles", "disks", "equal"),
    [
        ("Secondary/Primary", "UpToDate/UpToDate", False),
        ("Primary/Primary", "UpToDate/UpToDate", True),
        ("Primary/Primary", "Diskless/UpToDate", True),
        ("Primary/Primary", "UpToDate/Inconsistent", False),
        ("Primary/Unknown", "UpToDate/DUnknown", False),
    ],
)
def test_two_primaries_are_equal_by_a_look_at_proc(recorded: Recorded, roles: str, disks: str, equal: bool) -> None:
    text = recorded("drbdsetup/8.4-proc.txt")
    assert "ro:Secondary/Primary ds:UpToDate/UpToDate" in text
    said = text.replace("Secondary/Primary", roles).replace("ds:UpToDate/UpToDate", f"ds:{disks}")
    assert parse_equal(said) == ({1000} if equal else set())
    assert parse_equal(said.replace("cs:Connected", "cs:WFConnection")) == set()


def test_the_generation_of_a_disk_in_service(recorded: Recorded) -> None:
    assert parse_generations(recorded("drbdsetup/8.4-get-gi.txt")) == (0x7EE76D404E50D6A2, 0, True, True)
    assert parse_generations("0000000000000004:00000000000000A0:0:0:1:0") == (JUST_CREATED, 0xA0, True, False)


def test_both_versions_have_one_vocabulary() -> None:
    assert connection("WFConnection") == "Connecting"
    assert connection("SyncSource") == "Connected"
    assert connection("StandAlone") == "StandAlone"


def test_the_secret_is_taken_out_and_put_back() -> None:
    config = 'net { cram-hmac-alg sha256; shared-secret "a\\"b"; }'
    text, secret = take_secret(config)
    assert secret == 'a"b'
    assert 'a"b' not in text
    assert put_secret(text, secret) == config
    assert take_secret("net { protocol C; }") == ("net { protocol C; }", None)


@given(st.text(alphabet='{};"\\ ab\n#'))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_config(text)
    except ParseFailed:
        return
    assert text.count('"') == 0 or '"' in text


@given(st.text())
def test_events_are_read_or_refused(text: str) -> None:
    try:
        found = parse_events(text)
    except ParseFailed:
        return
    assert isinstance(found, dict)


def test_the_size_of_metadata() -> None:
    # Of the user's guide: 8 sectors of bitmap for each 128 MiB, and 72.
    assert metadata_size(128 << 20) == (8 + 72) * 512
    assert metadata_size((128 << 20) + 1) == (16 + 72) * 512
    assert metadata_size(1 << 40) == (8192 * 8 + 72) * 512


def test_what_differs_from_the_peer_is_in_bytes(recorded: Recorded) -> None:
    text = recorded("drbdsetup/8.4-proc.txt")
    assert parse_out_of_sync(text) == {1000: 0}
    assert parse_out_of_sync(text.replace("oos:0", "oos:20")) == {1000: 20480}
