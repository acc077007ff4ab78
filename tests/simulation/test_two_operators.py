# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Written histories: a colleague who takes back a move that has begun."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from tests.simulation import inventories
from tests.simulation.faults import Fault
from tests.simulation.history import Action, Story, play
from tests.simulation.world import GIB

NODES = 3
CONVERGE = {"verb": "converge"}
# How long the one who moves it is held up before the next wave, as `between_waves` picks: for a moment.
MOMENT = 0


def guest(template: str) -> dict[str, dict[str, Any]]:
    made = inventories.instance(Random(5), NODES, (template,))
    wanted = {"twofold_nodes": ["node1"], "twofold_state": "running", "twofold_memory": "256MiB", "twofold_os": None}
    return {"a": {**made, **wanted}}


@pytest.mark.parametrize("template", ["diskless", "plain"])
def test_a_move_that_a_colleague_takes_back_does_not_go_on(template: str) -> None:
    """He sees it begun, before the guest's own node knows of it; and a node loses its power at any moment of it.

    Nothing but the definitions says where such a guest lives.
    """
    wanted = guest(template)
    move = {"verb": "migrate", "instance": "a", "target": "node2"}
    taken_back = 0
    for breath in range(25, 60):
        faults = (Fault(5, "between waves", MOMENT), Fault(breath, "power"))
        actions = (Action(CONVERGE, wanted), Action(move, wanted, faults))
        done = play(Story(7, NODES, 16 * GIB, actions))
        assert done.violation is None, (breath, done.violation, done.lines)
        taken_back += any("domain.migrate" in line and "skipped" in line for line in done.lines)
    assert taken_back, "he came before its own node knew of it"
