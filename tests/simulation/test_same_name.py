# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Written histories: two operators make the same new instance, on different nodes, at every moment of each other."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from tests.simulation import inventories
from tests.simulation.faults import Fault
from tests.simulation.history import make_peace, run_of
from tests.simulation.rules import Violation
from tests.simulation.world import World

from twofold.planner.converge import Converge

NODES = 4
# Where each of the two wants it.
CHOICES = {"apart": (["node1", "node2"], ["node3", "node4"]), "one shared": (["node1", "node2"], ["node2", "node3"])}
TEMPLATES = ("drbd", "plain", "diskless")
KINDS = ("second operator", "lock broken")


def wanted(template: str, nodes: list[str]) -> dict[str, Any]:
    made = inventories.instance(Random(5), NODES, (template,))
    pinned = nodes if template == "drbd" else nodes[:1]
    return {"a": {**made, "twofold_nodes": pinned, "twofold_state": "running", "twofold_memory": "256MiB"}}


def both(template: str, choice: str, fault: Fault) -> tuple[World, bool]:
    """One makes it; at a breath of his the other does, from what the nodes say then. Whether that moment came."""
    mine, theirs = (wanted(template, nodes) for nodes in CHOICES[choice])
    world = World(11, NODES)
    fault = replace(fault, instances=theirs, intent={"verb": "converge"})
    run = run_of(world, mine, {"verb": "converge"}, (fault,))
    make_peace(world, mine)
    return world, bool(run.struck)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("template", TEMPLATES)
def test_it_is_made_once(template: str, choice: str, kind: str) -> None:
    for breath in range(1 + (choice == "apart"), 200, 2):
        world, struck = both(template, choice, Fault(breath, kind, 1))
        running = [name for name, machine in world.machines.items() if "a" in machine.libvirt.domains]
        assert len(running) == 1, f"at breath {breath}"
        if not struck:
            assert breath > 5
            return


@pytest.mark.parametrize("template", TEMPLATES)
def test_it_would_be_made_twice_if_nobody_looked(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Converge, "looks", ())
    with pytest.raises(Violation, match=r"a (runs on|is Primary on) node"):
        for breath in range(2, 100, 2):
            both(template, "apart", Fault(breath, "second operator", 1))
