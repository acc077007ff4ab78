# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that do not answer: how ssh is called, so that this is noticed within seconds, and what is said of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.twofold.cluster.plugins.plugin_utils._cluster import said
from tests.unit.lib.cases import nodes

ROOT = Path(__file__).parents[4]
PLAY = [
    {"hosts": "all", "gather_facts": False, "tasks": [{"twofold.cluster.node_facts": {}, "ignore_unreachable": True}]}
]
RECORDER = """#!{python}
import json, sys
with open({record!r}, "a") as file:
    print(json.dumps(sys.argv[1:]), file=file)
print("there is no way", file=sys.stderr)
sys.exit(255)
"""


def play(directory: Path, hosts: dict[str, dict[str, Any]], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook on nodes that nobody gets to; what ssh is given is recorded."""
    ssh, inventory = directory / "ssh", directory / "hosts.yml"
    ssh.write_text(RECORDER.format(python=sys.executable, record=str(directory / "record")), encoding="utf-8")
    ssh.chmod(0o755)
    given = {name: {"ansible_ssh_executable": str(ssh), **variables} for name, variables in hosts.items()}
    inventory.write_text(yaml.safe_dump({"nodes": {"hosts": given}}), encoding="utf-8")
    (directory / "ansible.cfg").write_text(f"[defaults]\ncollections_path = {ROOT / 'collections'}\n", encoding="utf-8")
    return subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), *words],
        env={**os.environ, "ANSIBLE_CONFIG": str(directory / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(directory)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


def asked(directory: Path, **variables: str) -> list[str]:
    """The options that ssh is given for a call of a node, as it would read them: the first of a name counts."""
    (directory / "play.yml").write_text(yaml.safe_dump(PLAY), encoding="utf-8")
    host = {"ansible_host": "192.0.2.11", **variables}
    assert "there is no way" in play(directory, {"node1": host}, str(directory / "play.yml")).stdout
    given = json.loads((directory / "record").read_text(encoding="utf-8").splitlines()[0])
    found = [option for option in given if option.startswith("ServerAlive")]
    names = [option.partition("=")[0] for option in found]
    return [option for number, option in enumerate(found) if option.partition("=")[0] not in names[:number]]


def test_ssh_asks_whether_the_node_is_still_there(tmp_path: Path) -> None:
    assert asked(tmp_path) == ["ServerAliveInterval=5", "ServerAliveCountMax=3"]


@pytest.mark.parametrize("name", ["ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args"])
def test_unless_the_operator_said_how(tmp_path: Path, name: str) -> None:
    assert asked(tmp_path, **{name: "-o ServerAliveInterval=60"}) == ["ServerAliveInterval=60"]


def test_what_the_operator_gives_to_ssh_besides_is_kept(tmp_path: Path) -> None:
    found = asked(tmp_path, ansible_ssh_extra_args="-o BatchMode=yes")
    assert found == ["ServerAliveInterval=5", "ServerAliveCountMax=3"]
    assert "BatchMode=yes" in (tmp_path / "record").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [["twofold.cluster.reboot", "-e", "node=node1"], ["twofold.cluster.rolling"]])
def test_a_reboot_that_a_silent_node_stops_says_so(tmp_path: Path, words: list[str]) -> None:
    """The play ends with the first thing that goes wrong, but not before it has said what."""
    done = play(tmp_path, nodes(), *words)
    assert done.returncode == 2
    assert "fatal: [node1]: FAILED!" in done.stdout and "[node-unknown]" in done.stdout, done.stdout


FULL = "No space left on device"


@pytest.mark.parametrize(
    ("answer", "reached"),
    [
        ({}, False),
        ({"unreachable": True, "msg": FULL}, False),
        ({"unreachable": True, "failed": True, "msg": FULL}, False),
        ({"skipped": True, "failed": False}, False),
        ({"failed": True, "msg": FULL}, True),
        ({"failed": True, "unreachable": False}, True),
    ],
)
def test_only_a_node_that_was_not_reached_did_not_answer(answer: dict[str, Any], reached: bool) -> None:
    document = said(answer)
    assert (document is not None) == reached
    if document is not None:
        assert document["problems"][0]["message"] == answer.get("msg", "its observation failed")
        assert document["problems"][0]["remedy"]


def test_what_a_node_said_is_passed_on() -> None:
    assert said({"failed": False, "observed": {"format": 1}}) == {"format": 1}


def test_a_node_that_was_reached_and_could_not_be_asked_is_not_taken_over(tmp_path: Path) -> None:
    hosts = nodes()
    hosts["node1"] |= {"ansible_connection": "local", "ansible_python_interpreter": "/bin/false"}
    done = play(tmp_path, hosts, "twofold.cluster.recover", "-e", "confirm_dead=node1")
    shown = " ".join(done.stdout.split())
    assert done.returncode == 2 and "[node-alive]" in shown, done.stdout
    assert "answer: The node gave no answer: exit status 1" in shown, "what Ansible said of it"
    assert "fence.yml -e node=node1 -e power=off -e force=true" in shown


def test_site_converges_without_the_nodes_that_do_not_answer_and_fails_for_them_then(tmp_path: Path) -> None:
    """Ansible leaves a host out of all that follows if it could not be reached once."""
    done = play(tmp_path, nodes(), "twofold.cluster.site")
    assert done.returncode == 2 and "no node answers, so nothing can be planned" in " ".join(done.stdout.split())
    assert "not asked in this run" not in done.stdout, done.stdout
    alone = play(tmp_path, nodes(), "twofold.cluster.bootstrap")
    assert alone.returncode == 2 and "node1 did not answer and is left as it is" in alone.stdout, alone.stdout


@pytest.mark.parametrize("playbook", ["status", "verify", "capacity", "plan"])
def test_what_is_only_looked_at_is_shown_where_any_error_ends_a_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, playbook: str
) -> None:
    monkeypatch.setenv("ANSIBLE_ANY_ERRORS_FATAL", "true")
    done = play(tmp_path, nodes(), f"twofold.cluster.{playbook}")
    assert "node1" in done.stdout.partition("UNREACHABLE")[2].partition("TASK")[2], done.stdout
