# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remove an instance: only if the inventory says `twofold_state: absent`, and only with all of its nodes observed."""

from __future__ import annotations

from .. import definition, secrets
from ..model import Instance
from ..observed import Trace
from . import document as plan
from . import volumes
from .context import Chain, Context

RISK = "all data of the instance is lost"


def instance(context: Context, wanted: Instance, trace: Trace) -> None:
    """Add the steps that remove an instance."""
    unknown = _unknown(context, trace)
    if unknown:
        message = f"it is not removed: it is not known what {', '.join(unknown)} holds of it"
        remedy = "bring the node back, or take it out of the inventory if it is gone for good"
        context.error("node-unknown", wanted.name, message, remedy)
        return
    if not trace.nodes or not _ours(context, wanted, trace):
        return
    volumes.report_unclaimed(context, trace, trace.nodes)
    chain = Chain(context, wanted.name)
    order = sorted(trace.nodes, key=lambda node: (node not in trace.domains, not _primary(trace, node), node))
    last: list[str] = []
    for node in order:
        stopped = _stop(chain, wanted, trace, node)
        _disks(chain, trace, node, last, wanted.replication.timeout)
        last = last or stopped
    if chain.added:
        context.change(wanted.name, "remove", chain.nodes, "twofold_state is absent")


def _unknown(context: Context, trace: Trace) -> list[str]:
    """The unknown nodes that matter: those of the definition; without one, all. One that was taken out is gone."""
    nodes = definition.holders(trace.newest) if trace.newest is not None else None
    return [node for node in context.observed.unknown if nodes is None or node in nodes]


def _primary(trace: Trace, node: str) -> bool:
    resource = trace.resources.get(node)
    return resource is not None and resource.primary


def _ours(context: Context, wanted: Instance, trace: Trace) -> bool:
    base = trace.newest
    if base is not None and base.get("cluster") != context.desired.cluster.name:
        message = f"it belongs to the cluster {base.get('cluster')!r}"
        context.error("foreign-definition", wanted.name, message, "remove it from that cluster's inventory")
        return False
    uuid = secrets.instance_uuid(context.desired.cluster.secret, wanted.name)
    foreign = [node for node, domain in sorted(trace.domains.items()) if domain.uuid != uuid]
    if foreign:
        message = f"the domain on {', '.join(foreign)} has another UUID: it is not Twofold's"
        context.error("foreign-domain", wanted.name, message, "remove it by hand if nobody needs it")
    return not foreign


def _stop(chain: Chain, wanted: Instance, trace: Trace, node: str) -> list[str]:
    domain = trace.domains.get(node)
    if domain is None:
        return []
    if domain.active:
        args = {"name": wanted.name, "timeout": wanted.shutdown_timeout, "force": True}
        chain.add(node, "domain.stop", args, kind=plan.DESTROY, why="it is removed", risk="the guest is shut down")
    args = {"name": wanted.name, "xml": None}
    return [chain.add(node, "domain.undefine", args, kind=plan.DESTROY, why="it is removed")]


def _disks(chain: Chain, trace: Trace, node: str, after: list[str], timeout: int) -> None:
    """Resource, volumes, seed, and last the definition, which reserves its minors and port until then."""
    name = trace.name

    def add(op: str, args: dict[str, object], risk: str | None = None) -> None:
        first = after if node not in chain.last or chain.last[node] in after else []
        chain.add(node, op, args, kind=plan.DESTROY, why="it is removed", risk=risk, after=first)

    if _primary(trace, node):
        add("replication.demote", {"resource": name, "timeout": timeout})
    if node in trace.resources:
        add("replication.remove", {"resource": name})
    found = volumes.removable(trace, node)
    if bare := [volume for volume in volumes.bare(trace, node) if volume in found]:
        # Without its tags a volume is nobody's; the definition there still claims it.
        add("volumes.tag", volumes.tag_args(name, bare))
    if found:
        listed = [{"volume_group": volume.volume_group, "name": volume.name} for volume in found]
        add("volumes.remove", {"instance": name, "volumes": listed}, RISK)
    if node in trace.seeds:
        add("seed.remove", {"name": name})
    if node in trace.definitions:
        generation = int(trace.definitions[node]["generation"])
        add("definition.remove", {"name": name, "expect_generation": generation})
