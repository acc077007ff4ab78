# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The library as pip installs it: a wheel, in a virtual environment of its own, with its command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

CLUSTER = """\
g|u|preferred||

n1|8192|0|8064|50000|49488|4|M|u|1
n2|8192|0|8192|50000|49488|4|N|u|1

i1|128|512|1|running|Y|n1|n2|drbd|

"""


def run(*command: object, cwd: Path) -> str:
    """Run a program in an environment that knows nothing of the checkout; returns what it prints."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the library, built from a copy and without the network."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "requirements.txt"):
        shutil.copy(root / name, source)
    shutil.copytree(root / "lib", source / "lib", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    offline = ("--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "wheel", *offline, "-w", target, ".", cwd=source)
    (built,) = target.glob("twofold-*.whl")
    return built


def test_the_wheel_has_every_file_of_the_library(wheel: Path, paths: list[Path]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    wanted = {str(path.relative_to("lib")) for path in paths if path.is_relative_to("lib/twofold")}
    assert wanted <= packed, sorted(wanted - packed)


def test_the_installed_command_answers(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, symlinks=True)
    python = home / "bin/python"
    offline = ("--no-deps", "--no-index", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", python, "install", *offline, wheel, cwd=tmp_path)
    # The libraries that it needs are here already; they come from the registry otherwise.
    site = sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)})
    (Path(site) / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (tmp_path / "c.data").write_text(CLUSTER)
    assert "usage: twofold" in run(home / "bin/twofold", "--help", cwd=tmp_path)
    scored = json.loads(run(home / "bin/twofold", "score", "-t", "c.data", "--json", cwd=tmp_path))
    assert scored["score"] > 0
    where = run(python, "-c", "import twofold; print(twofold.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(home)
    assert "score" in run(home / "bin/twofold", "score", "-t", "c.data", cwd=tmp_path)
