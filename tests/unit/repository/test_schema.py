# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The published JSON schema is that of the model, and editors get from it what the inventory's reader says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from twofold import schema, variables
from twofold.model import Cluster, Instance

YAML_BLOCK = re.compile(r"^```yaml\n# (?P<file>inventory/\S+)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    """Return a validator of a file of variables."""
    document = schema.document()
    Draft202012Validator.check_schema(document)
    return Draft202012Validator(document)


def host_variables(tree: object) -> list[dict[str, Any]]:
    """Return the variables of hosts and groups in an inventory in YAML."""
    found: list[dict[str, Any]] = []
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key == "vars" and value:
                found.append(value)
            elif key == "hosts":
                found += [host for host in (value or {}).values() if host]
            else:
                found += host_variables(value)
    return found


def test_the_published_schema_is_current(root: Path) -> None:
    published = json.loads((root / "docs/schema/inventory.json").read_text())
    assert published == schema.document(), "run: python -m tools.schema"


def properties(validator: Draft202012Validator) -> Mapping[str, Any]:
    assert isinstance(validator.schema, Mapping)
    found: Mapping[str, Any] = validator.schema["properties"]
    return found


def test_it_knows_every_variable(validator: Draft202012Validator) -> None:
    assert set(properties(validator)) == variables.known()


ROW = re.compile(r"^\| `(twofold_\w+)` \| (?:`([^`]*)`|[^|]*) \| \S", re.MULTILINE)


def test_every_variable_has_a_row_in_a_document(root: Path) -> None:
    rows = [row for page in sorted((root / "docs").glob("variables-*.md")) for row in ROW.findall(page.read_text())]
    assert {name for name, _default in rows} == variables.known()


def test_the_documents_show_the_defaults(root: Path) -> None:
    page = (root / "docs/variables-instance.md").read_text()
    shown = {name: yaml.safe_load(default) for name, default in ROW.findall(page) if default}
    for bare in (Cluster(), Instance(name="web1")):
        given = variables.values(type(bare), shown)
        assert given and type(bare).model_validate({"name": bare.name, **given}) == bare


def test_every_variable_is_described(validator: Draft202012Validator) -> None:
    assert [name for name, part in properties(validator).items() if not part.get("description")] == []


def test_the_inventories_here_are_valid(root: Path, paths: list[Path], validator: Draft202012Validator) -> None:
    files = [path for path in paths if path.parts[0] == "inventories" and path.suffix == ".yml"]
    assert files
    wrong = []
    for path in files:
        content = yaml.safe_load((root / path).read_text()) or {}
        is_variables = {"group_vars", "host_vars"} & set(path.parts)
        for found in [content] if is_variables else host_variables(content):
            wrong += [f"{path}: {error.message}" for error in validator.iter_errors(found)]
    assert wrong == []


def test_the_inventory_in_the_readme_is_valid(root: Path, validator: Draft202012Validator) -> None:
    blocks = list(YAML_BLOCK.finditer((root / "README.md").read_text()))
    assert {"inventory/hosts.yml", "inventory/group_vars/all.yml"} <= {block["file"] for block in blocks}
    wrong = []
    for block in blocks:
        content = yaml.safe_load(block["body"])
        for found in host_variables(content) if block["file"].endswith("hosts.yml") else [content]:
            wrong += [f"{block['file']}: {error.message}" for error in validator.iter_errors(found)]
    assert wrong == []


@pytest.mark.parametrize(
    "given",
    [
        {"twofold_memory": "2GiB", "ansible_host": "192.0.2.1"},
        {"twofold_memory": "{{ large }}"},
        {"twofold_disks": [{"size": "{{ size }}"}, {"size": "20GiB"}]},
        {"twofold_disks": "{{ disks }}"},
        {"twofold_networks": {"lan": {"bridge": "br-lan"}, "other": "{{ other }}"}},
    ],
)
def test_what_is_right_is_taken(validator: Draft202012Validator, given: dict[str, Any]) -> None:
    assert list(validator.iter_errors(given)) == []


@pytest.mark.parametrize(
    "given",
    [
        {"twofold_memmory": "2GiB"},
        {"twofold_memory": "much"},
        {"twofold_disks": [{"sise": "20GiB"}]},
        {"twofold_state": "paused"},
        {"twofold_networks": {"lan": {"cidr": "203.0.113.0/24"}}},
    ],
)
def test_what_is_wrong_is_marked(validator: Draft202012Validator, given: dict[str, Any]) -> None:
    assert list(validator.iter_errors(given)) != []
