# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody who has two hosts with libvirt, and no inventory of ours, uses the modules one by one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import tiny_guest
from .cluster import PLAYBOOK, ROOT, Played
from .core import Lab
from .paths import default_name

pytestmark = pytest.mark.lab

SECRET = "somebody-elses-secret"
# Hosts as somebody else runs them: a volume group, and libvirt that hosts of a trusted network reach without TLS.
HOST = """
set -e
modprobe kvm_amd || modprobe kvm_intel
pvs /dev/vdb >/dev/null 2>&1 || vgcreate -q vg0 /dev/vdb
sed -i 's/^#*auth_tcp.*/auth_tcp = "none"/' /etc/libvirt/libvirtd.conf
systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service
systemctl start libvirtd-tcp.socket libvirtd.socket libvirtd-ro.socket
grep -q node2 /etc/hosts || printf '192.0.2.11 node1\\n192.0.2.12 node2\\n' >> /etc/hosts
"""
XML = """<domain type='kvm'><name>counter</name><uuid>6f3c1c2e-58a2-4cf5-9d3a-0a5a1f1b7c01</uuid>
<memory unit='MiB'>32</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>
<cpu mode='host-passthrough'/><devices>
<disk type='block' device='disk'><driver name='qemu' type='raw' cache='none'/><source dev='/dev/drbd10'/>
<target dev='vda' bus='virtio'/></disk></devices></domain>"""
PLAYS = """
- name: Pair two disks
  hosts: all
  gather_facts: false
  vars:
    resource: &resource
      name: counter
      port: 7700
      secret: "{{ pair_secret }}"
      hosts:
        - {name: node1, address: 198.51.100.11}
        - {name: node2, address: 198.51.100.12}
      volumes:
        - {minor: 10, disk: /dev/vg0/counter, meta_disk: /dev/vg0/counter-meta}
      net_options: {allow-two-primaries: true}
  tasks:
    - name: Make the volumes
      twofold.cluster.volume:
        volume_group: vg0
        name: "{{ item }}"
        size: 8MiB
      loop: [counter, counter-meta]
    - name: Pair them
      twofold.cluster.drbd_resource:
        <<: *resource
        create_metadata: true
      tags: [pair]
    - name: Begin without a sync
      twofold.cluster.drbd_resource:
        <<: *resource
        first_sync: skip
        role: primary
      when: inventory_hostname == 'node1'
    - name: Have the image
      twofold.cluster.os_image:
        url: /var/tmp/counter.raw
        sha256: "{{ image_sha256 }}"
      register: image
      when: inventory_hostname == 'node1'
    - name: Install it
      twofold.cluster.os_install:
        device: /dev/drbd10
        image: "{{ image.path }}"
        format: raw
        zeroed: true
      when: inventory_hostname == 'node1'
    - name: Run it
      twofold.cluster.instance:
        name: counter
        xml: "{{ domain_xml }}"
      when: inventory_hostname == 'node1'
    - name: Let the other host open the disk
      twofold.cluster.drbd_resource:
        <<: *resource
        role: primary
      when: inventory_hostname == 'node2'
"""
MIGRATE = """
- name: Move it
  hosts: "{{ source | default('node1') }}"
  gather_facts: false
  tasks:
    - name: Migrate
      twofold.cluster.instance_migrate:
        name: counter
        uri: "qemu+tcp://{{ target | default('198.51.100.12') }}/system"
        migrate_uri: "tcp://{{ target | default('198.51.100.12') }}"
        tls: false
        timeout: "{{ seconds | default(900) }}"
        bandwidth: "{{ bandwidth | default(omit) }}"
        postcopy_after: "{{ postcopy_after | default(omit) }}"
        parallel: "{{ parallel | default(omit) }}"
      register: moved
    - name: Show the numbers
      ansible.builtin.debug:
        msg: >-
          moved {{ moved.migration.downtime_ms }} ms {{ moved.migration.bytes_processed }} bytes,
          post-copy {{ moved.migration.postcopy }}
      when: moved.migration | length > 0
"""


class Hosts:
    """The two hosts, and the playbooks of somebody."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        common = f"ansible_user=root ansible_ssh_common_args='-F {lab.ssh_config}'"
        inventory = f"node1 ansible_host=192.0.2.11 {common}\nnode2 ansible_host=192.0.2.12 {common}\n"
        (folder / "hosts.ini").write_text(inventory)
        image = hashlib.sha256(tiny_guest.disk()).hexdigest()
        variables = {"pair_secret": SECRET, "image_sha256": image, "domain_xml": XML}
        (folder / "variables.json").write_text(json.dumps(variables))
        for name, text in (("pair.yml", PLAYS), ("migrate.yml", MIGRATE)):
            (folder / name).write_text(text)

    def play(self, playbook: str, *arguments: str, status: int = 0) -> Played:
        argv = [PLAYBOOK, "-i", str(self.folder / "hosts.ini"), "-e", f"@{self.folder / 'variables.json'}"]
        argv += [str(self.folder / playbook), *arguments]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(
            argv,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        played = Played(done.returncode, done.stdout + done.stderr)
        assert played.status == status, played.output
        assert not played.traceback, played.output
        assert SECRET not in played.output
        return played

    def count(self, node: str) -> int:
        """The last number that the guest wrote."""
        sector = self.lab.run(node, "dd if=/dev/drbd10 bs=512 skip=1 count=1 iflag=direct status=none").stdout
        return tiny_guest.count(sector.encode())

    def states(self) -> dict[str, str]:
        found = self.lab.run_all("virsh domstate counter 2>/dev/null || true")
        return {node: found[node].stdout.strip() for node in ("node1", "node2")}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Two hosts that know nothing of Twofold."""
    lab = Lab(f"{default_name()}-modules"[:20])
    lab.down()
    lab.up(nodes=2)
    try:
        lab.run_all(HOST)
        sector = tiny_guest.disk()[: tiny_guest.SECTOR].hex()
        make = f"import sys; sys.stdout.buffer.write(bytes.fromhex('{sector}').ljust({tiny_guest.DISK_SIZE}, b'\\0'))"
        lab.run("node1", f'python3 -c "{make}" > /var/tmp/counter.raw')
        yield Hosts(lab, tmp_path_factory.mktemp("somebody"))
    finally:
        lab.down()


@pytest.mark.nightly
def test_a_pair_is_made_and_runs_a_guest(hosts: Hosts) -> None:
    hosts.play("pair.yml")
    status = hosts.lab.run("node1", "drbdsetup status counter").stdout
    assert re.search(
        r"role:Primary\s+disk:UpToDate\s+\S+ role:Primary\s+replication:Established peer-disk:UpToDate", status
    )
    # Nothing but what the guest was installed with and has written crossed the network: no sync.
    sent = re.search(r"^10:.*\n\s+ns:(\d+)", hosts.lab.run("node1", "cat /proc/drbd").stdout, re.MULTILINE)
    assert sent
    assert int(sent[1]) < 4096
    first = hosts.count("node1")
    hosts.lab.wait(lambda: hosts.count("node1") > first + 3, 600, "the guest counts")
    assert hosts.play("pair.yml").changed == 0
    assert hosts.play("pair.yml", "--check", "--diff").changed == 0


@pytest.mark.nightly
def test_a_change_is_predicted_shown_and_made(hosts: Hosts) -> None:
    change = ("--tags", "pair")
    text = (hosts.folder / "pair.yml").read_text()
    (hosts.folder / "faster.yml").write_text(text.replace("net_options: {", "net_options: {ping-int: 4, "))
    predicted = hosts.play("faster.yml", "--check", "--diff", *change)
    assert predicted.changed == 2
    assert "ping-int 4" in predicted.output
    assert "ping-int" not in hosts.lab.run("node1", "drbdsetup show counter").stdout
    assert hosts.play("faster.yml", *change).changed == 2
    assert re.search(r"ping-int\s+4;", hosts.lab.run("node1", "drbdsetup show counter").stdout)
    assert hosts.play("pair.yml", *change).changed == 2


@pytest.mark.nightly
def test_a_disk_with_data_is_not_paired(hosts: Hosts) -> None:
    hosts.lab.run_all("lvcreate -qy -L 8m -n other vg0 && mkfs.ext4 -q /dev/vg0/other && lvcreate -qy -L 8m -n m vg0")
    text = (hosts.folder / "pair.yml").read_text()
    text = text.replace("meta_disk: /dev/vg0/counter-meta", "meta_disk: internal").replace("minor: 10", "minor: 12")
    text = text.replace("/dev/vg0/counter", "/dev/vg0/other").replace("name: counter\n", "name: other\n", 1)
    (hosts.folder / "other.yml").write_text(text.replace("port: 7700", "port: 7701"))
    said = hosts.play("other.yml", "--tags", "pair", status=2).said
    assert "metadata would be written to /dev/vg0/other, which holds ext4" in said, said
    assert all(one.returncode == 0 for one in hosts.lab.run_all("e2fsck -fn /dev/vg0/other").values())


@pytest.mark.nightly
def test_a_migration_that_takes_too_long_leaves_the_guest_here(hosts: Hosts) -> None:
    said = hosts.play("migrate.yml", "-e", "seconds=1", "-e", "bandwidth=1", status=2).said
    assert "goes on running here" in said, said
    assert hosts.states() == {"node1": "running", "node2": ""}


@pytest.mark.nightly
def test_a_running_guest_moves_and_counts_on(hosts: Hosts) -> None:
    before = hosts.count("node1")
    assert hosts.play("migrate.yml", "--check").changed == 1
    assert hosts.states() == {"node1": "running", "node2": ""}
    moved = hosts.play("migrate.yml")
    assert re.search(r"moved \d+ ms \d+ bytes, post-copy False", moved.said)
    assert hosts.states() == {"node1": "", "node2": "running"}
    counts_on(hosts, "node2", before)
    assert hosts.play("migrate.yml").changed == 0


def counts_on(hosts: Hosts, node: str, before: int) -> None:
    """The guest goes on from where it was."""
    after = hosts.count(node)
    assert after > before
    hosts.lab.wait(lambda: hosts.count(node) > after + 3, 600, "the guest counts on")


@pytest.mark.nightly
def test_it_comes_back_by_post_copy_and_goes_over_several_connections(hosts: Hosts) -> None:
    """Post-copy ends what a slow line would not; then its memory takes two connections at once."""
    before = hosts.count("node2")
    back = ("-e", "source=node2", "-e", "target=198.51.100.11")
    said = hosts.play("migrate.yml", *back, "-e", "bandwidth=1", "-e", "postcopy_after=1").said
    assert re.search(r"bytes, post-copy True", said), said
    assert hosts.states() == {"node1": "running", "node2": ""}
    counts_on(hosts, "node1", before)

    before = hosts.count("node1")
    hosts.play("migrate.yml", "-e", "parallel=2")
    assert hosts.states() == {"node1": "", "node2": "running"}
    counts_on(hosts, "node2", before)
