# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The placement engine: where instances go, how good a placement is, and how to make it better.

Pure: it reads no files, asks no clock and draws no chance. place() is what a planner needs for new instances.

A name is loaded from its module when it is first asked for: NumPy and the whole engine cost a start more than most
users of a part need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .affinity import Rules
    from .errors import DataError, PlacementError, RequestError
    from .explain import Verdict
    from .model import AllocPolicy, Cluster, Group, Instance, Node, Policy, Spec
    from .placing import Placement, PlaceOptions, Request, place

__all__ = [
    "AllocPolicy",
    "Cluster",
    "DataError",
    "Group",
    "Instance",
    "Node",
    "PlaceOptions",
    "Placement",
    "PlacementError",
    "Policy",
    "Request",
    "RequestError",
    "Rules",
    "Spec",
    "Verdict",
    "place",
]
_MODULES = ("model", "errors", "affinity", "explain", "placing")


def __getattr__(name: str) -> object:
    if name in __all__:
        for module in (import_module(f".{module}", __name__) for module in _MODULES):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
