# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which groups nodes can be rebooted at once, and what must move before (as Ganeti's hroller)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .coloring import Neighbours, fewest_colours
from .errors import RequestError
from .moves import check_primary, check_secondary
from .state import State


@dataclass(frozen=True, slots=True)
class RollingOptions:
    """What is to be rebooted, and how gently.

    Attributes:
        offline: instances are shut down for the maintenance: only the two nodes of one instance exclude each other.
        ignore_single, skip_single: what to do with nodes that run instances without a second copy: ignore these
            instances, or leave out the nodes; without either the instances are moved away first.
        evacuate: empty the nodes fully: migrate primaries and give secondaries new nodes.
        group: number of the only node group; None for all. tags: only nodes with one of these tags; None for all.
        force: go on although no master node is known.
    """

    offline: bool = False
    ignore_single: bool = False
    skip_single: bool = False
    evacuate: bool = False
    group: int | None = None
    tags: tuple[str, ...] | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Reboot:
    """Nodes that can be rebooted at once, and where instances must be by then: (instance, primary, secondary or -1)."""

    nodes: tuple[int, ...]
    moves: tuple[tuple[int, int, int], ...]


@dataclass(slots=True)
class _Trial:
    """A state with the instances of each node in the order in which they came."""

    state: State
    pri: dict[int, list[int]] = field(default_factory=dict)
    sec: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, state: State) -> _Trial:
        trial = cls(state.copy())
        real = ~state.inst.forthcoming
        for n in range(len(state.nodes.names)):
            # The last one that came is the first to go.
            trial.pri[n] = np.flatnonzero((state.pri == n) & real)[::-1].tolist()
            trial.sec[n] = np.flatnonzero((state.sec == n) & real)[::-1].tolist()
        return trial

    def copy(self) -> _Trial:
        pri = {n: list(here) for n, here in self.pri.items()}
        return _Trial(self.state.copy(), pri, {n: list(here) for n, here in self.sec.items()})


def rolling(state: State, options: RollingOptions | None = None) -> list[Reboot]:
    """The groups of nodes to reboot, one after the other: largest first, the master last.

    Raises:
        RequestError: without exactly one master node, without nodes, or without room for what must move.
    """
    options = options or RollingOptions()
    _check_master(state, options)
    chosen = _chosen(state, options)
    classes = fewest_colours_of(state, chosen, options)
    members = set(chosen)
    if options.evacuate:
        # Only what is rebooted is emptied. hroller also empties the nodes numbered between the chosen ones.
        classes = [[n for n in nodes if n in members] for nodes in classes]
    targets = np.flatnonzero(state.online).tolist()
    start = _Trial.of(state)
    steps = [(nodes, start) for nodes in classes]
    if not options.ignore_single:
        problem = "Not enough capacity to move non-redundant instances"
        steps = [
            step for nodes in classes for step in _partition(nodes, targets, start, _singles, _move, problem=problem)
        ]
    if options.evacuate:
        steps = [(nodes, _migrated(nodes, trial)) for nodes, trial in steps]
        problem = "Not enough capacity to move secondaries"
        steps = [
            s for nodes, trial in steps for s in _partition(nodes, targets, trial, _pairs, _take_off, problem=problem)
        ]
    kept = [([n for n in nodes if n in members], trial) for nodes, trial in steps]
    kept.sort(key=lambda step: -len(step[0]))
    return [Reboot(tuple(nodes), _moves(state, trial.state)) for nodes, trial in _master_last(state, kept)]


def _check_master(state: State, options: RollingOptions) -> None:
    masters = [state.nodes.names[n] for n in np.flatnonzero(state.nodes.master)]
    if len(masters) > 1:
        raise RequestError(f"found more than one master node: {', '.join(masters)}")
    if not masters and not options.force:
        raise RequestError("no master node found; use --force to go on without one")


def _chosen(state: State, options: RollingOptions) -> list[int]:
    singles = _Trial.of(state) if options.skip_single else None
    result = []
    for n in np.flatnonzero(state.online).tolist():
        if options.group is not None and state.nodes.group[n] != options.group:
            continue
        if options.tags is not None and not set(options.tags) & set(state.nodes.tags[n]):
            continue
        if singles is not None and _singles(singles, n):
            continue
        result.append(n)
    if not result:
        raise RequestError("no node is left to reboot")
    return result


def fewest_colours_of(state: State, chosen: list[int], options: RollingOptions) -> list[list[int]]:
    """Classes of nodes that do not exclude each other."""
    first, last = min(chosen), max(chosen)
    graph: Neighbours = [[] for _ignored in range(first, last + 1)]
    members = set(chosen)
    drbd = np.flatnonzero(state.inst.drbd & (state.pri >= 0) & (state.sec >= 0)).tolist()
    pairs = [(int(state.pri[i]), int(state.sec[i])) for i in drbd]
    edges = [edge for p, s in pairs for edge in ((p, s), (s, p))]
    if not options.offline:
        edges += _shared_secondaries(state, set(edges))
    for a, b in edges:
        if a in members and b in members:
            graph[a - first].append(b - first)
    return [[n + first for n in nodes] for nodes in fewest_colours(graph)]


def _shared_secondaries(state: State, known: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Primaries whose instances would all fail over to the same node exclude each other."""
    by_secondary: dict[int, set[int]] = {}
    real = ~state.inst.forthcoming & state.inst.drbd & (state.sec >= 0)
    for i in np.flatnonzero(real).tolist():
        by_secondary.setdefault(int(state.sec[i]), set()).add(int(state.pri[i]))
    cliques = {(a, b) for group in by_secondary.values() for a in group for b in group}
    return sorted(cliques - known)


Instances = Callable[[_Trial, int], list[int]]
#: Moves an instance off a node to some of the nodes given; False, with the trial spoilt, if they have no room.
Relocate = Callable[[_Trial, int, int, list[int]], bool]


def _partition(
    nodes: list[int], targets: list[int], start: _Trial, instances: Instances, relocate: Relocate, *, problem: str
) -> list[tuple[list[int], _Trial]]:
    """Split nodes into groups that can be cleared of some instances at once, each starting afresh."""
    result = []
    left = list(nodes)
    while left:
        cleared, trial = _clear(left, targets, start, instances, relocate)
        if not cleared:
            raise RequestError(problem)
        result.append((cleared, trial))
        left = [n for n in left if n not in cleared]
    return result


def _clear(
    nodes: list[int], targets: list[int], start: _Trial, instances: Instances, relocate: Relocate
) -> tuple[list[int], _Trial]:
    """Clear as many of the nodes as possible, in order."""
    cleared: list[int] = []
    targets, trial = list(targets), start.copy()
    group = start.state.nodes.group
    for n in nodes:
        others = [t for t in targets if t != n and group[t] == group[n]]
        attempt = trial.copy()
        if all(relocate(attempt, i, n, others) for i in instances(trial, n)):
            cleared.append(n)
            targets = [t for t in targets if t != n]
            trial = attempt
    return cleared, trial


def _singles(trial: _Trial, n: int) -> list[int]:
    """The instances of a node that have no second copy."""
    return [i for i in trial.pri[n] if not trial.state.inst.drbd[i]]


def _pairs(trial: _Trial, n: int) -> list[int]:
    """The mirrored instances of a node: its secondaries, and the primaries that could not migrate."""
    return trial.sec[n] + [i for i in trial.pri[n] if trial.state.inst.drbd[i]]


def _move(trial: _Trial, i: int, old: int, targets: list[int]) -> bool:
    """Move an instance without a second copy to the first target that can take it in an emergency."""
    state = trial.state
    for target in targets:
        if check_primary(state, i, target, forced=True):
            continue
        state.remove_primary(i, old)
        state.add_primary(i, target)
        state.pri[i] = target
        trial.pri[old].remove(i)
        trial.pri[target].insert(0, i)
        return True
    return False


def _take_off(trial: _Trial, i: int, n: int, targets: list[int]) -> bool:
    """Give a mirrored instance a place without node n.

    If its other node is offline, its only good copy is on n: it runs there until it has a second one elsewhere.
    """
    state, offline = trial.state, trial.state.nodes.offline
    if offline[state.pri[i]] and not _swap(trial, i):
        return False
    if state.pri[i] == n:
        if offline[state.sec[i]] and not any(_replace(trial, i, t) for t in targets):
            return False
        if not _swap(trial, i):
            return False
    return any(_replace(trial, i, t) for t in targets)


def _replace(trial: _Trial, i: int, target: int) -> bool:
    """Give an instance a new secondary, if that can take it in an emergency."""
    state = trial.state
    p, old = int(state.pri[i]), int(state.sec[i])
    if target == p or check_secondary(state, i, target, p, forced=True):
        return False
    state.remove_secondary(i, old, p)
    state.add_secondary(i, target, p)
    state.sec[i] = target
    trial.sec[old].remove(i)
    trial.sec[target].insert(0, i)
    return True


def _migrated(nodes: list[int], start: _Trial) -> _Trial:
    """Every mirrored instance of the nodes runs on its secondary, if that is online."""
    trial = start.copy()
    state = trial.state
    for i in [i for n in nodes for i in start.pri[n] if state.inst.drbd[i]]:
        target = int(state.sec[i])
        if not state.nodes.offline[target] and not _swap(trial, i):
            name = state.inst.names[i]
            raise RequestError(f"Failed to migrate instances off nodes: {state.nodes.names[target]} cannot run {name}")
    return trial


def _swap(trial: _Trial, i: int) -> bool:
    """Let a mirrored instance run on its secondary, if that can take it in an emergency."""
    state = trial.state
    p, s = int(state.pri[i]), int(state.sec[i])
    state.remove_primary(i, p)
    state.remove_secondary(i, s, p)
    if check_primary(state, i, s, forced=True) or check_secondary(state, i, p, s, forced=True):
        return False
    state.add_primary(i, s)
    state.add_secondary(i, p, s)
    state.pri[i], state.sec[i] = s, p
    trial.pri[p].remove(i)
    trial.sec[s].remove(i)
    trial.pri[s].insert(0, i)
    trial.sec[p].insert(0, i)
    return True


def _master_last(state: State, steps: list[tuple[list[int], _Trial]]) -> list[tuple[list[int], _Trial]]:
    master = state.nodes.master
    ordered = [([*(n for n in nodes if not master[n]), *(n for n in nodes if master[n])], t) for nodes, t in steps]
    last = [step for step in ordered if any(master[n] for n in step[0])]
    return [step for step in ordered if step not in last] + last


def _moves(before: State, after: State) -> tuple[tuple[int, int, int], ...]:
    """Instances that lie on other nodes afterwards; a mere change of roles is not a move."""
    result = []
    for i in range(len(before.inst.names)):
        old, new = (before.pri[i], before.sec[i]), (after.pri[i], after.sec[i])
        mirrored = bool(before.inst.drbd[i])
        changed = old[0] != new[0] or (mirrored and old[1] != new[1])
        swapped = new[0] == old[1] and new[1] == old[0]
        if changed and not swapped:
            result.append((i, int(new[0]), int(new[1]) if mirrored else -1))
    return tuple(result)
