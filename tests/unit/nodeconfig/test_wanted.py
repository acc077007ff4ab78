# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node needs: rendered texts, their order, and that no secret is part of the document."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

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


def test_the_script_is_shell() -> None:
    networks = {"lan": {"bridge": "br-lan", "interface": "eth2", "mtu": 9000}}
    wanted = document(networks=networks)
    text = content(wanted, "/etc/twofold/network.sh")
    assert text.startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)


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
