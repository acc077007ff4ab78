# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold for every cluster."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.differential import generate

from twofold.placement.balance import Budget, balance
from twofold.placement.capacity import CapacityOptions, capacity
from twofold.placement.greedy import Limits, best_step, candidates
from twofold.placement.greedy import balance as greedy_balance
from twofold.placement.moves import Kind, Move, apply, attempt, cost, involved, score_after, waves
from twofold.placement.scan import Rules, Scanner
from twofold.placement.score import score
from twofold.placement.state import State
from twofold.placement.textformat import parse, serialize

SHAPE = generate.Shape(
    nodes=(2, 6), per_node=(0, 4), offline=0.2, migration=0.3, locations=0.5, exclusion=0.6, forthcoming=0.15
)
seeds = st.integers(0, 10**6)
few = settings(max_examples=25, deadline=None)


def state_of(seed: int, shape: generate.Shape = SHAPE) -> State:
    return State(generate.cluster(seed, shape))


def same(left: State, right: State) -> None:
    np.testing.assert_array_equal(left.dyn, right.dyn)
    np.testing.assert_array_equal(left.peers, right.peers)
    np.testing.assert_array_equal(left.tag_count, right.tag_count)
    np.testing.assert_array_equal(left.pri, right.pri)
    np.testing.assert_array_equal(left.sec, right.sec)
    np.testing.assert_array_equal(left.loc_score, right.loc_score)


@given(seeds)
@few
def test_taking_off_and_putting_back_changes_nothing(seed: int) -> None:
    state = state_of(seed)
    before = state.copy()
    for i in range(len(state.inst.names)):
        p, s = int(state.pri[i]), int(state.sec[i])
        state.unplace(i)
        state.place(i, p, s)
    same(before, state)


@given(seeds)
@few
def test_scans_agree_with_carrying_moves_out(seed: int) -> None:
    state = state_of(seed)
    which = candidates(state, Rules())
    for table in Scanner(state, Rules()).scan(which):
        for kind, matrix in [(Kind.FAILOVER, table.failover), *table.by_kind.items()]:
            for row, i in enumerate(table.which.tolist()):
                for column in range(matrix.shape[1]):
                    target = -1 if kind is Kind.FAILOVER else column
                    check(state, Move(i, kind, target), float(matrix[row, column]))


def check(state: State, move: Move, rough: float) -> None:
    home = (int(state.pri[move.instance]), int(state.sec[move.instance]))
    offline = state.nodes.offline
    if move.target in home or (move.target >= 0 and offline[move.target]):
        assert not np.isfinite(rough)
        return
    if move.kind not in (Kind.REPLACE_SECONDARY, Kind.REPLACE_AND_FAILOVER, Kind.FAILOVER_TO_ANY) and offline[home[1]]:
        assert not np.isfinite(rough)
        return
    trial = state.copy()
    allowed = not attempt(trial, move)
    assert allowed == np.isfinite(rough), move
    if allowed:
        exact = score(trial)
        assert exact == score_after(state, move)
        assert rough == pytest.approx(exact, abs=1e-7)


@given(seeds)
@few
def test_a_state_equals_one_built_from_what_it_says(seed: int) -> None:
    state = state_of(seed, generate.Shape(migration=0.0, forthcoming=0.0, missing=0.0))
    greedy_balance(state, limits=Limits(max_moves=5))
    again = State(parse(serialize(state.current())))
    np.testing.assert_array_equal(again.dyn, state.dyn)
    np.testing.assert_array_equal(again.peers, state.peers)
    assert score(again) == score(state)


@given(seeds)
@few
def test_balanced_stays_balanced(seed: int) -> None:
    state = state_of(seed)
    plan = greedy_balance(state)
    assert plan.final == score(state)
    assert plan.final <= plan.initial
    assert greedy_balance(state).steps == []


@given(seeds)
@few
def test_balance_is_never_worse_than_greedy_and_repeatable(seed: int) -> None:
    greedy, better, again = state_of(seed), state_of(seed), state_of(seed)
    least = greedy_balance(greedy).final
    found = balance(better)
    assert found.plan.final <= least + 1e-9
    assert found.plan.final == score(better)
    assert balance(again).plan.steps == found.plan.steps


@given(seeds, st.sampled_from([0.0, 5000.0, 50000.0]))
@example(2, 5000.0)
@few
def test_every_plan_can_be_carried_out_in_order_within_its_budget(seed: int, most: float) -> None:
    state = state_of(seed)
    trial = state.copy()
    found = balance(state, budget=Budget(max_copy=most))
    assert sum(found.costs) <= most
    assert found.curve[-1] == (sum(found.costs), found.plan.final)
    for step, price in zip(found.plan.steps, found.costs, strict=True):
        assert cost(trial, step.move) == price
        assert not attempt(trial, step.move, ignore_soft=True)
        assert score(trial) == step.score
    same(trial, state)


@given(seeds)
@few
def test_no_step_breaks_a_limit_that_held(seed: int) -> None:
    state = state_of(seed)
    for _ignored in range(10):
        step = best_step(state, Scanner(state, Rules()), score(state))
        if step is None:
            break
        old = state.fails_n1 & state.online
        forced = state.nodes.offline[[n for n in step.source if n >= 0]].any()
        apply(state, step.move)
        if not forced:
            assert not (state.fails_n1 & state.online & ~old).any()
        touched = [n for n in step.target if n >= 0]
        assert (state.unallocated[touched] > 0).all() or not state.inst.uses_mem[step.move.instance]


@given(seeds)
@few
def test_waves_share_no_node_and_keep_the_order(seed: int) -> None:
    state = state_of(seed)
    trial, groups = state.copy(), []
    for step in greedy_balance(state).steps:
        groups.append(involved(trial, step.move))
        apply(trial, step.move)
    grouped = waves(groups)
    assert [k for wave in grouped for k in wave] == list(range(len(groups)))
    for wave in grouped:
        assert sum(len(groups[k]) for k in wave) == len(frozenset().union(*(groups[k] for k in wave)))


@given(seeds)
@settings(max_examples=6, deadline=None)
def test_tiers_shrink_and_hold_at_least_the_largest(seed: int) -> None:
    shape = generate.Shape(nodes=(2, 3), forthcoming=0.0, migration=0.0, templates=("drbd",))
    state = state_of(seed, shape)
    found = capacity(state, CapacityOptions(template="drbd"))
    sizes = [size for size, _ignored in found.tiered.steps()]
    for larger, smaller in pairwise(sizes):
        assert smaller.memory <= larger.memory
        assert smaller.disk_size <= larger.disk_size
        assert smaller.vcpus <= larger.vcpus
    alone = capacity(state, CapacityOptions(template="drbd", standard=found.tiered_spec))
    first = sum(1 for size in found.tiered.sizes if size == found.tiered_spec)
    assert first == len(alone.standard.sizes)
