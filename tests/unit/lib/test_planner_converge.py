# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Converge: create, change, start, stop, remove, and what is found and not touched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import MIB, World

from twofold import names, planner, report
from twofold.model import Desired
from twofold.planner import Plan

TEMPLATES: dict[str, dict[str, Any]] = {
    "drbd": {"os": "debian-13"},
    "drbd without os": {},
    "drbd two disks": {"os": "script", "disks": [{"size": "128MiB"}, {"size": "300MiB"}]},
    "plain": {"disk_template": "plain", "os": "debian-13"},
    "diskless": {"disk_template": "diskless", "disks": []},
    "stopped": {"state": "stopped", "os": "debian-13"},
    "stopped plain": {"state": "stopped", "disk_template": "plain"},
}


def ops(plan: Plan, node: str | None = None, wave: int | None = None) -> list[str]:
    """The plan's operations, of one node or wave."""
    return [s.op for s in plan.steps if node in (None, s.node) and wave in (None, s.wave)]


def codes(plan: Plan, severity: str | None = None) -> list[str]:
    """The codes of the findings."""
    return [f.code for f in plan.findings if severity in (None, f.severity)]


def world_with(**variables: Any) -> tuple[World, Any]:
    """Three nodes with one instance web1 that was just created."""
    wanted = desired({"web1": instance(**variables)})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    assert not world.plan(wanted).steps
    return world, wanted


# With its hyphens doubled and the one behind it 36 characters; what keeps a disk's data adds 35 to an instance's name.
GROUP = "a-rather-long-name-of-a-group"
FITS = names.MAPPED - 36 - 35


def named(name: str, **variables: Any) -> Plan:
    """The first plan of an instance with this name, where the volume group has a long one."""
    wanted = desired({name: instance(**variables)}, cluster={"twofold_volume_group": GROUP})
    world = World(list(wanted.nodes))
    for document in world.nodes.values():
        document["volume_groups"] = {GROUP: document["volume_groups"].pop("twofold")}
    return world.plan(wanted)


@pytest.mark.parametrize("name", ["a" * FITS, "-".join(["aa"] * 14) + "aa"])
def test_a_name_is_as_long_as_device_mapper_takes_it_for_what_keeps_data(name: str) -> None:
    longest = f"{GROUP}/{name}-disk0-kept-0123456789ab-99".replace("-", "--").replace("/", "-") + "-cow"
    assert len(longest) == names.MAPPED
    assert not named(name).errors
    plan = named(f"{name}aa")
    assert (plan.steps, codes(plan, "error")) == ((), ["bad-name"])
    assert "device-mapper takes 127" in plan.errors[0].message and "otherwise" in plan.errors[0].remedy
    assert not named(f"{name}aa", disk_template="plain").errors, "of a plain disk nothing is kept"


def test_an_instance_that_is_there_is_left_alone_unless_its_volumes_cannot_have_their_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, wanted = world_with()
    monkeypatch.setattr(names, "MAPPED", len("twofold-web1--disk0--meta"))
    assert (world.plan(wanted).steps, world.plan(wanted).findings) == ((), ())
    aside = world.plan(wanted, verb="replace_disks", instance="web1", on="secondary")
    assert (aside.steps, codes(aside, "error")) == ((), ["bad-name"])
    monkeypatch.setattr(names, "MAPPED", len("twofold-web1--disk0--meta") - 1)
    assert codes(world.plan(wanted)) == ["bad-name"]


@pytest.mark.parametrize("variables", TEMPLATES.values(), ids=TEMPLATES)
def test_the_second_plan_is_empty(variables: dict[str, Any]) -> None:
    wanted = desired({"web1": instance(**variables)})
    world = World(list(wanted.nodes))
    plan = world.converge(wanted)
    assert plan.summary[0].change == "create"
    again = world.plan(wanted)
    assert (again.steps, again.findings) == ((), ())
    states = {d["state"] for doc in world.nodes.values() for d in doc["domains"].values()}
    assert states == {"shutoff" if variables.get("state") == "stopped" else "running"}


def test_creation_costs_three_calls_and_two_that_say_that_the_os_is_there_and_a_look_elsewhere() -> None:
    wanted = desired({"web1": instance(os="debian-13", nodes=["node2", "node3"])})
    plan = World(list(wanted.nodes)).plan(wanted)
    prepare = ["definition.write", "volumes.create", "replication.configure", "seed.write"]
    assert ops(plan, "node3", 0) == prepare
    assert ops(plan, "node2", 0) == [*prepare, "image.fetch"]
    assert ops(plan, "node1", 1) == ["definition.absent"] == ops(plan, "node1")
    assert ops(plan, "node2", 2) == ["replication.initialise", "replication.promote", "os.install"]
    assert ops(plan, "node3", 3) == ["definition.write"]
    assert ops(plan, "node2", 4) == ["definition.write", "domain.define", "domain.start"]
    assert plan.waves == 5
    assert World(list(wanted.nodes)).plan(desired({"web1": instance(nodes=["node2", "node3"])})).waves == 3
    # Where there is no other node, nobody needs to be asked.
    wanted = desired({"web1": instance(nodes=["node1", "node2"])}, 2)
    assert World(list(wanted.nodes)).plan(wanted).waves == 2


@pytest.mark.parametrize("variables", TEMPLATES.values(), ids=TEMPLATES)
def test_a_creation_killed_anywhere_is_finished_by_the_next_run(variables: dict[str, Any]) -> None:
    wanted = desired({"web1": instance(**variables)})
    total = len(World(list(wanted.nodes)).plan(wanted).steps)
    for limit in range(total):
        world = World(list(wanted.nodes))
        world.apply(world.plan(wanted), wanted, limit)
        second = world.converge(wanted)
        assert not codes(second, "error"), (limit, second.findings)
        third = world.plan(wanted)
        assert (third.steps, third.findings) == ((), ()), (limit, [s.id for s in third.steps])


@pytest.mark.parametrize("variables", TEMPLATES.values(), ids=TEMPLATES)
def test_absent_removes_everything_even_when_killed(variables: dict[str, Any]) -> None:
    for limit in range(20):
        world, _ignored = world_with(**variables)
        gone = desired({"web1": instance(**{**variables, "state": "absent"})})
        plan = world.plan(gone)
        assert all(step.kind == "destroy" for step in plan.steps)
        world.apply(plan, gone, limit)
        world.converge(gone)
        for doc in world.nodes.values():
            left = [doc[part] for part in ("volumes", "resources", "domains", "definitions", "seeds")]
            assert left == [[], {}, {}, {}, {}], limit
            assert doc["volume_groups"]["twofold"]["free"] == doc["volume_groups"]["twofold"]["size"]
        assert not world.plan(gone).steps
        if limit > len(plan.steps):
            break


def half_of_a_pair(**resource: Any) -> tuple[Desired, World]:
    """A pair of which node2 was emptied, with the resource on node1 as given."""
    wanted = desired({"web1": instance(nodes=["node1", "node2"])})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    world.nodes["node2"] = world.empty_node("node2")
    world.nodes["node1"]["resources"]["web1"] |= {**resource, "volumes": []}
    return wanted, world


def test_a_resource_that_was_left_half_made_is_no_reason_to_miss_the_other_copy() -> None:
    """Killed between the kernel's resource and its disks, while the other node had nothing yet."""
    wanted, world = half_of_a_pair(role="Secondary", peer_role="Unknown", connection="StandAlone")
    world.nodes["node1"]["domains"] = {}
    plan = world.plan(wanted)
    assert [(step.op, step.node) for step in plan.steps] == [("replication.configure", "node1")]
    assert "was in service" in plan.steps[0].why


def test_a_copy_whose_resource_is_down_is_brought_up_before_the_other_one_is_missed() -> None:
    """The guest is defined here and off, and the other node was emptied: the next run makes the other copy anew."""
    wanted, world = half_of_a_pair(role=None, connection=None)
    world.nodes["node1"]["domains"]["web1"]["state"] = "shutoff"
    plan = world.plan(wanted)
    assert [(step.op, step.node) for step in plan.steps] == [("replication.configure", "node1")]


def test_absent_removes_a_volume_that_lost_its_tags() -> None:
    """The definition claims it; once that is gone nobody would know whose it was."""
    wanted = desired({"web1": instance(disk_template="plain", nodes=["node1"])})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    world.nodes["node1"]["volumes"][0]["tags"] = []
    gone = desired({"web1": instance(disk_template="plain", nodes=["node1"], state="absent")})
    world.converge(gone)
    assert not world.nodes["node1"]["volumes"] and not world.plan(gone).steps


def test_absent_is_refused_while_a_node_is_unknown() -> None:
    world, _ignored = world_with(nodes=["node1", "node2"])
    gone = desired({"web1": instance(state="absent")})
    world.down = {"node2"}
    plan = world.plan(gone)
    assert (plan.steps, codes(plan, "error")) == ((), ["node-unknown"])
    world.down = {"node3"}
    assert ops(world.plan(gone), "node2")


def test_what_left_the_inventory_is_reported_and_kept() -> None:
    world, _ignored = world_with()
    plan = world.plan(desired({}))
    assert (plan.steps, codes(plan)) == ((), ["not-in-inventory"])
    assert plan.findings[0].object == "instance web1"


def test_after_the_loss_of_the_secret_a_guest_goes_on_with_its_disks_once_its_domain_is_gone() -> None:
    """The way that docs/operations.md names: nothing else of it is made anew."""
    world, _wanted = world_with(nodes=["node1", "node2"])
    another = desired(
        {"web1": instance(os="debian-13", nodes=["node1", "node2"])},
        cluster={"twofold_cluster_secret": "quite another secret, and long enough"},
    )
    before = [volume["name"] for volume in world.nodes["node1"]["volumes"]]
    refused = world.plan(another)
    assert (refused.steps, codes(refused, "error")) == ((), ["foreign-domain"])
    del world.nodes["node1"]["domains"]["web1"]
    plan = world.converge(another)
    assert not {"volumes.create", "os.install", "replication.initialise"} & set(ops(plan))
    assert world.nodes["node1"]["domains"]["web1"]["state"] == "running"
    assert [volume["name"] for volume in world.nodes["node1"]["volumes"]] == before
    assert not world.plan(another).steps


@pytest.mark.parametrize("tag", ["twofold", "twofold.instance=web1"])
def test_what_is_left_of_an_unknown_instance_is_said_without_some_of_its_tags(tag: str) -> None:
    """Somebody removed the definitions and a tag: its volumes are told by their names and by what else marks them."""
    wanted = desired({"web1": instance()})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    for doc in world.nodes.values():
        doc.update(definitions={}, domains={}, resources={}, seeds={})
        for volume in doc["volumes"]:
            volume["tags"].remove(tag)
        doc["volumes"].append({"volume_group": "twofold", "name": "own-disk0", "size": MIB, "tags": [], "open": False})
    plan = world.plan(desired({}))
    assert [(f.code, f.object) for f in plan.findings] == [("not-in-inventory", "instance web1")]
    assert not plan.steps


def test_nothing_is_created_while_it_may_exist_on_an_unknown_node() -> None:
    wanted = desired({"web1": instance(nodes=["node1", "node2"])})
    world = World(list(wanted.nodes))
    world.down = {"node3"}
    plan = world.plan(wanted)
    assert not plan.steps
    assert "node3" in next(f for f in plan.findings if f.code == "node-unknown" and f.severity == "error").message


def test_an_unknown_node_stops_only_the_instances_that_need_it() -> None:
    both = {"a": instance(nodes=["node1", "node2"]), "b": instance(nodes=["node1", "node3"])}
    wanted = desired(both)
    world = World(list(wanted.nodes))
    world.converge(wanted)
    world.down = {"node3"}
    bigger = desired({name: {**given, "twofold_memory": "512MiB"} for name, given in both.items()})
    plan = world.plan(bigger)
    assert {step.instance for step in plan.steps} == {"a"}
    assert ("node-unknown", "instance b") in [(f.code, f.object) for f in plan.findings]


def test_stop_and_start_again() -> None:
    world, wanted = world_with(os="debian-13", nodes=["node1", "node2"])
    stopped = desired({"web1": instance(os="debian-13", nodes=["node1", "node2"], state="stopped")})
    plan = world.converge(stopped)
    assert [op for op in ops(plan) if not op.startswith("definition")] == ["domain.stop", "replication.demote"]
    assert world.nodes["node1"]["resources"]["web1"]["role"] == "Secondary"
    assert not world.plan(stopped).steps
    plan = world.converge(wanted)
    assert [op for op in ops(plan) if not op.startswith("definition")] == ["replication.promote", "domain.start"]
    assert not world.plan(wanted).steps


def test_more_memory_waits_for_the_next_boot() -> None:
    world, _ignored = world_with(nodes=["node1", "node2"])
    bigger = desired({"web1": instance(nodes=["node1", "node2"], memory="512MiB", vcpus=2)})
    plan = world.converge(bigger)
    define = next(step for step in plan.steps if step.op == "domain.define")
    assert define.kind == "next_boot" and "524288" in define.why and "vcpu" in define.why
    assert plan.waves == 1
    again = world.plan(bigger)
    assert (again.steps, codes(again)) == ((), ["restart-pending"])
    generations = {doc["definitions"]["web1"]["generation"] for doc in world.nodes.values() if doc["definitions"]}
    assert generations == {2}


def test_a_pin_that_changes_later_moves_nothing() -> None:
    world, _ignored = world_with(nodes=["node1", "node2"])
    plan = world.plan(desired({"web1": instance(nodes=["node2", "node1"])}))
    assert (plan.steps, plan.findings) == ((), ())
    plan = world.plan(desired({"web1": instance(nodes=["node1", "node3"])}))
    assert (plan.steps, codes(plan)) == ((), ["placement-differs"])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"disks": [{"size": "64MiB"}]}, "disk-size-differs"),
        ({"disks": [{"size": "128MiB"}, {"size": "128MiB"}]}, "disks-differ"),
        ({"disk_template": "plain"}, "disk-template-differs"),
        ({"os": "script"}, "os-differs"),
    ],
)
def test_what_this_version_does_not_change_is_said(change: dict[str, Any], code: str) -> None:
    world, _ignored = world_with(os="debian-13")
    plan = world.plan(desired({"web1": instance(**{"os": "debian-13", **change})}))
    assert (plan.steps, codes(plan)) == ((), [code])


def test_a_wrong_os_template_can_be_corrected_until_it_was_installed() -> None:
    wanted = desired({"web1": instance(os="debian-13")})
    world = World(list(wanted.nodes))
    plan = world.plan(wanted)
    installs = [step.op for step in sorted(plan.steps, key=lambda s: s.wave)].index("os.install")
    world.apply(plan, wanted, installs)
    other = desired({"web1": instance(os="script")})
    plan = world.converge(other)
    assert next(step for step in plan.steps if step.op == "os.install").args["kind"] == "script"
    assert (world.plan(other).steps, world.plan(other).findings) == ((), ())


def test_an_owed_os_is_not_forgotten() -> None:
    wanted = desired({"web1": instance(os="debian-13")})
    world = World(list(wanted.nodes))
    plan = world.plan(wanted)
    world.apply(plan, wanted, [step.op for step in sorted(plan.steps, key=lambda s: s.wave)].index("os.install"))
    none = desired({"web1": instance()})
    assert "os.install" in ops(world.plan(none))
    without = none.cluster.model_copy(update={"os_templates": {}})
    plan = world.plan(type(none)(without, none.nodes, none.instances))
    assert codes(plan, "error") == ["os-owed"] and "domain.start" not in ops(plan)


def test_a_device_that_was_ours_goes_at_the_next_boot() -> None:
    world, _ignored = world_with(
        os="debian-13", nics=[{"network": "lan"}, {"network": "bare", "mac": "02:00:00:00:00:01"}]
    )
    fewer = desired({"web1": instance(os="debian-13", nics=[{"network": "lan"}])})
    plan = world.converge(fewer)
    define = next(step for step in plan.steps if step.op == "domain.define")
    assert define.kind == "next_boot" and "interface 02:00:00:00:00:01 is not wanted any more" in define.why
    assert not world.plan(fewer).steps


def test_no_node_with_room_names_every_node() -> None:
    wanted = desired({"web1": instance(memory="64GiB"), "web2": instance()})
    plan = World(list(wanted.nodes)).plan(wanted)
    finding = next(f for f in plan.findings if f.code == "no-node-fits")
    for node in ("node1", "node2", "node3"):
        assert f"{node}: memory: needs 65536 MiB and some left over, has 3" in finding.message
    assert {step.instance for step in plan.steps} == {"web2"}


def test_one_plan_does_not_promise_memory_twice() -> None:
    wanted = desired({f"web{i}": instance(disk_template="plain", memory="2GiB") for i in range(4)})
    plan = World(list(wanted.nodes)).plan(wanted)
    starts = [step.node for step in plan.steps if step.op == "domain.start"]
    assert sorted(starts) == ["node1", "node2", "node3"]
    assert codes(plan, "error") == ["no-node-fits"]


def test_no_space_and_no_bridge_are_reasons() -> None:
    wanted = desired({"web1": instance(disks=[{"size": "100GiB"}])})
    world = World(list(wanted.nodes))
    world.nodes["node2"]["bridges"] = []
    world.nodes["node3"]["volume_groups"] = {}
    message = next(f for f in world.plan(wanted).findings if f.code == "no-node-fits").message
    assert "16GiB free in volume group twofold" in message
    assert "no bridge br-lan" in message and "no volume group twofold" in message


def test_minors_are_the_same_on_both_nodes_and_ports_differ() -> None:
    wanted = desired({f"web{i}": instance(disks=[{"size": "64MiB"}] * 2, nics=[]) for i in range(6)})
    world = World(list(wanted.nodes))
    world.nodes["node2"]["resources"]["other"] = {
        "role": None, "connection": None, "configured": True, "volumes": [],
        "config": "resource other { on a { address ipv4 1.2.3.4:7100; volume 0 { device minor 1000; } } }",
    }  # fmt: skip
    world.converge(wanted)
    for doc in world.nodes.values():
        found = list(doc["definitions"].values())
        assert len({d["port"] for d in found}) == len(found)
        minors = [disk["minor"] for d in found for disk in d["disks"]]
        assert all(len(set(minor.values())) == 1 for minor in minors)
        if doc["node"] == "node2":
            assert not {d["port"] for d in found} & {7100}
            assert 1000 not in {minor["node2"] for minor in minors}


def test_addresses_are_the_lowest_free_ones_and_stay() -> None:
    given = {"web1": instance(), "web2": instance(nics=[{"network": "lan", "address": "203.0.113.2"}])}
    wanted = desired(given)
    world = World(list(wanted.nodes))
    world.converge(wanted)
    address = {name: d["nics"][0]["address"] for doc in world.nodes.values() for name, d in doc["definitions"].items()}
    assert address == {"web1": "203.0.113.3", "web2": "203.0.113.2"}
    fewer = desired({"web1": given["web1"]})
    assert not world.plan(fewer).steps


ONE_ADDRESS = {"lan": {"bridge": "br-lan", "cidr": "203.0.113.0/30", "gateway": "203.0.113.1"}}


@pytest.mark.parametrize(
    ("cluster", "code", "said", "remedy"),
    [
        ({"twofold_drbd_ports": "7000-7001"}, "no-free-port", "free on node1 and node2", "twofold_drbd_ports"),
        ({"twofold_drbd_minors": "1000-1001"}, "no-free-minor", "both node1 and node2", "twofold_drbd_minors"),
        ({"twofold_networks": ONE_ADDRESS}, "no-free-address", "no address of lan (203.0.113.0/30)", "wider"),
    ],
)
def test_what_is_used_up_is_named_and_nothing_of_the_instance_is_made(
    cluster: dict[str, Any], code: str, said: str, remedy: str
) -> None:
    without_address: dict[str, Any] = {"nics": []} if code != "no-free-address" else {}
    names = ["web1", "web2", "web3"] if code != "no-free-address" else ["web1", "web2"]
    wanted = desired({name: instance(nodes=["node1", "node2"], **without_address) for name in names}, cluster=cluster)
    world = World(list(wanted.nodes))
    for plan in (world.converge(wanted), world.plan(wanted)):
        (found,) = plan.errors
        assert (found.code, found.object) == (code, f"instance {names[-1]}")
        assert said in found.message and remedy in found.remedy
        assert names[-1] not in {step.instance for step in plan.steps}
    assert set(world.nodes["node1"]["definitions"]) == set(names[:-1])
    # Those that are there keep what they have, and what goes away makes room.
    fewer = {name: instance(nodes=["node1", "node2"], **without_address) for name in names}
    fewer["web1"] |= {"twofold_state": "absent"}
    world.converge(desired(fewer, cluster=cluster))
    assert not world.converge(desired({**fewer}, cluster=cluster)).errors
    assert names[-1] in world.nodes["node1"]["definitions"]


def test_a_node_that_left_the_inventory_too_early_stops_what_lives_there_and_nothing_else() -> None:
    given = {"web1": instance(nodes=["node1", "node3"]), "web2": instance(nodes=["node1", "node2"])}
    wanted = desired(given)
    world = World(list(wanted.nodes))
    world.converge(wanted)
    fewer = desired({name: instance(memory="320MiB") for name in given}, 2)
    documents = {name: document for name, document in world.documents().items() if name != "node3"}
    plan = planner.plan(fewer, documents, {"verb": "converge"})
    (found,) = plan.errors
    assert (found.code, found.object) == ("node-not-in-inventory", "instance web1")
    assert "lives on node3" in found.message and "put the node back" in found.remedy
    assert {step.instance for step in plan.steps} == {"web2"}
    assert ("node-not-in-inventory", "instance web1") in {(f.code, f.object) for f in report.verify(fewer, documents)}


def test_what_a_node_could_not_read_is_passed_on_with_its_remedy() -> None:
    wanted = desired({"web1": instance(nodes=["node1", "node2"])})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    problem: dict[str, str | None] = {
        "object": "left_off",
        "message": "power_back.json is damaged",
        "remedy": "remove it",
    }
    world.nodes["node1"].update(left_off=None, problems=[problem])
    plan = world.plan(wanted)
    (found,) = plan.findings
    assert (found.code, found.severity, found.object) == ("node-problem", "warning", "node node1")
    assert (found.message, found.remedy) == ("left_off: power_back.json is damaged", "remove it")
    assert report.verify(wanted, world.documents()) == [found] and not plan.steps
    problem["remedy"] = None
    assert "node1" in world.plan(wanted).findings[0].remedy


def test_a_stopped_instance_starts_only_where_memory_is_left() -> None:
    stopped = instance(state="stopped", memory="3GiB", disk_template="plain", nodes=["node1"])
    other = instance(memory="3GiB", disk_template="plain", nodes=["node1"])
    wanted = desired({"a": stopped, "b": other})
    world = World(list(wanted.nodes))
    world.converge(wanted)
    plan = world.plan(desired({"a": {**stopped, "twofold_state": "running"}, "b": other}))
    assert codes(plan, "error") == ["no-memory"] and "domain.start" not in ops(plan)


def test_the_plan_does_not_depend_on_the_order_of_anything() -> None:
    given = {f"web{i}": instance() for i in range(4)}
    one = World(["node1", "node2", "node3"]).plan(desired(given))
    other = World(["node3", "node1", "node2"]).plan(desired(dict(reversed(given.items()))))
    assert one.to_json() == other.to_json()


def test_an_intent_that_does_not_exist_is_answered_with_those_that_do() -> None:
    world, wanted = world_with()
    plan = world.plan(wanted, verb="convrege")
    (found,) = plan.errors
    assert (plan.steps, found.code, found.object) == ((), "unknown-intent", "cluster")
    assert "'convrege'" in found.message and "converge" in found.remedy


def test_instances_of_the_intent_alone() -> None:
    wanted = desired({"web1": instance(), "web2": instance()})
    world = World(list(wanted.nodes))
    plan = world.plan(wanted, instances=["web2", "web9"])
    assert {step.instance for step in plan.steps} == {"web2"}
    assert codes(plan) == ["unknown-instance"]


def test_images_are_fetched_once_a_node() -> None:
    wanted = desired({f"web{i}": instance(os="debian-13", nodes=["node1", "node2"]) for i in range(3)})
    plan = World(list(wanted.nodes)).plan(wanted)
    fetches = [step for step in plan.steps if step.op == "image.fetch"]
    assert len(fetches) == 1
    installs = [step for step in plan.steps if step.op == "os.install"]
    assert len(installs) == 3 and all(fetches[0].id in step.needs for step in installs)


def test_an_os_script_is_told_the_host_name() -> None:
    wanted = desired({"web1": instance(os="script", hostname="www.example.org"), "web2": instance(os="script")})
    plan = World(list(wanted.nodes)).plan(wanted)
    told = {step.instance: step.args["environment"] for step in plan.steps if step.op == "os.install"}
    assert told == {
        "web1": {"TWOFOLD_RELEASE": "trixie", "TWOFOLD_HOSTNAME": "www.example.org"},
        "web2": {"TWOFOLD_RELEASE": "trixie", "TWOFOLD_HOSTNAME": "web2"},
    }


def test_no_secret_stands_in_a_plan() -> None:
    data = {"password": "hunter2", "chpasswd": {"expire": False}}
    wanted = desired({"web1": instance(os="debian-13", user_data=data)})
    world = World(list(wanted.nodes))
    text = str(world.plan(wanted).to_json())
    from twofold import secrets

    assert "hunter2" not in text and secrets.drbd_secret(wanted.cluster.secret, "web1") not in text
    assert wanted.cluster.secret not in text
    world.converge(wanted)
    assert world.nodes["node1"]["memory"]["total"] > MIB


def test_what_a_half_written_definition_reserves_is_reserved_on_both_nodes() -> None:
    """A run that was killed wrote it on one node; another instance, made first, must not take its minor or port."""
    given = {"web1": instance(nodes=["node1", "node2"]), "web2": instance(nodes=["node1", "node3"])}
    world = World(["node1", "node2", "node3"])
    world.converge(desired({"web1": given["web1"]}))
    for part in ("definitions", "resources", "domains", "volumes"):
        world.nodes["node1"][part].clear()
    world.nodes["node1"]["volume_groups"]["twofold"]["free"] = world.nodes["node1"]["volume_groups"]["twofold"]["size"]
    documents = [s.args["document"] for s in world.plan(desired(given)).steps if s.op == "definition.write"]
    (web2,) = {d["name"]: d for d in documents if d["name"] == "web2"}.values()
    web1 = world.nodes["node2"]["definitions"]["web1"]
    assert web2["port"] != web1["port"]
    assert web2["disks"][0]["minor"]["node1"] != web1["disks"][0]["minor"]["node1"]


def made_at_once(first: dict[str, Any], second: dict[str, Any]) -> tuple[World, Desired]:
    """What two operators made from plans that did not know of each other; who came second could not write all of it."""
    world = World([f"node{number}" for number in range(1, 5)])
    plan = world.plan(desired({"web2": second}, 4))
    world.converge(desired({"web1": first}, 4))
    mine = [step for step in plan.steps if step.node not in first["twofold_nodes"] and step.op != "definition.absent"]
    world.apply(replace(plan, steps=tuple(step for step in mine if step.wave == 0)), desired({"web2": second}, 4))
    return world, desired({"web1": first, "web2": second}, 4)


def test_who_comes_second_to_a_node_gets_other_numbers_as_long_as_it_has_no_data() -> None:
    first, second = instance(nodes=["node1", "node2"]), instance(nodes=["node2", "node3"])
    world, wanted = made_at_once(first, second)
    kept, early = world.nodes["node1"]["definitions"]["web1"], world.nodes["node3"]["definitions"]["web2"]
    assert (early["port"], early["disks"][0]["minor"]["node3"]) == (kept["port"], kept["disks"][0]["minor"]["node1"])
    # Of an address it is only said that both have it.
    assert set(codes(world.converge(wanted), "error")) == {"duplicate-address"}
    assert not world.plan(wanted).steps
    late = world.nodes["node2"]["definitions"]["web2"]
    assert late["port"] != kept["port"] and late["disks"][0]["minor"] != early["disks"][0]["minor"]
    assert world.nodes["node1"]["definitions"]["web1"] == kept


def test_a_disk_with_data_keeps_its_minor_and_moves_to_where_it_is_free() -> None:
    """Its secondary was replaced by new hardware, and an instance was made there, while its primary was away."""
    web1, web2 = instance(nodes=["node1", "node2"]), instance(nodes=["node2", "node3"])
    world = World([f"node{number}" for number in range(1, 5)])
    world.converge(desired({"web1": web1}, 4))
    world.destroy("node2")
    world.down.add("node1")
    world.converge(desired({"web2": web2}, 4, node1={"twofold_node_state": "offline"}))
    world.down.clear()
    web2 |= {"twofold_nics": [{"network": "lan", "address": "203.0.113.9"}]}
    wanted = desired({"web1": web1, "web2": web2}, 4)
    (found,) = [finding for finding in world.plan(wanted).errors if finding.object == "instance web1"]
    assert found.code == "minor-taken" and "on node2" in found.message and "replace_disks.yml" in found.remedy
    world.apply(world.plan(wanted, verb="replace_disks", instance="web1"), wanted)
    assert not codes(world.converge(wanted), "error")
    assert world.data_copies("web1") == ["node1", "node4"]


def test_steps_carry_the_generation_that_they_were_planned_on() -> None:
    wanted = desired({"web1": instance(nodes=["node1", "node2"], os="debian-13")})
    world = World(list(wanted.nodes))
    plan = world.plan(wanted)
    assert {step.generation for step in plan.steps if step.instance} == {0}
    assert {step.generation for step in plan.steps if not step.instance} == {None}
    world.apply(plan, wanted)
    changed = desired({"web1": instance(nodes=["node1", "node2"], os="debian-13", memory="2GiB")})
    again = world.plan(changed)
    held = {node: world.nodes[node]["definitions"]["web1"]["generation"] for node in ("node1", "node2")}
    assert again.steps and all(step.generation == held[step.node] for step in again.steps)
    assert Plan.from_json(again.to_json()) == again


@pytest.mark.parametrize(
    ("state", "remedy"),
    [
        ("paused", "virsh resume web1"),
        ("crashed", "virsh destroy web1"),
        ("pmsuspended", "virsh dompmwakeup web1"),
    ],
)
def test_a_guest_that_hangs_is_an_error_with_what_brings_it_back(state: str, remedy: str) -> None:
    given = {"web1": instance(nodes=["node1", "node2"])}
    wanted = desired(given)
    world = World(list(wanted.nodes))
    world.converge(wanted)
    world.nodes["node1"]["domains"]["web1"]["state"] = state
    plan = world.plan(wanted)
    (found,) = plan.errors
    assert (found.code, found.object, plan.steps) == ("guest-state", "instance web1", ())
    assert remedy in found.remedy and "virsh domstate --reason web1" in found.remedy and "node1" in found.remedy
    stopped = world.plan(desired({"web1": {**given["web1"], "twofold_state": "stopped"}}))
    assert "domain.stop" in [step.op for step in stopped.steps] and not stopped.errors


def test_guests_that_start_with_more_memory_than_before_do_not_share_what_there_is_once() -> None:
    def wanted(memory: str) -> Desired:
        given = {"disk_template": "plain", "nodes": ["node1"], "memory": memory}
        return desired({name: instance(**given) for name in ("web1", "web2")})

    world = World(list(wanted("256MiB").nodes))
    world.converge(wanted("256MiB"))
    for domain in world.nodes["node1"]["domains"].values():
        domain["state"] = "shutoff"
    plan = world.plan(wanted("2500MiB"))
    assert codes(plan, "error") == ["no-memory"]
    assert ops(plan).count("domain.start") == 1
