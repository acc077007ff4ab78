# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cluster: nodes, links, and what happens by itself."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from .drbd import Network
from .engine import Engine
from .guests import Guests
from .machine import Machine
from .power_back import EVERY
from .rules import Rules

if TYPE_CHECKING:
    from .operator import Run

GIB = 1 << 30
WRITING = 3.0
# Who does not answer for so many seconds is given up.
PATIENCE = 30.0


class World:
    """Everything that is simulated. Deterministic by its seed."""

    def __init__(self, seed: int, nodes: int, *, space: int = 16 * GIB, memory: int = 4 * GIB) -> None:
        self.rng = Random(seed)
        self.engine = Engine(self.rng)
        self.cut: set[frozenset[str]] = set()
        self.unmanaged: set[str] = set()
        self.dirty: set[str] = set()
        self.lines: list[str] = []
        self.runs: list[Run] = []
        self.pids = 0
        # How often a node did something by itself.
        self.alone = 0
        self._identifiers = 16
        self.rules = Rules(self)
        self.drbd = Network(self)
        self.guests = Guests(self)
        names = [f"node{index}" for index in range(1, nodes + 1)]
        self.machines = {name: Machine(self, name, index, space, memory) for index, name in enumerate(names, 1)}
        self.by_address = {
            address: one for one in self.machines.values() for address in (one.address, one.replication_address)
        }
        for machine in self.machines.values():
            machine.add_foreign()
            machine.alone.begin(EVERY * self.rng.random())
        self.engine.after_each = self._after_each
        self._write()

    def _after_each(self) -> None:
        if self.dirty:
            dirty, self.dirty = self.dirty, set()
            self.rules.state(dirty)

    def _write(self) -> None:
        self.guests.write()
        self.engine.later(WRITING * (0.5 + self.rng.random()), self._write)

    def changed(self, name: str) -> None:
        """Something of an instance changed: the rules look at it before anything else happens."""
        if name:
            self.dirty.add(name)

    def identifier(self) -> int:
        """A new generation identifier, which never repeats; as with DRBD's, its first digits tell it from others."""
        self._identifiers += 2
        return self._identifiers << 16

    def log(self, line: str) -> None:
        """A line of the history."""
        self.lines.append(f"{self.engine.now - 1_000_000:8.1f} {line}")

    # Links

    def manageable(self, name: str) -> bool:
        """Whether the control host gets an answer from a node; one that is just slow is waited for."""
        machine = self.machines[name]
        silent = machine.frozen and self.engine.now > machine.frozen_at + PATIENCE
        return machine.on and name not in self.unmanaged and not silent

    def connects(self, one: Machine, other: Machine, uri: str) -> bool:
        """Whether a node gets to another at an address of it, on the network that the address is of."""
        if other.replication_address in uri:
            return one.reaches(other)
        return self.manageable(one.name) and self.manageable(other.name)

    def cut_link(self, one: str, other: str) -> None:
        """The replication network between two nodes fails."""
        self.cut.add(frozenset((one, other)))
        self.drbd.watch()

    def mend_links(self) -> None:
        """Every link works again."""
        self.cut.clear()
        self.unmanaged.clear()
        self.drbd.look_again()
