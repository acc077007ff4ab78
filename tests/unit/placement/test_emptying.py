# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Emptying nodes: together, by the rules of all, and what stays is named."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.differential import generate

from twofold.placement.affinity import Book, Rules
from twofold.placement.emptying import Emptied, EmptyOptions, empty
from twofold.placement.evacuate import Mode
from twofold.placement.model import Cluster, Group, Instance, Node
from twofold.placement.moves import apply, destination
from twofold.placement.state import State

GROUP = Group("g", "u")
SHAPE = generate.Shape(nodes=(3, 7), groups=(1, 2), per_node=(1, 5), offline=0.1, templates=("drbd", "drbd", "ext"))


def cluster(*instances: Instance, count: int = 4, memory: int = 8000) -> Cluster:
    used = {f"n{k}": sum(i.memory for i in instances if i.primary == f"n{k}") for k in range(count)}
    nodes = tuple(
        Node(name, memory, 0, memory - gone, 100000, 90000, 8, "u", tags=(f"rack:{k % 2}",))
        for k, (name, gone) in enumerate(used.items())
    )
    return Cluster((GROUP,), nodes, instances, ("htools:nlocation:rack",))


def pair(name: str, primary: str, secondary: str, memory: int = 3000) -> Instance:
    return Instance(name, memory, 1000, 1, primary, secondary)


def single(name: str, primary: str, memory: int = 3000) -> Instance:
    return Instance(name, memory, 0, 1, primary, template="ext")


def emptied(
    world: Cluster, rules: dict[str, Rules] | None = None, mode: Mode = Mode.ALL, node: str = "n0", **more: Any
) -> tuple[State, Emptied]:
    state = State(world)
    leaving = np.array([name == node for name in state.nodes.names])
    book = Book(state, rules or {})
    primaries, secondaries = leaving[state.pri], leaving[state.sec] & (state.sec >= 0)
    here = {Mode.PRIMARY: primaries, Mode.SECONDARY: secondaries, Mode.ALL: primaries | secondaries}
    which = np.flatnonzero(here[mode]).tolist()
    return state, empty(state, book, leaving, which, EmptyOptions(mode=mode, **more))


def places(state: State) -> dict[str, tuple[str, ...]]:
    names = state.nodes.names
    return {
        name: tuple(names[n] for n in (state.pri[i], state.sec[i]) if n >= 0) for i, name in enumerate(state.inst.names)
    }


def test_one_does_not_take_the_only_place_of_another() -> None:
    # n1 has memory for one more primary; second copies need as much. only can go to n1, either to n1 and n2.
    world = cluster(
        single("only", "n0"), single("either", "n0"), single("there", "n1"), single("full", "n2", 2000), count=3
    )
    rules = {"only": Rules(excluded=("n2",))}
    state, found = emptied(world, rules)
    assert not found.failed
    assert places(state)["only"] == ("n1",) and places(state)["either"] == ("n2",)


def test_guests_and_their_second_copies_leave_together() -> None:
    world = cluster(pair("runs", "n0", "n1"), pair("copy", "n2", "n0"))
    for mode, runs, copy in (
        (Mode.PRIMARY, ("n1", "n0"), ("n2", "n0")),
        (Mode.SECONDARY, ("n0", "n1"), ("n2", "n3")),
        (Mode.ALL, None, None),
    ):
        state, found = emptied(world, mode=mode)
        assert not found.failed
        where = places(state)
        assert runs is None or where["runs"] == runs
        assert copy is None or where["copy"] == copy
        assert mode is not Mode.ALL or all("n0" not in nodes for nodes in where.values())
        assert where["copy"][0] == "n2" and where["runs"][0] in ("n0", "n1")


def test_who_runs_together_goes_together_or_stays() -> None:
    rules = {name: Rules(affinity=("both",)) for name in ("a", "b")}
    roomy = cluster(single("a", "n0"), single("b", "n0"), single("c", "n1"))
    state, found = emptied(roomy, rules)
    assert not found.failed and places(state)["a"] == places(state)["b"] != ("n0",)
    tight = cluster(single("a", "n0"), single("b", "n0"), *(single(f"c{k}", f"n{k}") for k in (1, 2, 3)))
    state, found = emptied(tight, rules)
    assert places(state)["a"] == places(state)["b"] == ("n0",)
    assert {state.inst.names[i] for i, _why in found.failed} == {"a", "b"} and not found.moved


def test_what_stays_is_named_with_every_node_and_the_rest_goes() -> None:
    world = cluster(pair("stuck", "n1", "n0"), pair("goes", "n1", "n0"))
    rules = {"stuck": Rules(excluded=("n2",), apart=("rack",))}
    state, found = emptied(world, rules, Mode.SECONDARY)
    assert [state.inst.names[i] for i, _group, _nodes in found.moved] == ["goes"]
    ((i, why),) = found.failed
    assert state.inst.names[i] == "stuck"
    assert why == "n2 is excluded for the instance; n3 may fail together with n1"


def test_a_guest_that_has_to_go_overlooks_the_reserve_and_for_a_while_its_affinities() -> None:
    # n1 keeps 3000 MiB for the failure of n2; with runs it would have 2000 left.
    world = cluster(pair("runs", "n0", "n1"), pair("other", "n2", "n1"), single("there", "n1"))
    state, found = emptied(world, mode=Mode.PRIMARY)
    assert places(state)["runs"] == ("n1", "n0")
    assert "N+1" in found.overlooked[0]
    apart = {name: Rules(anti_affinity=("x",)) for name in ("runs", "there")}
    small = cluster(pair("runs", "n0", "n1", 500), single("there", "n1", 500))
    state, found = emptied(small, apart, Mode.PRIMARY)
    assert "anti-affinity: runs there" in found.failed[0][1]
    state, found = emptied(small, apart, Mode.PRIMARY, for_a_while=True)
    assert places(state)["runs"] == ("n1", "n0") and "anti-affinity" in found.overlooked[0]


def test_disks_on_one_node_move_only_where_they_can() -> None:
    world = cluster(Instance("plain", 1000, 1000, 1, "n0", template="plain"))
    state, found = emptied(world, with_disks=False)
    assert found.failed == [(0, "its disks are on this node alone")] and places(state)["plain"] == ("n0",)
    state, found = emptied(world)
    assert not found.failed and places(state)["plain"] != ("n0",)


def drawn(rng: Random, state: State) -> dict[str, Rules]:
    """Rules for some instances."""
    names = state.nodes.names
    found = {}
    for name in state.inst.names:
        if rng.random() < 0.5:
            apart = (rng.choice("ab"),) if rng.random() < 0.4 else ()
            together = (rng.choice("cd"),) if rng.random() < 0.2 else ()
            excluded = tuple(rng.sample(names, rng.randint(0, 1)))
            found[name] = Rules(excluded=excluded, anti_affinity=apart, affinity=together)
    return found


def is_sound(seed: int, mode: Mode, rng: Random) -> None:
    """Rules hold, nothing goes where it leaves, and all is accounted for."""
    world = generate.cluster(seed, SHAPE)
    start = State(world)
    rules, node = drawn(rng, start), rng.choice(start.nodes.names)
    state, found = emptied(world, rules, mode, node)
    moved = {i for i, _group, _nodes in found.moved}
    failed = dict(found.failed)
    n, book = state.nodes.names.index(node), Book(state, rules)
    assert not moved & failed.keys() and all(failed.values())
    trial = start.copy()
    for (i, group, nodes), (move,) in zip(found.moved, found.jobs, strict=True):
        p, s = destination(trial, move)
        assert nodes == tuple(x for x in (p, s) if x >= 0)
        assert {int(state.nodes.group[x]) for x in nodes} == {group}
        assert mode is Mode.SECONDARY or p != n
        assert mode is Mode.PRIMARY or s != n
        assert p == start.pri[i] or not state.nodes.offline[p]
        assert book.kept(i), "what moved is where its rules want it"
        apply(trial, move)
    assert places(trial) == places(state)
    for i in failed:
        assert (state.pri[i], state.sec[i]) == (start.pri[i], start.sec[i])
    # Who did not fail N+1 does not begin to, but for those that had to go.
    took = {int(state.pri[i]) for i in found.overlooked}
    begun = np.flatnonzero(state.fails_n1 & ~start.fails_n1 & state.online).tolist()
    assert set(begun) <= took


@given(st.integers(0, 10**6), st.sampled_from(list(Mode)), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_rules_hold_nothing_goes_where_it_leaves_and_all_is_accounted_for(seed: int, mode: Mode, rng: Random) -> None:
    is_sound(seed, mode, rng)


@pytest.mark.parametrize("seed", [46, 470, 921])
def test_who_was_put_where_soft_limits_forbid_it_stays_with_those_that_he_belongs_to(seed: int) -> None:
    is_sound(seed, Mode.PRIMARY, Random(seed))
