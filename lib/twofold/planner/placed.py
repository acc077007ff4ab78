# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the inventory's rules say about nodes, and about where an instance is already. Said, never changed here."""

from __future__ import annotations

from collections.abc import Iterator

from ..model import Desired, Instance
from .context import Context
from .situation import Situation, primary_of


def unwanted(desired: Desired, instance: Instance) -> dict[str, str]:
    """The nodes that the inventory does not want an instance on, each with the reason."""
    found = {}
    for node in desired.nodes.values():
        missing = [tag for tag in instance.required_tags if tag not in node.tags]
        if node.name in instance.excluded_nodes:
            found[node.name] = "is in twofold_excluded_nodes"
        elif missing:
            found[node.name] = f"lacks the tag {', '.join(missing)}"
        elif instance.groups and node.group not in instance.groups:
            found[node.name] = f"is of the node group {node.group}, not {' or '.join(instance.groups)}"
    return found


def against(context: Context, instance: Instance, primary: str, node: str) -> list[str]:
    """Why an instance that runs on `primary` should not be moved to a node, as far as rules say."""
    desired = context.desired
    here, there = desired.nodes[primary], desired.nodes[node]
    found = [f"is {there.state}"] if there.state != "online" else []
    found += [reason for name, reason in unwanted(desired, instance).items() if name == node]
    if here.group != there.group:
        found.append(f"is of the node group {there.group}, it is in {here.group}")
    if met := _met(context, instance, node):
        found.append(f"runs {', '.join(met)}, from which twofold_anti_affinity keeps it")
    return found


def check(context: Context, wanted: Instance, situation: Situation) -> None:
    """Report the hard rules that the place of an existing instance breaks."""
    for message in _broken(context, wanted, situation):
        remedy = "migrate it, or an instance beside it; rules only decide where an instance is made, and what may move"
        context.warning("rule-broken", wanted.name, message, remedy)


def _broken(context: Context, wanted: Instance, situation: Situation) -> Iterator[str]:
    desired, primary = context.desired, situation.primary
    for node, reason in unwanted(desired, wanted).items():
        if node in situation.nodes:
            yield f"it is on {node}, which {reason}"
    domains = [set(desired.nodes[node].failure_domain) for node in situation.nodes]
    if len(domains) > 1 and (shared := sorted(set.intersection(*domains))):
        nodes = " and ".join(situation.nodes)
        yield f"both copies of its disks are in the failure domain {', '.join(shared)}: on {nodes}"
    if met := _met(context, wanted, primary):
        yield f"it is on {primary} with {', '.join(met)}, from which twofold_anti_affinity keeps it"
    apart = sorted(name for name in _others(desired, wanted, "affinity") if _home(context, name) not in (None, primary))
    if apart:
        yield f"it is on {primary} without {', '.join(apart)}, with which twofold_affinity keeps it"


def _met(context: Context, wanted: Instance, node: str) -> list[str]:
    """The instances on a node from which an instance is kept."""
    return sorted(name for name in _others(context.desired, wanted, "anti_affinity") if _home(context, name) == node)


def _others(desired: Desired, wanted: Instance, field: str) -> set[str]:
    names = getattr(wanted, field)
    return set().union(*(desired.members(name) for name in names)) - {wanted.name}


def _home(context: Context, name: str) -> str | None:
    """The primary of an instance; None if it does not exist yet."""
    trace = context.observed.trace(name)
    return primary_of(trace, trace.newest["nodes"]) if trace.newest is not None else None
