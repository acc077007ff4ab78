# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where second copies go: the placement engine's choice, for several instances of one plan together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from .. import definition
from ..model import Instance
from ..observed import Trace
from . import copies, placement, twins
from .context import Context

if TYPE_CHECKING:
    from ..placement.state import State

Refused = Mapping[str, str]


def sized(wanted: Instance, trace: Trace) -> Instance:
    """An instance of the inventory with the disks that it has."""
    base = trace.newest or {"disks": ()}
    pairs = zip(wanted.disks, base["disks"], strict=False)
    return wanted.model_copy(update={"disks": [disk.model_copy(update={"size": has["size"]}) for disk, has in pairs]})


def minors_taken(context: Context, trace: Trace) -> dict[str, str]:
    """The nodes on which another disk has the DRBD minor of one of the instance's, each with that as the reason."""
    base = trace.newest or {"disks": ()}
    own = {int(number) for disk in base["disks"] for number in (disk["minor"] or {}).values()}
    taken = {node: own & context.claims.minors[node] for node in context.desired.nodes if node not in trace.nodes}
    return {node: f"has its DRBD minor {min(found)} in use" for node, found in taken.items() if found}


def no_copy(context: Context, wanted: Instance, trace: Trace) -> dict[str, str]:
    """The nodes that lack something for a copy of an instance's disks, each with all that speaks against it."""
    lacking = placement.why_not(context.desired, context.observed, context.claims, sized(wanted, trace))
    keeps = {node: "keeps data of it that was given up" for node in trace.volumes if copies.kept(trace, node)}
    pair = definition.holders(trace.newest) if trace.newest is not None else []
    others = {node: twins.of(wanted.name) for node in trace.nodes if twins.holds_anothers(trace, node, pair)}
    return lacking | minors_taken(context, trace) | keeps | others


class Choice:
    """The second copies that a plan moves; each counts where it goes when the next is chosen."""

    def __init__(self, context: Context, leaving: Collection[str] = ()) -> None:
        # Only what moves a copy waits for NumPy.
        from ..placement.affinity import Book
        from ..placement.state import BuildOptions, State
        from . import affinity, cluster_view

        self._context = context
        self._leaving = leaving
        found = cluster_view.cluster(context.desired, context.observed, context.claims)
        self._state: State = State(found, BuildOptions())
        rules = affinity.unpinned(context.desired, {guest.name for guest in found.instances})
        self._book = Book(self._state, rules)

    def verdicts(self, wanted: Instance, trace: Trace) -> Refused:
        """What keeps the second copy of an instance from each node, empty where nothing does."""
        from ..placement.explain import secondary_reason

        i, context = self._number(wanted.name), self._context
        refused = no_copy(context, wanted, trace) | dict.fromkeys(self._leaving, "is being emptied")
        own, as_secondary, apart = self._state, self._book.forbidden(i)[1], self._book.apart(i)
        primary, second = int(own.pri[i]), int(own.sec[i])
        own.unplace(i)
        found = {}
        for n, name in enumerate(own.nodes.names):
            rule = as_secondary[n] or ("" if apart[primary, n] else "may fail together with the primary")
            found[name] = refused.get(name) or rule or secondary_reason(own, i, n, primary)
        own.place(i, primary, second)
        return found

    def best(self, wanted: Instance, trace: Trace) -> tuple[str | None, Refused]:
        """The node that suits best and is not one of the present pair, and what speaks against the others."""
        from ..placement.score import score

        i, own = self._number(wanted.name), self._state
        present = (trace.newest or {"nodes": ()})["nodes"]
        verdicts = {node: why for node, why in self.verdicts(wanted, trace).items() if node not in present}
        primary, second = int(own.pri[i]), int(own.sec[i])
        scope = own.nodes.group == own.nodes.group[primary]
        scores: dict[str, float] = {}
        own.unplace(i)
        for node in [name for name, why in verdicts.items() if not why]:
            own.place(i, primary, own.nodes.names.index(node))
            scores[node] = score(own, scope)
            own.unplace(i)
        own.place(i, primary, second)
        chosen = min(scores, key=lambda node: (scores[node], node), default=None)
        return chosen, verdicts

    def take(self, name: str, node: str) -> None:
        """The second copy of an instance goes to a node."""
        i, own = self._number(name), self._state
        primary = int(own.pri[i])
        own.unplace(i)
        own.place(i, primary, own.nodes.names.index(node))

    def moved(self, name: str, node: str) -> None:
        """The instance itself goes to a node: that of its second copy, if it has one."""
        i, own = self._number(name), self._state
        primary, second = int(own.pri[i]), int(own.sec[i])
        own.unplace(i)
        own.place(i, own.nodes.names.index(node), primary if second >= 0 else -1)

    def _number(self, name: str) -> int:
        return self._state.inst.names.index(name)
