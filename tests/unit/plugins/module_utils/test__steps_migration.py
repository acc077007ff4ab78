# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrations, as far as libvirt's own test driver goes: it has domains, but moves none."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _libvirt
from ansible_collections.twofold.cluster.plugins.module_utils._errors import (
    HypervisorError,
    NoAnswer,
    Refused,
    TwofoldError,
)
from ansible_collections.twofold.cluster.plugins.module_utils._libvirt import Libvirt
from ansible_collections.twofold.cluster.plugins.module_utils._migration import (
    Job,
    Migration,
    Outcome,
    Watch,
    mebibytes,
)
from ansible_collections.twofold.cluster.plugins.module_utils._node import Node
from ansible_collections.twofold.cluster.plugins.module_utils._steps import Args
from ansible_collections.twofold.cluster.plugins.module_utils._steps_migration import migration_of, watch
from tests.unit.plugins.module_utils.conftest import BenchNode
from tests.unit.plugins.module_utils.test__steps_domain import XML, run, state


@pytest.fixture
def defined(node: Node) -> Node:
    run(node, "domain.define", name="web1", xml=XML)
    return node


def test_a_migration_goes_on_only_while_the_copies_are_equal(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the guest would wake up on the target without what it wrote last."""
    copies = {"web1": state(peer="Primary")}
    monkeypatch.setattr(node.replication, "states", lambda: copies)
    wanted = migration_of(Args("m", {"name": "web1", "uri": "qemu+tls://node2/system"}))
    look = watch(node, XML, wanted)
    node.clock.sleep(2)
    assert look({}) is None
    copies["web1"] = copies["web1"]._replace(connection="Connecting", peer_role="Unknown")
    assert look({}) is None, "it is not asked for at every look"
    node.clock.sleep(2)
    assert "web1/0" in str(look({}))
    monkeypatch.setattr(node.replication, "states", mute)
    node.clock.sleep(2)
    assert look({}) is None, "what cannot be told is no reason to end it"


def test_a_migration_is_watched_also_where_its_progress_cannot_be_written(
    node: BenchNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_file: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(node.files, "write", full)
    copies = {"web1": state(peer="Primary")}
    monkeypatch.setattr(node.replication, "states", lambda: copies)
    look = watch(node, XML, migration_of(Args("m", {"name": "web1", "uri": "qemu+tls://node2/system"})))
    node.clock.sleep(2)
    assert look({}) is None
    copies["web1"] = copies["web1"]._replace(connection="Connecting", peer_role="Unknown")
    node.clock.sleep(2)
    assert "web1/0" in str(look({}))


def mute() -> None:
    raise HypervisorError("DRBD does not answer")


@pytest.mark.parametrize("quicker", [False, True], ids=["we resume it", "libvirt was quicker"])
def test_why_a_migration_failed_is_told_whoever_resumes(
    defined: BenchNode, monkeypatch: pytest.MonkeyPatch, *, quicker: bool
) -> None:
    run(defined, "domain.start", name="web1", resource=None, volumes=[])
    assert isinstance(defined.hypervisor, Libvirt)
    here = defined.hypervisor.connection.lookupByName("web1")

    def lost(_wanted: Migration, _look: object) -> Outcome:
        here.suspend()
        return Outcome("the network is gone", False, False, {})

    def elsewhere(_uri: str, _name: str) -> None:
        if quicker:
            here.resume()

    monkeypatch.setattr(defined.hypervisor, "migrate", lost)
    monkeypatch.setattr(defined.hypervisor, "elsewhere", elsewhere)
    with pytest.raises(TwofoldError, match="the network is gone; it had been paused here and was resumed"):
        run(defined, "domain.migrate", name="web1", uri="qemu+tls://node2/system")
    domain = defined.hypervisor.domain("web1")
    assert domain is not None and domain.state == "running"


@pytest.mark.parametrize("there", ["running", "paused", None, "unknown"])
def test_a_source_that_libvirt_let_go_on_is_paused_when_the_target_runs_too(
    defined: BenchNode, monkeypatch: pytest.MonkeyPatch, there: str | None
) -> None:
    """Only the answer of the target was lost, which had started the guest."""
    run(defined, "domain.start", name="web1", resource=None, volumes=[])

    def elsewhere(uri: str, _name: str) -> str | None:
        if there == "unknown":
            raise NoAnswer(uri, 90)
        return there

    monkeypatch.setattr(defined.hypervisor, "migrate", lambda *_: Outcome("the network is gone", False, False, {}))
    monkeypatch.setattr(defined.hypervisor, "elsewhere", elsewhere)
    with pytest.raises(TwofoldError) as caught:
        run(defined, "domain.migrate", name="web1", uri="qemu+tls://node2/system")
    domain = defined.hypervisor.domain("web1")
    assert domain is not None
    if there == "running":
        assert domain.state == "paused"
        assert "it ran on the target and here, it was paused here" in caught.value.message
        assert "virsh destroy web1" in str(caught.value.remedy)
    else:
        assert domain.state == "running" and "it goes on running here" in caught.value.message
        assert ("does not answer" in caught.value.message) == (there == "unknown")


def test_a_migration_that_outlives_its_connection_is_watched_on(
    defined: BenchNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(defined, "domain.start", name="web1", resource=None, volumes=[])
    lost = Outcome("connection closed due to keepalive timeout", False, False, {"milliseconds": 5000})
    jobs, looks = iter([True, True, True, False, False]), [None, "its copies parted"]
    monkeypatch.setattr(_libvirt, "run_migration", lambda *_: lost)
    monkeypatch.setattr(_libvirt, "has_job", lambda _domain: next(jobs))
    monkeypatch.setattr(_libvirt, "Job", Running)
    wanted = Migration("web1", "qemu+tls://node2/system")
    outcome = defined.hypervisor.migrate(wanted, lambda _stats: looks.pop(0) if looks else None)
    assert outcome == lost._replace(unsafe="its copies parted") and not looks


def test_why_a_migration_failed_is_told_also_when_libvirt_says_nothing_any_more(
    defined: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(defined, "domain.start", name="web1", resource=None, volumes=[])
    hypervisor: Any = defined.hypervisor

    def stopped(_wanted: Migration, _look: object) -> Outcome:
        hypervisor.silent = NoAnswer("qemu:///system", 30)
        return Outcome("connection closed due to keepalive timeout", False, False, {})

    monkeypatch.setattr(defined.hypervisor, "migrate", stopped)
    with pytest.raises(TwofoldError, match="keepalive timeout; where it runs is not known: libvirt") as caught:
        run(defined, "domain.migrate", name="web1", uri="qemu+tls://node2/system")
    assert "restart it" in str(caught.value.remedy)


class Running(Job):
    """A job that goes on until it is aborted."""

    aborted = 0

    def stats(self) -> dict[str, Any]:
        return {"milliseconds": 1}

    def abort(self) -> None:
        self.aborted += 1

    def switch(self) -> bool:
        return True


def test_what_is_unsafe_is_aborted_unless_the_guest_lives_there_already(node: Node) -> None:
    wanted = Migration("web1", "qemu+tls://node2/system")
    job = Running(None, wanted)
    looking = Watch(job, node.clock, node.clock.monotonic())
    looking.look(lambda _stats: None)
    assert (job.aborted, looking.unsafe) == (0, None)
    looking.look(lambda _stats: "its copies parted")
    looking.look(lambda _stats: None)
    assert (job.aborted, looking.unsafe) == (2, "its copies parted")
    switched = Running(None, wanted._replace(postcopy_seconds=0.0))
    Watch(switched, node.clock, node.clock.monotonic()).look(lambda _stats: "its copies parted")
    assert switched.aborted == 0


def test_migrating_a_domain_that_runs_on_the_target_is_done(node: Node) -> None:
    run(node, "domain.define", name="web1", xml=XML)
    with pytest.raises(Refused, match="shutoff on this node"):
        run(node, "domain.migrate", name="web1", uri="test:///default")
    # libvirt's default test host has a running domain named test; the one of these tests has none.
    assert run(node, "domain.migrate", name="test", uri="test:///default", persist=False).changed is False


def test_the_arguments_of_a_migration() -> None:
    base = {"name": "web1", "uri": "qemu+tls://node2/system"}
    assert migration_of(Args("m", {**base, "copy_disks": True})).copy_disks == ("*",)
    assert migration_of(Args("m", {**base, "postcopy": True})).postcopy_iterations == 2
    assert migration_of(Args("m", {**base, "postcopy": {"seconds": 5}})).postcopy_seconds == 5
    assert not migration_of(Args("m", {**base, "postcopy": False})).postcopy
    assert migration_of(Args("m", base)).tls
    assert mebibytes(1) == 1
    assert mebibytes(64 << 20) == 64
    assert mebibytes(None) is None
