# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast DRBD fills a copy with the options that we give it: beside a plain copy to the other node, and limited."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.bench.measure import Meter
from tests.lab.cluster import Variables

MIB = 512
LIMIT = 16
PAIR: Variables = {"twofold_nodes": ["node1", "node2"], "twofold_os": None, "twofold_disks": [{"size": f"{MIB}MiB"}]}
# Past the cache on both sides, as DRBD does it; the port is one that the firewall lets through.
ADDRESS, PORT = "198.51.100.12", 7199
HEAD = "import mmap, os, socket; place = mmap.mmap(-1, 1 << 20); view = memoryview(place)\n"
RECEIVE = f"""{HEAD}
disk = os.open("/dev/twofold/scratch", os.O_WRONLY | os.O_DIRECT)
sender = socket.create_server(("{ADDRESS}", {PORT})).accept()[0]
while count := sender.recv_into(view, len(view), socket.MSG_WAITALL):
    os.write(disk, view[:count])
"""
SEND = f"""{HEAD}
import time
disk = os.open("/dev/twofold/bench1-disk0", os.O_RDONLY | os.O_DIRECT)
while True:
    try:
        receiver = socket.create_connection(("{ADDRESS}", {PORT}))
        break
    except ConnectionRefusedError:
        time.sleep(0.1)
while count := os.readv(disk, [place]):
    receiver.sendall(view[:count])
"""


class Resync:
    """One disk, filled again as a whole."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.cluster = meter.cluster

    def run(self) -> None:
        """At full speed beside a plain copy, then with the inventory's limit."""
        self.meter.instances({"bench1": {**PAIR, "twofold_shutdown_timeout": 1}})
        self.cluster.sh("node2", f"lvcreate -qy -Wn -n scratch -L {MIB}M twofold")
        rounds = range(self.meter.rounds)
        filled = [self.meter.cost(self._fill) for _ignored in rounds]
        copied = [self.meter.cost(self._copy) for _ignored in rounds]
        self.cluster.sh("node2", "lvremove -qy twofold/scratch")
        self.meter.row(f"resync, {MIB} MiB", filled, copied)
        rate = f"{LIMIT}MiB"
        self.cluster.variables |= {
            "twofold_replication_resync_rate": rate, "twofold_replication_resync_max_rate": rate,
        }  # fmt: skip
        self.cluster.play("converge")
        self.meter.row(f"... limited to {LIMIT} MiB/s", [self.meter.cost(self._fill) for _ignored in rounds], [])
        self.cluster.variables = {}
        self.meter.remove()

    def _fill(self) -> None:
        """The copy on node2 is given up and filled again."""
        whole = '[ "$(drbdadm dstate bench1)" = UpToDate/UpToDate ]'
        self.cluster.sh("node2", f"drbdadm invalidate bench1; until {whole}; do sleep 0.3; done")

    def _copy(self) -> None:
        with ThreadPoolExecutor() as pool:
            work = [pool.submit(partial(self.cluster.sh, node, f"python3 -c '{program}'"))
                    for node, program in (("node2", RECEIVE), ("node1", SEND))]  # fmt: skip
            for one in work:
                one.result()
