# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks' parameters, given to the playbooks as they stand, on nodes that are a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.unit.plugins.action.test_cluster_actions import ROOT, Operator
from tests.unit.plugins.action.test_verify_playbook import answering

Play = Callable[..., tuple[int, str]]


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return answering(tmp_path)


@pytest.fixture
def play(operator: Operator) -> Play:
    """Play a playbook of ours, or a file; the status, and what was shown as one line."""

    def run(playbook: str, *options: str) -> tuple[int, str]:
        program, inventory = Path(sys.executable).with_name("ansible-playbook"), operator.directory / "hosts.yml"
        name = playbook if playbook.endswith(".yml") else f"twofold.cluster.{playbook}"
        own = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "NO_COLOR": "1", "TMPDIR": str(operator.directory)}
        done = subprocess.run(
            [str(program), "-i", str(inventory), name, *options],
            cwd=ROOT,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        shown = " ".join(done.stdout.split())
        assert "Traceback" not in shown and "has no attribute" not in shown and "unexpected" not in shown.lower(), shown
        return done.returncode, shown

    return run


def in_inventory(operator: Operator, **variables: object) -> None:
    path = operator.directory / "group_vars" / "all.yml"
    given = yaml.safe_load(path.read_text(encoding="utf-8")) | variables
    path.write_text(yaml.safe_dump(given), encoding="utf-8")


def test_none_is_taken_from_the_inventory(operator: Operator, play: Play) -> None:
    in_inventory(operator, node="node1", power="off", fix=True)
    status, shown = play("fence")
    assert status == 0, shown
    in_inventory(operator, instance="web1", target="node2")
    assert "give -e instance=NAME" in play("migrate", "--check")[1]


def test_they_are_given_by_an_option_or_by_a_playbook_that_imports(operator: Operator, play: Play) -> None:
    in_inventory(operator, node="node1", instance="web1")
    assert "there is no node 'node8'" in play("drain", "--check", "-e", "node=node8")[1]
    path = operator.directory / "mine.yml"
    import_ = {"ansible.builtin.import_playbook": "twofold.cluster.drain", "vars": {"node": "node9"}}
    path.write_text(yaml.safe_dump([import_]), encoding="utf-8")
    assert "there is no node 'node9'" in play(str(path), "--check")[1]
    assert "there is no node 'node8'" in play(str(path), "--check", "-e", "node=node8")[1]


@pytest.mark.parametrize(
    ("playbook", "given", "meant"),
    [("balance", "max_move=5", "max_moves"), ("grow", "disks=1", "disk"), ("migrate", "instnace=web1", "instance")],
)
def test_a_misspelt_one_is_refused(play: Play, playbook: str, given: str, meant: str) -> None:
    status, shown = play(playbook, "-e", given)
    assert status == 2 and "Nothing was done" in shown and f"did you mean {meant}?" in shown


def test_one_that_nothing_takes_is_told_once(operator: Operator, play: Play) -> None:
    in_inventory(operator, site="{{ place }}")
    options = ["to=node2", "place=here", "twofold_fail_on=never"]
    _status, shown = play(
        "migrate", "--check", "-e", "instance=web1", *(word for one in options for word in ("-e", one))
    )
    assert shown.count("-e to: neither this playbook nor the inventory knows it") == 1
    assert "The playbook takes instance, target." in shown
    assert "place" not in shown.split("knows it")[0]


def test_a_playbook_of_another_takes_what_it_likes(operator: Operator, play: Play) -> None:
    path = operator.directory / "mine.yml"
    task = {"twofold.cluster.status": None, "run_once": True}
    mine = {"hosts": "nodes", "gather_facts": False, "vars": {"instance": 5}, "tasks": [task]}
    path.write_text(yaml.safe_dump([mine]), encoding="utf-8")
    status, shown = play(str(path), "-e", "instnace=web1", "-e", "to=node2")
    assert status == 0 and "instnace" not in shown and "knows it" not in shown


@pytest.mark.parametrize("playbook", ["verify", "recover", "bootstrap", "break_lock"])
@pytest.mark.parametrize("group", ["nodez", "ungrouped"])
def test_a_group_that_is_not_there_or_empty_fails(play: Play, playbook: str, group: str) -> None:
    status, shown = play(playbook, "-e", f"twofold_node_group={group}")
    said = "twofold_node_group is 'nodez', and the inventory has no such group" if group == "nodez" else "has no nodes"
    assert status != 0 and said in shown
    assert len(shown) < 1000


def test_an_inventory_without_the_group_fails(operator: Operator, play: Play) -> None:
    (operator.directory / "hosts.yml").write_text("machines: {hosts: {node1: {}}}\n", encoding="utf-8")
    status, shown = play("verify")
    assert status != 0 and "it needs hosts in the group 'nodes'" in shown


def test_keys_that_are_no_text_hurt_nobody(operator: Operator, play: Play) -> None:
    path = operator.directory / "group_vars" / "all.yml"
    path.write_text(path.read_text(encoding="utf-8") + "5: x\non: y\n", encoding="utf-8")
    assert play("status")[0] == 0


def test_on_is_written_in_quotes(operator: Operator, play: Play) -> None:
    path = operator.directory / "mine.yml"
    path.write_text("instance: web1\non: secondary\n", encoding="utf-8")
    status, shown = play("replace_disks", "-e", f"@{path}")
    assert status == 2 and 'write "on" in quotes' in shown
    assert play("status", "-e", f"@{path}")[0] == 0


WRONG = {
    "power": ("fence", {"node": "node1", "power": False}, "power is False, a truth value"),
    "fence": ("recover", {"fence": 5}, "fence is 5, a number"),
    "confirm_dead": ("recover", {"confirm_dead": True}, "confirm_dead is True, a truth value"),
    "node": ("reboot", {"node": 5}, "node is 5, a number. Nothing was done: give names, with commas or as a list"),
    "nodes": ("reboot", {"node": [1]}, "node is [1], a list"),
    "lock": ("break_lock", {"node": 5}, "node is 5, a number"),
    "disk": ("grow", {"instance": "web1", "disk": "vda", "size": "2GiB"}, "disk is 'vda'"),
    "instance": ("migrate", {"instance": ["web1", "web2"]}, "give one name"),
    "packages": ("reboot", {"node": "node1", "packages": "upgrad"}, "packages is 'upgrad'"),
    "fix": ("verify", {"fix": "maybe"}, "fix is 'maybe'. Nothing was done: give true or false"),
    "again": ("rolling", {"again": "maybe"}, "again is 'maybe'"),
    "force": ("fence", {"node": "node1", "force": "maybe"}, "force is 'maybe'"),
    "disk_moves": ("balance", {"disk_moves": "maybe"}, "disk_moves is 'maybe'"),
}


@pytest.mark.parametrize(("playbook", "given", "said"), WRONG.values(), ids=WRONG)
def test_a_value_that_cannot_be_is_refused_by_name(play: Play, playbook: str, given: object, said: str) -> None:
    status, shown = play(playbook, "-e", json.dumps(given))
    assert status == 2 and said in shown and shown.count("[ERROR]") == 1
    assert "argument_spec" not in shown and "DEPRECATION" not in shown


@pytest.mark.parametrize("names", ["node8 , node9", ["node8", "node9"], ["node8", " node9"]], ids=str)
@pytest.mark.parametrize("playbook", ["reboot", "undrain"])
def test_names_are_a_text_or_a_list(play: Play, playbook: str, names: object) -> None:
    status, shown = play(playbook, "--check", "-e", json.dumps({"node": names}))
    assert status == 2 and "there is no node 'node8'" in shown and "there is no node 'node9'" in shown


def test_a_fence_wish_may_be_any_of_its_forms(play: Play) -> None:
    for wish in (True, False, "", ["node1"], "node1, node2"):
        assert play("recover", "--check", "-e", json.dumps({"fence": wish}))[0] == 0


@pytest.mark.parametrize(
    ("names", "broken"),
    [("node1, node2", ["node1", "node2"]), (["node2"], ["node2"]), ("all", ["node1", "node2", "node3"])],
)
def test_locks_of_the_named_nodes_are_broken(play: Play, names: object, broken: list[str]) -> None:
    _status, shown = play("break_lock", "-e", json.dumps({"node": names}))
    assert [node for node in ("node1", "node2", "node3") if f"fatal: [{node}]: FAILED!" in shown] == broken


@pytest.mark.parametrize("names", ["nodeX", "node1,nodeX"])
def test_no_lock_is_broken_if_a_name_is_wrong(play: Play, names: str) -> None:
    status, shown = play("break_lock", "-e", f"node={names}")
    assert status == 2 and "There is no node 'nodeX'" in shown and "The nodes are node1, node2, node3" in shown
    assert "only a program" not in shown


@pytest.mark.parametrize(
    ("playbook", "said"),
    [("grow", "give -e instance=NAME"), ("reboot", "give -e node=NAME"), ("break_lock", "-e node=")],
)
def test_one_that_is_missing_is_asked_for(play: Play, playbook: str, said: str) -> None:
    status, shown = play(playbook, "--check")
    assert status == 2 and said in shown and "there is no" not in shown.lower()
