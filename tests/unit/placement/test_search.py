# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The search: chains lead out of where single moves and pairs are stuck; large clusters are treated alike."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bench import clusters
from tests.differential import generate

from twofold.placement import search
from twofold.placement.balance import Budget, balance
from twofold.placement.greedy import balance as greedy_balance
from twofold.placement.moves import attempt
from twofold.placement.score import score
from twofold.placement.state import State

SHAPE = generate.Shape(nodes=(3, 6), per_node=(1, 5), offline=0.1, templates=("drbd", "drbd", "ext"))


@given(st.integers(0, 10**6))
@settings(max_examples=6, deadline=None)
def test_balanced_stays_balanced(seed: int) -> None:
    state = State(generate.cluster(seed, SHAPE)).subset(0)
    thorough = Budget(effort=100.0)
    balance(state, budget=thorough)
    again = balance(state, budget=thorough)
    assert again.plan.steps == []


def test_pairs_go_further_than_greedy_and_longer_chains_further_than_pairs() -> None:
    worlds = [clusters.skewed(6, 40, seed=seed) for seed in (1, 2)]
    greedy = [greedy_balance(State(world)).final for world in worlds]
    pairs = [balance(State(world), budget=Budget(depth=2, effort=10)).plan.final for world in worlds]
    longer = [balance(State(world), budget=Budget(depth=4, effort=10)).plan.final for world in worlds]
    for one, two, more in zip(greedy, pairs, longer, strict=True):
        assert more < two < one


def test_effort_limits_the_search_and_nothing_else() -> None:
    world = clusters.skewed(6, 30, skew=1.5)
    greedy = greedy_balance(State(world))
    none = balance(State(world), budget=Budget(effort=0.0))
    assert [step.target for step in none.plan.steps] == [step.target for step in greedy.steps]
    some, again = (balance(State(world), budget=Budget(effort=0.1)) for _ignored in range(2))
    assert some.plan.final <= none.plan.final
    assert some.plan.steps == again.plan.steps


@given(st.integers(0, 10**6))
@settings(max_examples=6, deadline=None)
def test_large_clusters_are_balanced_by_allowed_moves(seed: int) -> None:
    state = State(
        generate.cluster(seed, generate.Shape(nodes=(6, 9), per_node=(1, 5), templates=("drbd", "drbd", "ext")))
    )
    state = state.subset(0)
    trial = state.copy()
    with pytest.MonkeyPatch.context() as patch:
        # As if these few nodes were many.
        patch.setattr(search, "EXACT_SIZE", 0)
        patch.setattr(search, "_TARGETS", 2)
        patch.setattr(search, "_FAVOURITES", 1)
        found = balance(state)
    assert found.plan.final == score(state) <= found.plan.initial
    for step in found.plan.steps:
        assert not attempt(trial, step.move, ignore_soft=True)
        assert score(trial) == step.score
