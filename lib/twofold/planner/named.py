# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an operator names: instances and nodes, found or refused in words."""

from __future__ import annotations

from ..model import Instance
from ..observed import Trace
from .context import Context


def wanted(context: Context, name: str) -> Instance | None:
    """An instance of the inventory; None with a finding if there is none of this name."""
    found = context.desired.instances.get(name)
    if found is None and name not in context.desired.rejected:
        context.error("unknown-instance", name, "there is no such instance in the inventory", "correct the name")
    return found


def is_created(context: Context, trace: Trace) -> bool:
    """Whether an instance exists; a finding if not."""
    if trace.newest is None:
        context.error("not-created", trace.name, "it does not exist yet", "run site.yml first")
    return trace.newest is not None


def existing(context: Context, name: str) -> tuple[Instance, Trace] | None:
    """An instance that exists; None with a finding if there is none of this name, or it was not created yet."""
    found, trace = wanted(context, name), context.observed.trace(name)
    return None if found is None or not is_created(context, trace) else (found, trace)


def is_node(context: Context, instance: str, node: str | None) -> bool:
    """Whether there is such a node, or none was named; a finding about the instance if not."""
    if node is None or node in context.desired.nodes:
        return True
    known = ", ".join(sorted(context.desired.nodes))
    context.error("unknown-node", instance, f"there is no node {node!r}", f"the nodes are {known}")
    return False


def confirmed(context: Context, instance: str, word: str | None, consequence: str) -> bool:
    """Whether the operator typed the instance's name for what cannot be undone; a finding with the word if not."""
    if word == instance:
        return True
    message = f"{consequence}; that needs your explicit word"
    context.error("not-confirmed", instance, message, f"add -e confirm={instance}, if that is meant")
    return False
