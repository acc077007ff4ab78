# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Placing new instances: rules are kept, room is made, and every refusal is explained."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from twofold.placement import (
    AllocPolicy,
    Cluster,
    Group,
    Instance,
    Node,
    PlaceOptions,
    Request,
    RequestError,
    Rules,
    place,
)

GROUP = Group("g", "u")


def node(name: str, **changes: Any) -> Node:
    plain = Node(name, 16384, 0, 16384, 100000, 100000, 8, "u", node_cpus=0)
    return replace(plain, **changes)


def cluster(count: int = 4, **changes: Any) -> Cluster:
    return Cluster((GROUP,), tuple(node(f"n{k}", **changes) for k in range(count)))


def test_instances_spread_over_the_nodes() -> None:
    requests = [Request(f"i{k}", 1024, 1, (2000,)) for k in range(8)]
    placed = place(cluster(), requests)
    assert [p.name for p in placed] == [r.name for r in requests]
    assert Counter(p.nodes[0] for p in placed) == {"n0": 2, "n1": 2, "n2": 2, "n3": 2}
    assert Counter(p.nodes[1] for p in placed) == {"n0": 2, "n1": 2, "n2": 2, "n3": 2}
    assert place(cluster(), requests) == placed


def test_hard_anti_affinity_keeps_instances_on_different_nodes() -> None:
    apart = Rules(anti_affinity=("web",))
    placed = place(cluster(), [Request(f"web{k}", 512, 1, (2000,), rules=apart) for k in range(5)])
    used = [p.nodes[0] for p in placed if p.nodes]
    assert sorted(used) == ["n0", "n1", "n2", "n3"]
    (refused,) = (p for p in placed if not p.nodes)
    assert refused.problem == f"instance {refused.name}: no node can be its primary"
    assert all(v.primary.startswith("anti-affinity: runs web") for v in refused.verdicts)


def test_anti_affinity_counts_instances_that_exist() -> None:
    old = Instance("old", 512, 0, 1, "n2", template="diskless")
    world = replace(cluster(3), instances=(old,))
    rules = Rules(anti_affinity=("db",), excluded=("n0",))
    options = PlaceOptions(rules={"old": Rules(anti_affinity=("db",))})
    (placed,) = place(world, [Request("new", 512, 1, template="diskless", rules=rules)], options)
    assert placed.nodes == ("n1",)


def test_affinity_puts_instances_together() -> None:
    together = Rules(affinity=("app",))
    placed = place(cluster(), [Request(f"a{k}", 512, 1, (2000,), rules=together) for k in range(3)])
    assert len({p.nodes[0] for p in placed}) == 1


def test_wishes_give_way() -> None:
    shy = Rules(avoid=("x",))
    placed = place(cluster(2), [Request(f"a{k}", 512, 1, (2000,), rules=shy) for k in range(4)])
    assert Counter(p.nodes[0] for p in placed) == {"n0": 2, "n1": 2}


def test_pins_exclusions_and_groups() -> None:
    world = Cluster((GROUP, Group("h", "v")), tuple(node(f"n{k}", group="u" if k < 2 else "v") for k in range(5)))
    pinned = Request("pinned", 512, 1, (2000,), rules=Rules(primary="n3", secondary="n2"))
    grouped = Request("grouped", 512, 1, (2000,), rules=Rules(groups=("h",), excluded=("n2",)))
    first, second = place(world, [pinned, grouped])
    assert first.nodes == ("n3", "n2")
    assert set(second.nodes) == {"n3", "n4"}


def test_pair_in_different_failure_domains() -> None:
    nodes = tuple(node(f"n{k}", tags=("rack:a" if k < 3 else "rack:b",)) for k in range(4))
    world = Cluster((GROUP,), nodes)
    placed = place(world, [Request(f"i{k}", 512, 1, (2000,), rules=Rules(apart=("rack",))) for k in range(6)])
    assert all("n3" in p.nodes for p in placed)
    lonely = place(Cluster((GROUP,), nodes[:3]), [Request("i", 512, 1, (2000,), rules=Rules(apart=("rack",)))])[0]
    assert lonely.nodes == ()
    assert {v.secondary for v in lonely.verdicts} == {"is the primary", "shares a failure domain with the primary n0"}


def test_refusal_has_the_numbers() -> None:
    world = Cluster((GROUP,), (node("n0"), node("n1", total_memory=2048, free_memory=2048), node("n2", offline=True)))
    (refused,) = place(world, [Request("big", 4096, 1, (2000,))])
    assert refused.nodes == () and refused.score is None
    first, second, third = refused.verdicts
    assert first.primary == "" and first.secondary == "is the primary"
    assert second.primary == "memory: needs 4096 MiB and some left over, has 2048 MiB"
    assert second.secondary == "memory: must be able to take over 4096 MiB, has 2048 MiB"
    assert third.primary == third.secondary == "is offline or drained"
    assert refused.problem == "instance big: no node can be its secondary"


def test_room_is_made_for_the_one_that_fits_only_there() -> None:
    # The small one is worth nothing until the pinned one has its node: order must not matter.
    world = cluster(2)
    small = Request("a-small", 9000, 1, template="diskless")
    large = Request("b-large", 9000, 1, template="diskless", rules=Rules(primary="n0"))
    assert [p.nodes for p in place(world, [small, large], PlaceOptions(survive=None))] == [("n1",), ("n0",)]


def test_loss_of_a_node_is_survived() -> None:
    world = cluster(2)
    requests = [Request(f"i{k}", 6000, 1, (2000,)) for k in range(4)]
    placed = place(world, requests)
    running = Counter(p.nodes[0] for p in placed if p.nodes)
    assert sum(running.values()) * 6000 < 16384
    assert sum(1 for p in placed if p.nodes) == 2
    assert all(p.problem for p in placed if not p.nodes)


def test_last_resort_groups_are_used_last() -> None:
    groups = (
        Group("far", "u", AllocPolicy.LAST_RESORT),
        Group("near", "v"),
        Group("closed", "w", AllocPolicy.UNALLOCABLE),
    )
    nodes = tuple(node(f"n{k}", group="uvw"[k % 3]) for k in range(6))
    placed = place(Cluster(groups, nodes), [Request(f"i{k}", 8000, 1, template="diskless") for k in range(4)])
    assert {p.nodes[0] for p in placed if p.nodes} <= {"n0", "n1", "n3", "n4"}
    assert placed[0].nodes[0] in ("n1", "n4")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("i", 1, 1, template="paper"), "instance i: disk template 'paper': expected one of diskless"),
        (Request("i", 1, 1, rules=Rules(primary="nope")), "instance i: unknown node 'nope'"),
        (Request("i", 1, 1, rules=Rules(groups=("nope",))), "instance i: unknown node group 'nope'"),
        (Request("i", 1, 1, rules=Rules(primary="n0", secondary="n0")), "instance i: pinned to n0 as primary and"),
        (Request("i", -1, 1), "instance i: memory, vcpus and disks must not be negative"),
        (Request("i", 1, 1, template="plain", rules=Rules(secondary="n0")), "instance i: pinned to a secondary"),
    ],
)
def test_contradictions_are_refused(request_: Request, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        place(cluster(), [request_])


def test_names_are_unique() -> None:
    with pytest.raises(RequestError, match="instance i: exists already"):
        place(cluster(), [Request("i", 1, 1), Request("i", 1, 1)])


def test_memory_may_be_overcommitted_as_far_as_the_policy_says() -> None:
    def fitting(ratio: float) -> int:
        group = replace(GROUP, policy=replace(GROUP.policy, memory_ratio=ratio))
        requests = [Request(f"i{k}", 5000, 1, template="diskless") for k in range(8)]
        placed = place(Cluster((group,), (node("n0"), node("n1"))), requests, PlaceOptions(survive=None))
        return sum(1 for p in placed if p.nodes)

    # 16384 MiB per node hold three of 5000; half as much again holds four.
    assert (fitting(1.0), fitting(1.5)) == (6, 8)
