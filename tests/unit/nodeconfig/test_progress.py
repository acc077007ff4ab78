# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node writes about its progress is what the control host shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _progress as node_side
from ansible_collections.twofold.cluster.plugins.module_utils._clock import SystemClock
from ansible_collections.twofold.cluster.plugins.module_utils._files import SystemFiles
from ansible_collections.twofold.cluster.plugins.plugin_utils import _progress


class Connection:
    """Answers with the files of a directory, one after another, as cat does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exec_command(self, command: str, sudoable: bool) -> tuple[int, bytes, bytes]:
        assert command == _progress.COMMAND and not sudoable
        return 0, b"".join(path.read_bytes() for path in sorted(self.folder.glob("*.json"))), b""


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(_progress.display, "display", lines.append)
    monkeypatch.setattr(_progress, "FIRST_LOOK", 0.0)
    monkeypatch.setattr(_progress, "INTERVAL", 0.01)
    monkeypatch.setattr(node_side, "FOLDER", str(tmp_path))
    return lines


def wait_for(lines: list[str], count: int) -> None:
    clock = SystemClock()
    end = clock.monotonic() + 20
    while len(lines) < count and clock.monotonic() < end:
        clock.sleep(0.01)


def test_each_step_is_shown_once(shown: list[str], tmp_path: Path) -> None:
    writer = node_side.FileProgress(SystemFiles(), SystemClock())
    writer.say("web1", "zeroing web1-disk0", 0.25, bytes=1, total=4)
    writer.say("web2", "running the OS script", None)
    with _progress.Progress("node1", Connection(tmp_path)):
        wait_for(shown, 2)
        writer.say("web1", "writing the image", 0.5)
        wait_for(shown, 3)
    assert shown == [
        "  node1: web1: zeroing web1-disk0 25%",
        "  node1: web2: running the OS script",
        "  node1: web1: writing the image 50%",
    ]


class Wound:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_how_long_it_still_takes_is_told_by_its_pace(
    shown: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Wound()
    monkeypatch.setattr(_progress, "LOOKS", 3)
    writer = node_side.FileProgress(SystemFiles(), clock)
    with _progress.Progress("node1", Connection(tmp_path)):
        # The last begins anew: only its own pace counts.
        for count, (seconds, done) in enumerate([(0, 0.1), (30, 0.2), (30, 0.5), (3600, 0.51), (9, 0.2), (10, 0.6)], 1):
            clock.sleep(seconds)
            writer.say("web1", "resync", done)
            wait_for(shown, count)
    assert shown == [
        "  node1: web1: resync 10%",
        "  node1: web1: resync 20%, about 4 min left",
        "  node1: web1: resync 50%, about 2 min left",
        "  node1: web1: resync 51%, about 1 h 36 min left",
        "  node1: web1: resync 20%",
        "  node1: web1: resync 60%, about 10 s left",
    ]


@pytest.mark.parametrize("text", ["", "{", '{"name": ', "[1]", "cat: no such file"])
def test_what_is_no_document_is_left_out(text: str) -> None:
    assert list(_progress.documents(text)) == []
