# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done to disks, in random order and killed anywhere: a whole copy is always left, and it ends in peace."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import MIB, Refused, World

COUNT = 4
SIZES = (64, 128, 256)
STOPPED, RUNNING = "stopped", "running"

OPERATIONS = st.one_of(
    st.just({"verb": "converge"}),
    st.just({"verb": "replace_disks"}),
    st.sampled_from([{"verb": "replace_disks", "on": side} for side in ("primary", "secondary")]),
    st.sampled_from([{"verb": "replace_disks", "new_secondary": f"node{i}"} for i in range(1, COUNT + 1)]),
    st.just({"verb": "migrate"}),
    st.just({"verb": "activate_disks"}),
    st.just({"verb": "recreate_disks"}),
    st.sampled_from([{"verb": verb, "node": f"node{i}"} for verb in ("evacuate", "drain") for i in (1, 2)]),
)
STEP = st.tuples(
    OPERATIONS,
    st.sampled_from(SIZES),
    st.sampled_from([RUNNING, STOPPED]),
    st.none() | st.integers(0, 12),
    st.booleans(),
)


def wanted(size: int, state: str) -> Any:
    guest = instance(nodes=["node1", "node2"], disks=[{"size": f"{size}MiB"}], state=state)
    return desired({"web1": guest}, COUNT)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=st.lists(STEP, min_size=1, max_size=5))
def test_disks_survive_whatever_is_begun(history: list[tuple[dict[str, Any], int, str, int | None, bool]]) -> None:
    world = World([f"node{i}" for i in range(1, COUNT + 1)])
    size = SIZES[0]
    world.converge(wanted(size, RUNNING))
    for intent, asked, state, limit, fills in history:
        size = max(size, asked)
        inventory = wanted(size, state)
        # What a node refuses, a run leaves undone.
        with contextlib.suppress(Refused):
            world.apply(world.plan(inventory, **({"instance": "web1"} | intent)), inventory, limit)
        if fills:
            world.resync()
        whole = [node for node in world.data_copies("web1") if world.nodes[node]["definitions"]]
        assert whole, "the last copy that is up to date is never given up"
    peace(world, wanted(size, RUNNING), size)


def peace(world: World, inventory: Any, size: int) -> None:
    for _ignored in range(3):
        world.resync()
        world.converge(inventory)
    plan = world.plan(inventory)
    assert (plan.steps, plan.errors) == ((), [])
    assert len(world.data_copies("web1")) == 2
    found = [volume for doc in world.nodes.values() for volume in doc["volumes"]]
    assert sorted(volume["name"] for volume in found) == sorted(["web1-disk0", "web1-disk0-meta"] * 2)
    assert all(volume["size"] == size * MIB for volume in found if volume["name"] == "web1-disk0")
    assert not any("pending" in tag for volume in found for tag in volume["tags"])
    running = [doc for doc in world.nodes.values() for one in doc["domains"].values() if one["state"] == "running"]
    assert len(running) == 1
