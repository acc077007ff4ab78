# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tools really said, torn, doubled, swapped and misspelt: it is read, or refused by the parser's own error."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils._drbd_meta import parse_generations
from ansible_collections.twofold.cluster.plugins.module_utils._drbd_parse import (
    parse_events,
    parse_out_of_sync,
    parse_proc,
    parse_show,
    take_secret,
)
from ansible_collections.twofold.cluster.plugins.module_utils._errors import ParseFailed
from ansible_collections.twofold.cluster.plugins.module_utils._images import parse_info
from ansible_collections.twofold.cluster.plugins.module_utils._lvm import parse_report
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.plugins.module_utils.conftest import FIXTURES

# Lines, words and what stands between them, characters.
PARTS = [re.compile(r"[^\n]*\n|[^\n]+"), re.compile(r"[\w-]+|\s+|."), re.compile(r"(?s:.)")]
SYNCING = "\t[=>..................] sync'ed: 12.3% (1024/2048)K\n\tfinish: 0:00:10 speed: 1,024 (1,024) K/sec\n"
READERS: dict[str, list[Callable[[str], Any]]] = {
    "drbdsetup/8.4-events2-primary.txt": [parse_events],
    "drbdsetup/8.4-events2-secondary.txt": [parse_events],
    "drbdsetup/8.4-get-gi.txt": [parse_generations],
    "drbdsetup/8.4-proc.txt": [parse_proc, parse_out_of_sync],
    "drbdsetup/8.4-show-defaults.txt": [parse_show, take_secret],
    "drbdsetup/8.4-show.txt": [parse_show, take_secret],
    "lvm/fullreport-web1.json": [parse_report],
    "qemu-img/info-backing.json": [parse_info],
    "qemu-img/info-data-file.json": [parse_info],
    "qemu-img/info-qcow2.json": [parse_info],
}
# What the formats themselves are made of does more harm than any other character.
CHARACTERS = st.sampled_from(list("{}[];:\"'\\,.%=-#0 9x\n\0\u00e9\u0663\u00b2")) | st.characters(codec="utf-8")
VALUES = st.sampled_from(["", "null", "[]", "{}", "-1", "1e999", "NaN", "9" * 5000, '"x"', "[" * 5000])


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """The text with a few lines, words or characters removed, doubled, swapped or replaced."""
    for _index in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(PARTS))
        parts = kind.findall(text)
        one, other = (draw(st.integers(0, max(len(parts) - 1, 0))) for _side in range(2))
        what = draw(st.sampled_from(["delete", "double", "swap", "replace", "cut"])) if parts else "cut"
        if what == "delete":
            del parts[one]
        elif what == "double":
            parts.insert(other, parts[one])
        elif what == "swap":
            parts[one], parts[other] = parts[other], parts[one]
        elif what == "replace":
            parts[one] = draw(CHARACTERS | VALUES)
        else:
            parts = parts[:one]
        text = "".join(parts)
    return text


def test_every_recording_is_tried() -> None:
    assert {path.relative_to(FIXTURES).as_posix() for path in FIXTURES.rglob("*.*")} == set(READERS)


@pytest.mark.parametrize("case", READERS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_mutated_output_is_read_or_refused(case: str, data: st.DataObject) -> None:
    text = (FIXTURES / case).read_text(encoding="utf-8")
    said = data.draw(mutated(text + SYNCING if "proc" in case else text))
    for read in READERS[case]:
        try:
            read(said)
        except ParseFailed as error:
            assert error.message and error.remedy and len(error.message) < 1000


@pytest.mark.parametrize("text", ["volume {disk x;}", "volume x {disk y;}", "a {" * 5000 + "}" * 5000])
def test_a_configuration_with_odd_blocks_is_read_or_refused(text: str) -> None:
    with pytest.raises(ParseFailed):
        parse_show(f"resource web1 {{{text}}}")


@pytest.mark.parametrize("share", ["1.2.3", "..", "9" * 5000])
def test_a_share_that_is_none_is_not_told(share: str) -> None:
    assert parse_proc(f" 0: cs:SyncTarget ro:Secondary/Primary\n\tsync'ed:{share}%\n") == {}


@pytest.mark.parametrize("share", ["nan", "inf", "-1", "1e3", "x"])
def test_an_event_with_an_impossible_share_is_refused(share: str) -> None:
    event = f"exists peer-device name:web1 volume:0 peer-disk:UpToDate done:{share}"
    with pytest.raises(ParseFailed, match="events2"):
        parse_events(event)
