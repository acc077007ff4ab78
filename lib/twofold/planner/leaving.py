# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the instances of nodes that are emptied go: the placement engine decides for all of them in one call."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np

from ..model import Instance
from ..placement.affinity import Book
from ..placement.emptying import Emptied, EmptyOptions, empty
from ..placement.evacuate import Mode
from ..placement.redundancy import Level
from ..placement.state import State
from . import affinity, cluster_view, placement
from .context import Context
from .placed import unwanted
from .secondary import no_copy

#: What the playbooks call it.
MODES = {"primaries": Mode.PRIMARY, "secondaries": Mode.SECONDARY, "both": Mode.ALL}


@dataclass
class Decision:
    """Per instance its new nodes, primary first; why others, or second copies alone, stay; what was overlooked."""

    places: dict[str, tuple[str, ...]] = field(default_factory=dict)
    stay: dict[str, str] = field(default_factory=dict)
    copy_stays: dict[str, str] = field(default_factory=dict)
    overlooked: dict[str, str] = field(default_factory=dict)


def decide(
    context: Context, leaving: Collection[str], instances: Iterable[Instance], mode: str, *, for_a_while: bool = False
) -> Decision:
    """Choose the nodes to which instances go that leave some; `mode` is one of `MODES`.

    If they come home after a while, affinities give way where an instance could go nowhere else.
    """
    return _Decider(context, leaving, list(instances), for_a_while=for_a_while).run(MODES[mode])


class _Decider:
    """What one call of the engine needs, in its numbers."""

    def __init__(
        self, context: Context, leaving: Collection[str], instances: list[Instance], *, for_a_while: bool
    ) -> None:
        found = cluster_view.cluster(context.desired, context.observed, context.claims)
        self.context, self.for_a_while = context, for_a_while
        self.state = State(found)
        names = self.state.inst.names
        self.book = Book(self.state, affinity.unpinned(context.desired, names))
        self.leaving = np.isin(np.array(self.state.nodes.names, dtype=object), list(leaving))
        self.instances = {names.index(one.name): one for one in instances if one.name in names}
        self.nodes = {name: n for n, name in enumerate(self.state.nodes.names)}

    def run(self, mode: Mode) -> Decision:
        """Decide; who cannot take its second copy along goes without it."""
        decision, names = Decision(), self.state.inst.names
        found = self._empty(self.instances, mode)
        self._take(decision, found)
        failed = dict(found.failed)
        alone = {i for i in failed if mode is Mode.ALL and self.state.sec[i] >= 0 and self.leaving[self.state.pri[i]]}
        later = self._empty(alone, Mode.PRIMARY)
        self._take(decision, later)
        moved = {i for i, _group, _nodes in later.moved}
        decision.copy_stays = {names[i]: failed[i] for i in sorted(moved)}
        failed |= dict(later.failed)
        decision.stay = {names[i]: why for i, why in failed.items() if i not in moved}
        return decision

    def _empty(self, which: Collection[int], mode: Mode) -> Emptied:
        options = EmptyOptions(
            mode=mode,
            refused={i: self._refused(self.instances[i]) for i in which},
            preferred={i: frozenset(self._numbers(self.instances[i].nodes)) for i in which},
            for_a_while=self.for_a_while,
            survive=Level.NODE,
        )
        return empty(self.state, self.book, self.leaving, which, options)

    def _numbers(self, names: Iterable[str]) -> list[int]:
        return [self.nodes[name] for name in names if name in self.nodes]

    def _refused(self, wanted: Instance) -> dict[int, str]:
        """The nodes that lack something for an instance; those that hold its disks need no more space."""
        context, trace = self.context, self.context.observed.trace(wanted.name)
        found = unwanted(context.desired, wanted) | no_copy(context, wanted, trace)
        for node in (trace.newest or {"nodes": ()})["nodes"]:
            missing = placement.lacking(context.desired, context.observed, wanted, node)
            # What the inventory has against these is a rule, which may give way.
            found |= {node: ", ".join(missing)}
        return {self.nodes[node]: why for node, why in found.items() if why}

    def _take(self, decision: Decision, found: Emptied) -> None:
        nodes, names = self.state.nodes.names, self.state.inst.names
        decision.places |= {names[i]: tuple(nodes[n] for n in where) for i, _group, where in found.moved}
        decision.overlooked |= {names[i]: why for i, why in found.overlooked.items()}
