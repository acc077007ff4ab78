# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator does while something breaks: the rows of the matrix of faults.

Every flow begins with the same cluster: serve1 writes on node1 with its second copy on node2, so does tiny1 run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .cluster import Cluster, Variables
from .test_converge import wait_for_step
from .test_migrate import ADDRESS, wait_for_copying

SERVING = "serve1"
PAIR = {"twofold_nodes": ["node1", "node2"]}
# Tiny guests do not listen to the power button.
TINY = {**PAIR, "twofold_shutdown_timeout": 1}
Change = Callable[[Cluster], None]


@dataclass(frozen=True)
class Flow:
    """A playbook with what the operator changed in the inventory before, and how it is known to have come to its end.

    Faults strike as soon as `moment` returns. `source`, `target` and `third` are the nodes that
    they strike, `instance` is whose disk makes errors. `allocates` tells whether volumes are made or grow on `target`.
    `reached` asserts what one converge after the fault has to have brought about, besides what holds for every flow.
    """

    name: str
    playbook: str
    moment: Change
    arguments: tuple[str, ...] = ()
    source: str = "node1"
    target: str = "node2"
    third: str = "node3"
    instance: str = SERVING
    allocates: bool = False
    change: Change = lambda _cluster: None
    reached: Change = lambda _cluster: None


def _step(node: str, operation: str) -> Change:
    """The moment when a step runs on a node."""
    return lambda cluster: wait_for_step(cluster, node, operation)


def instances(cluster: Cluster) -> dict[str, Variables]:
    """The inventory's instances, as every flow finds them."""
    return {SERVING: {**PAIR, **cluster.linux(ADDRESS)}, "tiny1": dict(TINY)}


def _add_one(cluster: Cluster) -> None:
    cluster.instances["tiny2"] = dict(TINY)


def _one_more_runs(cluster: Cluster) -> None:
    assert cluster.running("tiny2") == ["node1"] == cluster.primaries("tiny2")


def _give_up(cluster: Cluster) -> None:
    cluster.instances["tiny1"]["twofold_state"] = "absent"


def _nothing_is_left(cluster: Cluster) -> None:
    for node in ("node1", "node2"):
        line = "virsh list --all --name; drbdsetup show; lvs --noheadings -o lv_name; find /var/lib/twofold /etc/drbd.d"
        assert "tiny1" not in cluster.sh(node, line), node


def _enlarge(cluster: Cluster) -> None:
    cluster.instances[SERVING]["twofold_disks"] = [{"size": "128MiB"}]


def _is_larger(cluster: Cluster) -> None:
    assert cluster.lab.run(ADDRESS, "cat /sys/block/vda/size").stdout.strip() == str((128 << 20) // 512)


def _stop_one_and_tune_all(cluster: Cluster) -> None:
    cluster.instances["tiny1"]["twofold_state"] = "stopped"
    cluster.variables["twofold_replication_resync_rate"] = "50MiB"


def _stopped_and_tuned(cluster: Cluster) -> None:
    assert cluster.running("tiny1") == []
    for node in ("node1", "node2"):
        for name in cluster.instances:
            shown = cluster.sh(node, f"drbdsetup show {name}")
            assert re.search(r"resync-rate\s+51200k", shown), (node, name, shown)


FLOWS = (
    Flow(
        "create", "converge", _step("node1", "volumes.create"),
        instance="tiny2", allocates=True, change=_add_one, reached=_one_more_runs,
    ),
    Flow("migrate", "migrate", wait_for_copying, ("-e", f"instance={SERVING}")),
    Flow("failover", "failover", _step("node1", "domain.stop"), ("-e", f"instance={SERVING}")),
    # The second copy goes from node2 to node3.
    Flow(
        "replace", "replace_disks", _step("node3", "replication.wait"), ("-e", f"instance={SERVING}"),
        target="node3", third="node2", allocates=True,
    ),
    # The guests go to node2, their second copies to node3.
    Flow(
        "evacuate", "evacuate", _step("node3", "volumes.create"), ("-e", "node=node1"),
        target="node3", third="node2", allocates=True,
    ),
    Flow(
        "grow", "converge", _step("node1", "volumes.grow"),
        allocates=True, change=_enlarge, reached=_is_larger,
    ),
    Flow(
        "remove", "converge", _step("node1", "domain.stop"),
        instance="tiny1", change=_give_up, reached=_nothing_is_left,
    ),
    Flow(
        "converge", "converge", _step("node1", "domain.stop"),
        instance="tiny1", change=_stop_one_and_tune_all, reached=_stopped_and_tuned,
    ),
)  # fmt: skip
