# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an instance fits an instance policy."""

from __future__ import annotations

from .admission import Fail
from .model import Instance, Policy, Spec


def violation(instance: Instance, policy: Policy, exclusive: bool) -> Fail:
    """The first thing about an instance that a policy does not allow; Fail.NONE if it fits.

    Args:
        exclusive: whether the node has exclusive storage, where whole spindles count instead of spindle uses.
    """
    verdicts = [_outside(instance, low, high, exclusive) for low, high in policy.bounds]
    if verdicts and all(verdicts):
        return verdicts[0]
    return Fail.NONE if instance.template in policy.templates else Fail.FailDisk


def _outside(instance: Instance, low: Spec, high: Spec, exclusive: bool) -> Fail:
    for spec, sign in ((low, 1), (high, -1)):
        fail = _beyond(instance, spec, sign, exclusive)
        if fail:
            return fail
    return Fail.NONE


def _beyond(instance: Instance, spec: Spec, sign: int, exclusive: bool) -> Fail:
    """What of an instance lies below (sign 1) or above (sign -1) a bound."""
    disks = instance.disks or ((instance.disk,) if instance.template != "diskless" else ())
    spindles = instance.spindles if exclusive else instance.spindle_use
    checks = (
        (Fail.FailMem, [instance.memory], spec.memory),
        (Fail.FailDisk, disks, spec.disk_size),
        (Fail.FailCPU, [instance.vcpus], spec.vcpus),
        (Fail.FailSpindles, [spindles], spec.spindle_use),
        (Fail.FailDiskCount, [] if instance.template == "diskless" else [len(disks)], spec.disk_count),
    )
    for fail, values, bound in checks:
        if any(value is None or sign * (value - bound) < 0 for value in values):
            return fail
    return Fail.NONE
