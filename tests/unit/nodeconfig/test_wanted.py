# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node needs: rendered texts, their order, and that no secret is part of the document."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.unit.needed import needed

from twofold import nodeconfig, pki

MEMBERS = [
    nodeconfig.read_member(
        f"node{number}", {"ansible_host": f"192.0.2.{number}", "twofold_replication_address": f"198.51.100.{number}"}
    )
    for number in (1, 2, 3)
]


def document(authority: str | None = None, **settings: Any) -> dict[str, Any]:
    return nodeconfig.wanted(nodeconfig.read_settings("node1", settings), MEMBERS[0], MEMBERS, authority)


def content(wanted: dict[str, Any], path: str) -> str:
    found = [item["content"] for item in wanted["items"] if item.get("path") == path and "content" in item]
    return str(found[0])


def kinds(wanted: dict[str, Any]) -> list[str]:
    return [item["kind"] for item in wanted["items"]]


def test_the_document_is_plain_json_and_the_same_every_time() -> None:
    assert json.loads(json.dumps(document())) == document()


def test_packages_come_before_what_needs_them_and_units_last() -> None:
    order = kinds(document(volume_group_devices=["/dev/vdb"]))
    assert order.index("packages") < order.index("modules") < order.index("volume_group")
    assert order[-1] == "units"


def test_libvirt_admits_the_nodes_of_the_cluster_alone() -> None:
    text = content(document(), "/etc/libvirt/libvirtd.conf")
    assert 'tls_allowed_dn_list = [ "CN=node1", "CN=node2", "CN=node3" ]' in text
    assert "listen_tcp = 0" in text and "tls_no_verify_certificate = 0" in text
    names = [nodeconfig.subjects(member)["libvirt"].distinguished_name for member in MEMBERS]
    assert names == ["CN=node1", "CN=node2", "CN=node3"]


def test_qemus_credential_does_not_open_libvirt() -> None:
    subjects = nodeconfig.subjects(MEMBERS[0])
    assert subjects["qemu"].distinguished_name == "CN=node1,OU=qemu"
    assert f'"{subjects["qemu"].distinguished_name}"' not in content(document(), "/etc/libvirt/libvirtd.conf")


def test_migrations_are_forced_to_verified_tls() -> None:
    text = content(document(migration_ports="50000-50010"), "/etc/libvirt/qemu.conf")
    for line in ("migrate_tls_force = 1", "migrate_tls_x509_verify = 1", "migration_port_min = 50000"):
        assert f"{line}\n" in text


def test_settings_of_the_user_win_and_are_quoted() -> None:
    wanted = document(qemu_settings={"security_driver": "none", "namespaces": [], "migration_port_min": 1, "a": 'x"y'})
    text = content(wanted, "/etc/libvirt/qemu.conf")
    for line in ('security_driver = "none"', "namespaces = [ ]", "migration_port_min = 1", 'a = "x\\"y"'):
        assert f"{line}\n" in text
    assert text.count("migration_port_min") == 1


def test_what_is_not_wanted_is_left_out() -> None:
    wanted = document(manage_firewall=False, manage_hosts=False)
    assert {"firewall", "volume_group", "bridge"} & set(kinds(wanted)) == set()
    assert "/etc/hosts" not in [item.get("path") for item in wanted["items"]]
    assert wanted["preflight"]["names"] == {"node2": "192.0.2.2", "node3": "192.0.2.3"}


def test_a_node_is_of_an_architecture_that_guests_are_rendered_for() -> None:
    domain = (Path(__file__).parents[1] / "lib/recorded/rendered.xml").read_text()
    (rendered,) = re.findall(r"""<type arch=['"](\w+)['"]""", domain)
    assert document()["preflight"]["architectures"] == [rendered]


def test_the_firewall_opens_before_libvirt_listens() -> None:
    names = [unit["name"] for unit in document()["items"][-1]["units"]]
    assert names.index("twofold-firewall.service") < names.index("libvirtd-tls.socket")
    assert names.index("libvirtd-tls.socket") < names.index("libvirtd.service")


def test_the_filter_hides_the_volume_group_and_drbd() -> None:
    text = content(document(volume_group="my-vg", lvm_filter=["r|^/dev/sdz|"]), "/etc/lvm/lvmlocal.conf")
    wanted = '[ "r|^/dev/drbd.*|", "r|^/dev/my-vg/.*|", "r|^/dev/mapper/my--vg-.*|", "r|^/dev/sdz|" ]'
    assert f"global_filter = {wanted}" in text


def test_nft_takes_the_firewall() -> None:
    for settings in ({}, {"drbd_ports": "7100-7100"}):
        text = content(document(**settings), "/etc/twofold/firewall.nft")
        done = subprocess.run(
            [needed("nft", "nftables"), "--check", "--file", "-"],
            input=text,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0 or "Operation not permitted" in done.stderr, done.stderr


def test_the_firewall_lets_in_an_address_that_is_kept_while_another_takes_its_place() -> None:
    variables = {"ansible_host": "192.0.2.1", "twofold_replication_address": "198.51.100.21"}
    kept = nodeconfig.read_member("node1", {**variables, "twofold_node_addresses": ["198.51.100.11"]})
    members = [kept, *MEMBERS[1:]]
    text = content(
        nodeconfig.wanted(nodeconfig.read_settings("node2", {}), members[1], members, None), "/etc/twofold/firewall.nft"
    )
    (admitted,) = re.findall(r"elements = { (.*) }", text)
    assert {"198.51.100.11", "198.51.100.21"} <= set(admitted.split(", "))


def test_the_script_is_shell() -> None:
    networks = {"lan": {"bridge": "br-lan", "interface": "eth2", "mtu": 9000}}
    wanted = document(networks=networks)
    text = content(wanted, "/etc/twofold/network.sh")
    assert text.startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)


# Keeps what it was told, and makes what the kernel would; what FAILING names it refuses.
IP = """#!/bin/sh
echo "ip $*" >> {net}.said
case "$*" in $FAILING) echo "refused: $*" >&2; exit 2;; esac
case "$*" in
    "link add name "*) mkdir -p {net}/$4/brif;;
    "link set dev "*" master "*) mkdir {net}/$6/brif/$4;;
esac
"""
# The interface eth-late comes at the third look.
SLEEP = """#!/bin/sh
echo sleep >> {net}.said
[ "$(grep -c sleep {net}.said)" -lt 3 ] || mkdir -p {net}/eth-late
"""


class Boot:
    """Runs the rendered script over a kernel that is a folder."""

    def __init__(self, directory: Path) -> None:
        self.net = directory / "net"
        self.programs = directory / "bin"
        self.programs.mkdir()
        for name, text in (("ip", IP), ("sleep", SLEEP)):
            (self.programs / name).write_text(text.format(net=self.net))
            (self.programs / name).chmod(0o755)

    def run(self, networks: dict[str, Any], failing: str = "-") -> tuple[int, str, list[str]]:
        """Return the status, what was said to stderr, and the calls of ip and sleep."""
        text = content(document(networks=networks), "/etc/twofold/network.sh").replace("/sys/class/net", str(self.net))
        said = Path(f"{self.net}.said")
        said.write_text("")
        path = f"{self.programs}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh"], input=text, text=True, capture_output=True, check=False, env={"PATH": path, "FAILING": failing}
        )
        assert done.stdout == ""
        return done.returncode, done.stderr, said.read_text().splitlines()

    def connected(self) -> dict[str, list[str]]:
        """Return the interfaces of each bridge."""
        return {path.parent.name: sorted(one.name for one in path.iterdir()) for path in self.net.glob("*/brif")}


NETWORKS: dict[str, Any] = {
    "a": {"bridge": "br-a", "interface": "eth-a"},
    "b": {"bridge": "br-b", "interface": "eth-gone", "mtu": 9000},
    "c": {"bridge": "br-c", "interface": "eth-c", "mtu": 1400},
    "d": {"bridge": "br-d", "manage": True},
}


@pytest.fixture
def boot(tmp_path: Path) -> Boot:
    made = Boot(tmp_path)
    for name in ("eth-a", "eth-c"):
        (made.net / name).mkdir(parents=True)
    return made


def test_a_bridge_whose_interface_is_gone_keeps_no_other_down(boot: Boot) -> None:
    """A dead network card of one network took down all networks whose names come after it, at every boot."""
    status, said, calls = boot.run(NETWORKS)
    assert status == 1
    (line,) = said.splitlines()
    assert line.startswith("bridge br-b: there is no interface eth-gone,") and "run bootstrap.yml" in line
    assert boot.connected() == {"br-a": ["eth-a"], "br-b": [], "br-c": ["eth-c"], "br-d": []}
    assert all(f"ip link set dev {name} up" in calls for name in ("br-a", "br-b", "br-c", "br-d", "eth-a", "eth-c"))
    assert calls.count("sleep") == 30
    assert calls.index("ip link set dev br-b up") < calls.index("sleep"), "guests of this node need it at once"


def test_bridges_that_run_are_not_touched_when_the_script_runs_again(boot: Boot) -> None:
    boot.run(NETWORKS)
    connected = boot.connected()
    _status, _said, calls = boot.run(NETWORKS)
    assert boot.connected() == connected
    assert {call for call in calls if call.startswith("ip")} == {
        *(f"ip link set dev {name} up" for name in ("br-a", "br-b", "br-c", "br-d", "eth-a", "eth-c")),
        *(f"ip link set dev {name} mtu {mtu}" for name, mtu in (("br-b", 9000), ("br-c", 1400), ("eth-c", 1400))),
    }


def test_an_interface_that_comes_late_is_waited_for(boot: Boot) -> None:
    networks = {"a": {"bridge": "br-a", "interface": "eth-late"}, **{name: NETWORKS[name] for name in ("c", "d")}}
    status, said, calls = boot.run(networks)
    assert (status, said, calls.count("sleep")) == (0, "", 3)
    assert boot.connected() == {"br-a": ["eth-late"], "br-c": ["eth-c"], "br-d": []}


@pytest.mark.parametrize(
    ("failing", "said", "connected"),
    [
        ("link add name br-a *", "br-a: it cannot be made", {"br-c": ["eth-c"], "br-d": []}),
        ("link set dev br-a up", "br-a: it cannot be brought up", {}),
        ("link set dev eth-a master *", "br-a: its interface eth-a cannot be put into it", {"br-a": []}),
        ("link set dev eth-a up", "br-a: its interface eth-a cannot be brought up", {}),
        ("link set dev br-c mtu *", "br-c: it does not take the MTU 1400", {}),
        # Small packets pass all the same.
        ("link set dev eth-c mtu *", "br-c: its interface eth-c does not take the MTU 1400", {}),
    ],
)
def test_what_fails_is_told_and_costs_nothing_else(
    boot: Boot, failing: str, said: str, connected: dict[str, list[str]]
) -> None:
    status, stderr, calls = boot.run({name: NETWORKS[name] for name in ("a", "c", "d")}, failing)
    assert status == 1 and f"bridge {said}\n" in stderr and "refused: " in stderr
    whole = {"br-a": ["eth-a"], "br-c": ["eth-c"], "br-d": []}
    assert boot.connected() == (connected if "br-c" in connected else whole | connected)
    assert calls[-1] == "ip link set dev br-d up"


def test_replication_waits_for_volumes_at_boot_and_tries_again() -> None:
    """Volumes are activated by events, which a unit cannot wait for; replication was left half-way for good."""
    unit = content(document(), "/etc/systemd/system/twofold-replication.service")
    first, second, third = re.findall(r"^Exec\w+=(.*)$", unit, re.MULTILINE)
    assert first.startswith("-/usr/bin/udevadm settle") and second.startswith("-/usr/sbin/vgchange")
    assert third == "/usr/local/lib/twofold/bring_up.py"
    assert "Restart=on-failure\n" in unit and "Before=libvirt-guests.service\n" in unit


def test_what_runs_by_itself_is_there_before_the_units_that_start_it() -> None:
    wanted = document()
    order = kinds(wanted)
    paths = [item.get("path", "") for item in wanted["items"]]
    assert "from twofold_node._bring_up import main\n" in content(wanted, "/usr/local/lib/twofold/bring_up.py")
    assert "from twofold_node._power_back import main\n" in content(wanted, "/usr/local/lib/twofold/power_back.py")
    unit = paths.index("/etc/systemd/system/twofold-replication.service")
    assert order.index("library") < paths.index("/usr/local/lib/twofold/bring_up.py") < unit


def test_the_script_of_older_versions_which_gives_secrets_on_command_lines_goes() -> None:
    wanted = document()
    (gone,) = [item for item in wanted["items"] if item["kind"] == "gone"]
    assert gone["path"] == "/etc/twofold/replication.sh"
    assert not any("drbdadm" in str(item.get("content")) for item in wanted["items"])


def test_no_key_is_part_of_the_document() -> None:
    made = pki.create_authority("lab", pki.now())
    assert made.certificate in [item.get("content") for item in document(made.certificate)["items"]]
    assert "PRIVATE" not in json.dumps(document(made.certificate))


def test_guests_are_looked_after_at_boot_and_by_a_timer_or_not() -> None:
    names = ("twofold-power-back.service", "twofold-power-back.timer")

    def enabled(**settings: Any) -> list[bool]:
        units = {unit["name"]: unit["enabled"] for unit in document(**settings)["items"][-1]["units"]}
        return [units[name] for name in names]

    assert enabled() == [True, True]
    assert enabled(power_back_at_boot=False) == [False, True]
    assert enabled(power_back_interval=0) == [True, False]
    assert "OnUnitInactiveSec=30\n" in content(document(power_back_interval=30), f"/etc/systemd/system/{names[1]}")
