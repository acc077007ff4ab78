# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""N+1: which node's loss, or which failure domain's, could not be absorbed by those that are left.

The one definition of a loss is that of the placement engine (`placement.redundancy`). Who has one copy of its disks by
choice, or by an accident that other findings name, is lost with it in any case, and not spoken of here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..findings import Finding
from .seen import Seen, listing, warning

if TYPE_CHECKING:
    from ..placement.redundancy import Hurt, Loss
    from ..placement.state import State

REMEDY = "balance the cluster, move or stop guests on the nodes that would have to take over, or add memory"


def findings(seen: Seen) -> Iterator[Finding]:
    """The losses that hurt an instance which is redundant now."""
    if not seen.settled:
        return
    # Who has no instances need not wait for NumPy.
    from ..placement.redundancy import domain_losses, single_losses
    from ..placement.state import State
    from ..planner import cluster_view

    state = State(cluster_view.cluster(seen.desired, seen.observed, seen.claims))
    for loss in (*single_losses(state), *domain_losses(state)):
        hurt = [one for one in loss.hurt if _redundant(state, loss, one)]
        if hurt:
            names = [state.inst.names[one.instance] for one in hurt]
            message = (
                f"its loss could not be absorbed: {listing(names)} would not run again; {names[0]}: {hurt[0].reason}"
            )
            yield warning("loss-not-absorbed", _object(loss), message, REMEDY)


def _redundant(state: State, loss: Loss, hurt: Hurt) -> bool:
    """Whether a copy of an instance's disks, or what it runs on without any, is left after the loss."""
    secondary = int(state.sec[hurt.instance])
    if state.inst.drbd[hurt.instance]:
        return secondary >= 0 and not state.nodes.offline[secondary] and secondary not in loss.nodes
    return bool(state.inst.external[hurt.instance])


def _object(loss: Loss) -> str:
    """A node, or a failure domain, which is a tag of the engine's: `domain:rack1`."""
    kind, _ignored, name = loss.what.rpartition(" ")
    return f"node {name}" if kind == "node" else f"{kind} {name.rpartition(':')[2]}"
