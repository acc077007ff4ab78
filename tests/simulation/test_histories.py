# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random histories: whatever fails, no rule under *Never* is broken, and in the end there is peace."""

from __future__ import annotations

import pytest
from tests.simulation.__main__ import histories
from tests.simulation.history import play, story

ORDINARY, NIGHTLY = 3_000, 100_000


def test_a_history_always_goes_the_same_way() -> None:
    for seed in range(20):
        first, second = play(story(seed)), play(story(seed))
        assert first.lines == second.lines and first.counts == second.counts


def test_no_history_breaks_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    failed = histories(ORDINARY, 1, 1)
    said = capsys.readouterr().out
    assert not failed, said
    print(said)


@pytest.mark.nightly
def test_none_of_very_many_histories_breaks_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    failed = histories(NIGHTLY, 1_000_000, 1)
    assert not failed, capsys.readouterr().out
