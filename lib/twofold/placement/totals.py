# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resources of a whole cluster added up, as hspace reports them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .state import F_DSK, F_SPIN, I_MEM, R_MEM, U_CPU, State


@dataclass(frozen=True, slots=True)
class Totals:
    """Resources of the whole cluster at one moment (MiB and counts)."""

    instances: int
    mem_total: float
    mem_free: int
    mem_avail: int
    mem_inst: int
    mem_overhead: int
    mem_max: int
    dsk_total: float
    dsk_free: int
    dsk_avail: int
    dsk_inst: int
    dsk_max: int
    spn_total: float
    spn_free: int
    spn_inst: int
    cpu_total: float
    cpu_inst: int
    vcpu_total: int
    ncpu_inst: float


def totals(state: State, instances: int) -> Totals:
    """The resources of a state; instances is the number of primaries to report."""
    nodes, dyn = state.nodes, state.dyn
    avail = np.maximum(0.0, state.unallocated - dyn[R_MEM])
    disk = np.where(dyn[F_DSK] < nodes.lo_dsk, 0.0, dyn[F_DSK] - nodes.lo_dsk)
    policies = [g.policy.vcpu_ratio for g in state.cluster.groups]
    ratio = np.array([policies[g] for g in nodes.group]) if len(nodes.group) else np.zeros(0)
    ncpu = np.add.accumulate(dyn[U_CPU] / np.where(nodes.ratio == 0, ratio, nodes.ratio))
    free_spin = np.where(nodes.exclusive, dyn[F_SPIN], 0.0)
    return Totals(
        instances=instances,
        mem_total=float(nodes.t_mem.sum()),
        mem_free=int(state.unallocated.sum()),
        mem_avail=int(avail.sum()),
        mem_inst=int(dyn[I_MEM].sum()),
        mem_overhead=int((nodes.x_mem + nodes.n_mem).sum()),
        mem_max=int(avail.max(initial=0.0)),
        dsk_total=float(nodes.t_dsk.sum()),
        dsk_free=int(dyn[F_DSK].sum()),
        dsk_avail=int(disk.sum()),
        dsk_inst=int((np.trunc(nodes.t_dsk) - dyn[F_DSK]).sum()),
        dsk_max=int(disk.max(initial=0.0)),
        spn_total=float(nodes.spindles.sum()),
        spn_free=int(free_spin.sum()),
        spn_inst=int((nodes.spindles - free_spin).sum()),
        cpu_total=float(nodes.t_cpu.sum()),
        cpu_inst=int(dyn[U_CPU].sum()),
        vcpu_total=int(nodes.hi_cpu.sum()),
        ncpu_inst=float(ncpu[-1]) if len(ncpu) else 0.0,
    )
