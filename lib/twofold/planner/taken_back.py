# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A replacement on another node is called off when the copy that it was to replace has the last state alone.

The new pair is written down before the primary lets go of the old copy. If the primary loses its own disk in between,
the guest goes on with the old copy, which therefore is not let go of. When these two are parted then, and look for each
other no more, nothing else has what the guest wrote: neither the primary's disk, which looks good once it is attached
after a reboot, nor the new copy, which is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..observed import Trace
from . import split_brain, volumes

Document = dict[str, Any]


def definition(trace: Trace) -> Document | None:
    """The definition of the pair that an instance goes back to; None if there is no reason to."""
    for primary in _primaries(trace):
        for node, document in _former(trace, primary):
            if _is_ahead(trace, node, primary):
                return document
    return None


def in_doubt(trace: Trace, silent: Sequence[str]) -> list[str]:
    """The nodes that have to tell first whether the last state is on the copy that was to be replaced.

    Until then the new copy must not be filled: its primary would count as the one who knows.
    """
    for primary in _primaries(trace):
        domain, own = trace.domains.get(primary), trace.resources.get(primary)
        serves = (domain is not None and domain.active) or (own is not None and (own.primary or own.connected))
        if not serves and not (own is not None and split_brain.written_alone(own)):
            return [*silent, *down(trace)]
    return []


def down(trace: Trace) -> dict[str, Document]:
    """The nodes of the old pair whose DRBD is down, so that they do not tell, with the definition of that pair."""
    found: dict[str, Document] = {}
    for primary in _primaries(trace):
        for node, document in _former(trace, primary):
            there = [one for one in (primary, node) if not volumes.missing(document, trace, one)]
            found |= {one: document for one in there if not _is_up(trace, one)}
    return found


def _nodes(trace: Trace) -> Sequence[str]:
    """The pair that is written down by now."""
    nodes: Sequence[str] = (trace.newest or {"nodes": ()})["nodes"]
    return nodes


def _primaries(trace: Trace) -> Iterator[str]:
    """The node whose second copy is being made anew elsewhere, if there is one."""
    nodes = _nodes(trace)
    for primary, new in zip(nodes, reversed(nodes), strict=True) if len(nodes) == 2 else ():
        if volumes.unfilled(trace, new):
            yield primary


def _former(trace: Trace, primary: str) -> Iterator[tuple[str, Document]]:
    """The nodes that had its second copy before, with their definition."""
    for node, document in sorted(trace.definitions.items()):
        if node not in _nodes(trace) and set(document["nodes"]) == {primary, node}:
            yield node, document


def _is_ahead(trace: Trace, node: str, primary: str) -> bool:
    """Whether a node's copy was written without the primary's, from the state on that the primary's is in.

    What is in use on the primary's own disk by now is a state of its own, whatever was given up before.
    """
    old, own = trace.resources.get(node), trace.resources.get(primary)
    if old is None or own is None or (own.primary and own.all_disks("UpToDate")):
        return False
    return old.whole and split_brain.gone_on(old, own)


def _is_up(trace: Trace, node: str) -> bool:
    resource = trace.resources.get(node)
    return resource is not None and resource.up
