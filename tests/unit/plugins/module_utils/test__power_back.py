# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which guests a node starts by itself, which it leaves alone, and that it says why."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import (
    _definitions,
    _libvirt,
    _maintenance,
    _node,
    _power_back,
)
from ansible_collections.twofold.cluster.plugins.module_utils._drbd import DiskState, ResourceState
from ansible_collections.twofold.cluster.plugins.module_utils._errors import HypervisorError, NoAnswer, TwofoldError
from ansible_collections.twofold.cluster.plugins.module_utils._files import write_json
from ansible_collections.twofold.cluster.plugins.module_utils._journal import FOLDER
from ansible_collections.twofold.cluster.plugins.module_utils._power_back import Peers, PowerBack, Settings
from ansible_collections.twofold.cluster.plugins.module_utils._power_back_notes import left, read_notes
from tests.unit.plugins.module_utils.conftest import BenchNode

XML = """<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>8192</memory>
<os><type>hvm</type></os></domain>"""
UUID = "11111111-1111-4111-8111-1111111111{number:02d}"
PEER = "qemu+tls://198.51.100.12/system"


class Disks:
    """DRBD of this node: one state for each resource."""

    def __init__(self) -> None:
        self.known: dict[str, ResourceState] = {}
        self.did: list[str] = []
        self.bitmap = "0000000000000000"

    def see(self, name: str, **more: Any) -> None:
        volumes = (DiskState(0, 1000, more.pop("disk", "UpToDate"), "UpToDate", None, f"/dev/vg0/{name}-disk0"),)
        base = ResourceState(name, "Secondary", "Secondary", "Connected", {}, volumes)
        self.known[name] = base._replace(**more)

    def state(self, name: str) -> ResourceState | None:
        return self.known.get(name)

    def states(self) -> dict[str, ResourceState]:
        return self.known

    def generations(self, _name: str, _volume: int) -> str:
        return f"7EE76D404E50D6A2:{self.bitmap}:0000000000000000:0000000000000000:1:1:0:0:0:0:0"

    def outdate(self, name: str) -> None:
        self.did.append(f"outdate {name}")
        self.see(name, disk="Outdated", connection="Connecting", peer_role="Unknown")

    def primary(self, name: str) -> None:
        self.did.append(f"primary {name}")
        self.known[name] = self.known[name]._replace(role="Primary")

    def secondary(self, name: str) -> None:
        self.did.append(f"secondary {name}")
        self.known[name] = self.known[name]._replace(role="Secondary")


class Machine:
    """node1, its disks, and what it hears of its peer."""

    def __init__(self, node: BenchNode) -> None:
        self.node: Any = node
        self.disks = Disks()
        self.node.replication = self.disks
        self.facts: dict[str, Any] = {"boot_id": "boot-1", "uptime": 3600.0}
        self.node.host = self
        self.peer: dict[str, str] | None = {}
        self.asked = 0
        self.why: dict[str, str] = {}
        self.limits: dict[str, int] = {"restarts": 3, "starts_at_once": 10, "start_delay": 10}
        self.hypervisor = node.hypervisor
        self.number = 0

    # What PowerBack asks of host and hypervisor

    def __call__(self) -> dict[str, Any]:
        return self.facts

    def domains(self) -> Any:
        return self.hypervisor.domains()

    def why_off(self, name: str) -> str:
        return self.why.get(name, "unknown")

    def domains_at(self, uri: str) -> dict[str, str]:
        assert uri == PEER
        self.asked += 1
        if self.peer is None:
            raise HypervisorError("does not answer")
        return self.peer

    # What tests do

    def has(self, name: str, **more: Any) -> None:
        """A definition with its domain and disk, as an outage leaves them."""
        self.number += 1
        uuid = UUID.format(number=self.number)
        document = {
            "format": 1, "name": name, "uuid": uuid, "generation": 1, "state": "running", "disk_template": "drbd",
            "nodes": ["node1", "node2"], "disks": [{"index": 0, "volume_group": {"node1": "vg0", "node2": "vg0"}}],
            "priority": 50,
        }  # fmt: skip
        _definitions.write(self.node.files, {**document, **more})
        self.hypervisor.define(XML.format(name=name, uuid=uuid))
        self.node.volumes.create("vg0", f"{name}-disk0", 1 << 20, [])
        self.disks.see(name)

    def run(self) -> list[str]:
        """A pass."""
        settings = Settings("node1", {"node2": [PEER]}, **self.limits)
        return PowerBack(self.node, self, settings).run()

    def kill(self, name: str) -> None:
        self.hypervisor.destroy(name)

    def runs(self, name: str) -> bool:
        domain = self.hypervisor.domain(name)
        return domain is not None and domain.active


@pytest.fixture
def machine(node: BenchNode) -> Machine:
    """A node after an outage."""
    made = Machine(node)
    made.node.host = type("Host", (), {"facts": lambda _self: made.facts})()
    return made


def test_a_guest_that_is_its_own_is_started(machine: Machine) -> None:
    machine.has("web1")
    assert machine.run() == ["web1: started"]
    assert machine.runs("web1") and machine.disks.did == ["primary web1"]
    assert machine.run() == [] and left(machine.node.files) == {}
    assert machine.node.journal.entries() == [] and machine.node.lock.holder() is None


def test_guests_start_in_their_order_and_not_all_at_once(machine: Machine) -> None:
    machine.limits = {"restarts": 3, "starts_at_once": 2, "start_delay": 7}
    for name, priority in (("a", 10), ("b", 50), ("c", 90), ("d", 50)):
        machine.has(name, priority=priority)
    before = machine.node.clock.time()
    assert machine.run() == [f"{name}: started" for name in ("c", "b", "d", "a")]
    assert machine.node.clock.time() == before + 7
    assert machine.asked == 1, "one connection for all guests of a peer"


def meanwhile(machine: Machine, monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    """When the first guest has its disks, a run does something; between two guests nobody has the lock."""
    primary = machine.disks.primary

    def then(name: str) -> None:
        primary(name)
        if name == "first":
            do()

    monkeypatch.setattr(machine.disks, "primary", then)


@pytest.mark.parametrize("template", ["drbd", "plain"])
def test_a_guest_that_a_run_stops_while_others_are_started_stays_off(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    machine.has("first", priority=90)
    machine.has("second", disk_template=template)

    def stop() -> None:
        known = _definitions.read(machine.node.files, "second")
        assert known is not None
        _definitions.write(machine.node.files, {**known, "state": "stopped", "generation": 2})

    meanwhile(machine, monkeypatch, stop)
    assert machine.run() == ["first: started"]
    assert not machine.runs("second") and machine.disks.did == ["primary first"]
    assert left(machine.node.files) == {} and "second" not in read_notes(machine.node.files)["starts"]
    assert machine.run() == []


def test_a_guest_that_a_run_changes_while_others_are_started_is_looked_at_anew(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.has("first", priority=90)
    machine.has("second")

    def change() -> None:
        known = _definitions.read(machine.node.files, "second")
        assert known is not None
        _definitions.write(machine.node.files, {**known, "generation": 2})

    meanwhile(machine, monkeypatch, change)
    assert machine.run() == ["first: started"]
    assert machine.run() == ["second: started"]


def test_volumes_are_read_anew_for_each_guest(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run may have marked one since, which then waits for something."""
    machine.has("first", priority=90)
    machine.has("second")
    volumes = machine.node.volumes
    read: dict[str, Any] = {}

    def find(group: str, name: str) -> Any:
        read.update({} if read else volumes.known)
        return read.get(f"{group}/{name}")

    monkeypatch.setattr(volumes, "find", find)
    monkeypatch.setattr(volumes, "forget", read.clear)

    def mark() -> None:
        find("vg0", "first-disk0")
        volumes.retag([volumes.known["vg0/second-disk0"]], ["twofold.pending=install"], [])

    meanwhile(machine, monkeypatch, mark)
    started, alone = machine.run()
    assert started == "first: started" and "second: left alone" in alone and "still waits for install" in alone


def test_what_is_not_to_run_here_is_not_even_looked_at(machine: Machine) -> None:
    machine.has("stopped", state="stopped")
    machine.has("theirs", nodes=["node2", "node1"])
    assert machine.run() == [] and machine.disks.did == []
    assert not machine.runs("theirs") and left(machine.node.files) == {}


def _peer_primary(machine: Machine) -> None:
    machine.disks.see("web1", peer_role="Primary")


def _disconnected(machine: Machine) -> None:
    machine.disks.see("web1", connection="Connecting", peer_role="Unknown")


def _stale(machine: Machine) -> None:
    machine.disks.see("web1", disk="Inconsistent")


def _outdated(machine: Machine) -> None:
    machine.disks.see("web1", disk="Outdated")


def _down(machine: Machine) -> None:
    del machine.disks.known["web1"]


def _dual(machine: Machine) -> None:
    machine.disks.see("web1", options={"allow-two-primaries": "yes"})


def _failed_over(machine: Machine) -> None:
    machine.peer = {"web1": "shutoff"}


def _runs_there(machine: Machine) -> None:
    machine.peer = {"web1": "running"}


def _peer_silent(machine: Machine) -> None:
    machine.peer = None


def _undefined(machine: Machine) -> None:
    machine.hypervisor.undefine("web1")


def _moving(machine: Machine) -> None:
    known = _definitions.read(machine.node.files, "web1")
    assert known is not None
    _definitions.write(machine.node.files, {**known, "disk_template": "plain", "moving_to": "node2"})


def _foreign(machine: Machine) -> None:
    machine.hypervisor.undefine("web1")
    machine.hypervisor.define(XML.format(name="web1", uuid=UUID.format(number=99)))


def _shut_down(machine: Machine) -> None:
    machine.why["web1"] = "shutdown"


def _interrupted(machine: Machine) -> None:
    step = {"id": "web1/domain.migrate@node1", "op": "domain.migrate", "instance": "web1"}
    write_json(machine.node.files, f"{FOLDER}/r1.json", {"format": 1, "run": "r1", "step": step, "pid": 1})


def _unfinished(machine: Machine) -> None:
    volume = machine.node.volumes.find("vg0", "web1-disk0")
    machine.node.volumes.retag([volume], ["twofold.pending=install"], [])


def _without_os(machine: Machine) -> None:
    known = _definitions.read(machine.node.files, "web1")
    assert known is not None
    _definitions.write(machine.node.files, {**known, "os_owed_on": "node2"})


def _alone(machine: Machine) -> None:
    known = _definitions.read(machine.node.files, "web1")
    assert known is not None
    _definitions.write(machine.node.files, {**known, "nodes": ["node1"]})


@pytest.mark.parametrize(
    ("hurt", "reason"),
    [
        (_alone, "its definition names no other node"),
        (_peer_primary, "its disks are in use on node2"),
        (_disconnected, "no connection to node2 (Connecting)"),
        (_stale, "disk 0 is Inconsistent"),
        (_outdated, "disk 0 is Outdated"),
        (_down, "DRBD is down"),
        (_dual, "two primaries are allowed"),
        (_failed_over, "it lives on node2, where its domain is shutoff"),
        (_runs_there, "it lives on node2, where its domain is running"),
        (_peer_silent, "libvirt of node2 does not answer"),
        (_undefined, "not defined here"),
        (_foreign, "not its own"),
        (_shut_down, "it was shut down"),
        (_interrupted, "a migration of it was interrupted"),
        (_moving, "a migration of it was interrupted"),
        (_unfinished, "still waits for install"),
        (_without_os, "its OS has not been written to the end"),
    ],
)
def test_what_is_not_provably_its_own_is_left_alone_and_said(machine: Machine, hurt: Any, reason: str) -> None:
    machine.has("web1")
    machine.has("web2")
    hurt(machine)
    said = machine.run()
    assert not machine.runs("web1")
    assert any(line.startswith("web1: left alone: ") and reason in line for line in said), said
    assert reason in left(machine.node.files)["web1"]["reason"] and left(machine.node.files)["web1"]["remedy"]
    if hurt is not _peer_silent:
        assert machine.runs("web2"), "one bad guest does not hold up the others"
    state = machine.disks.state("web1")
    assert state is None or state.role == "Secondary", "the peer may have the disks"
    assert "web1" not in " ".join(machine.run()), "it is said once"


def test_a_peer_whose_libvirt_alone_is_silent_is_not_called_dead(machine: Machine) -> None:
    """DRBD is connected to it, so recover would refuse: what keeps libvirt from answering is to be mended."""
    machine.has("web1")
    _peer_silent(machine)
    machine.run()
    remedy = left(machine.node.files)["web1"]["remedy"]
    assert "recover" not in remedy
    assert all(word in remedy for word in ("libvirtd", "clock", "certificates", "on node2", "site.yml", "converge.yml"))


def test_after_a_failover_the_survivor_starts_it_though_the_old_domain_is_still_defined(machine: Machine) -> None:
    machine.has("web1", took_over="node2")
    _runs_there(machine)
    machine.run()
    assert not machine.runs("web1")
    _failed_over(machine)
    assert machine.run() == ["web1: started"]


def test_a_note_goes_when_the_guest_runs(machine: Machine) -> None:
    machine.has("web1")
    _disconnected(machine)
    machine.run()
    machine.disks.see("web1")
    assert machine.run() == ["web1: started"] and left(machine.node.files) == {}


def test_after_a_boot_the_peer_is_waited_for(machine: Machine) -> None:
    """Both nodes boot at once: the connection comes up while it waits."""
    machine.has("web1")
    machine.facts["uptime"] = 20.0
    _disconnected(machine)
    sleep = machine.node.clock.sleep

    def later(seconds: float) -> None:
        sleep(seconds)
        if machine.node.clock.time() > 1_000_060:
            machine.disks.see("web1")

    machine.node.clock.sleep = later
    assert machine.run() == ["web1: started"]
    assert machine.node.clock.time() < 1_000_100


def test_a_peer_that_does_not_come_back_is_not_waited_for_for_ever(machine: Machine) -> None:
    machine.has("web1")
    machine.facts["uptime"] = 20.0
    _disconnected(machine)
    (line,) = machine.run()
    assert "recover.yml with a proof starts the guest" in line
    assert machine.node.clock.time() == pytest.approx(1_000_000 + 280, abs=5)


def test_a_guest_that_dies_again_and_again_is_left_alone(machine: Machine) -> None:
    machine.has("web1")
    machine.limits["restarts"] = 2
    for _ignored in range(2):
        machine.run()
        assert machine.runs("web1")
        machine.kill("web1")
        machine.why["web1"] = "crashed"
        machine.node.clock.sleep(60)
    (line,) = machine.run()
    assert "started 2 times" in line and not machine.runs("web1")
    machine.node.clock.sleep(3600)
    assert machine.run() == ["web1: started"]
    machine.kill("web1")
    machine.facts["boot_id"] = "boot-2"
    assert machine.run() == ["web1: started"], "after a boot it counts anew"


def test_while_a_run_works_on_the_node_nothing_is_started(machine: Machine) -> None:
    machine.has("web1")
    _shut_down(machine)
    machine.run()
    noted = read_notes(machine.node.files)
    machine.why.clear()
    machine.node.lock.acquire("me@here", "r1", 120, 0)
    machine.node.lock.release(keep_lease=True)
    assert machine.run() == [] and not machine.runs("web1")
    assert read_notes(machine.node.files) == noted
    machine.node.clock.sleep(121)
    assert machine.run() == ["web1: started"]


def test_a_plain_guest_needs_no_peer(machine: Machine) -> None:
    machine.has("tool1", disk_template="plain", nodes=["node1"])
    machine.disks.known.clear()
    assert machine.run() == ["tool1: started"] and machine.asked == 0


def left_behind(machine: Machine, *names: str) -> None:
    """Replication is broken, and guests go on writing on the other node, which can still be asked."""
    for name in names:
        machine.has(name, nodes=["node2", "node1"])
        machine.hypervisor.undefine(name)
        machine.disks.see(name, connection="Connecting", peer_role="Unknown")
    machine.peer = dict.fromkeys(names, "running")


def test_a_copy_that_is_left_behind_is_marked(machine: Machine) -> None:
    left_behind(machine, "web1")
    machine.peer = {"web1": "shutoff"}
    assert machine.run() == []
    machine.peer = None
    assert machine.run() == [] and machine.disks.did == []
    machine.peer = {"web1": "running"}
    (line,) = machine.run()
    assert "web1: marked the copy here as outdated: it runs on node2" in line
    assert machine.disks.did == ["outdate web1"]
    assert machine.run() == [], "once is enough"


def test_a_copy_through_which_a_primary_without_a_disk_wrote_is_not_marked(machine: Machine) -> None:
    """Its peer's disk died, then the connection: it is the last copy that is whole."""
    left_behind(machine, "web1")
    machine.peer = {"web1": "running"}
    machine.disks.bitmap = "91D2F6B7C1A0E5A4"
    assert machine.run() == [] and machine.disks.did == []


def test_a_copy_that_does_not_tell_whether_it_went_on_is_not_marked(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_behind(machine, "web1")
    monkeypatch.setattr(machine.disks, "generations", lambda *_args: "")
    (line,) = machine.run()
    assert line.startswith("web1: the copy here may be stale and could not be marked") and machine.disks.did == []


def _run_at_work(machine: Machine, _monkeypatch: pytest.MonkeyPatch) -> None:
    machine.node.lock.acquire("ann@here", "r1", 120, 0)
    machine.node.lock.release(keep_lease=True)


def _silent_libvirt(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent() -> None:
        raise NoAnswer("qemu:///system", 90)

    monkeypatch.setattr(machine, "domains", silent)


def _full(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    machine.has("db1")
    machine.disks.see("db1", connection="Connecting", peer_role="Unknown", disk="Inconsistent")
    monkeypatch.setattr(machine.node.files, "write", write)


def _damaged_notes(machine: Machine, _monkeypatch: pytest.MonkeyPatch) -> None:
    machine.node.files.write("/var/lib/twofold/power_back.json", "{")


def _damaged_definition(machine: Machine, _monkeypatch: pytest.MonkeyPatch) -> None:
    machine.node.files.write(_definitions.path("aaa"), "{")
    machine.disks.see("aaa", connection="Connecting", peer_role="Unknown")


def _damaged_lock(machine: Machine, _monkeypatch: pytest.MonkeyPatch) -> None:
    machine.node.files.write("/run/twofold/lock.json", "{")


HINDRANCES = (_run_at_work, _silent_libvirt, _full, _damaged_notes, _damaged_definition, _damaged_lock)


@pytest.mark.parametrize("hinder", HINDRANCES)
def test_what_holds_up_guests_holds_up_no_mark(machine: Machine, monkeypatch: pytest.MonkeyPatch, hinder: Any) -> None:
    left_behind(machine, "web1")
    hinder(machine, monkeypatch)
    with suppress(TwofoldError, OSError):
        machine.run()
    assert machine.disks.did == ["outdate web1"]


def test_a_copy_that_cannot_be_marked_holds_up_no_other_and_no_guest(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_behind(machine, "aaa", "web1")
    machine.has("mine")
    outdate = machine.disks.outdate

    def refuse(name: str) -> None:
        if name == "aaa":
            raise TwofoldError("State change was refused")
        outdate(name)

    monkeypatch.setattr(machine.disks, "outdate", refuse)
    failed, marked, started = machine.run()
    assert failed == "aaa: the copy here may be stale and could not be marked as outdated: State change was refused"
    assert marked.startswith("web1: marked the copy here as outdated") and started == "mine: started"


def test_guests_start_though_drbd_cannot_be_asked_for_stale_copies(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang() -> None:
        raise TwofoldError("drbdsetup did not end")

    machine.has("tool1", disk_template="plain", nodes=["node1"])
    monkeypatch.setattr(machine.disks, "states", hang)
    assert machine.run() == ["stale copies could not be looked for: drbdsetup did not end", "tool1: started"]


def test_a_copy_is_marked_while_guests_are_waited_for_after_a_boot(machine: Machine) -> None:
    machine.has("slow")
    _peer_silent(machine)
    machine.facts["uptime"] = 20.0
    sleep = machine.node.clock.sleep
    began = machine.node.clock.time()
    marked: list[float] = []

    def later(seconds: float) -> None:
        sleep(seconds)
        if machine.disks.did and not marked:
            marked.append(machine.node.clock.time())
        elif not marked and machine.node.clock.time() > began + 30:
            left_behind(machine, "web1")

    machine.disks.see("slow", disk="Inconsistent")
    machine.node.clock.sleep = later
    machine.run()
    assert marked[0] < began + 60


def test_a_copy_is_marked_while_many_guests_are_started(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.limits.update(starts_at_once=1, start_delay=20)
    for name in ("first", "g1", "g2", "g3", "g4"):
        machine.has(name, priority=90 if name == "first" else 50)
    meanwhile(machine, monkeypatch, lambda: left_behind(machine, "web1"))
    machine.run()
    marked = machine.disks.did.index("outdate web1")
    assert machine.disks.did.index("primary g1") < marked < machine.disks.did.index("primary g4")


def test_what_happened_before_a_failure_is_said_too(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left_behind(machine, "web1")
    _full(machine, monkeypatch)
    settings = Settings("node1", {"node2": [PEER]}, **machine.limits)
    monkeypatch.setattr(_power_back, "read_settings", lambda _files: settings)
    monkeypatch.setattr(_power_back, "idle", lambda *_args: False)
    monkeypatch.setattr(_node, "this_node", lambda: machine.node)
    monkeypatch.setattr(_libvirt, "Libvirt", lambda _clock: machine)
    assert _power_back.main() == 1
    said = capsys.readouterr().out
    assert "web1: marked the copy here as outdated" in said and "No space left on device" in said


def test_a_damaged_note_is_no_reason_not_to_look(machine: Machine) -> None:
    machine.node.files.write(
        "/proc/drbd", "version: 8.4.11\n\n 5: cs:WFConnection ro:Secondary/Unknown ds:a/b C r-----\n"
    )
    machine.node.files.write("/var/lib/twofold/power_back.json", "{")
    assert not _power_back.idle(machine.node.files, Settings("node1", {}, **machine.limits), lambda _name: True)


def test_before_the_reboot_of_its_node_no_guest_is_started_and_after_it_those_that_are_its_own(
    machine: Machine,
) -> None:
    """Which are left there? Those that died before they were moved, and those whose move failed."""
    machine.has("web1")
    note = {"format": 1, "node": "node1", "boot": "boot-1", "holder": "ann@here", "time": 0.0}
    write_json(machine.node.files, _maintenance.NOTE, note)
    (line,) = machine.run()
    assert "about to be rebooted by ann@here" in line and "undrain.yml -e node=node1" in line
    assert not machine.runs("web1") and machine.disks.did == [] and read_notes(machine.node.files).get("starts") is None
    machine.facts["boot_id"] = "boot-2"
    assert machine.run() == ["web1: started"] and left(machine.node.files) == {}


@pytest.mark.parametrize("more", [{"role": "Primary"}, {"connection": "Connected"}, {"disk": "Inconsistent"}])
def test_other_copies_are_not_marked(machine: Machine, more: dict[str, str]) -> None:
    machine.has("web1", nodes=["node2", "node1"])
    machine.disks.see("web1", **{"connection": "Connecting", "peer_role": "Unknown", **more})
    machine.peer = {"web1": "running"}
    assert machine.run() == [] and machine.disks.did == []


@pytest.mark.parametrize(
    ("text", "apart"),
    [
        ("version: 8.4.11 (api:1/proto:86-101)\n", False),
        ("version: 8.4.11\n\n1000: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n", False),
        ("version: 8.4.11\n\n 5: cs:WFConnection ro:Secondary/Unknown ds:UpToDate/DUnknown C r-----\n", True),
        ("version: 8.4.11\n\n 5: cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C r-----\n", False),
        ("version: 9.2.4 (api:2/proto:86-121)\n", True),
    ],
)
def test_whether_disks_are_apart_costs_a_look_at_a_file(node: BenchNode, text: str, apart: bool) -> None:
    assert not _power_back.apart(node.files)
    node.files.write("/proc/drbd", text)
    assert _power_back.apart(node.files) == apart


def test_when_all_is_well_libvirt_is_not_asked(machine: Machine) -> None:
    settings = Settings("node1", {}, **machine.limits)
    machine.has("web1")
    assert _power_back.idle(machine.node.files, settings, lambda name: name == "web1")
    assert not _power_back.idle(machine.node.files, settings, lambda name: False)
    _shut_down(machine)
    machine.run()
    assert not _power_back.idle(machine.node.files, settings, lambda name: True), "a note is to be cleared"


def test_settings_are_those_that_the_role_writes(node: BenchNode) -> None:
    from twofold import nodeconfig

    with pytest.raises(TwofoldError, match=r"bootstrap\.yml"):
        _power_back.read_settings(node.files)
    members = [nodeconfig.read_member(name, {"ansible_host": ip}) for name, ip in
               (("node1", "192.0.2.1"), ("node2", "2001:db8::2"))]  # fmt: skip
    wanted = nodeconfig.wanted(nodeconfig.read_settings("node1", {"power_back_restarts": 5}), members[0], members, None)
    text = next(item["content"] for item in wanted["items"] if item.get("path") == _power_back.CONFIG)
    node.files.write(_power_back.CONFIG, text)
    found = _power_back.read_settings(node.files)
    assert found == Settings("node1", {"node2": ["qemu+tls://[2001:db8::2]/system"]}, 5, 10, 10)
    assert json.loads(text)["format"] == 1


def test_a_peer_whose_libvirt_hangs_is_asked_at_one_address_alone() -> None:
    asked = []

    def hang(uri: str) -> None:
        asked.append(uri)
        raise NoAnswer(uri, 60)

    addresses = {"node2": ["qemu+tls://192.0.2.12/system", "qemu+tls://198.51.100.12/system"]}
    watched: Any = SimpleNamespace(domains_at=hang)
    assert Peers(watched, Settings("node1", addresses, 3, 2, 5)).domains("node2") is None
    assert asked == addresses["node2"][:1]
