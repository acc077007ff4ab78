# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replacing a copy of an instance's disks: the old one stays until the new one is complete, whenever it is killed."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import World

from twofold.planner import Plan, Step

PAIR = {"nodes": ["node1", "node2"], "os": "debian-13"}
WANTED = desired({"web1": instance(**PAIR)})


def healthy(**variables: Any) -> World:
    world = World(list(WANTED.nodes))
    world.converge(desired({"web1": instance(**PAIR, **variables)}))
    return world


def replace(world: World, **intent: Any) -> Plan:
    return world.plan(WANTED, verb="replace_disks", instance="web1", **intent)


def ops(plan: Plan) -> list[tuple[str, str]]:
    return [(step.node, step.op) for step in sorted(plan.steps, key=lambda step: step.wave)]


def in_order(plan: Plan) -> list[Step]:
    return sorted(plan.steps, key=lambda step: step.wave)


def on_pair(world: World, first: str, second: str) -> None:
    """The two copies are whole on these nodes, and nothing is anywhere else."""
    documents = world.documents()
    assert world.data_copies("web1") == sorted((first, second))
    for node, found in documents.items():
        assert found is not None
        held = (found["definitions"], found["resources"], found["seeds"], found["volumes"])
        if node in (first, second):
            assert sorted(found["definitions"]["web1"]["nodes"]) == sorted((first, second))
            assert found["resources"]["web1"]["connection"] == "Connected"
            assert [v["name"] for v in found["volumes"]] == ["web1-disk0", "web1-disk0-meta"]
            assert not any("pending" in tag for volume in found["volumes"] for tag in volume["tags"])
        else:
            assert not any(held), (node, held)


def test_the_secondary_moves_to_the_node_that_fits() -> None:
    world = healthy()
    plan = replace(world)
    assert not plan.errors
    found = ops(plan)
    filled = found.index(("node3", "replication.wait"))
    assert found.index(("node3", "volumes.create")) < found.index(("node2", "replication.disconnect")) < filled
    assert [op for node, op in found if node == "node2" and op != "replication.disconnect"] == [
        "replication.remove", "volumes.remove", "seed.remove", "definition.remove"
    ]  # fmt: skip
    assert filled < found.index(("node2", "replication.remove"))
    world.apply(plan, WANTED)
    on_pair(world, "node1", "node3")
    assert not world.plan(WANTED).steps
    assert world.nodes["node1"]["domains"]["web1"]["state"] == "running"


def test_a_disk_that_waits_for_its_os_is_not_replaced() -> None:
    """The fresh one would not know that it has to wait, and the guest would start without."""
    world = healthy()
    world.nodes["node1"]["volumes"][0]["tags"].append("twofold.pending=install")
    plan = replace(world, on="primary")
    assert (plan.steps, [finding.code for finding in plan.errors]) == ((), ["disks-unfinished"])
    assert "site.yml" in plan.errors[0].remedy


def test_the_old_copy_is_cut_off_only_when_the_new_one_waits_for_the_primary() -> None:
    plan = replace(healthy())
    cut = next(step for step in plan.steps if step.op == "replication.disconnect")
    ready = next(step for step in plan.steps if (step.node, step.op) == ("node3", "replication.configure"))
    connect = next(step for step in plan.steps if (step.node, step.op) == ("node1", "replication.configure"))
    assert ready.id in cut.needs and {cut.id, ready.id} <= set(connect.needs)
    assert connect.risk is not None and "only copy that is up to date" in connect.risk


@pytest.mark.parametrize("on", [None, "secondary", "primary"])
@pytest.mark.parametrize("again", ["converge", "replace_disks"])
def test_killed_anywhere_it_is_gone_on_with(on: str | None, again: str) -> None:
    intent = {"on": on} if on else {}
    count = len(replace(healthy(), **intent).steps)
    for limit in range(count):
        world = healthy()
        world.apply(replace(world, **intent), WANTED, limit)
        assert "node1" in world.data_copies("web1") or (on == "primary" and "node2" in world.data_copies("web1"))
        for _ignored in range(3):
            verb = {"verb": again, "instance": "web1", **intent} if again != "converge" else {}
            plan = world.plan(WANTED, **verb)
            if not plan.steps or (again != "converge" and not plan.errors and finished(world)):
                break
            world.apply(plan, WANTED)
            world.resync()
        assert not plan.errors, (limit, plan.errors)
        world.converge(WANTED)
        world.resync()
        world.converge(WANTED)
        assert not world.plan(WANTED).steps, (limit, ops(world.plan(WANTED)))
        assert sum(bool(doc["volumes"]) for doc in world.nodes.values()) == 2, limit
        pair = [node for node, doc in world.nodes.items() if doc["volumes"]]
        on_pair(world, *pair)


def finished(world: World) -> bool:
    return not world.plan(WANTED).steps


def test_a_new_copy_does_not_wait_for_a_seed_that_cannot_be_made_as_it_was() -> None:
    """It is the disks that are to be safe; a converge writes the seed that is wanted now."""
    world, other = healthy(), desired({"web1": instance(**PAIR, user_data={"packages": ["git"]})})
    plan = world.plan(other, verb="replace_disks", instance="web1", new_secondary="node3")
    (found,) = plan.findings
    assert (found.code, found.severity, found.object) == ("seed-missing", "warning", "instance web1")
    assert "is not on node3" in found.message and "site.yml" in found.remedy
    world.apply(plan, other)
    assert "web1" not in world.nodes["node3"]["seeds"]
    world.converge(other)
    assert world.nodes["node3"]["seeds"] == world.nodes["node1"]["seeds"]
    assert not world.plan(other).steps


def test_another_replacement_waits_for_the_end_of_the_first() -> None:
    world = healthy()
    first = replace(world, new_secondary="node3")
    cut = next(number for number, step in enumerate(in_order(first)) if step.op == "replication.wait")
    world.apply(first, WANTED, cut)
    plan = replace(world, new_secondary="node2")
    (found,) = plan.errors
    assert (plan.steps, found.code, found.object) == ((), "replacement-unfinished", "instance web1")
    assert "its copies are on node1 and node3" in found.message
    assert found.remedy == "run replace_disks.yml without new_secondary first"
    # So one does, then the same again.
    world.apply(replace(world), WANTED)
    on_pair(world, "node1", "node3")
    world.apply(replace(world, new_secondary="node2"), WANTED)
    on_pair(world, "node1", "node2")


def test_a_new_copy_needs_a_port_of_its_own() -> None:
    wanted = desired({"web1": instance(**PAIR), "web2": instance(**PAIR)}, cluster={"twofold_drbd_ports": "7000-7001"})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    plan = world.plan(wanted, verb="replace_disks", instance="web1", new_secondary="node3")
    (found,) = plan.errors
    assert (plan.steps, found.code, found.object) == ((), "no-free-port", "instance web1")
    assert "free on node1 and node3" in found.message and "twofold_drbd_ports" in found.remedy


def test_the_new_node_can_be_named() -> None:
    world = healthy()
    world.apply(replace(world, new_secondary="node3"), WANTED)
    on_pair(world, "node1", "node3")


def test_a_secondary_that_is_dead_is_replaced_and_swept_when_it_is_back() -> None:
    world = healthy()
    world.down = {"node2"}
    plan = replace(world)
    assert not plan.errors
    assert "node2" not in {step.node for step in plan.steps}
    world.apply(plan, WANTED)
    world.down = set()
    assert world.nodes["node2"]["volumes"]
    world.converge(WANTED)
    on_pair(world, "node1", "node3")


def test_a_dead_secondary_of_a_guest_that_is_off_may_run_it() -> None:
    world = healthy()
    world.nodes["node1"]["domains"]["web1"]["state"] = "shutoff"
    world.down = {"node2"}
    plan = replace(world)
    assert (plan.steps, [f.code for f in plan.errors]) == ((), ["node-unknown"])


def test_a_former_copy_stays_while_the_new_one_is_filled() -> None:
    world = healthy()
    plan = replace(world)
    cut = next(i for i, step in enumerate(sorted(plan.steps, key=lambda s: s.wave)) if step.op == "replication.wait")
    world.apply(plan, WANTED, cut)
    now = world.plan(WANTED)
    assert not [step for step in now.steps if step.node == "node2"]
    assert {f.code for f in now.findings} == {"disk-not-up-to-date", "left-over", "placement-differs"}
    assert world.nodes["node2"]["resources"]["web1"]["volumes"][0]["disk"] == "Outdated"
    world.resync()
    world.converge(WANTED)
    on_pair(world, "node1", "node3")


def test_a_node_with_new_empty_disks_is_filled_again_by_converge() -> None:
    world = healthy()
    world.nodes["node2"] = world.empty_node("node2")
    plan = world.plan(WANTED)
    assert not plan.errors
    created = next(step for step in plan.steps if step.op == "volumes.create")
    assert created.args["volumes"][0]["pending"] == ["sync"]
    world.apply(plan, WANTED)
    world.resync()
    world.converge(WANTED)
    on_pair(world, "node1", "node2")


def _no_space(world: World) -> None:
    for doc in world.nodes.values():
        doc["volume_groups"]["twofold"]["free"] = 0


def _bad_source(world: World) -> None:
    world.nodes["node1"]["resources"]["web1"]["volumes"][0]["disk"] = "Inconsistent"


def _down(world: World) -> None:
    """It may have been written alone before its DRBD went down."""
    resource = world.nodes["node1"]["resources"]["web1"]
    resource["role"] = None
    for volume in resource["volumes"]:
        volume["disk"] = None
    world.nodes["node1"]["domains"]["web1"]["state"] = "shutoff"


def _bad_peer(world: World) -> None:
    world.nodes["node2"]["resources"]["web1"]["volumes"][0]["disk"] = "Inconsistent"


def _minor_taken(world: World) -> None:
    other = {**world.nodes["node1"]["definitions"]["web1"], "name": "other", "port": 7999, "nics": []}
    places = {"minor": {"node3": 1000, "node1": 1500}, "volume_group": {"node3": "twofold", "node1": "twofold"}}
    other["disks"] = [{**disk, **places} for disk in other["disks"]]
    world.nodes["node3"]["definitions"]["other"] = {**other, "nodes": ["node3", "node1"]}


def _nothing(world: World) -> None:
    pass


@pytest.mark.parametrize(
    ("hurt", "intent", "code"),
    [
        (_no_space, {}, "no-node-fits"),
        (_no_space, {"new_secondary": "node3"}, "target-does-not-fit"),
        (_no_space, {"on": "secondary"}, "no-room"),
        (_minor_taken, {"new_secondary": "node3"}, "target-does-not-fit"),
        (_bad_source, {}, "no-good-copy"),
        (_bad_peer, {"on": "primary"}, "no-good-copy"),
        (_down, {"on": "primary"}, "no-good-copy"),
        (_nothing, {"new_secondary": "node1"}, "already-there"),
        (_nothing, {"new_secondary": "node2"}, "already-there"),
        (_nothing, {"new_secondary": "node9"}, "unknown-node"),
        (_nothing, {"on": "both"}, "wrong-arguments"),
        (_nothing, {"on": "primary", "new_secondary": "node3"}, "wrong-arguments"),
    ],
)
def test_what_cannot_be_replaced_is_refused_before_anything_changed(hurt: Any, intent: Any, code: str) -> None:
    world = healthy()
    hurt(world)
    plan = replace(world, **intent)
    assert (plan.steps, [f.code for f in plan.errors]) == ((), [code])
    assert all(finding.message and finding.remedy for finding in plan.errors)


def test_a_plain_instance_has_no_second_copy() -> None:
    wanted = desired({"web1": instance(disk_template="plain")})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    plan = world.plan(wanted, verb="replace_disks", instance="web1")
    assert [f.code for f in plan.errors] == ["not-replicated"]


def test_fresh_volumes_are_filled_before_the_old_ones_go() -> None:
    world = healthy()
    plan = replace(world, on="primary")
    assert [op for _node, op in ops(plan)] == [
        "replication.detach", "volumes.set_aside", "volumes.create", "replication.configure", "replication.wait",
        "volumes.remove",
    ]  # fmt: skip
    world.apply(plan, WANTED)
    on_pair(world, "node1", "node2")


@pytest.mark.parametrize("how", [{"on": "secondary"}, {"new_secondary": "node3"}])
def test_what_cannot_be_told_to_be_ours_is_not_given_up(how: dict[str, str]) -> None:
    """Somebody took a tag off: the node would refuse to take the volume away, when the copy is parted already."""
    world = healthy()
    meta = next(one for one in world.nodes["node2"]["volumes"] if one["name"].endswith("-meta"))
    meta["tags"].remove("twofold.instance=web1")
    plan = replace(world, **how)
    (refused,) = plan.errors
    assert not plan.steps and refused.code == "not-settled" and "web1-disk0-meta of node2" in refused.message
    world.converge(WANTED)
    assert not replace(world, **how).errors


def test_a_new_secondary_that_dies_half_way_is_replaced_by_the_former_one() -> None:
    world = healthy()
    plan = replace(world)
    world.apply(plan, WANTED, [step.op for step in sorted(plan.steps, key=lambda s: s.wave)].index("replication.wait"))
    world.down = {"node3"}
    plan = replace(world)
    assert not plan.errors
    aside = next(step for step in plan.steps if step.op == "volumes.set_aside")
    assert aside.node == "node2", "the former copy is kept until the new one is complete"
    world.apply(plan, WANTED)
    world.down = set()
    world.converge(WANTED)
    on_pair(world, "node1", "node2")


def test_a_guest_that_stopped_meanwhile_starts_on_the_copy_that_was_filled() -> None:
    world = healthy()
    plan = replace(world, on="primary")
    world.apply(plan, WANTED, [step.op for step in plan.steps].index("replication.wait"))
    world.nodes["node1"]["domains"]["web1"]["state"] = "shutoff"
    world.resync()
    world.converge(WANTED)
    on_pair(world, "node1", "node2")
    assert world.nodes["node1"]["domains"]["web1"]["state"] == "running"


def test_a_disk_grows_after_the_replacement_that_is_gone_on_with() -> None:
    world = healthy()
    plan = replace(world, on="secondary")
    world.apply(plan, WANTED, [step.op for step in plan.steps].index("replication.wait"))
    large = desired({"web1": instance(**PAIR, disks=[{"size": "256MiB"}])})
    again = world.plan(large, verb="replace_disks", instance="web1", on="secondary")
    assert "replication.wait" in [step.op for step in again.steps]
    assert (again.errors, [f.code for f in again.findings]) == ([], ["disk-not-up-to-date", "grows-later"])
    world.apply(again, large)
    world.converge(large)
    assert not world.plan(large).steps
    assert {disk["size"] for doc in world.nodes.values() for disk in doc["volumes"] if "meta" not in disk["name"]} == {
        256 << 20
    }


@pytest.mark.parametrize(("on", "fresh", "good"), [("secondary", "node2", "node1"), ("primary", "node1", "node2")])
def test_fresh_volumes_wait_for_the_disk_that_fills_them(on: str, fresh: str, good: str) -> None:
    """Both sides are without a disk: a Primary lets in nothing but the data that it saw last."""
    world = healthy()
    plan = replace(world, on=on)
    world.apply(plan, WANTED, [step.op for step in plan.steps].index("replication.configure"))
    world.documents()
    for node in (fresh, good):
        world.nodes[node]["resources"]["web1"]["volumes"][0]["disk"] = "Diskless"
    steps = {step.node: step for step in world.plan(WANTED).steps if step.op == "replication.configure"}
    assert set(steps) == {"node1", "node2"}
    assert steps[good].id in steps[fresh].needs and steps[good].wave < steps[fresh].wave


def test_a_port_that_another_took_at_the_same_time_is_given_up() -> None:
    wanted = desired({"web1": instance(nodes=["node1", "node2"]), "web2": instance(nodes=["node2", "node3"])})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    # Two operators replaced a copy each; node2 has heard of web2's new port first.
    half, other = world.nodes["node1"]["definitions"]["web1"], world.nodes["node2"]["definitions"]["web2"]
    assert half["port"] != other["port"]
    half.update(port=other["port"], generation=half["generation"] + 1)
    plan = world.plan(wanted)
    written = {step.node: step.args["document"]["port"] for step in plan.steps if step.op == "definition.write"}
    assert written.keys() == {"node1", "node2"} and len(set(written.values())) == 1
    assert not set(written.values()) & {other["port"]} and not plan.errors


def test_a_former_copy_goes_only_under_the_definition_that_was_seen() -> None:
    """Its node may be about to get a newer one, by a run that was killed but not on the nodes."""
    world = healthy()
    plan = replace(world)
    gone = next(step for step in plan.steps if step.op == "volumes.remove")
    assert (gone.node, gone.args["expect_generation"]) == ("node2", 2)
    world.apply(plan, WANTED, [step.op for step in in_order(plan)].index("definition.write"))
    cleared = next(step for step in world.plan(WANTED).steps if step.op == "volumes.remove")
    assert (cleared.node, cleared.args["expect_generation"]) == ("node3", None)
