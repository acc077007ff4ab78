# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door from plugins to the library in ``lib/twofold``. Private to the collection.

What is asked for is imported then and not before: a play that only bootstraps nodes does not pay for the planner, and
one that only plans does not pay for cryptography.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ansible_collections.twofold.cluster.lib.twofold import (
        apply,
        arguments,
        capacity,
        fencing,
        inventory,
        nodeconfig,
        observed,
        pki,
        planner,
        report,
        secrets,
        shape,
        variables,
    )
    from ansible_collections.twofold.cluster.lib.twofold.errors import TwofoldError
    from ansible_collections.twofold.cluster.lib.twofold.findings import Finding
    from ansible_collections.twofold.cluster.lib.twofold.health import configuration
    from ansible_collections.twofold.cluster.lib.twofold.model import Desired
    from ansible_collections.twofold.cluster.lib.twofold.planner import Plan

LIBRARY = "ansible_collections.twofold.cluster.lib.twofold"
MODULES = {"configuration": "health.configuration"}
CLASSES = {"Desired": "model", "Finding": "findings", "Plan": "planner", "TwofoldError": "errors"}

__all__ = [
    "Desired",
    "Finding",
    "Plan",
    "TwofoldError",
    "apply",
    "arguments",
    "capacity",
    "configuration",
    "fencing",
    "inventory",
    "nodeconfig",
    "observed",
    "pki",
    "planner",
    "report",
    "secrets",
    "shape",
    "variables",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in CLASSES:
        return getattr(import_module(f"{LIBRARY}.{CLASSES[name]}"), name)
    return import_module(f"{LIBRARY}.{MODULES.get(name, name)}")
