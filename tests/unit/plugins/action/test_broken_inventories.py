# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Broken inventory files, read by a real ansible-playbook: it says which file and what, and nothing is done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.unit.lib.cases import instance
from tests.unit.plugins.action.test_cluster_actions import ROOT, Operator

PLAY = """
- hosts: nodes
  gather_facts: false
  tasks:
    - twofold.cluster.plan:
      run_once: true
      register: answer
    - ansible.builtin.file:
        path: "{directory}/done"
        state: touch
        mode: "0600"
      run_once: true
      when: answer.run is not none
    - twofold.cluster.report:
        errors: "{{{{ answer.errors }}}}"
      run_once: true
"""
BOMB = "twofold_nics: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
HOSTS, GROUP = "hosts.yml", "group_vars/instances.yml"
# The file, what is put at its end, and what is said.
BROKEN: dict[str, tuple[str, bytes, list[str]]] = {
    "hosts that are no UTF-8": (HOSTS, b"x: {vars: {y: caf\xe9}}\n", [HOSTS, "utf-8"]),
    "hosts with a tab": (HOSTS, b"\tweb2: {}\n", [HOSTS, "Tabs"]),
    "hosts with a key twice": (HOSTS, b"instances: {}\n", [HOSTS, "uplicate", "instances"]),
    "variables that are no UTF-8": (GROUP, b"twofold_os: caf\xe9\n", ["web1", GROUP, "no UTF-8"]),
    "variables with a tab": (GROUP, b"twofold_nics:\n\t- network: lan\n", ["web1", f"{GROUP}:3"]),
    "variables with a key twice": (
        GROUP,
        b"twofold_os: x\ntwofold_os: y\n",
        [f"{GROUP}:3", "twofold_os is there twice"],
    ),
    "variables without end": (GROUP, f"{BOMB}twofold_ssh_keys: *j\n".encode(), [GROUP, "100000 values"]),
    "variables that are nested": (
        GROUP,
        b"twofold_nics: " + b"[" * 3000 + b"]" * 3000,
        ["web1", GROUP, "nested too deeply"],
    ),
    "variables that are just read": (
        GROUP,
        b"twofold_ssh_keys: " + b"[" * 300 + b"]" * 300,
        ["web1", f"{GROUP}:2", "recursion depth"],
    ),
    "an enormous text": (GROUP, b"twofold_cpu: " + b"9x" * 1_000_000, ["twofold_cpu", "instance web1"]),
    "an enormous number": (GROUP, b"twofold_vcpus: " + b"9" * 6000, ["web1", "digits"]),
}


def play(operator: Operator) -> subprocess.CompletedProcess[str]:
    """Plan with what is in the operator's folder now."""
    path = operator.directory / "play.yml"
    path.write_text(PLAY.format(directory=operator.directory), encoding="utf-8")
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [program, "-i", str(operator.directory / HOSTS), str(path)]
    more = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "NO_COLOR": "1", "TMPDIR": str(operator.directory)}
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **more}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    """An operator whose inventory is right, and who would make web1."""
    made = Operator(tmp_path)
    made.instances = {"web1": instance(nodes=["node1", "node2"], nics=[])}
    made.write()
    (tmp_path / GROUP).write_text(yaml.safe_dump({"twofold_priority": 1}), encoding="utf-8")
    return made


def test_what_is_right_is_done(operator: Operator) -> None:
    done = play(operator)
    assert done.returncode == 0 and (operator.directory / "done").exists(), done.stdout + done.stderr


@pytest.mark.parametrize(("file", "more", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named(operator: Operator, file: str, more: bytes, said: list[str]) -> None:
    path = operator.directory / file
    path.write_bytes(path.read_bytes() + more)
    done = play(operator)
    shown = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0 and not (operator.directory / "done").exists(), shown
    assert "Traceback" not in shown and len(shown) < 20_000
    assert "run this again:" not in shown, "it is said once"
    for word in said:
        assert word in shown, shown
