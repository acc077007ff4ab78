# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests about the repository itself look at."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the top of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def paths(root: Path) -> list[Path]:
    """Return the files that git knows or would add, relative to the top."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    ).stdout.decode()
    found = sorted({Path(name) for name in listed.split("\0") if name})
    files = [path for path in found if (root / path).is_file()]
    assert Path("galaxy.yml") in files
    return files


@pytest.fixture(scope="session")
def texts(root: Path, paths: list[Path]) -> dict[Path, str]:
    """Return the text of every file that is text."""
    found = {}
    for path in paths:
        content = (root / path).read_bytes()
        if b"\0" not in content:
            found[path] = content.decode()
    return found


@pytest.fixture(scope="session")
def modules(paths: list[Path]) -> list[Path]:
    """Return the modules that users see."""
    return [
        path
        for path in paths
        if path.parent == Path("plugins/modules") and path.suffix == ".py" and not path.name.startswith("_")
    ]
