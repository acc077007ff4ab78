# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine that is not of the cluster gets: nothing. And where secrets are not."""

from __future__ import annotations

import threading

import pytest

from .cluster import LINUX, SECRET, Cluster

pytestmark = pytest.mark.lab

PASSWORD = "the-guests-password-stands-nowhere"
NODE1 = ("192.0.2.11", "198.51.100.11")


def test_a_stranger_on_the_same_networks_is_refused(cluster: Cluster) -> None:
    cluster.instances = {"safe1": {"twofold_nodes": ["node1", "node2"]}}
    cluster.play("converge")
    port = cluster.sh("node1", "python3 -c \"import json; print(json.load(open("
                      "'/var/lib/twofold/instances/safe1.json'))['port'])\"")  # fmt: skip
    # DRBD listens only while it has no peer.
    cluster.sh("node2", "drbdadm disconnect safe1")
    cluster.lab.wait(lambda: f":{port} " in cluster.sh("node1", "ss -Hlnt"), what="DRBD listens", every=1.0)
    opened = cluster.sh("node1", "ss -Hlnt")
    assert ":16514 " in opened
    assert ":16509 " not in opened, "libvirt without TLS is not offered"
    for address in NODE1:
        for number in ("16514", port, "49152"):
            assert not connects(cluster, "outsider", address, number), f"{address}:{number} is open to a stranger"
    assert connects(cluster, "outsider", NODE1[0], "22"), "the stranger reaches the node; it is no broken network"
    assert connects(cluster, "node2", NODE1[1], "16514")


@pytest.mark.nightly
def test_without_the_firewall_tls_still_refuses(cluster: Cluster) -> None:
    cluster.sh("node1", "nft delete table inet twofold")
    assert connects(cluster, "outsider", NODE1[0], "16514")
    self_signed = (
        "mkdir -p /tmp/pki; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
        "-nodes -subj /CN=node2 -days 2 -keyout /tmp/pki/clientkey.pem -out /tmp/pki/clientcert.pem 2>/dev/null; "
        "cp /tmp/pki/clientcert.pem /tmp/pki/cacert.pem; "
        f"timeout 60 virsh -c 'qemu+tls://{NODE1[0]}/system?pkipath=/tmp/pki&no_verify=1' list 2>&1; echo status $?"
    )
    said = cluster.sh("outsider", self_signed)
    assert "status 0" not in said and "Id" not in said, said
    found = cluster.play("bootstrap", "--check").output
    assert "firewall" in found, "a firewall that is gone is found"


def test_secrets_are_nowhere(cluster: Cluster) -> None:
    cluster.instances = {
        "quiet1": {
            "twofold_nodes": ["node1", "node2"],
            "twofold_os": LINUX,
            "twofold_memory": "128MiB",
            "twofold_disks": [{"size": "96MiB"}],
            "twofold_user_data": {"password": PASSWORD},
        }
    }
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            for done in cluster.lab.run_all("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '").values():
                seen.add(done.stdout)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        plan = cluster.directory / "plan.json"
        cluster.play("plan", "-e", f"twofold_plan_file={plan}", "--diff", "-vvv")
        output = cluster.play("converge", "--diff", "-vvv").output
        output += cluster.play("migrate", "-e", "instance=quiet1", "--diff", "-vvv").output
    finally:
        over.set()
        watcher.join()
    drbd = cluster.sh("node1", "sed -n 's/.*shared-secret \"\\(.*\\)\".*/\\1/p' /etc/drbd.d/twofold-quiet1.res")
    assert len(drbd) > 20
    assert seen
    for secret in (SECRET, PASSWORD, drbd):
        assert secret not in output, "in Ansible's output"
        assert secret not in plan.read_text(encoding="utf-8") + plan.with_suffix(".md").read_text(encoding="utf-8")
        assert not any(secret in text for text in seen), "in a process list"
        for node in ("node1", "node2"):
            found = cluster.sh(
                node,
                "find /etc /var/lib/twofold /var/cache/twofold /run/twofold /tmp /var/tmp /root -xdev -type f "
                "-perm /044 "
                f"-exec grep -l -- '{secret}' {{}} + 2>/dev/null; journalctl -b --no-pager | grep -c -- '{secret}' | "
                "grep -v '^0$'; true",
            )
            assert found == "", f"on {node}: {found}"


def connects(cluster: Cluster, machine: str, address: str, port: str) -> bool:
    """Whether a TCP connection can be opened from a machine of the lab."""
    program = f"import socket; socket.create_connection(('{address}', {port}), 5).close()"
    return cluster.lab.run(machine, ["python3", "-c", program], check=False).returncode == 0
