# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""twofold.cluster.fence in real plays: real programs as devices, and nodes that are made to have said something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.test_fencing import AGENT, BROKEN, Bench
from tests.unit.plugins.action.test_cluster_actions import Operator

PAIR = {"nodes": ["node1", "node2"]}


class Fenced(Operator):
    """An inventory whose nodes have fence devices."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.bench = Bench(directory)
        (directory / "host_vars").mkdir()

    def device(self, node: str, script: str = AGENT) -> None:
        """Give a node a device, named like the node."""
        methods = [self.bench.device(node, script)]
        text = yaml.safe_dump({"twofold_fence": methods})
        (self.directory / "host_vars" / f"{node}.yml").write_text(text, encoding="utf-8")

    def running(self, **instances: Any) -> None:
        """Make the nodes run these instances."""
        self.instances = {name: instance(**variables) for name, variables in instances.items()}
        self.world.converge(desired(self.instances))


@pytest.fixture
def operator(tmp_path: Path) -> Fenced:
    """An operator whose node1 and node3 have a device."""
    made = Fenced(tmp_path)
    made.device("node1")
    made.device("node3")
    return made


def test_all_devices_are_asked_and_judged(operator: Fenced) -> None:
    operator.device("node2", BROKEN)
    shown, answer = operator.run("fence", "-vvv")
    assert {name: said[0]["state"] for name, said in answer["fenced"].items()} == {
        "node1": "on", "node2": "silent", "node3": "on",
    }  # fmt: skip
    assert [(found["object"], found["code"]) for found in answer["findings"]] == [("node node2", "fence-silent")]
    assert not answer["changed"] and "node1: on (fence_node1)" in shown and "geheim" not in shown
    shown, _ignored = operator.run("verify", status=2, findings=answer["findings"])
    assert "fence_node2" in shown


def test_a_node_is_switched_and_check_mode_only_says_so(operator: Fenced) -> None:
    assert operator.run("fence", "--check", node="node1", action="off")[1]["changed"]
    assert operator.bench.read("node1", "state") == "ON"
    assert operator.run("fence", node="node1", action="off")[1]["changed"]
    assert operator.bench.read("node1", "state") == "OFF"
    assert not operator.run("fence", node="node1", action="off")[1]["changed"]
    assert operator.run("fence", node="node1", action="cycle")[1]["fenced"]["node1"]["state"] == "on"


def test_guests_that_run_are_not_robbed_of_their_power_by_mistake(operator: Fenced) -> None:
    operator.running(web1=PAIR)
    shown, _ignored = operator.run("fence", status=2, node="node1", action="off")
    assert "node1 answers and runs web1" in shown and operator.bench.read("node1", "state") == "ON"
    operator.run("fence", node="node1", action="off", force=True)
    assert operator.bench.read("node1", "state") == "OFF"


def test_a_device_that_does_not_obey_fails(operator: Fenced) -> None:
    operator.device("node2", BROKEN)
    shown, _ignored = operator.run("fence", status=2, node="node2", action="off")
    assert "node2 is not known to be off" in shown and "geheim" not in shown
    shown, _ignored = operator.run("fence", status=2, node="node9", action="off")
    assert "There is no node 'node9'" in shown


def test_only_what_an_intent_needs_to_know_dead_is_switched_off(operator: Fenced) -> None:
    operator.running(web1=PAIR)
    for node in ("node1", "node3"):
        operator.world.power_off(node)
    intent = {"verb": "recover"}
    assert operator.run("fence", intent=intent)[1]["fenced"]["node1"]["state"] == "on"
    predicted = operator.run("fence", "--check", intent=intent, action="off")[1]["fenced"]["node1"]
    assert predicted["state"] == "off" and operator.bench.read("node1", "state") == "ON"
    answer = operator.run("fence", intent=intent, action="off")[1]
    assert answer["fenced"] == {
        "node1": {"state": "off", "method": "fence_node1", "message": "switched it off"},
    }  # fmt: skip
    assert (operator.bench.read("node1", "state"), operator.bench.read("node3", "state")) == ("OFF", "ON")
    shown, plan = operator.run("plan", "--check", intent=intent, fenced=answer["fenced"])
    assert "node1 is off, says its fence device (fence_node1)" in shown and plan["errors"] == []
    confirmed = {**intent, "confirm_dead": "node1"}
    assert operator.run("fence", intent=confirmed, action="off")[1]["fenced"] == {}
