# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""verify.yml as it stands, on nodes that are a program which says what nodes once said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.unit.lib.cases import instance
from tests.unit.plugins.action.test_cluster_actions import ROOT, Operator

# In the place of a node's Python: it observes, and does nothing else.
NODE = """#!{python}
import json, os, sys
program, said = sys.argv[-1], {said!r}
if "twofold_node._entry" not in program:
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
request = json.load(sys.stdin)
answer = {{"error": {{"message": "only a program", "remedy": "none"}}}}
if request["operation"] == "observe":
    with open(said) as file:
        answer = {{"answer": json.load(file)[request["arguments"]["node"]]}}
print("TWOFOLD-ANSWER " + json.dumps(answer))
"""


def answering(tmp_path: Path) -> Operator:
    """An operator whose web1 does not run, although it should, with nodes that can be observed."""
    made = Operator(tmp_path)
    made.instances = {"web1": instance(nodes=["node1", "node2"])}
    made.write()
    said, node = tmp_path / "said.json", tmp_path / "node"
    said.write_text(json.dumps(made.world.documents()), encoding="utf-8")
    node.write_text(NODE.format(python=sys.executable, said=str(said)), encoding="utf-8")
    node.chmod(0o755)
    variables = tmp_path / "group_vars" / "all.yml"
    given = yaml.safe_load(variables.read_text(encoding="utf-8"))
    given |= {"ansible_python_interpreter": str(node), "twofold_pki_dir": str(tmp_path / "pki")}
    variables.write_text(yaml.safe_dump(given), encoding="utf-8")
    return made


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return answering(tmp_path)


@pytest.mark.parametrize(("fail_on", "status"), [("never", 0), ("error", 2)])
def test_what_would_be_mended_is_judged_by_what_the_nodes_said(operator: Operator, fail_on: str, status: int) -> None:
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(operator.directory / "hosts.yml"),
            "twofold.cluster.verify", "--check", "-e", "fix=true", "-e", f"twofold_fail_on={fail_on}",
            "-e", f"twofold_findings_file={operator.directory / 'findings.json'}",
        ],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "NO_COLOR": "1",
             "TMPDIR": str(operator.directory)},
    )  # fmt: skip
    findings = json.loads((operator.directory / "findings.json").read_text(encoding="utf-8"))["findings"]
    assert findings and "node-unknown" not in {finding["code"] for finding in findings}, done.stdout
    assert done.returncode == status, done.stdout
