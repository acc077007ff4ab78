# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a plan was based on, as digests, and the plan's own fingerprint."""

from __future__ import annotations

from typing import Any

from .. import secrets
from ..model import Desired
from ..observed import NodeView, Observed
from .document import Step


def fingerprint(intent: dict[str, Any], based_on: dict[str, str], steps: tuple[Step, ...]) -> str:
    """The fingerprint of a plan."""
    return secrets.digest([intent, based_on, [step.to_json() for step in steps]])


def based_on(desired: Desired, observed: Observed, steps: tuple[Step, ...]) -> dict[str, str]:
    """The digests of everything that the steps depend on: the cluster, their nodes and their instances."""
    if not steps:
        return {}
    found = {"cluster": _cluster(desired)}
    for name in sorted(_nodes(steps)):
        found[f"node {name}"] = _node(desired, name, observed.known(name))
    for instance in sorted({step.instance for step in steps if step.instance}):
        found[f"instance {instance}"] = _instance(desired, observed, instance)
    return found


def _nodes(steps: tuple[Step, ...]) -> set[str]:
    """The nodes that the steps are on, and those without which a copy goes on, because of what they said."""
    left = {str(step.args["peer"]) for step in steps if step.op == "replication.take_over"}
    return left | {step.node for step in steps}


def _cluster(desired: Desired) -> str:
    settings = desired.cluster.model_dump(mode="json", exclude={"secret"})
    return secrets.digest([settings, secrets.derive(desired.cluster.secret, "fingerprint").hex()])


def _node(desired: Desired, name: str, view: NodeView | None) -> str:
    """Not its free memory and space: they change all the time, and the steps check them."""
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
