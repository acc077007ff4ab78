# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""DRBD 8.4 in memory, against what the kernel's rules and the lab say."""

from __future__ import annotations

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils._errors import CommandFailed
from tests.simulation.drbd import Resource
from tests.simulation.drbd_meta import JUST_CREATED, SPLIT, UNRELATED, Side, Superblock, compare, verdict
from tests.simulation.inventories import desired
from tests.simulation.operator import Run
from tests.simulation.replication import SimReplication
from tests.simulation.world import World

A, B, C, D = 16, 32, 64, 128


def side(block: Superblock, disk: str = "UpToDate", *, primary: bool = False, crashed: bool = False) -> Side:
    return Side(block, disk, primary, crashed)


# The kernel's rule number: what one side has, what the other has, what follows for the first.
RULES: dict[str, tuple[Superblock, Superblock, int]] = {
    "10 both new": (Superblock(), Superblock(), 0),
    "20 this one is new": (Superblock(), Superblock(A), -2),
    "30 the other is new": (Superblock(A), Superblock(), 2),
    "36 the peer did not hear of the end of the resync": (Superblock(A, B), Superblock(A), 1),
    "40 nothing happened": (Superblock(A), Superblock(A), 0),
    "50 the peer went on alone": (Superblock(A), Superblock(B, A), -1),
    "60 the peer went on twice": (Superblock(A), Superblock(C, 0, (B, A)), -2),
    "70 this one went on alone": (Superblock(B, A), Superblock(A), 1),
    "80 this one went on twice": (Superblock(C, 0, (B, A)), Superblock(A), 2),
    "90 both went on": (Superblock(B, A), Superblock(C, A), SPLIT),
    "100 both went on long ago": (Superblock(C, 0, (A, 0)), Superblock(D, 0, (A, 0)), SPLIT),
    "nothing in common": (Superblock(A), Superblock(B), UNRELATED),
}


@pytest.mark.parametrize(("ours", "theirs", "found"), RULES.values(), ids=RULES)
def test_generations_are_compared_as_in_the_kernel(ours: Superblock, theirs: Superblock, found: int) -> None:
    assert compare(ours, theirs, side(ours), side(theirs)) == found
    opposite = found if found in (SPLIT, UNRELATED) else -found
    assert compare(theirs, ours, side(theirs), side(ours)) == opposite


def test_a_crashed_primary_is_the_source_for_what_only_it_may_have() -> None:
    assert verdict(side(Superblock(A), crashed=True), side(Superblock(A))) == 1
    assert verdict(side(Superblock(A)), side(Superblock(A), crashed=True)) == -1


def test_a_primary_with_good_data_never_becomes_the_target() -> None:
    assert verdict(side(Superblock(A), primary=True), side(Superblock(B, A))) is None


def test_inconsistent_data_is_always_the_target() -> None:
    assert verdict(side(Superblock(A), "Inconsistent"), side(Superblock(A))) == -1
    assert verdict(side(Superblock(A)), side(Superblock(), "Inconsistent")) == 2
    assert verdict(side(Superblock(B, A), "Inconsistent"), side(Superblock(C, A), "Inconsistent")) is None


def test_a_split_brain_is_resolved_only_by_who_gives_up() -> None:
    ours, theirs = side(Superblock(B, A, written=True)), side(Superblock(C, A, written=True))
    assert verdict(ours, theirs) is None
    assert verdict(Side(ours.block, "UpToDate", primary=False, crashed=False, gives_up=True), theirs) == -1


def test_who_wrote_nothing_while_apart_follows_unless_it_is_primary() -> None:
    wrote, idle = Superblock(B, A, written=True), Superblock(C, A)
    assert verdict(side(wrote), side(idle)) == 1 == verdict(side(wrote, primary=True), side(idle))
    assert verdict(side(idle), side(wrote)) == -1
    assert verdict(side(idle, primary=True), side(wrote)) is None
    assert verdict(side(wrote, primary=True), side(idle, primary=True)) is None


def cluster() -> tuple[World, Resource, Resource]:
    """An instance on two nodes, running on the first."""
    variables = {
        "twofold_disk_template": "drbd", "twofold_disks": [{"size": "64MiB"}], "twofold_memory": "128MiB",
        "twofold_nodes": ["node1", "node2"],
    }  # fmt: skip
    world = World(1, 2)
    wanted = desired({"a": variables}, 2)
    world.rules.begins(wanted)
    world.engine.run(Run(world, wanted, {"verb": "converge"}, "somebody").start())
    world.engine.wait(60)
    one, other = (world.machines[name].kernel.resources["a"] for name in ("node1", "node2"))
    assert one.primary and one.connected and other.connected and one.devices[0].disk == "UpToDate"
    return world, one, other


def block(resource: Resource) -> Superblock:
    found = resource.devices[0].block
    assert found is not None
    return found


def test_a_cut_link_starts_a_new_generation_on_the_primary_and_is_healed_by_a_resync() -> None:
    world, one, other = cluster()
    before = block(one).current
    world.cut_link("node1", "node2")
    world.engine.wait(10)
    assert (one.connection, other.connection) == ("Connecting", "Connecting")
    assert block(one).current != before and block(one).bitmap == before and block(other).current == before
    world.mend_links()
    world.engine.wait(60)
    assert one.connected and block(one).current == block(other).current and block(one).bitmap == 0
    assert other.devices[0].disk == "UpToDate"


def test_a_copy_is_outdated_only_while_it_is_apart() -> None:
    """Connected, it stays as it is; what the kernel does not have is marked on its disk."""
    world, one, other = cluster()
    adapter = SimReplication(world.machines["node2"], lambda: None, lambda _seconds: None)
    adapter.outdate("a")
    assert other.devices[0].disk == "UpToDate"
    adapter.down("a")
    adapter.down("a")
    adapter.outdate("a")
    assert one.devices[0].disk == "UpToDate"
    lv = world.machines["node2"].storage.volumes["/dev/twofold/a-disk0-meta"]
    assert lv.superblock is not None and not lv.superblock.up_to_date


def test_writes_on_both_sides_while_apart_are_a_split_brain() -> None:
    world, one, other = cluster()
    world.cut_link("node1", "node2")
    world.engine.wait(10)
    # What is done here by hand, no run may do.
    world.rules.migrating.add("a")
    world.machines["node2"].kernel.primary(other, False, lambda _seconds: None)
    world.mend_links()
    world.engine.wait(30)
    assert "StandAlone" in (one.connection, other.connection) and not (one.connected or other.connected)


def test_a_second_primary_is_refused_unless_both_sides_allow_it() -> None:
    world, one, other = cluster()
    kernel = world.machines["node2"].kernel
    with pytest.raises(CommandFailed, match="Multiple primaries not allowed"):
        kernel.primary(other, False, lambda _seconds: None)
    for resource in (one, other):
        resource.machine.kernel.allow_two_primaries(resource, True)
    world.rules.migrating.add("a")
    kernel.primary(other, False, lambda _seconds: None)
    assert other.primary
    with pytest.raises(CommandFailed, match="Need to allow two primaries"):
        kernel.allow_two_primaries(other, False)


def test_a_disk_that_a_guest_has_open_is_not_demoted() -> None:
    world, one, _other = cluster()
    with pytest.raises(CommandFailed, match="held open"):
        world.machines["node1"].kernel.secondary(one)


def test_a_new_pair_is_declared_equal_and_never_again() -> None:
    world, one, _other = cluster()
    assert block(one).current != JUST_CREATED
    with pytest.raises(CommandFailed):
        world.machines["node1"].kernel.clean_start(one, one.devices[0])


def parted() -> tuple[World, Resource, Resource]:
    """The same, with the link between the nodes cut and missed."""
    world, one, other = cluster()
    world.cut_link("node1", "node2")
    world.engine.wait(10)
    return world, one, other


def test_a_primary_that_lost_its_disk_does_not_go_on_with_older_data() -> None:
    world, one, other = parted()
    world.machines["node1"].kernel.detach(one, one.devices[0])
    world.mend_links()
    world.engine.wait(30)
    assert not (one.connected or other.connected)


def test_a_disk_that_is_given_back_to_a_primary_is_filled() -> None:
    world, one, other = cluster()
    replication = SimReplication(world.machines["node1"], lambda: None, world.engine.wait)
    replication.detach("a")
    assert one.devices[0].disk == "Diskless" and block(other).bitmap
    with pytest.raises(CommandFailed, match="Need access"):
        SimReplication(world.machines["node2"], lambda: None, world.engine.wait).disconnect("a")
    replication.adjust("a", dry=False)
    world.engine.wait(60)
    assert one.connected and one.devices[0].disk == "UpToDate"


@pytest.mark.parametrize("away", [0.5, 30.0])
def test_a_disk_that_fails_while_the_peer_cannot_hear_of_it_is_filled_when_it_is_back(away: float) -> None:
    world, one, other = cluster()
    old = block(one).current
    disk = one.devices[0].data
    assert disk is not None
    world.cut_link("node1", "node2")
    one.machine.kernel.disk_fails(disk)
    world.engine.wait(away)
    world.mend_links()
    world.engine.wait(30)
    assert one.connected and other.devices[0].peer_disk == "Diskless" and block(other).bitmap == old
    SimReplication(world.machines["node1"], lambda: None, world.engine.wait).adjust("a", dry=False)
    world.engine.wait(60)
    assert one.connected and one.devices[0].disk == "UpToDate"
    assert block(one).current == block(other).current != old


def test_a_peer_that_is_not_missed_yet_has_to_agree_that_a_primary_lets_go_of_its_disk() -> None:
    world, one, _other = cluster()
    world.cut_link("node1", "node2")
    with pytest.raises(CommandFailed, match="Need access"):
        SimReplication(world.machines["node1"], lambda: None, world.engine.wait).detach("a")
    assert one.devices[0].disk == "UpToDate" and not one.connected


def test_a_primary_gets_back_the_disk_that_failed_while_its_peer_was_filled() -> None:
    """A copy that is being filled begins no new generation, so the disk is the one that was seen last."""
    world, one, other = cluster()
    other.machine.kernel.disconnect(other)
    world.engine.wait(10)
    other.machine.kernel.connect(other)
    world.engine.advance(lambda: other.devices[0].syncing == "target")
    lv = one.devices[0].data
    assert lv is not None
    one.machine.kernel.disk_fails(lv)
    assert (one.devices[0].disk, other.devices[0].disk) == ("Diskless", "Inconsistent")
    SimReplication(world.machines["node1"], lambda: None, world.engine.wait).adjust("a", dry=False)
    world.engine.wait(60)
    assert one.connected and [side.devices[0].disk for side in (one, other)] == ["UpToDate", "UpToDate"]


def test_an_outdated_disk_that_lacks_nothing_is_good_again_when_it_meets_its_peer() -> None:
    world, one, other = cluster()
    world.machines["node1"].libvirt.stop("a")
    one.machine.kernel.secondary(one)
    one.machine.kernel.disconnect(one)
    world.engine.wait(10)
    other.machine.kernel.outdate(other)
    one.machine.kernel.connect(one)
    world.engine.wait(30)
    assert one.connected and other.devices[0].disk == "UpToDate"


def test_two_primaries_have_to_be_allowed_on_both_sides_or_on_none() -> None:
    world, one, other = parted()
    one.machine.kernel.allow_two_primaries(one, True)
    world.mend_links()
    world.engine.wait(30)
    assert not (one.connected or other.connected)
    one.machine.kernel.disconnect(one)
    assert not one.allow
    with pytest.raises(CommandFailed, match="net conf missing"):
        one.machine.kernel.allow_two_primaries(one, True)


def test_a_volume_that_is_to_have_another_minor_gets_another_device() -> None:
    """As `drbdadm adjust` has it: the device goes before a new one is made; what is in use keeps its own."""
    world, one, other = cluster()
    for side in (one, other):
        files = side.machine.files
        path = SimReplication.path("a")
        files.write(path, str(files.read(path)).replace("minor 1000;", "minor 1007;"))
    SimReplication(other.machine, lambda: None, world.engine.wait).adjust("a", dry=False)
    world.engine.wait(60)
    assert (other.devices[0].minor, other.devices[0].disk) == (1007, "UpToDate")
    assert block(other).current == block(one).current
    with pytest.raises(CommandFailed, match="Minor is configured"):
        SimReplication(one.machine, lambda: None, world.engine.wait).adjust("a", dry=False)
