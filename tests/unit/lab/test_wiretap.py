# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the witness on the guests' network makes of what it heard."""

from __future__ import annotations

from tests.lab.wiretap import Heard, twice


def test_a_guest_that_moves_runs_once() -> None:
    assert twice([]) == []
    assert twice([Heard(1.0, "node1"), Heard(9.0, "node2")]) == []
    assert twice([Heard(1.0, "node1"), Heard(9.0, "node2"), Heard(40.0, "node1")]) == [], "it came home"


def test_a_guest_that_is_heard_here_and_there_runs_twice() -> None:
    heard = [Heard(1.0, "node1"), Heard(9.0, "node2"), Heard(9.5, "node1"), Heard(9.9, "node2")]
    assert twice(heard) == ["on node2 and node1 within 0.50 s", "on node1 and node2 within 0.40 s"]
