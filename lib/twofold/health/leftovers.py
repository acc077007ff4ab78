# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What belongs to nobody: volumes, DRBD resources, domains and seeds without a definition; locks."""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import Finding, listing
from ..observed import NodeView
from ..planner.mend import orphan_seeds
from .seen import Seen, info, warning

KEPT = "twofold.kept="
CAUTION = "make sure that all nodes have answered and that nobody needs it"


def findings(seen: Seen) -> Iterator[Finding]:
    """What is left over on each node."""
    for view in seen.observed.all_known:
        owned = _owned(seen, view)
        yield from _volumes(seen, view, owned)
        yield from _domains(seen, view, owned)
        for name in sorted(view.resources.keys() - owned):
            if not seen.listed(name):
                message = f"the DRBD resource {name} belongs to no definition"
                remedy = f"{CAUTION}, then 'drbdsetup down {name}' and remove its file from /etc/drbd.d"
                yield warning("orphan-resource", f"node {view.name}", message, remedy)
        for name in orphan_seeds(seen.desired, seen.observed, view):
            message = f"the seed of {name} belongs to no definition"
            yield warning("orphan-seed", f"node {view.name}", message, "run verify with -e fix=true, which removes it")
    for view in seen.answered:
        yield from _lock(view)


def _owned(seen: Seen, view: NodeView) -> set[str]:
    """Instances that have a definition on the node, or one elsewhere that names it."""
    found = set(view.definitions)
    for other in seen.observed.all_known:
        found |= {name for name, document in other.definitions.items() if view.name in document["nodes"]}
    return found


def _volumes(seen: Seen, view: NodeView, owned: set[str]) -> Iterator[Finding]:
    for instance, volumes in sorted(view.volumes_by_instance.items()):
        if instance in owned or seen.listed(instance):
            continue
        names = sorted(key for key, volume in volumes.items() if not any(tag.startswith(KEPT) for tag in volume.tags))
        if names:
            message = f"{listing(names)} belong{'s' if len(names) == 1 else ''} to no definition"
            remedy = f"{CAUTION}, then remove them with lvremove; or put the definition of {instance} back"
            yield warning("orphan-volume", f"node {view.name}", message, remedy)


def _domains(seen: Seen, view: NodeView, owned: set[str]) -> Iterator[Finding]:
    for name, domain in sorted(view.domains.items()):
        if name in owned or seen.listed(name):
            continue
        if domain.marked:
            message = f"the domain {name} ({domain.state}) belongs to no definition"
            remedy = f"{CAUTION}, then stop it and 'virsh undefine {name}'; or put its definition back"
            yield warning("orphan-domain", f"node {view.name}", message, remedy)
        else:
            message = f"the domain {name} ({domain.state}) is not Twofold's; while it runs its memory counts"
            yield info("unmanaged-domain", f"node {view.name}", message)


def _lock(view: NodeView) -> Iterator[Finding]:
    lock = view.document.get("lock")
    if not lock:
        return
    target, holder = f"node {view.name}", lock.get("holder")
    if lock.get("expired"):
        message = f"a run of {holder} left its lock behind; it has run out and stops nobody"
        yield info("lock-expired", target, message, "the next run on the node, or verify with -e fix=true, removes it")
    else:
        yield info("lock-held", target, f"a run of {holder} has locked it", "wait until that run has ended")
