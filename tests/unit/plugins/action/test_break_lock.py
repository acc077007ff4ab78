# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator reads when a lock is broken; that it is broken is tested on the node's side and in the lab."""

from __future__ import annotations

import pytest
from ansible_collections.twofold.cluster.plugins.action import break_lock
from ansible_collections.twofold.cluster.plugins.plugin_utils._node_call import NotUnderstood, shaped

LOCK = {"holder": "ann@desk", "run": "r1", "time": 0.0, "lease": 120, "age": 41.4}


@pytest.mark.parametrize(
    ("lock", "check_mode", "said"),
    [
        (None, False, "there is no lock"),
        (LOCK, False, "the lock of ann@desk (run r1, last heard of 41 s ago) was broken"),
        ({**LOCK, "damaged": True}, False, "a lock that is damaged was broken; nobody knows whose it was"),
        (LOCK, True, "the lock of ann@desk (run r1, last heard of 41 s ago) would be broken"),
    ],
)
def test_holder_and_age_are_shown(lock: dict[str, object] | None, check_mode: bool, said: str) -> None:
    assert break_lock.said(lock, check_mode) == said


@pytest.mark.parametrize("answer", [{}, {"lock": 7}, {"lock": {"holder": "ann"}}, {"lock": {**LOCK, "age": "old"}}])
def test_a_damaged_answer_is_said_to_be_one(answer: dict[str, object]) -> None:
    with pytest.raises(NotUnderstood, match=r"The node's answer is damaged: answer\.lock"):
        shaped(answer, "UNLOCKED")
    assert shaped({"lock": LOCK, "more": 1}, "UNLOCKED") == {"lock": LOCK}
