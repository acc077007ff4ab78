# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that do not end, and programs that cannot even be killed."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _runner
from ansible_collections.twofold.cluster.plugins.module_utils._errors import TimedOut
from ansible_collections.twofold.cluster.plugins.module_utils._runner import SystemRunner


def seconds_of(argv: list[str], *, runner: SystemRunner, mutates: bool = False) -> float:
    """How long it took until a command that hangs was given up."""
    begun = time.monotonic()
    with pytest.raises(TimedOut) as caught:
        runner.run(argv, mutates=mutates, timeout=0.5)
    assert " ".join(argv) in caught.value.message and caught.value.remedy
    return time.monotonic() - begun


def test_a_program_that_leaves_somebody_behind_with_its_output_is_given_up() -> None:
    """Killing the program itself does not end what it said."""
    assert seconds_of(["sh", "-c", "sleep 20 & wait"], runner=SystemRunner()) < 10
    assert seconds_of(["sh", "-c", "sleep 20 &"], runner=SystemRunner()) < 10


class Deathless:
    """A process that waits for a disk: no signal reaches it."""

    returncode = None
    stdin = stdout = stderr = None

    def __init__(self, *_arguments: Any, **_more: Any) -> None:
        self.killed = False

    def __enter__(self) -> Deathless:
        return self

    def __exit__(self, *_error: object) -> None:
        self.wait()

    def communicate(self, _data: bytes | None, timeout: float) -> tuple[bytes, bytes]:
        raise subprocess.TimeoutExpired("lvm", timeout)

    def kill(self) -> None:
        self.killed = True

    def wait(self, timeout: float | None = None) -> int:
        if timeout is None or not self.killed:
            pytest.fail("it is waited for without end")
        raise subprocess.TimeoutExpired("lvm", timeout)


def test_a_program_that_cannot_be_killed_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", Deathless)
    seconds_of(["lvm", "fullreport"], runner=SystemRunner())


def test_what_hung_is_not_looked_at_twice_but_changed_again() -> None:
    runner, argv = SystemRunner(), ["sleep", "20"]
    seconds_of(argv, runner=runner)
    assert seconds_of(argv, runner=runner) < 0.3
    assert seconds_of(argv, runner=runner, mutates=True) > 0.4


@pytest.mark.parametrize(("mutates", "limit"), [(False, "ANSWER"), (True, "CHANGE")])
def test_no_program_runs_without_a_limit(mutates: bool, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_runner, limit, 0.3)
    with pytest.raises(TimedOut):
        SystemRunner().run(["sleep", "20"], mutates=mutates)
