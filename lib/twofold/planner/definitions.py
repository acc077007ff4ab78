# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writing definitions: the same document with the same generation on every node of an instance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .. import definition
from ..observed import Trace
from . import document as plan
from .context import Chain


def write_definitions(
    chain: Chain,
    trace: Trace,
    built: definition.Wanted,
    nodes: Sequence[str],
    *,
    kind: str = plan.LIVE,
    after: Iterable[str] = (),
) -> definition.Document:
    """Add `definition.write` on each node whose definition is not the wanted one; what is written."""
    newest = trace.newest
    generation = max((int(found["generation"]) for found in trace.definitions.values()), default=0)
    at_newest = newest is not None and definition.same(newest, built.document)
    equal_but_differing = any(
        int(found["generation"]) == generation and not definition.same(found, built.document)
        for found in trace.definitions.values()
    )
    if not at_newest or equal_but_differing:
        generation += 1
    document = {**built.document, "generation": generation}
    for node in nodes:
        there = trace.definitions.get(node)
        if there == document:
            continue
        args = {"document": document, "expect_generation": trace.generation(node)}
        if _stays(there, document) and node in trace.domains:
            # Who moves it may be at work still, and have moved it before this is written.
            args["expect_domain"] = True
        chain.add(node, "definition.write", args, kind=kind, why=_why(there, document), after=after)
    return document


def _stays(there: definition.Document | None, document: definition.Document) -> bool:
    """Whether the word that it moves to another node is taken back."""
    return there is not None and "moving_to" in there and "moving_to" not in document


def _why(there: definition.Document | None, document: definition.Document) -> str:
    if there is None:
        return "the definition is missing"
    changed = sorted(key for key in {*document, *there} - {"generation"} if there.get(key) != document.get(key))
    shown = [key for key in changed if key not in ("domain_xml", "replication_config")] or changed
    return f"the definition changes: {', '.join(shown)}" if shown else "the definition is not the newest one"
