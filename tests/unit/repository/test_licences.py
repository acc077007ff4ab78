# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every file says whose it is and under which licence."""

from __future__ import annotations

from pathlib import Path

COPYRIGHT = "Copyright: The Twofold developers"
LICENCE = "SPDX-License-Identifier: GPL-3.0-or-later"
# Documents, data that has no comments, recordings of other programs' output, and what a tool writes.
WITHOUT = {".md", ".rst", ".json", ".svg", ".png", ".txt", ".xml", ".out", ".pem", ".typed", ".res"}
WITHOUT_NAMES = {"COPYING", ".gitignore", ".gitkeep", "changelog.yaml"}
WITH_NAMES = {"packages.txt", "requirements.txt", "requirements-dev.txt"}
WITHOUT_FOLDERS = {("tests", "unit", "fixtures"), ("changelogs", "fragments")}


def needs_header(path: Path, text: str) -> bool:
    if path.name in WITH_NAMES:
        return True
    if path.suffix in WITHOUT or path.name in WITHOUT_NAMES:
        return False
    if any(path.parts[: len(folder)] == folder for folder in WITHOUT_FOLDERS):
        return False
    return bool(text.strip())


def test_every_file_has_its_header(texts: dict[Path, str]) -> None:
    lacking = [
        str(path)
        for path, text in texts.items()
        if needs_header(path, text)
        and not all(any(line in head for head in text.splitlines()[:6]) for line in (COPYRIGHT, LICENCE))
    ]
    assert lacking == []


def test_the_licence_itself_is_here(root: Path) -> None:
    text = (root / "COPYING").read_text()
    assert "GNU GENERAL PUBLIC LICENSE" in text
    assert "Version 3, 29 June 2007" in text
