# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb capacity."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from ..placement import hspace
from ..placement.capacity import CapacityOptions, Filled
from ..placement.capacity import capacity as fill
from ..placement.errors import DataError, RequestError
from ..placement.model import Spec
from ..placement.redundancy import Level
from ..placement.simulate import count, size
from . import inputs

Json = dict[str, Any]


def _size(text: str | None, option: str) -> Spec | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) not in (3, 4):
        raise DataError(option, None, "size", f"is {text!r}; expected DISK,MEMORY,CPUS[,SPINDLES]")
    disk, memory = size(parts[0], option, "disk"), size(parts[1], option, "memory")
    spindles = count(parts[3], option, "spindles") if len(parts) > 3 else 1
    return Spec(memory, count(parts[2], option, "cpus"), disk, spindle_use=spindles)


def capacity(options: argparse.Namespace) -> tuple[Json | str, int]:
    """How many more instances fit."""
    state = inputs.chosen(options, inputs.state(options))
    own = not options.machine_readable and options.method != "hspace"
    if options.survive and not own:
        raise RequestError("--survive is not for hspace's answers: leave out --machine-readable and --method hspace")
    settings = CapacityOptions(
        template=options.disk_template,
        spindle_use=options.spindle_use,
        limit=None if options.max_length < 0 else options.max_length,
        standard=_size(options.standard_alloc, "--standard-alloc"),
        tiered=_size(options.tiered_alloc, "--tiered-alloc"),
        capacity_checks=not options.no_capacity_checks,
        survive=inputs.survive(options) if own else None,
        accept_existing=options.accept_existing_errors,
        independent=options.independent_groups,
    )
    found = fill(state, settings)
    # hspace's keys are hspace's, whatever the rest asks for; for mirrored instances that is the same.
    equal = not own or not settings.capacity_checks or (found.template == "drbd" and settings.survive is Level.NODE)
    keys = hspace.keys(found if equal else fill(state, replace(settings, survive=None)))
    if options.machine_readable:
        return hspace.shell(keys), 0
    return {
        "template": found.template,
        "standard": _filled(found.standard, found.standard_spec),
        "tiered": _filled(found.tiered, found.tiered_spec),
        "keys": dict(keys),
    }, 0


def _filled(filled: Filled, spec: Spec) -> Json:
    return {
        "spec": _spec(spec),
        "instances": len(filled.sizes),
        "steps": [{**_spec(size), "count": count} for size, count in filled.steps()],
        "fails": {fail.name: count for fail, count in filled.fails.items() if count},
    }


def _spec(spec: Spec) -> Json:
    return {"memory": spec.memory, "disk": spec.disk_size, "vcpus": spec.vcpus, "spindles": spec.spindle_use}
