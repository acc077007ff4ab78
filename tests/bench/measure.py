# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operation costs: wall time, and the processor time of the nodes' machines; beside its floor and Ganeti's."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table
from tests.lab.cluster import Cluster, Variables


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


# Ganeti 3.1 in the same kind of lab: three emulated Debian 13 nodes, two cores.
GANETI = {
    "create and start": Cost(57, 62),
    "four at once": Cost(221, 360),
    "live migration": Cost(52, 70),
    "start": Cost(48, None),
    "remove": Cost(30, 42),
    "verify": Cost(54, 95),
    "status": Cost(3.6, 5.6),
    "failover of a running guest": Cost(55, None),
    "failover from a dead node, one guest": Cost(82, None),
    "replace the secondary, 512 MiB": Cost(60, 79),
    "grow a disk": Cost(42, 56),
}


class Meter:
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

    def remove(self) -> None:
        """Remove the instances that were wanted last."""
        last = self.cluster.instances
        self.instances({name: {**values, "twofold_state": "absent"} for name, values in last.items()})


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
