# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scores computed by hand."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest

from twofold.placement.model import Cluster, Group, Instance, Node, Policy
from twofold.placement.score import bad_items, detailed, optimum
from twofold.placement.state import BuildOptions, State

GROUP = Group("g", "u", policy=Policy(vcpu_ratio=4.0, spindle_ratio=32.0))


def node(name: str, free: int = 1000, disk: int = 10000, **changes: Any) -> Node:
    values: dict[str, Any] = {"node_cpus": 0, **changes}
    return Node(name, 1000, 0, free, 10000, disk, 4, "u", **values)


def test_one_mirrored_instance_on_two_nodes() -> None:
    # Memory 0.8 and 1.0; disk 0.9 both; reserved 0 and 0.2; CPU 2/4 and 0; load 1 and 0; disk load 1 both.
    nodes = (node("a", 800, 9000), node("b", 1000, 9000))
    state = State(Cluster((GROUP,), nodes, (Instance("i", 200, 1000, 2, "a", "b"),)))
    found = detailed(state)
    expected = {
        "free_mem_cv": 0.1,
        "reserved_mem_cv": 0.1,
        "vcpu_ratio_cv": 0.25,
        "cpu_load_cv": 0.5,
        "mem_load_cv": 0.5,
        "net_load_cv": 0.5,
        "free_mem_cv_forth": 0.1,
        "vcpu_ratio_cv_forth": 0.25,
        "reserved_mem_rtotal": 0.2,
    }
    assert {k: v for k, v in found.metrics.items() if v} == pytest.approx(expected)
    # 0.5*0.1 + 1*0.1 + 0.5*0.25 + 3*0.5 + 0.5*0.1 + 0.5*0.25 + 0.25*0.2
    assert found.total == pytest.approx(2.0)
    # Reserved memory 200 of 2000; without the largest node 200 of 1000: 0.25 * (0.2 - 0.1).
    assert optimum(state) == pytest.approx(0.025)


def test_offline_nodes_count_what_they_hold() -> None:
    nodes = (node("a", 800, 9000, offline=True), node("b", 1000, 9000), node("c"))
    found = detailed(State(Cluster((GROUP,), nodes, (Instance("i", 200, 1000, 2, "a", "b"),))))
    assert (found.metrics["offline_all_cnt"], found.metrics["offline_pri_cnt"]) == (1, 1)
    # Of the online nodes b and c only the secondary differs: reserved 0.2 and 0, disk 0.9 and 1, disk load 1 and 0.
    assert found.metrics["reserved_mem_cv"] == pytest.approx(0.1)
    assert found.metrics["free_disk_cv"] == pytest.approx(0.05)
    assert found.metrics["disk_load_cv"] == pytest.approx(0.5)
    # The spindle use of the secondary: 1 of 32 and 0 of 32, with and without forthcoming instances.
    spindles = 2 * 0.5 * (1 / 32) / 2
    assert found.total == pytest.approx(20 + 0.1 + 2 * 0.5 * 0.05 + 0.5 + 0.25 * 0.2 + spindles)


def test_a_node_with_exactly_its_reserve_left_fails_n1() -> None:
    # b keeps 300 of 1000 and must take over 300: nothing would be left, and that is a failure.
    nodes = (node("a", 700, 9000), node("b", 300, 9000))
    instances = (Instance("i", 300, 1000, 1, "a", "b"), Instance("j", 700, 0, 1, "b", template="diskless"))
    state = State(Cluster((GROUP,), nodes, instances))
    assert bad_items(state) == ([1], [0, 1])
    assert detailed(state).metrics["n1_cnt"] == 2


def test_exclusion_tags_count_the_superfluous() -> None:
    nodes = (node("a", 400), node("b"))
    instances = tuple(Instance(f"i{k}", 200, 0, 0, "a", template="diskless", tags=("web:1",)) for k in range(3))
    cluster = Cluster((GROUP,), nodes, instances, ("htools:iextags:web",))
    assert detailed(State(cluster)).metrics["pri_tags_score"] == 2
    plain = Cluster((GROUP,), nodes, instances)
    assert detailed(State(plain)).metrics["pri_tags_score"] == 0
    assert detailed(State(plain, BuildOptions(exclusion_tags=("web",)))).metrics["pri_tags_score"] == 2


def test_locations() -> None:
    nodes = (node("a", 600, 9000, tags=("rack:1",)), node("b", 1000, 9000, tags=("rack:1",)), node("c"))
    instances = (
        Instance("i", 200, 1000, 0, "a", "b", tags=("web:x", "rack:2")),
        Instance("j", 200, 0, 0, "a", template="diskless", tags=("web:x",)),
    )
    tags = ("htools:nlocation:rack", "htools:desiredlocation:rack", "htools:iextags:web")
    metrics = detailed(State(Cluster((GROUP,), nodes, instances, tags))).metrics
    # The pair shares a rack, and rack 2 is wished for and not given.
    assert metrics["location_score"] == 2
    # Two instances with web:x in rack 1.
    assert metrics["location_exclusion_score"] == 1


def test_missing_memory_is_not_given_away() -> None:
    # 200 of 1000 are used by the instance, 100 more are missing.
    state = State(Cluster((GROUP,), (node("a", 700),), (Instance("i", 200, 0, 1, "a", template="diskless"),)))
    assert state.unallocated.tolist() == [700]
    # More free than the records say: the records count.
    state = State(Cluster((GROUP,), (node("a", 950),), (Instance("i", 200, 0, 1, "a", template="diskless"),)))
    assert state.unallocated.tolist() == [800]


def test_stopped_instances_hold_no_memory() -> None:
    down = Instance("i", 200, 0, 2, "a", template="diskless", status="ADMIN_down")
    state = State(Cluster((GROUP,), (node("a"), node("b")), (down,)))
    assert state.unallocated.tolist() == [1000, 1000]
    metrics = detailed(state).metrics
    # It still counts for CPUs, and for memory that will be needed once it is started.
    assert metrics["vcpu_ratio_cv"] == pytest.approx(0.25)
    assert metrics["free_mem_cv"] == 0
    assert metrics["free_mem_cv_forth"] == pytest.approx(0.1)


def test_nothing_to_compare() -> None:
    assert detailed(State(Cluster())).total == 0
    spread = detailed(State(Cluster((GROUP,), (node("a", 1000), node("b", 1000, 5000))))).metrics["free_disk_cv"]
    assert spread == pytest.approx(sqrt(0.25**2))
