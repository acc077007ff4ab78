# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs rolling, squeeze and check."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from ..placement.check import GroupHealth, total
from ..placement.check import check as examine
from ..placement.rolling import RollingOptions
from ..placement.rolling import rolling as reboots
from ..placement.squeeze import SqueezeOptions
from ..placement.squeeze import squeeze as decide
from ..placement.state import State
from . import inputs
from .balance import plan_of

Json = dict[str, Any]


def rolling(options: argparse.Namespace) -> tuple[Json, int]:
    """In which groups nodes can be rebooted."""
    state = inputs.state(options)
    steps = reboots(
        state,
        RollingOptions(
            offline=options.offline_maintenance,
            ignore_single=options.ignore_non_redundant,
            skip_single=options.skip_non_redundant,
            evacuate=options.full_evacuation,
            group=state.group_number(options.group) if options.group else None,
            tags=inputs.names(options.node_tags) if options.node_tags is not None else None,
            force=options.force,
        ),
    )
    names = state.nodes.names
    groups = [
        {
            "nodes": [names[n] for n in step.nodes],
            "moves": [
                {"instance": state.inst.names[i], "to": [names[n] for n in (p, s) if n >= 0]} for i, p, s in step.moves
            ],
        }
        for step in (steps[:1] if options.one_step_only else steps)
    ]
    return {"reboot_groups": groups}, 0


def squeeze(options: argparse.Namespace) -> tuple[Json, int]:
    """Which nodes can be switched off, or must be switched on."""
    state = inputs.chosen(options, inputs.state(options))
    found = decide(state, SqueezeOptions(options.minimal_resources, options.target_resources))
    names = state.nodes.names
    inputs.save(options.save, "original", state)
    inputs.save(options.save, "squeezed", found.state)
    return {
        "action": found.action,
        "nodes": [names[n] for n in found.nodes],
        "enough": found.enough,
        "offline_candidates": [names[n] for n in found.offline_candidates],
        "online_candidates": [names[n] for n in found.online_candidates],
        **plan_of(found.start, found.plan),
    }, 0


def check(options: argparse.Namespace) -> tuple[Json, int]:
    """What is wrong, and which losses would hurt."""
    state = inputs.chosen(options, inputs.state(options))
    found = examine(
        state,
        inputs.rules(options),
        inputs.limits(options),
        capacity_checks=not options.no_capacity_checks,
        simulate=not options.no_simulation,
        two=not options.single_losses,
    )
    result = {
        "before": _health(state, found.before),
        "after": _health(state, found.after),
        "need_rebalance": not found.healthy,
        "need_rebalance_after": not found.healthy_after,
        "losses": [
            {
                "what": one.what,
                "hurt": [{"instance": state.inst.names[h.instance], "reason": h.reason} for h in one.hurt],
            }
            for one in found.losses
        ],
    }
    return result, 0 if options.no_simulation or found.healthy else 1


def _health(state: State, groups: list[GroupHealth]) -> Json:
    return {
        "groups": {state.cluster.groups[g.group].name: {**asdict(g.health), "score": g.score} for g in groups},
        "cluster": asdict(total(groups)),
    }
