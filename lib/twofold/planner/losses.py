# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""N+1: which node's loss, or which failure domain's, could not be absorbed by those that are left.

The one definition of a loss is that of the placement engine (`placement.redundancy`). Who has one copy of its disks by
choice, or by an accident that other findings name, is lost with it in any case, and not spoken of here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..findings import WARNING, Finding, listing
from ..model import Desired
from ..observed import Observed
from .claims import Claims

if TYPE_CHECKING:
    from ..placement.redundancy import Hurt, Loss
    from ..placement.state import State

CODE = "loss-not-absorbed"
REMEDY = "balance the cluster, move or stop guests on the nodes that would have to take over, or add memory"
# By `node node1` or `failure domain rack1`: the redundant instances that would not run again, each with the reason.
Losses = dict[str, dict[str, str]]


def losses(desired: Desired, observed: Observed, claims: Claims) -> Losses:
    """The losses that hurt an instance which is redundant now."""
    # Who does not ask need not wait for NumPy.
    from ..placement.redundancy import domain_losses, single_losses
    from ..placement.state import State
    from . import cluster_view

    state = State(cluster_view.cluster(desired, observed, claims))
    found: Losses = {}
    for loss in (*single_losses(state), *domain_losses(state)):
        hurt = {state.inst.names[one.instance]: one.reason for one in loss.hurt if _redundant(state, loss, one)}
        if hurt:
            found[_object(loss)] = hurt
    return found


def findings(found: Losses, when: str = "") -> Iterator[Finding]:
    """What is said of each loss; `when` is that so, if it is not now."""
    for target, hurt in found.items():
        names = list(hurt)
        why = f"{names[0]}: {hurt[names[0]]}"
        message = f"{when}its loss could not be absorbed: {listing(names)} would not run again; {why}"
        yield Finding(WARNING, CODE, target, message, REMEDY)


def added(before: Losses, after: Losses) -> Losses:
    """What of the later ones is not among the earlier ones."""
    new = {
        target: {name: why for name, why in hurt.items() if name not in before.get(target, {})}
        for target, hurt in after.items()
    }
    return {target: hurt for target, hurt in new.items() if hurt}


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
