# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role's specification of its arguments is the truth about its variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(scope="module")
def roles(root: Path) -> list[Path]:
    """Return the folders of the roles."""
    found = sorted(path for path in (root / "roles").iterdir() if path.is_dir())
    assert found
    return found


def read(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}


def options(role: Path) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for entry in read(role / "meta/argument_specs.yml")["argument_specs"].values():
        merged |= entry.get("options") or {}
    return merged


def is_computed(value: object) -> bool:
    return isinstance(value, str) and "{{" in value


def test_every_role_is_complete(roles: list[Path]) -> None:
    wanted = ("README.md", "meta/main.yml", "meta/argument_specs.yml", "tasks/main.yml")
    lacking = [f"{role.name}: {name}" for role in roles for name in wanted if not (role / name).is_file()]
    assert lacking == []


def test_defaults_equal_the_specification(roles: list[Path]) -> None:
    wrong = []
    for role in roles:
        defaults = {name: value for name, value in read(role / "defaults/main.yml").items() if name[:2] != "__"}
        specified = options(role)
        wrong += [f"{role.name}: {name} has a default and no specification" for name in defaults.keys() - specified]
        for name, option in specified.items():
            if "default" in option:
                if name not in defaults:
                    wrong.append(f"{role.name}: {name} is specified with a default that defaults/main.yml lacks")
                elif defaults[name] != option["default"]:
                    wrong.append(
                        f"{role.name}: {name}: {defaults[name]!r} in defaults, {option['default']!r} specified"
                    )
            elif name in defaults and defaults[name] is not None and not is_computed(defaults[name]):
                wrong.append(f"{role.name}: {name}: the specification does not tell its default {defaults[name]!r}")
            if option.get("required") and name in defaults:
                wrong.append(f"{role.name}: {name} is required and has a default")
    assert wrong == []


def test_every_variable_is_described(roles: list[Path]) -> None:
    lacking = [
        f"{role.name}: {name}"
        for role in roles
        for name, option in options(role).items()
        if not option.get("description")
    ]
    assert lacking == []


def test_variables_carry_a_prefix_of_ours(roles: list[Path]) -> None:
    wrong = [
        f"{role.name}: {name}"
        for role in roles
        for name in [*options(role), *read(role / "defaults/main.yml"), *read(role / "vars/main.yml")]
        if not name.lstrip("_").startswith((f"{role.name}_", "twofold_"))
    ]
    assert wrong == []
