# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module documents is what it takes."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import yaml

MODULES = (
    "drbd_resource", "instance", "instance_migrate", "node_apply", "node_facts", "os_image", "os_install", "volume",
)  # fmt: skip


class Captured:
    """Stands where the binding to AnsibleModule is, and keeps the options."""

    spec: dict[str, Any] = {}

    def __init__(self, spec: dict[str, Any], **_constraints: Any) -> None:
        Captured.spec = spec

    def execute(self, _work: object) -> None:
        return


def described(options: dict[str, Any], inner: str) -> dict[str, Any]:
    """The part of options that both sides have, in one form."""
    return {
        name: {
            "type": option.get("type", "str"),
            "required": option.get("required", False),
            "default": option.get("default"),
            "choices": option.get("choices"),
            "elements": option.get("elements"),
            "options": described(option[inner], inner) if option.get(inner) else None,
        }
        for name, option in options.items()
    }


@pytest.mark.parametrize("name", MODULES)
def test_documented_options_are_the_options(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"ansible_collections.twofold.cluster.plugins.modules.{name}")
    monkeypatch.setattr(module, "Binding", Captured)
    module.main()
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert described(documented, "suboptions") == described(Captured.spec, "options")


@pytest.mark.parametrize("name", MODULES)
def test_examples_use_options_that_exist(name: str) -> None:
    module = importlib.import_module(f"ansible_collections.twofold.cluster.plugins.modules.{name}")
    known = set(yaml.safe_load(module.DOCUMENTATION)["options"])
    tasks = yaml.safe_load(module.EXAMPLES)
    used = [set(task[f"twofold.cluster.{name}"]) for task in tasks if f"twofold.cluster.{name}" in task]
    assert used
    assert all(options <= known for options in used)
