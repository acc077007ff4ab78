# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which losses the cluster could not absorb now."""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import Finding
from ..planner import losses
from .seen import Seen


def findings(seen: Seen) -> Iterator[Finding]:
    """The losses that hurt an instance which is redundant now."""
    # Who has no instances has nothing to lose, and looking takes a while.
    if seen.settled:
        yield from losses.findings(losses.losses(seen.desired, seen.observed, seen.claims))
