# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A capacity in hspace's machine-readable keys (HTS_...)."""

from __future__ import annotations

import math
import re

from .admission import Fail
from .capacity import Capacity, Filled
from .model import Spec
from .score import score
from .state import State
from .totals import Totals, totals


def keys(found: Capacity) -> list[tuple[str, str]]:
    """All keys with their values, in hspace's order, without the prefix."""
    state, count = found.initial, int((found.initial.pri >= 0).sum())
    initial = totals(state, _primaries(state, 0))
    result = _cluster(state, initial)
    result += _stats("INI", state, initial)
    result += _spec("TSPEC_INI", found.tiered_spec, found.template)
    tiered = totals(found.tiered.state, _primaries(state, len(found.tiered.sizes)))
    result += _stats("TRL", found.tiered.state, tiered)
    result.append(("TSPEC", " ".join(_step(size, number) for size, number in found.tiered.steps())))
    result += _usage(initial, tiered)
    result += _spec("SPEC", found.standard_spec, found.template)
    final = totals(found.standard.state, _primaries(state, len(found.standard.sizes)))
    result += _stats("FIN", found.standard.state, final)
    return result + _outcome(found.standard, count, found.blocked)


def shell(pairs: list[tuple[str, str]]) -> str:
    """The keys as shell assignments, with hspace's prefix and final marker."""
    lines = [f"HTS_{name}={_quoted(value)}" for name, value in pairs]
    return "\n".join([*lines, "HTS_OK=1"]) + "\n"


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[A-Za-z0-9.,]*", value) else f"'{value}'"


def _primaries(state: State, new: int) -> int:
    real = ~state.inst.forthcoming[: len(state.pri)] & (state.pri >= 0)
    return int(real.sum()) + new


def _cluster(state: State, t: Totals) -> list[tuple[str, str]]:
    return [
        ("CLUSTER_MEM", f"{t.mem_total:.0f}"),
        ("CLUSTER_DSK", f"{t.dsk_total:.0f}"),
        ("CLUSTER_CPU", f"{t.cpu_total:.0f}"),
        ("CLUSTER_VCPU", str(t.vcpu_total)),
        ("CLUSTER_SPN", f"{t.spn_total:.0f}"),
        ("CLUSTER_NODES", str(len(state.nodes.names))),
    ]


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.8f}" if whole else "NaN"


def _stats(kind: str, state: State, t: Totals) -> list[tuple[str, str]]:
    values = [
        ("SCORE", f"{score(state):.8f}"),
        ("INST_CNT", str(t.instances)),
        ("MEM_FREE", str(t.mem_free)),
        ("MEM_AVAIL", str(t.mem_avail)),
        ("MEM_RESVD", str(t.mem_free - t.mem_avail)),
        ("MEM_INST", str(t.mem_inst)),
        ("MEM_OVERHEAD", str(t.mem_overhead)),
        ("MEM_EFF", _share(t.mem_inst, t.mem_total)),
        ("DSK_FREE", str(t.dsk_free)),
        ("DSK_AVAIL", str(t.dsk_avail)),
        ("DSK_RESVD", str(t.dsk_free - t.dsk_avail)),
        ("DSK_INST", str(t.dsk_inst)),
        ("DSK_EFF", _share(t.dsk_inst, t.dsk_total)),
        ("SPN_FREE", str(t.spn_free)),
        ("SPN_INST", str(t.spn_inst)),
        ("SPN_EFF", _share(t.spn_inst, t.spn_total)),
        ("CPU_INST", str(t.cpu_inst)),
        ("CPU_EFF", _share(t.cpu_inst, t.vcpu_total)),
        ("MNODE_MEM_AVAIL", str(t.mem_max)),
        ("MNODE_DSK_AVAIL", str(t.dsk_max)),
    ]
    return [(f"{kind}_{name}", value) for name, value in values]


def _spec(prefix: str, spec: Spec, template: str) -> list[tuple[str, str]]:
    return [
        (f"{prefix}_MEM", str(spec.memory)),
        (f"{prefix}_DSK", str(spec.disk_size)),
        (f"{prefix}_CPU", str(spec.vcpus)),
        (f"{prefix}_SPN", str(spec.spindle_use)),
        (f"{prefix}_RQN", "2" if template == "drbd" else "1"),
        (f"{prefix}_DISK_TEMPLATE", template),
    ]


def _step(size: Spec, count: int) -> str:
    return f"{size.memory},{size.disk_size},{size.vcpus},{size.spindle_use}={count}"


def _usage(before: Totals, after: Totals) -> list[tuple[str, str]]:
    """Used before, taken by the tiered instances, and left."""
    rows = {
        "USED": (before.cpu_inst, before.ncpu_inst, before.mem_inst, before.dsk_inst, before.spn_inst),
        "POOL": (
            after.cpu_inst - before.cpu_inst,
            after.ncpu_inst - before.ncpu_inst,
            after.mem_inst - before.mem_inst,
            after.dsk_inst - before.dsk_inst,
            after.spn_inst - before.spn_inst,
        ),
        "UNAV": (
            after.vcpu_total - after.cpu_inst,
            after.cpu_total - after.ncpu_inst,
            math.trunc(after.mem_total) - after.mem_inst,
            math.trunc(after.dsk_total) - after.dsk_inst,
            math.trunc(after.spn_total) - after.spn_inst,
        ),
    }
    result = []
    for name, (cpu, ncpu, mem, dsk, spn) in rows.items():
        values = (("CPU", str(cpu)), ("NPU", _double(ncpu)), ("MEM", str(mem)), ("DSK", str(dsk)), ("SPN", str(spn)))
        result += [(f"KM_{name}_{key}", value) for key, value in values]
    return result


def _double(value: float) -> str:
    """A float as Haskell shows it: scientific below 0.1 and from ten million."""
    value = float(value)
    if value == 0 or 0.1 <= abs(value) < 1e7:
        return repr(value)
    digits, exponent = f"{value:.17e}".split("e")
    for precision in range(1, 18):
        digits, exponent = f"{value:.{precision}e}".split("e")
        if float(f"{digits}e{exponent}") == value:
            break
    return f"{digits}e{int(exponent)}"


def _outcome(filled: Filled, before: int, blocked: bool) -> list[tuple[str, str]]:
    reasons = sorted((fail for fail in Fail if fail), key=lambda fail: -filled.fails[fail])
    if blocked:
        # Nothing was tried: only the reason for that is known.
        reasons = [Fail.FailN1]
    total = before + len(filled.sizes)
    result = [
        ("ALLOC_USAGE", f"{before / total:.8f}" if total else "NaN"),
        ("ALLOC_INSTANCES", str(len(filled.sizes))),
        ("ALLOC_FAIL_REASON", reasons[0].name.upper()),
    ]
    return result + [(f"ALLOC_{fail.name.upper()}_CNT", str(filled.fails[fail])) for fail in reasons]
