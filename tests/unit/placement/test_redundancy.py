# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Losses: what they hurt, and that asking for all pairs of nodes at once gives what asking for each gives."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.differential import generate

from twofold.placement.model import Cluster, Group, Instance, Node
from twofold.placement.state import State
from twofold.placement.redundancy import Level, domain_losses, double_losses, loss, single_losses, survives

GROUP = Group("g", "u")
SHAPE = generate.Shape(nodes=(3, 7), groups=(1, 2), per_node=(2, 9), offline=0.15)


def test_losses_name_the_instance_and_the_reason() -> None:
    nodes = tuple(
        Node(f"n{k}", 8000, 0, 8000 - used, 100000, 90000, 8, "u", tags=(f"rack:{k // 2}",))
        for k, used in enumerate((3000, 4000, 7000, 0))
    )
    instances = (
        Instance("pair", 3000, 1000, 1, "n0", "n1"),
        Instance("tight", 4000, 1000, 1, "n1", "n2"),
        Instance("only", 7000, 1000, 1, "n2", template="plain"),
    )
    state = State(Cluster((GROUP,), nodes, instances, ("htools:nlocation:rack",)))
    single = {one.what: [(state.inst.names[h.instance], h.reason) for h in one.hurt] for one in single_losses(state)}
    assert single == {
        "node n1": [("tight", "n2 has no memory for it: needs 4000 MiB, has 1000 MiB")],
        "node n2": [("only", "the only copy of its disks is lost")],
    }
    double = {one.what: [h.reason for h in one.hurt] for one in double_losses(state)}
    assert double["nodes n0 and n1"] == ["both copies of its disks are lost"]
    domains = {one.what: [state.inst.names[h.instance] for h in one.hurt] for one in domain_losses(state)}
    assert domains == {"failure domain rack:0": ["tight", "pair"], "failure domain rack:1": ["only"]}


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_pairs_at_once_equal_pairs_one_by_one(seed: int) -> None:
    state = State(generate.cluster(seed, SHAPE))
    online = np.flatnonzero(state.online).tolist()
    alone = {n: {h.instance for h in loss(state, "", [n]).hurt} for n in online}
    expected = {}
    for a, b in combinations(online, 2):
        hurt = {h for h in loss(state, "", [a, b]).hurt if h.instance not in alone[a] | alone[b]}
        if hurt:
            expected[a, b] = hurt
    assert {one.nodes: set(one.hurt) for one in double_losses(state)} == expected


def placed(*pairs: tuple[str, str], memory: int = 8000, template: str = "drbd", need: int = 3000) -> State:
    """Four nodes, two in each rack, with an instance on each of the pairs."""
    used = {f"n{k}": sum(need for p, _s in pairs if p == f"n{k}") for k in range(4)}
    nodes = tuple(
        Node(name, memory, 0, memory - gone, 100000, 90000, 8, "u", tags=(f"rack:{name in ('n2', 'n3')}",))
        for name, gone in used.items()
    )
    instances = tuple(
        Instance(f"i{k}", need, 1000, 1, p, s if template == "drbd" else "", template=template)
        for k, (p, s) in enumerate(pairs)
    )
    return State(Cluster((GROUP,), nodes, instances, ("htools:nlocation:rack",)))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        # One pair across racks survives all that two copies can survive.
        (placed(("n0", "n2")), {Level.NODE, Level.TWO, Level.DOMAIN}),
        # Both copies in one rack: the rack must not be lost.
        (placed(("n0", "n1")), {Level.NODE, Level.TWO}),
        # Two instances need 6000 of n3's 5000 when both their primaries are gone, which share a rack.
        (placed(("n0", "n3"), ("n1", "n3"), memory=5000), {Level.NODE}),
        # Each node has 2000 left, and would have to take over 3000.
        (placed(("n0", "n2"), ("n2", "n0"), memory=5000), set()),
    ],
)
def test_levels(state: State, expected: set[Level]) -> None:
    assert {level for level in Level if survives(state, level)} == expected


def test_one_copy_is_not_asked_to_survive() -> None:
    state = placed(("n0", ""), template="plain")
    assert all(survives(state, level) for level in Level)
    assert [one.what for one in single_losses(state)] == ["node n0"]


def test_shared_storage_counts_the_room_of_all() -> None:
    # 9000 MiB run; any two of four nodes of 8000 can run them, one node alone could not.
    state = placed(("n0", ""), ("n1", ""), ("n2", ""), template="ext")
    assert survives(state, Level.TWO)
    # Each node can take one more: three of them two, but two of them not four.
    full = placed(*((f"n{k}", "") for k in range(4) for _ignored in range(2)), template="ext", need=2000)
    assert survives(full, Level.NODE)
    assert not survives(full, Level.TWO)
    assert len(double_losses(full)) == 6
