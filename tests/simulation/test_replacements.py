# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Written histories: a node's disks are being replaced by fresh ones when its peer, with the only copy, is lost."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _definitions
from tests.simulation import inventories
from tests.simulation.faults import Fault
from tests.simulation.history import make_peace, run_of
from tests.simulation.inventories import Instances
from tests.simulation.machine import Machine
from tests.simulation.operator import Run
from tests.simulation.world import World

# A lock of a run that was killed has lapsed by then.
LAPSED = 200


def at_peace() -> tuple[World, Instances]:
    """A guest with two disks runs on node1, with its second copy on node2."""
    wanted = {"a": {**inventories.instance(Random(5), 2, ("drbd",)), "twofold_nodes": ["node1", "node2"]}}
    wanted["a"] |= {"twofold_state": "running", "twofold_memory": "256MiB", "twofold_os": None}
    wanted["a"]["twofold_disks"] = [{"size": "64MiB"}, {"size": "64MiB"}]
    world = World(7, 3)
    run_of(world, wanted, {"verb": "converge"})
    world.engine.wait(60)
    return world, wanted


def in_the_window(on: str) -> tuple[World, Instances, Machine, Machine]:
    """The fresh disks of a node are being filled when its peer loses its power."""
    world, wanted = at_peace()
    node, peer = (world.machines[name] for name in (("node1", "node2") if on == "primary" else ("node2", "node1")))
    interrupt(world, wanted, {"on": on}, node, peer.power_off)
    return world, wanted, node, peer


def interrupt(
    world: World, wanted: Instances, how: dict[str, object], node: Machine, strike: Callable[[], object]
) -> None:
    """Disks are replaced; something happens while those of a node are being filled, and the run fails."""
    intent = {"verb": "replace_disks", "instance": "a", **how}
    task = Run(world, inventories.desired(wanted, 3), intent, "replacing@here").start()
    world.engine.advance(lambda: is_filled(node))
    strike()
    world.engine.advance(lambda: task.over)
    world.engine.wait(LAPSED)


def is_filled(node: Machine) -> bool:
    """Whether its disks are just being filled."""
    resource = node.kernel.resources.get("a")
    devices = list(resource.devices.values()) if resource is not None else []
    return bool(devices) and all(device.syncing == "target" for device in devices)


def fails(node: Machine) -> None:
    """Its disks answer with errors from now on."""
    for lv in node.storage.volumes.values():
        lv.failing = lv.failing or lv.tagged("instance") == "a"


def serves(node: Machine) -> bool:
    """Whether the guest runs there and can write."""
    guest, resource = node.libvirt.domains.get("a"), node.kernel.resources.get("a")
    if guest is None or guest.state != "running" or resource is None or not resource.primary:
        return False
    return all(device.disk == "UpToDate" for device in resource.devices.values())


@pytest.mark.parametrize("on", ["primary", "secondary"])
def test_the_copy_that_was_set_aside_goes_on_when_the_operator_says_so(on: str) -> None:
    world, wanted, node, peer = in_the_window(on)
    plan = run_of(world, wanted, {"verb": "recover"}).plan
    assert plan is not None and not plan.steps and "accept_stale=a" in str(plan.errors[0].remedy)
    run_of(world, wanted, {"verb": "recover", "accept_stale": "a"})
    assert serves(node)
    assert not any("-old" in path for path in node.storage.volumes)
    again = run_of(world, wanted, {"verb": "recover", "accept_stale": "a"}).plan
    assert again is not None and not again.steps
    world.engine.wait(60)
    # The peer comes back with what was written inside the window: a split brain, which one command ends.
    peer.power_on()
    make_peace(world, wanted)
    resources = [machine.kernel.resources["a"] for machine in (node, peer)]
    assert all(one.connected and device.disk == "UpToDate" for one in resources for device in one.devices.values())


@pytest.mark.parametrize("on", ["primary", "secondary"])
@pytest.mark.parametrize("kind", ["process killed", "power"])
@pytest.mark.parametrize("back", [False, True], ids=["the peer stays away", "the peer comes back"])
def test_it_is_gone_on_with_wherever_it_was_interrupted(on: str, kind: str, back: bool) -> None:
    intent = {"verb": "recover", "accept_stale": "a"}
    step = 2 if kind == "process killed" and not back else 7
    for breath in range(1 + (on == "primary"), 200, step):
        world, wanted, node, _peer = in_the_window(on)
        first = run_of(world, wanted, intent, (Fault(breath, kind, 1),))
        if not first.struck:
            return
        world.engine.wait(LAPSED)
        node.power_on()
        world.engine.wait(60)
        if not back:
            again = run_of(world, wanted, intent)
            if not serves(node):
                # DRBD was taken away and nothing else was done: it was asked first whether the fresh copy is whole.
                refused = [one for one in again.results.values() if one["status"] == "failed"]
                assert ["run this again" in one["remedy"] for one in refused] == [True], f"{kind} at breath {breath}"
                run_of(world, wanted, intent)
            assert serves(node), f"{kind} at breath {breath}"
        make_peace(world, wanted)


def test_a_former_copy_that_was_to_go_on_and_did_not_leaves_the_last_one_to_the_operators_word() -> None:
    """The new copy was taken away for it; then its node died, too, and the primary came back."""
    world, wanted = at_peace()
    primary, former, new = (world.machines[name] for name in ("node1", "node2", "node3"))
    intent = {"verb": "replace_disks", "instance": "a", "new_secondary": "node3"}
    task = Run(world, inventories.desired(wanted, 3), intent, "replacing@here").start()
    world.engine.advance(lambda: _definitions.read_all(primary.files)["a"]["nodes"] == ["node1", "node3"])
    primary.power_off()
    world.engine.advance(lambda: task.over)
    world.engine.wait(LAPSED)
    intent = {"verb": "failover", "instance": "a", "accept_stale": "a"}
    task = Run(world, inventories.desired(wanted, 3), intent, "rescuing@here").start()
    world.engine.advance(lambda: not any(lv.tagged("instance") == "a" for lv in new.storage.volumes.values()))
    former.power_off()
    world.engine.advance(lambda: task.over)
    world.engine.wait(LAPSED)
    for machine in (primary, former):
        machine.power_on()
    make_peace(world, wanted)
    assert serves(primary)


@pytest.mark.parametrize(
    ("how", "by_hand"),
    [({"on": "secondary"}, False), ({"new_secondary": "node3"}, False), ({"new_secondary": "node3"}, True)],
    ids=["fresh disks", "another node", "another node, disconnected by hand before"],
)
def test_a_primary_whose_disk_failed_in_a_replacement_gets_it_back(how: dict[str, object], by_hand: bool) -> None:
    world, wanted = at_peace()
    primary, secondary = world.machines["node1"], world.machines["node2"]
    if by_hand:
        secondary.kernel.disconnect(secondary.kernel.resources["a"])
        world.engine.wait(20)

    interrupt(world, wanted, how, world.machines[str(how.get("new_secondary", "node2"))], lambda: fails(primary))
    assert all(device.disk == "Diskless" for device in primary.kernel.resources["a"].devices.values())
    make_peace(world, wanted)
    assert serves(primary)


@pytest.mark.parametrize("apart", [0.5, 30.0], ids=["for a moment", "until it is missed"])
def test_a_primary_whose_disk_failed_while_its_peer_was_out_of_reach_gets_it_back_filled(apart: float) -> None:
    """The peer, which has what was written since, did not hear of it: only the handshake shows it."""
    world, wanted = at_peace()
    primary = world.machines["node1"]
    world.cut_link("node1", "node2")
    for lv in primary.storage.volumes.values():
        if lv.tagged("instance") == "a":
            primary.kernel.disk_fails(lv)
    world.engine.wait(apart)
    world.mend_links()
    world.engine.wait(60)
    resource = primary.kernel.resources["a"]
    assert resource.connected and all(device.disk == "Diskless" for device in resource.devices.values())
    make_peace(world, wanted)
    assert serves(primary)


def let_go_of_in_vain() -> tuple[World, Instances]:
    """A second copy moves; the primary's disk fails when the new pair was written down, so the old peer is needed."""
    world, wanted = at_peace()
    primary, new = world.machines["node1"], world.machines["node3"]
    intent = {"verb": "replace_disks", "instance": "a", "new_secondary": "node3"}
    task = Run(world, inventories.desired(wanted, 3), intent, "replacing@here").start()
    world.engine.advance(lambda: any(lv.tagged("instance") == "a" for lv in new.storage.volumes.values()))
    fails(primary)
    world.engine.advance(lambda: task.over)
    world.engine.wait(LAPSED)
    old = world.machines["node2"].kernel.resources["a"]
    assert all(device.peer_disk == "Diskless" for device in old.devices.values()), "what is written is there alone"
    return world, wanted


@pytest.mark.parametrize("power", [False, True], ids=["a link breaks", "a link breaks and the primary loses its power"])
@pytest.mark.parametrize("state", ["running", "stopped"])
def test_the_copy_that_was_to_be_replaced_comes_back_when_it_alone_has_the_last_state(power: bool, state: str) -> None:
    """The guest has no disk then, and its node looks for the new peer, which knows nothing."""
    world, wanted = let_go_of_in_vain()
    primary = world.machines["node1"]
    world.cut_link("node1", "node2")
    if power:
        primary.power_off()
        primary.heal()
    world.engine.wait(30)
    run_of(world, wanted, {"verb": "converge"})
    wanted["a"]["twofold_state"] = state
    make_peace(world, wanted)
    assert state == "stopped" or serves(primary)
    assert "a" not in world.machines["node3"].kernel.resources and "a" in world.machines["node2"].kernel.resources


def test_nothing_starts_while_a_silent_node_may_have_the_last_state() -> None:
    """The copy that was to be replaced cannot be asked, and its primary has an older one, which looks good."""
    world, wanted = let_go_of_in_vain()
    primary, old = world.machines["node1"], world.machines["node2"]
    for machine in (primary, old):
        machine.power_off()
    primary.heal()
    world.engine.wait(60)
    refused = run_of(world, wanted, {"verb": "converge"})
    assert refused.plan is not None
    assert ["node2" in one.message for one in refused.plan.errors if one.code == "former-copy-unknown"] == [True]
    assert not serves(primary)
    make_peace(world, wanted)
    assert serves(primary)


@pytest.mark.parametrize("names", [("node1",), ("node2",), ("node1", "node2")])
def test_drbd_that_is_down_tells_first_where_the_last_state_is(names: tuple[str, ...]) -> None:
    world, wanted = let_go_of_in_vain()
    machines = [world.machines[name] for name in ("node1", "node2")]
    for machine in machines:
        machine.power_off()
        machine.brings_up = float(machine.name not in names)
    world.cut_link("node1", "node2")
    for machine in machines:
        machine.heal()
    world.engine.wait(60)
    asked = run_of(world, wanted, {"verb": "converge"})
    assert asked.plan is not None
    assert {step.id for step in asked.plan.steps} >= {f"a/replication.configure@{name}" for name in names}
    make_peace(world, wanted)
    assert serves(machines[0])


@pytest.mark.parametrize("on", ["primary", "secondary"])
def test_the_copy_that_was_set_aside_goes_on_when_the_other_disks_are_lost_for_good(on: str) -> None:
    world, wanted = at_peace()
    node, peer = (world.machines[name] for name in (("node1", "node2") if on == "primary" else ("node2", "node1")))

    def dies() -> None:
        world.rules.hurt.add("a")
        world.rules.disk_lost(peer, "a")
        peer.lose("a")

    interrupt(world, wanted, {"on": on}, node, dies)
    make_peace(world, wanted)
    assert serves(node) or serves(peer)
    resources = [machine.kernel.resources["a"] for machine in (node, peer)]
    assert all(one.connected and device.disk == "UpToDate" for one in resources for device in one.devices.values())
    assert not any("-old" in path for path in node.storage.volumes)


@pytest.mark.parametrize("at_once", [True, False], ids=["a disk is made anew at once", "the other copy knows of it"])
def test_disks_that_are_lost_in_use_while_the_copies_are_apart_are_given_up_with_a_word(at_once: bool) -> None:
    """The guest goes on alone when its node's disks die; the kernel then keeps it apart from the copy that is left."""
    world, wanted = at_peace()
    node, peer = (world.machines[name] for name in ("node1", "node2"))
    world.cut_link("node1", "node2")
    world.engine.wait(30)
    world.rules.hurt.add("a")
    world.rules.disk_lost(node, "a")
    node.lose("a")
    if at_once:
        # Nobody knows yet that the nodes refuse each other.
        run_of(world, wanted, {"verb": "recreate_disks", "instance": "a"})
    world.mend_links()
    world.engine.wait(120)
    asked = run_of(world, wanted, {"verb": "converge"})
    assert asked.plan is not None and not [step for step in asked.plan.steps if step.instance == "a"]
    assert [one.code for one in asked.plan.errors] == ["disk-lost" if at_once else "volume-missing"]
    make_peace(world, wanted)
    assert serves(node) or serves(peer)
