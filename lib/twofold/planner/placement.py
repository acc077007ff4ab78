# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where new instances go: the placement engine chooses for all of them at once.

What the engine does not know (bridges, KVM, volume groups besides a node's own, nodes that did not answer) is checked
here, and such nodes are forbidden to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from ..model import Desired, Instance
from ..observed import Observed
from ..units import format_size
from . import fit, rebooting
from .claims import Claims
from .context import Context, Place
from .new import may_be_made
from .placed import unwanted

if TYPE_CHECKING:
    from ..placement import Cluster, Placement, Request, Verdict

#: Why not: instance -> node -> reason.
Refused = dict[str, dict[str, str]]
#: A plan's line names so many of the nodes that were not chosen; a finding names them all.
_SHOWN = 4
_REMEDY = (
    "free or add what is missing, make the instance smaller, or change what it asks of its nodes (twofold_nodes, "
    "twofold_excluded_nodes, twofold_required_tags, twofold_groups, twofold_affinity, twofold_anti_affinity)"
)


def place_new(context: Context, instances: Iterable[Instance], accepted: Collection[str]) -> None:
    """Choose the nodes of all new instances into `Context.places`; a finding for each that fits nowhere.

    Those `accepted` are new by the operator's word, whatever is on nodes that are off.
    """
    wanted = [(one, context.observed.trace(one.name)) for one in instances if one.state != "absent"]
    new = [one for one, trace in wanted if may_be_made(context, one, trace, accepted)]
    if not new:
        return
    refused = {one.name: _refused(context, one) for one in new}
    for placed in _choose(context, sorted(new, key=lambda one: (-one.priority, one.name)), refused):
        if placed.nodes:
            reasons = _reasons(context, context.desired.instances[placed.name], placed)
            context.places[placed.name] = Place(placed.nodes, tuple(reasons))
        else:
            context.error("no-node-fits", placed.name, _problem(placed), _REMEDY)


def _refused(context: Context, instance: Instance) -> dict[str, str]:
    """The nodes that an instance must not or cannot be on whatever else is placed, with the reasons."""
    found = (
        unwanted(context.desired, instance),
        why_not(context.desired, context.observed, context.claims, instance),
    )
    nodes = sorted(set().union(*found))
    return {node: ", ".join(reasons[node] for reasons in found if node in reasons) for node in nodes}


def _choose(context: Context, instances: Sequence[Instance], refused: Refused) -> list[Placement]:
    """Place, and again without what turned out to be too much for a volume group that the engine does not count."""
    while True:
        found = _by_priority(context, instances, refused)
        too_much = _too_much(context, found)
        if not too_much:
            return [_with_reasons(placed, refused) for placed in found]
        for name, reasons in too_much.items():
            refused[name] |= reasons


def _by_priority(context: Context, instances: Sequence[Instance], refused: Refused) -> list[Placement]:
    """All instances of one priority at once; what has a higher one is there already."""
    # What needs no placement does not wait for NumPy.
    from ..placement import PlaceOptions, place
    from . import affinity, cluster_view

    desired, claims = context.desired, context.claims
    rules = affinity.rules(desired, refused)
    cluster: Cluster = cluster_view.cluster(desired, context.observed, claims)
    options = PlaceOptions(rules=rules, explain=True)
    found: list[Placement] = []
    for _priority, group in groupby(instances, key=lambda one: one.priority):
        requests: list[Request] = [cluster_view.request(desired, claims, one, rules[one.name]) for one in group]
        placed = place(cluster, requests, options)
        cluster = cluster_view.with_placed(cluster, requests, placed)
        found += placed
    return found


def _too_much(context: Context, placements: Iterable[Placement]) -> Refused:
    """The instances that overfill a volume group together with those before them."""
    taken: dict[tuple[str, str], int] = defaultdict(int)
    found: Refused = {}
    for placed in placements:
        instance = context.desired.instances[placed.name]
        for node in placed.nodes:
            for group, size in context.claims.needed(node, instance).items():
                free = (context.claims.space_free(node, group) or 0) - taken[node, group]
                if size > free:
                    found.setdefault(placed.name, {})[node] = _no_space(group, free, size)
                else:
                    taken[node, group] += size
    return found


def why_not(desired: Desired, observed: Observed, claims: Claims, instance: Instance) -> dict[str, str]:
    """The nodes that lack something for an instance, each with all that speaks against it."""
    found = {}
    for name in sorted(desired.nodes):
        view = observed.known(name)
        away = rebooting.reason(view)
        problems = [away] if away is not None else []
        address = desired.nodes[name].replicate_at
        if view is not None and instance.disk_template == "drbd" and view.lacks_address(address):
            problems.append(f"does not have its replication address {address}")
        for group, size in claims.needed(name, instance).items() if view is not None else ():
            space = claims.space_free(name, group)
            if space is None:
                problems.append(f"no volume group {group}")
            elif space < size:
                problems.append(_no_space(group, space, size))
        problems += lacking(desired, observed, instance, name)
        if problems:
            found[name] = ", ".join(problems)
    return found


def _no_space(group: str, free: int, needed: int) -> str:
    return f"{format_size(max(free, 0))} free in volume group {group}, {format_size(needed)} needed"


def lacking(desired: Desired, observed: Observed, instance: Instance, node: str) -> list[str]:
    """What a node lacks for an instance besides room, each as a reason."""
    view = observed.known(node)
    if view is None:
        return ["its state is unknown"]
    bridges = (desired.cluster.networks[nic.network].bridge for nic in instance.nics)
    return fit.lacking(view, instance.virtualization, bridges)


def _with_reasons(placed: Placement, refused: Refused) -> Placement:
    """The placement with our own reasons in the place of "is excluded"."""
    from dataclasses import replace

    own = refused[placed.name]
    verdicts = tuple(
        replace(verdict, primary=own[verdict.node], secondary=own[verdict.node]) if verdict.node in own else verdict
        for verdict in placed.verdicts
    )
    return replace(placed, verdicts=verdicts)


def _reasons(context: Context, instance: Instance, placed: Placement) -> list[str]:
    """Why these nodes, and why not the others."""
    pins = len(instance.nodes)
    found = [f"{node} is pinned" for node in placed.nodes[:pins]]
    chosen = [f"{node} {_room(context, node)}" for node in placed.nodes[pins:]]
    if not chosen:
        return found
    word = "they even" if len(chosen) > 1 else "it evens"
    chosen[-1] += f": {word} the load out best (score {placed.score:.4f})"
    against = {verdict.node: _against_best(verdict, pinned=pins > 0) for verdict in placed.verdicts}
    others = [f"{node}: {text}" for node, text in against.items() if text and node not in placed.nodes]
    more = [f"nor {len(others) - _SHOWN} more nodes"] if len(others) > _SHOWN else []
    return [*found, *chosen, *(f"not {text}" for text in others[:_SHOWN]), *more]


def _against_best(verdict: Verdict, *, pinned: bool) -> str:
    """What speaks against a node that was not chosen; with a pinned primary only as secondary."""
    if verdict.primary and not pinned:
        return verdict.primary
    return f"as secondary: {verdict.secondary}" if verdict.secondary else ""


def _room(context: Context, node: str) -> str:
    group = context.desired.nodes[node].volume_group
    space, memory = context.claims.space_free(node, group), context.claims.memory_free(node)
    disk = f" and {format_size(space)} in {group}" if space is not None else ""
    return f"has {format_size(max(memory, 0))} of memory{disk} free"


def _problem(placed: Placement) -> str:
    """Why an instance fits nowhere: in one sentence, then node by node."""
    sentence = placed.problem.removeprefix(f"instance {placed.name}: ")
    return "; ".join([sentence, *map(_against, placed.verdicts)])


def _against(verdict: Verdict) -> str:
    """A node with what speaks against it in each role."""
    first, second = verdict.primary, verdict.secondary
    if first == second or not second:
        return f"{verdict.node}: {first}"
    roles = [f"as primary: {first}"] if first else ["could be primary"]
    if second != "is the primary" and not second.endswith("in its other role"):
        roles.append(f"as secondary: {second}")
    return f"{verdict.node} {', '.join(roles)}"
