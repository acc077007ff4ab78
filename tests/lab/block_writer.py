# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a guest writing blocks, also when it is lost and comes back, and remembers what it acknowledged."""

from __future__ import annotations

import base64
import gzip
import subprocess
import threading
from types import TracebackType

from . import blocks, topology
from .core import Lab

DEVICE = "/dev/vda"
# Seconds until a guest that did not answer is tried again.
AGAIN = 1.0


class BlockWriter:
    """The operator's connection to a guest that acknowledges blocks; a context manager.

    `last` is the last number that the guest acknowledged, `boots` its boots in the order in which they were seen,
    `lost` tells every time that it began with less than it had acknowledged.
    """

    def __init__(self, lab: Lab, address: str) -> None:
        gateway = str(topology.GUEST.host_address).partition("/")[0]
        program = blocks.program(DEVICE, gateway)
        # A connection of its own: a shared one would live on after the guest.
        self.argv = ["ssh", "-F", str(lab.ssh_config), "-o", "ControlPath=none", address, "--", program]
        self.lab = lab
        self.last = 0
        self.boots: list[str] = []
        self.lost: list[str] = []
        self._ended = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._keep_writing)

    def __enter__(self) -> BlockWriter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._process:
            self._process.terminate()
        self._thread.join()

    def _keep_writing(self) -> None:
        while not self._ended.is_set():
            with subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ) as self._process:
                self._listen(self._process)
            self._ended.wait(AGAIN)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        for line in process.stdout:
            match line.split():
                case ["begin", number, boot]:
                    self._begin(int(number), boot)
                case [number] if number.isdigit():
                    self.last = int(number)
            if self._ended.is_set():
                process.terminate()

    def _begin(self, number: int, boot: str) -> None:
        if number < self.last:
            self.lost.append(f"block {self.last} was acknowledged, the guest's disk ended with {number}")
        if self.boots[-1:] != [boot]:
            self.boots.append(boot)

    def goes_on(self) -> int:
        """Wait until one more block is acknowledged; returns its number."""
        before = self.last
        self.lab.wait(lambda: self.last > before, what=f"the guest acknowledges a block after {before}")
        return self.last


def missing(lab: Lab, node: str, volume: str, acknowledged: int) -> list[int]:
    """The acknowledged numbers that a node's own copy of the disk lacks, read past DRBD and every cache."""
    mib = 1 << 20
    first, count = blocks.FIRST * blocks.SIZE // mib, blocks.SLOTS * blocks.SIZE // mib
    read = (
        f"dd if=/dev/twofold/{volume} bs=1M skip={first} count={count} iflag=direct status=none | gzip -1 | base64 -w0"
    )
    return blocks.missing(gzip.decompress(base64.b64decode(lab.run(node, read).stdout)), acknowledged)
