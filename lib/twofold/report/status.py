# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cluster's status as a document."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ..model import Desired
from ..observed import Observed, Trace
from ..planner.claims import Claims
from .verify import verify

FORMAT = 1
Documents = dict[str, dict[str, Any] | None]


def status_document(desired: Desired, observed: Documents, now: datetime | None = None) -> dict[str, Any]:
    """Nodes, instances, and what is wrong, certificates only if the time is given. Sizes in bytes."""
    seen = Observed.of(desired, observed)
    claims = Claims(desired, seen)
    names = sorted(set(desired.instances) | desired.rejected | seen.names())
    instances = [found for name in names if (found := _instance(desired, seen, name)) is not None]
    return {
        "format": FORMAT,
        "cluster": desired.cluster.name,
        "nodes": [_node(desired, seen, claims, name) for name in sorted(seen.views)],
        "instances": instances,
        "findings": [finding.to_json() for finding in verify(desired, observed, now=now)],
    }


def _node(desired: Desired, seen: Observed, claims: Claims, name: str) -> dict[str, Any]:
    view = seen.views[name]
    if view is None:
        return {"name": name, "state": "unknown"}
    found: dict[str, Any] = {"name": name, "state": "incomplete" if view.missing else "up"}
    for key in ("uptime", "load", "cpus", "versions", "lock"):
        found[key] = view.document.get(key)
    memory = view.document.get("memory") or {}
    free = claims.memory_free(name) if not view.missing and name in desired.nodes else None
    found["memory"] = {"total": memory.get("total"), "available": memory.get("available"), "unpromised": free}
    found["volume_groups"] = view.document.get("volume_groups")
    domains = view.document.get("domains")
    found["guests"] = None if domains is None else sum(1 for domain in view.domains.values() if domain.active)
    return found


def _instance(desired: Desired, seen: Observed, name: str) -> dict[str, Any] | None:
    wanted = desired.instances.get(name)
    trace = seen.trace(name)
    base = trace.newest
    if wanted is not None and wanted.state == "absent" and not trace.nodes:
        return None
    nodes = list(base["nodes"]) if base else []
    primary = _primary(trace, nodes)
    domain = trace.domains.get(primary) if primary else None
    unknown = [node for node in nodes if seen.known(node) is None]
    return {
        "name": name,
        "wanted": wanted.state if wanted is not None else None,
        "state": _state(trace, primary, unknown, seen),
        "disk_template": base["disk_template"] if base else wanted.disk_template if wanted else None,
        "primary": primary,
        "secondary": next((node for node in nodes if node != primary), None),
        "replication": _replication(trace, primary),
        "memory": domain.memory if domain else base["memory"] if base else None,
        "vcpus": domain.vcpus if domain else base["vcpus"] if base else None,
        "addresses": [nic["address"] for nic in base["nics"] if nic["address"]] if base else [],
    }


def _primary(trace: Trace, nodes: list[str]) -> str | None:
    active = [node for node in sorted(trace.domains) if trace.domains[node].active]
    defined = [node for node in nodes if node in trace.domains] or sorted(trace.domains)
    return next(iter(active or defined or nodes), None)


def _state(trace: Trace, primary: str | None, unknown: list[str], seen: Observed) -> str:
    active = [node for node in trace.domains if trace.domains[node].active]
    if len(active) > 1:
        return "runs twice"
    if primary in trace.domains:
        state = trace.domains[primary].state
        return "stopped" if state == "shutoff" else state
    if unknown:
        return "unknown"
    if trace.nodes:
        return "incomplete"
    return "unknown" if seen.unknown else "not created"


def _replication(trace: Trace, primary: str | None) -> dict[str, Any] | None:
    """Connection and disks as the primary sees them, or the other node if only that one is known."""
    order = [primary, *sorted(trace.resources)] if primary else sorted(trace.resources)
    resource = next((trace.resources[node] for node in order if node in trace.resources), None)
    if resource is None:
        return None
    done = [volume.done for volume in resource.volumes if volume.done is not None]
    return {
        "connection": resource.connection,
        "disk": _worst([volume.disk for volume in resource.volumes]),
        "peer_disk": _worst([volume.peer_disk for volume in resource.volumes]),
        "done": min(done) if done else None,
        "two_primaries": any(found.allow_two_primaries for found in trace.resources.values()),
    }


def _worst(states: list[str | None]) -> str | None:
    """UpToDate only if all are."""
    return next((state for state in states if state != "UpToDate"), states[0] if states else None)
