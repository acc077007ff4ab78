# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evacuations and room: every sequence of moves can be carried out in order and leads where it says."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.differential import generate

from twofold.placement.allocate import AllocOptions
from twofold.placement.evacuate import Mode, change_group, evacuate
from twofold.placement.model import Instance
from twofold.placement.moves import apply, attempt, destination
from twofold.placement.room import make_room
from twofold.placement.score import score
from twofold.placement.state import State

seeds = st.integers(0, 10**6)
SHAPE = generate.Shape(nodes=(4, 7), per_node=(1, 4), offline=0.1, templates=("drbd", "drbd", "ext"))
FULL = generate.Shape(nodes=(3, 5), per_node=(3, 5), offline=0.0, templates=("drbd", "ext"))


@given(seeds, st.sampled_from(list(Mode)))
@settings(max_examples=40, deadline=None)
def test_evacuations_can_be_carried_out_in_order(seed: int, mode: Mode) -> None:
    state = State(generate.cluster(seed, SHAPE))
    trial, node = state.copy(), seed % len(state.nodes.names)
    here = {Mode.PRIMARY: state.pri == node, Mode.SECONDARY: state.sec == node}
    which = np.flatnonzero(here.get(mode, here[Mode.PRIMARY] | here[Mode.SECONDARY])).tolist()
    done = evacuate(state, which, mode, AllocOptions())
    assert sorted([i for i, _group, _nodes in done.moved] + [i for i, _why in done.failed]) == which
    for (i, group, nodes), job in zip(done.moved, done.jobs, strict=True):
        for move in job:
            p, s = destination(trial, move)
            assert not attempt(trial, move, ignore_soft=True)
            assert (trial.pri[i], trial.sec[i]) == (p, s)
        assert nodes == tuple(n for n in (trial.pri[i], trial.sec[i]) if n >= 0)
        assert {int(trial.nodes.group[n]) for n in nodes} == {group}
        if mode is not Mode.SECONDARY:
            assert trial.pri[i] != node or not here[Mode.PRIMARY][i]
    assert score(trial) == score(state)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_changes_of_group_end_in_another_group(seed: int) -> None:
    state = State(generate.cluster(seed, generate.Shape(nodes=(4, 8), groups=(2, 3), templates=("drbd", "ext"))))
    before, which = state.nodes.group[state.pri].copy(), np.flatnonzero(state.nodes.group[state.pri] == 0).tolist()
    for i, group, nodes in change_group(state, which, [], AllocOptions()).moved:
        assert group != before[i]
        assert all(state.nodes.group[n] == group for n in nodes)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_room_is_made_by_moves_that_can_be_made(seed: int) -> None:
    world = generate.cluster(
        seed, generate.Shape(nodes=(3, 5), per_node=(3, 5), offline=0.0, templates=("drbd", "ext"))
    )
    free = max(node.free_memory for node in world.nodes)
    # A little more than any node has free, so that something must give way.
    new = Instance("new", min(int(free * 1.05), 16384), 1024, 1, template="ext", disks=(1024,))
    state = State(world, extra=[new])
    i = len(world.instances)
    found = make_room(state, i, AllocOptions(capacity_checks=False))
    if found is None:
        return
    for move in found.moves:
        assert not attempt(state, move, ignore_soft=False)
    assert found.found.nodes
    room = state.unallocated[found.found.nodes[0]]
    assert room > new.memory


def test_room_is_found_where_there_is_some() -> None:
    found = []
    for seed in range(12):
        world = generate.cluster(seed, FULL)
        free = max(node.free_memory for node in world.nodes)
        new = Instance("new", min(int(free * 1.02), 16384), 1024, 1, template="ext", disks=(1024,))
        state = State(world, extra=[new])
        made = make_room(state, len(world.instances), AllocOptions(capacity_checks=False))
        found.append(made is not None)
        if made is not None:
            for move in made.moves:
                apply(state, move)
    assert sum(found) >= 3


def test_what_cannot_move_is_named() -> None:
    world = generate.cluster(1, generate.Shape(nodes=(3, 3), per_node=(2, 2), offline=0.0, templates=("plain",)))
    state = State(world)
    done = evacuate(state, [0], Mode.ALL, AllocOptions())
    assert done.failed == [(0, "Instances of type plain cannot be relocated")]
    assert done.moved == []
