# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When metadata is made, a pair declared equal, and a disk promoted; the kernel is a few variables here."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils._drbd import Configuration, DiskState, ResourceState
from ansible_collections.twofold.cluster.plugins.module_utils._drbd_meta import JUST_CREATED
from ansible_collections.twofold.cluster.plugins.module_utils._errors import (
    CommandFailed,
    Refused,
    TimedOut,
    UsageError,
)
from ansible_collections.twofold.cluster.plugins.module_utils._steps import Args, Done, find
from ansible_collections.twofold.cluster.plugins.module_utils._steps_volumes import SYNC, pending_tag
from tests.unit.plugins.module_utils.conftest import BenchNode

CONFIG = 'resource "web1" { net { shared-secret "@SECRET@"; } }'
VOLUMES = [{"volume": 0, "minor": 1000, "disk": "/dev/vg0/web1-disk0", "meta": "/dev/vg0/web1-disk0-meta"}]


class Kernel:
    """One resource with one volume, and its file."""

    def __init__(self) -> None:
        self.file: Configuration | None = None
        self.now: ResourceState | None = None
        self.found = "none"
        self.fresh = True
        self.did: list[str] = []
        self.said = f"{JUST_CREATED:016X}:0:0:0:0:0:0"
        # A side that lost its disk: what it sees once its peer has come.
        self.late: ResourceState | None = None

    def see(self, disk: str, peer_disk: str, **more: Any) -> None:
        volumes = (DiskState(0, 1000, disk, peer_disk, None, "/dev/vg0/web1-disk0"),)
        base = ResourceState("web1", "Secondary", "Secondary", "Connected", {}, volumes)
        self.now = base._replace(**more)

    def state(self, _name: str) -> ResourceState | None:
        return self.now

    def configuration(self, _name: str) -> Configuration | None:
        return self.file

    def validate(self, _name: str, _wanted: Configuration) -> None:
        self.did.append("validate")

    def write(self, _name: str, wanted: Configuration) -> None:
        self.file = wanted

    def metadata(self, _name: str, _volume: int, _device: str) -> str:
        return self.found

    def create_metadata(self, _name: str, _volume: int) -> None:
        self.did.append("create-md")
        self.found = "new"

    def adjust(self, _name: str, dry: bool) -> bool:
        if self.now is not None and self.now.volumes[0].disk == "Diskless" and not dry:
            self.did.append("attach")
            if not self.now.connected or self.now.volumes[0].peer_disk == "Diskless":
                self.now = self.late or self.now
                raise CommandFailed(["drbdadm", "attach"], 10, "", "Can only attach to data with current UUID=16")
            self.see("Inconsistent", "UpToDate", role=self.now.role, peer_role=self.now.peer_role)
            return True
        if self.now is not None:
            return False
        if not dry:
            self.see("Inconsistent", "DUnknown", connection="Connecting")
        return True

    def just_created(self, _name: str, _volume: int) -> bool:
        return self.fresh

    def generations(self, _name: str, _volume: int) -> str:
        return self.said

    def outdate(self, _name: str) -> None:
        assert self.now is None
        self.did.append("outdate")

    def clean_start(self, _name: str, _volume: int) -> None:
        self.did.append("clean-start")
        self.see("UpToDate", "UpToDate")

    def primary(self, _name: str, force: bool = False) -> None:
        self.did.append("primary by force" if force else "primary")

    def secondary(self, _name: str) -> None:
        self.did.append("secondary")
        assert self.now is not None
        self.now = self.now._replace(role="Secondary")

    def allow_two_primaries(self, _name: str, allow: bool) -> None:
        self.did.append(f"two-primaries {allow}")


@pytest.fixture
def kernel(node: BenchNode) -> Kernel:
    made = Kernel()
    node.replication = made
    kinds: tuple[tuple[str, str, list[str]], ...] = (("web1-disk0", "data", ["wipe"]), ("web1-disk0-meta", "meta", []))
    volumes = [
        {"volume_group": "vg0", "name": name, "size": 64 << 20, "disk": 0, "role": role, "pending": pending}
        for name, role, pending in kinds
    ]
    run(node, "volumes.create", instance="web1", volumes=volumes)
    return made


def run(node: BenchNode, op: str, **values: Any) -> Done:
    return find(op)(node, Args(op, values))


def configure(node: BenchNode) -> Done:
    return run(node, "replication.configure", resource="web1", config=CONFIG, secret="s", volumes=VOLUMES)


def made(node: BenchNode) -> None:
    """The disk has its metadata already."""
    meta = node.volumes.find("vg0", "web1-disk0-meta")
    assert meta is not None
    node.volumes.retag([meta], [], ["twofold.pending=metadata", "twofold.pending=wipe"])


def test_new_metadata_is_made_once(node: BenchNode, kernel: Kernel) -> None:
    assert configure(node).changed
    assert kernel.did == ["validate", "create-md"]
    meta = node.volumes.find("vg0", "web1-disk0-meta")
    assert meta is not None
    assert meta.pending() == [] and node.volumes.content[meta.device] == "zeros"
    assert not configure(node).changed


def test_metadata_that_somebody_uses_is_not_zeroed(node: BenchNode, kernel: Kernel) -> None:
    meta = node.volumes.find("vg0", "web1-disk0-meta")
    assert meta is not None
    node.volumes.known[meta.path] = meta._replace(open=True)
    with pytest.raises(Refused, match="is marked as new but is in use"):
        configure(node)
    assert node.volumes.content[meta.device] == "old data" and "create-md" not in kernel.did


def test_a_primary_gets_its_disk_back_once_its_peer_is_connected(node: BenchNode, kernel: Kernel) -> None:
    """The peer went on alone: what is on the disk is older, and only the peer can tell what is missing."""
    configure(node)
    kernel.see("Diskless", "UpToDate", role="Primary", connection="Connected")
    kernel.late = kernel.now
    kernel.see("Diskless", "DUnknown", role="Primary", connection="Connecting")
    kernel.did.clear()
    assert configure(node).changed
    assert kernel.did == ["attach", "attach"]


def test_a_primary_whose_peer_stays_away_keeps_the_kernels_word(node: BenchNode, kernel: Kernel) -> None:
    configure(node)
    kernel.see("Diskless", "DUnknown", role="Primary", connection="Connecting")
    kernel.did.clear()
    with pytest.raises(CommandFailed, match="Can only attach"):
        configure(node)
    assert kernel.did == ["attach"]


@pytest.mark.parametrize("fresh", [True, False])
def test_a_disk_whose_peer_lost_the_newer_data_too_is_told_what_to_do(
    node: BenchNode, kernel: Kernel, fresh: bool
) -> None:
    """A fresh one at once: nothing can be let in before the peer has its data."""
    configure(node)
    kernel.see("Diskless", "Diskless", role="Secondary", peer_role="Primary", connection="Connected")
    if fresh:
        data = node.volumes.find("vg0", "web1-disk0")
        assert data is not None
        node.volumes.retag([data], [pending_tag(SYNC)], [])
    began = node.clock.monotonic()
    with pytest.raises(CommandFailed, match="Can only attach") as error:
        configure(node)
    assert "the peer has lost its disk" in str(error.value.remedy)
    assert "site.yml" in str(error.value.remedy)
    assert (node.clock.monotonic() == began) == fresh


def test_an_older_disk_waits_until_the_primary_has_got_its_own_back(node: BenchNode, kernel: Kernel) -> None:
    """Both lost their disks under a guest and get them back at once: only the newer one is let in first."""
    configure(node)
    kernel.see("Diskless", "UpToDate", role="Secondary", peer_role="Primary", connection="Connected")
    kernel.late = kernel.now
    kernel.see("Diskless", "Diskless", role="Secondary", peer_role="Primary", connection="Connected")
    kernel.did.clear()
    assert configure(node).changed
    assert kernel.did == ["attach", "attach"]


@pytest.mark.parametrize(
    ("said", "marked"),
    [
        ("7EE76D404E50D6A2:0000000000000000:0:0:1:1:0", True),
        ("7EE76D404E50D6A3:0000000000000000:0:0:1:1:1", True),
        ("7EE76D404E50D6A2:7DF3EDB756FA4B3C:0:0:1:1:0", False),
        ("7EE76D404E50D6A2:0000000000000000:0:0:1:0:0", False),
        ("7EE76D404E50D6A2:0000000000000000:0:0:0:0:0", False),
    ],
    ids=["was secondary", "was primary", "was written without its peer", "marked already", "not whole"],
)
def test_a_copy_that_comes_up_is_not_taken_for_the_last_state(
    node: BenchNode, kernel: Kernel, said: str, marked: bool
) -> None:
    """While it was down its peer may have gone on; the handshake takes the mark off."""
    made(node)
    kernel.said = said
    configure(node)
    assert ("outdate" in kernel.did) == marked
    kernel.did.clear()
    configure(node)
    assert kernel.did == []


def test_metadata_that_was_made_before_an_interruption_is_kept(node: BenchNode, kernel: Kernel) -> None:
    kernel.found = "new"
    configure(node)
    assert "create-md" not in kernel.did


def test_metadata_of_a_disk_in_service_is_never_overwritten(node: BenchNode, kernel: Kernel) -> None:
    kernel.found = "used"
    with pytest.raises(Refused, match="was in service"):
        configure(node)
    assert "create-md" not in kernel.did


def test_without_the_mark_there_is_no_new_metadata(node: BenchNode, kernel: Kernel) -> None:
    made(node)
    configure(node)
    assert "create-md" not in kernel.did


def test_a_disk_that_is_not_zeroed_is_not_configured(node: BenchNode, kernel: Kernel) -> None:
    data = node.volumes.find("vg0", "web1-disk0")
    assert data is not None
    node.volumes.retag([data], ["twofold.pending=wipe"], [])
    with pytest.raises(Refused, match="not been zeroed"):
        configure(node)
    assert kernel.file is None
    kernel.see("Inconsistent", "Inconsistent")
    with pytest.raises(Refused, match="not been zeroed"):
        run(node, "replication.initialise", resource="web1")
    assert "clean-start" not in kernel.did


def test_two_new_sides_are_declared_equal_once(node: BenchNode, kernel: Kernel) -> None:
    kernel.see("Inconsistent", "Inconsistent")
    assert run(node, "replication.initialise", resource="web1").changed
    assert not run(node, "replication.initialise", resource="web1").changed
    assert kernel.did == ["clean-start"]


@pytest.mark.parametrize(("disk", "peer"), [("Inconsistent", "Outdated"), ("Inconsistent", "Consistent")])
def test_other_pairs_are_not_declared_equal(node: BenchNode, kernel: Kernel, disk: str, peer: str) -> None:
    kernel.see(disk, peer)
    with pytest.raises(Refused, match="not a new pair"):
        run(node, "replication.initialise", resource="web1")
    assert kernel.did == []


def test_a_side_that_held_data_is_not_declared_equal(node: BenchNode, kernel: Kernel) -> None:
    kernel.see("Inconsistent", "Inconsistent")
    kernel.fresh = False
    with pytest.raises(Refused, match="has held data before"):
        run(node, "replication.initialise", resource="web1")
    assert kernel.did == []


@pytest.mark.parametrize("op", ["replication.promote", "replication.initialise"])
def test_nothing_is_done_before_the_handshake(node: BenchNode, kernel: Kernel, op: str) -> None:
    kernel.see("Inconsistent" if op.endswith("initialise") else "UpToDate", "DUnknown", connection="Connecting")
    with pytest.raises(TimedOut, match="did not connect within 5 s"):
        run(node, op, resource="web1", timeout=5)
    assert kernel.did == []


def test_a_disk_is_promoted_when_it_may_be(node: BenchNode, kernel: Kernel) -> None:
    kernel.see("Inconsistent", "Inconsistent")
    with pytest.raises(Refused, match="only an up-to-date disk"):
        run(node, "replication.promote", resource="web1")
    kernel.see("Inconsistent", "UpToDate")
    with pytest.raises(TimedOut, match="the resync from the peer did not end"):
        run(node, "replication.promote", resource="web1")
    kernel.see("UpToDate", "UpToDate", peer_role="Primary")
    with pytest.raises(Refused, match="Primary at the peer"):
        run(node, "replication.promote", resource="web1")
    kernel.see("UpToDate", "UpToDate", peer_role="Primary", options={"allow-two-primaries": "yes"})
    run(node, "replication.promote", resource="web1")
    kernel.see("UpToDate", "Outdated", connection="Connecting", peer_role="Unknown")
    run(node, "replication.promote", resource="web1")
    assert kernel.did == ["primary", "primary"]


def test_promotion_waits_for_the_resync_after_a_crash(
    node: BenchNode, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.see("Inconsistent", "UpToDate")
    looks: list[int] = []

    def state(name: str) -> ResourceState | None:
        looks.append(1)
        if len(looks) == 5:
            kernel.see("UpToDate", "UpToDate")
        return Kernel.state(kernel, name)

    monkeypatch.setattr(kernel, "state", state)
    assert run(node, "replication.promote", resource="web1").changed
    assert kernel.did == ["primary"] and len(looks) >= 5


def test_a_primary_that_got_its_disk_back_is_waited_for_too(
    node: BenchNode, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.see("Inconsistent", "UpToDate", role="Primary")
    with pytest.raises(TimedOut, match="the resync from the peer did not end within 5 s"):
        run(node, "replication.promote", resource="web1", timeout=5)
    clock: Any = node.clock
    monkeypatch.setattr(clock, "sleep", lambda _seconds: kernel.see("UpToDate", "UpToDate", role="Primary"))
    assert run(node, "replication.promote", resource="web1").changed
    assert not run(node, "replication.promote", resource="web1").changed
    kernel.see("Inconsistent", "UpToDate", role="Primary")
    monkeypatch.setattr(clock, "sleep", lambda _seconds: kernel.see("Diskless", "UpToDate", role="Primary"))
    with pytest.raises(Refused, match="is Diskless on this node"):
        run(node, "replication.promote", resource="web1")
    assert kernel.did == []


def test_settling_demotes_where_the_guest_does_not_run(node: BenchNode, kernel: Kernel) -> None:
    kernel.see("UpToDate", "UpToDate", role="Primary", peer_role="Primary", options={"allow-two-primaries": "yes"})
    assert run(node, "replication.settle", resource="web1", domain="web1", timeout=5).changed
    assert kernel.did == ["secondary", "two-primaries False"]


@pytest.mark.parametrize("ended", [True, False])
def test_a_connection_that_ends_while_it_is_settled_allows_nothing_any_more(
    node: BenchNode, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """The peer has come with other settings, so DRBD has parted both."""
    alone = {"connection": "Connecting", "peer_role": "Unknown"}
    kernel.see("UpToDate", "DUnknown", role="Primary", options={"allow-two-primaries": "yes"}, **alone)

    def refuse(_name: str, _allow: bool) -> None:
        if ended:
            kernel.see("UpToDate", "DUnknown", connection="StandAlone", peer_role="Unknown")
        raise CommandFailed(["drbdadm", "net-options"], 10, "", "unknown connection")

    monkeypatch.setattr(kernel, "allow_two_primaries", refuse)
    if ended:
        assert run(node, "replication.settle", resource="web1", domain="web1", timeout=5).changed
    else:
        with pytest.raises(CommandFailed, match="unknown connection"):
            run(node, "replication.settle", resource="web1", domain="web1", timeout=5)


def test_two_primaries_need_a_connection(node: BenchNode, kernel: Kernel) -> None:
    kernel.see("UpToDate", "DUnknown", connection="Connecting")
    with pytest.raises(Refused, match="not connected"):
        run(node, "replication.dual_primary", resource="web1", allow=True)


def test_a_primary_is_not_removed(node: BenchNode, kernel: Kernel) -> None:
    kernel.see("UpToDate", "UpToDate", role="Primary")
    with pytest.raises(Refused, match="is Primary on this node"):
        run(node, "replication.remove", resource="web1")


def take_over(node: BenchNode) -> Done:
    return run(node, "replication.take_over", resource="web1", peer="node1", proof="node1 is off", timeout=5)


def test_the_survivor_is_promoted_without_its_peer(node: BenchNode, kernel: Kernel) -> None:
    kernel.see("UpToDate", "DUnknown", connection="Connecting", peer_role="Unknown")
    assert take_over(node).message == "web1 is Primary without node1: node1 is off"
    kernel.see("UpToDate", "DUnknown", role="Primary", connection="Connecting", peer_role="Unknown")
    assert not take_over(node).changed
    assert kernel.did == ["primary"]


@pytest.mark.parametrize("disk", ["Inconsistent", "Outdated", "Consistent", "Diskless"])
def test_a_survivor_without_all_data_is_not_promoted(node: BenchNode, kernel: Kernel, disk: str) -> None:
    kernel.see(disk, "DUnknown", connection="Connecting", peer_role="Unknown")
    with pytest.raises(Refused, match=f"is {disk} on this node") as error:
        take_over(node)
    assert str(error.value.remedy).startswith("bring node1 back, it has the newer copy")
    assert kernel.did == []


def test_a_peer_that_lives_stays_in_charge_whatever_was_said(node: BenchNode, kernel: Kernel) -> None:
    kernel.see("UpToDate", "UpToDate", peer_role="Primary")
    with pytest.raises(TimedOut, match=r"it lives, whatever was said \(node1 is off\)"):
        take_over(node)
    assert kernel.did == []


def test_a_connection_that_is_about_to_break_is_waited_for(node: BenchNode, kernel: Kernel) -> None:
    kernel.see("UpToDate", "UpToDate", peer_role="Primary")
    clock: Any = node.clock
    sleep = clock.sleep

    def breaks(seconds: float) -> None:
        sleep(seconds)
        kernel.see("UpToDate", "DUnknown", connection="Connecting", peer_role="Unknown")

    clock.sleep = breaks
    assert take_over(node).changed
    assert kernel.did == ["primary"]


@pytest.mark.parametrize("disk", ["Outdated", "Consistent"])
def test_an_earlier_state_is_taken_when_that_is_accepted(node: BenchNode, kernel: Kernel, disk: str) -> None:
    args = {"resource": "web1", "peer": "node1", "proof": "node1 is off", "timeout": 5, "stale": True}
    kernel.see(disk, "DUnknown", connection="Connecting", peer_role="Unknown")
    assert run(node, "replication.take_over", **args).changed
    kernel.see("UpToDate", "DUnknown", connection="Connecting", peer_role="Unknown")
    run(node, "replication.take_over", **args)
    assert kernel.did == ["primary by force", "primary"]
    kernel.see("Inconsistent", "DUnknown", connection="Connecting", peer_role="Unknown")
    with pytest.raises(Refused, match="is Inconsistent"):
        run(node, "replication.take_over", **args)


def test_what_was_put_back_is_taken_until_a_peer_has_begun_to_fill_it(node: BenchNode, kernel: Kernel) -> None:
    args = {"resource": "web1", "peer": "node1", "proof": "node1 is off", "timeout": 5}
    marks = ["twofold.pending=sync", "twofold.former"]
    data = node.volumes.find("vg0", "web1-disk0")
    assert data is not None
    node.volumes.retag([data], marks, [])
    kernel.see("Inconsistent", "DUnknown", connection="Connecting", peer_role="Unknown")
    for stale, fresh in ((False, True), (True, False)):
        kernel.fresh = fresh
        with pytest.raises(Refused, match="is Inconsistent"):
            run(node, "replication.take_over", **args, stale=stale)
    assert kernel.did == []
    kernel.fresh = True
    assert run(node, "replication.take_over", **args, stale=True).changed
    assert kernel.did == ["primary by force"]
    seen = node.volumes.find("vg0", "web1-disk0")
    assert seen is not None and not set(marks) & set(seen.tags)


def test_a_copy_that_drbd_calls_whole_loses_the_mark_of_being_filled(node: BenchNode, kernel: Kernel) -> None:
    data = node.volumes.find("vg0", "web1-disk0")
    assert data is not None
    node.volumes.retag([data], ["twofold.pending=sync"], [])
    kernel.see("Inconsistent", "DUnknown", connection="Connecting", peer_role="Unknown")
    with pytest.raises(Refused, match="is Inconsistent"):
        take_over(node)
    assert "sync" in node.volumes.known[data.path].pending()
    kernel.see("UpToDate", "DUnknown", connection="Connecting", peer_role="Unknown")
    take_over(node)
    assert "sync" not in node.volumes.known[data.path].pending()


def test_taking_over_needs_a_proof_in_words(node: BenchNode, kernel: Kernel) -> None:
    kernel.see("UpToDate", "DUnknown", connection="Connecting", peer_role="Unknown")
    with pytest.raises(UsageError, match="'proof' should be a text"):
        run(node, "replication.take_over", resource="web1", peer="node1")
    assert kernel.did == []


def test_a_node_that_is_about_to_be_rebooted_gets_no_primary(node: BenchNode, kernel: Kernel) -> None:
    find("maintenance.begin")(node, Args("maintenance.begin", {"node": "node2"}))
    kernel.see("UpToDate", "UpToDate")
    with pytest.raises(Refused, match="about to be rebooted"):
        run(node, "replication.promote", resource="web1")
    kernel.see("UpToDate", "DUnknown", connection="Connecting", peer_role="Unknown")
    with pytest.raises(Refused, match="about to be rebooted"):
        take_over(node)
    assert kernel.did == []
    kernel.see("UpToDate", "UpToDate", role="Primary")
    assert not run(node, "replication.promote", resource="web1").changed
