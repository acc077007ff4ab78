# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a new instance goes: the pin, or the nodes with most free memory among those that fit."""

from __future__ import annotations

from dataclasses import dataclass

from ..model import Desired, Instance
from ..observed import Observed
from ..units import format_size
from .claims import Claims


@dataclass(frozen=True)
class Choice:
    """The nodes for a new instance, primary first, and why; `nodes` is empty if nothing fits.

    `reasons` says in the first case why these nodes, else for every node why not.
    """

    nodes: tuple[str, ...]
    reasons: tuple[str, ...]


def choose(desired: Desired, observed: Observed, claims: Claims, instance: Instance) -> Choice:
    """Choose the nodes for an instance, with what the plan has promised so far in `claims`."""
    wanted = 2 if instance.disk_template == "drbd" else 1
    chosen: list[str] = []
    reasons: list[str] = []
    refused: list[str] = []
    for place in range(wanted):
        pinned = [instance.nodes[place]] if place < len(instance.nodes) else None
        # The other pinned node is not free to be chosen.
        candidates = pinned or [name for name in sorted(desired.nodes) if name not in (*chosen, *instance.nodes)]
        problems = {name: why_not(desired, observed, claims, instance, name, primary=place == 0) for name in candidates}
        fitting = [name for name in candidates if not problems[name]]
        if not fitting:
            role = "primary" if place == 0 else "secondary"
            refused += [f"{name} as {role}: {', '.join(found)}" for name, found in problems.items() if found]
            return Choice((), tuple(refused) or (f"there is no node left for the {role}",))
        best = min(fitting, key=lambda name: (-claims.memory_free(name), name))
        chosen.append(best)
        free = format_size(max(claims.memory_free(best), 0))
        reasons.append(f"{best} is pinned" if pinned else f"{best} has most free memory of those that fit ({free})")
    return Choice(tuple(chosen), tuple(reasons))


def why_not(
    desired: Desired, observed: Observed, claims: Claims, instance: Instance, node: str, *, primary: bool
) -> list[str]:
    """What keeps a new instance from a node; empty if nothing does."""
    view = observed.known(node)
    if view is None:
        return ["its state is unknown"]
    problems = []
    free = claims.memory_free(node)
    if primary and instance.state == "running" and free < instance.memory:
        problems.append(f"{format_size(max(free, 0))} memory free, {format_size(instance.memory)} needed")
    for group, size in claims.needed(node, instance).items():
        space = claims.space_free(node, group)
        if space is None:
            problems.append(f"no volume group {group}")
        elif space < size:
            problems.append(f"{format_size(max(space, 0))} free in volume group {group}, {format_size(size)} needed")
    problems += missing_bridges(desired, observed, instance, node)
    return problems


def missing_bridges(desired: Desired, observed: Observed, instance: Instance, node: str) -> list[str]:
    """The bridges of the instance's networks that a node lacks, each as a reason."""
    view = observed.known(node)
    bridges = view.bridges if view else frozenset()
    wanted = sorted({desired.cluster.networks[nic.network].bridge for nic in instance.nics})
    return [f"no bridge {bridge}" for bridge in wanted if bridge not in bridges]
