# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The placement engine: where instances go, how good a placement is, and how to make it better.

Pure: it reads no files, asks no clock and draws no chance. place() is what a planner needs for new instances.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .affinity import Rules
    from .errors import DataError, PlacementError, RequestError
    from .explain import Verdict
    from .model import AllocPolicy, Cluster, Group, Instance, Node, Policy, Spec
    from .place import Placement, PlaceOptions, Request, place

_HOMES = {
    "affinity": ("Rules",),
    "errors": ("DataError", "PlacementError", "RequestError"),
    "explain": ("Verdict",),
    "model": ("AllocPolicy", "Cluster", "Group", "Instance", "Node", "Policy", "Spec"),
    "place": ("PlaceOptions", "Placement", "Request", "place"),
}

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


def __getattr__(name: str) -> Any:
    """Load what is asked for: the command line must not wait for modules that its verb does not need."""
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
