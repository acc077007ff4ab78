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


@pytest.mark.parametrize("text", ["", "{", '{"name": ', "[1]", "cat: no such file"])
def test_what_is_no_document_is_left_out(text: str) -> None:
    assert list(_progress.documents(text)) == []
