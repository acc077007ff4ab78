# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control host's side: what is sent to a node, what is shown, and what becomes of the authority."""

from __future__ import annotations

import contextlib
import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.twofold.cluster.plugins.action import node_config
from ansible_collections.twofold.cluster.plugins.module_utils import _observe

from twofold import codes, nodeconfig, pki
from twofold.health.certificates import AUTHORITIES

HOSTS = {
    name: {"ansible_host": f"192.0.2.{number}", "twofold_replication_address": f"198.51.100.{number}"}
    for number, name in enumerate(("node1", "node2"), start=1)
}


class Node:
    """What a node would answer; keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        self.problems: list[dict[str, Any]] = []
        self.credentials: dict[str, Any] = {}
        self.skew = 0.0
        self.said: Any = None

    def answer(self, operation: str, request: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        assert operation == "node_config"
        self.requests.append(json.loads(json.dumps(request)))
        if request.get("apply"):
            return {"changes": [{"object": "credential qemu", "message": "is replaced", "diff": None}]}
        if self.said is not None:
            said: dict[str, Any] = self.said
            return said
        now = time.time() + self.skew
        return {
            "problems": self.problems,
            "changes": self.changes,
            "credentials": self.credentials,
            "facts": {"hostname": f"host-{id(self)}", "machine_id": str(id(self))},
            "clock": [now, time.time() + self.skew],
        }


class Play:
    """Runs the action's phases, as the role does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.loader = DataLoader()
        self.hostvars: dict[str, dict[str, Any]] = {name: dict(values) for name, values in HOSTS.items()}
        self.nodes = {name: Node() for name in HOSTS}
        self.check = False
        self.new_authority = False

    def run(self, phase: str, name: str, **settings: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "phase": phase,
            "settings": settings,
            "pki_dir": str(self.directory),
            "node_group": "nodes",
        }
        arguments["new_authority"] = self.new_authority
        task = SimpleNamespace(
            args=arguments, check_mode=self.check, diff=True, async_val=0, action="node_config", environment=None
        )
        shell = SimpleNamespace(tmpdir=None)
        connection = SimpleNamespace(_shell=shell, always_pipeline_modules=False, has_pipelining=True)
        templar = SimpleNamespace(template=lambda value: value)
        action: Any = node_config.ActionModule(task, connection, None, self.loader, templar, None)
        action.call_node = self.nodes[name].answer
        # Its clock is asked again when the call itself did not tell enough.
        action._low_level_execute_command = lambda *_command, **_more: {"rc": 0, "stdout": "no date\n"}
        variables = {
            **self.hostvars[name],
            "inventory_hostname": name,
            "hostvars": self.hostvars,
            "groups": {"nodes": list(self.hostvars)},
            "ansible_play_hosts_all": list(HOSTS),
            "ansible_play_hosts": list(HOSTS),
        }
        result: dict[str, Any] = action.run(None, variables)
        return result

    def inspect(self, **settings: Any) -> dict[str, dict[str, Any]]:
        for name in HOSTS:
            self.hostvars[name]["node_inspection"] = self.run("inspect", name, **settings)
        return {name: self.hostvars[name]["node_inspection"] for name in HOSTS}

    @property
    def key(self) -> Path:
        return self.directory / "ca-key.pem"


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.setattr(node_config, "Progress", lambda *_ignored: contextlib.nullcontext())
    return Play(tmp_path / "pki")


def settled(play: Play, name: str) -> None:
    """Give a node the credentials that it was sent."""
    sent = play.nodes[name].requests[-1]["secrets"]
    state = {key: {"certificate": pair["certificate"], "problem": None} for key, pair in sent.items()}
    play.nodes[name].credentials = state


def test_the_first_run_makes_an_authority_and_credentials_and_the_second_nothing(play: Play) -> None:
    assert all(inspection["needed"] for inspection in play.inspect().values())
    assert play.run("review", "node1")["changed"]
    assert play.key.stat().st_mode & 0o777 == 0o600
    for name in HOSTS:
        result = play.run("apply", name)
        assert result["changed"]
        assert "PRIVATE" not in json.dumps(result)
        request = play.nodes[name].requests[-1]
        assert "PRIVATE" not in json.dumps(request["wanted"])
        assert set(request["secrets"]) == set(nodeconfig.CREDENTIALS)
        settled(play, name)
    assert not any(inspection["needed"] for inspection in play.inspect().values())
    assert not play.run("review", "node1")["changed"]
    assert not play.run("apply", "node1")["changed"]
    assert [len(node.requests) for node in play.nodes.values()] == [3, 3]


def bootstrapped(play: Play) -> None:
    """Both nodes have credentials, and nothing differs."""
    play.inspect()
    play.run("review", "node1")
    for name in HOSTS:
        play.run("apply", name)
        settled(play, name)


def test_a_checkout_without_the_authority_replaces_nothing(play: Play) -> None:
    """Another operator's clone made an authority of its own, and parted the nodes from the one that was down."""
    bootstrapped(play)
    authority, play.directory = play.directory, play.directory.with_name("clone")
    play.nodes["node2"].credentials = {}
    for check in (True, False):
        play.check = check
        play.inspect()
        result = play.run("review", "node1")
        assert result["failed"] and not play.directory.exists()
        assert "nothing was changed on any of them" in result["msg"]
        assert f"the certificates of node1 come from an authority that is not in {play.directory}" in result["msg"]
        assert "set twofold_pki_dir" in result["msg"] and "-e twofold_new_authority=true" in result["msg"]
        (found,) = [one for one in play.run("compare", "node1")["findings"] if one["severity"] == "error"]
        assert (found["code"], found["object"]) == ("node-authority", "cluster")
    # Its own place again: what node2 lacks is made by the authority that there is, as for a node that is new.
    play.directory = authority
    assert [inspection["needed"] for inspection in play.inspect().values()] == [False, True]
    assert not play.run("review", "node1").get("failed")


def test_a_new_authority_is_made_when_that_is_said(play: Play) -> None:
    bootstrapped(play)
    old = play.nodes["node1"].credentials
    play.directory = play.directory.with_name("anew")
    play.new_authority = True
    bootstrapped(play)
    assert play.key.exists() and play.nodes["node1"].credentials != old
    # The word is for one run: from then on there is an authority.
    play.new_authority = False
    assert not any(inspection["needed"] for inspection in play.inspect().values())
    assert not play.run("review", "node1").get("failed")


def test_the_key_of_another_authority_is_not_written_over_by_a_new_one(play: Play) -> None:
    bootstrapped(play)
    (play.directory / "ca.pem").unlink()
    kept = play.key.read_text()
    play.new_authority = True
    play.inspect()
    assert "ca-key.pem, but no ca.pem" in play.run("review", "node1")["msg"]
    assert play.key.read_text() == kept


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a document, the whole of it first."""
    yield path
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(one, (*path, key))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    value[path[0]] = put(value[path[0]], path[1:], new)
    return value


def test_a_node_whose_answer_is_damaged_is_named_and_nothing_is_changed(play: Play) -> None:
    play.inspect()
    play.run("review", "node1")
    play.run("apply", "node1")
    settled(play, "node1")
    node = play.nodes["node1"]
    node.changes = [{"object": "file /f", "message": "is missing", "diff": {"before": "", "after": "x"}}]
    node.problems = [{"code": "port", "object": "port 7000", "message": "is used", "remedy": "free it", "peer": None}]
    whole = node.answer("node_config", {}, {})
    damaged = 0
    for path in places(whole):
        for new in (7, None, [7], {"a": 7}, "\ud800"):
            node.said = put(copy.deepcopy(whole), path, new)
            found = play.run("inspect", "node1")
            play.hostvars["node1"]["node_inspection"] = found
            assert play.run("review", "node1")["failed"], (path, new)
            assert play.run("compare", "node2")["findings"], (path, new)
            if found["problems"][0]["code"] == "call":
                damaged += 1
                assert "answer is damaged" in found["problems"][0]["message"]
                assert (found["changes"], found["credentials"]) == ([], [])
    assert damaged > 50


def test_check_mode_makes_nothing_and_says_everything(play: Play) -> None:
    play.check = True
    diff = {"before_header": "/f", "after_header": "/f", "before": "", "after": "x\n"}
    play.nodes["node1"].changes = [{"object": "file /f", "message": "is missing", "diff": diff}]
    play.inspect()
    assert play.run("review", "node1")["changed"]
    result = play.run("apply", "node1")
    assert result["changed"] and result["diff"][0] == diff
    assert result["changes"][0] == "file /f: is missing"
    assert any("credential libvirt" in change for change in result["changes"])
    assert not play.directory.exists()
    assert not any(request.get("apply") for request in play.nodes["node1"].requests)


def test_every_finding_of_every_node_is_shown_before_anything_is_changed(play: Play) -> None:
    play.nodes["node1"].problems = [{"code": "disk", "object": "disk /dev/b", "message": "one", "remedy": "do"}]
    play.nodes["node2"].problems = [{"code": "kvm", "object": "virtualization", "message": "two", "remedy": "so"}]
    play.nodes["node2"].skew = 60.0
    play.inspect()
    result = play.run("review", "node1")
    assert result["failed"]
    for text in ("node node1: disk /dev/b: one", "node node2: virtualization: two", "node node2: clock"):
        assert text in result["msg"]
    assert not play.directory.exists()


def test_a_wrong_variable_costs_no_call_and_names_its_host(play: Play) -> None:
    play.hostvars["node2"]["twofold_replication_address"] = "eth1"
    play.inspect()
    assert play.nodes["node2"].requests == []
    assert "node node2: twofold_replication_address: 'eth1' is not an IP address" in play.run("review", "node1")["msg"]


def test_a_node_that_cannot_be_looked_at_stops_the_others(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any) -> dict[str, Any]:
        raise AnsibleActionFail("no python here")

    monkeypatch.setattr(play.nodes["node2"], "answer", broken)
    play.inspect()
    assert "no python here" in play.run("review", "node1")["msg"]
    (found,) = [one for one in play.run("compare", "node1")["findings"] if one["severity"] == "error"]
    assert (found["code"], found["object"]) == ("node-call", "node node2") and found["remedy"]


def test_a_node_that_does_not_answer_is_left_alone(play: Play) -> None:
    play.inspect()
    play.hostvars["node2"]["node_inspection"] = {"unreachable": True, "msg": "no route", "changed": False}
    result = play.run("review", "node1")
    assert not result.get("failed")
    assert any("node2" in warning for warning in result["warnings"])


def test_the_key_may_be_in_a_vault(play: Play) -> None:
    secret = VaultSecret(b"open sesame")
    made = pki.create_authority("lab", pki.now())
    play.directory.mkdir()
    (play.directory / "ca.pem").write_text(made.certificate)
    play.key.write_bytes(VaultLib([("default", secret)]).encrypt(made.key, secret))
    play.loader.set_vault_secrets([("default", secret)])
    play.inspect()
    assert not play.run("review", "node1").get("failed")
    play.run("apply", "node1")
    subject = nodeconfig.subjects(nodeconfig.read_member("node1", HOSTS["node1"]))["libvirt"]
    sent = play.nodes["node1"].requests[-1]["secrets"]["libvirt"]["certificate"]
    assert pki.fault(sent, made.certificate, subject, pki.now()) is None


def test_a_key_that_is_gone_is_found_only_when_it_is_needed(play: Play) -> None:
    bootstrapped(play)
    play.key.unlink()
    play.inspect()
    assert not play.run("review", "node1").get("failed")
    play.inspect(pki_renew_days=400)
    result = play.run("review", "node1")
    assert result["failed"] and "ca-key.pem is not there" in result["msg"]


def test_an_authority_without_its_certificate_is_not_replaced(play: Play) -> None:
    play.directory.mkdir()
    play.key.write_text("precious")
    play.inspect()
    assert "ca-key.pem, but no ca.pem" in play.run("review", "node1")["msg"]
    assert play.key.read_text() == "precious"


def test_comparing_names_everything_changes_nothing_and_fails_for_nothing(play: Play) -> None:
    play.nodes["node1"].changes = [{"object": "file /etc/f", "message": "is missing", "diff": None}]
    play.nodes["node2"].problems = [{"code": "network", "object": "replication network", "message": "x", "remedy": "y"}]
    play.nodes["node2"].skew = 60.0
    play.inspect()
    result = play.run("compare", "node1")
    found = {(one["severity"], one["code"], one["object"]) for one in result["findings"]}
    assert found == {
        ("warning", "node-differs", "node node1"),
        ("warning", "node-differs", "node node2"),
        ("error", "node-network", "node node2"),
        ("warning", "node-clock", "node node2"),
    }
    assert not result["changed"] and not result.get("failed") and not play.directory.exists()
    assert "file /etc/f: is missing" in {one["message"] for one in result["findings"]}
    assert all(one["code"] in codes.ALL and one["remedy"] for one in result["findings"])


@pytest.mark.parametrize("answer", [None, {"unreachable": True, "changed": False}, {"skipped": True, "changed": False}])
def test_comparing_says_nothing_of_a_node_that_was_not_inspected(play: Play, answer: dict[str, Any] | None) -> None:
    play.inspect()
    play.hostvars["node2"]["node_inspection"] = answer
    assert {one["object"] for one in play.run("compare", "node1")["findings"]} == {"node node1"}


def test_what_is_observed_of_certificates_is_what_the_bootstrap_writes() -> None:
    written = {path for place in nodeconfig.CREDENTIALS.values() for path in place.certificates}
    assert set(_observe.CERTIFICATES) == written | AUTHORITIES
    members = [nodeconfig.read_member(name, variables) for name, variables in HOSTS.items()]
    wanted = nodeconfig.wanted(nodeconfig.read_settings("node1", {}), members[0], members, "the authority")
    assert {item["path"] for item in wanted["items"] if item.get("content") == "the authority"} == AUTHORITIES
