# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What operations cost on the lab's nodes, each against its floor: the bare commands by hand over ssh.

Run it as ``tests/bench/operations`` or ``./test bench``. Wall time is the operator's, from the start of
ansible-playbook to its end; CPU seconds are those of the nodes' emulated machines, which are sturdier on a busy host.
The figures beside are those of Ganeti 3.1 in the same kind of lab (three emulated Debian 13 nodes, 2 cores).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table
from tests.lab import guest, image
from tests.lab.cluster import Cluster, Variables
from tests.lab.core import Lab
from tests.lab.errors import LabError
from tests.lab.paths import default_name

WARM = "virsh -q domcapabilities --virttype kvm >/dev/null; modprobe drbd"
SIZE = "256MiB"
WIDTH = 120


@dataclass
class Cost:
    """Wall seconds, and CPU seconds of all nodes (None: not measured)."""

    wall: float
    cpu: float | None

    def __str__(self) -> str:
        return f"{self.wall:.1f} / {'?' if self.cpu is None else f'{self.cpu:.1f}'}"

    def beside(self, other: Cost | None) -> str:
        """Both as multiples of another's."""
        if other is None:
            return ""
        processor = f", {self.cpu / other.cpu:.2f}" if self.cpu and other.cpu else ""
        return f"{self.wall / other.wall:.2f}{processor}"


@dataclass
class Row:
    """One operation."""

    name: str
    ours: Cost
    floor: Cost | None
    ganeti: Cost | None


GANETI = {
    "create and start": Cost(57, 62),
    "four at once": Cost(221, 360),
    "live migration": Cost(52, 70),
    "start": Cost(48, None),
    "remove": Cost(30, 42),
    "verify": Cost(54, 95),
    "status": Cost(3.6, 5.6),
}


class Bench:
    """Runs operations on a cluster and keeps what they cost."""

    def __init__(self, cluster: Cluster, console: Console, rounds: int) -> None:
        self.cluster = cluster
        self.console = console
        self.rounds = rounds
        self.rows: list[Row] = []

    def cost(self, work: Callable[[], object]) -> Cost:
        """Do the work once and return what it cost."""
        before, start = sum(self.cluster.lab.cpu_seconds().values()), time.monotonic()
        work()
        wall = time.monotonic() - start
        return Cost(wall, sum(self.cluster.lab.cpu_seconds().values()) - before)

    def row(self, name: str, ours: list[Cost], floor: list[Cost]) -> None:
        """Keep the medians."""
        found = Row(name, middle(ours), middle(floor) if floor else None, GANETI.get(name))
        self.rows.append(found)
        self.console.print(f"{name}: {found.ours} (floor {found.floor or 'none'})")

    def instances(self, wanted: dict[str, Variables]) -> None:
        """Converge to these instances and none else that was ours before."""
        self.cluster.instances = wanted
        self.cluster.play("converge")

    def run(self) -> None:
        """All operations."""
        self._pairs()
        self._four()
        self._reads()

    def _pairs(self) -> None:
        """Create, migrate, stop, start and remove one instance, beside the same by hand."""
        pair = {"twofold_nodes": ["node1", "node2"], "twofold_os": None, "twofold_disks": [{"size": SIZE}]}
        ours: dict[str, list[Cost]] = {}
        floor: dict[str, list[Cost]] = {}
        for _ignored in range(self.rounds):
            for name, state in (("create and start", "running"), ("stop", "stopped"), ("start", "running")):
                change = {"bench1": {**pair, "twofold_state": state, "twofold_shutdown_timeout": 1}}
                ours.setdefault(name, []).append(self.cost(partial(self.instances, change)))
            moved = self.cost(lambda: self.cluster.play("migrate", "-e", "instance=bench1"))
            ours.setdefault("live migration", []).append(moved)
            xml = self.cluster.sh("node2", "virsh dumpxml --inactive bench1")
            resource = self.cluster.sh("node2", "cat /etc/drbd.d/twofold-bench1.res")
            gone = {"bench1": {**pair, "twofold_state": "absent", "twofold_shutdown_timeout": 1}}
            ours.setdefault("remove", []).append(self.cost(partial(self.instances, gone)))
            hand = ByHand(self.cluster, xml, resource)
            for name, work in hand.operations().items():
                floor.setdefault(name, []).append(self.cost(work))
        for name, costs in ours.items():
            self.row(name, costs, floor.get(name, []))

    def _four(self) -> None:
        """Four creations at once, then a run that changes nothing, and their removal."""
        pairs = (("node1", "node2"), ("node2", "node3"), ("node3", "node1"), ("node1", "node3"))
        four: dict[str, Variables] = {
            f"four{number}": {"twofold_nodes": list(pair), "twofold_os": None, "twofold_disks": [{"size": SIZE}]}
            for number, pair in enumerate(pairs)
        }
        self.row("four at once", [self.cost(lambda: self.instances(four))], [])

    def _reads(self) -> None:
        """What changes nothing, with the four instances there."""

        def look() -> None:
            line = "vgs; lvs; virsh list --all; drbdsetup events2 --now"
            list(self.cluster.lab.run_all(line).values())

        for name, playbook in (("nothing to change", "site"), ("converge, nothing to change", "converge")):
            self.row(name, [self.cost(partial(self.cluster.play, playbook)) for _ignored in range(self.rounds)], [])
        for name in ("status", "verify"):
            ours = [self.cost(partial(self.cluster.play, name)) for _ignored in range(self.rounds)]
            self.row(name, ours, [self.cost(look) for _ignored in range(self.rounds)])


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


def middle(costs: list[Cost]) -> Cost:
    """The median of each."""
    return Cost(median(cost.wall for cost in costs), median(cost.cpu for cost in costs if cost.cpu is not None))


def table(rows: list[Row]) -> Table:
    """What was measured, as a table."""
    made = Table(title="Operations: wall seconds / CPU seconds of the nodes; ratios of both", title_justify="left")
    for column in ("operation", "ours", "by hand", "ours : by hand", "Ganeti 3.1", "ours : Ganeti"):
        made.add_column(column, no_wrap=True, justify="left" if column == "operation" else "right")
    for row in rows:
        made.add_row(
            row.name,
            str(row.ours),
            str(row.floor or ""),
            row.ours.beside(row.floor),
            str(row.ganeti or ""),
            row.ours.beside(row.ganeti),
        )
    return made


def main() -> int:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="tests/bench/operations", description=(__doc__ or "").splitlines()[0])
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
        lab.up()
        with tempfile.TemporaryDirectory() as directory:
            cluster = Cluster(lab, Path(directory))
            cluster.play("site")
            lab.run_all(WARM)
            bench = Bench(cluster, console, arguments.rounds)
            bench.run()
    except LabError as error:
        console.print(f"The bench stopped: {error}")
        return 1
    finally:
        if not arguments.keep:
            lab.down()
    console.print(table(bench.rows))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in bench.rows], indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
