# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""./test and tools/setup tell what they know, and ./test tells the truth about what it ran."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest


def run(*argv: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    # Git tells its hooks where the repository is; a copy of the repository must not believe that.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """Return a checkout with nothing but ./test, a set-up that has nothing to do, and one unit test each way."""
    top = tmp_path / "a checkout"
    (top / "tools").mkdir(parents=True)
    (top / "tests/unit").mkdir(parents=True)
    for name in ("test", "pyproject.toml", ".shellcheckrc"):
        shutil.copy(root / name, top)
    (top / ".venv").symlink_to(root / ".venv")
    setup = top / "tools/setup"
    setup.write_text("#!/usr/bin/env bash\nexit 0\n")
    setup.chmod(0o755)
    (top / "tests/unit/test_it.py").write_text(
        "import pytest\n"
        "def test_right(): assert True\n"
        "def test_wrong(): assert False\n"
        "def test_left(): pytest.skip('not here')\n"
    )
    return top


def test_help_names_every_part(root: Path) -> None:
    done = run(root / "test", "--help")
    assert done.returncode == 0
    for part in ("nightly", "lint", "unit", "sanity", "simulation", "differential", "lab", "bench"):
        assert f"./test {part}" in done.stdout


def test_an_unknown_part_is_refused(root: Path) -> None:
    done = run(root / "test", "everything")
    assert done.returncode == 2
    assert "everything" in done.stdout


def test_setup_refuses_what_it_does_not_know(root: Path) -> None:
    done = run(root / "tools/setup", "--fast")
    assert done.returncode == 1
    assert "--fast" in done.stdout


def test_a_failed_test_fails_the_run(checkout: Path) -> None:
    done = run(checkout / "test", "unit")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "1 passed, 1 failed, 1 skipped"


def test_arguments_go_to_pytest(checkout: Path) -> None:
    done = run(checkout / "test", "unit", "-k", "right")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "1 passed, 0 failed, 0 skipped"
    assert re.search(r"^unit +[0-9]+ s +1 passed +0 failed", done.stdout, re.MULTILINE)


def test_a_stage_in_which_nothing_ran_has_failed(checkout: Path) -> None:
    done = run(checkout / "test", "unit", "-k", "nothing")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"


def test_a_broken_test_file_fails_the_run(checkout: Path) -> None:
    (checkout / "tests/unit/test_broken.py").write_text("import no_such_module_anywhere\n")
    done = run(checkout / "test", "unit")
    assert done.returncode == 1


def test_a_failed_setup_ends_the_part(checkout: Path) -> None:
    (checkout / "tools/setup").write_text("#!/usr/bin/env bash\nexit 1\n")
    done = run(checkout / "test", "unit")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"
    assert "pytest" not in done.stdout


def test_every_failed_check_of_lint_counts(checkout: Path) -> None:
    run("git", "init", "--quiet", checkout)
    (checkout / ".venv").unlink()
    tools = checkout / ".venv/bin"
    tools.mkdir(parents=True)
    for name in ("ansible-doc", "ansible-lint", "antsibull-changelog", "mypy", "yamllint"):
        (tools / name).write_text("#!/bin/sh\nexit 0\n")
    (tools / "ruff").write_text("#!/bin/sh\necho this is wrong\nexit 3\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    done = run(checkout / "test", "lint")
    assert done.returncode == 1
    assert "this is wrong" in done.stdout
    assert re.findall(r"^FAILED  (.*?) \(", done.stdout, re.MULTILINE) == ["ruff check", "ruff format"]
    passed = len(re.findall(r"^ok      ", done.stdout, re.MULTILINE))
    assert passed >= 8
    assert done.stdout.splitlines()[-1] == f"{passed} passed, 2 failed, 0 skipped"
