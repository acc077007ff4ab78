# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the nodes will hold of an instance once a move of it has been made: what the next move is planned on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from .. import names
from ..observed import Observed, Trace, Volume
from . import volumes

T = TypeVar("T")


def moved(trace: Trace, source: str, target: str, document: dict[str, Any]) -> Trace:
    """After the guest went from one node to another, running or off; `document` is its definition then."""
    domains = _passed_on(trace.domains, source, target)
    seeds = {**trace.seeds, target: trace.seeds[source]} if source in trace.seeds else dict(trace.seeds)
    if document["disk_template"] == "drbd":
        return replace(
            trace,
            definitions=dict.fromkeys(document["nodes"], document),
            domains=domains,
            resources=_passed_on(trace.resources, source, target, swap=True),
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


def _passed_on(held: dict[str, T], source: str, target: str, *, swap: bool = False) -> dict[str, T]:
    """What the source held is the target's; with `swap` the other way round too."""
    found = {node: one for node, one in held.items() if node not in (source, target)}
    if source in held:
        found[target] = held[source]
    if swap and target in held:
        found[source] = held[target]
    return found


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
