# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a node can or cannot take an instance, with the numbers."""

from __future__ import annotations

from dataclasses import dataclass

from .admission import Fail
from .candidates import policy_fails
from .moves import check_primary, check_secondary
from .state import CPU_FORTH, DSK_FORTH, F_DSK, F_SPIN, MEM_FORTH, R_MEM, SPIN, U_CPU, State


@dataclass(frozen=True, slots=True)
class Verdict:
    """What speaks against a node in each role; empty where nothing does."""

    node: str
    primary: str
    secondary: str


def primary_reason(state: State, i: int, n: int, *, new: bool = True) -> str:
    """Why node n cannot be the primary of instance i; empty if it can.

    Args:
        new: whether the instance is new; only then the instance policy is asked.
    """
    if state.nodes.offline[n]:
        return "is offline or drained"
    fail = Fail(int(policy_fails(state, i)[n])) if new else Fail.NONE
    if fail:
        group = state.cluster.groups[state.nodes.group[n]].name
        return f"the instance policy of node group {group} does not allow its {_SUBJECT[fail]}"
    fail = check_primary(state, i, n, forced=False)
    return _memory_of_primary(state, i, n) if fail is Fail.FailMem else _text(state, i, n, fail)


def secondary_reason(state: State, i: int, n: int, primary: int) -> str:
    """Why node n cannot hold the second copy of instance i beside this primary; empty if it can."""
    if n == primary:
        return "is the primary"
    if state.nodes.offline[n]:
        return "is offline or drained"
    if state.nodes.group[n] != state.nodes.group[primary]:
        return "is in another node group than the primary"
    fail = check_secondary(state, i, n, primary, forced=False)
    return _memory_of_secondary(state, i, n, primary) if fail is Fail.FailMem else _text(state, i, n, fail)


_SUBJECT = {
    Fail.FailMem: "memory",
    Fail.FailDisk: "disk size or template",
    Fail.FailCPU: "number of vCPUs",
    Fail.FailDiskCount: "number of disks",
    Fail.FailSpindles: "spindles",
}


def _memory_of_primary(state: State, i: int, n: int) -> str:
    free, need = state.unallocated[n], state.inst.mem[i]
    if free - need <= 0:
        return f"memory: needs {need:.0f} MiB and some left over, has {free:.0f} MiB"
    reserved = state.dyn[R_MEM, n]
    if free - need <= reserved:
        return (
            f"N+1: would keep {free - need:.0f} MiB of memory, and must keep more than {reserved:.0f} MiB "
            "for the failure of a peer"
        )
    return f"memory with forthcoming instances: needs {need:.0f} MiB, has {state.dyn[MEM_FORTH, n]:.0f} MiB"


def _memory_of_secondary(state: State, i: int, n: int, primary: int) -> str:
    free, need = state.unallocated[n], state.inst.sec_mem[i]
    if need >= free:
        return f"memory: must be able to take over {need:.0f} MiB, has {free:.0f} MiB"
    reserved = max(state.dyn[R_MEM, n], state.peers[n, primary] + need)
    if free <= reserved:
        name = state.nodes.names[primary]
        return f"N+1: would have to keep {reserved:.0f} MiB of memory for the failure of {name}, has {free:.0f} MiB"
    return f"memory with forthcoming instances: needs {need:.0f} MiB, has {state.dyn[MEM_FORTH, n]:.0f} MiB"


def _text(state: State, i: int, n: int, fail: Fail) -> str:
    inst, nodes, dyn = state.inst, state.nodes, state.dyn
    if fail is Fail.NONE:
        return ""
    if fail is Fail.FailDisk:
        if not nodes.exclusive[n] and dyn[SPIN, n] + inst.spindle_use[i] > nodes.hi_spin[n]:
            return f"spindles: {dyn[SPIN, n]:.0f} used, at most {nodes.hi_spin[n]:.0f} allowed"
        free = min(dyn[F_DSK, n], dyn[DSK_FORTH, n])
        return f"disk: needs {inst.dsk[i]:.0f} MiB beyond a reserve of {nodes.lo_dsk[n]:.0f} MiB, has {free:.0f} MiB"
    if fail is Fail.FailCPU:
        used = max(dyn[U_CPU, n], dyn[CPU_FORTH, n])
        most = nodes.ratio[n] * nodes.t_cpu[n]
        return f"CPU: {used:.0f} of {most:.0f} vCPUs are given away, needs {inst.vcpus[i]:.0f}"
    if fail is Fail.FailTags:
        held = {key for key in inst.tag_keys[i] if state.tag_count[n, key] > 0}
        names = sorted(tag for tag, key in state.keys.exclusion.items() if key in held)
        return f"exclusion tag: runs an instance with {', '.join(names)}"
    if fail is Fail.FailSpindles:
        return f"spindles: needs {inst.spindles[i]:.0f} of its own, has {dyn[F_SPIN, n]:.0f} free"
    return fail.name
