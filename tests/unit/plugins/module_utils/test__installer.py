# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OS scripts that do not behave: each is a failed step with its last words, and nothing of it runs on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _runner, _steps
from ansible_collections.twofold.cluster.plugins.module_utils._errors import TimedOut, TwofoldError
from ansible_collections.twofold.cluster.plugins.module_utils._installer import SystemInstaller
from ansible_collections.twofold.cluster.plugins.module_utils._node import Node
from ansible_collections.twofold.cluster.plugins.module_utils._runner import Ended, SystemRunner

ROOT = Path(__file__).resolve().parents[4]


def watch(script: str, timeout: float = 20.0) -> Ended:
    return SystemRunner().watch(["/bin/sh", "-c", script], timeout=timeout)


def alive(mark: str) -> list[str]:
    """The processes with a word in their command line, besides this one."""
    found = subprocess.run(["pgrep", "-f", mark], capture_output=True, text=True, check=False).stdout.split()
    return [pid for pid in found if int(pid) != os.getpid()]


def gone(mark: str) -> bool:
    """Whether they end, soon."""
    until = time.monotonic() + 20
    while alive(mark) and time.monotonic() < until:
        time.sleep(0.1)
    return not alive(mark)


class TestWatch:
    def test_both_streams_and_the_code(self) -> None:
        assert watch("echo one; echo two >&2; exit 3") == Ended(3, "one\ntwo\n")

    def test_the_end_of_a_flood_without_a_line_is_kept_in_little_memory(self) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = watch("head -c 300000000 /dev/zero | tr '\\0' x; printf '\\nlast words\\n'; exit 1", 120)
        assert found.code == 1 and found.said.endswith("x\nlast words\n") and len(found.said) <= _runner.KEPT
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000

    def test_a_flood_without_an_end_is_ended(self) -> None:
        found = watch("exec yes 48273648", 1.0)
        assert found.code is None and "48273648\n" in found.said and not alive("yes 48273648")

    def test_bytes_that_are_no_text(self) -> None:
        found = watch("printf 'a\\377\\033[2J\\000b\\n'; exit 1")
        assert found == Ended(1, "a\ufffd\ufffd[2J\ufffdb\n")

    @pytest.mark.parametrize("trap", ["", "trap '' TERM INT HUP; "])
    def test_what_hangs_is_ended_with_all_that_it_started(self, trap: str) -> None:
        started = time.monotonic()
        found = watch(f"{trap}echo begun; (sleep 48273649 & sleep 48273649)", 1.0)
        assert found == Ended(None, "begun\n")
        assert time.monotonic() - started < _runner.GONE and not alive("sleep 48273649")

    def test_a_child_that_keeps_the_pipe_open_is_not_waited_for(self) -> None:
        started = time.monotonic()
        assert watch("sleep 48273650 & echo done", 300.0) == Ended(0, "done\n")
        assert time.monotonic() - started < 100 and not alive("sleep 48273650")

    def test_what_closes_its_output_is_waited_for(self) -> None:
        assert watch("exec >&- 2>&-; sleep 1; exit 4") == Ended(4, "")

    def test_it_ends_with_who_watches(self, tmp_path: Path) -> None:
        program = (
            "from ansible_collections.twofold.cluster.plugins.module_utils._runner import SystemRunner\n"
            "SystemRunner().watch(['sleep', '48273651'], timeout=600)\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
        watcher = subprocess.Popen([sys.executable, "-c", program], env=environment)
        until = time.monotonic() + 60
        while not alive("^sleep 48273651") and time.monotonic() < until:
            time.sleep(0.1)
        assert alive("^sleep 48273651")
        watcher.send_signal(signal.SIGKILL)
        watcher.wait()
        assert gone("^sleep 48273651")

    def test_a_program_that_is_not_there(self) -> None:
        found = SystemRunner().watch(["/nonexistent/program"], timeout=5)
        assert found.code == 127 and "/nonexistent/program" in found.said

    def test_not_in_check_mode(self) -> None:
        with pytest.raises(_runner.CheckModeViolation):
            SystemRunner(check_mode=True).watch(["true"], timeout=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="OS scripts are for root")
class TestInstall:
    @pytest.fixture
    def disk(self, tmp_path: Path) -> Path:
        path = tmp_path / "disk"
        with path.open("wb") as file:
            file.truncate(16 << 20)
        return path

    @pytest.fixture
    def install(self, node: Node, disk: Path, tmp_path: Path) -> Callable[..., Any]:
        """Carry out the step on a disk that waits for its OS."""
        node.installer = SystemInstaller(SystemRunner(), str(tmp_path / "install"))
        tags = ["twofold", "twofold.instance=web1", "twofold.disk=0", "twofold.pending=install"]
        node.volumes.create("vg0", "web1-disk0", 16 << 20, tags)

        def carry_out(script: str, timeout: float = 60.0) -> Any:
            values = {
                "kind": "script", "device": str(disk), "volume": {"volume_group": "vg0", "name": "web1-disk0"},
                "script": script, "environment": {}, "timeout": timeout,
            }  # fmt: skip
            return _steps.find("os.install")(node, _steps.Args("os.install", values))

        return carry_out

    @pytest.mark.parametrize(
        ("script", "said"),
        [
            ("#!/bin/sh\necho first\necho 'no mirror' >&2\nexit 7\n", "ended with 7: first | no mirror"),
            ("#!/bin/sh\nexit 7\n", "ended with 7: it said nothing"),
            ("#!/bin/sh\nprintf '\\377\\376\\n'; exit 1\n", "ended with 1: \ufffd\ufffd"),
            ("#!/bin/sh\nhead -c 50000000 /dev/zero | tr '\\0' x; exit 1\n", "ended with 1: xxx"),
            ("#!/bin/sh\nkill -9 $$\n", "ended with 137"),
        ],
    )
    def test_it_fails_with_its_last_words_and_the_os_is_still_owed(
        self, node: Node, install: Callable[..., Any], script: str, said: str
    ) -> None:
        with pytest.raises(TwofoldError) as caught:
            install(script)
        assert "the OS script for web1" in caught.value.message and said in caught.value.message
        assert len(caught.value.message) < 2000 and "run again" in (caught.value.remedy or "")
        volume = node.volumes.find("vg0", "web1-disk0")
        assert volume is not None and "install" in volume.pending()

    @pytest.mark.parametrize(
        "script",
        [
            "#!/bin/sh\necho waiting\nsetsid sleep 48273652 &\nexec sleep 48273652\n",
            "#!/bin/sh\necho waiting\ntrap '' TERM\nwhile :; do sleep 48273652; done\n",
        ],
    )
    def test_it_has_a_limit_in_time_and_nothing_of_it_stays(
        self, node: Node, install: Callable[..., Any], script: str
    ) -> None:
        with pytest.raises(TimedOut) as caught:
            install(script, 2.0)
        assert "did not end within 2 s and was killed: waiting" in caught.value.message
        assert gone("sleep 48273652")
        volume = node.volumes.find("vg0", "web1-disk0")
        assert volume is not None and "install" in volume.pending()
        # What it used is free again: the next run makes the disk anew.
        assert install("#!/bin/sh\ntest ! -e $TWOFOLD_TARGET/begun\n").changed

    def test_what_it_leaves_running_ends_before_the_disk_counts_as_written(
        self, node: Node, install: Callable[..., Any], disk: Path
    ) -> None:
        keeps_writing = "(while :; do date >> $TWOFOLD_TARGET/log; sleep 0.1; done) &"
        assert install(f"#!/bin/sh\necho kept > $TWOFOLD_TARGET/file\nsetsid sh -c '{keeps_writing}'\n").changed
        assert not subprocess.run(["losetup", "--associated", str(disk)], capture_output=True, check=True).stdout
        subprocess.run(["fsck.ext4", "-fn", str(disk)], capture_output=True, check=True)
        volume = node.volumes.find("vg0", "web1-disk0")
        assert volume is not None and "install" not in volume.pending()
