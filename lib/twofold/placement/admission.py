# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a node can take an instance: the checks, in the order that decides which failure is reported.

Hard checks keep a node from being overfilled; soft checks keep it healthy and are left out ("forced") when an
instance comes from a worse place, an offline node. Order and wording follow Ganeti's htools (Node.hs of 3.1).

Everything works on arrays that broadcast: one instance against all nodes, or many instances against many nodes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

import numpy as np

from .state import (
    CPU_FORTH,
    DSK_FORTH,
    F_DSK,
    F_SPIN,
    F_SPIN_FORTH,
    I_MEM,
    MEM_FORTH,
    R_MEM,
    SPIN,
    SPIN_FORTH,
    U_CPU,
    Bools,
    Floats,
    Ints,
    State,
)


class Fail(enum.IntEnum):
    """Why an instance cannot go somewhere; the names are those that Ganeti's tools print."""

    NONE = 0
    FailMem = 1
    FailDisk = 2
    FailCPU = 3
    FailN1 = 4
    FailTags = 5
    FailMig = 6
    FailDiskCount = 7
    FailSpindles = 8
    FailInternal = 9


@dataclass(slots=True)
class Room:
    """What nodes offer, as columns that broadcast: shape (1, nodes) for targets, (instances, 1) for own nodes."""

    free: Floats
    reserved: Floats
    disk: Floats
    low_disk: Floats
    exclusive: Bools
    free_spin: Floats
    spin: Floats
    hi_spin: Floats
    cpu: Floats
    t_cpu: Floats
    ratio: Floats
    mem_forth: Floats
    dsk_forth: Floats
    free_spin_forth: Floats
    spin_forth: Floats
    cpu_forth: Floats

    @property
    def fails(self) -> Bools:
        """Which nodes fail N+1 already."""
        result: Bools = self.free <= self.reserved
        return result


@dataclass(slots=True)
class Need:
    """What instances ask for, as columns of shape (instances, 1)."""

    mem: Floats
    used_mem: Floats
    sec_mem: Floats
    peer_mem: Floats
    disk: Floats
    local: Bools
    spin: Floats
    total_spin: Floats
    cpu: Floats
    drbd: Bools
    forthcoming: Bools


def room_of(state: State, which: Ints | None = None, among: Ints | None = None) -> Room:
    """The room of all nodes, or of those among, as a row; or that of one node per instance as a column (which)."""
    nodes = state.nodes
    some = among if which is None else which
    chosen: Ints | slice = slice(None) if some is None else some
    shape = (1, -1) if which is None else (-1, 1)
    dyn = state.dyn[:, chosen].reshape((len(state.dyn), *shape))

    def cut(values: Floats) -> Floats:
        return values[chosen].reshape(shape)

    exclusive: Bools = nodes.exclusive[chosen].reshape(shape)
    return Room(
        free=cut(nodes.mem_cap) - dyn[I_MEM],
        reserved=dyn[R_MEM],
        disk=dyn[F_DSK],
        low_disk=cut(nodes.lo_dsk),
        exclusive=exclusive,
        free_spin=dyn[F_SPIN],
        spin=dyn[SPIN],
        hi_spin=cut(nodes.hi_spin),
        cpu=dyn[U_CPU],
        t_cpu=cut(nodes.d_cpu),
        ratio=cut(nodes.ratio),
        mem_forth=dyn[MEM_FORTH],
        dsk_forth=dyn[DSK_FORTH],
        free_spin_forth=dyn[F_SPIN_FORTH],
        spin_forth=dyn[SPIN_FORTH],
        cpu_forth=dyn[CPU_FORTH],
    )


def need_of(state: State, which: Ints) -> Need:
    """What the instances with these numbers ask for."""
    inst = state.inst

    def cut(values: Floats) -> Floats:
        return values[which][:, None]

    real = ~inst.forthcoming[which]
    return Need(
        mem=cut(inst.mem),
        used_mem=(inst.mem[which] * inst.uses_mem[which])[:, None],
        sec_mem=cut(inst.sec_mem),
        peer_mem=(inst.sec_mem[which] * real)[:, None],
        disk=(inst.dsk[which] * inst.local[which])[:, None],
        local=inst.local[which][:, None],
        spin=(inst.spindle_use[which] * inst.local[which])[:, None],
        total_spin=cut(inst.spindles),
        cpu=(inst.vcpus[which] * inst.not_offline[which])[:, None],
        drbd=inst.drbd[which][:, None],
        forthcoming=inst.forthcoming[which][:, None],
    )


def vacated(room: Room, need: Need, primary: bool, reserved: Floats | None = None) -> Room:
    """The room of nodes once an instance, primary or secondary there, is gone.

    Args:
        reserved: memory reserved by the node afterwards; None for no change.
    """
    real = np.where(need.forthcoming, 0.0, 1.0)
    disk, spin = need.disk, np.where(room.exclusive, 0.0, need.spin)
    total_spin = np.where(room.exclusive, np.maximum(need.total_spin, 0.0), 0.0)
    return replace(
        room,
        free=room.free + need.used_mem if primary else room.free,
        reserved=room.reserved if reserved is None else reserved,
        disk=room.disk + disk * real,
        free_spin=room.free_spin + total_spin * real,
        spin=room.spin - spin * real,
        cpu=room.cpu - need.cpu * real if primary else room.cpu,
        mem_forth=room.mem_forth + need.mem if primary else room.mem_forth,
        dsk_forth=room.dsk_forth + disk,
        free_spin_forth=room.free_spin_forth + total_spin,
        spin_forth=room.spin_forth - spin,
        cpu_forth=room.cpu_forth - need.cpu if primary else room.cpu_forth,
    )


Condition = tuple[Fail, bool, Bools]
"""Reason, whether it is soft, and where it strikes."""


def primary_conditions(room: Room, need: Need, conflict: Bools | None, simple: bool) -> list[Condition]:
    """The checks for taking an instance as primary.

    Args:
        conflict: where an exclusion tag of the instance is taken; None when no instance has any.
        simple: leave out the checks about forthcoming instances, because there are none (State.plain).
    """
    free = room.free - need.used_mem
    disk = room.disk - need.disk
    checks: list[Condition] = [
        (Fail.FailMem, False, free <= 0),
        (Fail.FailDisk, False, need.local & (disk <= 0)),
        (Fail.FailDisk, True, need.local & (disk < room.low_disk)),
    ]
    if room.exclusive.any():
        left = room.free_spin - need.total_spin
        checks.append((Fail.FailSpindles, False, need.local & room.exclusive & ((left < 0) | (need.total_spin < 0))))
    spin = room.spin + need.spin
    checks += [
        (Fail.FailDisk, True, need.local & ~room.exclusive & (spin > room.hi_spin)),
        (Fail.FailMem, True, (free <= room.reserved) & ~room.fails),
        (Fail.FailCPU, True, (room.ratio >= 0) & (room.ratio < (room.cpu + need.cpu) / room.t_cpu)),
    ]
    if conflict is not None:
        checks.append((Fail.FailTags, True, conflict))
    return checks if simple else _with_forthcoming(checks, need, _primary_forth(room, need))


def _primary_forth(room: Room, need: Need) -> list[Condition]:
    disk = room.dsk_forth - need.disk
    checks: list[Condition] = [
        (Fail.FailMem, True, room.mem_forth - need.mem <= 0),
        (Fail.FailDisk, True, need.local & ((disk <= 0) | (disk < room.low_disk))),
    ]
    if room.exclusive.any():
        left = room.free_spin_forth - need.total_spin
        checks.append((Fail.FailSpindles, True, need.local & room.exclusive & ((left < 0) | (need.total_spin < 0))))
    spin = room.spin_forth + need.spin
    checks += [
        (Fail.FailDisk, True, need.local & ~room.exclusive & (spin > room.hi_spin)),
        (Fail.FailCPU, True, (room.ratio >= 0) & (room.ratio < (room.cpu_forth + need.cpu) / room.t_cpu)),
    ]
    return checks


def _with_forthcoming(checks: list[Condition], need: Need, forth: list[Condition]) -> list[Condition]:
    """A forthcoming instance takes nothing real yet: for it only the last group of checks holds."""
    if need.forthcoming.any():
        checks = [(fail, soft, where & ~need.forthcoming) for fail, soft, where in checks]
    return checks + forth


def secondary_conditions(
    room: Room, need: Need, peer: Floats | None, no_disk: Bools | None, simple: bool
) -> list[Condition]:
    """The checks for taking an instance's second copy.

    Args:
        peer: memory that the node reserves already for the instance's primary; None leaves out the (soft) check that
            asks for it, see overloaded().
        no_disk: where the lack of disk does not matter, because the copy is there (a failover off an offline node).
        simple: as in primary_conditions().
    """
    disk = room.disk - need.disk
    full = disk <= 0 if no_disk is None else (disk <= 0) & ~no_disk
    checks: list[Condition] = [
        (Fail.FailDisk, False, np.broadcast_to(~need.drbd, disk.shape)),
        (Fail.FailDisk, False, full),
        (Fail.FailDisk, True, disk < room.low_disk),
    ]
    if room.exclusive.any():
        left = room.free_spin - need.total_spin
        checks.append((Fail.FailSpindles, False, room.exclusive & ((left < 0) | (need.total_spin < 0))))
    checks += [
        (Fail.FailDisk, True, ~room.exclusive & (room.spin + need.spin > room.hi_spin)),
        (Fail.FailMem, True, need.sec_mem >= room.free),
    ]
    if peer is not None:
        checks.append((Fail.FailMem, True, overloaded(room, np.maximum(room.reserved, peer + need.sec_mem))))
    return checks if simple else _with_forthcoming(checks, need, _secondary_forth(room, need))


def overloaded(room: Room, reserved: Floats) -> Bools:
    """Which nodes begin to fail N+1 when they must reserve so much memory."""
    result: Bools = (room.free <= reserved) & ~room.fails
    return result


def _secondary_forth(room: Room, need: Need) -> list[Condition]:
    disk = room.dsk_forth - need.disk
    checks: list[Condition] = [
        (Fail.FailDisk, True, np.broadcast_to(~need.drbd, disk.shape)),
        (Fail.FailDisk, True, (disk <= 0) | (disk < room.low_disk)),
    ]
    if room.exclusive.any():
        left = room.free_spin_forth - need.total_spin
        checks.append((Fail.FailSpindles, True, room.exclusive & ((left < 0) | (need.total_spin < 0))))
    checks += [
        (Fail.FailDisk, True, ~room.exclusive & (room.spin_forth + need.spin > room.hi_spin)),
        (Fail.FailMem, True, need.sec_mem >= room.mem_forth),
    ]
    return checks


def admitted(checks: list[Condition], forced: Bools | bool) -> Bools:
    """Where no check strikes; soft ones do not count where forced is true."""
    hard = soft = None
    for _ignored, is_soft, where in checks:
        if is_soft:
            soft = where if soft is None else soft | where
        else:
            hard = where if hard is None else hard | where
    bad: Bools = np.zeros(1, dtype=bool) if hard is None else hard
    if soft is not None and forced is not True:
        bad = bad | soft if forced is False else bad | (soft & ~np.asarray(forced))
    return ~bad


def reasons(checks: list[Condition], forced: bool) -> np.ndarray:
    """The first failure (a Fail number) of each place; 0 where the instance is admitted."""
    active = [(fail, where) for fail, soft, where in checks if not (soft and forced)]
    shape = np.broadcast_shapes(*(where.shape for _ignored, where in active))
    result = np.zeros(shape, dtype=np.int8)
    for fail, where in reversed(active):
        result[np.broadcast_to(where, shape)] = fail
    return result


def tag_gains(state: State) -> Floats:
    """Per set of exclusion tags (InstanceArrays.tag_sets) and node: how many of the tags a primary there has."""
    taken = (state.tag_count > 0).astype(np.float64)
    return np.stack([taken[:, keys].sum(axis=1) for keys in state.inst.tag_sets])
