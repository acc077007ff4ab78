# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A witness of where a guest runs that asks no node: it listens for the guest's frames on the cables of all nodes.

A guest that pings every second and runs on two nodes is heard on both, again and again; one that moved is heard on the
one node, then on the other.
"""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from . import topology
from .core import Lab
from .paths import REPOSITORY

ALL_PROTOCOLS = 0x0003
# Seconds. Who runs there as well is heard again within one.
AGAIN = 3.0
LISTENING = "listening"


@dataclass(frozen=True)
class Heard:
    """The moment (seconds, this host's clock) from which on a guest was heard on another node than before."""

    time: float
    node: str


def twice(heard: Sequence[Heard]) -> list[str]:
    """The times when a guest was heard on a node again right after it had been heard on another."""
    return [
        f"on {there.node} and {again.node} within {again.time - there.time:.2f} s"
        for here, there, again in zip(heard, heard[1:], heard[2:], strict=False)
        if again.node == here.node and again.time - there.time < AGAIN
    ]


class Wiretap:
    """Listens for one guest while the context lasts; `heard` is then what it heard."""

    def __init__(self, lab: Lab, mac: str) -> None:
        cables = [f"{node}={topology.GUEST.tap(node)}" for node in lab.nodes]
        self.argv = lab.namespace_argv([sys.executable, "-m", "tests.lab.wiretap", mac, *cables])
        self.heard: list[Heard] = []

    def __enter__(self) -> Wiretap:
        self._process = subprocess.Popen(
            self.argv, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout and self._process.stdout.readline().strip() == LISTENING
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The end of its input is how it is told to stop, also through sudo.
        said, _nothing = self._process.communicate()
        for line in said.splitlines():
            moment, node = line.split()
            self.heard.append(Heard(float(moment), node))


def listen(mac: bytes, cables: dict[str, str]) -> None:
    """Print each change of the node whose cable a guest's own frames come from, until the input ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        for node, tap in cables.items():
            cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
            cable.bind((tap, 0))
            selector.register(cable, selectors.EVENT_READ, node)
        print(LISTENING, flush=True)
        last = None
        while True:
            for key, _events in selector.select():
                if not isinstance(key.fileobj, socket.socket):
                    return
                if _speaks(key.fileobj, mac) and key.data != last:
                    last = key.data
                    print(f"{time.time():.3f} {last}", flush=True)


def _speaks(cable: socket.socket, mac: bytes) -> bool:
    """Whether the next frame comes from the node and from the guest; the bridge sends others' frames to the node."""
    frame, address = cable.recvfrom(64)
    return address[2] != socket.PACKET_OUTGOING and frame[6:12] == mac


if __name__ == "__main__":
    listen(bytes.fromhex(sys.argv[1].replace(":", "")), dict(word.split("=") for word in sys.argv[2:]))
