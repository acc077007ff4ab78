# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's side: what is compared and written, in a directory that stands for the root of a machine."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import (
    _addresses as own_addresses,
)
from ansible_collections.twofold.cluster.plugins.module_utils import (
    _config_files as files,
)
from ansible_collections.twofold.cluster.plugins.module_utils import (
    _config_host as hosts,
)
from ansible_collections.twofold.cluster.plugins.module_utils import (
    _config_library as library,
)
from ansible_collections.twofold.cluster.plugins.module_utils import (
    _config_network as network,
)
from ansible_collections.twofold.cluster.plugins.module_utils import (
    _config_preflight as preflight,
)
from ansible_collections.twofold.cluster.plugins.module_utils import (
    _config_probe as probe,
)
from ansible_collections.twofold.cluster.plugins.module_utils import (
    _config_storage as storage,
)
from ansible_collections.twofold.cluster.plugins.module_utils import (
    _config_system as system,
)
from ansible_collections.twofold.cluster.plugins.module_utils._errors import Refused, TwofoldError
from ansible_collections.twofold.cluster.plugins.module_utils._runner import Result

from twofold import pki

Answers = dict[str, str | Callable[[list[str]], str]]


class FakeRunner:
    """Answers commands by their first words, and keeps what would have changed something."""

    def __init__(self, answers: Answers | None = None) -> None:
        self.answers = answers or {}
        self.changes: list[str] = []
        self.failing: set[str] = set()

    def run(self, argv: list[str], *, mutates: bool, check: bool = True, **_more: Any) -> Result:
        line = " ".join(argv)
        if mutates:
            self.changes.append(line)
        code = 1 if any(line.startswith(start) for start in self.failing) else 0
        for start, answer in self.answers.items():
            if line.startswith(start):
                return Result(argv, code, answer if isinstance(answer, str) else answer(argv), "")
        return Result(argv, code, "", "")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("etc", "proc/net", "sys/class/net", "run/twofold"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def host(root: Path, runner: FakeRunner) -> hosts.Host:
    return hosts.Host(runner, str(root))


def settle(item: Any, host: hosts.Host, secrets: dict[str, Any] | None = None) -> list[hosts.Change]:
    """Apply what differs and return it; after that nothing differs."""
    changes: list[hosts.Change] = item.changes(host)
    item.apply(host, secrets or {})
    assert item.changes(host) == []
    return changes


class TestFiles:
    ITEM = {"kind": "file", "path": "/etc/a.conf", "content": "# Written by Twofold\na = 1\n", "mode": "0640"}

    def test_a_missing_file_is_written(self, host: hosts.Host, root: Path) -> None:
        assert [change.message for change in settle(files.FileItem(self.ITEM), host)] == ["is missing"]
        assert (root / "etc/a.conf").stat().st_mode & 0o777 == 0o640
        assert os.listdir(root / "etc") == ["a.conf"]

    def test_what_was_there_is_kept_once(self, host: hosts.Host, root: Path) -> None:
        (root / "etc/a.conf").write_text("theirs\n")
        assert [change.message for change in settle(files.FileItem(self.ITEM), host)] == ["has other contents"]
        assert (root / "etc/a.conf.before-twofold").read_text() == "theirs\n"
        (root / "etc/a.conf").write_text("# Written by Twofold\nchanged by hand\n")
        settle(files.FileItem(self.ITEM), host)
        assert (root / "etc/a.conf.before-twofold").read_text() == "theirs\n"

    def test_a_wrong_mode_is_put_right(self, host: hosts.Host, root: Path) -> None:
        settle(files.FileItem(self.ITEM), host)
        (root / "etc/a.conf").chmod(0o666)
        assert "has mode 0666, not 0640" in settle(files.FileItem(self.ITEM), host)[0].message

    def test_a_difference_shows_neither_comments_nor_passwords(self, host: hosts.Host, root: Path) -> None:
        (root / "etc/a.conf").write_text('# much\n\n#more\nvnc_password = "hunter2"\nb = 2\n')
        shown = files.FileItem(self.ITEM).changes(host)[0].diff
        assert shown is not None
        assert shown["before"] == "vnc_password = @SECRET@\nb = 2\n"

    @pytest.mark.parametrize(
        "before",
        [
            "127.0.0.1 localhost\n",
            "127.0.0.1 localhost",
            "",
            "a\n# BEGIN twofold\nold\n# END twofold\nb\n",
            "# BEGIN twofold\n# END twofold\n",
        ],
    )
    def test_a_block_leaves_the_rest_alone(self, host: hosts.Host, root: Path, before: str) -> None:
        (root / "etc/hosts").write_text(before)
        (root / "etc/hosts").chmod(0o604)
        settle(files.BlockItem({"path": "/etc/hosts", "content": "192.0.2.1 node1\n"}), host)
        text = (root / "etc/hosts").read_text()
        assert text.count("# BEGIN twofold\n192.0.2.1 node1\n# END twofold\n") == 1
        rest = files.outside_block(before)
        assert files.outside_block(text) == rest + ("\n" if rest and not rest.endswith("\n") else "")
        assert (root / "etc/hosts").stat().st_mode & 0o777 == 0o604

    def test_directories(self, host: hosts.Host, root: Path) -> None:
        item = files.DirectoryItem({"path": "/var/lib/x", "mode": "0711"})
        assert settle(item, host)[0].message == "is missing"
        (root / "var/lib/x").chmod(0o755)
        assert settle(item, host)[0].message == "has mode 0755, not 0711"


class TestCredentials:
    @pytest.fixture
    def pair(self) -> dict[str, str]:
        return self.issue()

    @staticmethod
    def issue() -> dict[str, str]:
        authority = pki.load_authority(pki.create_authority("lab", datetime.now(UTC)))
        made = pki.issue(authority, pki.Subject("node1", None, ("node1",), ()), datetime.now(UTC))
        return {"certificate": made.certificate, "key": made.key}

    @pytest.fixture
    def item(self) -> files.CredentialItem:
        paths = {"certificates": ["/etc/s.pem", "/etc/c.pem"], "keys": ["/etc/private/s.key", "/etc/private/c.key"]}
        return files.CredentialItem({"name": "libvirt", "group": "root", "mode": "0600", **paths})

    def test_it_is_missing_then_there(
        self, host: hosts.Host, root: Path, item: files.CredentialItem, pair: dict[str, str]
    ) -> None:
        assert item.state(host) == {"certificate": None, "problem": "/etc/s.pem is missing"}
        settle(item, host, {"libvirt": pair})
        assert item.state(host) == {"certificate": pair["certificate"], "problem": None}
        assert [(root / path).stat().st_mode & 0o777 for path in ("etc/private/s.key", "etc/s.pem")] == [0o600, 0o644]

    def test_a_key_of_another_certificate_is_found(
        self, host: hosts.Host, root: Path, item: files.CredentialItem, pair: dict[str, str]
    ) -> None:
        settle(item, host, {"libvirt": pair})
        (root / "etc/private/c.key").write_text(self.issue()["key"])
        assert item.state(host)["problem"] == "/etc/private/c.key does not belong to /etc/s.pem"
        (root / "etc/private/c.key").unlink()
        assert item.state(host)["problem"] == "/etc/private/c.key is missing"

    def test_copies_that_differ_are_found(
        self, host: hosts.Host, root: Path, item: files.CredentialItem, pair: dict[str, str]
    ) -> None:
        settle(item, host, {"libvirt": pair})
        (root / "etc/c.pem").write_text(self.issue()["certificate"])
        assert item.state(host)["problem"] == "/etc/c.pem is not the same as /etc/s.pem"

    def test_a_key_that_others_can_read_is_closed(
        self, host: hosts.Host, root: Path, item: files.CredentialItem, pair: dict[str, str]
    ) -> None:
        settle(item, host, {"libvirt": pair})
        (root / "etc/private/s.key").chmod(0o644)
        assert [change.message for change in settle(item, host)] == ["has mode 0644, not 0600"]


def unit_block(since: str = "", active: bool = True, enabled: bool = True, reload: bool = False) -> str:
    return "\n".join(
        [
            "Id=x",
            "LoadState=loaded",
            f"ActiveState={'active' if active else 'inactive'}",
            f"UnitFileState={'enabled' if enabled else 'disabled'}",
            f"NeedDaemonReload={'yes' if reload else 'no'}",
            f"ActiveEnterTimestamp={since}",
        ]
    )


class TestUnits:
    SINCE = "Fri 2026-01-02 03:04:05.500000 UTC"
    SECONDS = datetime(2026, 1, 2, 3, 4, 5, 500000, UTC).timestamp()
    UNIT = {
        "name": "d.service",
        "enabled": True,
        "active": True,
        "restart_after": ["/etc/d.conf"],
        "refresh_after": ["/etc/d.pem"],
        "refresh": ["refresh", "d"],
    }

    def item(self, **more: Any) -> system.UnitsItem:
        return system.UnitsItem({"units": [{**self.UNIT, **more}]})

    def touch(self, root: Path, name: str, seconds: float) -> None:
        (root / name).write_text("x")
        os.utime(root / name, (seconds, seconds))

    def test_times(self) -> None:
        assert hosts.parse_time(self.SINCE) == self.SECONDS
        assert hosts.parse_time("n/a") is hosts.parse_time("") is None

    def test_nothing_to_do(self, host: hosts.Host, runner: FakeRunner, root: Path) -> None:
        runner.answers["systemctl show"] = unit_block(self.SINCE)
        self.touch(root, "etc/d.conf", self.SECONDS - 1)
        self.touch(root, "etc/d.pem", self.SECONDS - 1)
        assert self.item().changes(host) == []
        self.item().apply(host, {})
        assert runner.changes == []

    def test_a_newer_file_restarts_it_once(self, host: hosts.Host, runner: FakeRunner, root: Path) -> None:
        """Even if the clock is set back, so that the file is newer than the start that read it."""
        runner.answers["systemctl show"] = unit_block(self.SINCE)
        self.touch(root, "etc/d.conf", self.SECONDS + 1)
        assert "runs since before /etc/d.conf was written" in self.item().changes(host)[0].message
        self.item().apply(host, {})
        assert "systemctl restart -- d.service" in runner.changes
        assert self.item().changes(host) == []

    def test_a_newer_certificate_refreshes_it_without_a_restart(
        self, host: hosts.Host, runner: FakeRunner, root: Path
    ) -> None:
        runner.answers["systemctl show"] = unit_block(self.SINCE)
        self.touch(root, "etc/d.pem", self.SECONDS + 1)
        self.item().apply(host, {})
        assert runner.changes == ["refresh d"]
        assert self.item().changes(host) == []

    def test_a_refresh_that_fails_restarts_it(self, host: hosts.Host, runner: FakeRunner, root: Path) -> None:
        runner.answers["systemctl show"] = unit_block(self.SINCE)
        runner.failing = {"refresh"}
        self.touch(root, "etc/d.pem", self.SECONDS + 1)
        self.item().apply(host, {})
        assert "systemctl restart -- d.service" in runner.changes

    def test_units_are_enabled_together(self, host: hosts.Host, runner: FakeRunner) -> None:
        blocks = [unit_block(enabled=False, reload=True)] * 2
        runner.answers["systemctl show"] = "\n\n".join(blocks)
        item = system.UnitsItem(
            {"units": [{"name": "a.service", "enabled": True}, {"name": "b.service", "enabled": True}]}
        )
        assert len(item.changes(host)) == 4
        item.apply(host, {})
        assert runner.changes == ["systemctl --quiet enable -- a.service b.service"]

    def test_a_service_makes_way_for_its_socket(self, host: hosts.Host, runner: FakeRunner) -> None:
        runner.answers["systemctl show"] = unit_block(active=False)
        item = system.UnitsItem(
            {"units": [{"name": "d.socket", "enabled": True, "active": True, "stop_first": ["d.service"]}]}
        )
        item.apply(host, {})
        assert [line for line in runner.changes if "reset-failed" not in line] == [
            "systemctl --quiet stop -- d.service",
            "systemctl start -- d.socket",
        ]

    def test_a_unit_that_does_not_start_says_why(self, host: hosts.Host, runner: FakeRunner) -> None:
        runner.answers = {"systemctl show": unit_block(active=False), "journalctl": "no such certificate\n"}
        runner.failing = {"systemctl start"}
        with pytest.raises(TwofoldError, match="no such certificate"):
            self.item().apply(host, {})


class TestSystem:
    def test_packages(self, host: hosts.Host, runner: FakeRunner, root: Path) -> None:
        runner.answers["dpkg-query"] = "lvm2\tinstalled\t2.03\nnftables\tunpacked\t1.0\n"
        item = system.PackagesItem({"names": ["lvm2", "nftables", "xorriso"], "by_architecture": {}})
        assert item.changes(host)[0].message == "nftables, xorriso are not installed"
        folder = root / system.SOCKETS[0].lstrip("/")
        folder.mkdir(parents=True)
        (folder / "old.socket").touch()

        def install(argv: list[str]) -> str:
            if "install" in argv:
                (folder / "new.socket").touch()
            return ""

        runner.answers["apt-get"] = install
        item.apply(host, {})
        assert runner.changes[0].startswith("dpkg --force-confold --configure -a")
        assert runner.changes[2].endswith("install --no-install-recommends -- nftables xorriso")
        assert runner.changes[3:] == ["systemctl daemon-reload", "systemctl start -- new.socket"]

    def test_reserved_ports_of_others_stay(self, host: hosts.Host, root: Path) -> None:
        path = root / system.RESERVED.lstrip("/")
        path.parent.mkdir(parents=True)
        path.write_text("8080,9000-9005\n")
        settle(system.ReservedPortsItem({"ports": ["16514", "7100-7102"]}), host)
        assert system.port_set(path.read_text().strip()) == {8080, *range(9000, 9006), 16514, 7100, 7101, 7102}

    def test_modules(self, host: hosts.Host, root: Path, runner: FakeRunner) -> None:
        folder = root / f"lib/modules/{os.uname().release}"
        folder.mkdir(parents=True)
        (folder / "modules.dep").write_text("kernel/drivers/block/drbd/drbd.ko.xz: kernel/lib/lru.ko\n")
        (folder / "modules.builtin").write_text("kernel/drivers/md/dm-mod.ko\n")
        (root / "sys/module/tun").mkdir(parents=True)
        item = system.ModulesItem({"names": ["drbd", "dm_mod", "tun"], "kvm": False})
        assert [change.object for change in item.changes(host)] == ["kernel module drbd"]
        item.apply(host, {})
        assert runner.changes == ["modprobe -- drbd"]
        wanted = {"modules": ["drbd", "dm_mod", "tun", "vhost_net"]}
        found = [(problem.code, problem.object) for problem in preflight.kernel_modules(host, wanted)]
        assert found == [("kernel", "kernel module vhost_net")]

    def test_a_kernel_whose_modules_are_gone_needs_a_reboot(self, host: hosts.Host) -> None:
        found = list(preflight.kernel_modules(host, {"modules": ["drbd"]}))
        assert len(found) == 1 and "reboot" in found[0].remedy


class TestPreflight:
    def test_versions_are_compared_as_dpkg_does(self) -> None:
        versions = [
            "9.0.0-4+deb12u2",
            "11.3.0-3",
            "1:7.2",
            "1:10.0.2",
            "9.22.0-1",
            "9.22.0~rc1",
            "2.03.16-2",
            "2.03.31-1",
        ]
        versions += ["9.22", "9.22.0", "1.0", "1.0a", "1.0+b", "1.0~"]
        for one, other in itertools.permutations(versions, 2):
            judged = subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=False).returncode == 0
            assert (preflight.version_key(one) < preflight.version_key(other)) == judged, (one, other)

    def test_releases(self, host: hosts.Host, root: Path) -> None:
        wanted = {"releases": {"debian": ["12", "13"]}, "architectures": [os.uname().machine]}
        (root / "run/systemd/system").mkdir(parents=True)
        (root / "etc/os-release").write_text('ID=debian\nVERSION_ID="13"\n')
        assert list(preflight.release(host, wanted)) == []
        (root / "etc/os-release").write_text('ID=fedora\nVERSION_ID="44"\n')
        found = [(problem.code, problem.message) for problem in preflight.release(host, wanted)]
        assert found == [("release", "fedora 44 is not supported")]

    def test_a_package_that_is_too_old(self, host: hosts.Host, runner: FakeRunner) -> None:
        wanted = {"versions": {"drbd-utils": "9.22.0"}}
        runner.answers["dpkg-query"] = "drbd-utils\tinstalled\t9.15.0-1\n"
        found = list(preflight.versions(host, wanted))
        assert [(problem.code, problem.object) for problem in found] == [("version", "package drbd-utils")]
        assert "9.15.0-1 is too old" in found[0].message and "9.22.0 or later" in found[0].remedy

    def test_hosts_that_contradict_the_inventory(self, host: hosts.Host, root: Path) -> None:
        (root / "etc/hosts").write_text(
            "127.0.1.1 node1\n192.0.2.9 node2 node2.example.com # moved\n192.0.2.3 node3\n"
            "# BEGIN twofold\n192.0.2.99 node3\n# END twofold\n"
        )
        wanted = {"names": {}, "hosts": {"node2": "192.0.2.2", "node3": "192.0.2.3"}}
        found = [(problem.code, problem.object) for problem in preflight.names(host, wanted)]
        assert found == [("name", "name node2")]

    def test_ports_of_others(self, host: hosts.Host, root: Path) -> None:
        def row(port: int, inode: int, state: str = "0A") -> str:
            times = "00000000:00000000 00:00000000 00000000"
            return f"   0: 00000000:{port:04X} 00000000:0000 {state} {times}  0  0 {inode} 1"

        rows = [row(16514, 1), row(7100, 2), row(7101, 3), row(49152, 4), row(7102, 5, "01"), row(22, 6)]
        (root / "proc/net/tcp").write_text("\n".join(["  sl ...", *rows]) + "\n")
        (root / "proc/net/tcp6").write_text("  sl ...\n")
        for pid, (name, inode) in {1: ("systemd", 1), 8: ("nginx", 3), 9: ("qemu-system-x86", 4)}.items():
            (root / f"proc/{pid}/fd").mkdir(parents=True)
            (root / f"proc/{pid}/comm").write_text(f"{name}\n")
            (root / f"proc/{pid}/fd/3").symlink_to(f"socket:[{inode}]")
        uses = [("libvirt", 16514, 16514, ["libvirtd", "systemd"]), ("replication", 7100, 7199, [])]
        uses.append(("migration", 49152, 49215, ["qemu"]))
        wanted = [{"use": use, "first": first, "last": last, "owners": owners} for use, first, last, owners in uses]
        found = list(preflight.ports(host, {"ports": wanted}))
        assert [(problem.code, problem.object) for problem in found] == [("port", "TCP port 7101")]
        assert "nginx" in found[0].message

    def test_a_filter_of_the_admins_is_not_overridden_silently(
        self, host: hosts.Host, root: Path, runner: FakeRunner
    ) -> None:
        (root / "etc/lvm").mkdir()
        (root / "etc/lvm/lvm.conf").write_text('devices {\n\t# global_filter = []\n\tglobal_filter = [ "a|.*|" ]\n}\n')
        found = list(preflight.volume_group(host, {"volume_group": "vg", "devices": ["/dev/x"]}))
        assert [problem.code for problem in found] == ["lvm"]


class TestProbe:
    def test_checksums_are_right(self) -> None:
        packet = probe.echo_request(4, 7, 2, 1500)
        assert len(packet) == 1500 - 20
        assert probe.checksum(packet) == 0

    def test_replies_of_others_are_not_ours(self) -> None:
        body = b"\0\0\0\0\0\7\0\2"
        reply = b"\x45" + bytes(19) + body
        assert probe.parse_reply(4, reply, 7) == 2
        assert probe.parse_reply(4, reply, 8) is None
        assert probe.parse_reply(4, b"", 7) is None
        assert probe.parse_reply(6, b"\x81" + body[1:], 7) == 2

    def test_what_is_local(self) -> None:
        assert probe.local("127.0.0.1")
        assert not probe.local("192.0.2.254")

    @pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need root")
    def test_this_machine_answers_itself(self) -> None:
        assert probe.Prober("127.0.0.1", 1500).probe(["127.0.0.1"]) == {"127.0.0.1": probe.ANSWERS}
        assert probe.Prober("127.0.0.1", 65535).probe(["127.0.0.1"])["127.0.0.1"] in (probe.ANSWERS, probe.TOO_BIG)
        with pytest.raises(probe.NoAddress):
            probe.Prober("192.0.2.254", 1500)

    def test_addresses_of_interfaces(self) -> None:
        assert ("lo", "127.0.0.1") in own_addresses.ipv4_addresses()


class TestVolumeGroup:
    @pytest.fixture
    def item(self) -> storage.VolumeGroupItem:
        return storage.VolumeGroupItem({"name": "vg", "devices": ["/dev/a", "/dev/b"], "wipe": ["/dev/b"], "tag": "t"})

    @pytest.fixture
    def disks(self, monkeypatch: pytest.MonkeyPatch, runner: FakeRunner) -> dict[str, str]:
        """What each device is; LVM knows those that are ours."""
        states = {"/dev/a": storage.FREE, "/dev/b": storage.DATA}
        runner.answers["dpkg-query"] = "lvm2\tinstalled\t2\n"
        runner.answers["pvs"] = '{"report": [{"pv": []}]}'

        def examine(host: Any, path: str, group: str, groups: storage.Groups) -> storage.Disk:
            return storage.Disk(path, states[path], f"is {states[path]}", "remedy")

        monkeypatch.setattr(storage, "examine", examine)
        return states

    def test_it_is_made(
        self, item: storage.VolumeGroupItem, host: hosts.Host, runner: FakeRunner, disks: dict[str, str]
    ) -> None:
        assert item.problems(host) == []
        assert [change.message for change in item.changes(host)] == [
            "is made on /dev/a",
            "is made on /dev/b, whose data is destroyed (is data)",
        ]
        item.apply(host, {})
        assert runner.changes[0] == "wipefs --all --force /dev/b"
        assert runner.changes[-1] == "vgcreate --quiet --addtag t vg /dev/a /dev/b"

    def test_it_is_extended_and_tagged(
        self, item: storage.VolumeGroupItem, host: hosts.Host, runner: FakeRunner, disks: dict[str, str]
    ) -> None:
        disks["/dev/a"] = storage.OURS
        runner.answers["pvs"] = '{"report": [{"pv": [{"pv_name": "/dev/a", "vg_name": "vg", "vg_tags": "x"}]}]}'
        item.apply(host, {})
        assert runner.changes[-2:] == ["vgextend --quiet vg /dev/b", "vgchange --quiet --addtag t vg"]

    @pytest.mark.parametrize(("path", "state"), [("/dev/a", storage.DATA), ("/dev/b", storage.UNUSABLE)])
    def test_data_is_not_touched(
        self, item: storage.VolumeGroupItem, host: hosts.Host, disks: dict[str, str], path: str, state: str
    ) -> None:
        disks[path] = state
        assert [problem.object for problem in item.problems(host)] == [f"disk {path}"]
        with pytest.raises(Refused):
            item.apply(host, {})
        assert isinstance(host.runner, FakeRunner) and host.runner.changes == []

    def test_a_missing_disk_is_a_problem(
        self, item: storage.VolumeGroupItem, host: hosts.Host, runner: FakeRunner, disks: dict[str, str]
    ) -> None:
        runner.answers["pvs"] = '{"report": [{"pv": [{"pv_name": "[unknown]", "vg_name": "vg", "vg_tags": "t"}]}]}'
        assert [problem.message for problem in item.problems(host)] == ["one of its disks is missing"]

    def test_devices_that_are_none(self, host: hosts.Host, tmp_path: Path) -> None:
        groups = storage.Groups({}, {})
        assert storage.examine(host, "/dev/does-not-exist", "vg", groups).state == storage.UNUSABLE
        (tmp_path / "file").write_text("x")
        assert "not a block device" in storage.examine(host, str(tmp_path / "file"), "vg", groups).what


class TestFirewall:
    ITEM = {"table": "inet twofold", "path": "/etc/f.nft", "content": "table inet twofold {}\n"}

    def test_rules_are_compared_with_what_nft_makes_of_the_file(self, host: hosts.Host, runner: FakeRunner) -> None:
        item = network.FirewallItem(self.ITEM)
        assert [change.message for change in item.changes(host)] == ["is not loaded"]
        runner.answers = {"dpkg-query": "nftables\tinstalled\t1\n", "nft --stateless": "one\n", "unshare": "one\n"}
        host.forget_packages()
        assert item.changes(host) == []
        runner.answers["nft --stateless"] = "two\n"
        assert [change.message for change in item.changes(host)] == ["has other rules"]
        runner.failing = {"nft --stateless"}
        assert [change.message for change in item.changes(host)] == ["is not loaded"]


class TestGone:
    ITEM = {"kind": "gone", "path": "/etc/twofold.sh"}

    def test_a_file_of_an_older_version_goes(self, host: hosts.Host, root: Path) -> None:
        (root / "etc/twofold.sh").write_text("#!/bin/sh\n# Written by Twofold\nold\n")
        (change,) = settle(files.GoneItem(self.ITEM), host)
        assert (change.object, change.message) == ("file /etc/twofold.sh", "is of an older version")
        assert change.diff is not None and "old\n" in change.diff["before"] and change.diff["after"] == ""
        assert not (root / "etc/twofold.sh").exists()

    def test_a_file_of_somebody_else_stays(self, host: hosts.Host, root: Path) -> None:
        (root / "etc/twofold.sh").write_text("mine\n")
        assert files.GoneItem(self.ITEM).changes(host) == []


class TestLibrary:
    ITEM = {"kind": "library", "path": "/usr/local/lib/twofold/twofold_node"}

    def test_it_is_a_copy_that_runs_without_anything_else(self, host: hosts.Host, root: Path) -> None:
        assert [change.message for change in settle(library.LibraryItem(self.ITEM), host)] == ["is missing"]
        folder = str(root / "usr/local/lib/twofold")

        def run(module: str) -> str:
            program = (
                f"import sys; sys.path.insert(0, {folder!r}); from twofold_node.{module} import main; print(main())"
            )
            return subprocess.run(["python3", "-I", "-c", program], capture_output=True, text=True, check=True).stdout

        said = run("_power_back")
        assert said.splitlines()[-1] == "1" and "power_back.json is missing" in said
        assert run("_bring_up") == "0\n", "this machine has no resource"

    def test_another_version_is_replaced_as_a_whole(self, host: hosts.Host, root: Path) -> None:
        settle(library.LibraryItem(self.ITEM), host)
        folder = root / "usr/local/lib/twofold/twofold_node"
        (folder / "_power_back.py").write_text("old")
        (folder / "_gone.py").write_text("of an older version")
        changes = settle(library.LibraryItem(self.ITEM), host)
        assert [change.message for change in changes] == ["is of another version"]
        assert not (folder / "_gone.py").exists() and (folder / "__init__.py").read_text() == ""
