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
VOLUME: dict[str, Any] = {"volume": 0, "minor": 1000, "disk": "/dev/vg0/web1-disk0", "meta": "/dev/vg0/web1-disk0-meta"}


class Kernel:
    """One connected resource; its device takes what `resize` says."""

    def __init__(self) -> None:
        self.bytes = SMALL
        self.did: list[bool] = []
        self.peer = "UpToDate"

    def state(self, _name: str) -> ResourceState:
        volume = DiskState(0, 1000, "UpToDate", self.peer, None, VOLUME["disk"])
        return ResourceState("web1", "Primary", "Secondary", "Connected", {}, (volume,))

    def size(self, _minor: int) -> int:
        return self.bytes

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
