# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster on the lab, used as an operator uses it: an inventory in files, and ansible-playbook."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from . import image
from .core import Lab
from .paths import cache_dir

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))
RECAP = re.compile(r"^(\S+)\s+: (ok=.*)$", re.MULTILINE)
SECRET = "the-lab-tests-have-a-cluster-secret-of-their-own"
# 512 bytes that count on the serial port and in the next sector: a guest without an operating system.
TINY = "tiny"
# A small Linux with ssh, which reads its seed.
LINUX = "linux"
NODE_SECONDS = 1800.0

Variables = dict[str, Any]


@dataclass(frozen=True)
class Played:
    """What a run of a playbook said."""

    status: int
    output: str

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """Ansible's counts for each host."""
        counts = {host: (pair.split("=") for pair in text.split()) for host, text in RECAP.findall(self.output)}
        return {host: {name: int(value) for name, value in pairs} for host, pairs in counts.items()}

    @property
    def said(self) -> str:
        """What it printed with each line break and indentation made one space: Ansible wraps messages."""
        return " ".join(self.output.split())

    @property
    def changed(self) -> int:
        """How many tasks changed something, on all hosts."""
        return sum(counts["changed"] for counts in self.recap.values())

    @property
    def traceback(self) -> bool:
        """Whether a user saw a Python traceback."""
        return "Traceback (most recent call last)" in self.output


class Cluster:
    """An inventory in a directory, and the lab that it is about."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        self.variables: Variables = {}
        self.instances: dict[str, Variables] = {}
        self.node_variables: Variables = {}
        self.host_variables: dict[str, Variables] = {}
        # Machines of the lab that the inventory does not name.
        self.left_out: set[str] = set()
        self.pki = directory / "pki"
        # Who works here; the nodes' locks say it. By default whoever runs the tests.
        self.operator = ""

    # The inventory

    def write(self) -> Path:
        """Write the inventory's files and return the directory."""
        inventory = self.directory / "inventory"
        (inventory / "group_vars").mkdir(parents=True, exist_ok=True)
        nodes = {name: self._node(name) for name in self.lab.nodes if name not in self.left_out}
        _dump(inventory / "hosts.yml", {"nodes": {"hosts": nodes}, "instances": {"hosts": self.instances}})
        _dump(inventory / "group_vars" / "all.yml", {**self._defaults(), **self.variables})
        _dump(inventory / "group_vars" / "nodes.yml", {**_node_defaults(), **self.node_variables})
        return inventory

    def _node(self, name: str) -> Variables:
        number = int(name.removeprefix("node"))
        addresses = {
            "ansible_host": f"192.0.2.{10 + number}",
            "twofold_replication_address": f"198.51.100.{10 + number}",
        }
        return {**addresses, **self.host_variables.get(name, {})}

    def _defaults(self) -> Variables:
        return {
            "ansible_user": "root",
            "ansible_ssh_common_args": f"-F {self.lab.ssh_config}",
            "ansible_control_path_dir": str(self.lab.runtime / "ansible"),
            "twofold_cluster_name": "lab",
            "twofold_cluster_secret": SECRET,
            "twofold_pki_dir": str(self.pki),
            "twofold_networks": {
                "lan": {
                    "bridge": "br-lan",
                    "interface": "eth2",
                    "cidr": "203.0.113.0/24",
                    "gateway": "203.0.113.1",
                }
            },
            "twofold_os_templates": {
                TINY: _template("tiny-guest.raw", "raw"),
                LINUX: _template("lab-guest.qcow2", "qcow2"),
            },
            "twofold_memory": "64MiB",
            "twofold_disks": [{"size": "64MiB"}],
            "twofold_os": TINY,
            # The nodes have one processor each, and the guests of the tests next to nothing to do.
            "twofold_vcpu_ratio": 16,
        }

    @property
    def public_key(self) -> str:
        """The lab's public ssh key, for guests."""
        return image.ssh_key().with_suffix(".pub").read_text(encoding="utf-8").strip()

    def linux(self, address: str) -> Variables:
        """A Linux guest with ssh at an address."""
        return {
            "twofold_os": LINUX,
            "twofold_memory": "160MiB",
            "twofold_disks": [{"size": "96MiB"}],
            "twofold_nics": [{"network": "lan", "address": address}],
            "twofold_ssh_keys": [self.public_key],
        }

    # Playing

    def argv(self, playbook: str, *arguments: str) -> list[str]:
        """Return the command line of a playbook: one of ours by name, or a path."""
        name = playbook if playbook.endswith(".yml") else f"twofold.cluster.{playbook}"
        return [PLAYBOOK, "-i", str(self.write()), name, *arguments]

    def environment(self) -> dict[str, str]:
        """Return what the operator's shell has."""
        found = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"}
        return {**found, "SUDO_USER": self.operator} if self.operator else found

    def play(self, playbook: str, *arguments: str, status: int | None = 0) -> Played:
        """Run a playbook; its exit status has to be ``status``, any but 0 if None."""
        played = self.attempt(playbook, *arguments)
        assert (played.status != 0) if status is None else (played.status == status), played.output
        return played

    def attempt(self, playbook: str, *arguments: str) -> Played:
        """Run a playbook, whatever comes of it but a traceback."""
        done = subprocess.run(
            self.argv(playbook, *arguments),
            cwd=ROOT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=NODE_SECONDS,
            check=False,
        )
        played = Played(done.returncode, done.stdout)
        assert not played.traceback, played.output
        return played

    def start(self, playbook: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a playbook in a process group of its own, to be killed or waited for; it writes to started.log."""
        with (self.directory / "started.log").open("wb") as log:
            return subprocess.Popen(
                self.argv(playbook, *arguments),
                cwd=ROOT,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def status(self) -> Variables:
        """Return the cluster's status document."""
        path = self.directory / "status.json"
        self.play("status", "-e", f"twofold_status_file={path}")
        document: Variables = json.loads(path.read_text(encoding="utf-8"))
        return document

    def findings(self) -> list[Variables]:
        """Return what verify finds, whatever its exit status."""
        path = self.directory / "findings.json"
        path.unlink(missing_ok=True)
        argv = self.argv("verify", "-e", f"twofold_findings_file={path}")
        done = subprocess.run(argv, cwd=ROOT, env=self.environment(), capture_output=True, text=True, check=False)
        assert path.exists(), done.stdout + done.stderr
        found: list[Variables] = json.loads(path.read_text(encoding="utf-8"))["findings"]
        return found

    # Looking at the nodes, past the product

    def sh(self, node: str, line: str) -> str:
        """Return what a shell line prints on a node."""
        return self.lab.run(node, line).stdout.strip()

    def running(self, instance: str) -> list[str]:
        """Return the powered nodes on which the instance runs."""
        return self._where("virsh list --name --state-running", lambda said: instance in said.split())

    def primaries(self, resource: str) -> list[str]:
        """Return the powered nodes where a DRBD resource is Primary."""
        return self._where(f"drbdadm role {resource} 2>/dev/null", lambda said: said.startswith("Primary"))

    def two_primaries_allowed(self, resource: str) -> list[str]:
        """Return the powered nodes where two primaries are allowed at run time."""
        line = f"drbdsetup show {resource} 2>/dev/null"
        return self._where(line, lambda said: re.search(r"allow-two-primaries\s+yes", said) is not None)

    def wait_missed(self, node: str, *resources: str) -> None:
        """Wait until a node's DRBD has noticed that its peers are gone; until then it is a witness that they live."""

        def connected() -> list[str]:
            return [name for name in resources if self.sh(node, f"drbdadm cstate {name}") == "Connected"]

        self.lab.wait(lambda: not connected(), what=f"{node} misses the peers of {', '.join(resources)}")

    def wait_at_rest(self, *nodes: str) -> None:
        """Wait until no step is at work on the nodes; one outlives a control process that was killed."""
        line = "[ ! -e /run/twofold/lock ] || flock --nonblock /run/twofold/lock true"
        for node in nodes:
            self.lab.wait(partial(self._succeeds, node, line), what=f"{node} has done its step")

    def _succeeds(self, node: str, line: str) -> bool:
        return self.lab.run(node, line, check=False).returncode == 0

    def _where(self, line: str, test: Callable[[str], bool]) -> list[str]:
        """The powered nodes for whose output of a shell line the test is true."""
        powered = [node for node in self.lab.nodes if self.lab.powered(node)]
        with ThreadPoolExecutor() as pool:
            said = pool.map(lambda node: self.lab.run(node, line, check=False).stdout, powered)
            return [node for node, text in zip(powered, said, strict=True) if test(text)]

    def counter(self, node: str, device: str) -> int:
        """Return the tiny guest's number, as it stands on its disk; 0 before the first."""
        line = f"dd if={device} bs=512 skip=1 count=1 iflag=direct status=none | tr -d '\\0'"
        return int(self.sh(node, line) or 0)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a started playbook with all its workers, as a crash of the control host would."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _template(name: str, image_format: str) -> Variables:
    path = cache_dir() / "guests" / name
    sums = [line.split() for line in (path.parent / "SHA256SUMS").read_text(encoding="utf-8").splitlines()]
    digest = next(digest for digest, file in sums if file == name)
    return {"kind": "image", "file": str(path), "format": image_format, "sha256": digest}


def _node_defaults() -> Variables:
    return {
        "twofold_volume_group_devices": ["/dev/vdb"],
        "twofold_reserved_memory": "128MiB",
        # Emulated machines that share two cores keep bad time.
        "twofold_clock_tolerance": 60,
    }


def _dump(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=True), encoding="utf-8")
