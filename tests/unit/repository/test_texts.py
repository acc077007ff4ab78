# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing in the files belongs to one person's machine, and what documents name exists."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path

from twofold import variables

ROOT = Path(__file__).resolve().parents[3]
# Folders that every machine has: a checkout in one of them says nothing about the machine.
STANDARD = {
    "/", "bin", "boot", "dev", "etc", "lib", "media", "mnt", "opt", "proc", "root", "run", "sbin", "srv", "sys", "tmp",
    "usr", "var",
}  # fmt: skip
# What lies beside this checkout, or above it, on the machine where it is tested.
AROUND = "|".join(re.escape(part) for part in sorted({"home", "Users", *ROOT.parts[:-1]} - STANDARD))
# A folder of one user of one machine. What is in the superuser's own .ssh on a node is meant.
SUPERUSER = re.escape(pwd.getpwuid(0).pw_dir)
HOMES = re.compile(rf"(?<![\w.@}}])/(?:{AROUND})/[A-Za-z0-9_.-]+|(?<![\w.@}}]){SUPERUSER}/\.(?!ssh)\w+|\.\w+env/shims")
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?P<target>[^)#\s]+)(?:#[^)\s]*)?\)")
OUR_COMMAND = re.compile(r"(?:^|[\s;&|(])(?P<path>\./[\w./-]+|(?:tests|tools)/[\w/-]+)(?=[\s;&|)]|$)")
PLAYBOOK = re.compile(
    r"\bansible-playbook\b[^\n]*?\s(?:playbooks/(?P<file>[\w-]+)\.yml|twofold\.cluster\.(?P<name>\w+))"
)
# A variable by its whole name; 'twofold_replication_*' and 'twofold_...' mean several.
VARIABLE = re.compile(r"\btwofold_[a-z0-9_]*[a-z0-9]\b(?!\*|\.\.)")
SHELL = {"", "sh", "bash", "console", "shell", "text"}


def documents(texts: dict[Path, str]) -> dict[Path, str]:
    found = {path: text for path, text in texts.items() if path.suffix == ".md"}
    assert Path("README.md") in found
    return found


def commands(text: str) -> str:
    """Return the commands of a document's shell blocks: the lines after a prompt, or all where there is none."""
    lines: list[str] = []
    for fence in FENCE.finditer(text):
        if fence["language"] in SHELL:
            body = fence["body"].splitlines()
            prompted = [line.lstrip()[2:] for line in body if line.lstrip().startswith(("$ ", "# "))]
            lines += prompted or body
    return "\n".join(lines)


def test_no_path_of_one_machine(texts: dict[Path, str]) -> None:
    found = [
        f"{path}: {match[0]}"
        for path, text in texts.items()
        if path != Path("tests/unit/repository/test_texts.py")
        for match in HOMES.finditer(text)
    ]
    assert found == []


def test_links_between_documents_lead_somewhere(root: Path, texts: dict[Path, str]) -> None:
    broken = [
        f"{path}: {match['target']}"
        for path, text in documents(texts).items()
        for match in LINK.finditer(text)
        if "://" not in match["target"]
        and not match["target"].startswith("mailto:")
        and not (root / path.parent / match["target"]).exists()
    ]
    assert broken == []


def test_commands_in_documents_exist(root: Path, texts: dict[Path, str]) -> None:
    wrong = []
    for path, text in documents(texts).items():
        for match in OUR_COMMAND.finditer(commands(text)):
            target = root / match["path"]
            if not (target.is_file() and os.access(target, os.X_OK)):
                wrong.append(f"{path}: {match['path']}")
    assert wrong == []


def test_playbooks_in_documents_exist(root: Path, texts: dict[Path, str]) -> None:
    wrong = []
    for path, text in documents(texts).items():
        for match in PLAYBOOK.finditer(text):
            name = match["file"] or match["name"]
            if not (root / f"playbooks/{name}.yml").is_file():
                wrong.append(f"{path}: {name}")
    assert wrong == []


def test_the_first_screen_of_the_readme_has_the_two_commands(root: Path) -> None:
    screen = "\n".join((root / "README.md").read_text().splitlines()[:60])
    assert "./demo" in screen
    assert "./test" in screen


def test_every_playbook_has_its_page(root: Path) -> None:
    playbooks = sorted(path.stem for path in (root / "playbooks").glob("[!_]*.yml"))
    assert playbooks
    assert [name for name in playbooks if not (root / f"docs/playbooks/{name}.md").is_file()] == []


def test_no_list_of_things_that_ansible_test_should_overlook(root: Path) -> None:
    assert list((root / "tests").glob("sanity/ignore-*")) == []


def test_variables_in_documents_exist(texts: dict[Path, str]) -> None:
    known = variables.known()
    unknown = [
        f"{path}: {match[0]}"
        for path, text in documents(texts).items()
        for match in VARIABLE.finditer(text)
        if match[0] not in known
    ]
    assert unknown == []
