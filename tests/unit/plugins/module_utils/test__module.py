# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module answers whatever goes wrong; a traceback is for a mistake in the program."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _module
from ansible_collections.twofold.cluster.plugins.module_utils._node import Node


class Failed(Exception):
    """What fail_json was told."""


class Module:
    """As much of AnsibleModule as is needed."""

    check_mode = False
    params: dict[str, Any] = {}

    def __init__(self, **_spec: Any) -> None:
        return

    def fail_json(self, **answer: Any) -> NoReturn:
        raise Failed(answer)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "/dev/typo"),
            "/dev/typo: No such file or directory (see if",
        ),
        (OSError(28, "No space left on device"), "a file of this node: No space left on device (see if"),
    ],
)
def test_an_error_of_the_system_is_an_answer(monkeypatch: pytest.MonkeyPatch, error: OSError, said: str) -> None:
    def work(_node: Node, _params: dict[str, Any]) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(_module, "AnsibleModule", Module)
    with pytest.raises(Failed) as failed:
        _module.Binding({}).execute(work)
    (answer,) = failed.value.args
    assert answer["msg"].startswith(said)
    assert answer["remedy"] in answer["msg"]
