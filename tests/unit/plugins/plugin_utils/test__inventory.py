# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a variable stands. Ansible itself is the judge: the line that is named is the one with the value it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.manager import VariableManager
from ansible_collections.twofold.cluster.plugins.plugin_utils._inventory import Sources

YAML = """
all:
  vars:
    twofold_a: all-inline
    twofold_h: all-inline
  children:
    nodes:
      hosts:
        node1: {twofold_a: node1-inline}
    instances:
      vars: {twofold_a: instances-inline, twofold_g: instances-inline}
      children:
        app:
          vars: {twofold_g: app-inline}
          hosts:
            web1:
              # twofold_b: commented-out
              twofold_a: web1-inline
              twofold_c: web1-inline
              twofold_d: {twofold_b: web1-nested}
            web10: &many
              twofold_c: web10-inline
            web11:
              <<: *many
            web[2:4]: {twofold_a: range-inline}
          # Later ones win.
        zoo:
          hosts:
            web1:
              twofold_f: web1-second
"""
INI = """
web1 twofold_a=web1-ungrouped
[nodes]
node1:22 twofold_a=node1-inline # twofold_b=commented-out
[app]
web1 twofold_c="web1-inline x" twofold_d=x
web10 twofold_c=web10-inline
web11
web[2:4] twofold_a=range-inline
; web1 twofold_b=commented-out
[zoo]
web1 twofold_f=web1-second
[app:vars]
twofold_g = app-inline
[instances:vars]
twofold_a=instances-inline
twofold_g=instances-inline
[instances:children]
app
zoo
[all:vars]
twofold_a=all-inline
twofold_h=all-inline
"""
FILES = {
    "group_vars/all.yml": "twofold_b: all-file\ntwofold_a: all-file\ntwofold_e: all-file\n",
    "group_vars/instances.yml": "# twofold_a: no\ntwofold_e: instances-file\ntwofold_c: instances-file\n",
    "group_vars/app/one.yml": "x: {twofold_e: no}\ntwofold_e: app-file\n",
    "group_vars/zoo.yml": "twofold_z: zoo-file\n",
    "host_vars/web1.yml": "x: 1\ntwofold_c: web1-file\n",
    "host_vars/web10.yml": "x: twofold_c\n",
}
VARIABLES = [f"twofold_{letter}" for letter in "abcdefghz"]
HOSTS = ["node1", "web1", "web10", "web11", "web2", "web4"]


class Inventory:
    """An inventory as Ansible reads it."""

    def __init__(self, folder: Path, name: str, text: str) -> None:
        for path, content in {name: text, **FILES}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content, encoding="utf-8")
        loader = DataLoader()
        self.inventory = InventoryManager(loader=loader, sources=[str(folder / name)])
        self.variables = VariableManager(loader=loader, inventory=self.inventory)
        groups = self.inventory.get_groups_dict()
        self.sources = Sources({"ansible_inventory_sources": [str(folder / name)], "groups": groups})

    def value(self, host: str, variable: str) -> Any:
        return self.variables.get_vars(host=self.inventory.get_host(host)).get(variable)

    def line(self, host: str, variable: str) -> str | None:
        """The text of the line that is named."""
        place = self.sources.locate(host, variable)
        if place is None:
            return None
        path, _colon, number = place.rpartition(":")
        return Path(path).read_text(encoding="utf-8").splitlines()[int(number) - 1]


@pytest.mark.parametrize(("name", "text"), [("hosts.yml", YAML), ("hosts", YAML), ("hosts", INI), ("hosts.ini", INI)])
def test_the_line_that_is_named_has_the_value_that_counts(tmp_path: Path, name: str, text: str) -> None:
    inventory = Inventory(tmp_path, name, text)
    told = 0
    for host in HOSTS:
        for variable in VARIABLES:
            value, line = inventory.value(host, variable), inventory.line(host, variable)
            if value is None:
                assert line is None, (host, variable)
            else:
                assert line is not None and variable in line, (host, variable, value)
                assert str(value if isinstance(value, str) else variable) in line, (host, variable, value)
                told += 1
    assert told > 30


def test_what_may_be_in_a_file_that_is_encrypted_is_said_to_be_nowhere(tmp_path: Path) -> None:
    inventory = Inventory(tmp_path, "hosts.yml", YAML)
    (tmp_path / "host_vars/web1.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n3665\n", encoding="utf-8")
    assert inventory.line("web1", "twofold_c") is None
    assert "all-file" in str(inventory.line("web2", "twofold_b"))


@pytest.mark.parametrize(
    "text", ["", "- x\n", "x: [\n", "web1: {hosts: [web1]}\n", "web[3: twofold_a=1\n", "web1 'x\n"]
)
def test_a_file_that_is_no_inventory_holds_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "hosts").write_text(text, encoding="utf-8")
    sources = Sources({"ansible_inventory_sources": [str(tmp_path / "hosts")], "groups": {"all": ["web1"]}})
    assert sources.locate("web1", "twofold_a") is None
