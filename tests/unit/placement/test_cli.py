# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command: what it prints, and that errors leave standard output empty."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.differential import generate, requests

from twofold import cli
from twofold.placement.model import Instance
from twofold.placement.textformat import serialize


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.data"
    path.write_text(serialize(generate.cluster(4, generate.Shape(nodes=(5, 5), per_node=(3, 5)))))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = cli.main([str(a) for a in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


VERBS = [
    ["score"],
    ["balance"],
    ["balance", "--method", "hbal"],
    ["rolling"],
    ["squeeze"],
    ["check", "--no-simulation"],
]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_prints_json_and_words(verb: list[str], file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, *verb, "-t", file, "--json")
    assert (status, err) == (0, "")
    assert isinstance(json.loads(out), dict)
    status, words, err = run(capsys, *verb, "-t", file)
    assert (status, err) == (0, "")
    assert words.strip()
    assert not words.startswith("{")


def test_score_and_balance_have_their_keys(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored = json.loads(run(capsys, "score", "-t", file, "--json")[1])
    assert {"score", "metrics", "bad_nodes", "bad_instances"} <= scored.keys()
    plan = json.loads(run(capsys, "balance", "-t", file, "--json", "--method", "hbal")[1])
    assert {"initial_score", "final_score", "moves", "jobs"} <= plan.keys()
    assert plan["initial_score"] == scored["score"]
    assert plan["moves"], "this cluster has something to balance"
    assert {"instance", "from", "to", "score", "ops"} <= plan["moves"][0].keys()
    assert [k for wave in plan["jobs"] for k in wave] == list(range(len(plan["moves"])))
    short = json.loads(run(capsys, "balance", "-t", file, "--json", "--max-moves", "1")[1])
    assert len(short["moves"]) == 1
    cheap = json.loads(run(capsys, "balance", "-t", file, "--json", "--max-copy", "3GiB")[1])
    assert cheap["copied_mib"] <= 3 * 1024
    assert cheap["curve"][-1] == {"copied_mib": cheap["copied_mib"], "score": cheap["final_score"]}


def test_capacity_of_an_imagined_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("capacity", "--simulate", "p,3,100g,8g,8", "--disk-template", "drbd", "--standard-alloc", "10g,2g,1")
    found = json.loads(run(capsys, *arguments, "--json")[1])
    # Each of three nodes must keep room for the secondaries of one other: 3 nodes of 8 GiB hold 6 of 2 GiB.
    assert found["standard"]["instances"] == 6
    assert found["keys"]["ALLOC_INSTANCES"] == "6"
    out = run(capsys, *arguments, "--machine-readable")[1]
    assert "HTS_ALLOC_INSTANCES=6\n" in out
    assert out.endswith("HTS_OK=1\n")
    assert "6 instances fit" in run(capsys, *arguments)[1]


def test_allocate_explains_and_makes_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = generate.cluster(4, generate.Shape(nodes=(4, 4), offline=0.0, exclusion=0.0, templates=("drbd",)))
    request = {"type": "allocate", "name": "new", "required_nodes": 2}
    request |= requests.body(Instance("new", 900000, 2048, 1, template="drbd", disks=(2048,)))
    path = tmp_path / "r.json"
    path.write_text(json.dumps(requests.document(world, request)))
    status, out, _ignored = run(capsys, "allocate", path, "--explain", "--make-room")
    answer = json.loads(out)
    assert status == 0
    assert not answer["success"]
    assert answer["room"] is None
    assert all("does not allow its memory" in entry["primary"] for entry in answer["explain"])


def test_request_alone_with_a_text_file(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = {"type": "allocate", "name": "new", "required_nodes": 1}
    request |= requests.body(Instance("new", 512, 0, 1, template="diskless"))
    path = tmp_path / "r.json"
    path.write_text(json.dumps(request))
    status, out, err = run(capsys, "allocate", path, "-t", file, "--no-capacity-checks")
    assert (status, err) == (0, "")
    answer = json.loads(out)
    assert answer["success"]
    assert len(answer["result"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "-t", "missing.data"], "missing.data: No such file or directory"),
        (["score", "-t", "BAD"], "BAD:1: line: has 1 fields; expected 4 to 5"),
        (["score", "-t", "FILE", "--offline", "ghost"], "unknown node(s) given as offline: ghost"),
        (["balance", "-t", "FILE", "--group", "ghost"], "unknown node group 'ghost'"),
        (["balance", "-t", "FILE", "--max-copy", "much"], "--max-copy: size: is 'much'; expected a size as 4g"),
        (["balance", "-t", "FILE", "--exclude-instances", "ghost"], "unknown instance 'ghost'"),
        (["score", "-t", "FILE", "--util", "BAD"], "BAD:1: line: has 1 fields; expected instance cpu memory disk"),
        (["capacity"], "give either --text-data or --simulate"),
        (["capacity", "--simulate", "x,3,1g,1g,1"], "policy: is 'x'; expected one of p, a, u"),
        (["allocate", "BAD"], "BAD:1: JSON: Expecting value"),
    ],
)
def test_errors(
    arguments: list[str], message: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    bad.write_text("nonsense\n\n\n\n")
    words = [{"FILE": str(file), "BAD": str(bad)}.get(word, word) for word in arguments]
    status, out, err = run(capsys, *words)
    assert (status, out) == (1, "")
    assert message.replace("BAD", str(bad)) in err
