# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fencing by real programs: fence_ipmilan and ipmitool against a BMC for each node, and Ganeti's OOB protocol."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from twofold.model import NO_PROOF

from . import bmc
from .cluster import Cluster
from .test_failover import complete, every_record
from .test_migrate import ADDRESS, serving, settled

pytestmark = [pytest.mark.lab, pytest.mark.nightly]

# Ganeti's OOB protocol, spoken over a real BMC.
OOB = """#!/bin/sh
power() {{ ipmitool -I lanplus -H {address} -p {port} -U {user} -P {password} chassis power "$1"; }}
case $1 in
power-status) power status | grep -q 'is on' && echo '{{"powered": true}}' || echo '{{"powered": false}}';;
power-on) power on;;
power-off) power off;;
power-cycle) power cycle;;
health) power status | grep -q '^Chassis Power is' && echo '[["chassis", "OK"]]' || echo '[["chassis", "CRITICAL"]]';;
*) exit 1;;
esac
"""


@pytest.fixture
def ports(cluster: Cluster) -> Iterator[dict[str, int]]:
    """The ports of the nodes' BMCs, which every node's inventory names."""
    with bmc.all_serving(cluster.lab) as found:
        cluster.host_variables = {node: {"twofold_fence": [agent(port)]} for node, port in found.items()}
        yield found


def agent(port: int) -> dict[str, Any]:
    """A device of the inventory."""
    options = {"ip": bmc.ADDRESS, "ipport": port, "username": bmc.USER, "password": bmc.PASSWORD, "lanplus": True}
    return {"agent": "fence_ipmilan", "options": options}


def oob(cluster: Cluster, port: int) -> dict[str, Any]:
    """Another one, a program of the operator's own."""
    program = cluster.directory / "power"
    values = {"address": bmc.ADDRESS, "port": port, "user": bmc.USER, "password": bmc.PASSWORD}
    program.write_text(OOB.format(**values), encoding="utf-8")
    program.chmod(0o700)
    return {"oob": str(program)}


def test_every_device_is_asked_and_a_node_switched(cluster: Cluster, ports: dict[str, int]) -> None:
    said = cluster.play("fence")
    assert all(f"{node}: on (fence_ipmilan)" in said.output for node in cluster.lab.nodes)
    assert cluster.findings() == []
    cluster.play("fence", "-e", "node=node3", "-e", "power=off")
    assert not cluster.lab.powered("node3")
    cluster.play("fence", "-e", "node=node3", "-e", "power=on")
    assert cluster.lab.powered("node3")
    cluster.lab.wait_ssh("node3")
    cluster.host_variables["node3"] = {"twofold_fence": [oob(cluster, ports["node3"])]}
    assert "node3: OK: chassis" in cluster.play("fence", "-e", "node=node3", "-e", "power=health").output
    boot = cluster.sh("node3", "cat /proc/sys/kernel/random/boot_id")
    played = cluster.play("fence", "-e", "node=node3", "-e", "power=cycle")
    assert "node3: on (power: was told power-cycle, says on)" in played.said
    cluster.lab.wait_ssh("node3")
    assert cluster.sh("node3", "cat /proc/sys/kernel/random/boot_id") != boot


def test_a_node_whose_management_network_is_cut_is_left_alone(cluster: Cluster, ports: dict[str, int]) -> None:
    """Its guests run and are replicated: nothing takes its power, unless that is asked for by name."""
    writer = serving(cluster)
    cluster.lab.link("node1", "management", up=False)
    for words in ((), ("-e", "fence=true"), ("-e", "fence=node1")):
        refused = cluster.play("recover", *words, status=None)
        assert "node1: it does not answer, but lives: node2 still replicates serve1 with it" in refused.said
        assert "fence=true" not in refused.said and cluster.lab.powered("node1")
    by_name = ("-e", "node=node1", "-e", "power=off")
    assert "add -e force=true" in cluster.play("fence", *by_name, status=None).said
    assert cluster.lab.powered("node1")
    cluster.lab.wait_ssh(ADDRESS)
    cluster.play("fence", *by_name, "-e", "force=true")
    assert not cluster.lab.powered("node1")
    cluster.play("recover")
    assert settled(cluster, "serve1") == "node2"
    every_record(cluster, writer)


def test_devices_that_are_of_no_use_are_found(cluster: Cluster, ports: dict[str, int]) -> None:
    wrong = agent(ports["node1"])
    wrong["options"]["password"] = "not-this-one"
    cluster.lab.power_off("node3")
    cluster.host_variables = {
        "node1": {"twofold_fence": [wrong]},
        # The board of a node that is off: whoever relied on it would switch the wrong machine.
        "node2": {"twofold_fence": [agent(ports["node3"])]},
    }
    found = {(finding["object"], finding["code"]) for finding in cluster.findings()}
    assert {("node node1", "fence-silent"), ("node node2", "fence-wrong"), ("node node3", "fence-none")} <= found
    refused = cluster.play("fence", status=None)
    assert "not-this-one" not in refused.output and bmc.PASSWORD not in refused.output


def test_recovery_with_fencing(cluster: Cluster, ports: dict[str, int]) -> None:
    """A node that hangs is switched off before its guests start elsewhere; nothing runs twice, nothing is lost."""
    writer = serving(cluster)
    cluster.lab.freeze("node1")
    # Before that, node2 would say that node1 lives.
    cluster.wait_missed("node2", "serve1")
    refused = cluster.play("recover", status=None)
    assert "-e fence=true" in refused.output and cluster.lab.powered("node1")
    played = cluster.play("recover", "-e", "fence=true", "-vvv")
    assert bmc.PASSWORD not in played.output
    assert not cluster.lab.powered("node1"), "the device switched it off"
    assert settled(cluster, "serve1") == "node2"
    every_record(cluster, writer)
    cluster.play("fence", "-e", "node=node1", "-e", "power=on")
    cluster.lab.wait_ssh("node1")
    cluster.lab.wait(lambda: complete(cluster, "node1", "serve1"), what="node1's copy was resynced")
    cluster.play("converge")
    assert settled(cluster, "serve1") == "node2"
    assert cluster.play("converge").changed == 0


def test_passwords_are_no_arguments_of_ours(cluster: Cluster, ports: dict[str, int], tmp_path: Path) -> None:
    """A stand-in for the agent writes down what the process list shows of it and of its parents."""
    agent_program = tmp_path / "fence_spy"
    seen = tmp_path / "seen.json"
    agent_program.write_text(
        "#!/usr/bin/env python3\n"
        "import json, os, pathlib, sys\n"
        "pid, lines = os.getpid(), []\n"
        "while pid > 1:\n"
        "    proc = pathlib.Path('/proc') / str(pid)\n"
        "    lines += [(proc / 'cmdline').read_text(), (proc / 'environ').read_text()]\n"
        "    pid = int((proc / 'stat').read_text().rpartition(')')[2].split()[1])\n"
        f"pathlib.Path({str(seen)!r}).write_text(json.dumps(lines))\n"
        "assert 'password=' in sys.stdin.read()\n"
        "print('Status: ON')\n",
        encoding="utf-8",
    )
    agent_program.chmod(0o755)
    device = {**agent(ports["node1"]), "agent": str(agent_program)}
    cluster.host_variables = {"node1": {"twofold_fence": [device]}}
    cluster.play("fence", "-e", "node=node1")
    assert bmc.PASSWORD not in seen.read_text(encoding="utf-8")
    assert len(json.loads(seen.read_text(encoding="utf-8"))) > 2


def test_the_board_is_a_real_one(cluster: Cluster, ports: dict[str, int]) -> None:
    """ipmitool itself talks to it, and a wrong password gets nowhere."""
    argv = ["ipmitool", "-I", "lanplus", "-H", bmc.ADDRESS, "-p", str(ports["node2"]), "-U", bmc.USER]
    done = subprocess.run([*argv, "-P", bmc.PASSWORD, "chassis", "power", "status"], capture_output=True, check=True)
    assert done.stdout.strip() == b"Chassis Power is on"
    done = subprocess.run([*argv, "-P", "wrong", "chassis", "power", "status"], capture_output=True, check=False)
    assert done.returncode != 0


def test_every_agent_that_leaves_a_node_running_is_refused() -> None:
    """By their own word: those of the distribution that cut a node off from its network or storage."""
    marked = [path.name for path in Path("/usr/sbin").glob("fence_*") if b"fabric_fencing" in path.read_bytes()]
    assert marked and set(marked) <= NO_PROOF.keys()
