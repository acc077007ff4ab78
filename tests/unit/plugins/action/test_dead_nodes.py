# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""How ssh is called: a node that is gone without having closed its connections is noticed within seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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


def asked(directory: Path, **variables: str) -> list[str]:
    """The options that ssh is given for a call of a node, as it would read them: the first of a name counts."""
    record, ssh, inventory, play = (directory / name for name in ("record", "ssh", "hosts.yml", "play.yml"))
    ssh.write_text(RECORDER.format(python=sys.executable, record=str(record)), encoding="utf-8")
    ssh.chmod(0o755)
    host = {"ansible_host": "192.0.2.11", "ansible_ssh_executable": str(ssh), **variables}
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {"node1": host}}}), encoding="utf-8")
    play.write_text(yaml.safe_dump(PLAY), encoding="utf-8")
    (directory / "ansible.cfg").write_text(f"[defaults]\ncollections_path = {ROOT / 'collections'}\n", encoding="utf-8")
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), str(play)],
        env={**os.environ, "ANSIBLE_CONFIG": str(directory / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(directory)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "there is no way" in done.stdout + done.stderr
    given = json.loads(record.read_text(encoding="utf-8").splitlines()[0])
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
