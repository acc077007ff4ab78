# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fence devices: the order of ways, what counts as off, and what the programs are told. The programs are scripts."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePath
from typing import Any

import pytest
from tests.unit.lib.cases import instance, nodes
from tests.unit.lib.world import World

from twofold import fencing, inventory
from twofold.fencing import OFF, ON, SILENT, Fence, Programs, Ran
from twofold.model import FenceDevice

# A device whose state is a file; it keeps what it was told, and obeys unless told to be stubborn.
AGENT = """#!/bin/sh
cd "$(dirname "$0")"
cat > told; echo "$@" > arguments
. ./told 2>/dev/null
case $action in
status) state=$(cat state); echo "Status: $state"; [ "$state" = ON ] && exit 0; exit 2;;
on|off) [ -e stubborn ] || echo $action | tr a-z A-Z > state; exit 0;;
esac
exit 1
"""
OOB = """#!/bin/sh
cd "$(dirname "$0")"
echo "$@" > arguments; echo "$1" >> history
case $1 in
power-status) [ "$(cat state)" = ON ] && echo '{"powered": true}' || echo '{"powered": false}';;
power-on) echo ON > state;;
power-off) echo OFF > state;;
power-cycle) [ ! -e refuses ] || exit 1; [ "$(cat state)" = ON ] || exit 1;;
health) echo '[["fan1", "OK"], ["disk0", "CRITICAL"]]';;
*) exit 1;;
esac
"""
BROKEN = """#!/bin/sh
cat > /dev/null; echo "2026-11-20 12:00:00,123 ERROR: cannot log in with geheim" >&2
exit 1
"""
# Ends as if it had said off, and did not.
MISLEADING = """#!/bin/sh
cat > /dev/null; exit 2
"""


# Takes every command, and says nothing that can be understood.
GARBAGE = """#!/bin/sh
cat > /dev/null; echo garbage
"""


class Bench:
    """A node with devices in a folder, and time that only passes when somebody waits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 0.0
        self.ran: list[list[str]] = []
        self.hanging: set[str] = set()

    def device(self, name: str, script: str, **more: Any) -> dict[str, Any]:
        """A device in a folder of its own, switched on."""
        home = self.folder / name
        home.mkdir()
        (home / "state").write_text("ON\n")
        program = home / (name if script is OOB else f"fence_{name}")
        program.write_text(script)
        program.chmod(0o755)
        options = {"password": "geheim", "ip": "192.0.2.99"}
        return {"oob": str(program), **more} if script is OOB else {"agent": str(program), "options": options, **more}

    def read(self, name: str, what: str) -> str:
        return (self.folder / name / what).read_text().strip()

    def set(self, name: str, state: str) -> None:
        (self.folder / name / "state").write_text(f"{state}\n")

    def fence(self, *methods: Any) -> Fence:
        variables = nodes(1)
        variables["node1"]["twofold_fence"] = list(methods)
        desired, findings = inventory.load(variables, {})
        assert not findings
        return Fence(desired.nodes["node1"], Programs(self.run, lambda: self.now, self.sleep))

    def run(self, argv: list[str], stdin: str, seconds: float) -> Ran:
        self.ran.append(argv)
        if argv[0] in self.hanging:
            self.now += seconds
            return Ran(None, "", f"did not end within {seconds:.0f} s")
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=seconds, check=False)
        return Ran(done.returncode, done.stdout, done.stderr)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """The bench."""
    return Bench(tmp_path)


UNTOLD = "guests that it could not tell"
PAUSED = {"uuid": "", "state": "paused"}


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (None, []), ({"format": 1, "domains": {}}, []), ({"format": 1}, [UNTOLD]),
        ({"format": 1, "domains": {"web1": 3}}, [UNTOLD]), (3, [UNTOLD]),
        ({"format": 1, "domains": {"b": {**PAUSED, "state": "shutoff"}, "a": PAUSED}}, ["a"]),
    ],
)  # fmt: skip
def test_who_would_lose_its_power_is_told_of_any_answer(said: Any, found: list[str]) -> None:
    assert fencing.guests({"node1": said}, "node1") == found


def test_an_agent_is_told_everything_on_standard_input(bench: Bench) -> None:
    fence = bench.fence(bench.device("ipmi", AGENT))
    assert fence.status() == fencing.Said(ON, "fence_ipmi", "says on")
    assert bench.read("ipmi", "told") == "password=geheim\nip=192.0.2.99\naction=status"
    assert bench.read("ipmi", "arguments") == ""
    assert fence.switch(OFF).state == OFF
    assert (bench.read("ipmi", "state"), fence.status().state) == ("OFF", OFF)
    assert fence.switch(ON).state == ON


def test_no_option_makes_another_command_of_ours(bench: Bench) -> None:
    """Agents take the last of two lines. Such an option is refused, and would do nothing if it were not."""
    device = FenceDevice.model_construct(**bench.device("ipmi", AGENT, timeout=5))
    device.options.update(action="off", option="off")
    fence = bench.fence()
    fence.node.fence.append([device])
    assert (fence.status().state, bench.read("ipmi", "state")) == (ON, "ON")
    assert bench.read("ipmi", "told").splitlines()[-1] == "action=status"


@pytest.mark.parametrize("name", ["action", "Action", "-o", "--action", "--ACTION", " action", "option"])
def test_the_action_is_not_an_option(name: str) -> None:
    variables = nodes(1)
    variables["node1"]["twofold_fence"] = [{"agent": "fence_x", "options": {"ip": "192.0.2.9", name: "off"}}]
    desired, findings = inventory.load(variables, {})
    (text,) = [finding.text for finding in findings]
    assert desired.blocked and "twofold_fence[0][0].options" in text and "Twofold gives the action itself" in text


def test_a_program_of_the_oob_protocol(bench: Bench) -> None:
    fence = bench.fence(bench.device("oob", OOB))
    assert fence.status().state == ON
    assert bench.read("oob", "arguments") == "power-status node1"
    assert fence.switch(OFF).state == OFF
    assert fence.health() == [{"item": "fan1", "status": "OK"}, {"item": "disk0", "status": "CRITICAL"}]


def told(bench: Bench, name: str) -> list[str]:
    """The commands that a program of the OOB protocol got, without questions."""
    return [line for line in bench.read(name, "history").splitlines() if line != "power-status"]


def test_a_program_of_the_oob_protocol_cycles_the_power_by_itself(bench: Bench) -> None:
    said, done = bench.fence(bench.device("oob", OOB)).cycle()
    assert (said, done) == (fencing.Said(ON, "oob", "was told power-cycle, says on"), True)
    assert told(bench, "oob") == ["power-cycle"]


@pytest.mark.parametrize("state", ["ON", "OFF"])
def test_one_that_refuses_that_is_switched_off_and_on(bench: Bench, state: str) -> None:
    fence = bench.fence(bench.device("oob", OOB))
    bench.set("oob", state)
    (bench.folder / "oob" / "refuses").touch()
    assert fence.cycle() == (fencing.Said(ON, "oob", "says on"), True)
    assert told(bench, "oob") == ["power-cycle", "power-off", "power-on"]


def test_two_power_supplies_are_cycled_together(bench: Bench) -> None:
    """One after the other they would never leave the node without power."""
    assert bench.fence([bench.device("left", OOB), bench.device("right", OOB)]).cycle()[1]
    assert told(bench, "left") == told(bench, "right") == ["power-off", "power-on"]


def test_an_agent_is_told_off_and_on_to_cycle(bench: Bench) -> None:
    fence = bench.fence(bench.device("broken", BROKEN), bench.device("ipmi", AGENT))
    assert fence.cycle() == (fencing.Said(ON, "fence_ipmi", "says on"), True)
    assert bench.read("ipmi", "told").endswith("action=status")


def test_the_next_way_is_tried_when_one_is_of_no_use(bench: Bench) -> None:
    fence = bench.fence(bench.device("broken", BROKEN), bench.device("pdu", AGENT))
    assert (fence.status().state, fence.status().method) == (ON, "fence_pdu")
    said = fence.switch(OFF)
    assert (said.state, said.method) == (OFF, "fence_pdu")
    assert [answer.state for answer in fence.statuses()] == [SILENT, OFF]


def test_what_is_of_no_use_says_why_without_the_password(bench: Bench) -> None:
    said = bench.fence(bench.device("broken", BROKEN)).switch(OFF)
    assert (said.state, said.message) == (SILENT, "fence_broken: ERROR: cannot log in with ***")


def test_what_is_silent_before_and_after_a_command_is_not_waited_for(bench: Bench) -> None:
    fence = bench.fence(bench.device("odd", GARBAGE), bench.device("broken", BROKEN), bench.device("pdu", AGENT))
    fence.status()
    assert (fence.switch(OFF).method, bench.now) == ("fence_pdu", 0)


@pytest.mark.parametrize("asked", [True, False])
def test_a_program_that_hangs_is_asked_again_only_if_it_may_answer(bench: Bench, asked: bool) -> None:
    device = bench.device("ipmi", AGENT, timeout=4)
    bench.hanging.add(device["agent"])
    fence = bench.fence(device)
    if asked:
        fence.status()
    assert fence.switch(OFF).state == SILENT
    assert (bench.now, len(bench.ran)) == (8, 2)


def test_what_was_silent_before_still_proves_it_when_it_says_off(bench: Bench) -> None:
    """Its command did not end, or it was only reached for the second time."""
    device = bench.device("ipmi", AGENT, timeout=4)
    fence = bench.fence(device)
    bench.hanging.add(device["agent"])
    assert fence.status().state == SILENT
    bench.hanging.clear()
    assert fence.switch(OFF).state == OFF and bench.read("ipmi", "state") == "OFF"


def test_every_way_that_was_tried_is_named_with_its_reason(bench: Bench) -> None:
    fence = bench.fence(bench.device("odd", GARBAGE), bench.device("broken", BROKEN), bench.device("ipmi", AGENT))
    (bench.folder / "ipmi" / "stubborn").touch()
    said = fence.switch(OFF)
    assert (said.state, said.method) == (ON, "fence_ipmi")
    assert said.message == (
        "says on; fence_odd: its answer cannot be understood: garbage; fence_broken: ERROR: cannot log in with ***"
    )
    fence = bench.fence(bench.device("strange", GARBAGE), bench.device("dead", BROKEN))
    assert fence.status().message == (
        "fence_dead: ERROR: cannot log in with ***; fence_strange: its answer cannot be understood: garbage"
    )


@pytest.mark.parametrize("action", [ON, OFF, "cycle"])
def test_it_never_takes_longer_than_was_said(bench: Bench, action: str) -> None:
    left, right = bench.device("left", AGENT, timeout=4), bench.device("right", OOB, timeout=7)
    for hanging in ({left["agent"]}, {right["oob"]}, {left["agent"], right["oob"]}, set()):
        for name in ("left", "right"):
            bench.set(name, "ON" if action != ON else "OFF")
            (bench.folder / name / "stubborn").touch()
        bench.now, bench.hanging = 0.0, hanging
        for methods in ([left, right], [[left, right]], [right]):
            fence, bench.now = bench.fence(*methods), 0.0
            fence.status()
            _said = fence.cycle() if action == "cycle" else fence.switched(action)
            assert bench.now <= fence.longest(action)


def test_an_exit_status_alone_proves_nothing(bench: Bench) -> None:
    assert bench.fence(bench.device("misleading", MISLEADING)).status().state == SILENT


def test_off_counts_when_the_device_confirms_it(bench: Bench) -> None:
    fence = bench.fence(bench.device("ipmi", AGENT, timeout=5), bench.device("pdu", AGENT))
    (bench.folder / "ipmi" / "stubborn").touch()
    said = fence.switch(OFF)
    assert bench.now >= 5, "it was waited for"
    assert (said.state, said.method, bench.read("pdu", "state")) == (OFF, "fence_pdu", "OFF")


def test_two_power_supplies_are_off_only_together(bench: Bench) -> None:
    fence = bench.fence([bench.device("left", AGENT), bench.device("right", AGENT)])
    bench.set("left", "OFF")
    assert fence.status().state == ON
    assert fence.switch(OFF) == fencing.Said(OFF, "fence_left and fence_right", "says off")
    assert (bench.read("left", "state"), bench.read("right", "state")) == ("OFF", "OFF")


def test_one_silent_supply_makes_the_way_silent(bench: Bench) -> None:
    fence = bench.fence([bench.device("left", AGENT), bench.device("right", BROKEN)])
    bench.set("left", "OFF")
    assert (fence.status().state, fence.switch(OFF).state) == (SILENT, SILENT)


def test_a_node_that_could_not_be_switched_off_is_not_switched_on(bench: Bench) -> None:
    fence = bench.fence(bench.device("ipmi", AGENT, timeout=1))
    (bench.folder / "ipmi" / "stubborn").touch()
    said, done = fence.cycle()
    assert (said.state, done) == (ON, False), "that it is on is not that it was cycled"
    assert "on" not in [line.removeprefix("action=") for line in bench.read("ipmi", "told").splitlines()]


@pytest.mark.parametrize("answer", ["", "{}", "[]", '{"powered": "no"}', '{"powered": null}', "nonsense"])
def test_an_oob_program_that_says_something_else_says_nothing(bench: Bench, answer: str) -> None:
    script = bench.device("oob", OOB)
    Path(script["oob"]).write_text(f"#!/bin/sh\necho '{answer}'\n")
    assert bench.fence(script).status().state == SILENT


def _devices(bench: Bench) -> dict[str, Any]:
    variables = nodes(3)
    variables["node1"]["twofold_fence"] = [bench.device("a", BROKEN), bench.device("b", AGENT)]
    variables["node2"]["twofold_fence"] = [bench.device("c", BROKEN)]
    return variables


def test_the_review_names_what_is_wrong_with_devices(bench: Bench) -> None:
    desired, _findings = inventory.load(_devices(bench), {})
    bench.set("b", "OFF")
    programs = Programs(bench.run, lambda: bench.now, bench.sleep)
    said = {name: Fence(node, programs).statuses() for name, node in desired.nodes.items() if node.fence}
    alive: dict[str, Any] = {"node1": {}, "node2": None, "node3": {}}
    found = {(f.object, f.code): f for f in fencing.review(desired, alive, said)}
    assert {key: finding.severity for key, finding in found.items()} == {
        ("node node1", "fence-wrong"): "error",
        ("node node1", "fence-silent"): "warning",
        ("node node2", "fence-silent"): "error",
        ("node node3", "fence-none"): "info",
    }
    assert all("geheim" not in finding.text for finding in found.values())


def test_without_any_device_there_is_nothing_to_say() -> None:
    desired, _findings = inventory.load(nodes(3), {})
    assert fencing.review(desired, {}, {}) == []


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ({"agent": "rm -rf /"}, "should match pattern"),
        ({"agent": "fence_x", "oob": "/x"}, "either agent or oob"),
        ({}, "either agent or oob"),
        ({"agent": "fence_x", "options": {"password": "ge\nheim"}}, "one line"),
        ({"agent": "fence_x", "options": {"password": ["geheim"]}}, "one line"),
    ],
)
def test_a_wrong_device_is_named_without_its_password(device: dict[str, Any], message: str) -> None:
    variables = nodes(1)
    variables["node1"]["twofold_fence"] = [device]
    _desired, findings = inventory.load(variables, {})
    (text,) = [finding.text for finding in findings]
    assert "twofold_fence[0][0]" in text and message in text and "heim" not in text


@pytest.mark.parametrize("agent", ["fence_ifmib", "/usr/sbin/fence_scsi", "fence_compute", "fence_crosslink"])
def test_what_does_not_stop_a_node_is_no_fence_device(agent: str) -> None:
    """It would say off of a node whose guests go on writing; not even beside one that takes its power away."""
    variables = nodes(1)
    variables["node1"]["twofold_fence"] = [[{"agent": "fence_ipmilan"}, {"agent": agent, "options": {"port": 7}}]]
    desired, findings = inventory.load(variables, {})
    (text,) = [finding.text for finding in findings]
    assert desired.blocked and "twofold_fence[0][1].agent of node1" in text
    assert f"{PurePath(agent).name} does not prove it dead: it " in text and "takes its power away" in text


def test_passwords_are_in_no_plan_and_no_text(bench: Bench) -> None:
    variables = _devices(bench)
    desired, _findings = inventory.load(variables, {"web1": instance()})
    plan = World(list(variables)).plan(desired)
    assert plan.steps and "geheim" not in str(plan.to_json()) + repr(desired)
