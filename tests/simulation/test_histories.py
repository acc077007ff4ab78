# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random histories: whatever fails, no rule under *Never* is broken, and in the end there is peace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.simulation.__main__ import histories
from tests.simulation.history import play, story

ORDINARY, NIGHTLY = 3_000, 100_000
ROOT = Path(__file__).parents[2]


def test_a_history_always_goes_the_same_way() -> None:
    for seed in range(20):
        first, second = play(story(seed)), play(story(seed))
        assert first.lines == second.lines and first.counts == second.counts


def test_no_history_breaks_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    failed = histories(ORDINARY, 1, 1)
    said = capsys.readouterr().out
    assert not failed, said
    print(said)


def test_the_order_of_sets_decides_nothing() -> None:
    """Python orders a set of strings anew in each process, unless it is told how."""
    argv = [sys.executable, "-m", "tests.simulation", "--histories", "200", "--seed", "1"]
    said = [
        subprocess.run(
            argv, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": value}, text=True, stdout=subprocess.PIPE, check=False
        )
        for value in ("1", "2")
    ]
    assert [one.returncode for one in said] == [0, 0]
    digests = [one.stdout.splitlines()[-1] for one in said]
    assert digests[0].startswith("digest") and digests[0] == digests[1]


@pytest.mark.nightly
def test_none_of_very_many_histories_breaks_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    failed = histories(NIGHTLY, 1_000_000, 1)
    assert not failed, capsys.readouterr().out
