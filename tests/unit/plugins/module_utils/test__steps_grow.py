# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that grows: only what is new is zeroed, and only that counts as equal on both sides."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils._drbd import DiskState, ResourceState
from ansible_collections.twofold.cluster.plugins.module_utils._errors import Refused
from ansible_collections.twofold.cluster.plugins.module_utils._steps import Args, Done, find
from tests.unit.plugins.module_utils.conftest import BenchNode

MIB = 1 << 20
SMALL, LARGE = 64 * MIB, 128 * MIB
XML = """<domain type='test'><name>web1</name><memory>8192</memory><os><type>hvm</type></os><devices>
<disk type='block'><source dev='{disk}'/><target dev='vda'/></disk></devices></domain>"""
VOLUME: dict[str, Any] = {"volume": 0, "minor": 1000, "disk": "/dev/vg0/web1-disk0", "meta": "/dev/vg0/web1-disk0-meta"}


class Kernel:
    """One connected resource; its device takes what `resize` says."""

    def __init__(self) -> None:
        self.bytes = SMALL
        self.did: list[bool] = []
        self.peer = "UpToDate"
        self.meets = 0

    def state(self, _name: str) -> ResourceState:
        volume = DiskState(0, 1000, "UpToDate", self.peer, None, VOLUME["disk"])
        self.meets -= 1
        if self.meets == 0:
            # Both sides are larger.
            self.bytes = LARGE
        connection = "Connecting" if self.meets > 0 else "Connected"
        return ResourceState("web1", "Primary", "Secondary", connection, {}, (volume,))

    def size(self, _minor: int) -> int | None:
        return self.bytes or None

    def resize(self, _name: str, _volume: int, clean: bool) -> None:
        self.did.append(clean)
        self.bytes = LARGE


class Zeroed:
    """What was zeroed: the volume's device and from which byte on."""

    def __init__(self, node: BenchNode) -> None:
        self.node = node
        self.calls: list[tuple[str, int]] = []
        self.fails = False

    def zero(self, path: str, report: Any, start: int = 0) -> None:
        if self.fails:
            raise KeyboardInterrupt
        self.calls.append((path, start))
        report(1, 1)

    def size(self, path: str) -> int:
        return next(one.size for one in self.node.volumes.volumes() if one.device == path)


@pytest.fixture
def kernel(node: BenchNode) -> Kernel:
    listed = [
        {"volume_group": "vg0", "name": "web1-disk0", "size": SMALL, "disk": 0, "role": "data", "pending": ["wipe"]},
        {"volume_group": "vg0", "name": "web1-disk0-meta", "size": 4 * MIB, "disk": 0, "role": "meta"},
    ]
    find("volumes.create")(node, Args("volumes.create", {"instance": "web1", "volumes": listed}))
    made = Kernel()
    node.replication = made
    node.devices = Zeroed(node)
    return made


def run(node: BenchNode, op: str, **values: Any) -> Done:
    return find(op)(node, Args(op, values))


def grow(node: BenchNode, size: int = LARGE, minor: int | None = 1000) -> Done:
    one = {"volume_group": "vg0", "name": "web1-disk0", "size": size, "minor": minor}
    return run(node, "volumes.grow", instance="web1", volumes=[one])


def resize(node: BenchNode, clean: bool = True, size: int = LARGE) -> Done:
    return run(node, "replication.resize", resource="web1", clean=clean, volumes=[{**VOLUME, "size": size}])


def tags(node: BenchNode) -> set[str]:
    found = node.volumes.find("vg0", "web1-disk0")
    assert found is not None
    return {tag for tag in found.tags if tag.startswith(("twofold.larger", "twofold.grown"))}


def zeroed(node: BenchNode) -> Any:
    return node.devices


def test_only_the_new_part_is_zeroed_and_counts_as_equal(node: BenchNode, kernel: Kernel) -> None:
    assert grow(node).changed
    assert zeroed(node).calls == [("/dev/vg0/web1-disk0", SMALL)]
    assert tags(node) == {f"twofold.grown={SMALL}-{LARGE}"}
    assert not grow(node).changed
    assert resize(node).changed
    assert kernel.did == [True]
    assert not resize(node).changed


def test_an_interrupted_zeroing_starts_where_the_disk_ended_and_nothing_starts_before(
    node: BenchNode, kernel: Kernel
) -> None:
    zeroed(node).fails = True
    with pytest.raises(KeyboardInterrupt):
        grow(node)
    volume = node.volumes.find("vg0", "web1-disk0")
    assert volume is not None and volume.size == LARGE
    assert volume.pending() == ["zeroing"]
    zeroed(node).fails = False
    assert grow(node, size=SMALL).changed
    assert zeroed(node).calls == [("/dev/vg0/web1-disk0", SMALL)]
    assert tags(node) == {f"twofold.grown={SMALL}-{LARGE}"}


def test_what_drbd_has_taken_already_is_never_zeroed(node: BenchNode, kernel: Kernel) -> None:
    zeroed(node).fails = True
    with pytest.raises(KeyboardInterrupt):
        grow(node)
    zeroed(node).fails = False
    kernel.bytes = LARGE
    grow(node)
    assert zeroed(node).calls == []


def interrupted(node: BenchNode, minor: int | None = None) -> None:
    """The volume is larger, its new part is not zeroed."""
    zeroed(node).fails = True
    with pytest.raises(KeyboardInterrupt):
        grow(node, minor=minor)
    zeroed(node).fails = False


def started(node: BenchNode, monkeypatch: pytest.MonkeyPatch, sees: int, disk: str = "/dev/vg0/web1-disk0") -> None:
    """The guest runs, and its QEMU opened its disk when that had so many bytes."""
    node.hypervisor.define(XML.format(disk=disk))
    node.hypervisor.start("web1")
    monkeypatch.setattr(node.hypervisor, "disk_size", lambda name, target: {("web1", "vda"): sees}[name, target])


def test_a_guest_that_runs_since_before_the_growth_gets_it_finished(
    node: BenchNode, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(node, monkeypatch, SMALL)
    interrupted(node)
    assert grow(node, minor=None).changed
    assert zeroed(node).calls == [("/dev/vg0/web1-disk0", SMALL)]


def test_what_a_guest_sees_that_was_started_by_hand_is_never_zeroed(
    node: BenchNode, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(node)
    started(node, monkeypatch, LARGE)
    assert grow(node, size=2 * LARGE, minor=None).changed
    assert zeroed(node).calls == [("/dev/vg0/web1-disk0", LARGE)]
    assert tags(node) == {f"twofold.grown={LARGE}-{2 * LARGE}"}


@pytest.mark.parametrize("check_mode", [False, True])
def test_where_nobody_can_tell_what_a_guest_sees_nothing_is_zeroed(
    node: BenchNode, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, check_mode: bool
) -> None:
    interrupted(node)
    started(node, monkeypatch, LARGE, disk="/dev/mapper/vg0-web1--disk0")
    vars(node)["check_mode"] = check_mode
    with pytest.raises(Refused, match="web1 runs") as caught:
        grow(node, size=2 * LARGE, minor=None)
    assert f"lvchange --deltag twofold.larger={SMALL} vg0/web1-disk0" in (caught.value.remedy or "")
    volume = node.volumes.find("vg0", "web1-disk0")
    assert zeroed(node).calls == [] and volume is not None and volume.size == LARGE


def test_what_drbd_may_have_taken_is_not_zeroed_while_it_is_down(node: BenchNode, kernel: Kernel) -> None:
    interrupted(node, minor=1000)
    kernel.bytes = 0
    with pytest.raises(Refused, match="while /dev/drbd1000 is down"):
        grow(node)
    assert zeroed(node).calls == [] and tags(node) == {f"twofold.larger={SMALL}"}
    kernel.bytes = SMALL
    assert grow(node).changed and zeroed(node).calls == [("/dev/vg0/web1-disk0", SMALL)]


def test_a_growth_that_begins_needs_no_word_of_drbd(node: BenchNode, kernel: Kernel) -> None:
    kernel.bytes = 0
    node.volumes.retag(node.volumes.volumes()[:1], [f"twofold.larger={SMALL}"], [])
    assert grow(node).changed and zeroed(node).calls == [("/dev/vg0/web1-disk0", SMALL)]


def test_sides_that_take_the_new_size_when_they_meet_do_so_before_it_is_zeroed(node: BenchNode, kernel: Kernel) -> None:
    interrupted(node, minor=1000)
    kernel.meets = 3
    assert grow(node).changed and zeroed(node).calls == []


def test_a_peer_that_is_away_is_not_waited_for_long(node: BenchNode, kernel: Kernel) -> None:
    interrupted(node, minor=1000)
    kernel.meets, before = 1 << 20, node.clock.time()
    assert grow(node).changed and zeroed(node).calls == [("/dev/vg0/web1-disk0", SMALL)]
    assert node.clock.time() - before < 20


@pytest.mark.parametrize("by", ["hand", "plan"])
def test_space_of_unknown_content_is_resynced(node: BenchNode, kernel: Kernel, by: str) -> None:
    if by == "hand":
        volume = node.volumes.find("vg0", "web1-disk0")
        assert volume is not None
        node.volumes.extend(volume, LARGE)
    else:
        grow(node)
    resize(node, clean=by == "hand")
    assert kernel.did == [False]


def test_a_disk_grows_only_while_both_copies_are_whole(node: BenchNode, kernel: Kernel) -> None:
    grow(node)
    kernel.peer = "Inconsistent"
    with pytest.raises(Refused, match="cannot grow now"):
        resize(node)
    assert kernel.did == []


def test_metadata_that_cannot_describe_the_disk_is_refused(node: BenchNode, kernel: Kernel) -> None:
    with pytest.raises(Refused, match="metadata volume"):
        resize(node, size=1 << 40)


def test_without_room_nothing_grows(node: BenchNode, kernel: Kernel) -> None:
    node.volumes.group = node.volumes.group._replace(free=0)
    with pytest.raises(Refused, match="more are needed"):
        grow(node)
    assert tags(node) == set()


def test_a_guest_that_is_off_sees_the_size_when_it_starts(node: BenchNode, kernel: Kernel) -> None:
    done = run(node, "domain.resize", name="web1", target="vda", device=VOLUME["disk"])
    assert not done.changed


def test_a_running_guest_is_told(node: BenchNode, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(node.hypervisor, "domain", lambda _name: type("Domain", (), {"active": True}))
    monkeypatch.setattr(node.hypervisor, "disk_size", lambda _name, _target: seen[-1][1] if seen else 0)
    monkeypatch.setattr(node.hypervisor, "resize_disk", lambda _name, target, size: seen.append((target, size)))
    assert run(node, "domain.resize", name="web1", target="vda", device=VOLUME["disk"]).changed
    assert seen == [("vda", SMALL)]
    assert not run(node, "domain.resize", name="web1", target="vda", device=VOLUME["disk"]).changed
