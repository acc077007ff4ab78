# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of instances in balancing: hard ones are never broken, wishes count with the score."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.differential import generate

from twofold.placement.affinity import BROKEN_WEIGHT, Book, Rules
from twofold.placement.balance import balance
from twofold.placement.explain_moves import explain_move
from twofold.placement.model import Cluster, Group, Instance, Node
from twofold.placement.moves import Kind, Move, apply, attempt, destination
from twofold.placement.scan import Rules as MoveRules
from twofold.placement.scan import Scanner
from twofold.placement.score import score
from twofold.placement.state import State

SHAPE = generate.Shape(nodes=(3, 6), per_node=(1, 4), offline=0.1, forthcoming=0.1, templates=("drbd", "drbd", "ext"))
seeds = st.integers(0, 10**6)
few = settings(max_examples=15, deadline=None)


def random_rules(state: State, seed: int) -> dict[str, Rules]:
    rng = random.Random(seed)
    names = state.nodes.names

    def some(values: list[str], chance: float) -> tuple[str, ...]:
        return tuple(v for v in values if rng.random() < chance)

    return {
        name: Rules(
            primary=rng.choice(names) if rng.random() < 0.1 else "",
            excluded=some(names, 0.1),
            anti_affinity=some(["a", "b"], 0.2),
            affinity=some(["c"], 0.2),
            avoid=some(["d"], 0.3),
            near=some(["e"], 0.3),
            apart=("rack",) if rng.random() < 0.3 else (),
        )
        for name in state.inst.names
        if rng.random() < 0.7
    }


@given(seeds)
@few
def test_no_move_leads_where_a_hard_rule_forbids(seed: int) -> None:
    state = State(generate.cluster(seed, SHAPE)).subset(0)
    book = Book(state, random_rules(state, seed))
    trial = state.copy()
    before = score(state) + book.cost(state)
    found = balance(state, book=book)
    now = book.on(trial)
    for step in found.plan.steps:
        i, (p, s) = step.move.instance, destination(trial, step.move)
        mask = now.allowed(i, s >= 0)
        assert mask[p, s] if s >= 0 else mask[p]
        assert not attempt(trial, step.move, ignore_soft=True)
        assert now.kept(i)
    assert score(state) + book.cost(state) <= before + 1e-9
    assert found.wishes == (book.cost(State(generate.cluster(seed, SHAPE)).subset(0)), book.cost(state))


@given(seeds)
@few
def test_masks_and_words_agree(seed: int) -> None:
    state = State(generate.cluster(seed, SHAPE)).subset(0)
    book = Book(state, random_rules(state, seed))
    for i in range(len(state.inst.names)):
        if state.pri[i] < 0:
            continue
        terms, (as_primary, as_secondary) = book.terms(i), book.forbidden(i)
        assert [not why for why in as_primary] == np.isfinite(terms.primary).tolist()
        assert [not why for why in as_secondary] == np.isfinite(terms.secondary).tolist()


@given(seeds)
@few
def test_scans_count_wishes_as_the_whole_does(seed: int) -> None:
    state = State(generate.cluster(seed, SHAPE)).subset(0)
    # Without hard rules, what a move does to the cost is all in its score.
    soft = {name: Rules(avoid=rule.avoid, near=rule.near) for name, rule in random_rules(state, seed).items()}
    book = Book(state, soft, {"d": 0.5, "e": 3.0})
    which = np.flatnonzero(state.inst.movable & (state.pri >= 0) & (state.inst.external | (state.sec >= 0)))
    for table in Scanner(state, MoveRules(), book=book).scan(which):
        for kind, matrix in table.matrices():
            for row, column in np.argwhere(np.isfinite(matrix)):
                trial = state.copy()
                apply(trial, table.move(kind, row, column))
                expected = score(trial) + book.cost(trial) - book.cost(state)
                assert matrix[row, column] == pytest.approx(expected, abs=1e-7)


def cluster(*homes: str, nodes: int = 3, tags: tuple[str, ...] = ()) -> Cluster:
    """Equal instances on shared storage, named i0, i1, ..., on nodes that have room for all of them."""
    members = tuple(
        Node(f"n{k}", 32768, 0, 32768 - 1000 * homes.count(f"n{k}"), 100000, 100000, 32, "u", node_cpus=0)
        for k in range(nodes)
    )
    instances = tuple(Instance(f"i{k}", 1000, 0, 1, home, template="ext") for k, home in enumerate(homes))
    return Cluster((Group("g", "u"),), members, instances, tags)


def test_wishes_are_weighed_against_the_score() -> None:
    # Two instances on two nodes are balanced; they wish to be together.
    together = {name: Rules(near=("x",)) for name in ("i0", "i1")}
    state = State(cluster("n0", "n1", nodes=2))
    loose = balance(state, book=Book(state, together, {"x": 0.01}))
    assert loose.plan.steps == []
    assert loose.wishes == (0.01, 0.01)
    firm = balance(state, book=Book(state, together, {"x": 100.0}))
    assert firm.wishes == (100.0, 0.0)
    assert int(state.pri[0]) == int(state.pri[1])


def test_instances_that_avoid_each_other_part_when_there_is_room() -> None:
    shy = {f"i{k}": Rules(avoid=("x",)) for k in (0, 1)}
    # Without the wish nothing is gained by exchanging i1 for one of the others.
    state = State(cluster("n0", "n0", "n1", "n1", "n2", "n2"))
    assert balance(state).plan.steps == []
    balance(state, book=Book(state, shy, {"x": 50.0}))
    assert state.pri[0] != state.pri[1]


def test_a_broken_hard_rule_is_mended() -> None:
    state = State(cluster("n0", "n0", "n1", "n1", "n2", "n2"))
    book = Book(state, {"i0": Rules(primary="n1"), "i5": Rules(excluded=("n2",))})
    assert book.cost(state) == 2 * BROKEN_WEIGHT
    found = balance(state, book=book)
    assert found.wishes == (2 * BROKEN_WEIGHT, 0.0)
    assert state.nodes.names[state.pri[0]] == "n1"
    assert state.nodes.names[state.pri[5]] != "n2"


def test_nobody_is_left_alone() -> None:
    state = State(cluster("n0", "n0", "n1", "n1"))
    book = Book(state, {f"i{k}": Rules(affinity=("x",)) for k in range(4)})
    assert book.cost(state) == 0
    balance(state, book=book)
    assert book.cost(state) == 0, "each still has a companion"


def test_a_move_is_explained() -> None:
    state = State(cluster("n0", "n0", "n0", "n1"))
    book = Book(state, {"i0": Rules(excluded=("n1",))})
    why = explain_move(state, Move(0, Kind.FAILOVER_TO_ANY, 2), MoveRules(), book)
    assert why.stays == pytest.approx(score(state))
    by_node = {one.node: one for one in why.nodes}
    assert set(by_node) == {"n1", "n2"}
    assert (by_node["n1"].score, by_node["n1"].primary) == (None, "is excluded for the instance")
    assert by_node["n2"].operations == "fa:n2"
    state_after = state.copy()
    apply(state_after, Move(0, Kind.FAILOVER_TO_ANY, 2))
    assert by_node["n2"].score == pytest.approx(score(state_after))
    before, after = why.metrics["free_mem_cv"]
    assert after < before
