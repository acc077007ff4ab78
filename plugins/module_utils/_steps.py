# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The registry of steps, and how a step gets its arguments and says what it did."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

from ._errors import OTHER_VERSION, UsageError
from ._node import Node


class Done(NamedTuple):
    """What a step did."""

    changed: bool
    message: str
    data: dict[str, Any] = {}


def changed(message: str, **data: Any) -> Done:
    return Done(True, message, data)


def unchanged(message: str = "as wanted") -> Done:
    return Done(False, message)


class Args:
    """The arguments of a step, each read by its kind; what is missing or wrong is named."""

    def __init__(self, op: str, values: dict[str, Any]) -> None:
        self.op = op
        self.values = values

    def _take(self, name: str, kind: type | tuple[type, ...], word: str) -> Any:
        value = self.values.get(name)
        if value is None or not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            found = "nothing" if value is None else type(value).__name__
            raise UsageError(f"step {self.op}: argument {name!r} should be {word}, it is {found}", OTHER_VERSION)
        return value

    def text(self, name: str) -> str:
        value: str = self._take(name, str, "a text")
        return value

    def integer(self, name: str) -> int:
        value: int = self._take(name, int, "a whole number")
        return value

    def number(self, name: str, default: float) -> float:
        if self.values.get(name) is None:
            return default
        return float(self._take(name, (int, float), "a number"))

    def flag(self, name: str, default: bool = False) -> bool:
        if self.values.get(name) is None:
            return default
        return bool(self._take(name, bool, "true or false"))

    def optional_text(self, name: str) -> str | None:
        return None if self.values.get(name) is None else self.text(name)

    def optional_integer(self, name: str) -> int | None:
        return None if self.values.get(name) is None else self.integer(name)

    def mapping(self, name: str) -> dict[str, Any]:
        value: dict[str, Any] = self._take(name, dict, "a mapping")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts; empty when it is missing."""
        if self.values.get(name) is None:
            return []
        return [str(one) for one in self._take(name, list, "a list")]

    def parts(self, name: str) -> list[Args]:
        """A list of mappings, each to be read in the same way; empty when it is missing."""
        if self.values.get(name) is None:
            return []
        found = self._take(name, list, "a list")
        if not all(isinstance(one, dict) for one in found):
            raise UsageError(f"step {self.op}: argument {name!r} should be a list of mappings", OTHER_VERSION)
        return [Args(f"{self.op} {name}", one) for one in found]


Function = Callable[[Node, Args], Done]
# Steps that are in modules of their own, because most calls need none of them.
COPIES = (
    "volumes.set_aside", "volumes.put_back", "volumes.keep", "volumes.owe_install", "replication.detach",
    "replication.disconnect", "replication.wait", "replication.discard",
)  # fmt: skip
MIGRATION = ("domain.migrate", "domain.present", "domain.resume", "domain.discard")
GROWTH = ("volumes.grow", "replication.resize", "domain.resize")
REGISTRY: dict[str, Function] = {}


def step(op: str) -> Callable[[Function], Function]:
    """Puts a function into the registry."""

    def register(function: Function) -> Function:
        REGISTRY[op] = function
        return function

    return register


def find(op: str) -> Function:
    """The function of a step. The module that has it is imported now, and no other."""
    if _module(op) is None or op not in REGISTRY:
        raise UsageError(f"there is no step {op!r}", "use the same version of Twofold for the plan and for applying it")
    return REGISTRY[op]


def _module(op: str) -> object:
    """The module of a step, None if there is none. Ansible finds only imports that are written out."""
    area = op.split(".", 1)[0]
    if op in COPIES:
        from . import _steps_copies

        return _steps_copies
    if op in GROWTH:
        from . import _steps_grow

        return _steps_grow
    if area == "volumes":
        from . import _steps_volumes

        return _steps_volumes
    if area == "replication":
        from . import _steps_replication

        return _steps_replication
    if op in MIGRATION:
        from . import _steps_migration

        return _steps_migration
    if area == "domain":
        from . import _steps_domain

        return _steps_domain
    if area in ("image", "os", "seed"):
        from . import _steps_os

        return _steps_os
    if area == "maintenance":
        from . import _steps_maintenance

        return _steps_maintenance
    if area == "rolling":
        from . import _steps_rolling

        return _steps_rolling
    if area in ("definition", "journal"):
        from . import _steps_definition

        return _steps_definition
    return None
