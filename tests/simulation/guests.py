# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What guests write: numbered records, and which of them were acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.twofold.cluster.plugins.module_utils._errors import TwofoldError

from .contents import Content

if TYPE_CHECKING:
    from .machine import Machine
    from .world import World

Disk = tuple[str, int]


class Guests:
    """The guests' writing.

    `tips` are by instance and disk the last acknowledged states, of which nothing may be lost; `given_up` are those
    that the operator lets a guest go on without, which are kept aside until he has them dropped.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.tips: dict[Disk, list[Content]] = {}
        self.given_up: dict[Disk, list[Content]] = {}
        self.number = 0

    def write(self) -> None:
        """Every guest that runs writes a record to each of its disks."""
        for machine in self.world.machines.values():
            for name, guest in machine.libvirt.domains.items() if machine.awake else ():
                if guest.state == "running":
                    for index, (_target, path) in enumerate(guest.facts.disks):
                        self._one(machine, (name, index), path)

    def _one(self, machine: Machine, disk: Disk, path: str) -> None:
        try:
            before = machine.content(path)
            if before is None:
                return
            record = self.record(disk, before)
            if machine.write(path, record):
                self.acknowledged(disk, record)
        except TwofoldError:
            return

    def record(self, disk: Disk, before: Content) -> Content:
        """The next record."""
        self.number += 1
        return Content(f"{disk[0]}/{disk[1]}#{self.number}", before)

    def acknowledged(self, disk: Disk, record: Content) -> None:
        """The guest was told that it is safe."""
        kept = [tip for tip in self.tips.get(disk, []) if not record.holds(tip)]
        self.tips[disk] = [*kept, record]
        self.world.rules.counts["records acknowledged"] += 1

    def torn(self, machine: Machine) -> None:
        """When the power goes, a record that nobody was told of may be on one copy and not on the other."""
        for name, guest in machine.libvirt.domains.items():
            if guest.state != "running" or self.world.rng.random() < 0.5:
                continue
            for index, (_target, path) in enumerate(guest.facts.disks):
                found = machine.replicated(path) if path.startswith("/dev/drbd") else None
                if found is None:
                    continue
                resource, device = found
                sides = [device]
                if resource.connected and resource.reachable and resource.peer is not None:
                    sides.append(resource.peer.devices[device.volume])
                side = self.world.rng.choice(sides)
                if side.data is not None and side.disk == "UpToDate":
                    side.data.content = self.record((name, index), side.data.content)

    def forget(self, name: str) -> None:
        """The instance was removed on purpose."""
        for disk in sorted({*self.tips, *self.given_up}):
            if disk[0] == name:
                self.overwritten(disk)

    def overwritten(self, disk: Disk) -> None:
        """Everything on a disk is lost on purpose."""
        self.tips.pop(disk, None)
        self.given_up.pop(disk, None)

    def give_up(self, disk: Disk, survivor: Content | None) -> None:
        """The operator goes on with a copy, whatever it lacks."""
        tips = self.tips.get(disk, [])
        lost = [tip for tip in tips if survivor is None or not survivor.holds(tip)]
        if lost:
            self.tips[disk] = [tip for tip in tips if tip not in lost]
            self.given_up[disk] = [*self.given_up.get(disk, []), *lost]

    def dropped(self, disk: Disk, copy: Content) -> None:
        """The operator has a copy removed that was kept."""
        kept = self.given_up.get(disk, [])
        self.given_up[disk] = [tip for tip in kept if not copy.holds(tip)]
