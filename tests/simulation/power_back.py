# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node looks after its guests by itself: the real program, after a boot and from its timer."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ansible_collections.twofold.cluster.plugins.module_utils import _power_back
from ansible_collections.twofold.cluster.plugins.module_utils._errors import TwofoldError
from ansible_collections.twofold.cluster.plugins.module_utils._power_back import PowerBack, Settings

from .engine import Task

if TYPE_CHECKING:
    from .machine import Machine

EVERY = 60.0
RESTARTS = 3


class Alone:
    """The unit and its timer on a node. `task` is the pass that goes on."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.task: Task | None = None

    def settings(self) -> Settings:
        """What the role writes."""
        peers = {
            one.name: [f"qemu+tls://{address}/system" for address in (one.replication_address, one.address)]
            for one in self.machine.world.machines.values()
            if one is not self.machine
        }
        return Settings(self.machine.name, peers, RESTARTS, 10, 10)

    def begin(self, delay: float) -> None:
        """After a boot: the first pass then, and one each minute."""
        boot = self.machine.boots
        self.machine.world.engine.later(delay, lambda: self._turn(boot))

    def _turn(self, boot: int) -> None:
        machine = self.machine
        if not machine.on or machine.boots != boot:
            return
        machine.world.engine.later(EVERY, lambda: self._turn(boot))
        busy = self.task is not None and not self.task.over
        if not busy and not machine.frozen and not self._idle():
            name = f"{machine.name} by itself"
            self.task = machine.world.engine.spawn(name, self._pass, place=machine.name)

    def _idle(self) -> bool:
        machine = self.machine

        def alive(name: str) -> bool:
            guest = machine.libvirt.domains.get(name)
            return guest is not None and guest.active

        return _power_back.idle(machine.files, self.settings(), alive)

    def _pass(self) -> None:
        node, world = self.machine.node(None), self.machine.world
        try:
            # In full it is what the program asks for; the steps are promised less.
            watched = cast(_power_back.Watched, node.hypervisor)
            said = PowerBack(node, watched, self.settings()).run()
        except TwofoldError as error:
            said = [f"{error.message}; {error.remedy}"]
        for line in said:
            world.log(f"{self.machine.name} by itself: {line}")

    def works(self, task: Task | None) -> bool:
        """Whether this is its pass."""
        return task is not None and task is self.task
