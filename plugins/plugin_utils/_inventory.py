# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory says, as plain data for the library. Private to the collection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError

PREFIX = "twofold_"
# Ansible's own variables that the library understands.
ANSIBLE = ("ansible_host", "group_names")
# A variable that cannot be templated is handed on as this, so that only its host suffers.
UNDEFINED = "\0undefined: "
# A few lines of aliases hold more values than a machine has room for.
LARGEST = 100_000
YAML = ("", ".yml", ".yaml", ".json")


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


def templated(name: str, task_vars: Mapping[str, Any], templar: Any) -> Any:
    """Return a variable of the task's host as plain data; None if it is not set.

    :raises AnsibleActionFail: it is a template that cannot be resolved.
    """
    try:
        return plain(templar.template(task_vars.get(name)))
    except AnsibleError as error:
        raise AnsibleActionFail(f"{name} cannot be templated: {error}. Define what it refers to.") from error


def variables(task_vars: Mapping[str, Any], hosts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return our variables of each host, templated; a value that cannot be is a text that starts with UNDEFINED.

    :raises AnsibleActionFail: a file with them cannot be read; the message names it.
    """
    return {host: _of_host(task_vars, host) for host in hosts}


def _of_host(task_vars: Mapping[str, Any], host: str) -> dict[str, Any]:
    try:
        return dict(_variables(task_vars["hostvars"][host]))
    except AnsibleError as error:
        found = "; ".join(Sources(task_vars).faults(host)) or str(error)
        raise AnsibleActionFail(
            f"The variables of {host} cannot be read: {found}. Nothing was done. Correct the file, then run this again."
        ) from error


def _variables(host_vars: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in host_vars:
        # YAML takes keys like 5 and on for no texts; as no name of ours is one, they are others'.
        if isinstance(name, str) and (name.startswith(PREFIX) or name in ANSIBLE):
            try:
                yield str(name), plain(host_vars[name])
            except AnsibleError as error:
                yield str(name), UNDEFINED + str(error)


class Sources:
    """Finds the file and line where a host's variable stands, as far as the inventory's files tell."""

    def __init__(self, task_vars: Mapping[str, Any]) -> None:
        self._sources = [Path(str(source)) for source in task_vars.get("ansible_inventory_sources") or []]
        self._groups = task_vars.get("groups") or {}

    def locate(self, host: str, variable: str) -> str | None:
        """Return ``file:line`` of the most specific place that sets ``variable`` for ``host``, or None."""
        definition = re.compile(rf"^[\s{{,'\"-]*{re.escape(variable)}['\"]?\s*[:=]|[{{,\s]{re.escape(variable)}\s*:")
        for path in self._files(host):
            for number, line in enumerate(_lines(path), start=1):
                if definition.search(line):
                    return f"{path}:{number}"
        return None

    def faults(self, host: str) -> Iterator[str]:
        """Yield what is wrong with the files of a host's variables, as ``file:line: what``."""
        for path in dict.fromkeys(self._files(host)):
            fault = _fault(path)
            if fault is not None:
                yield fault

    def mention(self, word: str) -> bool:
        """Return whether a word stands anywhere in the inventory's files."""
        whole = re.compile(rf"\b{re.escape(word)}\b")
        return any(whole.search(line) for path in self._all_files() for line in _lines(path))

    def refuse_bombs(self) -> None:
        """Look at the files with aliases before Ansible does, which would take all memory for them.

        :raises AnsibleActionFail: a file holds more than can be meant.
        """
        for path in self._all_files():
            lines = "\n".join(_lines(path))
            if "&" in lines and "*" in lines and _expanded(lines) > LARGEST:
                raise AnsibleActionFail(
                    f"{path}: with its aliases written out it holds more than {LARGEST} values. Nothing was done. "
                    "Write it without aliases of aliases, then run this again."
                )

    def _all_files(self) -> Iterator[Path]:
        for source in self._sources:
            yield from [source] if source.is_file() else source.glob("*")
            base = source if source.is_dir() else source.parent
            for folder in ("group_vars", "host_vars"):
                yield from (path for path in sorted((base / folder).rglob("*")) if path.suffix in YAML)

    def _files(self, host: str) -> Iterator[Path]:
        named = {str(group) for group, hosts in self._groups.items() if host in hosts} - {"all", "ungrouped"}
        groups = sorted(named, reverse=True)
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


def _fault(path: Path) -> str | None:
    """Return what keeps a file from being read as YAML; None if nothing does, or if only its values are wrong."""
    try:
        yaml.compose(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        return f"{path}: it is no UTF-8 ({error.reason} at byte {error.start})"
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        return f"{path}{line}: {error.problem or error}"
    except (yaml.YAMLError, RecursionError, OSError) as error:
        return f"{path}: {error}"
    return None


def _expanded(text: str) -> int:
    """Return how many values a text holds with its aliases written out; 0 for one that is no YAML."""
    sizes: dict[int, int] = {}

    def size(node: Any) -> int:
        if id(node) not in sizes:
            # One that holds itself has no end.
            sizes[id(node)] = LARGEST
            inner = node.value if isinstance(node, yaml.SequenceNode) else []
            if isinstance(node, yaml.MappingNode):
                inner = [one for pair in node.value for one in pair]
            sizes[id(node)] = 1 + sum(map(size, inner))
        return sizes[id(node)]

    try:
        return size(yaml.compose(text))
    except (yaml.YAMLError, RecursionError):
        # What it is instead, Ansible says.
        return 0


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
