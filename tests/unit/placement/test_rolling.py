# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rolling maintenance: nodes of one group do not need each other, and emptied nodes are empty."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.differential import generate

from twofold.placement.errors import RequestError
from twofold.placement.model import Cluster, Group, Instance, Node
from twofold.placement.rolling import Reboot, RollingOptions, rolling
from twofold.placement.state import State

seeds = st.integers(0, 10**6)
MIRRORED = ("drbd", "drbd", "drbd", "ext", "plain")


def world(*places: tuple[str, str], offline: str = "") -> State:
    nodes = tuple(
        Node(f"n{k}", 16384, 0, 16384, 100000, 90000, 8, "u", master=k == 0, offline=f"n{k}" == offline)
        for k in range(4)
    )
    instances = tuple(Instance(f"i{k}", 512, 1000, 1, p, s) for k, (p, s) in enumerate(places))
    return State(Cluster((Group("g", "u"),), nodes, instances))


def homes(state: State, step: Reboot) -> list[tuple[int, int]]:
    """Where every instance is once a step's moves are made; those that only change roles are not listed by it."""
    moved = {i: (p, s) for i, p, s in step.moves}
    return [moved.get(i, (int(state.pri[i]), int(state.sec[i]))) for i in range(len(state.inst.names))]


@given(seeds, st.booleans())
@settings(max_examples=60, deadline=None)
def test_emptied_nodes_hold_nothing(seed: int, shut_down: bool) -> None:
    state = State(generate.cluster(seed, generate.Shape(nodes=(4, 8), offline=0.25, templates=MIRRORED)))
    try:
        steps = rolling(state, RollingOptions(evacuate=True, offline=shut_down))
    except RequestError:
        return
    assert sorted(n for step in steps for n in step.nodes) == np.flatnonzero(state.online).tolist()
    for step in steps:
        for i, (p, s) in enumerate(homes(state, step)):
            if state.inst.forthcoming[i]:
                continue
            assert p not in step.nodes
            assert s not in step.nodes
            if (p, s) != (state.pri[i], state.sec[i]):
                assert state.online[p], "nothing moves onto an offline node"
                assert s < 0 or state.online[s]


def test_an_offline_node_between_the_others_is_not_emptied() -> None:
    state = world(("n0", "n1"), ("n2", "n3"), offline="n2")
    for step in rolling(state, RollingOptions(evacuate=True)):
        assert 2 not in step.nodes
        assert 3 in step.nodes or all(i != 1 for i, _p, _s in step.moves), "i1 stays until n3 is emptied"


def test_the_only_good_copy_gets_a_second_one_before_its_node_is_emptied() -> None:
    # The primary of i0 is offline: its data is on n1 alone, which is to be emptied.
    state = world(("n2", "n1"), offline="n2")
    (step,) = (step for step in rolling(state, RollingOptions(evacuate=True)) if 1 in step.nodes)
    ((i, p, s),) = step.moves
    assert (i, {p, s}) == (0, {0, 3})


def test_nodes_of_one_pair_are_never_rebooted_together() -> None:
    state = world(("n0", "n1"), ("n2", "n3"), ("n1", "n2"))
    for options in (RollingOptions(), RollingOptions(offline=True)):
        for step in rolling(state, options):
            pairs = zip(state.pri, state.sec, strict=True)
            assert all(not {int(p), int(s)} <= set(step.nodes) for p, s in pairs)
    (last,) = (step for step in rolling(state) if 0 in step.nodes)
    assert last == rolling(state)[-1]
    assert last.nodes[-1] == 0, "the master goes last"
