# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The placement engine: where instances go, how good a placement is, and how to make it better.

Pure: it reads no files, asks no clock and draws no chance. place() is what a planner needs for new instances.
"""

from __future__ import annotations

from .affinity import Rules
from .errors import DataError, PlacementError, RequestError
from .explain import Verdict
from .model import AllocPolicy, Cluster, Group, Instance, Node, Policy, Spec
from .place import Placement, PlaceOptions, Request, place

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
