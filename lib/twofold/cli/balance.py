# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs score and balance."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..placement.balance import Budget
from ..placement.balance import balance as full_balance
from ..placement.errors import RequestError
from ..placement.greedy import Plan, Step
from ..placement.greedy import balance as greedy_balance
from ..placement.moves import apply, commands, cost, involved, operations, waves
from ..placement.redundancy import Level, survives
from ..placement.scan import Rules
from ..placement.score import METRICS, bad_items, detailed
from ..placement.simulate import size
from ..placement.state import State
from . import inputs

if TYPE_CHECKING:
    from ..placement.affinity import Book
    from ..placement.explain_moves import Explanation

Json = dict[str, Any]

#: Beyond so many nodes nobody waits for the answer whether any two may be lost.
_PAIRS = 300


def score(options: argparse.Namespace) -> tuple[Json, int]:
    """How good a placement is."""
    state = inputs.chosen(options, inputs.state(options))
    result = detailed(state)
    nodes, instances = bad_items(state)
    return {
        "score": result.total,
        "metrics": result.metrics,
        "weights": dict(METRICS),
        "bad_nodes": [state.nodes.names[n] for n in nodes],
        "bad_instances": [state.inst.names[i] for i in instances],
    }, 0


def balance(options: argparse.Namespace) -> tuple[Json, int]:
    """Moves that make the placement better."""
    state = inputs.one_group(options, inputs.state(options))
    start = state.copy()
    rules, limits = inputs.rules(options), inputs.limits(options)
    book = inputs.book(options, state)
    extra: Json = {}
    if options.method == "hbal":
        _refuse_extras(options)
        plan = greedy_balance(state, rules, limits)
    else:
        most = size(options.max_copy, "--max-copy", "size") if options.max_copy else None
        effort = 1.0 if options.effort is None else options.effort
        budget = Budget(max_copy=most, effort=effort, survive=inputs.survive(options))
        found = full_balance(state, rules, limits, budget, book)
        plan = found.plan
        if book is not None:
            extra["rules_cost"] = {"before": found.wishes[0], "after": found.wishes[1]}
    result = plan_of(start, plan) | extra
    result["survives"] = {"before": _survives(start), "after": _survives(state)}
    if options.explain:
        _explain(result["moves"], start, plan, rules, book)
    inputs.save(options.save, "original", start)
    inputs.save(options.save, "balanced", state)
    return result, 0


def _refuse_extras(options: argparse.Namespace) -> None:
    """hbal's method knows neither budgets nor rules: who asks for them must not believe that they are kept."""
    names = ("max_copy", "effort", "rules", "survive")
    extras = {f"--{name.replace('_', '-')}": getattr(options, name) for name in names}
    for name, value in extras.items():
        if value is not None:
            raise RequestError(f"--method hbal moves as hbal does, which knows no {name}; leave one of them out")


def _survives(state: State) -> Json:
    """Which losses all instances survive; null where that was not asked."""
    many = len(state.nodes.names) > _PAIRS
    return {level.value: None if level is Level.TWO and many else survives(state, level) for level in Level}


def plan_of(start: State, plan: Plan) -> Json:
    """A plan as JSON; start is the state before it."""
    trial, moves, touched = start.copy(), [], []
    curve, copied, before = [{"copied_mib": 0.0, "score": plan.initial}], 0.0, plan.initial
    for step in plan.steps:
        price = cost(trial, step.move)
        copied += price
        moves.append(_move(trial, step, price, before - step.score))
        touched.append(involved(trial, step.move))
        apply(trial, step.move)
        curve.append({"copied_mib": copied, "score": step.score})
        before = step.score
    return {
        "initial_score": plan.initial,
        "final_score": plan.final,
        "moves": moves,
        "jobs": waves(touched),
        "copied_mib": copied,
        "curve": curve,
    }


def _move(state: State, step: Step, price: float, gain: float) -> Json:
    def names(pair: tuple[int, int]) -> list[str]:
        return [state.nodes.names[n] for n in pair if n >= 0]

    return {
        "instance": state.inst.names[step.move.instance],
        "from": names(step.source),
        "to": names(step.target),
        "score": step.score,
        "gain": gain,
        "ops": operations(state, step.move),
        "commands": commands(state, step.move),
        "copied_mib": price,
    }


def _explain(moves: list[Json], start: State, plan: Plan, rules: Rules, book: Book | None) -> None:
    """Add to every move why it leads there and not elsewhere, in the state in which it is made."""
    from ..placement.explain_moves import explain_move

    trial = start.copy()
    for entry, step in zip(moves, plan.steps, strict=True):
        entry["explain"] = _explanation(explain_move(trial, step.move, rules, book), entry["to"])
        apply(trial, step.move)


def _explanation(one: Explanation, chosen: list[str]) -> Json:
    return {
        "stays": one.stays,
        "metrics": {name: {"before": old, "after": new} for name, (old, new) in one.metrics.items()},
        "nodes": [
            {
                "node": other.node,
                "chosen": other.node in chosen,
                "ops": other.operations or None,
                "score": other.score,
                "primary": other.primary or None,
                "secondary": other.secondary or None,
            }
            for other in one.nodes
        ],
    }
