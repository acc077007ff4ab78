# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The actions on the whole cluster in real plays, on what nodes are made to have said.

They are twofold.cluster.plan, twofold.cluster.report, twofold.cluster.status, twofold.cluster.verify,
twofold.cluster.capacity and twofold.cluster.apply_wave; twofold.cluster.node_apply is the module behind the last one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.lib.cases import CLUSTER, desired, instance, nodes
from tests.unit.lib.world import World

ROOT = Path(__file__).parents[4]
PLAY = """
- hosts: nodes
  gather_facts: false
  tasks:
    - twofold.cluster.{action}:
        {arguments}
      run_once: true
      register: answer
    - ansible.builtin.copy:
        content: "{{{{ answer | to_json }}}}"
        dest: "{directory}/answer.json"
        mode: "0600"
      run_once: true
      delegate_to: localhost
      check_mode: false
      when: answer is not skipped
"""


class Operator:
    """An inventory in files, with what the nodes said as a variable of each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.world = World(list(nodes()))
        self.instances: dict[str, dict[str, Any]] = {}
        self.unasked: set[str] = set()

    def write(self) -> None:
        said = {name: {"observed": document} for name, document in self.world.documents().items()}
        hosts = {
            name: {
                **{key: value for key, value in variables.items() if key not in CLUSTER},
                **({} if name in self.unasked else {"operate_observed": said[name]}),
            }
            for name, variables in nodes().items()
        }
        inventory = {"nodes": {"hosts": hosts}, "instances": {"hosts": self.instances}}
        (self.directory / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
        (self.directory / "group_vars").mkdir(exist_ok=True)
        (self.directory / "group_vars" / "all.yml").write_text(
            yaml.safe_dump({**CLUSTER, "ansible_connection": "local", "ansible_python_interpreter": sys.executable}),
            encoding="utf-8",
        )

    def run(self, action: str, /, *options: str, status: int = 0, **arguments: Any) -> tuple[str, dict[str, Any]]:
        """Run one action; what was shown and what it answered."""
        self.write()
        play = PLAY.format(action=action, arguments=json.dumps(arguments) or "{}", directory=self.directory)
        play = play.replace(f":\n        {json.dumps(arguments)}", f": {json.dumps(arguments)}")
        path = self.directory / "play.yml"
        path.write_text(play, encoding="utf-8")
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                "-i",
                str(self.directory / "hosts.yml"),
                str(path),
                *options,
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "NO_COLOR": "1",
                "TMPDIR": str(self.directory),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        answer = self.directory / "answer.json"
        return done.stdout + done.stderr, json.loads(answer.read_text()) if answer.exists() and status == 0 else {}


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("plan", {"intent": {"verb": "recover", "confirm_dead": "node1"}}),
        ("fence", {"intent": {"verb": "recover"}, "switch_off": "true"}),
        ("fence", {"action": "off", "node": "node1"}),
        ("verify", {}),
    ],
)
def test_a_node_that_was_not_asked_is_no_silent_one(tmp_path: Path, action: str, arguments: dict[str, Any]) -> None:
    """With --limit it may run what would be started elsewhere."""
    operator = Operator(tmp_path)
    operator.unasked.add("node1")
    said, _ignored = operator.run(action, status=2, **arguments)
    assert "node1: not asked in this run" in said and "Nothing was done" in said and "--limit" in said
    assert "If an earlier part of this run failed for node1, see above" in said


def test_a_strategy_in_which_nodes_do_not_wait_for_each_other_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_STRATEGY", "free")
    operator = Operator(tmp_path)
    said, _ignored = operator.run("plan", status=2)
    assert "The strategy free lets one node run ahead" in said and "ANSIBLE_STRATEGY=linear" in said


def test_who_only_asks_fence_devices_needs_no_node(tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    operator.unasked |= {"node1", "node2", "node3"}
    operator.run("fence")


def fake_python(directory: Path, does: str) -> Path:
    """An interpreter that does something else when a node's library is called with it."""
    path = directory / "python3"
    call = f"*twofold_node._entry*) {does} ;;"
    path.write_text(f'#!/bin/sh\ncase "$*" in {call} *) exec {sys.executable} "$@" ;; esac\n', encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def test_plan_is_shown_and_prepares_a_run(operator: Operator) -> None:
    operator.instances = {"web1": instance(nodes=["node1", "node2"])}
    shown, answer = operator.run("plan", intent={"verb": "converge"})
    assert "web1: create on node1, node2" in shown and "volumes.create" in shown
    assert answer["changed"] and answer["waves"] == 3 and answer["errors"] == []
    run = Path(answer["run"])
    assert run.stat().st_mode & 0o077 == 0, "only its owner reads a run"
    assert {path.name for path in run.iterdir()} == {"plan.json", "run.json"}
    assert CLUSTER["twofold_cluster_secret"] not in (run / "plan.json").read_text()


def test_nodes_that_wait_for_each_other_are_worked_on_at_once_or_not_at_all(operator: Operator) -> None:
    """The two sides of a migration: with fewer forks one would wait for the other until its time is up."""
    operator.instances = {"web1": instance(nodes=["node1", "node2"])}
    operator.world.converge(desired(operator.instances))
    intent = {"verb": "migrate", "instance": "web1"}
    shown, _ignored = operator.run("plan", "--forks", "1", status=2, intent=intent)
    assert "Nothing was done. Run this with --forks 2" in " ".join(shown.split())
    assert operator.run("plan", "--forks", "2", intent=intent)[1]["run"]
    assert operator.run("plan", "--forks", "1", "--check", intent=intent)[1]["waves"]


def test_check_mode_and_saving_prepare_nothing(operator: Operator) -> None:
    operator.instances = {"web1": instance()}
    assert operator.run("plan", "--check")[1]["run"] is None
    path = operator.directory / "saved.json"
    shown, answer = operator.run("plan", save=str(path))
    assert answer["run"] is None and "saved.md" in shown
    assert json.loads(path.read_text())["steps"] and "web1" in path.with_suffix(".md").read_text()


def test_a_plan_is_not_saved_where_its_markdown_goes(operator: Operator) -> None:
    path = operator.directory / "saved.md"
    shown, _ignored = operator.run("plan", status=2, save=str(path))
    assert f"name the file {path.with_suffix('.json')}" in " ".join(shown.split()) and not path.exists()


def test_a_saved_plan_is_used_until_something_changes(operator: Operator) -> None:
    operator.instances = {"web1": instance(nodes=["node1", "node2"])}
    path = operator.directory / "saved.json"
    saved = operator.run("plan", save=str(path))[1]
    assert operator.run("plan", load=str(path))[1]["fingerprint"] == saved["fingerprint"]
    operator.instances["web1"]["twofold_memory"] = "512MiB"
    shown, _ignored = operator.run("plan", status=2, load=str(path))
    assert "instance web1: it has changed" in shown and "Nothing was done" in shown and "make a new plan" in shown


def test_a_proof_of_death_is_not_saved_with_a_plan(operator: Operator) -> None:
    operator.instances = {"web1": instance(nodes=["node1", "node2"])}
    operator.world.converge(desired(operator.instances))
    operator.world.power_off("node1")
    path = operator.directory / "saved.json"
    shown, saved = operator.run("plan", intent={"verb": "recover", "confirm_dead": "node1"}, save=str(path))
    assert saved["waves"] and "It cannot be applied later. node node1:" in shown
    shown, _ignored = operator.run("plan", status=2, load=str(path))
    assert "node node1: the plan was made on the proof" in shown and "without the plan's file" in shown
    assert "has changed" not in shown and "Nothing was done" in shown


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"), ("{}", "not a plan"), ("[", "not a plan"), ("[" * 50_000, "nested too deeply"),
        ('{"format": 1, "steps": 3}', "the plan is damaged"),
    ],
    ids=["missing", "empty", "torn", "endless", "damaged"],
)  # fmt: skip
def test_what_is_no_plan_is_refused(operator: Operator, content: str | None, said: str) -> None:
    path = operator.directory / "saved.json"
    if content is not None:
        path.write_text(content)
    shown, _ignored = operator.run("plan", status=2, load=str(path))
    assert said in shown and "Traceback" not in shown


def test_a_mistake_names_host_variable_file_and_line(operator: Operator) -> None:
    operator.instances = {"web1": {**instance(), "twofold_memmory": "1GiB"}, "web2": instance()}
    shown, answer = operator.run("plan")
    text = " ".join(shown.split())
    assert "twofold_memmory of web1" in text and "did you mean twofold_memory?" in text
    assert "hosts.yml:" in text
    assert [error["code"] for error in answer["errors"]] == ["unknown-variable"]
    assert {change["instance"] for change in answer["summary"]} == {"web2"}


def test_a_variable_that_cannot_be_templated_hurts_its_host_alone(operator: Operator) -> None:
    operator.instances = {"web1": {**instance(), "twofold_memory": "{{ nobody }}"}, "web2": instance()}
    _ignored, answer = operator.run("plan")
    assert [error["code"] for error in answer["errors"]] == ["undefined"]
    assert {change["instance"] for change in answer["summary"]} == {"web2"}


ENCRYPTED = """$ANSIBLE_VAULT;1.1;AES256
36653435343239383532653663356435343039363935643263353131303632326663623030393036
3732373838343466653465623862616537393662653965310a353164343066643937396363333439
37303062646134653737356263333264313231613862643234373338636239336535356236653330
3937353630653562340a383566306163626262636636346264323863306635643834366265383736
36326432343966313936653034663464396364303830353262396361373130333038336665333261
38386563653433303833313966353737633564306634613965663032303230646336326663653262
63613363373562393636646563663564316365656664346535623533333965303938373265313765
61663132346437616636
"""


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_vault_that_is_not_opened_is_told_from_what_is_undefined(operator: Operator, password: str | None) -> None:
    folder = operator.directory / "host_vars"
    folder.mkdir()
    lines = "".join(f"  {line}\n" for line in ENCRYPTED.splitlines())
    (folder / "web1.yml").write_text(f"secret: !vault |\n{lines}twofold_os: '{{{{ secret }}}}'\n", encoding="utf-8")
    operator.instances = {"web1": {}}
    options: tuple[str, ...] = ()
    if password:
        (operator.directory / "password").write_text(password, encoding="utf-8")
        options = ("--vault-password-file", str(operator.directory / "password"))
    shown, answer = operator.run("plan", *options)
    (error,) = [error for error in answer["errors"] if "twofold_os of web1" in error["message"]]
    assert error["code"] == "vault-closed" and "ANSIBLE_VAULT_PASSWORD_FILE" in error["remedy"], shown
    assert "define" not in error["remedy"]


def test_a_node_that_said_nothing_is_unknown(operator: Operator) -> None:
    operator.instances = {"web1": instance(nodes=["node1", "node2"])}
    operator.world.down.add("node2")
    shown, answer = operator.run("plan")
    assert answer["waves"] == 0 and "node2" in shown
    assert "node-unknown" in {finding["code"] for finding in answer["findings"]}


def test_no_nodes_at_all(operator: Operator) -> None:
    shown, _ignored = operator.run("plan", "-e", "twofold_node_group=ungrouped", status=2)
    assert "has no nodes" in shown


@pytest.mark.parametrize("variable", ["twofold_node_group", "twofold_instance_group"])
def test_a_group_that_the_inventory_does_not_have_is_named(operator: Operator, variable: str) -> None:
    shown, _ignored = operator.run("plan", "-e", f"{variable}=instnces", status=2)
    text = " ".join(shown.split())
    assert f"{variable} is 'instnces', and the inventory has no such group" in text
    assert "Its groups are instances, nodes" in text


def test_variables_of_how_to_run_may_be_templates(operator: Operator, tmp_path: Path) -> None:
    operator.instances = {"web1": instance(nodes=["node1", "node2"])}
    broken = fake_python(tmp_path, f"cat > {tmp_path}/request; echo Killed >&2; exit 137")
    given = {
        "twofold_instance_group": "{{ 'insta' ~ 'nces' }}",
        "twofold_node_group": "{{ 'no' ~ 'des' }}",
        "twofold_lock_lease": "{{ 60 * 2 }}",
        "twofold_lock_wait": "{{ '3' }}",
        "ansible_python_interpreter": f"{{{{ '{broken}' }}}}",
    }
    options = ("-e", json.dumps(given))
    answer = operator.run("plan", *options)[1]
    assert {change["instance"] for change in answer["summary"]} == {"web1"} and answer["errors"] == []
    shown, _ignored = operator.run("apply_wave", *options, run=answer["run"], wave=0)
    assert "no answer: Killed" in shown
    request = json.loads((tmp_path / "request").read_text())["arguments"]
    assert (request["lease"], request["lock_wait"]) == (120, 3)


def test_numbers_of_the_lock_are_checked_by_the_plan(operator: Operator) -> None:
    operator.instances = {"web1": instance(nodes=["node1", "node2"])}
    answer = operator.run("plan", "-e", '{"twofold_lock_lease": "long", "twofold_lock_wait": -1}')[1]
    said = {error["code"]: error["message"] for error in answer["errors"]}
    assert list(said) == ["bad-value"] and answer["run"] is None
    assert {error["message"].split(" of ")[0] for error in answer["errors"]} == {
        "twofold_lock_lease",
        "twofold_lock_wait",
    }


def test_status_and_verify(operator: Operator) -> None:
    operator.instances = {"web1": instance(nodes=["node1", "node2"])}
    path = operator.directory / "out.json"
    shown, answer = operator.run("status", file=str(path))
    assert "node3" in shown and answer["status"] == json.loads(path.read_text())
    assert "not there yet" in operator.run("verify")[0]
    operator.instances["web1"]["twofold_os"] = "nowhere"
    shown, _ignored = operator.run("verify", status=2, file=str(path))
    assert "web1" in shown and json.loads(path.read_text())["status"] == 2
    operator.instances = {}
    assert "Nothing is wrong" in operator.run("verify")[0]


def test_capacity(operator: Operator) -> None:
    operator.instances = {"web1": instance(nodes=["node1", "node2"])}
    path = operator.directory / "out.json"
    shown, answer = operator.run("capacity", file=str(path))
    assert "like web1" in shown and "The loss of any one node is survived" in shown
    assert answer["capacity"] == json.loads(path.read_text()) and not answer["changed"]
    assert answer["capacity"]["flavours"][0]["count"] > 0
    shown, _ignored = operator.run("capacity", status=2, file=str(operator.directory / "none" / "out.json"))
    assert "cannot be written: No such file" in shown and "Traceback" not in shown


def test_rules_name_groups_of_the_inventory(operator: Operator) -> None:
    operator.instances = {f"web{i}": instance(anti_affinity=["instances"]) for i in range(4)}
    answer = operator.run("plan", "--check")[1]
    assert len({change["on"][0] for change in answer["summary"]}) == 3
    (error,) = answer["errors"]
    assert error["code"] == "no-node-fits" and error["message"].count("anti-affinity: runs web") == 3


def test_balance_shows_its_moves(operator: Operator) -> None:
    pinned = {f"web{i}": instance(nodes=["node1", "node2"]) for i in range(4)}
    operator.world.converge(desired(pinned))
    operator.instances = {name: instance() for name in pinned}
    shown, answer = operator.run("plan", "--check", intent={"verb": "balance", "max_copy": "", "max_moves": "3"})
    assert "JOB  INSTANCE" in shown and "replace-disks to node3" in shown
    assert {change["change"] for change in answer["summary"]} == {"migrate", "replace disks"} and answer["run"] is None
    less = {"verb": "balance", "max_copy": "", "disk_moves": "false"}
    shown, answer = operator.run("plan", "--check", intent=less)
    assert "node1:node2  node2:node1" in shown
    assert [change["change"] for change in answer["summary"]] == ["migrate"] * 2


def test_verify_fails_as_it_is_told(operator: Operator) -> None:
    warning = {
        "severity": "warning",
        "code": "node-differs",
        "object": "node node1",
        "message": "file f",
        "remedy": "r",
    }
    path = operator.directory / "out.json"
    shown, answer = operator.run("verify", findings=[warning], file=str(path))
    assert "node node1: file f [node-differs]" in shown and "1 warning" in shown and answer["status"] == 1
    assert json.loads(path.read_text()) == {"format": 1, "cluster": "test", "status": 1, "findings": [warning]}
    assert "node node1: file f" in operator.run("verify", status=2, findings=[warning], fail_on="warning")[0]
    error = {**warning, "severity": "error"}
    assert "remedy:" not in operator.run("verify", status=2, findings=[error])[0], "they are not printed twice"
    assert operator.run("verify", findings=[error], fail_on="never")[1]["status"] == 2
    assert operator.run("verify", findings=[error], nodes=["node2"])[1]["findings"] == []
    assert "file f" in operator.run("verify", status=2, findings=[error], nodes=["node2", "node1"])[0]


def test_report_fails_for_steps_that_were_not_done(operator: Operator) -> None:
    operator.instances = {"web1": instance(nodes=["node1", "node2"])}
    run = operator.run("plan")[1]["run"]
    shown, _ignored = operator.run("report", status=2, run=run)
    assert "not reached" in shown and not Path(run).exists(), "the run is over"
    shown, _ignored = operator.run("report", status=2, errors=[{"object": "instance x", "message": "is wrong"}])
    assert "instance x: is wrong" in shown
    assert operator.run("report")[1]["failed_steps"] == []


def test_apply_wave_has_nothing_for_other_nodes(operator: Operator) -> None:
    operator.instances = {"web1": instance(nodes=["node2", "node3"])}
    run = operator.run("plan")[1]["run"]
    shown, _ignored = operator.run("apply_wave", run=run, wave=0)
    assert "failed=0" in shown and "changed=0" in shown


@pytest.mark.parametrize(
    ("does", "what", "why"),
    [
        (
            'echo \'TWOFOLD-ANSWER {"answer": {"results": [], "changed": true}}\'',
            "cannot be understood",
            "answer.lock is missing",
        ),
        ("echo 'TWOFOLD-ANSWER {'", "cannot be understood", "JSONDecodeError"),
        ("echo Killed >&2; exit 137", "the call failed", "no answer: Killed"),
        ('echo \'TWOFOLD-ANSWER {"error": {"message": "no lock"}}\'', "the call failed", "no lock"),
    ],
    ids=["incomplete", "torn", "killed", "refused"],
)
def test_a_call_without_an_answer_fails_its_steps_and_not_the_play(
    operator: Operator, tmp_path: Path, does: str, what: str, why: str
) -> None:
    operator.instances = {"web1": instance(nodes=["node1", "node2"])}
    run = operator.run("plan")[1]["run"]
    broken = fake_python(tmp_path, does)
    shown, answer = operator.run("apply_wave", "-e", f"ansible_python_interpreter={broken}", run=run, wave=0)
    assert "failed=0" in shown and what in shown and why in shown
    assert {one["status"] for one in answer["results"]} == {"failed"}
    shown, _ignored = operator.run("report", status=2, run=run)
    assert shown.count(why) == 1 and "run the same again" in shown, "it is said once"


def test_node_apply_refuses_what_is_no_step(operator: Operator) -> None:
    step = {"id": "x", "op": "no.such.step"}
    shown, _ignored = operator.run("node_apply", status=2, run="r1", holder="me@here", lock=False, steps=[step])
    assert "there is no step 'no.such.step'" in shown and "status: failed" in shown
