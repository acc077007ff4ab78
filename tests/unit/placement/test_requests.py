# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests of the iallocator protocol in a way of our own: the rules of instances hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.differential import requests

from twofold import cli
from twofold.placement.model import Cluster, Group, Instance, Node

NEW = Instance("new", 2000, 1024, 1, template="ext", disks=(1024,))
Json = dict[str, Any]


def cluster(*instances: Instance, memory: int = 8000) -> Cluster:
    used = {f"n{k}": sum(i.memory for i in instances if i.primary == f"n{k}") for k in range(4)}
    nodes = tuple(
        Node(name, memory, 0, memory - gone, 100000, 90000, 8, "u", tags=(f"rack:{k % 2}",))
        for k, (name, gone) in enumerate(used.items())
    )
    return Cluster((Group("g", "u"),), nodes, instances)


def single(name: str, primary: str, memory: int = 2000) -> Instance:
    return Instance(name, memory, 1024, 1, primary, template="ext", disks=(1024,))


def pair(name: str, primary: str, secondary: str, memory: int = 1000) -> Instance:
    return Instance(name, memory, 1024, 1, primary, secondary, disks=(896,))


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def answer(world: Cluster, request: Json, rules: Json | None = None, *options: str) -> Json:
        path, book = tmp_path / "request.json", tmp_path / "rules.json"
        path.write_text(json.dumps(requests.document(world, request)))
        book.write_text(json.dumps(rules or {}))
        given = ["--rules", str(book)] if rules is not None else []
        assert cli.main(["allocate", str(path), *given, *options]) == 0
        found: Json = json.loads(capsys.readouterr().out)
        return found

    return answer


def allocate(instance: Instance = NEW) -> Json:
    count = 2 if instance.template == "drbd" else 1
    return {"type": "allocate", "name": instance.name, "required_nodes": count, **requests.body(instance)}


def test_a_new_instance_keeps_to_its_rules(ask: Any) -> None:
    world = cluster(single("web1", "n0"), single("web2", "n1"), single("db", "n2", 4000))
    free = ask(world, allocate())
    assert free["result"] == ["n3"]
    rules = {
        "new": {"anti_affinity": ["web"], "excluded": ["n3"]},
        "web1": {"anti_affinity": ["web"]},
        "web2": {"anti_affinity": ["web"]},
    }
    found = ask(world, allocate(), rules, "--explain")
    assert found["result"] == ["n2"]
    why = {entry["node"]: entry["primary"] for entry in found["explain"]}
    assert why["n0"] == "anti-affinity: runs web1" and why["n3"] == "is excluded for the instance"
    refused = ask(world, allocate(), {**rules, "new": {**rules["new"], "excluded": ["n2", "n3"]}})
    assert not refused["success"] and "FailTags: 4" in refused["info"]


def test_the_two_copies_lie_in_different_racks(ask: Any) -> None:
    new = Instance("new", 2000, 1152, 1, template="drbd", disks=(1024,))
    found = ask(cluster(), allocate(new), {"new": {"apart": ["rack"], "primary": "n0"}})
    assert found["result"][0] == "n0" and found["result"][1] in ("n1", "n3")


def test_several_new_ones_keep_off_each_other(ask: Any) -> None:
    wanted = [allocate(Instance(f"new{k}", 500, 1024, 1, template="ext", disks=(1024,))) for k in range(4)]
    request = {"type": "multi-allocate", "instances": wanted}
    rules = {f"new{k}": {"anti_affinity": ["new"]} for k in range(4)}
    placed, failed = ask(cluster(), request, rules)["result"]
    assert not failed and sorted(nodes[0] for _name, nodes in placed) == ["n0", "n1", "n2", "n3"]


def test_room_is_made_by_moving_what_the_new_one_must_keep_off(ask: Any) -> None:
    # Only n3 has room for it, and there web1 runs, which it must not meet.
    world = cluster(*(single(f"big{k}", f"n{k}", 5500) for k in range(3)), single("web1", "n3", 1000))
    new = Instance("new", 4000, 1024, 1, template="ext", disks=(1024,))
    rules = {"new": {"anti_affinity": ["web"]}, "web1": {"anti_affinity": ["web"], "excluded": ["n0"]}}
    found = ask(world, allocate(new), rules, "--make-room", "--no-capacity-checks")
    assert not found["success"]
    (move,) = found["room"]["moves"]
    assert move["instance"] == "web1" and move["ops"] in ("fa:n1", "fa:n2")
    assert found["room"]["nodes"] == ["n3"]
    held = {**rules, "web1": {**rules["web1"], "primary": "n3"}} | {f"big{k}": {"primary": f"n{k}"} for k in range(3)}
    assert ask(world, allocate(new), held, "--make-room", "--no-capacity-checks")["room"] is None


def test_an_evacuated_node_is_left_by_the_rules(ask: Any) -> None:
    world = cluster(pair("copy", "n1", "n0"), pair("stuck", "n1", "n0"), single("runs", "n0"))
    rules = {
        "copy": {"excluded": ["n2"]},
        "stuck": {"excluded": ["n2", "n3"]},
        "runs": {"affinity": ["together"]},
    }
    request = {"type": "node-evacuate", "instances": ["copy", "stuck"], "evac_mode": "secondary-only"}
    moved, failed, jobs = ask(world, request, rules)["result"]
    assert moved == [["copy", "g", ["n1", "n3"]]]
    assert failed == [["stuck", "n2 is excluded for the instance; n3 is excluded for the instance"]]
    assert [[op["remote_node"] for op in job] for job in jobs] == [["n3"]]
    both = {"type": "node-evacuate", "instances": ["runs"], "evac_mode": "all"}
    ((_name, _group, nodes),) = ask(world, both, {**rules, "copy": {"affinity": ["together"]}})["result"][0]
    assert nodes == ["n1"], "it goes where the other one of its label runs"
    leave = {"type": "relocate", "name": "copy", "relocate_from": ["n0"], "required_nodes": 1}
    assert ask(world, leave, rules)["result"] == ["n3"]


def test_a_plain_instance_gets_a_second_copy_by_its_rules(ask: Any) -> None:
    world = cluster(Instance("one", 1000, 1024, 1, "n0", template="plain", disks=(1024,)))
    found = ask(world, {"type": "allocate-secondary", "name": "one"}, {"one": {"excluded": ["n1", "n3"]}})
    assert found["result"] == "n2"


def test_what_has_to_be_survived_is_asked_by_our_definition(ask: Any) -> None:
    # A plain instance has one copy: hail would want room to make it anew elsewhere, which brings nothing back.
    world = cluster(Instance("plain", 7000, 1024, 1, "n0", template="plain", disks=(1024,)), *fill())
    small = Instance("new", 500, 1024, 1, template="ext", disks=(1024,))
    assert not ask(world, allocate(small))["success"]
    assert ask(world, allocate(small), None, "--method", "twofold")["success"]
    assert ask(world, allocate(small), None, "--survive", "node")["success"]


def fill() -> list[Instance]:
    return [single(f"there{k}", f"n{k}", 3000) for k in (1, 2)] + [single("there3", "n3", 2000)]


def test_hail_knows_none_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "request.json"
    path.write_text(json.dumps(requests.document(cluster(), allocate())))
    assert cli.main(["allocate", str(path), "--method", "hail", "--survive", "two"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "--method hail knows neither --rules nor --survive" in printed.err
