# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may import whom, as docs/architecture.md lays it down."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

COLLECTION = "ansible_collections.twofold.cluster"
NODE_FOLDERS = ("plugins/modules", "plugins/module_utils")
PRIVATE_FOLDERS = ("plugins/module_utils", "plugins/plugin_utils", "plugins/doc_fragments")


def python_files(paths: list[Path], *folders: str) -> list[Path]:
    return [
        path for path in paths if path.suffix == ".py" and path.as_posix().startswith(tuple(f"{f}/" for f in folders))
    ]


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the absolute names that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def top_level_imports(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from imports(ast.Module([node], []))


def read(root: Path, path: Path) -> ast.Module:
    return ast.parse((root / path).read_text(), str(path))


def test_the_core_knows_nothing_of_ansible(root: Path, paths: list[Path]) -> None:
    files = python_files(paths, "lib/twofold")
    assert files
    wrong = [
        f"{path}: {name}"
        for path in files
        for name in imports(read(root, path))
        if name.split(".")[0] in {"ansible", "ansible_collections", "twofold"}
    ]
    assert wrong == [], "lib/twofold imports itself relatively, and never Ansible"


def test_one_door_leads_from_the_plugins_to_the_core(root: Path, paths: list[Path]) -> None:
    files = python_files(paths, "plugins")
    wrong = [
        f"{path}: {name}"
        for path in files
        if path != Path("plugins/plugin_utils/_lib.py")
        for name in imports(read(root, path))
        if name.startswith((f"{COLLECTION}.lib", "twofold"))
    ]
    assert wrong == []


def test_a_node_needs_nothing_but_the_standard_library(root: Path, paths: list[Path]) -> None:
    files = python_files(paths, *NODE_FOLDERS)
    assert files
    ours = ("ansible.module_utils.", f"{COLLECTION}.plugins.module_utils.")
    wrong = [
        f"{path}: {name}"
        for path in files
        for name in imports(read(root, path))
        if name.split(".")[0] not in sys.stdlib_module_names
        and not name.startswith(ours)
        and name.split(".")[0] not in {"libvirt", "libvirt_qemu"}
    ]
    assert wrong == []


def test_libvirt_is_imported_only_when_it_is_needed(root: Path, paths: list[Path]) -> None:
    wrong = [
        str(path)
        for path in python_files(paths, *NODE_FOLDERS)
        for name in top_level_imports(read(root, path))
        if name.split(".")[0] in {"libvirt", "libvirt_qemu"}
    ]
    assert wrong == []


def test_helpers_are_private(paths: list[Path]) -> None:
    public = [str(path) for path in python_files(paths, *PRIVATE_FOLDERS) if not path.name.startswith("_")]
    assert public == []
