# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes can be switched off to save power, or must be switched on for want of room (as Ganeti's hsqueeze)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from .greedy import Limits, Plan, balance
from .model import Instance
from .moves import check_primary
from .state import N_SEC, State


@dataclass(frozen=True, slots=True)
class SqueezeOptions:
    """How much room every node must keep, in multiples of the standard size.

    Attributes:
        minimal: below this nodes are switched on. target: above this nodes may be switched off.
    """

    minimal: float = 2.0
    target: float = 2.0


@dataclass(slots=True)
class Squeeze:
    """What to do.

    Attributes:
        action: "online", "offline" or "none". nodes: the nodes to switch.
        enough: whether that gives the room asked for. plan: the moves that go with it.
        start, state: the cluster with the nodes switched, before and after these moves.
    """

    action: str
    nodes: list[int]
    enough: bool
    plan: Plan
    start: State
    state: State
    offline_candidates: list[int] = field(default_factory=list)
    online_candidates: list[int] = field(default_factory=list)


def squeeze(state: State, options: SqueezeOptions | None = None) -> Squeeze:
    """Decide which nodes to switch on or off."""
    options = options or SqueezeOptions()
    off, on = _offline_candidates(state), _online_candidates(state)
    if not _has_room(state, options.minimal):
        result = _switch_on(state, on, options.minimal)
    else:
        result = _switch_off(state, off, options.target)
    result.offline_candidates, result.online_candidates = off, on
    return result


def _offline_candidates(state: State) -> list[int]:
    """Online nodes, not the master, without secondaries and local disks; those with most primaries first."""
    local = np.zeros(len(state.nodes.names), dtype=bool)
    placed = (state.pri >= 0) & ~state.inst.forthcoming & state.inst.local
    local[state.pri[placed]] = True
    good = state.online & ~state.nodes.master & (state.dyn[N_SEC] == 0) & ~local
    count = np.bincount(state.pri[(state.pri >= 0) & ~state.inst.forthcoming], minlength=len(state.nodes.names))
    return sorted(np.flatnonzero(good).tolist(), key=lambda n: -count[n])


def _online_candidates(state: State) -> list[int]:
    return [n for n in np.flatnonzero(~state.online).tolist() if state.nodes.standby[n]]


def _switch_on(state: State, candidates: list[int], factor: float) -> Squeeze:
    """The shortest prefix of the candidates that gives room enough, or all of them."""
    for count in range(len(candidates) + 1):
        trial, plan = switched(state, candidates[:count], False)
        if _settled(trial) and _has_room(trial, factor):
            start = _with_switched(state, candidates[:count], False)
            return Squeeze("online", candidates[:count], True, plan, start, trial)
    trial, plan = switched(state, candidates, False)
    return Squeeze("online", candidates, False, plan, _with_switched(state, candidates, False), trial)


def _switch_off(state: State, candidates: list[int], factor: float) -> Squeeze:
    """Greedily from the end: each candidate stays chosen if all chosen ones can be off together."""
    chosen: list[int] = []
    for n in reversed(candidates):
        trial, _ignored = switched(state, [n, *chosen], True)
        if _settled(trial) and _has_room(trial, factor):
            chosen = [n, *chosen]
    trial, plan = switched(state, chosen, True)
    if not chosen:
        return Squeeze("none", [], True, Plan(plan.initial, plan.initial), state, state)
    return Squeeze("offline", chosen, True, plan, _with_switched(state, chosen, True), trial)


def switched(state: State, nodes: Iterable[int], offline: bool) -> tuple[State, Plan]:
    """The state after switching nodes and balancing to the end, and the moves of that."""
    trial = _with_switched(state, nodes, offline)
    plan = balance(trial, limits=Limits(min_gain=0.0, min_gain_limit=0.0, min_score=-math.inf))
    return trial, plan


def _with_switched(state: State, nodes: Iterable[int], offline: bool) -> State:
    trial = state.copy()
    trial.nodes = copy.copy(state.nodes)
    trial.nodes.offline = state.nodes.offline.copy()
    trial.nodes.offline[list(nodes)] = offline
    return trial


def _settled(state: State) -> bool:
    """Whether all instances run on online nodes."""
    placed = state.pri[state.pri >= 0]
    return not bool(state.nodes.offline[placed].any())


def _has_room(state: State, factor: float) -> bool:
    """Whether every node could take one more instance of the given multiple of the standard size."""
    std = state.cluster.policy.std
    probe = Instance(
        name="probe",
        memory=math.floor(factor * std.memory),
        disk=0,
        vcpus=math.floor(factor * std.vcpus),
        template="ext",
        auto_balance=False,
        spindle_use=math.floor(factor * std.spindle_use),
    )
    trial = state.copy()
    i = trial.append(probe)
    return all(not check_primary(trial, i, n, forced=False) for n in range(len(state.nodes.names)))
