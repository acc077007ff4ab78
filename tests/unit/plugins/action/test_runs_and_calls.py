# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run's directory, what travels with a step, and the calls of the node-side library."""

from __future__ import annotations

import ast
import base64
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible_collections.twofold.cluster.plugins.action import apply_wave
from ansible_collections.twofold.cluster.plugins.plugin_utils import _inventory, _node_call
from ansible_collections.twofold.cluster.plugins.plugin_utils._run import Run

PLAN: dict[str, Any] = {"steps": [], "waves": 0}


def result(name: str, status: str) -> dict[str, Any]:
    return {"id": name, "status": status}


def test_a_run_keeps_answers_in_the_order_of_waves() -> None:
    run = Run.start(PLAN)
    run.record("node-b", 1, {"results": [result("b", "changed")], "lock": "released"})
    run.record("node-a", 0, {"results": [result("a", "failed")], "lock": "held"})
    assert run.plan == PLAN and run.identity["holder"].count("@") == 1
    assert [node for node, _ignored in run.answers()] == ["node-a", "node-b"]
    assert run.results() == {"a": result("a", "failed"), "b": result("b", "changed")}
    assert apply_wave.holds_lock(run, "node-a") and not apply_wave.holds_lock(run, "node-b")
    # In this wave every step was in vain, so nobody asked the node.
    run.record("node-a", 1, {"results": [result("c", "skipped")]})
    assert apply_wave.holds_lock(run, "node-a")
    run.finish()
    assert not run.path.exists()


def test_scripts_come_from_our_own_or_from_the_users_files(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("#!/bin/sh\n")
    assert apply_wave.script_text("mine", lambda _kind, name: str(tmp_path / name)) == "#!/bin/sh\n"
    assert "mmdebstrap" in apply_wave.script_text("debian", lambda _kind, name: pytest.fail(name))


def test_the_library_travels_once_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very programs that run on a node, run here."""
    cache = str(tmp_path / "cache")
    digest, archive = _node_call.node_library()
    assert _node_call.node_library.__wrapped__() == (digest, archive), "the same sources, the same bytes"
    start = _node_call._START.format(cache=cache, digest=digest, missing=_node_call.MISSING, mark=_node_call.MARK)
    install = _node_call._INSTALL.format(cache=cache, digest=digest)
    request = json.dumps({"operation": "no-such-operation", "arguments": {}}).encode()
    assert python(start, request)["rc"] == _node_call.MISSING
    assert python(install, base64.b64encode(archive))["rc"] == 0
    assert python(install, base64.b64encode(archive))["rc"] == 0, "twice does no harm"
    assert Path(cache).stat().st_mode & 0o077 == 0
    with pytest.raises(AnsibleActionFail, match="no operation 'no-such-operation'"):
        _node_call._answer(python(start, request))


@pytest.mark.parametrize("name", ["_entry.py", "__init__.py", "_errors.py"])
def test_a_library_that_a_power_cut_emptied_is_sent_anew(tmp_path: Path, name: str) -> None:
    cache = str(tmp_path / "cache")
    digest, archive = _node_call.node_library()
    start = _node_call._START.format(cache=cache, digest=digest, missing=_node_call.MISSING, mark=_node_call.MARK)
    install = _node_call._INSTALL.format(cache=cache, digest=digest)
    assert python(install, base64.b64encode(archive))["rc"] == 0
    for path in (tmp_path / "cache" / digest / "twofold_node").glob(name if name != "__init__.py" else "*.py"):
        path.write_text("")
    request = json.dumps({"operation": "no-such-operation", "arguments": {}}).encode()
    assert python(start, request)["rc"] == _node_call.MISSING
    assert python(install, base64.b64encode(archive))["rc"] == 0
    assert "no operation" in python(start, request)["stdout"]
    assert [one.name for one in Path(cache).iterdir()] == [digest]


def test_the_library_is_on_the_disk_before_it_has_its_name(tmp_path: Path) -> None:
    """The install's own system calls: what was written is synced, then renamed, and the name is synced too."""
    digest, archive = _node_call.node_library()
    install = _node_call._INSTALL.format(cache=str(tmp_path / "cache"), digest=digest)
    spy = (
        "import os\nsaid = []\n"
        "def watched(name):\n"
        "    real = getattr(os, name)\n"
        "    def call(*given): said.append(name); return real(*given)\n"
        "    setattr(os, name, call)\n"
        "for name in ('fsync', 'rename'): watched(name)\n"
    )
    done = python(f"{spy}{install}\nprint(said)", base64.b64encode(archive))
    files, folders = len(zipfile.ZipFile(io.BytesIO(archive)).namelist()), 2
    assert ast.literal_eval(done["stdout"]) == ["fsync"] * (files + folders) + ["rename", "fsync"], done


def test_a_refusal_says_its_remedy_once(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    digest, archive = _node_call.node_library()
    start = _node_call._START.format(cache=cache, digest=digest, missing=_node_call.MISSING, mark=_node_call.MARK)
    python(_node_call._INSTALL.format(cache=cache, digest=digest), base64.b64encode(archive))
    request = json.dumps({"operation": "apply", "arguments": {"format": 0}}).encode()
    with pytest.raises(AnsibleActionFail) as caught:
        _node_call._answer(python(start, request))
    assert str(caught.value).count("use the same version of Twofold on both sides") == 1


def test_a_node_without_an_answer_says_what_it_needs() -> None:
    with pytest.raises(AnsibleActionFail, match=r"no such file.*Python 3\.9"):
        _node_call._answer({"rc": 127, "stdout": "", "stderr": "python3: no such file\n"})


@pytest.mark.parametrize(
    "said",
    ["", "{", "3", "[]", "{}", '{"answer": 3}', '{"error": 3}', '{"error": {"message": 3}}', "[" * 50_000],
    ids=lambda said: said[:12],
)
def test_an_answer_that_is_none_is_refused(said: str) -> None:
    with pytest.raises(AnsibleActionFail, match="cannot be understood"):
        _node_call._answer({"rc": 0, "stdout": f"{_node_call.MARK}{said}\n", "stderr": ""})


def python(program: str, data: bytes) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-I", "-c", program], input=data, capture_output=True, check=False)
    return {"rc": done.returncode, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}


def test_all_uploads_of_a_call_go_into_the_one_folder_that_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    shell = SimpleNamespace(tmpdir=None, join_path=lambda *parts: "/".join(parts))
    wave = object.__new__(apply_wave.ActionModule)
    wave._connection = SimpleNamespace(_shell=shell)

    def make() -> None:
        made.append(f"/tmp/{len(made)}")
        shell.tmpdir = made[-1]

    monkeypatch.setattr(wave, "_make_tmp_path", make)
    monkeypatch.setattr(wave, "_find_needle", lambda _kind, name: name)
    monkeypatch.setattr(wave, "_transfer_file", lambda _source, target: target)
    steps = [{"op": "image.fetch", "args": {"file": "image", "sha256": name}} for name in ("a", "b")]
    assert [wave._bring(step)["args"]["uploaded"] for step in steps] == ["/tmp/0/a", "/tmp/0/b"]
    assert made == ["/tmp/0"]


def test_a_file_that_is_not_there_fails_its_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(_kind: str, name: str) -> str:
        raise AnsibleError(f"Could not find {name}")

    wave = object.__new__(apply_wave.ActionModule)
    monkeypatch.setattr(wave, "_find_needle", find)
    shell = SimpleNamespace(tmpdir="/tmp/0", join_path=lambda *parts: "/".join(parts))
    wave._connection = SimpleNamespace(_shell=shell)
    image = {"id": "image", "op": "image.fetch", "args": {"file": "mine.qcow2", "sha256": "a"}, "needs": []}
    steps = [
        {**image, "always": False},
        {"id": "install", "op": "os.install", "args": {}, "needs": ["image"], "always": False},
        {"id": "other", "op": "seed.remove", "args": {}, "needs": [], "always": False},
    ]
    sent, results = wave._bring_all(steps)
    assert [step["id"] for step in sent] == ["other"]
    assert [(one["id"], one["status"]) for one in results] == [("image", "failed"), ("install", "skipped")]
    assert "Could not find mine.qcow2" in results[0]["message"] and "twofold_os_templates" in results[0]["remedy"]


def test_plain_values_are_plain() -> None:
    class Tagged(str):
        __slots__ = ()

    found = _inventory.plain({Tagged("a"): [Tagged("b"), 1, True, None, 2.5]})
    assert found == {"a": ["b", 1, True, None, 2.5]}
    assert not isinstance(found["a"][0], Tagged) and not any(isinstance(key, Tagged) for key in found)


def test_the_place_of_a_variable_is_the_most_specific_one(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "hosts.yml").write_text("all:\n  hosts:\n    web1: {twofold_os: debian}\n")
    (tmp_path / "group_vars" / "web.yml").write_text("---\ntwofold_memory: 1GiB\n")
    (tmp_path / "host_vars" / "web1.yml").write_text("---\n# twofold_memory\ntwofold_memory: 2GiB\n")
    task_vars = {
        "ansible_inventory_sources": [str(tmp_path / "hosts.yml")],
        "groups": {"all": ["web1", "web2"], "web": ["web1", "web2"]},
    }
    sources = _inventory.Sources(task_vars)
    assert sources.locate("web1", "twofold_memory") == f"{tmp_path}/host_vars/web1.yml:3"
    assert sources.locate("web2", "twofold_memory") == f"{tmp_path}/group_vars/web.yml:2"
    assert sources.locate("web1", "twofold_os") == f"{tmp_path}/hosts.yml:3"
    assert sources.locate("web1", "twofold_vcpus") is None
