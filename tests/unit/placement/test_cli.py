# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command: what it prints, and that errors leave standard output empty."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from tests.differential import generate, requests

from twofold import cli
from twofold.placement.model import Instance
from twofold.placement.simulate import simulate
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


def test_balance_explains_every_move(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("balance", "-t", file, "--max-moves", "2", "--explain")
    plan = json.loads(run(capsys, *arguments, "--json")[1])
    assert len(plan["moves"]) == 2
    before = plan["initial_score"]
    for move in plan["moves"]:
        why = move["explain"]
        assert why["stays"] == pytest.approx(before)
        (chosen,) = (node for node in why["nodes"] if node["score"] == pytest.approx(move["score"], abs=1e-7))
        assert chosen["node"] in move["to"]
        assert all(node["score"] is not None or node["primary"] or node["secondary"] for node in why["nodes"])
        changes = sum(one["after"] - one["before"] for one in why["metrics"].values())
        assert changes == pytest.approx(move["score"] - before, abs=1e-6)
        before = move["score"]
    words = run(capsys, *arguments)[1]
    assert f"score {plan['initial_score']:.8f} if it stays" in words
    assert set(plan["survives"]) == {"before", "after"}
    assert set(plan["survives"]["after"]) == {"node", "two", "domain"}


def test_rules_and_weights(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = json.loads(run(capsys, "balance", "-t", file, "--json")[1])["moves"][0]["instance"]
    rules = tmp_path / "rules.json"
    home = next(line.split("|")[6] for line in file.read_text().splitlines() if line.startswith(f"{moved}|"))
    rules.write_text(json.dumps({moved: {"primary": home, "avoid": ["x"]}}))
    plan = json.loads(run(capsys, "balance", "-t", file, "--json", "--rules", rules, "--weight", "x=0.5")[1])
    assert all(move["to"][0] == home for move in plan["moves"] if move["instance"] == moved)
    assert plan["rules_cost"] == {"before": 0.0, "after": 0.0}


def test_the_command_is_an_entry_point_of_the_package(file: Path) -> None:
    root = Path(cli.__file__).resolve().parents[3]
    project = tomllib.loads((root / "pyproject.toml").read_text())
    module, _colon, function = project["project"]["scripts"]["twofold"].partition(":")
    # setuptools installs folders with an __init__.py alone.
    folders = {path.parent for path in (root / "lib/twofold").rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)
    program = f"import sys, {module}; sys.exit({module}.{function}(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", program, "score", "-t", str(file), "--json"],
        env={"PYTHONPATH": str(root / "lib")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["score"] > 0


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


def test_capacity_asks_what_is_survived_and_gives_the_keys_of_hspace(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("capacity", "--simulate", "p,3,100g,8g,8", "--disk-template", "plain", "--standard-alloc", "10g,2g,1")
    ours = json.loads(run(capsys, *arguments, "--json")[1])
    # hspace keeps room to make instances with one copy anew elsewhere, which would bring none of their data back.
    assert ours["standard"]["instances"] == 9
    assert ours["keys"]["ALLOC_INSTANCES"] == "6"
    theirs = json.loads(run(capsys, *arguments, "--json", "--method", "hspace")[1])
    assert theirs["standard"]["instances"] == 6 and theirs["keys"] == ours["keys"]
    status, _out, err = run(capsys, *arguments, "--machine-readable", "--survive", "two")
    assert status == 1 and "--survive is not for hspace's answers" in err


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


def test_names_may_be_short(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = tmp_path / "long.data"
    long.write_text(re.sub(r"\b(node0\d|inst0\d\d)\b", r"\1.example.com", file.read_text()))
    options = ("--offline", "node01", "--select-instances", "inst000,inst001,inst002,inst003", "--json")
    plan = json.loads(run(capsys, "balance", "-t", long, *options)[1])
    assert plan["moves"]
    assert {move["instance"] for move in plan["moves"]} <= {f"inst00{k}.example.com" for k in range(4)}
    assert all("node01.example.com" not in move["to"] for move in plan["moves"])
    long.write_text(long.read_text().replace("node02.example.com", "node01.other"))
    assert "node 'node01' is short for several" in run(capsys, "balance", "-t", long, *options)[2]


def test_the_cluster_is_saved_before_and_after(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = json.loads(run(capsys, "balance", "-t", file, "--json", "--save", tmp_path / "s")[1])
    assert (tmp_path / "s.original").read_text() == file.read_text()
    after = json.loads(run(capsys, "score", "-t", tmp_path / "s.balanced", "--json")[1])
    assert after["score"] == pytest.approx(plan["final_score"])
    run(capsys, "squeeze", "-t", file, "--save", tmp_path / "s")
    assert (tmp_path / "s.squeezed").exists()
    status, out, err = run(capsys, "balance", "-t", file, "--json", "--save", tmp_path / "none" / "s")
    assert (status, out) == (1, "")
    assert "No such file or directory" in err


def test_a_cluster_may_come_as_a_message_or_be_imagined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = generate.cluster(4, generate.Shape(nodes=(4, 4), forthcoming=0.0, templates=("drbd",), offline=0.0))
    # A message does not tell these.
    instances = tuple(replace(i, status="running", auto_balance=True) for i in world.instances)
    world = replace(world, instances=instances, nodes=tuple(replace(n, cpu_speed=1.0) for n in world.nodes))
    request = {"type": "allocate", "name": "new", "required_nodes": 1}
    request |= requests.body(Instance("new", 512, 0, 1, template="diskless"))
    message, text = tmp_path / "r.json", tmp_path / "c.data"
    message.write_text(json.dumps(requests.document(world, request)))
    text.write_text(serialize(world))
    scores = [json.loads(run(capsys, "score", how, path, "--json")[1]) for how, path in (("-I", message), ("-t", text))]
    assert scores[0]["metrics"] == pytest.approx(scores[1]["metrics"])
    answer = json.loads(run(capsys, "allocate", message, "--simulate", "p,3,100g,8g,8")[1])
    assert answer["result"] in (["node-01-001"], ["node-01-002"], ["node-01-003"])


def test_capacity_and_squeeze_of_one_group(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "two.data"
    file.write_text(serialize(simulate(["p,3,100g,8g,8", "p,4,100g,8g,8"])))
    arguments = ("capacity", "-t", file, "--disk-template", "plain", "--standard-alloc", "1g,1g,1", "--json")
    counts = [
        json.loads(run(capsys, *arguments, *more)[1])["standard"]["instances"] for more in ([], ["-G", "group-02"])
    ]
    alone = ("capacity", "--simulate", "p,4,100g,8g,8", *arguments[3:])
    assert counts[1] == json.loads(run(capsys, *alone)[1])["standard"]["instances"]
    assert counts[0] > counts[1] > 0
    off = json.loads(run(capsys, "squeeze", "-t", file, "--json", "-G", "group-02")[1])
    assert off["nodes"]
    assert all(name.startswith("node-02") for name in off["nodes"])


def test_output_that_nobody_reads_is_no_error_of_ours(file: Path) -> None:
    root = Path(cli.__file__).resolve().parents[2]
    command = [sys.executable, "-m", "twofold.cli", "balance", "--explain", "-t", str(file)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={"PYTHONPATH": str(root)}
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 1


def test_input_that_is_no_text(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "latin1"
    path.write_bytes(b"caf\xe9\n")
    for arguments in (["score", "-t", path], ["score", "-t", file, "-U", path], ["allocate", path]):
        status, out, err = run(capsys, *arguments)
        assert (status, out) == (1, "")
        assert "latin1: file: invalid continuation byte at byte 3; expected UTF-8 text" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "-t", "missing.data"], "missing.data: No such file or directory"),
        (["score", "-t", "BAD"], "BAD:1: line: has 1 fields; expected 4 to 5"),
        (["score", "-t", "FILE", "--offline", "ghost"], "unknown node 'ghost'"),
        (["balance", "-t", "FILE", "--group", "ghost"], "unknown node group 'ghost'"),
        (["balance", "-t", "FILE", "--max-copy", "much"], "--max-copy: size: is 'much'; expected a size as 4g"),
        (["balance", "-t", "FILE", "--exclude-instances", "ghost"], "unknown instance 'ghost'"),
        (["score", "-t", "FILE", "--util", "BAD"], "BAD:1: line: has 1 fields; expected instance cpu memory disk"),
        (["score", "-t", "FILE", "--util", "LOAD"], "LOAD:2: load: is '1 x 1 1'; expected four numbers"),
        (["balance", "-t", "FILE", "--rules", "BAD"], "BAD:1: JSON: Expecting value"),
        (
            ["balance", "-t", "FILE", "--rules", "GHOST"],
            "GHOST: ghost: expected the name of an instance",
        ),
        (["balance", "-t", "FILE", "--rules", "RULES"], 'RULES: inst000.avoid: is "x"; expected a list of strings'),
        (["balance", "-t", "FILE", "--weight", "x=1"], "--weight is about the wishes of --rules, which is missing"),
        (["balance", "-t", "FILE", "--rules", "NONE", "--weight", "x"], "weight: is 'x'; expected LABEL=NUMBER"),
        (["rolling", "-t", "FILE", "--node-tags", "ghost"], "no node is left to reboot"),
        (["capacity", "--simulate", "p,3,1g,1g"], "specification: has 4 fields; expected policy,count,disk"),
        (["capacity", "--simulate", "p,3,1g,1g,1", "--standard-alloc", "1g"], "expected DISK,MEMORY,CPUS"),
        (["allocate", "EMPTY"], "EMPTY: nodegroups: is missing; expected an object"),
        (["capacity"], "one of the arguments -t/--text-data -I/--ialloc-src --simulate is required"),
        (["capacity", "-t", "FILE", "--simulate", "p,3,1g,1g,1"], "not allowed with argument -t/--text-data"),
        (["score", "-t", "FILE", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["score", "-t", "FILE", "--min-disk", "2"], "--min-disk: is '2'; expected a number from 0 to 1"),
        (["score", "-t", "FILE", "--max-cpu", "0"], "--max-cpu: is '0'; expected a number from 0.001"),
        (["balance", "-t", "FILE", "--min-gain", "nan"], "-g/--min-gain: is 'nan'; expected a number"),
        (["balance", "-t", "FILE", "-l", "1_0"], "--max-moves: is '1_0'; expected a whole number from -1"),
        (["balance", "-t", "FILE", "--method", "hbal", "--max-copy", "1g"], "which knows no --max-copy; leave one of"),
        (["balance", "-t", "FILE", "--method", "hbal", "--rules", "NONE"], "which knows no --rules; leave one of them"),
        (["balance", "-t", "FILE", "--method", "hbal", "--effort", "2"], "which knows no --effort; leave one of them"),
        (["squeeze", "-t", "FILE", "--group", "ghost"], "unknown node group 'ghost'"),
        (["capacity", "-t", "FILE", "--group", "ghost"], "unknown node group 'ghost'"),
        (["score", "-I", "EMPTY"], "EMPTY: nodegroups: is missing; expected an object"),
        (["score", "-t", "FILE", "--util", "NANS"], "NANS:1: load: is '1 nan 1 1'; expected four numbers"),
        (["capacity", "--simulate", "p,3,1_0g,1g,1"], "disk: is '1_0g'; expected a size as 4g"),
        (["capacity", "--simulate", "p,3,1g,1g,\u0663"], "cpus: is '\u0663'; expected a whole number"),
        (
            ["capacity", "--simulate", "p,3,1g,1g,1", "--tiered-alloc", "1g,1g,x"],
            "cpus: is 'x'; expected a whole number",
        ),
        (["allocate", "DEEP"], "DEEP: JSON: is nested too deeply; expected an iallocator message"),
        (["allocate", "NAN"], "NAN: JSON: NaN is not JSON; expected an iallocator message"),
        (["allocate", "DEEP", "-t", "FILE"], "DEEP: JSON: is nested too deeply; expected an iallocator request"),
        (["capacity", "--simulate", "x,3,1g,1g,1"], "policy: is 'x'; expected one of p, a, u"),
        (["allocate", "BAD"], "BAD:1: JSON: Expecting value"),
    ],
)
def test_errors(
    arguments: list[str], message: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    bad.write_text("nonsense\n\n\n\n")
    contents = {
        "LOAD": "inst000 1 1 1 1\ninst001 1 x 1 1\n",
        "GHOST": '{"ghost": {}}',
        "RULES": '{"inst000": {"avoid": "x"}}',
        "NONE": "{}",
        "EMPTY": "{}",
        "NANS": "inst000 1 nan 1 1\n",
        "DEEP": "[" * 100000,
        "NAN": '{"nodes": NaN}',
    }
    names = {"FILE": str(file), "BAD": str(bad)}
    for name, content in contents.items():
        names[name] = str(tmp_path / name.lower())
        Path(names[name]).write_text(content)
    status, out, err = run(capsys, *(names.get(word, word) for word in arguments))
    assert (status, out) == (1, "")
    for name, path in names.items():
        message = message.replace(f"{name}:", f"{path}:")
    assert message in err
