# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy that is gone is made anew without being asked for: nothing is there that could be destroyed.

Its node is new hardware under the old name, or a replacement on it was interrupted. The other copy is up to date.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import copies, fit
from .definitions import write_definitions
from .secondary import sized

if TYPE_CHECKING:
    from .converge import Converge

RISK = "what was written while replication was broken was on the lost disks alone"


def proof(name: str, node: str) -> str:
    """Why a guest certainly does not run on a node that was made anew."""
    return f"{node} answers, and it has no domain and no copy that {name} can have run on"


def copy(converge: Converge, node: str) -> None:
    """Add the steps that make the copy on a node anew; they end when it is filled.

    The volumes come first: with their mark an interruption is told from volumes that were lost.
    """
    c, chain, document = converge, converge.chain, converge.document
    if node not in c.trace.nodes:
        problem = fit.no_room(c.context, sized(c.wanted, c.trace), node)
        if problem is not None:
            remedy = f"add a device to the group, or replace_disks.yml -e instance={c.wanted.name}"
            c.context.error("no-room", c.wanted.name, problem, remedy)
            return
    pair = c.situation.nodes
    # A guest that has to start does so first.
    first = [step.id for step in chain.added if step.op == "replication.take_over"]
    why = f"its copy is not on {node} any more"
    copies.make(chain, document, c.wanted, node, why, after=[*first, *c.context.resyncs.before(pair)])
    write_definitions(chain, c.trace, c.built, (node,), kind=c.kind)
    c.seed(node)
    copies.configure(chain, document, node, "the new copy is to be filled")
    c.context.resyncs.add(pair, copies.fill(chain, document, node, c.wanted.replication.timeout))
