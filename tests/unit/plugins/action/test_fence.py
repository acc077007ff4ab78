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

    def cut_off(self, *nodes: str) -> None:
        """The management network does not get to some nodes, which go on as before."""
        documents = self.world.documents()
        mute: Any = self.world
        mute.documents = lambda: documents | dict.fromkeys(nodes)

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
    (operator.bench.folder / "node1" / "stubborn").touch()
    shown, _ignored = operator.run("fence", status=2, node="node1", action="cycle")
    assert "node1 is not known to have been cycled" in shown


def test_guests_that_run_are_not_robbed_of_their_power_by_mistake(operator: Fenced) -> None:
    operator.running(web1=PAIR)
    shown, _ignored = operator.run("fence", status=2, node="node1", action="off")
    assert "node1 answers and runs web1" in shown and operator.bench.read("node1", "state") == "ON"
    operator.run("fence", node="node1", action="off", force=True)
    assert operator.bench.read("node1", "state") == "OFF"


def test_a_copy_that_the_other_node_lives_by_is_not_taken_by_mistake(operator: Fenced) -> None:
    operator.running(web1={"nodes": ["node2", "node1"]})
    disk = operator.world.nodes["node2"]["resources"]["web1"]["volumes"][0]
    disk["disk"] = "Diskless"
    shown, _ignored = operator.run("fence", status=2, node="node1", action="off")
    assert "node1 answers and has the only copy that is up to date of web1" in " ".join(shown.split())
    assert operator.bench.read("node1", "state") == "ON"
    disk["disk"] = "UpToDate"
    operator.run("fence", node="node1", action="off")
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
    # Nothing waits for node3, but if it is on too, it is rather the network that has failed.
    answer = operator.run("fence", intent=intent, switch_off="true")[1]
    assert {name: (said["state"], answer["changed"]) for name, said in answer["fenced"].items()} == {
        "node1": ("on", False), "node3": ("on", False),
    }  # fmt: skip
    shown, _ignored = operator.run("plan", "--check", intent=intent, fenced=answer["fenced"])
    assert "2 of 3 nodes are silent at once" in " ".join(shown.split())
    operator.run("fence", node="node3", action="off")
    predicted = operator.run("fence", "--check", intent=intent, switch_off=True)[1]["fenced"]["node1"]
    assert predicted["state"] == "off" and operator.bench.read("node1", "state") == "ON"
    answer = operator.run("fence", intent=intent, switch_off="true")[1]
    assert answer["fenced"]["node1"] == {"state": "off", "method": "fence_node1", "message": "switched it off"}
    assert operator.bench.read("node1", "state") == "OFF"
    shown, plan = operator.run("plan", "--check", intent=intent, fenced=answer["fenced"])
    assert "node1 is off, says its fence device (fence_node1)" in shown and plan["errors"] == []
    confirmed = {**intent, "confirm_dead": "node1"}
    assert operator.run("fence", intent=confirmed, switch_off="true")[1]["fenced"] == {}


def test_a_node_whose_guests_nobody_could_take_over_keeps_its_power(operator: Fenced) -> None:
    operator.running(web1=PAIR)
    operator.world.power_off("node1")
    operator.world.nodes["node2"]["resources"]["web1"]["volumes"][0]["disk"] = "Inconsistent"
    intent = {"verb": "recover"}
    shown, answer = operator.run("fence", intent=intent, switch_off="true")
    assert (answer["changed"], answer["fenced"]["node1"]["state"]) == (False, "on")
    left = "node1: its power is left on, for without it none of its guests could be started (instance web1: its copy"
    assert left in " ".join(shown.split())
    shown, _ignored = operator.run("plan", "--check", intent=intent, fenced=answer["fenced"])
    text = " ".join(shown.split())
    assert "mend that first" in text and "-e fence=true" not in text
    assert operator.run("fence", intent=intent, switch_off="node1")[1]["fenced"]["node1"]["state"] == "off"


def test_what_nothing_waits_for_is_left_alone_whatever_is_said(operator: Fenced) -> None:
    operator.running(web1=PAIR)
    for node in ("node1", "node3"):
        operator.world.power_off(node)
    shown, answer = operator.run("fence", intent={"verb": "recover"}, switch_off="node1,node3")
    assert {name: said["state"] for name, said in answer["fenced"].items()} == {"node1": "off", "node3": "on"}
    assert "node3: nothing waits for it to be off" in shown and operator.bench.read("node3", "state") == "ON"


def test_a_node_that_another_ones_drbd_is_connected_to_is_not_switched_off(operator: Fenced) -> None:
    operator.running(web1=PAIR)
    operator.cut_off("node1")
    for word in ("true", "node1"):
        answer = operator.run("fence", intent={"verb": "recover"}, switch_off=word)[1]
        assert (answer["changed"], answer["fenced"]["node1"]["state"]) == (False, "on")
    shown, plan = operator.run("plan", "--check", intent={"verb": "recover"}, fenced=answer["fenced"])
    assert [one["code"] for one in plan["errors"]] == ["cut-off"] and "restore the management network" in shown
    shown, _ignored = operator.run("fence", status=2, node="node1", action="off")
    assert "node1 does not answer, but lives: node2 still replicates web1 with it" in shown
    assert operator.bench.read("node1", "state") == "ON"
    operator.run("fence", node="node1", action="off", force=True)
    assert operator.bench.read("node1", "state") == "OFF"
    assert operator.run("fence", intent={"verb": "recover"})[1]["fenced"]["node1"]["state"] == "off"


def test_of_many_that_are_silent_at_once_only_those_with_a_name_are_switched_off(operator: Fenced) -> None:
    operator.running(web1=PAIR, web2={"nodes": ["node3", "node2"]})
    for node in ("node1", "node3"):
        operator.world.power_off(node)
    intent = {"verb": "recover"}
    answer = operator.run("fence", intent=intent, switch_off="true")[1]
    assert {name: said["state"] for name, said in answer["fenced"].items()} == {"node1": "on", "node3": "on"}
    shown, _ignored = operator.run("plan", "--check", intent=intent, fenced=answer["fenced"])
    assert "2 of 3 nodes are silent at once" in " ".join(shown.split())
    shown, answer = operator.run("fence", intent=intent, switch_off="node3,node2")
    assert {name: said["state"] for name, said in answer["fenced"].items()} == {"node1": "on", "node3": "off"}
    assert "node2: nothing waits for it to be off" in shown
    shown, _ignored = operator.run("fence", status=2, intent=intent, switch_off="node11")
    assert "There is no node 'node11'" in shown and operator.bench.read("node1", "state") == "ON"


@pytest.mark.parametrize("wrong", ["twofold_reserved_memory: lots", "twofold_volume_group: '{{ nothing }}'"])
def test_a_node_whose_variables_are_wrong_is_not_said_to_be_none(operator: Fenced, wrong: str) -> None:
    operator.running(web1=PAIR)
    (operator.directory / "host_vars" / "node2.yml").write_text(f"{wrong}\n", encoding="utf-8")
    variable = wrong.partition(":")[0]
    for arguments in ({"node": "node2"}, {"intent": {"verb": "recover"}, "switch_off": "node2"}):
        shown, _ignored = operator.run("fence", status=2, **arguments)
        text = " ".join(shown.split())
        assert "There is no node" not in text and "of node2 are wrong" in text
        assert f"{variable} of node2 ({operator.directory}/host_vars/node2.yml:1)" in text
    shown, answer = operator.run("fence")
    assert [one["object"] for one in answer["findings"] if one["severity"] == "error"] == ["node node2"]
    assert set(answer["fenced"]) == {"node1", "node3"}
    assert variable in shown
    both = operator.run("verify", status=2, findings=answer["findings"])[0]
    assert " ".join(both.split()).count(f"error node node2: {variable} of node2") == 1
    # The others can be fenced all the same.
    assert operator.run("fence", node="node1")[1]["fenced"]["node1"]["state"] == "on"
    assert "The nodes are node1, node2, node3." in operator.run("fence", status=2, node="node9")[0]


def test_a_node_without_a_device_is_to_get_one(operator: Fenced) -> None:
    for action in ("status", "off", "health"):
        shown, _ignored = operator.run("fence", status=2, node="node2", action=action)
        text = " ".join(shown.split())
        assert "node2 has no fence device" in text and "Give it one with twofold_fence" in text
        assert "password" not in text


def test_that_no_node_has_a_device_is_said_with_what_follows(tmp_path: Path) -> None:
    shown, answer = Fenced(tmp_path).run("fence")
    assert "No node has a fence device (twofold_fence)" in shown and "confirm_dead" in shown
    assert answer["findings"] == [] and answer["fenced"] == {}


def test_how_long_it_takes_and_what_was_tried_is_said(operator: Fenced) -> None:
    operator.device("node2", BROKEN)
    methods = [*yaml.safe_load((operator.directory / "host_vars/node2.yml").read_text())["twofold_fence"]]
    text = yaml.safe_dump({"twofold_fence": [{"oob": "/nonexistent"}, *methods]})
    (operator.directory / "host_vars/node2.yml").write_text(text, encoding="utf-8")
    shown, _ignored = operator.run("fence", status=2, node="node2", action="off")
    said = " ".join(shown.split())
    assert shown.index("node2: switching its power off, up to 482 s") < shown.index("node2: silent")
    assert "nonexistent: cannot be run: No such file or directory; look at" in said
    assert "fence_node2: ERROR: cannot log in with ***" in said
    operator.running(web1=PAIR)
    operator.world.power_off("node1")
    shown, _ignored = operator.run("fence", intent={"verb": "recover"}, switch_off="node1")
    assert shown.index("node1: switching its power off, up to 241 s") < shown.index("switched it off")
