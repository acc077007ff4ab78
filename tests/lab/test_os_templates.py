# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""An OS template that is a script: run on the primary against the mounted disk, once, and again only if it failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import image, mirror
from .cluster import ROOT, Cluster

pytestmark = pytest.mark.lab

BROKEN = """#!/bin/sh
echo half > "$TWOFOLD_TARGET/half"
sleep 1000 &
echo 'no such mirror' >&2
exit 3
"""
GOOD = """#!/bin/sh
set -eu
mkdir "$TWOFOLD_TARGET/etc"
echo "$TWOFOLD_HOSTNAME" > "$TWOFOLD_TARGET/etc/hostname"
echo "$TWOFOLD_FLAVOUR from $(hostname)" > "$TWOFOLD_TARGET/made"
"""
LEFT = "mount | grep -c /run/twofold; pgrep -fc 'sleep 1000'"


@pytest.mark.nightly
def test_a_script_is_run_once_and_again_only_after_a_failure(cluster: Cluster) -> None:
    script = cluster.directory / "bootstrap.sh"
    script.write_text(BROKEN, encoding="utf-8")
    template = {
        "kind": "script",
        "script": str(script),
        "environment": {"TWOFOLD_FLAVOUR": "plain bread"},
        "seed": False,
    }
    cluster.variables = {"twofold_os_templates": {"scripted": template}, "twofold_os": "scripted"}
    cluster.instances = {"made1": {"twofold_nodes": ["node2", "node1"], "twofold_state": "stopped"}}

    failed = cluster.play("converge", status=2)
    assert "the OS script for made1 ended with 3: no such mirror" in failed.said
    assert cluster.lab.run("node2", LEFT, check=False).stdout.split() == ["0", "0"], "mounts or processes were left"

    script.write_text(GOOD, encoding="utf-8")
    cluster.play("converge")
    look = (
        "drbdadm primary made1 && mount -o ro /dev/drbd/by-res/made1/0 /mnt && "
        "(cd /mnt; cat etc/hostname made; ls; cd /; umount /mnt; drbdadm secondary made1)"
    )
    assert cluster.sh("node2", look).split("\n") == ["made1", "plain bread from node2", "etc", "lost+found", "made"]
    before = cluster.sh("node1", "drbdadm status made1; cat /proc/drbd")
    assert cluster.play("converge").changed == 0
    script.write_text(BROKEN, encoding="utf-8")
    assert cluster.play("converge").changed == 0, "what is installed is never installed over"
    assert "UpToDate/UpToDate" in before


# What the shipped Debian script puts into a guest beyond what the nodes' image is made of.
GUEST_PACKAGES = ("systemd-resolved", "extlinux", "syslinux-common", "linux-image-amd64", "openssh-server", "udev")
DEBIAN_ADDRESS = "203.0.113.73"


@pytest.mark.nightly
def test_the_shipped_debian_script(cluster: Cluster, tmp_path: Path) -> None:
    """Debian is installed from the node's own sources, boots from its replicated disk, and takes the key."""
    image.debian("trixie", GUEST_PACKAGES, tmp_path / "tree", tmp_path / "apt.log", ["--variant=minbase"])
    mirror.write(tmp_path / "mirror", "trixie")
    cluster.sh("node1", f"echo 'deb [trusted=yes] http://{mirror.ADDRESS}/trixie ./' > /etc/apt/sources.list")
    environment = {
        "TWOFOLD_SSH_KEYS": cluster.public_key,
        "TWOFOLD_ADDRESS": f"{DEBIAN_ADDRESS}/24",
        "TWOFOLD_GATEWAY": "203.0.113.1",
    }
    template = {
        "kind": "script",
        "script": str(ROOT / "playbooks/files/os/debian"),
        "environment": environment,
        "seed": False,
    }
    cluster.variables = {"twofold_os_templates": {"debian": template}, "twofold_os": "debian"}
    cluster.instances = {
        "debian1": {
            "twofold_nodes": ["node1", "node2"],
            "twofold_memory": "512MiB",
            "twofold_disks": [{"size": "1536MiB"}],
            "twofold_nics": [{"network": "lan", "address": DEBIAN_ADDRESS}],
        }
    }
    with mirror.serve(cluster.lab, tmp_path / "mirror"):
        cluster.play("converge")
    cluster.lab.wait_ssh(DEBIAN_ADDRESS, timeout=900)
    said = cluster.lab.run(DEBIAN_ADDRESS, "hostname; . /etc/os-release; echo $ID; findmnt -no SOURCE /").stdout
    assert said.split() == ["debian1", "debian", "/dev/vda"]
    assert cluster.play("converge").changed == 0
