# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every code of a finding is in the one table, which the documentation shows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tools import codes as tables

from twofold import codes
from twofold.findings import ERROR, SEVERITIES
from twofold.health import configuration

CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# Who makes findings, with the places among the arguments where the code may be.
MAKERS = {
    "Finding": (1,), "Impossible": (0,), "Problem": (0,), "_error": (0, 1, 2), "_known": (3,), "_report": (0,),
    "_wrong": (1, 2), "error": (0, 1), "info": (0,), "once": (1,), "warning": (0,),
}  # fmt: skip
# What judges a node's configuration; verify shows its codes with `node-` before them.
BOOTSTRAP = ("lib/twofold/nodeconfig/", "plugins/")
# Every error type of Ganeti 3.1's cluster verify (lib/constants, CV_ALL_ECODES_STRINGS).
GANETI = """
ECLUSTERCFG ECLUSTERCERT ECLUSTERCLIENTCERT ECLUSTERFILECHECK ECLUSTERDANGLINGNODES ECLUSTERDANGLINGINST
EINSTANCEBADNODE EINSTANCEDOWN EINSTANCELAYOUT EINSTANCEMISSINGDISK EINSTANCEFAULTYDISK EINSTANCEWRONGNODE
EINSTANCESPLITGROUPS EINSTANCEPOLICY EINSTANCEUNSUITABLENODE EINSTANCEMISSINGCFGPARAMETER
ENODEDRBD ENODEDRBDVERSION ENODEDRBDHELPER ENODEFILECHECK ENODEHOOKS ENODEHV ENODELVM ENODEN1 ENODENET ENODEOS
ENODEORPHANINSTANCE ENODEORPHANLV ENODERPC ENODESSH ENODEVERSION ENODESETUP ENODETIME ENODEOOBPATH ENODEUSERSCRIPTS
ENODEFILESTORAGEPATHS ENODEFILESTORAGEPATHUNUSABLE ENODESHAREDFILESTORAGEPATHUNUSABLE
ENODEGLUSTERSTORAGEPATHUNUSABLE EGROUPDIFFERENTPVSIZE EEXTAGS
"""


def _names(function: ast.expr) -> set[str]:
    """Return what is called: a name, or one of two."""
    if isinstance(function, ast.IfExp):
        return _names(function.body) | _names(function.orelse)
    return {function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")}


def _texts(nodes: Iterable[ast.AST | None]) -> list[str]:
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def emitted(tree: ast.AST) -> Iterator[str]:
    """Yield the codes that a file's findings have, as far as they are written where the finding is made."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            places = {place for name in _names(node.func) for place in MAKERS.get(name, ())}
            texts = _texts(argument for place, argument in enumerate(node.args) if place in places)
            yield from [text for text in texts if CODE.fullmatch(text) and text not in SEVERITIES][:1]
            yield from _texts(keyword.value for keyword in node.keywords if keyword.arg == "code")
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and _names(node.targets[0]) == {"CODES"}:
            yield from _texts(node.value.values)


def sources(root: Path, paths: list[Path]) -> list[Path]:
    parts = ("lib/twofold/", "plugins/module_utils/_config", "plugins/action/")
    without = ("lib/twofold/placement/", "lib/twofold/cli", "lib/twofold/codes")
    return [
        root / path
        for path in paths
        if path.suffix == ".py" and path.as_posix().startswith(parts) and not path.as_posix().startswith(without)
    ]


@pytest.fixture(scope="module")
def found(root: Path, paths: list[Path]) -> dict[str, str]:
    """Return every code that is emitted, as verify shows it, with a file that does."""
    codes_of: dict[str, str] = {}
    for path in sources(root, paths):
        place = path.relative_to(root).as_posix()
        prefix = "node-" if place.startswith(BOOTSTRAP) else ""
        codes_of |= {prefix + code: place for code in emitted(ast.parse(path.read_text(encoding="utf-8")))}
    return {code: place for code, place in codes_of.items() if code.removeprefix("node-") not in configuration.TOLD}


def test_every_code_is_in_the_table(found: dict[str, str]) -> None:
    missing = {code: place for code, place in found.items() if code not in codes.ALL}
    assert missing == {}, "add it to lib/twofold/codes.py and run python -m tools.codes"


def test_the_table_has_no_code_that_nothing_has(root: Path, paths: list[Path], found: dict[str, str]) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in sources(root, paths))
    unused = [code for code in codes.ALL if code not in found and f'"{code.removeprefix("node-")}"' not in text]
    assert unused == []


def test_every_code_is_provoked_by_a_test(root: Path, paths: list[Path]) -> None:
    """As far as that can be told by its name: in a test that names it, somebody has looked at what brings it about."""
    folders = ("tests/unit/", "tests/simulation/test_")
    tests = [path for path in paths if path.suffix == ".py" and path.as_posix().startswith(folders)]
    text = "".join((root / path).read_text(encoding="utf-8") for path in tests if "repository" not in path.parts)
    ours = "".join((root / path).read_text(encoding="utf-8") for path in tests if "nodeconfig" in path.parts)
    bootstrap = {code for code in codes.ALL if f'"{code.removeprefix("node-")}"' in ours and code.startswith("node-")}
    assert [code for code in codes.ALL if f'"{code}"' not in text and code not in bootstrap] == []


def test_the_documentation_shows_the_table(root: Path) -> None:
    page = (root / "docs/playbooks/verify.md").read_text(encoding="utf-8")
    assert tables.MARK in page
    assert tables.text(page) == page, "run python -m tools.codes"


BAD_DAY = ("Replication", "Definitions", "Instances", "Left over", "Nodes")
# Where the verbs of a bad day make their errors; those of other playbooks are in their subject too.
RESCUE = (
    "abandon",
    "activate",
    "failover",
    "named",
    "proof",
    "put_back",
    "recreate",
    "replace",
    "secondary",
    "survivor",
)
PLANNER = "lib/twofold/planner"
OUR_CALL = re.compile(r"INV\.(\w+)((?: -e \w+=\S+)*)")


def test_what_stops_a_cluster_stands_in_the_page_for_the_bad_day(root: Path) -> None:
    page = (root / "docs/operations.md").read_text(encoding="utf-8")
    errors = [name for subject in BAD_DAY for name, code in codes.SUBJECTS[subject].items() if ERROR in code.severity]
    rescue = {code for name in RESCUE for code in emitted(ast.parse((root / PLANNER / f"{name}.py").read_text()))}
    others = [name for name, code in codes.SUBJECTS["Other playbooks"].items() if ERROR in code.severity]
    errors += [name for name in others if name in rescue]
    assert [name for name in errors if f"`{name}`" not in page] == []
    assert [name for name in re.findall(r"^\| `([a-z-]+)`", page, re.MULTILINE) if name not in codes.ALL] == []


def test_each_command_for_the_bad_day_is_a_playbook_that_takes_its_variables(root: Path) -> None:
    calls = OUR_CALL.findall((root / "docs/operations.md").read_text(encoding="utf-8"))
    assert len(calls) > 30
    for name, given in calls:
        variables = re.findall(r"-e (\w+)=", given)
        playbook = (root / f"playbooks/{name}.yml").read_text(encoding="utf-8")
        described = (root / f"docs/playbooks/{name}.md").read_text(encoding="utf-8")
        assert [one for one in variables if not re.search(rf"\b{one}\b", playbook)] == [], name
        assert [one for one in variables if f"{one}=" not in described] == [], name


def test_codes_are_well_formed_and_of_one_subject() -> None:
    assert sum(len(found) for found in codes.SUBJECTS.values()) == len(codes.ALL)
    wrong = [name for name in codes.ALL if not CODE.fullmatch(name)]
    assert wrong == []
    severities = {severity for code in codes.ALL.values() for severity in code.severity.split(", ")}
    assert severities == set(SEVERITIES)


def test_every_error_type_of_ganeti_has_a_counterpart() -> None:
    named = {name for code in codes.ALL.values() for name in code.ganeti}
    types = set(GANETI.split())
    assert named <= types
    assert sorted(types - named - set(codes.NO_COUNTERPART)) == []
    assert named & set(codes.NO_COUNTERPART) == set()
