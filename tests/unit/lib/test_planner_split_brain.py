# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Split brain: said with what each side wrote, resolved for the named survivor, the other side's data kept first."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import MIB, World

from twofold import names
from twofold.planner import Plan

PAIR = {"nodes": ["node1", "node2"], "os": "debian-13"}
WANTED = desired({"web1": instance(**PAIR)})


def parted() -> World:
    """web1 runs on node1; node2 was promoted by force behind our back and written too."""
    world = World(list(WANTED.nodes))
    world.converge(WANTED)
    world.documents()
    for node, current, amount in (("node1", "AAAAAAAAAAAAAAA1", 12), ("node2", "BBBBBBBBBBBBBBB1", 4)):
        resource = world.nodes[node]["resources"]["web1"]
        resource.update(connection="StandAlone", role="Primary", allow_two_primaries=True)
        resource["volumes"][0].update(uuids=f"{current}:1111111111111110:0:0", out_of_sync=amount * MIB)
    return world


def resolve(world: World, **intent: Any) -> Plan:
    return world.plan(WANTED, verb="resolve_split_brain", instance="web1", **intent)


def kept(world: World) -> list[tuple[str, str]]:
    return [(node, v["name"]) for node, doc in world.nodes.items() for v in doc["volumes"] if "kept" in v["name"]]


def test_it_is_said_what_each_side_wrote() -> None:
    plan = parted().plan(WANTED)
    (finding,) = plan.errors
    assert (finding.code, plan.steps) == ("split-brain", ())
    assert "node1 has written 12MiB since, the guest runs there" in finding.message
    assert "node2 has written 4MiB since, it is Primary there" in finding.message
    assert "resolve_split_brain.yml -e instance=web1" in finding.remedy


def after_a_migration(**sides: dict[str, Any]) -> World:
    """The link broke while both sides were Primary; the guest went on, on node1."""
    world = parted()
    for node, facts in sides.items():
        resource = world.nodes[node]["resources"]["web1"]
        volume = {key: facts.pop(key) for key in ("out_of_sync",) if key in facts}
        resource.update(facts)
        resource["volumes"][0].update(volume)
    return world


@pytest.mark.parametrize("role", ["Primary", "Secondary"])
def test_a_side_that_wrote_nothing_and_runs_nothing_follows(role: str) -> None:
    world = after_a_migration(node2={"role": role, "out_of_sync": 0})
    plan = world.plan(WANTED)
    assert not plan.errors
    ops = [(step.node, step.op) for step in sorted(plan.steps, key=lambda step: step.wave)]
    settled, connected = ops.index(("node2", "replication.settle")), ops.index(("node2", "replication.configure"))
    assert settled < connected, "a Primary would not follow"
    assert not {"replication.discard", "volumes.keep"} & {op for _node, op in ops}
    world.apply(plan, WANTED)
    now = world.plan(WANTED)
    assert (now.steps, now.findings) == ((), ())
    assert world.data_copies("web1") == ["node1", "node2"]


@pytest.mark.parametrize(
    "sides",
    [
        {"node1": {"out_of_sync": 0}},
        {"node2": {"out_of_sync": None}},
        {"node2": {"out_of_sync": 4096}},
    ],
    ids=["the guest's own side", "not told", "one block"],
)
def test_whoever_may_have_written_is_never_given_up_by_itself(sides: dict[str, Any]) -> None:
    plan = after_a_migration(**{node: dict(facts) for node, facts in sides.items()}).plan(WANTED)
    assert (plan.steps, [finding.code for finding in plan.errors]) == ((), ["split-brain"])


@pytest.mark.parametrize("survivor", [None, "node3"])
def test_nothing_is_given_up_without_a_survivor(survivor: str | None) -> None:
    plan = resolve(parted(), survivor=survivor)
    assert (plan.steps, [f.code for f in plan.errors]) == ((), ["no-survivor"])
    assert "12MiB" in plan.errors[0].message


def test_the_victims_data_is_kept_before_it_is_given_up() -> None:
    world = parted()
    plan = resolve(world, survivor="node1")
    assert not plan.errors
    ops = [(step.node, step.op) for step in sorted(plan.steps, key=lambda step: step.wave)]
    assert ops == [
        ("node2", "replication.demote"), ("node2", "volumes.keep"), ("node2", "replication.discard"),
        ("node1", "replication.configure"), ("node2", "replication.wait"),
    ]  # fmt: skip
    discard = next(step for step in plan.steps if step.op == "replication.discard")
    assert discard.risk is not None and "web1-disk0-kept-bbbbbbbbbbbb" in discard.risk
    world.apply(plan, WANTED)
    world.converge(WANTED)
    assert world.data_copies("web1") == ["node1", "node2"]
    assert kept(world) == [("node2", "web1-disk0-kept-bbbbbbbbbbbb")]
    now = world.plan(WANTED)
    assert (now.steps, [f.code for f in now.findings]) == ((), ["data-kept"])


TWO_DISKS = desired({"web1": instance(**PAIR, disks=[{"size": "128MiB"}, {"size": "256MiB"}])})


@pytest.mark.parametrize(
    ("disk", "code"),
    [("Diskless", "no-good-copy"), ("Inconsistent", "no-good-copy"), ("Outdated", None), ("Consistent", None)],
)
def test_a_side_of_which_a_disk_is_not_whole_does_not_survive(disk: str, code: str | None) -> None:
    world = World(list(TWO_DISKS.nodes))
    world.converge(TWO_DISKS)
    world.documents()
    for node, current in (("node1", "AAAAAAAAAAAAAAA0"), ("node2", "BBBBBBBBBBBBBBB0")):
        resource = world.nodes[node]["resources"]["web1"]
        resource["connection"] = "StandAlone"
        for volume in resource["volumes"]:
            volume.update(uuids=f"{current}:1111111111111110:0:0", out_of_sync=4096)
    world.nodes["node1"]["resources"]["web1"]["volumes"][1]["disk"] = disk
    intent = {"verb": "resolve_split_brain", "instance": "web1"}
    plan = world.plan(TWO_DISKS, **intent, survivor="node1")
    assert [finding.code for finding in plan.errors] == ([code] if code else [])
    assert bool(plan.steps) is (code is None)
    if code:
        assert f"the data of node1 cannot survive, for it is not whole: disk 1 is {disk}" in plan.errors[0].message
    assert world.plan(TWO_DISKS, **intent, survivor="node2").steps


def test_everything_is_copied_where_nobody_counted_all_that_differs() -> None:
    """One side went on with a copy from before a replacement: what the other wrote in between is in no bitmap."""
    world = parted()
    counted = resolve(world, survivor="node1")
    world.nodes["node2"]["resources"]["web1"]["volumes"][0]["uuids"] = "BBBBBBBBBBBBBBB1:0000000000000004:0:0"
    whole = resolve(world, survivor="node1")
    found = [[s.args["anew"] for s in plan.steps if s.op == "replication.discard"] for plan in (counted, whole)]
    assert found == [[[]], [[{"volume": 0}]]]


def test_a_side_that_wrote_nothing_but_counts_from_another_generation_does_not_follow_by_itself() -> None:
    world = after_a_migration(node2={"out_of_sync": 0})
    world.nodes["node2"]["resources"]["web1"]["volumes"][0]["uuids"] = "BBBBBBBBBBBBBBB1:2222222222222222:0:0"
    plan = world.plan(WANTED)
    assert (plan.steps, [finding.code for finding in plan.errors]) == ((), ["split-brain"])


def test_without_room_for_what_is_kept_nothing_is_done() -> None:
    world = parted()
    world.nodes["node2"]["volume_groups"]["twofold"]["free"] = 8 * MIB
    plan = resolve(world, survivor="node1")
    assert (plan.steps, [finding.code for finding in plan.errors]) == ((), ["no-room"])
    assert "node2" in plan.errors[0].message and "8MiB" in plan.errors[0].remedy


def test_where_what_is_kept_could_not_have_its_name_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    world = parted()
    monkeypatch.setattr(names, "MAPPED", len("twofold-web1--disk0--kept--bbbbbbbbbbbb-cow") - 1)
    plan = resolve(world, survivor="node1")
    assert (plan.steps, [finding.code for finding in plan.errors]) == ((), ["bad-name"])
    assert "/dev/twofold/web1-disk0 on node2" in plan.errors[0].remedy


def test_a_guest_on_the_losing_side_is_stopped() -> None:
    world = parted()
    plan = resolve(world, survivor="node2")
    assert [step.op for step in plan.steps][:2] == ["domain.stop", "replication.demote"]
    world.apply(plan, WANTED)
    world.converge(WANTED)
    assert kept(world) == [("node1", "web1-disk0-kept-aaaaaaaaaaaa")]
    assert [n for n, doc in world.nodes.items() for d in doc["domains"].values() if d["state"] == "running"] == [
        "node1"
    ]


def states(world: World) -> dict[str, str]:
    return {node: one["state"] for node, doc in world.nodes.items() for one in doc["domains"].values()}


def test_a_guest_on_the_losing_side_starts_again_once_its_disks_are_filled() -> None:
    world = parted()
    plan = resolve(world, survivor="node2")
    ops = [(step.node, step.op) for step in sorted(plan.steps, key=lambda step: step.wave)]
    assert ops[-4:] == [
        ("node1", "replication.wait"), ("node2", "replication.demote"),
        ("node1", "replication.promote"), ("node1", "domain.start"),
    ]  # fmt: skip
    promote, demote = plan.steps[-2], plan.steps[-3]
    assert demote.id in promote.needs, "two primaries are allowed in migrations alone"
    world.apply(plan, WANTED)
    assert states(world) == {"node1": "running"}
    world.converge(WANTED)
    now = world.plan(WANTED)
    assert {finding.code for finding in now.findings} <= {"data-kept"} and not now.steps


def test_a_guest_that_is_off_on_its_own_surviving_side_starts_at_once() -> None:
    world = parted()
    world.nodes["node1"]["domains"]["web1"]["state"] = "shutoff"
    ops = [(step.node, step.op) for step in resolve(world, survivor="node1").steps]
    assert ("node1", "domain.start") in ops and ("node1", "replication.promote") in ops


def test_a_guest_that_goes_on_or_is_not_wanted_is_not_started() -> None:
    started = [step.op for step in resolve(parted(), survivor="node1").steps]
    assert "domain.start" not in started
    stopped = desired({"web1": instance(**PAIR, state="stopped")})
    plan = parted().plan(stopped, verb="resolve_split_brain", instance="web1", survivor="node2")
    assert "domain.start" not in [step.op for step in plan.steps]


def test_who_finds_no_room_for_the_guest_says_who_starts_it() -> None:
    world = parted()
    world.nodes["node1"]["bridges"] = []
    plan = resolve(world, survivor="node2")
    assert not plan.errors and "domain.start" not in [step.op for step in plan.steps]
    (change,) = plan.summary
    assert "converge.yml" in change.why and "no bridge" in change.why
    assert "converge.yml" not in resolve(parted(), survivor="node2").summary[0].why


def test_killed_anywhere_it_can_be_gone_on_with() -> None:
    for limit in range(len(resolve(parted(), survivor="node1").steps)):
        world = parted()
        world.apply(resolve(world, survivor="node1"), WANTED, limit)
        world.apply(resolve(world, survivor="node1"), WANTED)
        world.resync()
        world.converge(WANTED)
        assert world.data_copies("web1") == ["node1", "node2"], limit
        assert kept(world) == [("node2", "web1-disk0-kept-bbbbbbbbbbbb")], limit
        assert not world.plan(WANTED).steps, limit


def gone_on() -> tuple[World, list[tuple[str, str]]]:
    """The data of node1 is kept when its resolution is killed and node2 dies; the guest goes on on node1 meanwhile."""
    world = parted()
    plan = resolve(world, survivor="node2")
    order = [step.op for step in sorted(plan.steps, key=lambda step: step.wave)]
    world.apply(plan, WANTED, limit=order.index("replication.discard"))
    first = kept(world)
    away = copy.deepcopy(world.nodes["node2"])
    world.down.add("node2")
    world.apply(world.plan(WANTED, verb="recover", confirm_dead="node2"), WANTED)
    world.down.discard("node2")
    world.nodes["node2"] = away
    # A side in split brain begins no generation when it is promoted again.
    world.nodes["node1"]["resources"]["web1"]["connection"] = "StandAlone"
    return world, first


def test_what_was_written_after_an_interrupted_resolution_is_kept_too() -> None:
    world, first = gone_on()
    assert first == [("node1", "web1-disk0-kept-aaaaaaaaaaaa")] and states(world) == {"node1": "running"}
    plan = resolve(world, survivor="node2")
    discard = next(step for step in plan.steps if step.op == "replication.discard")
    assert "web1-disk0-kept-aaaaaaaaaaaa-2" in str(discard.risk)
    world.apply(plan, WANTED)
    assert kept(world) == [*first, ("node1", "web1-disk0-kept-aaaaaaaaaaaa-2")]
    world.converge(WANTED)
    assert [f.code for f in world.plan(WANTED).findings] == ["data-kept", "data-kept"]
    world.apply(world.plan(WANTED, verb="drop_kept", instance="web1", confirm="web1"), WANTED)
    assert kept(world) == []


def test_a_primary_may_write_so_what_was_kept_of_it_does_not_serve() -> None:
    world, _first = gone_on()
    next(one for one in world.nodes["node1"]["volumes"] if "unchanged" in one)["unchanged"] = True
    (keep,) = [step for step in resolve(world, survivor="node2").steps if step.op == "volumes.keep"]
    assert keep.args["volumes"][0]["snapshot"] == "web1-disk0-kept-aaaaaaaaaaaa-2"


def test_another_snapshot_needs_room_too() -> None:
    world, _first = gone_on()
    world.nodes["node1"]["volume_groups"]["twofold"]["free"] = 8 * MIB
    plan = resolve(world, survivor="node2")
    assert (plan.steps, [finding.code for finding in plan.errors]) == ((), ["no-room"])


def test_what_is_kept_goes_on_an_explicit_word_only() -> None:
    world = parted()
    world.apply(resolve(world, survivor="node1"), WANTED)
    world.converge(WANTED)
    for verb in ({"verb": "replace_disks"}, {"verb": "replace_disks", "on": "secondary"}):
        assert [f.code for f in world.plan(WANTED, instance="web1", **verb).errors] == ["data-kept"]
    assert [f.code for f in world.plan(WANTED, verb="drop_kept", instance="web1").errors] == ["not-confirmed"]
    world.apply(world.plan(WANTED, verb="drop_kept", instance="web1", confirm="web1"), WANTED)
    assert kept(world) == []
    assert [f.code for f in world.plan(WANTED).findings] == []
    assert [f.code for f in world.plan(WANTED, verb="drop_kept", instance="web1").findings] == ["nothing-kept"]


@pytest.mark.parametrize("chosen", ["node2", None])
def test_no_new_copy_takes_the_place_of_one_beside_which_data_is_kept(chosen: str | None) -> None:
    """With the former copy, which would be removed once the new one is filled, its snapshot would go."""
    world, wanted = parted(), desired({"web1": instance(os="debian-13")})
    world.apply(resolve(world, survivor="node1"), WANTED)
    world.converge(WANTED)
    before = kept(world)
    world.power_off("node2")
    world.apply(world.plan(wanted, verb="replace_disks", instance="web1", new_secondary="node3"), wanted)
    world.power_on("node2")
    world.power_off("node3")
    plan = world.plan(wanted, verb="replace_disks", instance="web1", new_secondary=chosen)
    (error,) = plan.errors
    assert not plan.steps and "keeps data of it that was given up" in error.message
    assert before and kept(world) == before


def test_copies_that_are_not_in_split_brain_are_left_alone() -> None:
    world = World(list(WANTED.nodes))
    world.converge(WANTED)
    plan = resolve(world, survivor="node1")
    assert (plan.steps, [f.code for f in plan.findings]) == ((), ["no-split-brain"])


def test_both_sides_have_to_answer() -> None:
    world = parted()
    world.down = {"node2"}
    plan = resolve(world, survivor="node1")
    assert (plan.steps, [f.code for f in plan.errors]) == ((), ["node-unknown"])


def test_a_copy_that_was_never_filled_is_no_other_side() -> None:
    world = parted()
    world.nodes["node2"]["resources"]["web1"].update(role="Secondary", connection="Connecting")
    world.nodes["node2"]["resources"]["web1"]["volumes"][0].update(uuids="0000000000000004:0:0:0", disk="Inconsistent")
    assert "split-brain" not in {f.code for f in world.plan(WANTED).findings}
    plan = resolve(world, survivor="node2")
    assert (plan.steps, [f.code for f in plan.findings]) == ((), ["no-split-brain"])


def test_a_copy_that_is_only_being_made_is_no_other_side() -> None:
    world = World(list(WANTED.nodes))
    world.converge(WANTED)
    replacement = world.plan(WANTED, verb="replace_disks", instance="web1")
    written = [step.op for step in replacement.steps].index("replication.configure")
    world.apply(replacement, WANTED, written)
    world.documents()
    drbd = world.nodes["node1"]["resources"]["web1"]
    drbd["connection"] = "StandAlone"
    assert "web1" not in world.nodes["node3"]["resources"]
    plan = world.plan(WANTED)
    assert "stand-alone" not in {finding.code for finding in plan.errors}
    assert "replication.configure" in [step.op for step in plan.steps if step.node == "node1"]


def test_a_copy_that_never_was_whole_is_connected() -> None:
    world = World(list(WANTED.nodes))
    world.converge(WANTED)
    world.documents()
    drbd = world.nodes["node2"]["resources"]["web1"]
    drbd["connection"] = "StandAlone"
    for volume in drbd["volumes"]:
        volume["disk"] = "Inconsistent"
    plan = world.plan(WANTED)
    assert "replication.configure" in [step.op for step in plan.steps if step.node == "node2"]
    assert not [finding for finding in plan.errors if finding.code in ("split-brain", "stand-alone")]


def test_who_is_down_comes_up_to_tell_what_was_written_there() -> None:
    """One side was disconnected by hand, the other taken down: neither tells the generations of both."""
    world = World(list(WANTED.nodes))
    world.converge(WANTED)
    world.documents()
    here, there = (world.nodes[node]["resources"]["web1"] for node in ("node1", "node2"))
    here["connection"] = "StandAlone"
    here["volumes"][0]["uuids"] = "AAAAAAAAAAAAAAA1:1111111111111110:0:0"
    there.update(role=None, volumes=[], options={})
    plan = world.plan(WANTED)
    assert [(finding.code, "down on node2" in finding.message) for finding in plan.errors] == [("stand-alone", True)]
    assert [(step.node, step.op) for step in plan.steps] == [("node2", "replication.configure")]
    moved = world.plan(WANTED, verb="migrate", instance="web1")
    assert (moved.steps, [finding.code for finding in moved.errors]) == ((), ["stand-alone"])
    world.apply(plan, WANTED)
    world.nodes["node2"]["resources"]["web1"]["volumes"][0]["uuids"] = "1111111111111110:0:0:0"
    world.converge(WANTED)
    assert (world.plan(WANTED).steps, world.plan(WANTED).findings) == ((), ())


def test_who_lost_disks_and_is_down_is_not_brought_up() -> None:
    world = World(list(WANTED.nodes))
    world.converge(WANTED)
    world.documents()
    world.nodes["node1"]["resources"]["web1"]["connection"] = "StandAlone"
    world.nodes["node2"]["resources"]["web1"].update(role=None, volumes=[], options={})
    world.nodes["node2"]["volumes"] = []
    assert not world.plan(WANTED).steps
