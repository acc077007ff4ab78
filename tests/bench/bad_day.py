# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What failure and repair cost."""

from __future__ import annotations

from functools import partial

from tests.bench.measure import Cost, Meter
from tests.lab.cluster import Variables

PAIR: Variables = {"twofold_nodes": ["node1", "node2"], "twofold_os": None, "twofold_shutdown_timeout": 1}
GUEST: Variables = {**PAIR, "twofold_memory": "32MiB", "twofold_disks": [{"size": "4MiB"}]}
GUESTS = 10
SURVIVORS = ("node2", "node3")


class BadDay:
    """Operations on one instance, and the death of a node; the cluster is whole and empty of ours afterwards."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.cluster = meter.cluster

    def repairs(self) -> None:
        """What is done while every node works."""
        replaced, grown, failed = [], [], []
        for _ignored in range(self.meter.rounds):
            self.meter.instances({"bench1": {**PAIR, "twofold_disks": [{"size": "512MiB"}]}})
            replaced.append(self._play("replace_disks", "-e", "instance=bench1", "-e", "new_secondary=node3"))
            self.cluster.instances["bench1"]["twofold_nodes"] = ["node1", "node3"]
            self.cluster.instances["bench1"]["twofold_disks"] = [{"size": "768MiB"}]
            grown.append(self._play("converge"))
            failed.append(self._play("failover", "-e", "instance=bench1"))
            self.meter.remove()
        self.meter.row("replace the secondary, 512 MiB", replaced, [])
        self.meter.row("grow a disk", grown, [])
        self.meter.row("failover of a running guest", failed, [])

    def dead_nodes(self) -> None:
        """A node dies with one guest, then with ten."""
        self._dead_node("failover from a dead node, one guest", 1)
        self._dead_node(f"failover from a dead node, {GUESTS} guests", GUESTS)

    def _play(self, *words: str) -> Cost:
        return self.meter.cost(partial(self.cluster.play, *words))

    def _dead_node(self, name: str, guests: int) -> None:
        """Their second copies are where placement would put them: on both of the others.

        Detection is not counted: it begins when the survivors' DRBD has missed its peer.
        """
        lab = self.cluster.lab
        names = [f"guest{number}" for number in range(guests)]
        held = {node: names[number :: len(SURVIVORS)] for number, node in enumerate(SURVIVORS)}
        self.meter.instances(
            {name: {**GUEST, "twofold_nodes": ["node1", node]} for node, there in held.items() for name in there}
        )
        lab.power_off("node1")
        for node, there in held.items():
            self.cluster.wait_missed(node, *there)
        self.meter.row(name, [self._play("recover", "-e", "confirm_dead=node1")], [])
        lab.power_on("node1")
        lab.wait(partial(self._whole, held), timeout=600, what="the copies on node1 are complete")
        self.meter.remove()

    def _whole(self, held: dict[str, list[str]]) -> bool:
        states: set[str] = set()
        for node, names in held.items():
            states.update(*(self.cluster.sh(node, f"drbdadm dstate {name}").split() for name in names))
        return states == {"UpToDate/UpToDate"}
