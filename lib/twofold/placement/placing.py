# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Placing many new instances at once: pure and the same for the same input.

The most constrained instance goes first, each to the place with the best score; where one finds no place, others that
were placed in this call make room (jointly.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from .affinity import Book, Rules
from .candidates import Places, pair_places, single_places
from .errors import RequestError
from .explain import Verdict, primary_reason, secondary_reason
from .jointly import Jointly
from .model import LOCAL_TEMPLATES, TEMPLATES, AllocPolicy, Cluster, Instance
from .redundancy import Level, kept
from .state import Bools, BuildOptions, Floats, State

_LOSS = {
    Level.NODE: "the loss of some node",
    Level.TWO: "the loss of some two nodes",
    Level.DOMAIN: "the loss of some failure domain",
}
#: What drbd keeps beside each disk for its own records, MiB.
DRBD_METADATA = 128


@dataclass(frozen=True, slots=True)
class Request:
    """A new instance.

    Attributes:
        name: its name. memory: MiB. vcpus: count. disks: size of each disk in MiB.
        template: disk template; drbd takes two nodes.
        rules: demands and wishes for its nodes.
        tags: exclusion and location tags, as Ganeti understands them.
        networks: networks that its node group must have.
        running: False for an instance that is created stopped and needs no memory yet.
        metadata: what drbd keeps beside each disk, MiB.
        auto_balance: whether its secondary keeps memory to take it over.
    """

    name: str
    memory: int
    vcpus: int
    disks: tuple[int, ...] = ()
    template: str = "drbd"
    rules: Rules = field(default_factory=Rules)
    tags: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    spindle_use: int = 1
    running: bool = True
    metadata: int = DRBD_METADATA
    auto_balance: bool = True

    @property
    def mirrored(self) -> bool:
        """Whether it has a primary and a secondary."""
        return self.template == "drbd"

    def instance(self) -> Instance:
        """The instance that the request asks for, not placed."""
        extra = self.metadata * len(self.disks) if self.mirrored else 0
        return Instance(
            name=self.name,
            memory=self.memory,
            disk=sum(self.disks) + extra if self.template in LOCAL_TEMPLATES else sum(self.disks),
            vcpus=self.vcpus,
            template=self.template,
            status="running" if self.running else "ADMIN_down",
            auto_balance=self.auto_balance,
            tags=self.tags,
            spindle_use=self.spindle_use,
            disks=self.disks,
            networks=self.networks,
        )


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a new instance goes.

    Attributes:
        name: of the instance.
        nodes: names of its nodes, the primary first; empty if it fits nowhere.
        score: the cluster's score once it is there (with those placed before it); None if it fits nowhere.
        verdicts: per node what speaks against it, given everything else that was placed; for an instance that was
            placed only if the caller asked to explain.
        problem: why it fits nowhere, in one sentence; empty if it was placed.
    """

    name: str
    nodes: tuple[str, ...]
    score: float | None
    verdicts: tuple[Verdict, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PlaceOptions:
    """How to place.

    Attributes:
        build: how to look at the cluster (offline nodes, limits, load).
        rules: rules of the instances that exist already, by name; affinity needs them.
        survive: refuse places after which losses of this kind would not be survived, unless that is so already; None
            to ask for nothing.
        explain: give the verdict on every node for placed instances, too.
    """

    build: BuildOptions = field(default_factory=BuildOptions)
    rules: Mapping[str, Rules] = field(default_factory=dict)
    survive: Level | None = Level.NODE
    explain: bool = False


def place(cluster: Cluster, requests: Iterable[Request], options: PlaceOptions | None = None) -> list[Placement]:
    """Choose nodes for all new instances at once.

    Args:
        cluster: what is observed. requests: the new instances.
    Returns:
        One placement per request, in the order of the requests.
    Raises:
        RequestError: for requests that contradict the cluster or each other: a name twice, an unknown template, node
            or node group, more pins than nodes.
    """
    wanted = list(requests)
    options = options or PlaceOptions()
    _validate(cluster, wanted)
    return _Placer(cluster, wanted, options).run()


def _validate(cluster: Cluster, requests: list[Request]) -> None:
    seen = {i.name for i in cluster.instances}
    for request in requests:
        if request.name in seen:
            raise RequestError(f"instance {request.name}: exists already")
        seen.add(request.name)
        if request.template not in TEMPLATES:
            raise RequestError(
                f"instance {request.name}: disk template {request.template!r}: expected one of {', '.join(TEMPLATES)}"
            )
        if request.memory < 0 or request.vcpus < 0 or any(size < 0 for size in request.disks):
            raise RequestError(f"instance {request.name}: memory, vcpus and disks must not be negative")
        if request.rules.secondary and not request.mirrored:
            raise RequestError(
                f"instance {request.name}: pinned to a secondary, but disk template {request.template} has one node"
            )


class _Placer(Jointly):
    def __init__(self, cluster: Cluster, requests: list[Request], options: PlaceOptions) -> None:
        super().__init__(State(cluster, options.build, [r.instance() for r in requests]))
        self.options, self.requests = options, requests
        self.first = len(cluster.instances)
        rules = {**options.rules, **{r.name: r.rules for r in requests}}
        self.book = Book(self.state, rules)
        self.good = None if options.survive is None else kept(self.state, options.survive)
        self.allocable = np.array(
            [cluster.groups[g].alloc_policy is not AllocPolicy.UNALLOCABLE for g in self.state.nodes.group], dtype=bool
        )

    def run(self) -> list[Placement]:
        numbers = [self.first + k for k in range(len(self.requests))]
        self.place_all(self._order(numbers))
        return [self._result(i - self.first) for i in numbers]

    def _order(self, numbers: list[int]) -> list[int]:
        """Fewest choices first, then the largest."""
        inst = self.state.inst
        choices = {i: int(np.isfinite(self._places(i - self.first)).sum()) for i in numbers}
        sizes = {i: (-inst.mem[i], -sum(self.requests[i - self.first].disks)) for i in numbers}
        return sorted(numbers, key=lambda i: (choices[i], *sizes[i], inst.names[i]))

    def _places(self, k: int) -> Floats:
        """The score, with wishes, of every place that is possible for request k now."""
        i, mirrored = self.first + k, self.requests[k].mirrored
        state = self.state
        allowed: Bools = state.online & self.allocable & self._networked(k)
        places: Places = (pair_places if mirrored else single_places)(state, i, allowed)
        if not self.book.any:
            return places.score
        score = places.score + self.book.penalty(i, mirrored)
        return np.where(self.book.allowed(i, mirrored), score, np.inf)

    def _networked(self, k: int) -> Bools:
        needs = set(self.requests[k].networks)
        good = [needs <= set(g.networks) for g in self.state.cluster.groups]
        return np.array(good, dtype=bool)[self.state.nodes.group]

    def put(self, i: int) -> bool:
        """Place a request's instance at its best place."""
        score = self._places(i - self.first)
        flat = score.ravel()
        ranks = self._ranks(score.shape)
        found = np.flatnonzero(np.isfinite(flat))
        for one in found[np.lexsort((found, flat[found], ranks[found]))]:
            where = np.unravel_index(one, score.shape)
            self.state.place(i, int(where[0]), int(where[1]) if len(where) > 1 else -1)
            if self.good is None or self.good(self.state):
                self.scores[i] = float(flat[one])
                return True
            self.state.unplace(i)
        return False

    def _ranks(self, shape: tuple[int, ...]) -> np.ndarray:
        """Preference of each place's node group: a last resort is used only when nothing else is left."""
        groups = self.state.cluster.groups
        rank = np.array([groups[g].alloc_policy.rank for g in self.state.nodes.group])
        return rank if len(shape) == 1 else np.repeat(rank, shape[1])

    def _result(self, k: int) -> Placement:
        state, i = self.state, self.first + k
        p, s = int(state.pri[i]), int(state.sec[i])
        names = tuple(state.nodes.names[n] for n in (p, s) if n >= 0)
        name = self.requests[k].name
        if names and not self.options.explain:
            return Placement(name, names, self.scores[i])
        if names:
            state.unplace(i)
            verdicts = self._verdicts(k, p)
            state.place(i, p, s)
            return Placement(name, names, self.scores[i], verdicts)
        verdicts = self._verdicts(k, self._likely_primary(k))
        return Placement(name, (), None, verdicts, self._problem(k, verdicts))

    def _likely_primary(self, k: int) -> int:
        """A node that could be primary of an instance without a place, to judge secondaries by; -1 for none."""
        i = self.first + k
        forbidden, _ignored = self.book.forbidden(i)
        for n in range(len(self.state.nodes.names)):
            if not forbidden[n] and self.allocable[n] and not primary_reason(self.state, i, n):
                return n
        return -1

    def _verdicts(self, k: int, primary: int) -> tuple[Verdict, ...]:
        state, i = self.state, self.first + k
        as_primary, as_secondary = self.book.forbidden(i)
        networked, apart = self._networked(k), self.book.apart(i)
        result = []
        for n, name in enumerate(state.nodes.names):
            common = "" if self.allocable[n] else "its node group takes no new instances"
            common = common or ("" if networked[n] else "its node group lacks a network of the instance")
            first = common or as_primary[n] or primary_reason(state, i, n)
            second = ""
            if self.requests[k].mirrored:
                second = common or as_secondary[n]
                if not second and primary >= 0:
                    second = secondary_reason(state, i, n, primary)
                    if not second and not apart[primary, n]:
                        second = f"shares a failure domain with the primary {state.nodes.names[primary]}"
            result.append(Verdict(name, first, second))
        return tuple(result)

    def _problem(self, k: int, verdicts: tuple[Verdict, ...]) -> str:
        request = self.requests[k]
        primaries = [v for v in verdicts if not v.primary]
        if not primaries:
            return f"instance {request.name}: no node can be its primary"
        if request.mirrored and all(v.secondary for v in verdicts):
            return f"instance {request.name}: no node can be its secondary"
        if self.options.survive is not None and np.isfinite(self._places(k)).any():
            loss = _LOSS[self.options.survive]
            return f"instance {request.name}: wherever it goes, {loss} would leave an instance without a place"
        return f"instance {request.name}: no pair of nodes can take it"
