# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is observed: DRBD that is only just being brought up after a boot, certificates, locks, kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _addresses, _observe
from ansible_collections.twofold.cluster.plugins.module_utils._drbd import Configuration, DiskState, ResourceState
from ansible_collections.twofold.cluster.plugins.module_utils._errors import TimedOut
from ansible_collections.twofold.cluster.plugins.module_utils._host import SystemHost, kernels
from ansible_collections.twofold.cluster.plugins.module_utils._runner import Result
from tests.unit.plugins.module_utils.conftest import BenchNode


class Booting:
    """A kernel that gets its resource in steps, one each time that somebody waits."""

    def __init__(self, node: BenchNode, *connections: str) -> None:
        self.clock: Any = node.clock
        self.born = node.clock.monotonic()
        self.connections = connections

    def configurations(self) -> dict[str, Configuration]:
        return {"web1": Configuration('resource "web1" {}', None)}

    def states(self) -> dict[str, ResourceState]:
        connection = self.connections[min(int((self.clock.now - self.born) * 10), len(self.connections) - 1)]
        if connection == "down":
            return {}
        volumes = (DiskState(0, 1000, "UpToDate", "DUnknown", None, "/dev/vg0/web1-disk0"),)
        return {"web1": ResourceState("web1", "Secondary", "Unknown", connection, {}, volumes)}

    def generations(self, name: str, volume: int) -> str:
        if volume != 0:
            raise TimedOut(f"{name}/{volume} does not answer")
        return "AAAAAAAAAAAAAAA1:1111111111111110:0:0"


class Units:
    """systemd: the unit starts for so many seconds."""

    def __init__(self, node: BenchNode, seconds: float) -> None:
        self.clock = node.clock
        self.end = node.clock.monotonic() + seconds
        self.asked = 0

    def run(self, argv: list[str], **_more: Any) -> Result:
        assert argv[:2] == ["systemctl", "show"]
        self.asked += 1
        busy = self.clock.monotonic() < self.end
        said = "ActiveState=activating\nJob=42\n" if busy else "ActiveState=active\nJob=0\n"
        return Result(argv, 0, said, "")


def prepared(node: BenchNode, seconds: float, *connections: str) -> Units:
    units = Units(node, seconds)
    made: Any = node
    made.replication = Booting(node, *connections)
    made.host = SystemHost(units, node.files)
    return units


@pytest.mark.parametrize("first", ["down", "StandAlone"])
def test_a_resource_that_a_boot_is_bringing_up_is_waited_for(node: BenchNode, first: str) -> None:
    prepared(node, 0.3, first, first, first, first, "Connecting")
    assert _observe.resources(node)["web1"]["connection"] == "Connecting"


def test_a_boot_that_ends_between_two_looks_is_noticed(node: BenchNode, monkeypatch: pytest.MonkeyPatch) -> None:
    units = prepared(node, 0.0, "StandAlone", "Connecting")
    look = units.run

    def later(argv: list[str], **more: Any) -> Result:
        node.clock.sleep(0.15)
        return look(argv, **more)

    monkeypatch.setattr(units, "run", later)
    assert _observe.resources(node)["web1"]["connection"] == "Connecting"


def test_one_that_stays_alone_is_told_as_it_is(node: BenchNode) -> None:
    units = prepared(node, 0.0, "StandAlone")
    assert _observe.resources(node)["web1"]["connection"] == "StandAlone"
    assert units.asked == 1


def test_nothing_is_asked_where_all_is_well(node: BenchNode) -> None:
    units = prepared(node, 60.0, "Connecting")
    _observe.resources(node)
    assert units.asked == 0


def test_a_boot_that_does_not_end_leaves_the_part_unknown(node: BenchNode) -> None:
    prepared(node, 1e6, "down")
    with pytest.raises(TimedOut, match="still being brought up"):
        _observe.resources(node)


def test_copies_that_are_apart_tell_their_generations(node: BenchNode) -> None:
    prepared(node, 0.0, "StandAlone")
    assert _observe.resources(node)["web1"]["volumes"][0]["uuids"] == "AAAAAAAAAAAAAAA1:1111111111111110:0:0"
    prepared(node, 0.0, "Connected")
    assert "uuids" not in _observe.resources(node)["web1"]["volumes"][0]


def test_generations_that_hang_are_not_waited_for_copy_after_copy(
    node: BenchNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(_name: str, _volume: int) -> str:
        raise TimedOut("drbdadm did not end within 30 s", "see the kernel's log")

    prepared(node, 0.0, "StandAlone")
    monkeypatch.setattr(node.replication, "generations", hang)
    with pytest.raises(TimedOut, match="drbdadm"):
        _observe.resources(node)


def test_a_snapshot_tells_whether_it_holds_what_its_origin_holds(node: BenchNode) -> None:
    node.volumes.create("vg0", "web1-disk0", 1 << 22, ["twofold", "twofold.instance=web1"])
    (origin,) = node.volumes.volumes()
    node.volumes.snapshot(origin, "web1-disk0-kept-ab", ["twofold", "twofold.kept=split-brain"])
    for content, same in (("old data", True), ("new data", False)):
        node.volumes.content[origin.device] = content
        told = _observe.observe(node, "node1")["volumes"]
        assert [one.get("unchanged") for one in told] == [None, same]


def test_certificates_are_told_once_each_with_their_files(node: BenchNode) -> None:
    node.files.write("/etc/pki/CA/cacert.pem", "authority")
    node.files.write("/etc/pki/qemu/ca-cert.pem", "authority")
    node.files.write("/etc/pki/libvirt/servercert.pem", "certificate")
    missing = ["/etc/pki/libvirt/clientcert.pem", "/etc/pki/qemu/client-cert.pem", "/etc/pki/qemu/server-cert.pem"]
    assert _observe.observe(node, "node1")["certificates"] == [
        {"paths": ["/etc/pki/CA/cacert.pem", "/etc/pki/qemu/ca-cert.pem"], "pem": "authority"},
        {"paths": missing, "pem": None},
        {"paths": ["/etc/pki/libvirt/servercert.pem"], "pem": "certificate"},
    ]


def test_a_certificate_that_is_no_text_is_told_as_it_is(node: BenchNode, tmp_path: Path) -> None:
    node.files.write("/etc/pki/CA/cacert.pem", "")
    (tmp_path / "etc/pki/CA/cacert.pem").write_bytes(b"\xff\xfe")
    told = _observe.observe(node, "node1")["certificates"][0]
    assert told["paths"] == ["/etc/pki/CA/cacert.pem"] and told["pem"].startswith("unreadable")


def test_the_lock_is_told_also_after_it_has_run_out(node: BenchNode) -> None:
    assert _observe.observe(node, "node1")["lock"] is None
    node.lock.acquire("ann@desk", "r1", 120, 0)
    node.lock.release(keep_lease=True)
    told = _observe.observe(node, "node1")["lock"]
    assert (told["holder"], told["expired"]) == ("ann@desk", False)
    node.clock.sleep(121)
    assert _observe.observe(node, "node1")["lock"]["expired"]
    assert node.lock.holder() is None, "it binds nobody"


def test_the_machine_tells_its_kernels(tmp_path: Path) -> None:
    for name in ("vmlinuz-6.12.57-amd64", "vmlinuz-6.12.48-amd64", "initrd.img-6.12.57-amd64", "config-6.12.57-amd64"):
        (tmp_path / name).touch()
    assert kernels(str(tmp_path)) == ["6.12.48-amd64", "6.12.57-amd64"]
    assert kernels(str(tmp_path / "nothing")) == []


def test_the_addresses_are_those_that_others_may_know_it_by(monkeypatch: pytest.MonkeyPatch) -> None:
    ipv4 = [("lo", "127.0.0.1"), ("eth0", "192.0.2.11"), ("eth0:1", "198.51.100.11"), ("lo", "203.0.113.1")]
    monkeypatch.setattr(_addresses, "ipv4_addresses", lambda: ipv4)
    assert set(_addresses.own_addresses()) >= {"192.0.2.11", "198.51.100.11", "203.0.113.1"}
    assert "127.0.0.1" not in _addresses.own_addresses()
    lines = [
        "00000000000000000000000000000001 01 80 10 80       lo",
        "fe800000000000000000000000000011 02 40 20 80     eth0",
        "20010db8000000000000000000000011 02 40 00 80     eth0",
    ]
    assert _addresses.ipv6_addresses(lines) == [("eth0", "2001:db8::11")]


def test_without_ipv6_there_are_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_addresses, "IPV6", str(tmp_path / "none"))
    assert all("." in address for address in _addresses.own_addresses())
