# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module is documented, shown by examples and tested."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

BLOCKS = ("DOCUMENTATION", "EXAMPLES", "RETURN")
ATTRIBUTES = ("check_mode", "diff_mode")


def blocks(path: Path) -> dict[str, str]:
    """Return the documentation strings of a plugin without importing it."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id in BLOCKS:
                    found[target.id] = str(node.value.value)
    return found


def attributes(root: Path, documentation: dict[str, Any]) -> set[str]:
    """Return the names of the attributes that a module documents, its fragments included."""
    names = set(documentation.get("attributes", {}))
    for fragment in documentation.get("extends_documentation_fragment", []):
        stem, _dot, part = fragment.removeprefix("twofold.cluster.").partition(".")
        tree = ast.parse((root / f"plugins/doc_fragments/{stem}.py").read_text())
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Constant)
                and any(
                    isinstance(target, ast.Name) and target.id == (part or "documentation").upper()
                    for target in node.targets
                )
            ):
                names |= set(yaml.safe_load(str(node.value.value)).get("attributes", {}))
    return names


@pytest.fixture(scope="module")
def documented(root: Path, modules: list[Path]) -> dict[str, dict[str, str]]:
    """Return the documentation of every module."""
    assert modules
    return {path.stem: blocks(root / path) for path in modules}


def test_every_module_has_its_documentation(documented: dict[str, dict[str, str]]) -> None:
    lacking = [f"{name}: {block}" for name, found in documented.items() for block in BLOCKS if not found.get(block)]
    assert lacking == []


def test_the_documentation_is_of_the_module(documented: dict[str, dict[str, str]]) -> None:
    wrong = [name for name, found in documented.items() if yaml.safe_load(found["DOCUMENTATION"])["module"] != name]
    assert wrong == []


def test_every_module_says_how_it_takes_check_mode_and_diff(root: Path, documented: dict[str, dict[str, str]]) -> None:
    lacking = [
        f"{name}: {attribute}"
        for name, found in documented.items()
        for attribute in ATTRIBUTES
        if attribute not in attributes(root, yaml.safe_load(found["DOCUMENTATION"]))
    ]
    assert lacking == []


def test_examples_are_tasks_that_use_the_module(documented: dict[str, dict[str, str]]) -> None:
    wrong = []
    for name, found in documented.items():
        tasks = yaml.safe_load(found["EXAMPLES"])
        if not isinstance(tasks, list) or not all(isinstance(task, dict) and task.get("name") for task in tasks):
            wrong.append(f"{name}: not a list of named tasks")
        elif f"twofold.cluster.{name}" not in found["EXAMPLES"]:
            wrong.append(f"{name}: no example uses it")
    assert wrong == []


def test_every_module_has_a_test(texts: dict[Path, str], modules: list[Path]) -> None:
    tests = {
        path: text
        for path, text in texts.items()
        if path.parts[0] == "tests" and path.suffix in {".py", ".yml"} and "repository" not in path.parts
    }
    untested = []
    for module in modules:
        names = (
            f"plugins.modules.{module.stem}",
            f"plugins.modules import {module.stem}",
            f"plugins.action.{module.stem}",
            f"plugins.action import {module.stem}",
            f"twofold.cluster.{module.stem}",
        )
        if not any(name in text for text in tests.values() for name in names):
            untested.append(module.stem)
    assert untested == []
