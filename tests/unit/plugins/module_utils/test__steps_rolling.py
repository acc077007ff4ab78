# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The note of a rolling reboot, on real files."""

from __future__ import annotations

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _steps_rolling
from ansible_collections.twofold.cluster.plugins.module_utils._errors import TwofoldError
from ansible_collections.twofold.cluster.plugins.module_utils._node import Node
from ansible_collections.twofold.cluster.plugins.module_utils._steps import Args, Done, find

NOTE = {"format": 1, "packages": "", "boots": {"node1": "a"}}


def run(node: Node, op: str, **values: object) -> Done:
    return find(op)(node, Args(op, dict(values)))


def test_it_is_written_once_replaced_and_removed(node: Node) -> None:
    assert _steps_rolling.read(node.files) is None
    assert run(node, "rolling.begin", note=NOTE).changed
    assert not run(node, "rolling.begin", note=NOTE).changed
    newer = {**NOTE, "boots": {"node1": "b"}}
    assert run(node, "rolling.begin", note=newer).changed
    assert _steps_rolling.read(node.files) == newer
    assert run(node, "rolling.end").changed
    assert not run(node, "rolling.end").changed
    assert _steps_rolling.read(node.files) is None


def test_check_mode_writes_nothing(node: Node) -> None:
    node.check_mode = True
    assert run(node, "rolling.begin", note=NOTE).changed
    assert _steps_rolling.read(node.files) is None


def test_a_damaged_note_is_an_error_and_not_the_end_of_the_reboot(node: Node) -> None:
    node.files.write(_steps_rolling.NOTE, "{")
    with pytest.raises(TwofoldError):
        _steps_rolling.read(node.files)
