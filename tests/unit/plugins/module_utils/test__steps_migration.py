# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrations, as far as libvirt's own test driver goes: it has domains, but moves none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _libvirt
from ansible_collections.twofold.cluster.plugins.module_utils._errors import (
    HypervisorError,
    NoAnswer,
    Refused,
    TwofoldError,
)
from ansible_collections.twofold.cluster.plugins.module_utils._libvirt import Domain, Libvirt
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


class Target:
    """What another host has of web1, and what it is told."""

    def __init__(self, state: str | None) -> None:
        self.state = state
        self.told: list[str] = []

    def elsewhere(self, uri: str, _name: str) -> str | None:
        if self.state == "unknown":
            raise NoAnswer(uri, 90)
        return self.state

    def live_xml_at(self, _uri: str, _name: str) -> str:
        return XML

    def go_on_at(self, uri: str, _name: str) -> None:
        if self.state == "unknown":
            raise NoAnswer(uri, 90)
        self.told.append("go on")

    def discard_at(self, uri: str, _name: str) -> None:
        if self.state == "unknown":
            raise NoAnswer(uri, 90)
        self.told.append("discard")


def migrate_to(
    target: Target,
    node: BenchNode,
    monkeypatch: pytest.MonkeyPatch,
    error: str | None,
    unsafe: str | None = None,
    *,
    gone: bool = False,
) -> None:
    """A migration of web1, which runs here, that ended so at libvirt; whether libvirt ended it here all the same."""
    run(node, "domain.start", name="web1", resource=None, volumes=[])
    for name in ("elsewhere", "live_xml_at", "go_on_at", "discard_at"):
        monkeypatch.setattr(node.hypervisor, name, getattr(target, name))

    def end(_wanted: Migration, _look: object) -> Outcome:
        if error is None or gone:
            node.hypervisor.destroy("web1")
            node.hypervisor.undefine("web1")
        return Outcome(error, False, False, {"milliseconds": 1000}, unsafe)

    monkeypatch.setattr(node.hypervisor, "migrate", end)
    run(node, "domain.migrate", name="web1", uri="qemu+tls://node2/system")


@pytest.mark.parametrize("there", ["running", "paused", None, "unknown"])
def test_when_the_last_answer_of_the_target_is_lost_one_goes_on(
    defined: BenchNode, monkeypatch: pytest.MonkeyPatch, there: str | None
) -> None:
    """libvirt lets the source go on then; what waits at the target is ended, what runs there has to be looked at."""
    target = Target(there)
    with pytest.raises(TwofoldError) as caught:
        migrate_to(target, defined, monkeypatch, "the network is gone")
    domain = defined.hypervisor.domain("web1")
    assert domain is not None
    assert target.told == (["discard"] if there == "paused" else [])
    if there == "running":
        assert domain.state == "paused"
        assert "it ran on the target and here, it was paused here" in caught.value.message
        assert "virsh destroy web1" in str(caught.value.remedy)
    else:
        assert domain.state == "running" and "it goes on running here" in caught.value.message
        assert ("does not answer" in caught.value.message) == (there == "unknown")


def test_a_guest_goes_on_at_the_target_when_it_is_gone_from_here(
    defined: BenchNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target("paused")
    migrate_to(target, defined, monkeypatch, None)
    assert target.told == ["go on"]
    # Done twice: the first was killed before it could say so.
    copies = {"web1": state(peer="Primary")}
    monkeypatch.setattr(defined.replication, "states", lambda: copies)
    assert run(defined, "domain.migrate", name="web1", uri="qemu+tls://node2/system").changed
    assert target.told == ["go on", "go on"]
    # What it wrote last may be here alone.
    copies["web1"] = copies["web1"]._replace(connection="Connecting", peer_role="Unknown")
    with pytest.raises(Refused, match="web1 moved and waits, paused, on the target: web1/0 is") as caught:
        run(defined, "domain.migrate", name="web1", uri="qemu+tls://node2/system")
    assert "site.yml" in str(caught.value.remedy) and target.told == ["go on", "go on"]


def test_what_a_file_tells_of_the_copies_no_program_is_asked_while_the_guest_waits(
    defined: BenchNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([{"web1": state(peer="Primary")}])
    monkeypatch.setattr(defined.replication, "states", lambda: next(looks))
    monkeypatch.setattr(defined.replication, "equal", lambda: {1000})
    target = Target("paused")
    migrate_to(target, defined, monkeypatch, None)
    assert target.told == ["go on"]


def test_a_guest_goes_on_also_when_it_was_not_heard_that_it_has_moved(
    defined: BenchNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvirtd was restarted here, and did the rest by itself."""
    target = Target("paused")
    with pytest.raises(TwofoldError, match="connection closed; it runs on the target"):
        migrate_to(target, defined, monkeypatch, "connection closed", gone=True)
    assert target.told == ["go on"]


def test_a_guest_that_cannot_be_told_to_go_on_is_left_to_the_next_run(
    defined: BenchNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TwofoldError, match="web1 moved and waits, paused, on the target") as caught:
        migrate_to(Target("unknown"), defined, monkeypatch, None)
    assert "site.yml" in str(caught.value.remedy)


@pytest.mark.parametrize("there", ["paused", "unknown"])
@pytest.mark.parametrize("seen", ["while it moved", "at the end"])
def test_a_guest_does_not_go_on_without_what_it_wrote_last(
    defined: BenchNode, monkeypatch: pytest.MonkeyPatch, there: str, seen: str
) -> None:
    if seen == "at the end":
        good = state(peer="Primary")
        looks = iter([good, good._replace(connection="Connecting", peer_role="Unknown")])
        monkeypatch.setattr(defined.replication, "states", lambda: {"web1": next(looks)})
    target = Target(there)
    with pytest.raises(TwofoldError, match="web1 did not go on at the target: its copies parted") as caught:
        migrate_to(target, defined, monkeypatch, None, "its copies parted" if seen == "while it moved" else None)
    assert target.told == (["discard"] if there == "paused" else [])
    assert "site.yml" in str(caught.value.remedy)
    assert ("virsh destroy web1" in str(caught.value.remedy)) == (there == "unknown")


@pytest.fixture
def other() -> Iterator[Any]:
    """Another host, as libvirt's own test driver has it: with a guest that runs, named test."""
    import libvirt

    connection = libvirt.open("test:///default")
    xml = connection.lookupByName("test").XMLDesc()
    yield connection.lookupByName("test")
    # All connections of a process see the same host.
    connection.defineXML(xml).create()
    connection.close()


def test_what_waits_on_another_host_goes_on_or_is_ended(node: BenchNode, other: Any) -> None:
    other.suspend()
    assert "<name>test</name>" in node.hypervisor.live_xml_at("test:///default", "test")
    node.hypervisor.go_on_at("test:///default", "test")
    assert node.hypervisor.elsewhere("test:///default", "test") == "running"
    node.hypervisor.go_on_at("test:///default", "test")
    with pytest.raises(HypervisorError, match="is running"):
        node.hypervisor.discard_at("test:///default", "test")
    other.suspend()
    node.hypervisor.discard_at("test:///default", "test")
    assert node.hypervisor.elsewhere("test:///default", "test") is None
    for ask in (node.hypervisor.live_xml_at, node.hypervisor.go_on_at, node.hypervisor.discard_at):
        with pytest.raises(HypervisorError, match="test is not defined at"):
            ask("test:///default", "test")


def test_what_an_interrupted_migration_left_here_goes_on_or_is_ended(
    defined: BenchNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(defined, "domain.start", name="web1", resource=None, volumes=[])
    assert not run(defined, "domain.resume", name="web1", resource=None).changed
    with pytest.raises(Refused, match="web1 is running"):
        run(defined, "domain.discard", name="web1")
    defined.hypervisor.suspend("web1")
    monkeypatch.setattr(defined.replication, "state", lambda _name: state(peer="Primary"))
    with pytest.raises(Refused, match="Primary at the peer too"):
        run(defined, "domain.resume", name="web1", resource="web1")
    monkeypatch.setattr(defined.replication, "state", lambda _name: state())
    assert run(defined, "domain.resume", name="web1", resource="web1").changed
    defined.hypervisor.suspend("web1")
    assert not run(defined, "domain.present", name="web1").changed
    assert run(defined, "domain.discard", name="web1").changed
    assert not run(defined, "domain.discard", name="web1").changed
    for op in ("domain.present", "domain.resume"):
        with pytest.raises(Refused, match="web1 is not"):
            run(defined, op, name="web1", resource=None)


def test_a_guest_whose_post_copy_migration_failed_is_ended_and_nothing_else(
    defined: BenchNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(defined, "domain.start", name="web1", resource=None, volumes=[])
    ask = defined.hypervisor.domain

    def torn(name: str) -> Domain | None:
        found = ask(name)
        return found and found._replace(state="postcopy-failed")

    def lost(_wanted: Migration, _look: object) -> Outcome:
        monkeypatch.setattr(defined.hypervisor, "domain", torn)
        return Outcome("job 'migration out' failed in post-copy phase", False, True, {})

    monkeypatch.setattr(defined.hypervisor, "migrate", lost)
    monkeypatch.setattr(defined.hypervisor, "elsewhere", lambda *_: "postcopy-failed")
    uri = "qemu+tls://node2/system"
    with pytest.raises(TwofoldError, match="post-copy phase; what it has in memory is on both nodes") as caught:
        run(defined, "domain.migrate", name="web1", uri=uri, postcopy=True)
    assert "virsh destroy web1" in str(caught.value.remedy)
    with pytest.raises(Refused, match="domain web1 is postcopy-failed"):
        run(defined, "domain.migrate", name="web1", uri=uri, postcopy=True)
    monkeypatch.setattr(defined.replication, "state", lambda _name: state(peer="Primary"))
    with pytest.raises(Refused, match="web1: what it has in memory is on both nodes"):
        run(defined, "replication.settle", resource="web1", domain="web1")
    assert run(defined, "domain.discard", name="web1").changed
    assert ask("web1") is None


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
