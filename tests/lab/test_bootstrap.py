# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""From bare machines to nodes: what is in the way is found first, and what is changed by hand is found later."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import image
from .cluster import ROOT, Cluster
from .core import Lab
from .paths import default_name

# Installing all packages on emulated machines takes long.
pytestmark = [pytest.mark.lab, pytest.mark.nightly]

NODES = ("node1", "node2")
# A call of the node-side library, as Ansible shows its commands.
CALL = "from twofold_node._entry import main"
# Everything that a run may have left on a node, digested: files, packages, modules, services, volumes, rules.
FINGERPRINT = """
find /etc /var/lib/twofold /run/twofold -type f -exec sha256sum {} + 2>/dev/null | sort
find /etc /var/lib/twofold -printf '%p %m %U\\n' | sort
dpkg-query -W; lsmod | cut -d' ' -f1 | sort; systemctl list-unit-files --no-legend
cat /proc/net/dev | cut -d: -f1; vgs 2>/dev/null; nft list ruleset 2>/dev/null; true
"""
# What a stranger sees: one line a port, with how far it came. The certificate of the server is not its business.
STRANGER = """
import socket, ssl, sys
for port in (16514, 7100, 49152):
    try:
        plain = socket.create_connection((sys.argv[1], port), timeout=3)
    except ConnectionRefusedError:
        print(port, "refused")
        continue
    except OSError:
        print(port, "silence")
        continue
    context = ssl._create_unverified_context()
    try:
        wrapped = context.wrap_socket(plain)
        wrapped.sendall(bytes(28))
        print(port, "served" if wrapped.recv(1) else "closed")
    except OSError:
        print(port, "closed")
"""
# The certificate that a node's libvirt shows, as another node sees and verifies it.
SERVED = """
import socket, ssl, sys
context = ssl.create_default_context(cafile="/etc/pki/CA/cacert.pem")
context.load_cert_chain("/etc/pki/libvirt/clientcert.pem", "/etc/pki/libvirt/private/clientkey.pem")
plain = socket.create_connection((sys.argv[1], 16514))
with context.wrap_socket(plain, server_hostname=sys.argv[1]) as end:
    print(ssl.DER_cert_to_PEM_cert(end.getpeercert(True)))
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two bare machines and a stranger; the lab serves them packages."""
    image.build("trixie", False)
    made = Lab(f"{default_name()}-boot"[:20])
    made.down()
    made.up(nodes=len(NODES), bare=True, outsider=True)
    # What a first boot writes is not to be taken for ours.
    made.run_all("systemctl is-system-running --wait >/dev/null || true")
    try:
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def cluster(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The inventory of the two."""
    made = Cluster(lab, tmp_path_factory.mktemp("bootstrap"))
    # Emulated machines that share two cores keep bad time.
    made.node_variables = {"twofold_clock_tolerance": 60}
    return made


def everywhere(lab: Lab, line: str) -> dict[str, str]:
    found = lab.run_all(line)
    return {name: found[name].stdout.strip() for name in NODES}


def different(before: dict[str, str], after: dict[str, str]) -> dict[str, set[str]]:
    """Return the lines of each node that are not the same before and after."""
    return {name: set(before[name].splitlines()) ^ set(after[name].splitlines()) for name in NODES}


UNCHANGED: dict[str, set[str]] = {name: set() for name in NODES}


def test_what_is_in_the_way_is_found_before_anything_is_changed(lab: Lab, cluster: Cluster) -> None:
    before = everywhere(lab, FINGERPRINT)
    lab.run("node2", "printf data | dd of=/dev/vdc bs=512 seek=5 status=none")
    lab.run("node2", "/usr/lib/twofold-lab/busybox ip link set eth1 mtu 1400")
    lab.run("node2", "nohup python3 -m http.server 7100 >/dev/null 2>&1 & echo $! > /var/tmp/pid")
    lab.run("node1", "cp -p /etc/hosts /var/tmp/hosts; echo 192.0.2.77 node2 >> /etc/hosts")
    disks = '{"twofold_volume_group_devices": ["/dev/vda", "/dev/vdb", "/dev/vdc", "/dev/vdq"]}'
    said = cluster.play("bootstrap", "-e", disks, status=2).output
    assert "nothing was changed on any of them" in said
    for line in (
        "node1: disk /dev/vda: is in use: it is mounted",
        "node1: disk /dev/vdq: does not exist",
        "node2: disk /dev/vdc: carries data",
        "add /dev/vdc to twofold_wipe_devices",
        "node2: replication network: packets of 1500 bytes do not get to node1",
        "set twofold_replication_mtu to what they carry",
        "node2: TCP port 7100: python3 listens on it",
        "node1: name node2: /etc/hosts says 192.0.2.77",
    ):
        assert line in said
    assert not cluster.pki.exists()
    lab.run("node1", "cp -p /var/tmp/hosts /etc/hosts")
    lab.run(
        "node2", "kill $(cat /var/tmp/pid); rm /var/tmp/pid; /usr/lib/twofold-lab/busybox ip link set eth1 mtu 1500"
    )
    assert different(before, everywhere(lab, FINGERPRINT)) == UNCHANGED


def test_settings_that_are_wrong_name_host_and_variable(cluster: Cluster) -> None:
    said = cluster.play("bootstrap", "-e", "twofold_drbd_ports=9-1", status=2).output
    assert "node2: twofold_drbd_ports" in said


def test_check_mode_changes_nothing(lab: Lab, cluster: Cluster) -> None:
    before = everywhere(lab, FINGERPRINT)
    played = cluster.play("bootstrap", "--check", "--diff")
    assert all(played.recap[name]["changed"] for name in NODES)
    assert "volume group twofold: is made on /dev/vdb" in played.output
    assert "packages: " in played.output and "drbd-utils" in played.output
    assert "+migrate_tls_force = 1" in played.output
    assert not cluster.pki.exists()
    assert different(before, everywhere(lab, FINGERPRINT)) == UNCHANGED


def test_bare_machines_become_nodes(cluster: Cluster) -> None:
    played = cluster.play("bootstrap")
    assert all(played.recap[name]["changed"] for name in NODES)
    assert {path.name: path.stat().st_mode & 0o777 for path in cluster.pki.iterdir()} == {
        "ca-key.pem": 0o600,
        "ca.pem": 0o644,
    }


def test_an_unchanged_node_costs_one_call(cluster: Cluster) -> None:
    played = cluster.play("bootstrap", "-vvv")
    assert played.changed == 0
    assert played.output.count(CALL) == len(NODES)
    assert "PRIVATE KEY" not in played.output


def test_what_a_node_has(lab: Lab) -> None:
    for name in NODES:
        assert lab.run(name, "vgs --noheadings -o vg_name,vg_tags").stdout.split() == ["twofold", "twofold"]
        keys = "/etc/pki/libvirt/private/*.pem /etc/pki/qemu/*-key.pem"
        modes = set(lab.run(name, f"stat -c '%a %U:%G' {keys}").stdout.splitlines())
        assert modes == {"600 root:root", "640 root:libvirt-qemu"}
        assert lab.run(name, "ls /sys/class/net/br-lan/brif").stdout.split() == ["eth2"]
        listening = lab.run(name, "ss -Hltn").stdout
        assert ":16514" in listening and ":16509" not in listening
        assert lab.run(name, "virsh net-list --name; virsh net-list --name --autostart").stdout.split() == []
        folders = lab.run(name, "stat -c %a /var/lib/twofold/instances /var/lib/twofold/seeds").stdout.split()
        assert folders == ["700", "711"]


def test_the_host_does_not_look_into_guests_volumes(lab: Lab) -> None:
    """A guest with LVM inside: its volume group stays its own."""
    lab.run("node1", "lvcreate -qq -y -L 32m -n guest twofold")
    inside = """pvcreate -qq --config 'devices { global_filter=["a|.*|"] scan_lvs=1 }' /dev/twofold/guest"""
    lab.run("node1", inside)
    assert "LVM2_member" in lab.run("node1", "blkid --probe /dev/twofold/guest").stdout
    assert "/dev/twofold/guest" not in lab.run("node1", "pvs --noheadings -o pv_name").stdout
    lab.run("node1", "lvremove -qq -y twofold/guest")


def test_nodes_reach_each_other_and_strangers_do_not(lab: Lab) -> None:
    for address in ("node2", "192.0.2.12", "198.51.100.12"):
        assert lab.run("node1", f"virsh -c qemu+tls://{address}/system hostname").stdout.strip() == "node2"
    wrong = (
        "mkdir -p /tmp/q && cd /tmp/q && cp /etc/pki/qemu/ca-cert.pem cacert.pem && cp /etc/pki/qemu/client-cert.pem"
        " clientcert.pem && cp /etc/pki/qemu/client-key.pem clientkey.pem && virsh -c"
        " 'qemu+tls://node2/system?pkipath=/tmp/q' hostname; rm -r /tmp/q"
    )
    refused = lab.run("node1", wrong, check=False)
    assert "node2" not in refused.stdout.split(), "QEMU's credential must not open libvirt"
    lab.put("outsider", "/var/tmp/stranger.py", STRANGER)
    stranger = "python3 /var/tmp/stranger.py 192.0.2.12"
    assert lab.run("outsider", stranger).stdout.splitlines() == ["16514 silence", "7100 silence", "49152 silence"]
    # Without the firewall TLS itself refuses whom the authority does not know.
    lab.run("node2", "nft delete table inet twofold")
    assert lab.run("outsider", stranger).stdout.splitlines() == ["16514 closed", "7100 refused", "49152 refused"]


def test_what_was_changed_by_hand_is_found_named_and_mended(lab: Lab, cluster: Cluster) -> None:
    """The firewall of node2 is gone already; node1 suffers more."""
    hurt = (
        "systemctl stop libvirtd-tls.socket libvirtd",
        "rmmod vhost_net",
        "echo 'vnc_password = \"do-not-tell\"' >> /etc/libvirt/qemu.conf",
        "chmod 644 /etc/pki/libvirt/private/serverkey.pem",
        "ip link del br-lan",
        "sed -i /node2/d /etc/hosts",
        "systemctl disable -q twofold-firewall",
        "vgchange -q --deltag twofold twofold",
        "rm /etc/pki/qemu/server-cert.pem",
        "echo > /proc/sys/net/ipv4/ip_local_reserved_ports",
        "rm -r /var/lib/twofold/seeds",
        "sed -i s/global_filter/no_filter/ /etc/lvm/lvmlocal.conf",
    )
    for line in hurt:
        lab.run("node1", line)
    named = (
        "node2: firewall table inet twofold: is not loaded",
        "node1: unit libvirtd-tls.socket: is not active",
        "node1: unit libvirtd.service: is not active",
        "node1: kernel module vhost_net: is not loaded",
        "node1: file /etc/libvirt/qemu.conf: has other contents",
        "node1: file /etc/pki/libvirt/private/serverkey.pem: has mode 0644, not 0600",
        "node1: bridge br-lan: is missing",
        "node1: file /etc/hosts: has other contents in our block",
        "node1: unit twofold-firewall.service: is not enabled",
        "node1: volume group twofold: lacks the tag twofold",
        "node1: credential qemu: is replaced: /etc/pki/qemu/server-cert.pem is missing",
        "node1: sysctl ip_local_reserved_ports: lacks",
        "node1: directory /var/lib/twofold/seeds: is missing",
        "node1: file /etc/lvm/lvmlocal.conf: has other contents in our block",
    )
    foretold = cluster.play("bootstrap", "--check", "--diff").output
    for line in named:
        assert line in foretold
    assert "do-not-tell" not in foretold
    cluster.play("bootstrap")
    assert cluster.play("bootstrap").changed == 0
    assert lab.run("node1", "nft list table inet twofold; virsh -c qemu+tls://node2/system list").returncode == 0


def test_certificates_are_renewed_without_a_restart_and_the_key_may_be_in_a_vault(lab: Lab, cluster: Cluster) -> None:
    key = cluster.pki / "ca-key.pem"
    password = cluster.directory / "password"
    password.write_text("open sesame")
    vault = Path(sys.executable).with_name("ansible-vault")
    subprocess.run(
        [vault, "encrypt", "--vault-password-file", password, key], cwd=ROOT, check=True, capture_output=True
    )
    assert key.read_text().startswith("$ANSIBLE_VAULT")
    assert cluster.play("bootstrap").changed == 0, "the key is not needed while no certificate is made"
    process = "systemctl show --property=MainPID libvirtd"
    before = lab.run("node2", process).stdout
    held = lab.run("node2", "cat /etc/pki/libvirt/servercert.pem").stdout
    assert lab.run("node1", ["python3", "-c", SERVED, "node2"]).stdout.strip() == held.strip()
    said = cluster.play("bootstrap", "-e", "twofold_pki_renew_days=397", status=2).output
    assert "unencrypted" in said or "vault" in said.lower()
    played = cluster.play(
        "bootstrap", "-e", "twofold_pki_renew_days=397", "--vault-password-file", str(password), "-vvv"
    )
    assert "credential libvirt: is replaced" in played.output
    assert "PRIVATE KEY" not in played.output
    renewed = lab.run("node2", "cat /etc/pki/libvirt/servercert.pem").stdout
    assert renewed != held
    assert lab.run("node1", ["python3", "-c", SERVED, "node2"]).stdout.strip() == renewed.strip()
    assert lab.run("node2", process).stdout == before, "libvirtd was restarted"
    assert cluster.play("bootstrap").changed == 0


def test_a_disk_with_data_is_taken_only_when_it_is_named(lab: Lab, cluster: Cluster) -> None:
    disks = '{"twofold_volume_group_devices": ["/dev/vdb", "/dev/vdc"]}'
    assert "node2: disk /dev/vdc: carries data" in cluster.play("bootstrap", "-e", disks, status=2).output
    assert lab.run("node2", "dd if=/dev/vdc bs=512 skip=5 count=1 status=none | head -c 4").stdout == "data"
    wipe = '{"twofold_wipe_devices": ["/dev/vdc"]}'
    said = cluster.play("bootstrap", "-e", disks, "-e", wipe).output
    assert "is extended by /dev/vdc, whose data is destroyed" in said
    assert cluster.play("bootstrap", "-e", disks, "-e", wipe).changed == 0
    lab.run_all("if command -v vgreduce >/dev/null; then vgreduce -q twofold /dev/vdc && pvremove -q /dev/vdc; fi")


def test_a_node_is_itself_again_after_a_boot(lab: Lab, cluster: Cluster) -> None:
    lab.run("node1", "systemctl poweroff", check=False)
    lab.wait(lambda: not lab.powered("node1"), what="node1 shuts down")
    lab.power_on("node1")
    lab.run("node1", "systemctl is-system-running --wait", check=False)
    assert cluster.play("bootstrap").changed == 0


def test_no_key_is_left_in_a_log(lab: Lab) -> None:
    look = "journalctl --no-pager | grep 'PRIVATE KEY'; grep -rl 'PRIVATE KEY' /var/cache/twofold /var/log /tmp; true"
    assert everywhere(lab, look) == dict.fromkeys(NODES, "")
    assert "node1" in everywhere(lab, "journalctl --no-pager | tail -50")["node1"], "there is a journal to look at"
