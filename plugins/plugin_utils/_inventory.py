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
from ansible_collections.twofold.cluster.plugins.plugin_utils._places import File

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
        ) from None  # Ansible would say the cause once more.


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
        self._read: dict[Path, File] = {}

    def locate(self, host: str, variable: str) -> str | None:
        """Return ``file:line`` of the place that sets ``variable`` for ``host``, or None."""
        for file, line in self._places(host, variable):
            if line is not None:
                return f"{file.path}:{line}"
            if file.encrypted:
                # It may be in there.
                return None
        return None

    def _places(self, host: str, variable: str) -> Iterator[tuple[File, int | None]]:
        """Yield the files that may set it, each with the line if it does, in Ansible's order of precedence."""
        groups, inventories = self._groups_of(host), [self._file(path) for path in self._inventories()]
        for file in map(self._file, self._variable_files("host_vars", host)):
            yield file, file.variable(variable)
        yield from ((file, file.of_host(host, variable)) for file in inventories)
        for group in groups:
            for file in map(self._file, self._variable_files("group_vars", group)):
                yield file, file.variable(variable)
        yield from ((file, file.of_group(group, variable)) for group in groups for file in inventories)

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
        yield from self._variable_files("host_vars", host)
        for group in self._groups_of(host):
            yield from self._variable_files("group_vars", group)
        # Another inventory need not be YAML.
        yield from (path for path in self._inventories() if path.suffix in YAML[1:])

    def _groups_of(self, host: str) -> list[str]:
        """Return the groups of a host, those that win first: the deepest, and of equal ones the last by name."""
        named = {str(group) for group, hosts in self._groups.items() if host in hosts} - {"all", "ungrouped"}
        parents: dict[str, set[str]] = {}
        for parent, child in (pair for path in self._inventories() for pair in self._file(path).children()):
            parents.setdefault(child, set()).update({parent} - {"all"})

        def depth(group: str) -> int:
            return max((depth(parent) + 1 for parent in parents.get(group, ())), default=0)

        return [*sorted(named, key=lambda group: (depth(group), group), reverse=True), "all"]

    def _variable_files(self, folder: str, name: str) -> Iterator[Path]:
        for source in reversed(self._sources):
            base = (source if source.is_dir() else source.parent) / folder
            yield from sorted((base / name).glob("**/*.y*ml"), reverse=True)
            yield from (path for path in (base / name, *(base / f"{name}{end}" for end in YAML[1:])) if path.is_file())

    def _inventories(self) -> Iterator[Path]:
        for source in reversed(self._sources):
            inside = [path for path in sorted(source.glob("*"), reverse=True) if path.suffix in (*YAML, ".ini")]
            yield from (path for path in inside or [source] if path.is_file())

    def _file(self, path: Path) -> File:
        if path not in self._read:
            self._read[path] = File(path)
        return self._read[path]


def _fault(path: Path) -> str | None:
    """Return what keeps a file from being read as YAML; None if nothing does, or if only its values are wrong."""
    try:
        twice = _twice(yaml.compose(path.read_text(encoding="utf-8")))
        return f"{path}:{twice.start_mark.line + 1}: {twice.value} is there twice" if twice is not None else None
    except UnicodeDecodeError as error:
        return f"{path}: it is no UTF-8 ({error.reason} at byte {error.start})"
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        return f"{path}{line}: {error.problem or error}"
    except RecursionError:
        return f"{path}: it is nested too deeply"
    except (yaml.YAMLError, OSError) as error:
        return f"{path}: {error}"


def _twice(node: yaml.Node | None) -> yaml.ScalarNode | None:
    """Return the first key that a mapping has for the second time."""
    seen: set[str] = set()
    for key, value in node.value if isinstance(node, yaml.MappingNode) else []:
        if isinstance(key, yaml.ScalarNode) and key.value in seen:
            return key
        seen.add(str(key.value))
        if (found := _twice(value)) is not None:
            return found
    for one in node.value if isinstance(node, yaml.SequenceNode) else []:
        if (found := _twice(one)) is not None:
            return found
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
