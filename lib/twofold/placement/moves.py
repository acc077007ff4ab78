# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves of one instance: what they are, whether they are allowed, and carrying them out on a state."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from .admission import (
    Condition,
    Fail,
    need_of,
    primary_conditions,
    reasons,
    room_of,
    secondary_conditions,
    tag_gains,
)
from .model import RUNNING_STATUSES
from .score import score
from .state import Bools, Floats, Ints, State


class Kind(enum.IntEnum):
    """What is done to an instance; the order of the members is the order in which equal moves are preferred."""

    FAILOVER = 0
    REPLACE_SECONDARY = 1
    REPLACE_AND_FAILOVER = 2
    REPLACE_PRIMARY = 3
    FAILOVER_AND_REPLACE = 4
    FAILOVER_TO_ANY = 5


@dataclass(frozen=True, slots=True)
class Move:
    """One instance is moved; target is the number of the new node, -1 for a plain failover."""

    instance: int
    kind: Kind
    target: int = -1


def destination(state: State, move: Move) -> tuple[int, int]:
    """The (primary, secondary) that a move leads to."""
    p, s, t = int(state.pri[move.instance]), int(state.sec[move.instance]), move.target
    return {
        Kind.FAILOVER: (s, p),
        Kind.REPLACE_SECONDARY: (p, t),
        Kind.REPLACE_AND_FAILOVER: (t, p),
        Kind.REPLACE_PRIMARY: (t, s),
        Kind.FAILOVER_AND_REPLACE: (s, t),
        Kind.FAILOVER_TO_ANY: (t, s),
    }[move.kind]


def apply(state: State, move: Move) -> None:
    """Carry out a move without checking it.

    Every intermediate placement is gone through, so that sums of loads get the rounding that Ganeti's get.
    """
    i = move.instance
    p, s, t = int(state.pri[i]), int(state.sec[i]), move.target
    to_p, to_s = destination(state, move)
    state.remove_primary(i, p)
    if move.kind is Kind.FAILOVER_TO_ANY:
        state.add_primary(i, to_p)
        state.pri[i] = to_p
        return
    state.remove_secondary(i, s, p)
    if move.kind is not Kind.FAILOVER:
        state.loc_score[i] = state.shared[to_p, to_s]
    if move.kind is Kind.REPLACE_PRIMARY:
        state.add_primary(i, s)
        state.remove_primary(i, s)
    state.add_primary(i, to_p)
    state.add_secondary(i, to_s, to_p)
    state.pri[i], state.sec[i] = to_p, to_s
    if t >= 0 and t not in (to_p, to_s):
        raise ValueError(f"{move}: the target {t} is neither the new primary {to_p} nor the new secondary {to_s}")


@dataclass(frozen=True, slots=True)
class UndoPoint:
    """Everything that moving one instance among some nodes can change, as it was."""

    instance: int
    nodes: list[int]
    dyn: Floats
    peers: Floats
    tags: Floats
    place: tuple[int, int, float]


def undo_point(state: State, i: int, *nodes: int) -> UndoPoint:
    """Remember everything that moving instance i among these nodes can change."""
    which = [n for n in dict.fromkeys(nodes) if n >= 0]
    place = (int(state.pri[i]), int(state.sec[i]), float(state.loc_score[i]))
    return UndoPoint(
        i, which, state.dyn[:, which].copy(), state.peers[which].copy(), state.tag_count[which].copy(), place
    )


def undo(state: State, point: UndoPoint) -> None:
    """Go back to an undo_point()."""
    state.dyn[:, point.nodes] = point.dyn
    state.peers[point.nodes] = point.peers
    state.tag_count[point.nodes] = point.tags
    i = point.instance
    state.pri[i], state.sec[i], state.loc_score[i] = point.place


def check_primary(state: State, i: int, n: int, forced: bool) -> Fail:
    """Why node n cannot take instance i as primary; Fail.NONE if it can."""
    which, at = np.array([i]), np.array([n])
    conflict = (tag_gains(state)[state.inst.tag_set[i], n] > 0).reshape(1, 1) if state.has_tags else None
    return _first(primary_conditions(room_of(state, at), need_of(state, which), conflict, state.plain), forced)


def check_secondary(state: State, i: int, n: int, primary: int, *, forced: bool, keep_disk: bool = False) -> Fail:
    """Why node n cannot take the second copy of instance i with this primary; Fail.NONE if it can."""
    which, at = np.array([i]), np.array([n])
    peer: Floats = state.peers[n, primary].reshape(1, 1)
    no_disk = np.array([[True]]) if keep_disk else None
    return _first(secondary_conditions(room_of(state, at), need_of(state, which), peer, no_disk, state.plain), forced)


def _first(checks: list[Condition], forced: bool) -> Fail:
    return Fail(int(reasons(checks, forced)[0, 0]))


def check_migration(state: State, source: int, target: int) -> Fail:
    """Whether migration tags allow an instance to go from source to target."""
    if not state.has_migration_tags or state.may_migrate[source, target]:
        return Fail.NONE
    return Fail.FailMig


def attempt(state: State, move: Move, ignore_soft: bool = False) -> Fail:
    """Carry out a move if it is allowed; otherwise leave the state as it was and say why not."""
    i = move.instance
    p, s, t = int(state.pri[i]), int(state.sec[i]), move.target
    migrations = {
        Kind.FAILOVER: [(p, s)],
        Kind.REPLACE_SECONDARY: [],
        Kind.REPLACE_AND_FAILOVER: [(p, t)],
        Kind.REPLACE_PRIMARY: [(p, s), (s, t)],
        Kind.FAILOVER_AND_REPLACE: [(p, s)],
        Kind.FAILOVER_TO_ANY: [(p, t)],
    }[move.kind]
    for source, target in migrations:
        if check_migration(state, source, target):
            return Fail.FailMig
    point = undo_point(state, i, p, s, t)
    fail = _attempt_steps(state, move, p, s, ignore_soft)
    undo(state, point)
    if not fail:
        apply(state, move)
    return fail


def _attempt_steps(state: State, move: Move, p: int, s: int, ignore_soft: bool) -> Fail:
    """Go through the checks of a move; leaves the state changed."""
    i, t, kind = move.instance, move.target, move.kind
    off_p = bool(state.nodes.offline[p])
    force_p = ignore_soft or off_p
    force_s = ignore_soft or (s >= 0 and bool(state.nodes.offline[s]))
    if kind is Kind.FAILOVER_TO_ANY:
        return check_primary(state, i, t, force_p)
    if kind is Kind.REPLACE_SECONDARY:
        fail = check_secondary(state, i, t, p, forced=force_s)
        state.remove_primary(i, p)
        # The primary is put back where it was; that fails on a node that is overfull.
        return fail or check_primary(state, i, p, True)
    state.remove_primary(i, p)
    state.remove_secondary(i, s, p)
    if kind is Kind.REPLACE_AND_FAILOVER:
        return check_primary(state, i, t, ignore_soft) or check_secondary(state, i, p, t, forced=force_s)
    fail = check_primary(state, i, s, force_p)
    if fail:
        return fail
    if kind is Kind.FAILOVER:
        return check_secondary(state, i, p, s, forced=force_p, keep_disk=off_p)
    if kind is Kind.FAILOVER_AND_REPLACE:
        return check_secondary(state, i, t, s, forced=force_p)
    return check_primary(state, i, t, force_p) or check_secondary(state, i, s, t, forced=force_p)


def operations(state: State, move: Move) -> str:
    """A move in hbal's words: f (failover), fa:node (failover to any), r:node (replace secondary)."""
    name = state.nodes.names[move.target] if move.target >= 0 else ""
    return {
        Kind.FAILOVER: "f",
        Kind.REPLACE_SECONDARY: f"r:{name}",
        Kind.REPLACE_AND_FAILOVER: f"r:{name} f",
        Kind.REPLACE_PRIMARY: f"f r:{name} f",
        Kind.FAILOVER_AND_REPLACE: f"f r:{name}",
        Kind.FAILOVER_TO_ANY: f"fa:{name}",
    }[move.kind]


def commands(state: State, move: Move) -> list[str]:
    """A move as the operations that carry it out, in order: migrate or failover, and replace-disks."""
    i = move.instance
    running = state.inst.instances[i].status in RUNNING_STATUSES
    verb = "migrate" if running else "failover"
    name = state.nodes.names[move.target] if move.target >= 0 else ""
    swap, replace = verb, f"replace-disks to {name}"
    return {
        Kind.FAILOVER: [swap],
        Kind.REPLACE_SECONDARY: [replace],
        Kind.REPLACE_AND_FAILOVER: [replace, swap],
        Kind.REPLACE_PRIMARY: [swap, replace, swap],
        Kind.FAILOVER_AND_REPLACE: [swap, replace],
        Kind.FAILOVER_TO_ANY: [f"{verb} to {name}"],
    }[move.kind]


def cost(state: State, move: Move) -> float:
    """MiB that a move copies between nodes: memory for each migration, every disk for a replaced copy."""
    return float(costs(state, np.array([move.instance]), move.kind)[0])


def costs(state: State, which: Ints, kind: Kind) -> Floats:
    """MiB that moves of one kind copy, per instance."""
    migrations, disks = _COPIES[kind]
    inst = state.inst
    result: Floats = migrations * (inst.mem * inst.running)[which] + disks * inst.dsk[which]
    return result


#: How often a kind of move copies an instance's memory, and how often its disks.
_COPIES = {
    Kind.FAILOVER: (1.0, 0.0),
    Kind.REPLACE_SECONDARY: (0.0, 1.0),
    Kind.REPLACE_AND_FAILOVER: (1.0, 1.0),
    Kind.REPLACE_PRIMARY: (2.0, 1.0),
    Kind.FAILOVER_AND_REPLACE: (1.0, 1.0),
    Kind.FAILOVER_TO_ANY: (1.0, 0.0),
}


def involved(state: State, move: Move) -> frozenset[int]:
    """The nodes that a move touches, before and after."""
    i = move.instance
    return frozenset(n for n in (int(state.pri[i]), int(state.sec[i]), *destination(state, move)) if n >= 0)


def waves(groups: list[frozenset[int]]) -> list[list[int]]:
    """Group consecutive moves, given by the nodes that they touch, so that no two of a group share a node.

    Order is kept: a move starts a new group as soon as it shares a node with the current one (as hbal does).
    """
    result: list[list[int]] = []
    busy: set[int] = set()
    for number, nodes in enumerate(groups):
        if result and not (nodes & busy):
            result[-1].append(number)
            busy |= nodes
        else:
            result.append([number])
            busy = set(nodes)
    return result


def movable(state: State) -> Ints:
    """Numbers of the instances that balancing may move: mirrored, placed, not pinned, with auto_balance."""
    inst = state.inst
    return np.flatnonzero(inst.movable & inst.auto & (state.pri >= 0))


def score_after(state: State, move: Move, within: Bools | None = None) -> float:
    """The score (of some nodes alone, if given) after a move, to the last bit; the state is left as it was."""
    i = move.instance
    point = undo_point(state, i, int(state.pri[i]), int(state.sec[i]), move.target)
    apply(state, move)
    value = score(state, within)
    undo(state, point)
    return value
