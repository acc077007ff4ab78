# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory says, as plain data for the library. Private to the collection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError

PREFIX = "twofold_"
# Ansible's own variables that the library understands.
ANSIBLE = ("ansible_host", "group_names")
# A variable that cannot be templated is handed on as this, so that only its host suffers.
UNDEFINED = "\0undefined: "


def plain(value: Any) -> Any:
    """Return ``value`` without Ansible's tags and lazy containers."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def variables(task_vars: Mapping[str, Any], hosts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return our variables of each host, templated; a value that cannot be is a text that starts with UNDEFINED."""
    return {host: dict(_variables(task_vars["hostvars"][host])) for host in hosts}


def _variables(host_vars: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in host_vars:
        if name.startswith(PREFIX) or name in ANSIBLE:
            try:
                yield str(name), plain(host_vars[name])
            except AnsibleError as error:
                yield str(name), UNDEFINED + str(error)


class Sources:
    """Finds the file and line where a host's variable stands, as far as the inventory's files tell."""

    def __init__(self, task_vars: Mapping[str, Any]) -> None:
        self._sources = [Path(str(source)) for source in task_vars.get("ansible_inventory_sources") or []]
        self._hostvars = task_vars["hostvars"]

    def locate(self, host: str, variable: str) -> str | None:
        """Return ``file:line`` of the most specific place that sets ``variable`` for ``host``, or None."""
        definition = re.compile(rf"^[\s{{,'\"-]*{re.escape(variable)}['\"]?\s*[:=]|[{{,\s]{re.escape(variable)}\s*:")
        for path in self._files(host):
            for number, line in enumerate(_lines(path), start=1):
                if definition.search(line):
                    return f"{path}:{number}"
        return None

    def _files(self, host: str) -> Iterator[Path]:
        groups = [str(group) for group in reversed(list(self._hostvars[host].get("group_names", [])))]
        wanted = [("host_vars", host), *(("group_vars", group) for group in [*groups, "all"])]
        for folder, name in wanted:
            for source in self._sources:
                base = (source if source.is_dir() else source.parent) / folder
                yield from (
                    path for path in (base / name, base / f"{name}.yml", base / f"{name}.yaml") if path.is_file()
                )
                yield from sorted((base / name).glob("**/*.y*ml"))
        for source in self._sources:
            yield from (sorted(source.glob("*.y*ml")) if source.is_dir() else [source])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
