# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile requests, files and tools: a step refuses them with a sentence, runs no command and changes nothing."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins import module_utils
from ansible_collections.twofold.cluster.plugins.module_utils import _runner, _steps
from ansible_collections.twofold.cluster.plugins.module_utils._apply import apply
from ansible_collections.twofold.cluster.plugins.module_utils._drbd_meta import parse_generations
from ansible_collections.twofold.cluster.plugins.module_utils._drbd_parse import (
    parse_equal,
    parse_events,
    parse_proc,
    parse_show,
)
from ansible_collections.twofold.cluster.plugins.module_utils._errors import ParseFailed, TwofoldError, UsageError
from ansible_collections.twofold.cluster.plugins.module_utils._files import SystemFiles
from ansible_collections.twofold.cluster.plugins.module_utils._images import open_url, parse_info, refuse_references
from ansible_collections.twofold.cluster.plugins.module_utils._installer import variables_for
from ansible_collections.twofold.cluster.plugins.module_utils._lvm import parse_report
from ansible_collections.twofold.cluster.plugins.module_utils._node import Node
from ansible_collections.twofold.cluster.plugins.module_utils._observe import observe
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES: list[Any] = [
    "../../etc/passwd", "/etc/passwd", "..", ".", "", "a/b", "web1;reboot", "$(reboot)", "`reboot`", "web1 web2", "-f",
    "--force", "web1\n", "web1\0", "wéb", "a" * 500, "<x/>", "*", None, 7, ["web1"], {"$secret": "x"}, True,
]  # fmt: skip
DIGEST = "ab" * 32
# What a step takes with a name in it: the name has to be looked at before anything else.
STEPS: dict[str, Any] = {
    "definition.write": lambda name: {"document": {"name": name, "generation": 1}, "expect_generation": None},
    "definition.remove": lambda name: {"name": name, "expect_generation": 1},
    "definition.absent": lambda name: {"name": name, "expect_generation": None},
    "volumes.create": lambda name: {"instance": name, "volumes": []},
    "volumes.tag": lambda name: {"instance": name, "volumes": []},
    "volumes.remove": lambda name: {"instance": name, "volumes": []},
    "volumes.set_aside": lambda name: {"instance": name, "volumes": []},
    "volumes.put_back": lambda name: {"instance": name, "volumes": []},
    "volumes.keep": lambda name: {"instance": name, "volumes": [], "reason": "split-brain"},
    "volumes.owe_install": lambda name: {"instance": name, "volume_group": "vg0", "name": "web1-disk0"},
    "volumes.grow": lambda name: {"instance": name, "volumes": []},
    "replication.configure": lambda name: {"resource": name, "config": "", "secret": "s", "volumes": []},
    "replication.initialise": lambda name: {"resource": name},
    "replication.promote": lambda name: {"resource": name},
    "replication.demote": lambda name: {"resource": name},
    "replication.take_over": lambda name: {"resource": name, "peer": "node2", "proof": "it is off", "stale": True},
    "replication.detach": lambda name: {"resource": name},
    "replication.disconnect": lambda name: {"resource": name},
    "replication.wait": lambda name: {"resource": name},
    "replication.discard": lambda name: {"resource": name, "kept": [], "anew": []},
    "replication.resize": lambda name: {"resource": name, "clean": True, "volumes": []},
    "replication.dual_primary": lambda name: {"resource": name, "allow": True},
    "replication.settle": lambda name: {"resource": name, "domain": name},
    "replication.remove": lambda name: {"resource": name},
    "seed.write": lambda name: {"name": name, "digest": DIGEST, "files": {"user-data": "x"}},
    "seed.remove": lambda name: {"name": name},
    "domain.define": lambda name: {"name": name, "xml": "<domain/>"},
    "domain.undefine": lambda name: {"name": name},
    "domain.start": lambda name: {"name": name, "resource": None, "volumes": []},
    "domain.stop": lambda name: {"name": name},
    "domain.resize": lambda name: {"name": name, "target": "vda", "device": "/dev/drbd1000"},
    "domain.present": lambda name: {"name": name},
    "domain.resume": lambda name: {"name": name, "resource": None},
    "domain.discard": lambda name: {"name": name},
    "domain.migrate": lambda name: {"name": name, "uri": "qemu+tls://192.0.2.12/system"},
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "a volume group that is a path": (
        "volumes.create",
        {"instance": "web1", "volumes": [{"volume_group": "../x", "name": "v", "size": 1, "disk": 0, "role": "data"}]},
    ),
    "a volume that is an option": (
        "volumes.remove",
        {"instance": "web1", "volumes": [{"volume_group": "vg0", "name": "--yes"}]},
    ),
    "volumes of a wrong type": ("volumes.create", {"instance": "web1", "volumes": "all"}),
    "a volume to set aside that is a path": (
        "volumes.set_aside",
        {"instance": "web1", "volumes": [{"volume_group": "vg0", "name": "../web1-disk0"}]},
    ),
    "metadata to put back that is an option": (
        "volumes.put_back",
        {"instance": "web1", "volumes": [{"volume_group": "vg0", "name": "web1-disk0", "meta": "--force"}]},
    ),
    "a snapshot that is a path": (
        "volumes.keep",
        {"instance": "web1", "reason": "x", "volumes": [{"volume_group": "vg0", "name": "v", "snapshot": "/dev/sda"}]},
    ),
    "a volume for an OS that is a path": (
        "volumes.owe_install",
        {"instance": "web1", "volume_group": "vg0", "name": "../../sda"},
    ),
    "a volume to grow without a size": (
        "volumes.grow",
        {"instance": "web1", "volumes": [{"volume_group": "vg0", "name": "v", "size": "all", "minor": 1000}]},
    ),
    "a disk to resize that is no volume": (
        "replication.resize",
        {"resource": "web1", "volumes": [{"volume": 0, "minor": 1000, "disk": "/dev/../etc/x", "meta": "", "size": 1}]},
    ),
    "a note that is none": ("rolling.begin", {"note": "x"}),
    "a node that is none": ("maintenance.begin", {"node": 3}),
    "packages that are none": ("rolling.upgraded", {"packages": 3}),
    "keys that are no list": ("journal.clear", {"keys": "all"}),
    "an image that is a path": ("image.fetch", {"sha256": "../" * 21 + "x", "url": "/etc/shadow", "format": "raw"}),
    "an image of an unknown format": ("image.fetch", {"sha256": DIGEST, "url": "/x", "format": "vmdk; reboot"}),
    "an image by another protocol": ("image.fetch", {"sha256": DIGEST, "url": "gopher://x", "format": "raw"}),
    "a seed with a path for its sum": ("seed.write", {"name": "web1", "digest": "../x", "files": {}}),
    "XML that is none": ("domain.define", {"name": "web1", "xml": "<domain"}),
    "XML of another domain": ("domain.define", {"name": "web1", "xml": "<domain><name>web2</name></domain>"}),
    "XML with entities": (
        "domain.define",
        {
            "name": "web1",
            "xml": '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/shadow">]><domain><name>&e;</name></domain>',
        },
    ),
    "an OS of an unknown kind": (
        "os.install",
        {"kind": "shell", "device": "/dev/sda", "volume": {"volume_group": "a/b", "name": "x"}},
    ),
    "a step that is not there": ("os.system", {"command": "reboot"}),
    "a step of a module": ("volumes.__import__", {}),
}


@pytest.fixture(autouse=True)
def no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that runs is a failure."""

    def run(_self: Any, argv: list[str], **_more: Any) -> Any:
        raise AssertionError(f"a command ran: {argv}")

    monkeypatch.setattr(_runner.SystemRunner, "run", run)


def refused(node: Node, op: str, args: dict[str, Any]) -> None:
    node.files.write("/var/lib/twofold/before", "x")
    request = {"format": 1, "run": "r", "holder": "h", "lock_wait": 0, "steps": [{"id": "s", "op": op, "args": args}]}
    answer = apply(node, request)
    (result,) = answer["results"]
    assert (result["status"], answer["changed"]) == ("failed", False), result
    assert result["message"] and "Traceback" not in result["message"] and len(result["message"]) < 1500
    assert node.files.names("/var/lib/twofold/instances") == [] == node.journal.entries()


NO_STEPS = {"os.system", "volumes.__import__"}
# They take none.
WITHOUT_ARGUMENTS = {"rolling.end", "maintenance.ready", "maintenance.end"}


def test_every_step_is_tried() -> None:
    for module in pkgutil.iter_modules(module_utils.__path__):
        if module.name.startswith("_steps"):
            importlib.import_module(f"{module_utils.__name__}.{module.name}")
    assert set(_steps.REGISTRY) - WITHOUT_ARGUMENTS == {*STEPS, *(op for op, _args in OTHERS.values())} - NO_STEPS


def short(text: str) -> str:
    """For the name of a test."""
    return repr(text[:40])


@pytest.mark.parametrize("op", STEPS)
@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_step_refuses_a_hostile_name(node: Node, op: str, name: Any) -> None:
    refused(node, op, STEPS[op](name))


@pytest.mark.parametrize(("op", "args"), OTHERS.values(), ids=OTHERS)
def test_a_step_refuses_hostile_arguments(node: Node, op: str, args: dict[str, Any]) -> None:
    refused(node, op, args)


@pytest.mark.parametrize(
    "name", ["PATH", "LD_PRELOAD", "TWOFOLD_x", "TWOFOLD_A=B", "TWOFOLD_\n", "", "TWOFOLD_A\0"], ids=repr
)
def test_an_os_script_gets_no_hostile_variable(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be passed"):
        variables_for("web1", "/dev/x", "/target", {name: "x"})


def test_an_os_script_gets_no_zero_byte_and_cannot_be_told_another_device() -> None:
    with pytest.raises(UsageError, match="zero byte"):
        variables_for("web1", "/dev/x", "/target", {"TWOFOLD_X": "a\0b"})
    assert variables_for("web1", "/dev/x", "/target", {"TWOFOLD_DEVICE": "/dev/sda"})["TWOFOLD_DEVICE"] == "/dev/x"


@pytest.mark.parametrize("url", ["gopher://x", "ftp://x", "jar:file:/etc", "data:,x", "etc/passwd", "file://host/x"])
def test_images_come_from_the_web_or_a_file(url: str) -> None:
    with pytest.raises(UsageError):
        open_url(url)


@pytest.mark.parametrize(
    "info",
    [{"backing-filename": "/etc/shadow"}, {"full-backing-filename": "json:{}"},
     {"format-specific": {"data": {"data-file": "/dev/sda"}}}],
)  # fmt: skip
def test_an_image_that_refers_to_another_file_is_refused(info: dict[str, Any]) -> None:
    with pytest.raises(TwofoldError, match="refers to another file"):
        refuse_references("x", info)


def test_a_file_that_is_not_text_is_a_problem_of_its_part_alone(node: Node, tmp_path: Path) -> None:
    folder = tmp_path / "var/lib/twofold/instances"
    folder.mkdir(parents=True)
    (folder / "web1.json").write_bytes(b"\xff\xfe\x00broken")
    with pytest.raises(ParseFailed, match=r"web1\.json"):
        SystemFiles().read(str(folder / "web1.json"))
    with pytest.raises(ParseFailed):
        node.files.read("/var/lib/twofold/instances/web1.json")


NESTED = "[" * 50_000
DAMAGED = [
    "", "{", "[]", "null", "7", '"x"', "{}", '{"time": "x", "lease": [], "pid": "x", "run": 1, "step": 3}', "\0",
    NESTED, '{"a": ' * 500 + "1" + "}" * 500, '{"name": "web1", "nodes": 3, "disks": {"x": 1}, "port": []}',
    '{"time": 1, "lease": 1' + "0" * 400 + ', "run": "r", "holder": "h", "uptime": 1}', "1" + "0" * 5000,
    '{"name": "web1", "generation": "x", "nodes": [[]], "disks": [3], "port": "x", "left": 3}',
]  # fmt: skip
DAMAGED_STEPS: dict[str, Any] = {
    "definition.write": {"document": {"name": "web2", "generation": 1, "nodes": ["node1"]}, "expect_generation": None},
    "definition.absent": {"name": "web1", "expect_generation": None},
    "definition.remove": {"name": "web1", "expect_generation": 1},
    "volumes.tag": {
        "instance": "web1",
        "volumes": [{"volume_group": "vg0", "name": "web1-disk0", "tags": ["twofold"]}],
    },
    "journal.clear": {"keys": ["k"]},
    "rolling.begin": {"note": {"format": 1, "packages": "", "boots": {}}},
    "maintenance.begin": {"node": "node1"},
    "rolling.end": {},
}


@pytest.fixture
def ruined(node: Node, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Node]:
    """A node all of whose files of ours hold the same text."""
    monkeypatch.setattr(node.replication, "states", dict)
    monkeypatch.setattr(node.host, "tool_versions", dict)

    def ruin(text: str) -> Node:
        for path in ("instances/web1.json", "journal/k.json", "rolling.json", "power_back.json"):
            node.files.write(f"/var/lib/twofold/{path}", text)
        node.files.write("/run/twofold/lock.json", text)
        return node

    return ruin


@pytest.mark.parametrize("text", DAMAGED, ids=short)
def test_damaged_files_of_ours_do_not_stop_a_node_from_answering(text: str, ruined: Callable[[str], Node]) -> None:
    document = json.loads(json.dumps(observe(ruined(text), "node1")))
    assert document["format"] == 1 and document["volumes"] == []
    for problem in document["problems"]:
        assert problem["object"] and problem["message"] and problem["remedy"]


@pytest.mark.parametrize("op", DAMAGED_STEPS)
@pytest.mark.parametrize("text", DAMAGED, ids=short)
def test_a_step_on_damaged_files_says_so(text: str, op: str, ruined: Callable[[str], Node]) -> None:
    step = {"id": "s", "op": op, "args": DAMAGED_STEPS[op]}
    node = ruined(text)
    for lock in (True, False):
        request = {"format": 1, "run": "r", "holder": "h", "lock_wait": 0, "lock": lock, "steps": [step]}
        try:
            answer = apply(node, request)
        except TwofoldError as error:
            assert error.message
            continue
        assert answer["results"][0]["status"] in ("changed", "unchanged", "failed", "skipped")


def test_a_folder_in_the_place_of_a_file_is_a_problem_of_its_part_alone(
    ruined: Callable[[str], Node], tmp_path: Path
) -> None:
    node = ruined("{}")
    (tmp_path / "var/lib/twofold/journal/k.json").unlink()
    (tmp_path / "var/lib/twofold/journal/k.json").mkdir()
    document = observe(node, "node1")
    assert document["journal"] is None and document["volumes"] == []


TEXTS = st.text(max_size=80) | st.text(alphabet='resource "{};:a1\n-\\0%', max_size=80)


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, value=st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["report", "vg", "lv", "vg_name", "lv_name", "lv_size", "virtual-size"]), inner, max_size=3),
    max_leaves=8))  # fmt: skip
def test_whatever_a_tool_says_is_read_or_refused(text: str, value: Any) -> None:
    for read in (parse_events, parse_show, parse_proc, parse_equal, parse_generations, parse_report, parse_info):
        for said in (text, json.dumps(value)):
            try:
                read(said)
            except ParseFailed as error:
                assert error.message
