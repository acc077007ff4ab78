# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A BMC for every node: IPMI over a UDP port of the host's loopback, mapped to the power of the emulated machine.

`python -m tests.lab.bmc LAB NODE PORT` serves one node, as a board of its own that lives while the node is off. Real
programs talk to it: `ipmitool -I lanplus`, `fence_ipmilan`.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pyghmi.ipmi.bmc import Bmc

from .core import Lab

ADDRESS = "127.0.0.1"
USER = "fencer"
# Known to everyone, on the loopback alone; looked for in the product's logs by a test.
PASSWORD = "bmc-Passw0rd"
ROOT = Path(__file__).resolve().parents[2]


class NodeBmc(Bmc):  # type: ignore[misc]
    """The BMC of one node."""

    def __init__(self, lab: Lab, node: str, port: int) -> None:
        super().__init__({USER: PASSWORD}, port=port, address=ADDRESS)
        self.lab = lab
        self.node = node

    def get_power_state(self) -> str:
        return "on" if self.lab.powered(self.node) else "off"

    def power_off(self) -> None:
        self.lab.power_off(self.node)

    def power_on(self) -> None:
        if not self.lab.powered(self.node):
            self.lab.power_on(self.node, wait=False)

    def power_reset(self) -> None:
        if self.lab.powered(self.node):
            self.lab.power_cycle(self.node, wait=False)

    power_cycle = power_reset


@contextmanager
def serving(lab: Lab, node: str) -> Iterator[int]:
    """The UDP port at which a node's BMC answers while the context lasts."""
    port = _free_port()
    argv = [sys.executable, "-m", "tests.lab.bmc", lab.name, node, str(port)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n", f"the BMC of {node} did not start"
            yield port
        finally:
            process.kill()


@contextmanager
def all_serving(lab: Lab) -> Iterator[dict[str, int]]:
    """The ports of every node's BMC."""
    with ExitStack() as stack:
        yield {node: stack.enter_context(serving(lab, node)) for node in lab.nodes}


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port


def main(lab: str, node: str, port: str) -> None:
    """Serve until killed."""
    NodeBmc(Lab(lab, quiet=True), node, int(port))
    print("ready", flush=True)
    Bmc.listen()


if __name__ == "__main__":
    main(*sys.argv[1:])
