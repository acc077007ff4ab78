# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Migrate: there and back, killed anywhere, and every reason not to begin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import World

from twofold import names
from twofold.planner import Plan

PAIR = {"nodes": ["node1", "node2"], "os": "debian-13"}


def world_with(**variables: Any) -> tuple[World, Any]:
    """Three nodes with web1 running on node1."""
    wanted = desired({"web1": instance(**variables)})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    return world, wanted


def migrate(world: World, wanted: Any, target: str | None = None) -> Plan:
    """The plan of a migration of web1."""
    return world.plan(wanted, verb="migrate", instance="web1", target=target)


def calls(plan: Plan) -> dict[tuple[int, str], list[str]]:
    """Wave and node -> operations: each is one module call."""
    found: dict[tuple[int, str], list[str]] = {}
    for step in plan.steps:
        found.setdefault((step.wave, step.node), []).append(step.op)
    return found


def test_a_replicated_instance_moves_to_its_secondary_and_back() -> None:
    world, wanted = world_with(**PAIR)
    for source, target in (("node1", "node2"), ("node2", "node1")) * 3:
        plan = migrate(world, wanted)
        assert calls(plan) == {
            (0, source): ["replication.dual_primary"],
            (0, target): ["replication.dual_primary"],
            (1, target): ["replication.promote"],
            (2, source): ["domain.migrate"],
            (3, source): ["replication.settle", "definition.write"],
            (3, target): ["replication.settle", "definition.write"],
        }
        assert not plan.errors
        world.apply(plan, wanted)
        assert list(world.nodes[target]["domains"]) == ["web1"] and not world.nodes[source]["domains"]
        assert world.nodes[source]["definitions"]["web1"]["nodes"] == [target, source]
        after = world.plan(wanted)
        assert (after.steps, after.findings) == ((), ())


def test_cleaning_up_runs_whatever_happens_and_the_definition_only_after_success() -> None:
    world, wanted = world_with(**PAIR)
    steps = {step.id: step for step in migrate(world, wanted).steps}
    moved = next(step for step in steps.values() if step.op == "domain.migrate")
    for step in steps.values():
        assert step.always == (step.op == "replication.settle")
        if step.op in ("replication.settle", "definition.write"):
            assert moved.id in step.needs


def test_the_arguments_of_a_migration() -> None:
    settings = {"migration_bandwidth": "100MiB/s", "migration_downtime": 500, "migration_postcopy": True}
    world, wanted = world_with(**PAIR, **settings)
    args = next(step.args for step in migrate(world, wanted).steps if step.op == "domain.migrate")
    assert args == {
        "name": "web1", "uri": "qemu+tls://198.51.100.12/system", "migrate_uri": "tcp://198.51.100.12", "xml": None,
        "bandwidth": 100 << 20, "downtime": 500, "auto_converge": True, "postcopy": True, "timeout": 1800,
        "copy_disks": [],
    }  # fmt: skip


@pytest.mark.parametrize("template", ["drbd", "plain"])
def test_a_migration_killed_anywhere_is_cleared_up_by_the_next_run(template: str) -> None:
    nodes = ["node1", "node2"] if template == "drbd" else ["node1"]
    for limit in range(12):
        world, wanted = world_with(os="debian-13", disk_template=template, nodes=nodes)
        plan = migrate(world, wanted, "node2")
        world.apply(plan, wanted, limit)
        assert not world.converge(wanted).errors, limit
        after = world.plan(wanted)
        assert (after.steps, {f.severity for f in after.findings} <= {"info"}) == ((), True), (limit, after)
        resources = [doc["resources"]["web1"] for doc in world.nodes.values() if doc["resources"]]
        assert not any(resource["allow_two_primaries"] for resource in resources)
        assert sorted(resource["role"] for resource in resources) == (["Primary", "Secondary"] if resources else [])
        where = [node for node, doc in world.nodes.items() if doc["domains"]]
        assert where == (["node2"] if limit > [s.op for s in plan.steps].index("domain.migrate") else ["node1"]), limit
        world.apply(migrate(world, wanted), wanted)
        assert not world.plan(wanted).steps


def test_a_plain_instance_takes_its_disks_along() -> None:
    world, wanted = world_with(disk_template="plain", nodes=["node1"], os="debian-13", disks=[{"size": "64MiB"}] * 2)
    world.nodes["node2"]["memory"]["total"] *= 2
    plan = migrate(world, wanted)
    step = next(step for step in plan.steps if step.op == "domain.migrate")
    assert step.args["copy_disks"] == ["vda", "vdb"] and step.bytes == (256 + 128) << 20
    world.apply(plan, wanted)
    assert not world.nodes["node1"]["volumes"] and len(world.nodes["node2"]["volumes"]) == 2
    assert world.nodes["node2"]["definitions"]["web1"]["nodes"] == ["node2"]
    assert (world.plan(wanted).steps, [f.code for f in world.plan(wanted).findings]) == ((), ["placement-differs"])


@pytest.mark.parametrize("verb", [{"verb": "migrate", "instance": "web1"}, {"verb": "drain", "node": "node1"}])
def test_a_plain_instance_whose_disk_is_lost_cannot_take_it_along(verb: dict[str, str]) -> None:
    """Its disk failed and was replaced; the guest, which cannot read it, still runs."""
    world, wanted = world_with(disk_template="plain", nodes=["node1"])
    world.nodes["node1"]["volumes"] = []
    plan = world.plan(wanted, **verb)
    assert [finding.code for finding in plan.errors if finding.object == "instance web1"] == ["volume-missing"]
    assert "recreate_disks.yml" in plan.errors[0].remedy
    assert not [step for step in plan.steps if step.instance == "web1"]


def test_what_an_interrupted_run_did_not_zero_is_zeroed_before_the_guest_comes() -> None:
    """Later that would be done to the guest's data."""
    world, wanted = world_with(disk_template="plain", nodes=["node1"], os="debian-13")
    plan = migrate(world, wanted, "node2")
    made = next(step for step in plan.steps if step.op == "volumes.create")
    world.nodes["node2"]["volumes"] = [
        {"volume_group": "twofold", "name": "web1-disk0", "size": made.args["volumes"][0]["size"], "open": False,
         "tags": [*names.volume_tags("web1", 0, "data"), "twofold.pending=wipe"]}
    ]  # fmt: skip
    again = migrate(world, wanted, "node2")
    assert [step.id for step in again.steps] == [step.id for step in plan.steps]
    world.apply(again, wanted)
    assert not any("twofold.pending=wipe" in one["tags"] for one in world.nodes["node2"]["volumes"])
    assert not world.plan(wanted).steps


def test_a_plain_instance_moves_to_another_volume_group() -> None:
    world, wanted = world_with(disk_template="plain", nodes=["node1"])
    world.nodes["node3"]["volume_groups"] = {"fast": {"size": 8 << 30, "free": 8 << 30, "extent": 4 << 20}}
    variables = {**wanted.nodes, "node3": wanted.nodes["node3"].model_copy(update={"volume_group": "fast"})}
    wanted = type(wanted)(wanted.cluster, variables, wanted.instances)
    plan = migrate(world, wanted, "node3")
    assert "/dev/fast/web1-disk0" in next(s.args["xml"] for s in plan.steps if s.op == "domain.migrate")
    world.apply(plan, wanted)
    assert not world.plan(wanted).steps


def test_a_diskless_instance_just_moves() -> None:
    world, wanted = world_with(disk_template="diskless", disks=[])
    plan = migrate(world, wanted, "node3")
    assert [step.op for step in plan.steps] == [
        "definition.write", "definition.write", "domain.migrate", "definition.write", "definition.remove",
    ]  # fmt: skip
    world.apply(plan, wanted)
    assert not world.plan(wanted).steps


def test_a_free_choice_keeps_to_the_rules() -> None:
    free = {"disk_template": "diskless", "disks": []}
    given = {"web1": instance(**free, nodes="node1"), "web2": instance(**free, nodes="node2")}
    wanted = desired(given)
    world = World(list(wanted.nodes))
    world.converge(wanted)
    rules = {"twofold_anti_affinity": ["web2"], "twofold_excluded_nodes": ["node3"]}
    chosen = {**given, "web1": {**given["web1"], **rules}}
    plan = world.plan(desired(chosen), verb="migrate", instance="web1")
    (error,) = plan.errors
    assert "node2: runs web2, from which twofold_anti_affinity keeps it" in error.message
    assert "node3: is in twofold_excluded_nodes" in error.message
    assert world.plan(desired(chosen), verb="migrate", instance="web1", target="node3").steps, "the operator decides"
    plan = world.plan(desired(given, node2={"twofold_node_state": "drained"}), verb="migrate", instance="web1")
    assert plan.summary[0].on == ("node1", "node3")
    plan = world.plan(desired(given, node2={"twofold_group": "other"}), verb="migrate", instance="web1")
    assert plan.summary[0].on == ("node1", "node3")


def moved_and_killed(template: str, **more: Any) -> tuple[World, Any]:
    """A world in which an instance was moved to node2 and the run was killed at once."""
    world, wanted = world_with(disk_template=template, nodes=["node1"], **more)
    plan = migrate(world, wanted, "node2")
    order = sorted(plan.steps, key=lambda step: step.wave)
    done = next(index for index, step in enumerate(order, 1) if step.op == "domain.migrate")
    world.apply(plan, wanted, limit=done)
    assert "web1" in world.nodes["node2"]["domains"] and "web1" not in world.nodes["node1"]["domains"]
    return world, wanted


@pytest.mark.parametrize("given", [PAIR, {"nodes": ["node1"], "os": "debian-13", "disk_template": "plain"}])
@pytest.mark.parametrize("change", [{"user_data": {"packages": ["git"]}}, {"ssh_keys": ["ssh-ed25519 AAAA ann"]}])
def test_a_guest_whose_seed_cannot_be_made_as_it_was_waits_for_a_converge(
    given: dict[str, Any], change: dict[str, Any]
) -> None:
    world, before = world_with(**given)
    world.nodes["node2"]["seeds"].clear()
    wanted = desired({"web1": instance(**given, **change)})
    plan = migrate(world, wanted, "node2")
    (found,) = plan.errors
    assert (plan.steps, found.code, found.object) == ((), "seed-missing", "instance web1")
    assert "is not on node2" in found.message and "another one" in found.message and "site.yml" in found.remedy
    world.converge(wanted)
    world.apply(migrate(world, wanted, "node2"), wanted)
    assert world.nodes["node2"]["seeds"]["web1"] == world.nodes["node2"]["definitions"]["web1"]["seed_digest"]
    world, before = world_with(**given)
    world.apply(migrate(world, before, "node2"), before)


@pytest.mark.parametrize(("template", "more"), [("plain", {}), ("diskless", {"disks": []})])
def test_what_was_moved_is_not_started_again_while_its_new_node_does_not_answer(
    template: str, more: dict[str, Any]
) -> None:
    world, wanted = moved_and_killed(template, **more)
    world.down = {"node2"}
    plan = world.plan(wanted)
    assert (plan.steps, [f.code for f in plan.errors]) == ((), ["node-unknown"])
    world.down = set()
    world.converge(wanted)
    assert not world.plan(wanted).steps
    assert "moving_to" not in world.nodes["node2"]["definitions"]["web1"]


def test_a_move_that_was_interrupted_is_finished_before_the_next() -> None:
    world, wanted = moved_and_killed("plain")
    asked = [{"verb": "migrate", "target": "node3"}, {"verb": "grow", "disk": "0", "size": "16GiB"}]
    for intent in asked:
        plan = world.plan(wanted, instance="web1", **intent)
        assert (plan.steps, [f.code for f in plan.errors]) == ((), ["not-settled"])


def test_drift_is_not_the_business_of_a_migration() -> None:
    world, _ignored = world_with(**PAIR)
    bigger = desired({"web1": instance(**PAIR, memory="512MiB")})
    plan = migrate(world, bigger)
    assert {step.op for step in plan.steps} == {
        "replication.dual_primary", "replication.promote", "domain.migrate", "replication.settle", "definition.write",
    }  # fmt: skip
    document = next(step.args["document"] for step in plan.steps if step.op == "definition.write")
    assert document["memory"] == 256 << 20
    world.apply(plan, bigger)
    assert "domain.define" in [step.op for step in world.converge(bigger).steps]


def _stop(world: World) -> None:
    world.nodes["node1"]["domains"]["web1"]["state"] = "shutoff"


def _disconnect(world: World) -> None:
    world.nodes["node2"]["resources"]["web1"]["role"] = None


def _resync(world: World) -> None:
    world.nodes["node2"]["resources"]["web1"]["volumes"][0]["disk"] = "Inconsistent"


def _no_memory(world: World) -> None:
    world.nodes["node2"]["memory"]["total"] = 512 << 20


def _no_bridge(world: World) -> None:
    world.nodes["node2"]["bridges"] = ["br-other"]


def _unknown(world: World) -> None:
    world.down = {"node2"}


def _left_on(world: World) -> None:
    world.nodes["node1"]["resources"]["web1"]["allow_two_primaries"] = True


def _migrating(world: World) -> None:
    world.nodes["node1"]["domains"]["web1"]["migrating"] = True


def _no_kvm(world: World) -> None:
    world.nodes["node2"]["kvm"] = False


def _nothing(world: World) -> None:
    pass


@pytest.mark.parametrize(
    ("hurt", "target", "code"),
    [
        (_stop, None, "not-running"),
        (_disconnect, None, "not-replicated"),
        (_resync, None, "not-replicated"),
        (_no_memory, None, "target-does-not-fit"),
        (_no_bridge, "node2", "target-does-not-fit"),
        (_no_kvm, None, "target-does-not-fit"),
        (_unknown, None, "node-unknown"),
        (_left_on, None, "not-settled"),
        (_migrating, None, "migrating"),
        (_nothing, "node3", "target-without-disk"),
        (_nothing, "node9", "unknown-node"),
    ],
)
def test_what_cannot_move_is_refused_before_anything_changed(
    hurt: Callable[[World], None], target: str | None, code: str
) -> None:
    world, wanted = world_with(**PAIR)
    hurt(world)
    plan = migrate(world, wanted, target)
    assert (plan.steps, [f.code for f in plan.errors]) == ((), [code])
    assert plan.errors[0].remedy and plan.errors[0].object == "instance web1"


def test_protocol_a_does_not_move_live() -> None:
    world, wanted = world_with(**PAIR, replication_protocol="A")
    assert [f.code for f in migrate(world, wanted).errors] == ["protocol"]


def test_already_there_is_no_error() -> None:
    world, wanted = world_with(**PAIR)
    plan = migrate(world, wanted, "node1")
    assert (plan.steps, [f.code for f in plan.findings]) == ((), ["already-there"])


def test_an_instance_that_does_not_exist() -> None:
    wanted = desired({"web1": instance()})
    world = World(list(wanted.nodes))
    assert [f.code for f in migrate(world, wanted).errors] == ["not-created"]
    plan = world.plan(wanted, verb="migrate", instance="web2", target=None)
    assert [f.code for f in plan.errors] == ["unknown-instance"]


def test_an_ipv6_target_is_written_in_brackets() -> None:
    world, wanted = world_with(**PAIR)
    node = wanted.nodes["node2"].model_copy(update={"migration_address": "2001:db8::12"})
    wanted = type(wanted)(wanted.cluster, {**wanted.nodes, "node2": node}, wanted.instances)
    args = next(step.args for step in migrate(world, wanted).steps if step.op == "domain.migrate")
    assert args["uri"] == "qemu+tls://[2001:db8::12]/system"


def test_an_instance_that_runs_elsewhere_is_there_whatever_was_defined_again() -> None:
    world, wanted = moved_and_killed("plain")
    # A second operator, who did not know of the move, defined it on its old node again.
    world.nodes["node1"]["domains"]["web1"] = {**world.nodes["node2"]["domains"]["web1"], "state": "shutoff"}
    world.converge(wanted)
    assert list(world.nodes["node1"]["domains"]) == [] and not world.nodes["node1"]["volumes"]
    assert not world.plan(wanted).steps


def off_on_both(template: str, **more: Any) -> tuple[World, Any]:
    """All power was lost when the guest had gone on at its new node, and its old one had not heard of that."""
    world, wanted = moved_and_killed(template, **more)
    off = {**world.nodes["node2"]["domains"]["web1"], "state": "shutoff"}
    for node in ("node1", "node2"):
        world.nodes[node]["domains"]["web1"] = dict(off)
    return world, wanted


def test_a_guest_without_disks_goes_on_at_its_new_node_though_all_power_was_lost() -> None:
    world, wanted = off_on_both("diskless", disks=[])
    world.converge(wanted)
    assert world.nodes["node2"]["domains"]["web1"]["state"] == "running"
    assert not world.nodes["node1"]["domains"] and not world.nodes["node1"]["definitions"]
    assert not world.plan(wanted).steps


def test_which_disks_are_the_last_after_a_move_that_was_cut_off_is_asked() -> None:
    world, wanted = off_on_both("plain")
    plan = world.plan(wanted)
    assert (plan.steps, [f.code for f in plan.errors]) == ((), ["domain-elsewhere"])
    assert "moved to node2" in plan.errors[0].message
    assert "undefine it on node1" in plan.errors[0].remedy and "else on node2" in plan.errors[0].remedy
    world.nodes["node1"]["domains"].clear()
    world.converge(wanted)
    world.converge(wanted)
    assert world.nodes["node2"]["domains"]["web1"]["state"] == "running"
    assert not world.nodes["node1"]["volumes"] and not world.plan(wanted).steps


def test_a_domain_where_nobody_moved_the_guest_is_still_said() -> None:
    world, wanted = world_with(disk_template="plain", nodes=["node1"])
    domain = world.nodes["node1"]["domains"]["web1"]
    domain["state"] = "shutoff"
    world.nodes["node2"]["domains"]["web1"] = dict(domain)
    plan = world.plan(wanted)
    assert (plan.steps, [f.code for f in plan.errors]) == ((), ["domain-elsewhere"])
