# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each flow with each fault in the middle of it: nothing acknowledged is missing, nothing runs twice, one run mends it.

`./test lab -k test_fault[migrate` plays one flow with all faults, `--keep-faults` writes what came out into
docs/reliability.md.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from . import block_writer, guest, wiretap
from .block_writer import BlockWriter
from .cluster import ROOT, Cluster
from .conftest import Prepared
from .errors import LabError
from .fault_table import NONSENSE
from .faults import FAULTS, Fault, Scene
from .flows import FLOWS, SERVING, Flow, instances
from .paths import digest
from .test_failover import complete
from .test_migrate import ADDRESS, settled
from .wiretap import Wiretap

# An hour or two for all of them.
pytestmark = [pytest.mark.lab, pytest.mark.nightly]

WARM = "flows"
# Seconds for a restored guest to answer.
ANSWERS = 90
Record = Callable[[str, object], None]


def cells() -> list[object]:
    """The cells that make sense; see fault_table.NONSENSE for the others."""
    return [
        pytest.param(flow, fault, id=f"{flow.name}-{fault.name}")
        for flow in FLOWS
        for fault in FAULTS
        if (flow.name, fault.name) not in NONSENSE
    ]


@pytest.fixture(scope="session")
def warm(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a snapshot of the cluster that every flow begins with; made if there is none of these nodes."""
    made = furnished(prepared, tmp_path_factory.mktemp("faults"))
    rendered = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "lib/twofold/render").glob("*.py"))]
    name = f"{WARM}-{digest([prepared.snapshot, guest.key(), made.instances, made.variables, rendered])[:12]}"
    if not prepared.lab.has_snapshot(name):
        prepared.lab.restore(prepared.snapshot)
        made.play("converge")
        prepared.lab.wait_ssh(ADDRESS)
        prepared.lab.drop(f"{WARM}-*")
        # QEMU does not load a machine again that was saved while its processor was inside of a guest.
        made.sh("node1", guests(made, "suspend"))
        prepared.lab.save(name)
    return name


@pytest.fixture
def cluster(prepared: Prepared, warm: str, tmp_path: Path) -> Cluster:
    """The cluster that every flow begins with.

    Now and then an emulated processor loses a guest's timers with the snapshot, and the guest hangs before anything was
    done to it: then it is restored once more.
    """
    made = furnished(prepared, tmp_path)
    for last in (False, True):
        prepared.lab.restore(warm)
        made.sh("node1", guests(made, "resume"))
        try:
            prepared.lab.wait_ssh(ADDRESS, ANSWERS)
            break
        except LabError:
            if last:
                raise
    return made


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Keeps what the table says of a cell."""
    return lambda name, value: request.node.user_properties.append((name, value))


def guests(cluster: Cluster, verb: str) -> str:
    """A shell line that does something to every guest on node1."""
    return "; ".join(f"virsh -q {verb} {name}" for name in cluster.instances)


def furnished(prepared: Prepared, directory: Path) -> Cluster:
    """The inventory before the flow: patience is short, for whoever waits here waits for what is dead."""
    made = Cluster(prepared.lab, directory)
    made.pki = prepared.pki
    made.instances = instances(made)
    keepalive = "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"
    made.variables = {
        "ansible_ssh_args": f"-o ControlMaster=auto -o ControlPersist=300s {keepalive}",
        "twofold_lock_lease": 10,
        "twofold_replication_timeout": 30,
    }
    return made


@pytest.mark.parametrize(("flow", "fault"), cells())
def test_fault(cluster: Cluster, flow: Flow, fault: Fault, record: Record) -> None:
    begun = time.monotonic()
    record("cell", [flow.name, fault.name])
    with BlockWriter(cluster.lab, ADDRESS) as writer, Wiretap(cluster.lab, mac(cluster)) as tap:
        writer.goes_on()
        status = disturbed(cluster, flow, fault)
        never_twice(cluster)
        cluster.wait_at_rest(*cluster.lab.nodes)
        mend(cluster)
        record("happened", happened(status, writer))
        writer.goes_on()
        converged(cluster, flow)
        nothing_missing(cluster, writer)
    assert writer.lost == []
    assert wiretap.twice(tap.heard) == [], tap.heard
    record("seconds", round(time.monotonic() - begun))


def disturbed(cluster: Cluster, flow: Flow, fault: Fault) -> int:
    """Play the flow, hurt it, heal what was broken; returns the flow's exit status."""
    fault.prepare(cluster, flow)
    flow.change(cluster)
    scene = Scene(cluster, flow, cluster.start(flow.playbook, *flow.arguments))
    try:
        fault.strike(scene)
        with suppress(subprocess.TimeoutExpired):
            scene.process.wait(timeout=fault.lasts)
        fault.heal(scene)
        return scene.process.wait(timeout=600)
    finally:
        if not scene.ended():
            scene.process.kill()


def mend(cluster: Cluster) -> None:
    """Converge; and again where something has to wait for the end of a resync, which that run does not wait for."""
    first = cluster.attempt("converge")
    if any(code in first.said for code in ("[left-over]", "[not-replicated]")):
        cluster.lab.wait(partial(equal, cluster, SERVING), what=f"{SERVING} is resynced")
        cluster.play("converge")
    else:
        assert first.status == 0, first.output


def equal(cluster: Cluster, name: str) -> bool:
    """Whether the node that runs an instance sees both of its copies up to date."""
    running = cluster.running(name)
    return bool(running) and cluster.sh(running[0], f"drbdadm dstate {name}") == "UpToDate/UpToDate"


def happened(status: int, writer: BlockWriter) -> str:
    """What became of the flow, in a word or two."""
    ended = "done" if status == 0 else "mended"
    return ended if len(writer.boots) == 1 else f"{ended}, restarted"


def mac(cluster: Cluster) -> str:
    """The guest's own address on its network."""
    definition = json.loads(cluster.sh("node1", f"cat /var/lib/twofold/instances/{SERVING}.json"))
    return str(definition["nics"][0]["mac"])


def never_twice(cluster: Cluster) -> None:
    """No node that can be asked runs what another runs; there is one primary, but in the middle of a migration."""
    for name in cluster.instances:
        running = cluster.running(name)
        assert len(running) <= 1, f"{name} runs on {running}"


def converged(cluster: Cluster, flow: Flow) -> None:
    """After one converge all is well, and it stays as it is."""
    for name in cluster.instances:
        cluster.lab.wait(partial(resynced, cluster, name), what=f"{name} is resynced")
    settled(cluster, SERVING)
    flow.reached(cluster)
    # A flow that moves a copy leaves the pin of its first day behind, and that is said.
    assert [found for found in cluster.findings() if found["code"] != "placement-differs"] == []
    again = cluster.play("converge")
    assert again.changed == 0, again.output


def resynced(cluster: Cluster, name: str) -> bool:
    """Whether the copies of an instance, two or none, are up to date."""
    nodes = copies(cluster, name)
    assert len(nodes) in (0, 2), f"{name} has copies on {nodes}"
    return all(complete(cluster, node, name) for node in nodes)


def copies(cluster: Cluster, name: str) -> list[str]:
    """The nodes that have volumes of an instance."""
    return [node for node in cluster.lab.nodes if f"{name}-disk0" in cluster.sh(node, "lvs --noheadings -o lv_name")]


def nothing_missing(cluster: Cluster, writer: BlockWriter) -> None:
    """Every block that the guest acknowledged is whole on each of the two copies."""
    acknowledged = writer.last
    for node in copies(cluster, SERVING):
        lost = block_writer.missing(cluster.lab, node, f"{SERVING}-disk0", acknowledged)
        assert lost == [], f"{node} lacks {lost} of {acknowledged} blocks"
