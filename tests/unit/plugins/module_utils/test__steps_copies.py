# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Giving up one of two copies, setting it aside, filling it, keeping what it held; the kernel is a few variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils._drbd import DiskState, ResourceState, Resync
from ansible_collections.twofold.cluster.plugins.module_utils._errors import Refused, TimedOut
from ansible_collections.twofold.cluster.plugins.module_utils._steps import Args, Done, find
from tests.unit.plugins.module_utils.conftest import BenchNode

NAMES = [{"volume_group": "vg0", "name": "web1-disk0"}, {"volume_group": "vg0", "name": "web1-disk0-meta"}]
SNAPSHOT = {"volume_group": "vg0", "name": "web1-disk0", "snapshot": "web1-disk0-kept-abc"}


def disk(
    disk_: str, peer: str, done: float | None = None, replication: str = "Established", left: int | None = None
) -> DiskState:
    return DiskState(0, 1000, disk_, peer, done, "/dev/vg0/web1-disk0", replication, left)


def state(one: DiskState, **more: Any) -> ResourceState:
    return ResourceState("web1", "Secondary", "Primary", "Connected", {}, (one,))._replace(**more)


class Kernel:
    """One resource, which goes through the given states."""

    def __init__(self, *states: ResourceState) -> None:
        self.states = list(states)
        self.seen: list[dict[int, Resync]] = []
        self.did: list[str] = []

    def resyncs(self) -> dict[int, Resync]:
        return self.seen.pop(0) if self.seen else {}

    def state(self, _name: str) -> ResourceState | None:
        return self.states.pop(0) if len(self.states) > 1 else next(iter(self.states), None)

    def detach(self, _name: str) -> None:
        self.did.append("detach")

    def disconnect(self, _name: str) -> None:
        self.did.append("disconnect")

    def discard(self, _name: str, anew: Sequence[int] = ()) -> None:
        self.did.append(f"discard, {list(anew)} anew" if anew else "discard")


def run(node: BenchNode, op: str, **values: Any) -> Done:
    return find(op)(node, Args(op, values))


def kernel(node: BenchNode, *states: ResourceState) -> Kernel:
    made = Kernel(*states)
    node.replication = made
    return made


def volumes(node: BenchNode, *pending: str) -> None:
    listed = [
        {"volume_group": "vg0", "name": "web1-disk0", "size": 64 << 20, "disk": 0, "role": "data", "pending": pending},
        {"volume_group": "vg0", "name": "web1-disk0-meta", "size": 4 << 20, "disk": 0, "role": "meta"},
    ]
    run(node, "volumes.create", instance="web1", volumes=[{**one, "pending": list(pending)} for one in listed])


def names(node: BenchNode) -> list[str]:
    return sorted(volume.name for volume in node.volumes.volumes())


def pending(node: BenchNode) -> list[str]:
    found = node.volumes.find("vg0", "web1-disk0")
    assert found is not None
    return found.pending()


def test_a_disk_is_let_go_of_only_while_the_peer_has_it(node: BenchNode) -> None:
    did = kernel(node, state(disk("UpToDate", "UpToDate"))).did
    assert run(node, "replication.detach", resource="web1").changed
    assert did == ["detach"]
    for bad in (state(disk("UpToDate", "Inconsistent")), state(disk("UpToDate", "UpToDate"), connection="Connecting")):
        did = kernel(node, bad).did
        with pytest.raises(Refused, match="peer's copy is not up to date"):
            run(node, "replication.detach", resource="web1")
        assert did == []
    kernel(node, state(disk("Diskless", "UpToDate")))
    assert not run(node, "replication.detach", resource="web1").changed


def test_a_primary_is_not_given_up(node: BenchNode) -> None:
    did = kernel(node, state(disk("UpToDate", "UpToDate"), role="Primary")).did
    with pytest.raises(Refused, match="is Primary on this node"):
        run(node, "replication.disconnect", resource="web1")
    # The primary lost its disk after the plan was made: this is the last good copy.
    needed = kernel(node, state(disk("UpToDate", "Diskless"))).did
    with pytest.raises(Refused, match="this one is needed"):
        run(node, "replication.disconnect", resource="web1")
    assert needed == []
    kernel(node, state(disk("UpToDate", "DUnknown"), connection="StandAlone"))
    assert not run(node, "replication.disconnect", resource="web1").changed
    assert did == []


def test_a_copy_is_waited_for_and_its_mark_taken_off(node: BenchNode) -> None:
    volumes(node, "sync")
    assert pending(node) == ["sync"]
    kernel(
        node,
        state(disk("Inconsistent", "UpToDate"), connection="Connecting"),
        state(disk("Inconsistent", "UpToDate"), connection="Connecting"),
        *[state(disk("Inconsistent", "UpToDate", 10.0 * n, "SyncTarget")) for n in range(9)],
        state(disk("UpToDate", "UpToDate")),
    )
    assert run(node, "replication.wait", resource="web1", timeout=5).changed
    assert pending(node) == []
    assert not run(node, "replication.wait", resource="web1", timeout=5).changed


def test_a_resync_that_moves_may_take_long_and_one_that_does_not_is_an_error(node: BenchNode) -> None:
    moving = [state(disk("Inconsistent", "UpToDate", n / 10, "SyncTarget")) for n in range(900)]
    kernel(node, *moving, state(disk("UpToDate", "UpToDate")))
    assert run(node, "replication.wait", resource="web1", timeout=5).changed
    kernel(node, state(disk("Inconsistent", "DUnknown"), connection="Connecting"))
    with pytest.raises(TimedOut, match="is not resynced"):
        run(node, "replication.wait", resource="web1", timeout=5)


def test_a_resync_that_can_be_seen_in_a_file_is_followed_there(node: BenchNode) -> None:
    syncing = state(disk("Inconsistent", "UpToDate", 1.0, "SyncTarget"))
    made = kernel(node, syncing, syncing, state(disk("UpToDate", "UpToDate")))
    made.seen = [{1000: Resync(10.0 * n, None), 1001: Resync(50.0, None)} for n in range(9)]
    assert run(node, "replication.wait", resource="web1", timeout=5).changed
    assert (made.seen, len(made.states)) == ([], 1)


def test_a_resync_that_is_slowed_down_moves_by_bytes(node: BenchNode) -> None:
    """The share of a large disk stays the same for minutes."""
    slow = [state(disk("Inconsistent", "UpToDate", 7.1, "SyncTarget", (1 << 40) - 4096 * n)) for n in range(100)]
    made = kernel(node, *slow, state(disk("UpToDate", "UpToDate")))
    made.seen = [{1000: Resync(7.1, (1 << 40) - 4096 * n)} for n in range(100)]
    assert run(node, "replication.wait", resource="web1", timeout=5).changed
    assert made.seen == []


@pytest.mark.parametrize(
    ("replication", "message"),
    [
        ("SyncTarget", r"has not come forward for 5 s .* the kernel's logs of both nodes"),
        ("WFBitMapT", r"has not come forward for 5 s .* the kernel's logs of both nodes"),
        ("PausedSyncT", r"is paused and has not come forward for 5 s .*drbdadm resume-sync web1"),
    ],
)
def test_a_resync_that_stands_still_is_not_waited_for(node: BenchNode, replication: str, message: str) -> None:
    began = node.clock.monotonic()
    made = kernel(node, state(disk("Inconsistent", "UpToDate", 7.1, replication, 4096)))
    made.seen = [{1000: Resync(7.1, 4096)}] * 1000 if replication == "SyncTarget" else []
    with pytest.raises(TimedOut, match=message):
        run(node, "replication.wait", resource="web1", timeout=5)
    assert node.clock.monotonic() - began < 15


def test_a_resync_may_begin_anew_with_more(node: BenchNode) -> None:
    def syncing(left: int) -> ResourceState:
        return state(disk("Inconsistent", "UpToDate", 7.1, "SyncTarget", left))

    apart = state(disk("Inconsistent", "DUnknown"), connection="Connecting")
    again = [syncing(1000 * 4096 - 4096 * n) for n in range(20)]
    kernel(node, syncing(8192), syncing(4096), apart, *again, state(disk("UpToDate", "UpToDate")))
    assert run(node, "replication.wait", resource="web1", timeout=7).changed


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (state(disk("UpToDate", "DUnknown"), connection="StandAlone"), "refuses its peer"),
        (state(disk("Diskless", "UpToDate")), "no disk on this node"),
        (state(disk("UpToDate", "Failed")), "no disk at the peer"),
    ],
)
def test_what_will_never_be_filled_is_not_waited_for(node: BenchNode, bad: ResourceState, message: str) -> None:
    volumes(node, "sync")
    kernel(node, bad)
    with pytest.raises(Refused, match=message):
        run(node, "replication.wait", resource="web1", timeout=5)
    assert pending(node) == ["sync"]


def test_volumes_that_are_replaced_are_set_aside_once(node: BenchNode) -> None:
    volumes(node, "wipe")
    assert run(node, "volumes.set_aside", instance="web1", volumes=NAMES).changed
    assert names(node) == ["web1-disk0-meta-old", "web1-disk0-old"]
    volumes(node, "sync")
    assert not run(node, "volumes.set_aside", instance="web1", volumes=NAMES).changed
    data = node.volumes.find("vg0", "web1-disk0")
    assert data is not None
    node.volumes.retag([data], [], ["twofold.pending=sync"])
    with pytest.raises(Refused, match="holds a whole copy"):
        run(node, "volumes.set_aside", instance="web1", volumes=NAMES)


BACK = [{"volume_group": "vg0", "name": "web1-disk0", "meta": "web1-disk0-meta"}]


class Interrupted(Exception):
    """The process is killed."""


def test_what_was_set_aside_is_put_back_whenever_it_is_killed(node: BenchNode) -> None:
    made: Any = node.volumes
    for effects in range(5):
        made.known.clear()
        volumes(node, "wipe")
        run(node, "volumes.set_aside", instance="web1", volumes=NAMES)
        aside = made.find("vg0", "web1-disk0-old")
        made.retag([aside], ["the=one"], [])
        volumes(node, "sync")
        left = [effects]

        def dying(left: list[int], effect: Any) -> Any:
            def through(*args: Any) -> None:
                if not left[0]:
                    raise Interrupted
                left[0] -= 1
                effect(*args)

            return through

        with pytest.MonkeyPatch.context() as patch:
            for effect in ("retag", "remove", "rename"):
                patch.setattr(made, effect, dying(left, getattr(made, effect)))
            if effects < 3:
                with pytest.raises(Interrupted):
                    run(node, "volumes.put_back", instance="web1", volumes=BACK)
        assert [one.name for one in made.volumes() if "the=one" in one.tags], "the copy is there at every moment"
        assert run(node, "volumes.put_back", instance="web1", volumes=BACK).changed
        assert names(node) == ["web1-disk0"]
        assert {"the=one", "twofold.former", "twofold.pending=sync"} <= set(made.find("vg0", "web1-disk0").tags)
        assert not run(node, "volumes.put_back", instance="web1", volumes=BACK).changed
        # Now it gets metadata of its own, which stays when the step is repeated.
        volumes(node, "sync")
        assert not run(node, "volumes.put_back", instance="web1", volumes=BACK).changed
        assert names(node) == ["web1-disk0", "web1-disk0-meta"] and pending(node) == ["sync"]


def test_a_disk_that_was_let_go_of_but_not_set_aside_yet_is_put_back_where_it_is(node: BenchNode) -> None:
    volumes(node, "wipe")
    assert run(node, "volumes.put_back", instance="web1", volumes=BACK).changed
    assert (names(node), pending(node)) == (["web1-disk0"], ["sync"])


def test_nothing_is_put_back_over_a_whole_copy_or_from_nowhere(node: BenchNode) -> None:
    with pytest.raises(Refused, match="neither vg0/web1-disk0 nor web1-disk0-old"):
        run(node, "volumes.put_back", instance="web1", volumes=BACK)
    volumes(node, "wipe")
    run(node, "volumes.set_aside", instance="web1", volumes=NAMES)
    volumes(node, "wipe")
    with pytest.raises(Refused, match="holds a whole copy"):
        run(node, "volumes.put_back", instance="web1", volumes=BACK)
    assert len(names(node)) == 4


def test_other_peoples_volumes_are_not_set_aside(node: BenchNode) -> None:
    node.volumes.create("vg0", "web1-disk0", 64 << 20, [])
    for op, listed in (
        ("volumes.set_aside", NAMES), ("volumes.keep", [SNAPSHOT]), ("volumes.put_back", BACK)
    ):  # fmt: skip
        with pytest.raises(Refused, match="not marked as belonging"):
            run(node, op, instance="web1", volumes=listed, reason="test")
    assert names(node) == ["web1-disk0"]


def test_data_is_kept_before_it_is_given_up(node: BenchNode) -> None:
    volumes(node, "wipe")
    kept = [{"volume_group": "vg0", "name": SNAPSHOT["snapshot"]}]
    did = kernel(node, state(disk("UpToDate", "DUnknown"), connection="StandAlone")).did
    with pytest.raises(Refused, match="nothing was given up"):
        run(node, "replication.discard", resource="web1", kept=kept)
    assert did == []
    assert run(node, "volumes.keep", instance="web1", volumes=[SNAPSHOT], reason="split-brain").changed
    assert not run(node, "volumes.keep", instance="web1", volumes=[SNAPSHOT], reason="split-brain").changed
    snapshot = node.volumes.find("vg0", SNAPSHOT["snapshot"])
    assert snapshot is not None
    assert {"twofold.kept=split-brain", "twofold.role=kept", "twofold.instance=web1"} <= set(snapshot.tags)
    assert run(node, "replication.discard", resource="web1", kept=kept).changed
    assert did == ["discard"]


def test_what_was_written_after_it_was_kept_is_not_given_up(node: BenchNode) -> None:
    volumes(node, "wipe")
    kept = [{"volume_group": "vg0", "name": SNAPSHOT["snapshot"]}]
    did = kernel(node, state(disk("UpToDate", "DUnknown"), connection="StandAlone")).did
    run(node, "volumes.keep", instance="web1", volumes=[SNAPSHOT], reason="split-brain")
    node.volumes.content["/dev/vg0/web1-disk0"] = "written later"
    with pytest.raises(Refused, match="was written after vg0/web1-disk0-kept-abc was taken"):
        run(node, "volumes.keep", instance="web1", volumes=[SNAPSHOT], reason="split-brain")
    with pytest.raises(Refused, match="which should keep it, is older than what was written last"):
        run(node, "replication.discard", resource="web1", kept=kept)
    assert did == []
    another = {**SNAPSHOT, "snapshot": "web1-disk0-kept-abc-2"}
    assert run(node, "volumes.keep", instance="web1", volumes=[another], reason="split-brain").changed
    assert run(node, "replication.discard", resource="web1", kept=[{**kept[0], "name": another["snapshot"]}]).changed


def test_a_side_that_still_looks_for_its_peer_is_parted_first(node: BenchNode) -> None:
    did = kernel(node, state(disk("UpToDate", "DUnknown"), connection="Connecting")).did
    run(node, "replication.discard", resource="web1", kept=[])
    assert did == ["disconnect", "discard"]


def test_volumes_whose_differences_nobody_counted_are_copied_as_a_whole(node: BenchNode) -> None:
    did = kernel(node, state(disk("UpToDate", "DUnknown"), connection="StandAlone")).did
    run(node, "replication.discard", resource="web1", kept=[], anew=[{"volume": 0}])
    assert did == ["discard, [0] anew"]


def test_a_primary_gives_nothing_up(node: BenchNode) -> None:
    did = kernel(node, state(disk("UpToDate", "DUnknown"), connection="StandAlone", role="Primary")).did
    with pytest.raises(Refused, match="stop what uses it first"):
        run(node, "replication.discard", resource="web1", kept=[])
    assert did == []


def test_without_room_nothing_is_kept(node: BenchNode) -> None:
    volumes(node, "wipe")
    node.volumes.group = node.volumes.group._replace(free=64 << 20)
    with pytest.raises(Refused, match="keeping the data needs"):
        run(node, "volumes.keep", instance="web1", volumes=[SNAPSHOT], reason="split-brain")
    assert len(names(node)) == 2


def test_a_guest_that_is_off_can_owe_its_os_again(node: BenchNode) -> None:
    volumes(node, "wipe")
    args = {"instance": "web1", "volume_group": "vg0", "name": "web1-disk0"}
    assert run(node, "volumes.owe_install", **args).changed
    assert pending(node) == ["install"]
    assert not run(node, "volumes.owe_install", **args).changed
