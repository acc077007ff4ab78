# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said in several places is the same in all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

LINE = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?P<bound> >= [0-9.]+)?(?: *# (?P<reason>\S.*))?$")


def requirements(path: Path) -> list[re.Match[str]]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    matches = [LINE.match(line) for line in lines]
    wrong = [line for line, match in zip(lines, matches, strict=True) if match is None]
    assert wrong == [], f"{path.name}: not of the form 'name >= version  # reason'"
    return [match for match in matches if match]


def test_requirements_are_sorted_and_each_has_a_reason(root: Path) -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        found = requirements(root / name)
        names = [match["name"].lower() for match in found]
        assert names == sorted(set(names)), name
        assert [match["name"] for match in found if not match["reason"]] == [], name


def test_nothing_is_required_twice(root: Path) -> None:
    runtime = {match["name"].lower() for match in requirements(root / "requirements.txt")}
    development = {match["name"].lower() for match in requirements(root / "requirements-dev.txt")}
    assert runtime & development == set()


def test_the_execution_environment_gets_the_same_libraries(root: Path) -> None:
    wanted = {
        (match["name"], match["bound"])
        for match in requirements(root / "requirements.txt")
        if match["name"] != "ansible-core"
    }
    given = {(match["name"], match["bound"]) for match in requirements(root / "meta/ee-requirements.txt")}
    assert given == wanted


def test_one_version(root: Path) -> None:
    collection = yaml.safe_load((root / "galaxy.yml").read_text())["version"]
    package = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    library = re.search(r'^__version__ = "(.*)"$', (root / "lib/twofold/__init__.py").read_text(), re.MULTILINE)
    assert library is not None
    assert collection == package == library[1]


def test_the_action_group_holds_every_module(root: Path, modules: list[Path]) -> None:
    runtime = yaml.safe_load((root / "meta/runtime.yml").read_text())
    assert runtime["action_groups"]["cluster"] == sorted(path.stem for path in modules)


def test_the_execution_environment_files_exist(root: Path) -> None:
    dependencies = yaml.safe_load((root / "meta/execution-environment.yml").read_text())["dependencies"]
    assert all((root / name).is_file() for name in dependencies.values())


def test_ansible_core_is_asked_for_alike(root: Path) -> None:
    runtime = yaml.safe_load((root / "meta/runtime.yml").read_text())["requires_ansible"]
    bound = next(match["bound"] for match in requirements(root / "requirements.txt") if match["name"] == "ansible-core")
    assert runtime == bound.replace(" ", "") + ".0"


def test_continuous_integration_runs_exactly_the_tests(root: Path) -> None:
    script = root / ".ci/run"
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert commands == ['exec "$(dirname -- "${BASH_SOURCE[0]}")/../test"']
    assert script.stat().st_mode & 0o111


def test_every_test_is_run_by_a_stage(paths: list[Path]) -> None:
    folders = {("tests", stage) for stage in ("unit", "simulation", "differential", "lab")}
    stray = [str(path) for path in paths if path.match("test_*.py") and path.parts[:2] not in folders]
    assert stray == []
