# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the nodes will hold of an instance once a move of it has been made: what the next move is planned on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .. import names
from ..observed import Domain, Observed, Resource, Trace, Volume
from . import volumes


def moved(trace: Trace, source: str, target: str, document: dict[str, Any]) -> Trace:
    """After the guest went from one node to another, running or off; `document` is its definition then."""
    domains = _passed_on(trace.domains, source, target)
    seeds = {**trace.seeds, target: trace.seeds[source]} if source in trace.seeds else dict(trace.seeds)
    if document["disk_template"] == "drbd":
        return replace(
            trace,
            definitions=dict.fromkeys(document["nodes"], document),
            domains=domains,
            resources=_roles_passed_on(trace.resources, source, target),
            seeds=seeds,
        )
    seeds.pop(source, None)
    disks = _made(document, target)
    return replace(
        trace,
        definitions={target: document},
        domains=domains,
        volumes={target: disks} if disks else {},
        seeds=seeds,
    )


def copied(trace: Trace, primary: str, target: str, document: dict[str, Any], *, seeded: bool) -> Trace:
    """After the second copy of a replicated instance went to another node, and what was elsewhere is removed.

    `seeded`: its seed was written there.
    """
    own = trace.resources[primary]
    peer = replace(own, role="Secondary")
    seeds = {node: trace.seeds[node] for node in (primary, target) if node in trace.seeds}
    if seeded:
        seeds[target] = document["seed_digest"]
    return replace(
        trace,
        definitions=dict.fromkeys(document["nodes"], document),
        resources={primary: own, target: peer},
        volumes={primary: trace.volumes.get(primary, {}), target: _made(document, target)},
        seeds=seeds,
    )


def started(observed: Observed, documents: dict[str, list[dict[str, Any]]]) -> Observed:
    """After guests were started on nodes that had none of their domains running; by node, their definitions then."""
    said = {}
    for node, found in documents.items():
        view = observed.known(node)
        if view is not None:
            domains, definitions = dict(view.document["domains"]), dict(view.document["definitions"])
            for document in found:
                domains[document["name"]] = _running(document)
                definitions[document["name"]] = document
            said[node] = {**view.document, "domains": domains, "definitions": definitions}
    return observed.saying(said)


def _running(document: dict[str, Any]) -> dict[str, Any]:
    """A domain of a definition, as its node tells it."""
    shape = {"uuid": str(document.get("uuid")), "memory": document["memory"], "vcpus": document["vcpus"]}
    return {
        **shape,
        "state": "running",
        "persistent": True,
        "autostart": False,
        "xml": document["domain_xml"],
        "migrating": False,
    }


def _passed_on(held: dict[str, Domain], source: str, target: str) -> dict[str, Domain]:
    """What the source held is the target's."""
    found = {node: one for node, one in held.items() if node not in (source, target)}
    return {**found, target: held[source]} if source in held else found


def _roles_passed_on(held: dict[str, Resource], source: str, target: str) -> dict[str, Resource]:
    """Each has the other's role; disks stay what they are: the one that the guest leaves may be dead."""
    if not {source, target} <= set(held):
        return held
    one, other = held[source], held[target]
    return {
        **held,
        source: replace(one, role=other.role, peer_role=other.peer_role),
        target: replace(other, role=one.role, peer_role=one.peer_role),
    }


def _made(document: dict[str, Any], node: str) -> dict[str, Volume]:
    """The volumes of an instance on a node, with nothing owed to them."""
    return {
        one.key: Volume(
            one.volume_group,
            one.name,
            one.size,
            frozenset(names.volume_tags(document["name"], one.disk, one.role)),
            open=True,
        )
        for one in volumes.wanted(document, node)
    }
