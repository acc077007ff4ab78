# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What operations cost on the lab's nodes, each against its floor: the bare commands by hand over ssh.

Run it as ``tests/bench/operations`` or ``./test bench``. Wall time is the operator's, from the start of
ansible-playbook to its end; CPU seconds are those of the nodes' emulated machines, which are sturdier on a busy host.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console
from tests.bench.bad_day import BadDay
from tests.bench.measure import Cost, Meter, table
from tests.bench.resync import Resync
from tests.lab import guest, image
from tests.lab.cluster import Cluster, Variables
from tests.lab.core import Lab
from tests.lab.errors import LabError
from tests.lab.paths import default_name

WARM = "virsh -q domcapabilities --virttype kvm >/dev/null; modprobe drbd"
SIZE = "256MiB"
MEMORY_MIB = 2560
WIDTH = 120


class Operations:
    """The operations of every day."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.cluster = meter.cluster

    def run(self) -> None:
        """All operations."""
        self._pairs()
        self._four()
        self._reads()
        self.meter.remove()

    def _pairs(self) -> None:
        """Create, migrate, stop, start and remove one instance, beside the same by hand."""
        pair = {"twofold_nodes": ["node1", "node2"], "twofold_os": None, "twofold_disks": [{"size": SIZE}]}
        ours: dict[str, list[Cost]] = {}
        floor: dict[str, list[Cost]] = {}
        for _ignored in range(self.meter.rounds):
            for name, state in (("create and start", "running"), ("stop", "stopped"), ("start", "running")):
                change = {"bench1": {**pair, "twofold_state": state, "twofold_shutdown_timeout": 1}}
                ours.setdefault(name, []).append(self.meter.cost(partial(self.meter.instances, change)))
            moved = self.meter.cost(lambda: self.cluster.play("migrate", "-e", "instance=bench1"))
            ours.setdefault("live migration", []).append(moved)
            xml = self.cluster.sh("node2", "virsh dumpxml --inactive bench1")
            resource = self.cluster.sh("node2", "cat /etc/drbd.d/twofold-bench1.res")
            gone = {"bench1": {**pair, "twofold_state": "absent", "twofold_shutdown_timeout": 1}}
            ours.setdefault("remove", []).append(self.meter.cost(partial(self.meter.instances, gone)))
            hand = ByHand(self.cluster, xml, resource)
            for name, work in hand.operations().items():
                floor.setdefault(name, []).append(self.meter.cost(work))
        for name, costs in ours.items():
            self.meter.row(name, costs, floor.get(name, []))

    def _four(self) -> None:
        """Four creations at once, for the reads after it."""
        pairs = (("node1", "node2"), ("node2", "node3"), ("node3", "node1"), ("node1", "node3"))
        four: dict[str, Variables] = {
            f"four{number}": {"twofold_nodes": list(pair), "twofold_os": None, "twofold_disks": [{"size": SIZE}]}
            for number, pair in enumerate(pairs)
        }
        self.meter.row("four at once", [self.meter.cost(lambda: self.meter.instances(four))], [])

    def _reads(self) -> None:
        """What changes nothing, with the four instances there."""

        def look() -> None:
            line = "vgs; lvs; virsh list --all; drbdsetup events2 --now"
            list(self.cluster.lab.run_all(line).values())

        def several(work: Callable[[], object]) -> list[Cost]:
            return [self.meter.cost(work) for _ignored in range(self.meter.rounds)]

        for name, playbook in (("nothing to change", "site"), ("converge, nothing to change", "converge")):
            self.meter.row(name, several(partial(self.cluster.play, playbook)), [])
        for name in ("status", "verify"):
            self.meter.row(name, several(partial(self.cluster.play, name)), several(look))


class ByHand:
    """The same operations with bare commands: what no tool can do without."""

    def __init__(self, cluster: Cluster, xml: str, resource: str) -> None:
        self.cluster = cluster
        self.xml = xml
        self.resource = resource

    def operations(self) -> dict[str, Callable[[], object]]:
        """The operations in an order in which each finds what it needs."""
        return {
            "create and start": self.create,
            "live migration": self.migrate,
            "remove": self.remove,
        }

    def _both(self, line: str) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: self.cluster.sh(node, line), ("node1", "node2")))

    def create(self) -> None:
        """Volumes, DRBD and the domain."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._put, ("node1", "node2")))
        size = SIZE.removesuffix("iB")
        self._both(
            f"lvcreate -qy -Wn -n bench1-disk0 -L {size} twofold; lvcreate -qy -Wn -n bench1-disk0-meta -L 4M twofold; "
            "blkdiscard -z /dev/twofold/bench1-disk0; blkdiscard -z /dev/twofold/bench1-disk0-meta; "
            "drbdadm create-md --force bench1; drbdadm up bench1; drbdadm wait-connect bench1"
        )
        self.cluster.sh(
            "node1",
            "drbdadm new-current-uuid --clear-bitmap bench1/0; drbdadm primary bench1; "
            "virsh define /var/tmp/bench1.xml; virsh start bench1",
        )

    def _put(self, node: str) -> None:
        self.cluster.lab.put(node, "/etc/drbd.d/twofold-bench1.res", self.resource, "0600")
        self.cluster.lab.put(node, "/var/tmp/bench1.xml", self.xml, "0600")

    def migrate(self) -> None:
        """Two primaries, one job, one primary."""
        self._both("drbdadm net-options --allow-two-primaries=yes bench1")
        self.cluster.sh("node2", "drbdadm primary bench1")
        self.cluster.sh(
            "node1",
            "virsh migrate --live --p2p --tls --persistent --undefinesource bench1 qemu+tls://198.51.100.12/system "
            "tcp://198.51.100.12 && drbdadm secondary bench1",
        )
        self._both("drbdadm net-options --allow-two-primaries=no bench1")

    def remove(self) -> None:
        """Everything away again."""
        self.cluster.sh("node2", "virsh destroy bench1; virsh undefine bench1")
        self._both(
            "drbdadm down bench1; rm /etc/drbd.d/twofold-bench1.res /var/tmp/bench1.xml; "
            "lvremove -qy twofold/bench1-disk0 twofold/bench1-disk0-meta"
        )


PARTS: dict[str, Callable[[Meter], None]] = {
    "operations": lambda meter: Operations(meter).run(),
    "repairs": lambda meter: BadDay(meter).repairs(),
    "dead-nodes": lambda meter: BadDay(meter).dead_nodes(),
    "resync": lambda meter: Resync(meter).run(),
}


def main() -> int:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="tests/bench/operations", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be given again")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (the median is shown)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    arguments = parser.parse_args()
    console = Console(highlight=False, width=max(WIDTH, Console().width))
    lab = Lab(f"{default_name()}-bench"[:20])
    try:
        image.build()
        guest.build()
        lab.down()
        # Room for the ten guests of a dead node.
        lab.up(memory=MEMORY_MIB)
        with tempfile.TemporaryDirectory() as directory:
            cluster = Cluster(lab, Path(directory))
            cluster.play("site")
            lab.run_all(WARM)
            meter = Meter(cluster, console, arguments.rounds)
            for part in arguments.only or PARTS:
                PARTS[part](meter)
    except LabError as error:
        console.print(f"The bench stopped: {error}")
        return 1
    finally:
        if not arguments.keep:
            lab.down()
    console.print(table(meter.rows))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in meter.rows], indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
