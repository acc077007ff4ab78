# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which line of a file of the inventory a variable is set. Private to the collection."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.inventory import expand_hostname_range

ENCRYPTED = "$ANSIBLE_VAULT;"
# A section of an inventory in INI: [web], [web:vars], [web:children].
SECTION = re.compile(r"\[([^:\]]+)(?::(\w+))?\]")


class File:
    """An inventory, or a file of variables. One that cannot be read holds nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._root: yaml.Node | None = None
        try:
            self._text = path.read_text(encoding="utf-8")
            self._root = yaml.compose(self._text) if not self.encrypted else None
        except (OSError, UnicodeDecodeError):
            self._text = ""
        except (yaml.YAMLError, RecursionError):
            # INI, perhaps.
            self._root = None

    @property
    def encrypted(self) -> bool:
        """Whether nobody can tell what it holds."""
        return self._text.startswith(ENCRYPTED)

    def variable(self, name: str) -> int | None:
        """Return the line of a variable in a file of variables."""
        return _line(self._root, name)

    def of_host(self, host: str, name: str) -> int | None:
        """Return the line where an inventory sets a variable of this host; the last one wins."""
        blocks = [pair for _group, hosts in _groups(self._root, "hosts") for pair in _pairs(hosts)]
        found = [_line(variables, name) for key, variables in blocks if _means(key.value, host)]
        found += [number for number, words in self._ini_hosts() if _means(words[0], host) and _sets(words, name)]
        return max((number for number in found if number is not None), default=None)

    def of_group(self, group: str, name: str) -> int | None:
        """Return the line where an inventory sets a variable of this group."""
        found = [_line(block, name) for key, block in _groups(self._root, "vars") if key == group]
        found += [
            number for number, section, kind, line in self._ini()
            if (section, kind) == (group, "vars") and line.partition("=")[0].strip() == name
        ]  # fmt: skip
        return max((number for number in found if number is not None), default=None)

    def children(self) -> Iterator[tuple[str, str]]:
        """Yield each group of an inventory with the groups in it, pair by pair."""
        for group, block in _groups(self._root, "children"):
            yield from ((group, key.value) for key, _value in _pairs(block))
        yield from ((group, line.strip()) for _number, group, kind, line in self._ini() if kind == "children")

    def _ini(self) -> Iterator[tuple[int, str, str, str]]:
        """Yield number, section, its kind and text of each line of an INI file."""
        section, kind = "", ""
        for number, line in enumerate([] if self._root is not None else self._text.splitlines(), start=1):
            if match := SECTION.match(line.strip()):
                section, kind = match[1], match[2] or ""
            elif not line.lstrip().startswith(("#", ";")):
                yield number, section, kind, line

    def _ini_hosts(self) -> Iterator[tuple[int, list[str]]]:
        for number, _section, kind, line in self._ini():
            try:
                words = shlex.split(line, comments=True) if not kind else []
            except ValueError:
                continue
            if words:
                yield number, [re.sub(r":\d+$", "", words[0]), *words[1:]]


def _groups(node: yaml.Node | None, kind: str) -> Iterator[tuple[str, yaml.Node]]:
    """Yield the name of every group of an inventory in YAML with its ``vars``, ``hosts`` or ``children``."""
    for name, group in _pairs(node):
        for key, value in _pairs(group):
            if key.value == kind:
                yield name.value, value
            if key.value == "children":
                yield from _groups(value, kind)


def _pairs(node: yaml.Node | None) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """Yield the keys and values of a mapping, after those that are merged into it."""
    pairs = (
        [pair for pair in node.value if isinstance(pair[0], yaml.ScalarNode)]
        if isinstance(node, yaml.MappingNode)
        else []
    )
    for key, value in pairs:
        if key.value == "<<":
            for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                yield from _pairs(merged)
    yield from (pair for pair in pairs if pair[0].value != "<<")


def _line(node: yaml.Node | None, name: str) -> int | None:
    lines = [key.start_mark.line + 1 for key, _value in _pairs(node) if key.value == name]
    return lines[-1] if lines else None


def _means(pattern: str, host: str) -> bool:
    """Tell whether a name of an inventory, which may be a range like web[1:9], means this host."""
    try:
        return pattern == host or ("[" in pattern and host in expand_hostname_range(pattern))
    except (AnsibleError, ValueError):
        return False


def _sets(words: list[str], name: str) -> bool:
    return any(word.startswith(f"{name}=") for word in words[1:])
