# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a plan was based on, as digests, and the plan's own fingerprint."""

from __future__ import annotations

from typing import Any

from .. import secrets
from ..model import Desired
from ..observed import NodeView, Observed
from . import migrate
from .claims import Claims
from .document import Step

#: What the digest of the guests' memory on a node is called.
MEMORY = "memory of "


def fingerprint(intent: dict[str, Any], based_on: dict[str, str], steps: tuple[Step, ...]) -> str:
    """The fingerprint of a plan."""
    return secrets.digest([intent, based_on, [step.to_json() for step in steps]])


def based_on(desired: Desired, observed: Observed, claims: Claims, steps: tuple[Step, ...]) -> dict[str, str]:
    """The digests of everything that the steps depend on: the cluster, their nodes and their instances."""
    if not steps:
        return {}
    found = {"cluster": _cluster(desired)}
    for name in sorted(_nodes(steps)):
        found[f"node {name}"] = _node(desired, name, observed.known(name))
    found |= _memory(observed, claims, _hosts(desired, steps))
    for instance in sorted({step.instance for step in steps if step.instance}):
        found[f"instance {instance}"] = _instance(desired, observed, instance)
    return found


def _nodes(steps: tuple[Step, ...]) -> set[str]:
    """The nodes that the steps are on, and those without which a copy goes on, because of what they said."""
    left = {str(step.args["peer"]) for step in steps if step.op == "replication.take_over"}
    return left | {step.node for step in steps}


def _hosts(desired: Desired, steps: tuple[Step, ...]) -> set[str]:
    """The nodes that guests are started on or migrated to."""
    moving = {step.args["uri"] for step in steps if step.op == "domain.migrate"}
    targets = {name for name, node in desired.nodes.items() if migrate.uri(node) in moving}
    return targets | {step.node for step in steps if step.op == "domain.start"}


def _memory(observed: Observed, claims: Claims, nodes: set[str]) -> dict[str, str]:
    """The digests of the room for guests on some nodes: no step looks whether the memory has been promised twice."""
    views = {name: observed.known(name) for name in sorted(nodes)}
    return {
        f"{MEMORY}{name}": secrets.digest([view.memory_total if view else None, claims.guests_memory(name)])
        for name, view in views.items()
    }


def _cluster(desired: Desired) -> str:
    settings = desired.cluster.model_dump(mode="json", exclude={"secret"})
    return secrets.digest([settings, secrets.derive(desired.cluster.secret, "fingerprint").hex()])


def _node(desired: Desired, name: str, view: NodeView | None) -> str:
    """Not its free memory and space: they change all the time.

    The step that takes space finds out if there is too little; of memory it counts what is promised (`_memory`).
    """
    # Nothing is made of the passwords of fence devices, not even a digest.
    wanted = desired.nodes[name].model_dump(mode="json", exclude={"fence"}) if name in desired.nodes else None
    if view is None:
        return secrets.digest([wanted, None])
    groups = sorted(view.document["volume_groups"] or {})
    return secrets.digest([wanted, view.hostname, sorted(view.bridges), groups, view.rebooting])


def _instance(desired: Desired, observed: Observed, name: str) -> str:
    wanted = desired.instances[name].model_dump(mode="json") if name in desired.instances else None
    trace = observed.trace(name)
    volumes = {
        node: sorted([v.volume_group, v.name, v.size, sorted(v.tags)] for v in found.values())
        for node, found in trace.volumes.items()
    }
    resources = {
        node: [r.role, r.connection, r.allow_two_primaries, r.config, r.secret_digest, r.options]
        + [[v.volume, v.minor, v.disk] for v in r.volumes]
        for node, r in trace.resources.items()
    }
    domains = {
        node: [d.uuid, d.state, d.persistent, d.autostart, d.xml, d.migrating, d.stranded]
        for node, d in trace.domains.items()
    }
    return secrets.digest([wanted, trace.definitions, volumes, resources, domains, trace.seeds])
