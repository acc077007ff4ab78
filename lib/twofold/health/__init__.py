# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cluster's health: what is wrong, by subject. Pure: what the nodes said and the time come in, findings go out.

What a node did not tell is no finding; that it could not tell it is one of the planner's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..findings import Finding
from . import capacity, certificates, definitions, instances, leftovers, losses, nodes, replication
from .seen import Seen

SUBJECTS: tuple[Callable[[Seen], Iterator[Finding]], ...] = (
    replication.findings,
    definitions.findings,
    instances.findings,
    leftovers.findings,
    certificates.findings,
    nodes.findings,
    capacity.findings,
    losses.findings,
)


def findings(seen: Seen) -> Iterator[Finding]:
    """Everything that is wrong, subject by subject."""
    for subject in SUBJECTS:
        yield from subject(seen)
