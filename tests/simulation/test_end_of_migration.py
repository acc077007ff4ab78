# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Written histories: a migration is interrupted at each of its moments; the next run clears up what is left."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from tests.simulation import inventories
from tests.simulation.faults import Fault
from tests.simulation.history import Action, Story, play
from tests.simulation.world import GIB

NODES = 2
CONVERGE = {"verb": "converge"}
MIGRATE = {"verb": "migrate", "instance": "a", "target": "node2"}
KINDS = ("process killed", "control process", "power", "power of another", "replication link", "management link")


def guest(template: str) -> dict[str, dict[str, Any]]:
    made = inventories.instance(Random(5), NODES, (template,))
    wanted = {"twofold_nodes": ["node1", "node2"], "twofold_state": "running", "twofold_os": None}
    if template != "drbd":
        wanted["twofold_nodes"] = ["node1"]
    return {"a": {**made, "twofold_memory": "256MiB", **wanted}}


@pytest.mark.parametrize("template", ["drbd", "plain", "diskless"])
def test_whenever_it_is_interrupted_the_guest_goes_on_once(template: str) -> None:
    wanted, seen = guest(template), ""
    for kind in KINDS:
        for breath in range(15, 60):
            actions = (Action(CONVERGE, wanted), Action(MIGRATE, wanted, (Fault(breath, kind, 1),)))
            done = play(Story(7, NODES, 16 * GIB, actions))
            assert done.violation is None, (kind, breath, done.violation, done.lines)
            seen += "\n".join(done.lines)
    # Each way out was needed somewhere.
    for op in ("domain.discard@node2", "domain.resume@node2"):
        assert f"a/{op}" in seen
