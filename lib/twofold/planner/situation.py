# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where an instance stands: which node is its primary, what is left over, whether it can be planned at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import definition, names, secrets
from ..model import Instance
from ..observed import Resource, Trace
from . import halves, named, split_brain, taken_back, twins, volumes
from .context import Context

END_TORN = "'virsh destroy {}' on each of these nodes, then site.yml: it starts from its disks, without its memory"
RUNS_TWICE = "stop one of them by hand, the one whose data you do not want, and compare both disks before anything else"


@dataclass(frozen=True)
class Situation:
    """An instance that can be planned.

    `nodes` is primary first, `base` the definition that it goes by, `undefine` the nodes whose stale domain goes,
    `has_data` whether a disk may hold something worth keeping.
    """

    nodes: tuple[str, ...]
    base: dict[str, Any] | None
    undefine: tuple[str, ...]
    has_data: bool
    reasons: tuple[str, ...] = ()

    @property
    def primary(self) -> str:
        """Where it runs or will run."""
        return self.nodes[0]


def of(context: Context, name: str) -> tuple[Instance, Trace, Situation] | None:
    """An instance that exists, and where it stands; None with a finding that says why nothing can be done."""
    found = named.existing(context, name)
    if found is None:
        return None
    situation = assess(context, *found)
    return None if situation is None else (*found, situation)


def assess(
    context: Context, instance: Instance, trace: Trace, without: frozenset[str] = frozenset()
) -> Situation | None:
    """Find out where an instance stands; None if nothing can be done, with a finding that says why.

    Where a new one goes was chosen before, for all of them at once (`Context.places`). Nothing needs to be known of the
    nodes `without`.
    """
    base = trace.newest
    if base is None:
        place = context.places.get(instance.name)
        return Situation(place.nodes, None, (), False, place.reasons) if place is not None else None
    base = taken_back.definition(trace) or base
    needed = [node for node in definition.holders(base) if node not in without]
    if not ours(context, instance.name, trace, base) or not _all_known(context, instance, needed):
        return None
    if untold := taken_back.in_doubt(trace, [node for node in silent_nodes(context) if node not in without]):
        _report_untold(context, instance.name, untold)
        return None
    if _is_unsettled(context, instance.name, trace):
        return None
    elsewhere = sorted(set(trace.domains) - set(base["nodes"]))
    others = [node for node in elsewhere if twins.holds_anothers(trace, node, definition.holders(base))]
    moved = base["disk_template"] != "drbd" and len(elsewhere) == 1 and elsewhere[0] in context.desired.nodes
    running = sorted(node for node, domain in trace.domains.items() if domain.active)
    # The target's domain is there to stay from when the guest went on there; without disks it does not matter.
    cut_off = not running and elsewhere == [base.get("moving_to")]
    went_on = cut_off and base["disk_template"] == "diskless"
    if moved and not others and (running == elsewhere or went_on or not set(trace.domains) & set(base["nodes"])):
        # A plain instance whose move was interrupted: it is where it runs, or where its only domain is.
        return _existing(context, instance, trace, base, (elsewhere[0],))
    if others and not set(running) & set(base["nodes"]):
        twins.report(context, trace, base["nodes"], others)
        return None
    if elsewhere and not _outlived(trace, base, elsewhere):
        _report_elsewhere(context, instance.name, base, elsewhere, cut_off=cut_off)
        return None
    return _existing(context, instance, trace, base, tuple(base["nodes"]))


def _report_untold(context: Context, name: str, untold: list[str]) -> None:
    message = "nothing is done: its second copy is being replaced, and what was written last may be on the former one, "
    remedy = (
        "run this again, once more if a node's DRBD was down; bring a node back that does not answer, or set "
        "twofold_node_state to offline for it if what its disks may have is given up; if it is dead, evacuate.yml with "
        "the proof goes on without it"
    )
    context.error("former-copy-unknown", name, f"{message}but {', '.join(untold)} did not tell", remedy)


def _report_elsewhere(
    context: Context, name: str, base: dict[str, Any], elsewhere: list[str], *, cut_off: bool
) -> None:
    old, new = ", ".join(base["nodes"]), ", ".join(elsewhere)
    message = f"its domain is defined on {new}, its disks are on {old}"
    remedy = "undefine it there, if it is not in use"
    if cut_off:
        message = f"it is off and defined on {old} and {new}: all stopped while it moved to {new}"
        remedy = (
            f"see /var/log/libvirt/qemu/{name}.log on both: if it went on at {new}, which then has the last state of "
            f"its disks, undefine it on {old}, else on {new}; then run site.yml"
        )
    context.error("domain-elsewhere", name, message, remedy)


def _outlived(trace: Trace, base: dict[str, Any], elsewhere: list[str]) -> bool:
    """Whether domains elsewhere are left over: off, while it is at home under a newer definition, or runs there."""
    older = [node for node in elsewhere if (found := trace.definitions.get(node)) and node in found["nodes"]]
    stale = all(int(trace.definitions[node]["generation"]) < int(base["generation"]) for node in older)
    off = not any(trace.domains[node].active for node in elsewhere)
    at_home = [trace.domains[node] for node in base["nodes"] if node in trace.domains]
    runs = elsewhere == [base.get("moving_to")] and any(domain.active for domain in at_home)
    return off and bool(at_home) and (runs or (older == elsewhere and stale))


def silent_nodes(context: Context) -> list[str]:
    """The nodes of which nothing is known and of which the inventory does not say that they are off."""
    nodes = context.desired.nodes
    return [node for node in context.observed.unknown if node not in nodes or nodes[node].state != "offline"]


def ours(context: Context, name: str, trace: Trace, base: dict[str, Any]) -> bool:
    """Whether definition and domains of this name are this cluster's; if not, a finding says whose they are."""
    if base.get("cluster") != context.desired.cluster.name:
        message = f"it belongs to the cluster {base.get('cluster')!r}"
        remedy = f"rename the instance, or set twofold_cluster_name to {base.get('cluster')!r}"
        context.error("foreign-definition", name, message, remedy)
        return False
    uuid = secrets.instance_uuid(context.desired.cluster.secret, name)
    for node, domain in sorted(trace.domains.items()):
        if domain.uuid != uuid:
            message = f"the domain on {node} has another UUID ({domain.uuid}, not {uuid})"
            remedy = "if twofold_cluster_secret was changed put the old one back, else remove that domain"
            context.error("foreign-domain", name, message, remedy)
            return False
    return True


def _all_known(context: Context, instance: Instance, nodes: list[str]) -> bool:
    gone = [node for node in nodes if node not in context.desired.nodes]
    if gone:
        message = f"it lives on {', '.join(gone)}, not in the inventory"
        context.error("node-not-in-inventory", instance.name, message, "put the node back into the inventory")
        return False
    unknown = [node for node in nodes if context.observed.known(node) is None]
    if unknown:
        message = f"nothing is done: it lives on {' and '.join(nodes)}, and nothing is known of {', '.join(unknown)}"
        remedy = (
            "bring the node back and run this again; if it is dead, recover.yml starts its guests elsewhere, "
            f"and evacuate.yml -e node={unknown[0]} then makes their second copies anew"
        )
        context.error("node-unknown", instance.name, message, remedy)
        return False
    return True


def _is_unsettled(context: Context, name: str, trace: Trace) -> bool:
    """Whether its guest is between two nodes, or on both; a finding says so."""
    active = [node for node in sorted(trace.domains) if trace.domains[node].active]
    if torn := halves.torn(trace):
        message = f"its post-copy migration lost its connection, and its memory is on {' and '.join(torn)}"
        context.error("guest-state", name, message, END_TORN.format(name))
    elif any(domain.migrating for domain in trace.domains.values()):
        message = "a migration is going on"
        context.error("migrating", name, message, "wait until it has ended and run this again")
    elif left := halves.stale(trace):
        message = f"its interrupted migration left its other half, paused, on {', '.join(left)}"
        context.error("not-settled", name, message, "run site.yml first, it clears that up")
    elif len(active) > 1:
        context.error("runs-twice", name, f"it runs on {' and '.join(active)} at once", RUNS_TWICE)
    else:
        return False
    return True


def _existing(
    context: Context, instance: Instance, trace: Trace, base: dict[str, Any], pair: tuple[str, ...]
) -> Situation | None:
    if split_brain.found(context, instance, trace):
        return None
    primary = primary_of(trace, pair)
    nodes = (primary, *(node for node in pair if node != primary))
    undefine = tuple(node for node in sorted(trace.domains) if node != primary)
    return Situation(nodes, base, undefine, has_data(base, trace))


def primary_of(trace: Trace, pair: Sequence[str]) -> str:
    """Where it runs; else where its domain is, its disk is Primary, its disk is UpToDate; else as it was written.

    A disk that waits for its OS says so on one node alone: there it is installed, and nowhere else it starts before.
    """
    for node in sorted(trace.domains):
        if trace.domains[node].active:
            return node
    waiting = [node for node in pair if any("install" in one.pending for one in trace.volumes.get(node, {}).values())]
    candidates = [node for node in pair if node in trace.domains] or waiting or list(pair)
    for test in (_is_primary, _is_up_to_date):
        matching = [node for node in candidates if test(trace.resources.get(node))]
        if len(matching) == 1:
            return matching[0]
    return candidates[0]


def _is_primary(resource: Resource | None) -> bool:
    return resource is not None and resource.primary


def _is_up_to_date(resource: Resource | None) -> bool:
    return resource is not None and resource.all_disks("UpToDate")


def has_data(base: dict[str, Any], trace: Trace) -> bool:
    """Whether a disk may hold something: everything that is not provably a creation that never ended."""
    if trace.domains or _owed(trace, "sync"):
        # A copy that is to be filled has something to be filled with.
        return True
    if _owed(trace, "install"):
        # Nothing is started before its OS is written.
        return False
    return any(_holds_data(base, trace, node, disk) for node in base["nodes"] for disk in base["disks"])


def _owed(trace: Trace, what: str) -> bool:
    return any(what in volume.pending for found in trace.volumes.values() for volume in found.values())


def _holds_data(base: dict[str, Any], trace: Trace, node: str, disk: dict[str, Any]) -> bool:
    """Whether one copy of a disk may: it is there, nothing is owed to it or its metadata, and DRBD has accepted it."""
    resource = trace.resources.get(node)
    if resource is not None and resource.up and resource.all_disks("Inconsistent", "Diskless"):
        return False
    key = f"{disk['volume_group'].get(node)}/{names.data_volume(base['name'], disk['index'])}"
    return key in trace.volumes.get(node, {}) and not volumes.owes(trace, node, key)
