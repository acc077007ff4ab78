# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks that were lost, an OS that is written anew, disks that are used while the guest is off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.test_planner_replace import on_pair
from tests.unit.lib.world import Refused, World

from twofold import planner
from twofold.model import Desired
from twofold.planner import Plan

PAIR = {"nodes": ["node1", "node2"], "os": "debian-13"}
WANTED = desired({"web1": instance(**PAIR)})
OFF = desired({"web1": instance(**PAIR, state="stopped")})


def healthy() -> World:
    world = World(list(WANTED.nodes))
    world.converge(WANTED)
    return world


def recreate(world: World, **intent: Any) -> Plan:
    return world.plan(WANTED, verb="recreate_disks", instance="web1", **intent)


def lose(world: World, node: str) -> None:
    """The node's physical volume died: its logical volumes are gone, DRBD has let go of them."""
    doc = world.nodes[node]
    doc["volumes"] = []
    for volume in doc["resources"]["web1"]["volumes"]:
        volume["disk"] = "Diskless"


def detach(world: World, node: str) -> None:
    """An error of the disk: DRBD has let go of it, the volumes are there."""
    world.nodes[node]["resources"]["web1"]["volumes"][0]["disk"] = "Diskless"


@pytest.mark.parametrize("hurt", [lose, detach])
@pytest.mark.parametrize("node", ["node1", "node2"])
def test_a_lost_copy_is_filled_from_the_other_one(hurt: Callable[[World, str], None], node: str) -> None:
    world = healthy()
    hurt(world, node)
    plan = recreate(world)
    assert not plan.errors
    assert {step.node for step in plan.steps} == {node}, "the guest goes on, with its primary without a disk if need be"
    world.apply(plan, WANTED)
    on_pair(world, "node1", "node2")
    assert not world.plan(WANTED).steps


@pytest.mark.parametrize("wanted", [WANTED, OFF])
def test_the_only_copy_that_is_left_goes_on_with_a_word_though_it_may_be_older(wanted: Desired) -> None:
    """node2 has booted and never heard of node1 again, which is new hardware under the old name."""
    world = World(list(wanted.nodes))
    world.converge(wanted)
    world.nodes["node2"]["resources"]["web1"]["volumes"][0]["disk"] = "Outdated"
    world.destroy("node1")
    found = [one for one in world.plan(wanted).findings if one.code == "volume-missing"]
    assert "recreate_disks.yml -e instance=web1" in found[0].remedy
    asked = {"verb": "recreate_disks", "instance": "web1"}
    refused = world.plan(wanted, **asked)
    assert not refused.steps and [one.code for one in refused.errors] == ["not-confirmed"]
    assert "may have been on node1 alone" in refused.errors[0].message
    plan = world.plan(wanted, **asked, confirm="web1")
    assert [(step.node, step.op) for step in plan.steps] == [
        ("node2", "replication.take_over"),
        ("node2", "replication.demote"),
    ]
    assert plan.details == {"again": True}
    assert not planner.check_saved(plan, wanted, world.documents())
    # It goes on because node1 answers and has nothing; of a silent one that is not known.
    silent = {**world.documents(), "node1": None}
    assert [one.object for one in planner.check_saved(plan, wanted, silent)] == ["node node1"]
    world.apply(plan, wanted)
    again = world.plan(wanted, **asked)
    assert not again.errors and not again.details
    world.apply(again, wanted)
    world.converge(wanted)
    assert world.data_copies("web1") == ["node1", "node2"]
    assert not world.plan(wanted).steps


def test_a_guest_that_lost_its_disks_is_off_before_the_copy_that_is_left_is_declared_the_last() -> None:
    """The link was cut when node1's disk failed: its guest, Primary without a disk, can do nothing but wait."""
    world = healthy()
    lose(world, "node1")
    for node in ("node1", "node2"):
        world.nodes[node]["resources"]["web1"]["connection"] = "StandAlone"
    world.nodes["node2"]["resources"]["web1"]["volumes"][0]["disk"] = "Outdated"
    plan = recreate(world, confirm="web1")
    steps = sorted(plan.steps, key=lambda step: step.wave)
    assert [(step.node, step.op) for step in steps] == [
        ("node1", "domain.stop"),
        ("node1", "domain.undefine"),
        ("node1", "replication.demote"),
        ("node2", "replication.take_over"),
        ("node2", "replication.demote"),
    ]
    assert steps[2].wave < steps[3].wave and steps[0].risk
    world.apply(plan, WANTED)
    assert [finding.code for finding in world.converge(WANTED).errors] == ["volume-missing"]
    world.apply(recreate(world), WANTED)
    world.converge(WANTED)
    on_pair(world, "node1", "node2")
    assert not world.plan(WANTED).steps


def test_a_node_that_was_failed_over_from_and_comes_back_without_its_disks_is_filled_again() -> None:
    """Its domain is left over there; each command said that the other one has to be run first."""
    world = healthy()
    world.power_off("node1")
    world.apply(world.plan(WANTED, verb="failover", instance="web1", confirm_dead=["node1"]), WANTED)
    world.power_on("node1")
    lose(world, "node1")
    plan = world.plan(WANTED)
    assert [finding.code for finding in plan.errors] == ["volume-missing"]
    assert [(step.node, step.op) for step in plan.steps] == [("node1", "domain.undefine")]
    world.apply(plan, WANTED)
    again = recreate(world)
    assert not again.errors
    world.apply(again, WANTED)
    world.converge(WANTED)
    on_pair(world, "node1", "node2")
    assert not world.plan(WANTED).steps


def test_the_only_domain_stays_where_the_disks_are_lost() -> None:
    """The guest is off, and nobody knows what the other node has."""
    world = healthy()
    stale = dict(world.nodes["node1"]["domains"]["web1"], state="shutoff")
    for node in ("node1", "node2"):
        world.nodes[node]["domains"]["web1"] = dict(stale)
    lose(world, "node1")
    world.nodes["node2"]["resources"]["web1"].update(role=None, volumes=[])
    assert "domain.undefine" not in [step.op for step in world.plan(WANTED).steps]


def replaced(world: World, done: str, **how: Any) -> None:
    """The second copy is being replaced when node1, with the only good one, loses its disks for good."""
    plan = world.plan(WANTED, verb="replace_disks", instance="web1", **how)
    made = [step.op for step in sorted(plan.steps, key=lambda step: step.wave)].index(done) + 1
    world.apply(plan, WANTED, limit=made)
    world.documents()
    lose(world, "node1")


@pytest.mark.parametrize("done", ["volumes.set_aside", "volumes.create", "replication.configure"])
def test_a_copy_that_was_set_aside_goes_on_with_a_word(done: str) -> None:
    world = healthy()
    replaced(world, done, on="secondary")
    refused = recreate(world)
    assert (refused.steps, [finding.code for finding in refused.errors]) == ((), ["not-confirmed"])
    assert "from before its replacement" in refused.errors[0].message
    plan = recreate(world, confirm="web1")
    assert not plan.errors
    assert all(step.risk for step in plan.steps if step.op in ("domain.stop", "replication.take_over"))
    assert plan.details == {"again": True}
    world.apply(plan, WANTED)
    assert world.data_copies("web1") == ["node2"]
    assert not [v for v in world.nodes["node2"]["volumes"] if v["name"].endswith("-old")]
    again = recreate(world)
    assert not again.errors and not again.details
    world.apply(again, WANTED)
    world.converge(WANTED)
    on_pair(world, "node1", "node2")
    assert not world.plan(WANTED).steps


def test_going_back_is_gone_on_with_wherever_it_was_interrupted() -> None:
    world = healthy()
    replaced(world, "replication.configure", on="secondary")
    for limit in range(1, len(recreate(world, confirm="web1").steps)):
        world = healthy()
        replaced(world, "replication.configure", on="secondary")
        world.apply(recreate(world, confirm="web1"), WANTED, limit=limit)
        world.converge(WANTED)
        for _turn in range(3):
            world.apply(recreate(world, confirm="web1"), WANTED)
            world.converge(WANTED)
        on_pair(world, "node1", "node2")
        assert not world.plan(WANTED).steps


def test_no_os_is_installed_on_a_copy_that_is_being_replaced() -> None:
    """The primary's disks were set aside for fresh ones when the run and then its node died; DRBD is down there."""
    world = healthy()
    plan = world.plan(WANTED, verb="replace_disks", instance="web1", on="primary")
    order = [step.op for step in sorted(plan.steps, key=lambda step: step.wave)]
    world.apply(plan, WANTED, limit=order.index("volumes.set_aside") + 1)
    world.power_off("node1")
    world.power_on("node1")
    world.nodes["node1"]["resources"]["web1"].update(role=None, volumes=[])
    again = world.plan(WANTED)
    assert {"os.install", "replication.promote"}.isdisjoint(step.op for step in again.steps)
    for _turn in range(3):
        world.converge(WANTED)
    on_pair(world, "node1", "node2")
    assert not world.plan(WANTED).steps


@pytest.mark.parametrize("how", [{"on": "secondary"}, {"new_secondary": "node3"}])
def test_lost_disks_are_filled_from_a_new_copy_that_is_whole_before_the_former_one_goes(how: dict[str, str]) -> None:
    world = healthy()
    replaced(world, "replication.wait", **how)
    plan = recreate(world)
    assert not plan.errors and {step.node for step in plan.steps} == {"node1"}
    world.apply(plan, WANTED)
    world.converge(WANTED)
    on_pair(world, "node1", how.get("new_secondary", "node2"))


def test_a_new_copy_that_is_lost_before_the_primary_looks_for_it_is_made_again() -> None:
    """The definitions name node3, the primary is still connected with node2."""
    world = healthy()
    plan = world.plan(WANTED, verb="replace_disks", instance="web1")
    world.apply(plan, WANTED, [step.op for step in plan.steps].index("replication.configure"))
    world.nodes["node3"]["volumes"] = []
    again = recreate(world)
    assert not again.errors
    configured = [step.node for step in again.steps if step.op == "replication.configure"]
    assert configured == ["node3", "node1"]
    world.apply(again, WANTED)
    world.converge(WANTED)
    on_pair(world, "node1", "node3")


def test_a_disk_that_was_only_let_go_of_is_not_given_up_for_an_older_copy() -> None:
    world = healthy()
    replaced(world, "replication.configure", on="secondary")
    volumes = healthy().nodes["node1"]["volumes"]
    world.nodes["node1"]["volumes"] = volumes
    plan = recreate(world, confirm="web1")
    assert "volumes.put_back" not in [step.op for step in plan.steps]


def test_a_copy_on_another_node_is_worth_saving() -> None:
    """A replacement had begun to fill fresh volumes on node3 when node1's disk died; node2 has what was before."""
    world = healthy()
    replaced(world, "replication.disconnect")
    plan = recreate(world, confirm="web1")
    assert (plan.steps, [finding.code for finding in plan.errors]) == ((), ["partly-lost"])
    assert "node2 is a copy from before a replacement" in plan.errors[0].message
    assert "accept_stale=web1" in plan.errors[0].remedy


def test_an_unfilled_copy_is_none() -> None:
    """node2's disks were lost and just being filled again when node1 lost its own: nothing is left."""
    world = healthy()
    lose(world, "node2")
    plan = recreate(world)
    world.apply(plan, WANTED, limit=[step.op for step in plan.steps].index("replication.wait"))
    world.documents()
    lose(world, "node1")
    refused = recreate(world)
    assert (refused.steps, [finding.code for finding in refused.errors]) == ((), ["not-confirmed"])
    world.apply(recreate(world, confirm="web1"), WANTED)
    on_pair(world, "node1", "node2")


def test_a_disk_that_was_only_let_go_of_is_not_lost_while_the_other_one_is_filled() -> None:
    world = healthy()
    lose(world, "node2")
    plan = recreate(world)
    world.apply(plan, WANTED, limit=[step.op for step in plan.steps].index("replication.wait"))
    world.documents()
    detach(world, "node1")
    again = recreate(world, confirm="web1")
    assert ("node1", "replication.configure") in [(step.node, step.op) for step in again.steps]
    assert "volumes.remove" not in [step.op for step in again.steps]


def part(world: World) -> None:
    """The copies have lost each other, and node2 does not look for its peer any more."""
    world.nodes["node2"]["resources"]["web1"]["connection"] = "StandAlone"
    world.nodes["node1"]["resources"]["web1"]["connection"] = "Connecting"


@pytest.mark.parametrize("given_up", ["node1", "node2"])
def test_a_copy_of_which_nothing_is_left_need_not_be_connected(given_up: str) -> None:
    world = healthy()
    lose(world, "node2")
    part(world)
    for node in ("node1", "node2"):
        connection = "StandAlone" if node == given_up else "Connecting"
        world.nodes[node]["resources"]["web1"]["connection"] = connection
    plan = recreate(world)
    assert not plan.errors
    connected = [step.node for step in plan.steps if step.op == "replication.configure"]
    assert connected == (["node2", "node1"] if given_up == "node1" else ["node2"])
    world.apply(plan, WANTED)
    on_pair(world, "node1", "node2")


def lost_in_use() -> World:
    """node1, where the guest runs, was parted from node2 and lost its disks after that; they refuse each other."""
    world = healthy()
    lose(world, "node1")
    part(world)
    return world


def goes_on_with_a_word(world: World) -> None:
    """The copy on node2 does, when the operator has said so; without a word nothing is done."""
    refused = recreate(world)
    assert (refused.steps, [finding.code for finding in refused.errors]) == ((), ["not-confirmed"])
    plan = recreate(world, confirm="web1")
    assert [(step.node, step.op) for step in sorted(plan.steps, key=lambda step: step.wave)] == [
        ("node1", "domain.stop"),
        ("node1", "domain.undefine"),
        ("node1", "replication.demote"),
        ("node2", "replication.take_over"),
        ("node2", "replication.demote"),
    ]
    world.apply(plan, WANTED)
    world.converge(WANTED)


def test_who_lost_its_disks_in_use_is_not_filled_from_a_copy_that_it_does_not_meet() -> None:
    world = lost_in_use()
    goes_on_with_a_word(world)
    world.apply(recreate(world), WANTED)
    world.converge(WANTED)
    on_pair(world, "node1", "node2")
    assert not world.plan(WANTED).steps


def test_fresh_disks_are_not_attached_in_vain_to_who_is_kept_apart_from_the_copy_that_is_left() -> None:
    world = healthy()
    lose(world, "node1")
    plan = recreate(world)
    world.apply(plan, WANTED, limit=[step.op for step in plan.steps].index("volumes.create") + 1)
    assert [step.op for step in world.plan(WANTED).steps][:1] == ["replication.configure"], "they are connected yet"
    part(world)
    named = world.plan(WANTED)
    assert (named.steps, [finding.code for finding in named.errors]) == ((), ["disk-lost"])
    assert "recreate_disks.yml -e instance=web1 -e confirm=web1" in named.errors[0].remedy
    for node in ("node1", "node2"):
        world.nodes[node]["resources"]["web1"]["connection"] = "Connecting"
    assert not world.plan(WANTED).errors, "they look for each other, and may be let together"
    part(world)
    goes_on_with_a_word(world)
    world.resync()
    world.converge(WANTED)
    on_pair(world, "node2", "node1")
    assert world.nodes["node2"]["domains"]["web1"]["state"] == "running" and not world.plan(WANTED).steps


def test_a_copy_that_is_apart_may_be_the_newer_one() -> None:
    world = healthy()
    detach(world, "node2")
    part(world)
    plan = recreate(world)
    assert (plan.steps, [finding.code for finding in plan.errors]) == ((), ["no-good-copy"])


def test_converge_names_the_remedy() -> None:
    world = healthy()
    lose(world, "node2")
    finding = next(f for f in world.plan(WANTED).errors if f.code == "volume-missing")
    assert "recreate_disks.yml -e instance=web1" in finding.remedy


def test_disks_that_are_lost_on_both_nodes_are_made_anew_on_an_explicit_word() -> None:
    world = healthy()
    lose(world, "node1")
    lose(world, "node2")
    assert [f.code for f in recreate(world).errors] == ["not-confirmed"]
    assert [f.code for f in recreate(world, confirm="yes").errors] == ["not-confirmed"]
    assert not recreate(world).steps
    count = len(recreate(world, confirm="web1").steps)
    for limit in range(count + 1):
        world = healthy()
        lose(world, "node1")
        lose(world, "node2")
        world.apply(recreate(world, confirm="web1"), WANTED, limit)
        plan = recreate(world, confirm="web1")
        world.apply(plan, WANTED)
        world.converge(WANTED)
        on_pair(world, "node1", "node2")
        assert world.nodes["node1"]["domains"]["web1"]["state"] == "running"
        assert not world.plan(WANTED).steps, limit


@pytest.mark.parametrize("other", [lose, detach])
def test_what_drbd_has_only_let_go_of_is_taken_up_again_and_not_emptied(other: Callable[[World, str], None]) -> None:
    """The disk under the guest had an error that is over; that of the other node is gone, or had one as well."""
    world = healthy()
    other(world, "node2")
    detach(world, "node1")
    (refused,) = recreate(world).errors
    assert refused.code == "not-confirmed" and "still there on node1" in refused.message
    plan = recreate(world, confirm="web1")
    assert not plan.errors and plan.details["again"]
    assert {step.op for step in plan.steps} == {"domain.stop", "replication.demote", "replication.configure"}
    world.apply(plan, WANTED)
    again = recreate(world, confirm="web1")
    assert not again.errors and "node1" not in {s.node for s in again.steps if s.op.startswith("volumes.")}
    world.apply(again, WANTED)
    world.converge(WANTED)
    on_pair(world, "node1", "node2")
    assert world.nodes["node1"]["domains"]["web1"]["state"] == "running"


def test_a_copy_that_is_left_of_one_disk_is_not_given_up() -> None:
    wanted = desired({"web1": instance(**PAIR, disks=[{"size": "128MiB"}, {"size": "64MiB"}])})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    for node, disk in (("node1", 0), ("node2", 1)):
        world.nodes[node]["resources"]["web1"]["volumes"][disk]["disk"] = "Diskless"
    plan = world.plan(wanted, verb="recreate_disks", instance="web1", confirm="web1")
    assert (plan.steps, [f.code for f in plan.errors]) == ((), ["partly-lost"])


def test_a_lost_disk_is_made_anew_though_drbd_is_down_there() -> None:
    """With a volume missing nothing else brings it up; whole, it would have to tell first what it has."""
    two = desired({"web1": instance(**PAIR, disks=[{"size": "128MiB"}] * 2)})
    world = World(list(two.nodes))
    world.converge(two)
    doc = world.nodes["node2"]
    doc["volumes"] = [volume for volume in doc["volumes"] if not volume["name"].startswith("web1-disk1")]
    doc["resources"]["web1"]["role"] = None
    for volume in doc["resources"]["web1"]["volumes"]:
        volume["disk"] = None
    plan = world.plan(two, verb="recreate_disks", instance="web1")
    assert not plan.errors and {step.node for step in plan.steps} == {"node2"}
    assert "replication.wait" in [step.op for step in plan.steps]


def lose_one_of_two(world: World, node: str, lost: int) -> None:
    """The volumes of one disk are gone, and DRBD has let go of the other one too, whose volumes are there."""
    doc = world.nodes[node]
    doc["volumes"] = [volume for volume in doc["volumes"] if not volume["name"].startswith(f"web1-disk{lost}")]
    for volume in doc["resources"]["web1"]["volumes"]:
        volume["disk"] = "Diskless"


@pytest.mark.parametrize("other", [World.destroy, lambda world, node: lose_one_of_two(world, node, 1)])
def test_a_volume_of_one_disk_that_may_hold_its_data_is_not_emptied_with_the_lost_ones(
    other: Callable[[World, str], None],
) -> None:
    two = desired({"web1": instance(**PAIR, disks=[{"size": "128MiB"}] * 2)})
    world = World(list(two.nodes))
    world.converge(two)
    lose_one_of_two(world, "node1", 0)
    other(world, "node2")
    plan = world.plan(two, verb="recreate_disks", instance="web1", confirm="web1")
    assert (plan.steps, [f.code for f in plan.errors]) == ((), ["partly-lost"])
    assert "twofold/web1-disk1 on node1" in plan.errors[0].message
    for node in ("node1", "node2"):
        world.nodes[node]["volumes"] = []
    assert not world.plan(two, verb="recreate_disks", instance="web1", confirm="web1").errors


def test_nothing_lost_is_nothing_to_do() -> None:
    plan = recreate(healthy())
    assert (plan.steps, [f.code for f in plan.findings]) == ((), ["nothing-lost"])


def test_an_os_is_installed_anew_on_an_explicit_word() -> None:
    refused = healthy().plan(WANTED, verb="reinstall", instance="web1")
    assert (refused.steps, [f.code for f in refused.errors]) == ((), ["not-confirmed"])
    other = desired({"web1": instance(**{**PAIR, "os": "script"})})
    planned = healthy().plan(other, verb="reinstall", instance="web1", confirm="web1").steps
    count, order = len(planned), [step.op for step in sorted(planned, key=lambda step: step.wave)]
    for limit in range(1, count + 1):
        world = healthy()
        plan = world.plan(other, verb="reinstall", instance="web1", confirm="web1")
        world.apply(plan, other, limit)
        world.converge(other)
        assert world.nodes["node1"]["domains"]["web1"]["state"] == "running"
        assert not world.plan(other).steps
        if limit > order.index("volumes.owe_install"):
            assert world.nodes["node1"]["definitions"]["web1"]["os"] == "script"
    ops = [step.op for step in plan.steps if step.node == "node1"]
    assert ops.index("domain.stop") < ops.index("volumes.owe_install") < ops.index("os.install")
    assert ops.index("os.install") < ops.index("domain.start")


def test_no_os_is_written_where_a_guest_was_that_has_moved_meanwhile() -> None:
    world = healthy()
    plan = world.plan(WANTED, verb="reinstall", instance="web1", confirm="web1")
    world.nodes["node2"]["domains"]["web1"] = world.nodes["node1"]["domains"].pop("web1")
    before = world.documents()
    with pytest.raises(Refused, match="it has moved"):
        world.apply(plan, WANTED)
    assert world.documents() == before


LOST_FIRST_DISK = {"nodes": ["node1"], "os": "debian-13", "disk_template": "plain"}
DISKLESS = {"nodes": ["node1"], "disk_template": "diskless", "disks": []}


@pytest.mark.parametrize(
    ("given", "said", "remedy"),
    [
        ({"nodes": ["node1", "node2"]}, "it has no OS to install", "set twofold_os"),
        (DISKLESS, "it has no disk to install an OS to", "nothing can be installed"),
        (LOST_FIRST_DISK, "its first disk is not on node1", "see what verify says"),
    ],
)
def test_where_there_is_nothing_to_install_it_is_said_why(given: dict[str, Any], said: str, remedy: str) -> None:
    wanted = desired({"web1": instance(**given)})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    if given is LOST_FIRST_DISK:
        world.nodes["node1"]["volumes"] = []
    plan = world.plan(wanted, verb="reinstall", instance="web1", confirm="web1")
    (found,) = plan.errors
    assert (plan.steps, found.code, found.object) == ((), "nothing-to-install", "instance web1")
    assert (found.message, found.remedy.startswith(remedy)) == (said, True)


def test_nothing_is_given_up_for_an_os_that_cannot_be_written() -> None:
    world = healthy()
    lose(world, "node2")
    plan = world.plan(WANTED, verb="reinstall", instance="web1", confirm="web1")
    assert (plan.steps, plan.summary) == ((), ()) and plan.errors


def test_disks_of_a_guest_that_is_off_are_activated_and_let_go_of() -> None:
    world = World(list(OFF.nodes))
    world.converge(OFF)
    plan = world.plan(OFF, verb="activate_disks", instance="web1")
    assert [(step.node, step.op) for step in plan.steps] == [("node1", "replication.promote")]
    assert "/dev/drbd1000" in plan.findings[0].message
    world.apply(plan, OFF)
    assert not world.plan(OFF, verb="activate_disks", instance="web1").steps
    plan = world.plan(OFF, verb="deactivate_disks", instance="web1")
    assert [(step.node, step.op) for step in plan.steps] == [("node1", "replication.demote")]
    world.apply(plan, OFF)
    assert not world.plan(OFF, verb="deactivate_disks", instance="web1").steps


@pytest.mark.parametrize("verb", ["activate_disks", "deactivate_disks"])
def test_disks_of_a_running_guest_are_its_own(verb: str) -> None:
    plan = healthy().plan(WANTED, verb=verb, instance="web1")
    assert (plan.steps, [f.code for f in plan.errors]) == ((), ["running"])


def test_disks_that_are_not_finished_are_not_activated() -> None:
    wanted = desired({"web1": instance(nodes=["node1", "node2"], os=None)})
    world = World(list(wanted.nodes))
    world.apply(world.plan(wanted), wanted, limit=1)
    for intent in ({"verb": "activate_disks"}, {"verb": "grow", "disk": "0", "size": "2GiB"}):
        plan = world.plan(wanted, instance="web1", **intent)
        assert (plan.steps, [finding.code for finding in plan.errors]) == ((), ["disks-unfinished"])


def test_disks_that_were_never_whole_are_not_activated() -> None:
    """Its creation was killed when the second node's DRBD was not up yet: no step could promote the first one's."""
    world = World(list(OFF.nodes))
    world.converge(OFF)
    world.nodes["node1"]["resources"]["web1"]["volumes"][0]["disk"] = "Inconsistent"
    plan = world.plan(OFF, verb="activate_disks", instance="web1")
    assert (plan.steps, [finding.code for finding in plan.errors]) == ((), ["disk-not-up-to-date"])


def test_an_instance_whose_move_was_cut_off_is_not_installed_anew() -> None:
    """It runs where the definition does not say yet: which disks are its own is settled first."""
    wanted = desired({"web1": instance(disk_template="plain", os="debian-13", nodes=["node1"])})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    plan = world.plan(wanted, verb="migrate", instance="web1", target="node2")
    world.apply(plan, wanted, limit=[step.op for step in plan.steps].index("domain.migrate") + 1)
    again = world.plan(wanted, verb="reinstall", instance="web1", confirm="web1")
    assert (again.steps, [finding.code for finding in again.errors]) == ((), ["not-settled"])
