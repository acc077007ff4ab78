# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What happened behind our back, or was left by an interruption: found, named, and put right where that is safe."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import World

from twofold import findings, report

PAIR = {"nodes": ["node1", "node2"], "os": "debian-13"}
WANTED = desired({"web1": instance(**PAIR)})
Hurt = Callable[[World], None]


def healthy() -> World:
    """web1 runs on node1, its second copy is on node2."""
    world = World(list(WANTED.nodes))
    world.converge(WANTED)
    world.documents()
    return world


def drbd(world: World, node: str) -> dict[str, Any]:
    """The resource on a node."""
    found: dict[str, Any] = world.nodes[node]["resources"]["web1"]
    return found


def domain(world: World, node: str = "node1") -> dict[str, Any]:
    """The domain on a node."""
    found: dict[str, Any] = world.nodes[node]["domains"]["web1"]
    return found


def edit_xml(old: str, new: str) -> Hurt:
    def hurt(world: World) -> None:
        assert old in domain(world)["xml"]
        domain(world)["xml"] = domain(world)["xml"].replace(old, new)

    return hurt


def lose_rng(world: World) -> None:
    xml, count = re.subn("<rng.*</rng>", "", domain(world)["xml"], flags=re.DOTALL)
    assert count == 1
    domain(world)["xml"] = xml


def set_domain(**values: Any) -> Hurt:
    return lambda world: domain(world).update(values)


def set_drbd(node: str, **values: Any) -> Hurt:
    return lambda world: drbd(world, node).update(values)


def edit_config(world: World) -> None:
    drbd(world, "node2")["config"] = drbd(world, "node2")["config"].replace("protocol C", "protocol A")


def lose_tag(world: World) -> None:
    world.nodes["node2"]["volumes"][0]["tags"].remove("twofold.role=data")


def lose_all_tags(world: World) -> None:
    world.nodes["node1"]["volumes"][1]["tags"].clear()


def lose_definition(world: World) -> None:
    del world.nodes["node1"]["definitions"]["web1"]


def old_definition(world: World) -> None:
    document = world.nodes["node2"]["definitions"]["web1"]
    world.nodes["node2"]["definitions"]["web1"] = {**document, "memory": 1, "generation": 0}


def other_definition(world: World) -> None:
    document = world.nodes["node2"]["definitions"]["web1"]
    world.nodes["node2"]["definitions"]["web1"] = {**document, "memory": 1}


def lose_seed(world: World) -> None:
    world.nodes["node2"]["seeds"].clear()


def lose_domain(world: World) -> None:
    world.nodes["node1"]["domains"].clear()


def defined_twice(world: World) -> None:
    world.nodes["node2"]["domains"]["web1"] = {**copy.deepcopy(domain(world)), "state": "shutoff"}


def defined_twice_and_off(world: World) -> None:
    defined_twice(world)
    domain(world)["state"] = "shutoff"


def two_primaries(world: World) -> None:
    for node in ("node1", "node2"):
        drbd(world, node).update(role="Primary", allow_two_primaries=True)


def down_on_both(world: World) -> None:
    domain(world)["state"] = "shutoff"
    for node in ("node1", "node2"):
        drbd(world, node).update(role=None, volumes=[], options={})


REPAIRED: dict[str, tuple[Hurt, str, str]] = {
    "domain: cache mode": (edit_xml('cache="none"', 'cache="writeback"'), "domain.define", "driver@cache"),
    "domain: memory": (edit_xml(">262144<", ">131072<"), "domain.define", "memory should be '262144'"),
    "domain: bridge": (edit_xml("br-lan", "br-evil"), "domain.define", "source@bridge"),
    "domain: disk source": (edit_xml("/dev/drbd1000", "/dev/sda"), "domain.define", "source@dev"),
    "domain: no random numbers": (lose_rng, "domain.define", "rng is missing"),
    "domain: autostart": (set_domain(autostart=True), "domain.define", "at boot"),
    "domain: transient": (set_domain(persistent=False), "domain.define", "forgotten"),
    "guest stopped": (set_domain(state="shutoff"), "domain.start", "should run"),
    "domain undefined": (lose_domain, "domain.define", "missing"),
    "domain on both": (defined_twice, "domain.undefine", "runs on node1"),
    "domain on both, off": (defined_twice_and_off, "domain.undefine", "belongs to node1"),
    "DRBD option": (set_drbd("node1", options={"ping-int": "10"}), "replication.configure", "ping-int should be 3"),
    "DRBD file": (edit_config, "replication.configure", "protocol C"),
    "DRBD file gone": (set_drbd("node2", configured=False, config=None), "replication.configure", "missing"),
    "DRBD secret": (set_drbd("node2", secret_digest="0" * 64), "replication.configure", "secret"),
    "DRBD peer": (set_drbd("node1", peer_address="ipv4 198.51.100.13:7100"), "replication.configure", "still connects"),
    "DRBD down": (set_drbd("node2", role=None, volumes=[], options={}), "replication.configure", "down"),
    "DRBD down on both": (down_on_both, "replication.promote", "used here"),
    "two primaries allowed": (set_drbd("node1", allow_two_primaries=True), "replication.settle", "are allowed"),
    "two primaries": (two_primaries, "replication.settle", "node2"),
    "LV tag": (lose_tag, "volumes.tag", "web1-disk0"),
    "LV tags": (lose_all_tags, "volumes.tag", "web1-disk0-meta"),
    "definition gone": (lose_definition, "definition.write", "missing"),
    "definition old": (old_definition, "definition.write", "memory"),
    "definition edited": (other_definition, "definition.write", "memory"),
    "seed gone": (lose_seed, "seed.write", "missing"),
}


@pytest.mark.parametrize(("hurt", "op", "why"), REPAIRED.values(), ids=REPAIRED)
def test_it_is_found_named_and_put_right(hurt: Hurt, op: str, why: str) -> None:
    world = healthy()
    before = world.documents()
    hurt(world)
    wrong = [f for f in report.verify(WANTED, world.documents()) if f.severity != "info"]
    assert any(why in finding.message for finding in wrong), wrong
    plan = world.plan(WANTED)
    assert any(step.op == op and why in step.why for step in plan.steps), [(s.op, s.why) for s in plan.steps]
    assert not plan.errors
    world.apply(plan, WANTED)
    again = world.plan(WANTED)
    assert (again.steps, again.errors) == ((), [])
    after = world.documents()
    assert [d["domains"].keys() for d in after.values() if d] == [d["domains"].keys() for d in before.values() if d]


def lose_volume(world: World) -> None:
    world.nodes["node2"]["volumes"] = [v for v in world.nodes["node2"]["volumes"] if v["name"] != "web1-disk0"]


def lose_volumes_of_a_stopped_guest(world: World) -> None:
    down_on_both(world)
    world.nodes["node1"]["volumes"] = []


def run_twice(world: World) -> None:
    world.nodes["node2"]["domains"]["web1"] = copy.deepcopy(domain(world))


def split(world: World) -> None:
    drbd(world, "node1").update(connection="StandAlone")
    drbd(world, "node1")["volumes"][0]["uuids"] = "AAAAAAAAAAAAAAA1:1111111111111110:0:0"
    drbd(world, "node2")["volumes"][0]["uuids"] = "BBBBBBBBBBBBBBB0:1111111111111110:0:0"


def stand_alone(world: World) -> None:
    drbd(world, "node1").update(connection="StandAlone")


def foreign_domain(world: World) -> None:
    domain(world)["uuid"] = "00000000-0000-0000-0000-000000000000"


def other_cluster(world: World) -> None:
    for node in ("node1", "node2"):
        world.nodes[node]["definitions"]["web1"]["cluster"] = "elsewhere"


def elsewhere(world: World) -> None:
    world.nodes["node3"]["domains"]["web1"] = {**copy.deepcopy(domain(world)), "state": "shutoff"}


def migrating(world: World) -> None:
    domain(world)["migrating"] = True


def inconsistent_and_off(world: World) -> None:
    domain(world)["state"] = "shutoff"
    drbd(world, "node1")["volumes"][0].update(disk="Inconsistent", done=12.5)


REFUSED: dict[str, tuple[Hurt, str]] = {
    "a volume is gone": (lose_volume, "volume-missing"),
    "the volumes of a stopped guest are gone": (lose_volumes_of_a_stopped_guest, "volume-missing"),
    "it runs twice": (run_twice, "runs-twice"),
    "split brain": (split, "split-brain"),
    "StandAlone for an unknown reason": (stand_alone, "stand-alone"),
    "somebody else's domain": (foreign_domain, "foreign-domain"),
    "another cluster's instance": (other_cluster, "foreign-definition"),
    "its domain on a third node": (elsewhere, "domain-elsewhere"),
    "a migration is going on": (migrating, "migrating"),
}


@pytest.mark.parametrize(("hurt", "code"), REFUSED.values(), ids=REFUSED)
def test_it_is_reported_and_not_touched(hurt: Hurt, code: str) -> None:
    world = healthy()
    hurt(world)
    plan = world.plan(WANTED)
    assert (plan.steps, [f.code for f in plan.errors]) == ((), [code])
    finding = plan.errors[0]
    assert finding.object == "instance web1" and finding.message and finding.remedy


def test_a_boot_that_got_half_way_is_no_split_brain() -> None:
    """What a node leaves whose volumes were late: the resource is there, without its disk and its peer."""
    world = healthy()
    domain(world)["state"] = "shutoff"
    drbd(world, "node1").update(connection="StandAlone", role="Secondary", peer_role="Unknown")
    drbd(world, "node1")["volumes"][0].update(disk="Diskless", peer_disk="DUnknown")
    plan = world.plan(WANTED)
    assert not plan.errors
    assert (plan.steps[0].op, plan.steps[0].node) == ("replication.configure", "node1")
    assert "domain.start" in [step.op for step in plan.steps]


def test_copies_with_a_common_history_are_connected_again() -> None:
    world = healthy()
    split(world)
    drbd(world, "node2")["volumes"][0]["uuids"] = "1111111111111110:0:0:0"
    plan = world.plan(WANTED)
    assert [(s.op, s.node) for s in plan.steps] == [("replication.configure", "node1")]
    assert not plan.errors


def test_a_guest_does_not_start_on_a_disk_that_is_not_up_to_date() -> None:
    world = healthy()
    inconsistent_and_off(world)
    plan = world.plan(WANTED)
    assert "domain.start" not in [step.op for step in plan.steps]
    finding = next(f for f in plan.errors if f.code == "disk-not-up-to-date")
    assert "12.5% done" in finding.message


def test_a_resync_is_a_warning_while_the_guest_runs() -> None:
    world = healthy()
    drbd(world, "node2")["volumes"][0].update(disk="Inconsistent", done=40.0)
    plan = world.plan(WANTED)
    assert (plan.steps, [(f.code, f.severity) for f in plan.findings]) == ((), [("disk-not-up-to-date", "warning")])


def test_a_link_that_is_cut_is_a_warning_while_the_guest_runs() -> None:
    documents = healthy().documents()
    for document in documents.values():
        for resource in (document or {})["resources"].values():
            resource["connection"] = "Connecting"
    from twofold import planner

    plan = planner.plan(WANTED, documents, {"verb": "converge"})
    assert (plan.steps, [(f.code, f.severity) for f in plan.findings]) == ((), [("not-connected", "warning")])


def test_a_device_that_somebody_added_is_reported() -> None:
    world = healthy()
    extra = '<disk type="file" device="disk"><target dev="vdq" bus="virtio" /></disk></devices>'
    edit_xml("</devices>", extra)(world)
    plan = world.plan(WANTED)
    assert (plan.steps, [f.code for f in plan.findings]) == ((), ["extra-device"])
    assert "disk vdq" in plan.findings[0].message


def test_leftover_journal_entries_are_reported_and_cleared() -> None:
    world = healthy()
    entry = {"key": "run.web1", "holder": "a@b", "step": {"id": "web1/volumes.create@node1"}, "running": False}
    world.nodes["node1"]["journal"] = [entry, {**entry, "key": "other", "running": True}]
    plan = world.plan(WANTED)
    assert {f.code for f in plan.findings} == {"interrupted-step", "step-running"}
    world.apply(plan, WANTED)
    assert [e["key"] for e in world.nodes["node1"]["journal"]] == ["other"]
    assert not world.plan(WANTED).steps


def test_a_guest_that_its_node_left_off_is_reported_until_it_runs() -> None:
    world = healthy()
    left = {"reason": "its disks have no connection to node2", "remedy": "bring node2 back"}
    world.nodes["node1"]["left_off"] = {"web1": left, "gone": left}
    assert not world.plan(WANTED).findings, "it runs, so the note is of yesterday"
    world.nodes["node1"]["domains"]["web1"]["state"] = "shutoff"
    found = [finding for finding in world.plan(WANTED).findings if finding.code == "left-off"]
    assert [(f.severity, f.object, f.remedy) for f in found] == [("warning", "instance web1", "bring node2 back")]
    assert found[0].message == "node1 did not start it: its disks have no connection to node2"


def test_a_guest_that_is_to_be_off_is_not_reported_as_left_off() -> None:
    """Its node looks at its notes once a minute, and not while a run is at work."""
    world, stopped = healthy(), desired({"web1": instance(**PAIR, state="stopped")})
    world.nodes["node1"]["domains"]["web1"]["state"] = "shutoff"
    world.nodes["node1"]["left_off"] = {"web1": {"reason": "DRBD is down on this node", "remedy": "run site.yml"}}
    plan = world.plan(stopped)
    assert not [finding for finding in plan.findings if finding.code == "left-off"]
    world.apply(plan, stopped)
    assert not world.plan(stopped).findings


def test_a_node_that_cannot_tell_is_unknown() -> None:
    world = healthy()
    world.nodes["node2"]["domains"] = None
    plan = world.plan(desired({"web1": instance(**PAIR, memory="512MiB")}))
    assert not plan.steps
    assert {f.code for f in plan.errors} == {"node-incomplete", "node-unknown"}


def test_orphans_block_a_creation() -> None:
    world = healthy()
    for node in ("node1", "node2"):
        world.nodes[node]["definitions"].clear()
        world.nodes[node]["domains"].clear()
    plan = world.plan(WANTED)
    assert (plan.steps, [f.code for f in plan.errors]) == ((), ["orphan"])


def test_verify_counts_errors_and_calm() -> None:
    world = healthy()
    assert findings.exit_status(report.verify(WANTED, world.documents())) == 0
    run_twice(world)
    assert findings.exit_status(report.verify(WANTED, world.documents())) == 2


def interrupted(*, os: str | None) -> tuple[World, Any]:
    """web1 was being made on node1 and node2; nothing is installed or defined yet, DRBD is down."""
    wanted = desired({"web1": instance(nodes=["node1", "node2"], os=os)})
    world = World(list(wanted.nodes))
    plan = world.plan(wanted)
    made = [step.op for step in sorted(plan.steps, key=lambda step: step.wave)].index("replication.promote")
    world.apply(plan, wanted, limit=made + 1)
    for node in ("node1", "node2"):
        drbd(world, node).update(role=None, volumes=[], options={})
    return world, wanted


def test_a_disk_that_waits_for_its_os_gets_it_where_it_waits() -> None:
    world, wanted = interrupted(os="debian-13")
    # The other node is up again first, so its copy looks like the better one.
    volume = {"volume": 0, "minor": 1000, "disk": "UpToDate", "peer_disk": "DUnknown", "backing": None}
    drbd(world, "node2").update(role="Secondary", volumes=[volume])
    plan = world.plan(wanted)
    assert [step.node for step in plan.steps if step.op in ("os.install", "domain.start")] == ["node1", "node1"]


def test_a_creation_that_lost_power_before_its_second_copy_was_made_goes_on() -> None:
    world, wanted = interrupted(os=None)
    world.nodes["node2"]["volumes"] = []
    world.nodes["node2"]["resources"] = {}
    for volume in world.nodes["node1"]["volumes"]:
        volume["uptodate"] = False
    first = world.plan(wanted)
    assert [step.op for step in first.steps] == ["replication.configure"] and first.errors[0].code == "volume-missing"
    world.apply(first, wanted)
    world.converge(wanted)
    after = world.plan(wanted)
    assert (after.steps, after.errors) == ((), []) and world.nodes["node1"]["domains"]["web1"]["state"] == "running"


def test_a_creation_that_can_not_go_on_for_want_of_space_says_so_before_it_does_anything() -> None:
    world, wanted = interrupted(os="debian-13")
    for volume in world.nodes["node2"]["volumes"]:
        world.nodes["node2"]["volume_groups"]["twofold"]["free"] = volume["size"] // 2
    world.nodes["node2"].update(volumes=[], resources={})
    plan = world.plan(wanted)
    assert (plan.steps, [f.code for f in plan.errors]) == ((), ["no-room"])
