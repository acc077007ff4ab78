# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt on the nodes: domains, what they hold open, and migrations between nodes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ansible_collections.twofold.cluster.plugins.module_utils._errors import HypervisorError, TwofoldError
from ansible_collections.twofold.cluster.plugins.module_utils._libvirt import Domain
from ansible_collections.twofold.cluster.plugins.module_utils._migration import Look, Migration, Outcome

from .domain import Facts, completed, facts

if TYPE_CHECKING:
    from .engine import Task
    from .machine import Machine

OFF = "shutoff"
# Seconds after which libvirt takes a peer for lost.
KEEPALIVE = 25.0


@dataclass
class Guest:
    """A domain on one node. `live` is what it runs with, `why` it is off; `job` the migration that works on it."""

    xml: str
    state: str = OFF
    why: str = "unknown"
    persistent: bool = True
    autostart: bool = False
    live: str | None = None
    job: Task | None = None
    moving: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    switched: bool = False

    @property
    def active(self) -> bool:
        """Whether there is a QEMU."""
        return self.state != OFF

    @property
    def stranded(self) -> bool:
        """Whether a migration that is over has left it paused."""
        return self.state == "paused" and self.switched and not self.moving

    @property
    def facts(self) -> Facts:
        """What it runs with, or would."""
        return facts(self.live or self.xml)


class Libvirtd:
    """The domains of a node. Definitions survive its power, guests do not."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.world = machine.world
        self.domains: dict[str, Guest] = {}

    def opens(self, path: str) -> bool:
        """Whether a guest has a device open."""
        return any(
            guest.active and any(source == path for _target, source in guest.facts.disks)
            for guest in self.domains.values()
        )

    def seen(self, found: Facts) -> dict[str, int]:
        """The sizes of the disks that a QEMU opens now; it sees no other until it is told."""
        return {target: self.machine.device_size(source) for target, source in found.disks}

    def open_devices(self, found: Facts) -> None:
        """What QEMU does when it starts: everything has to be there, and a replicated disk has to be Primary."""
        for _target, source in found.disks:
            self.machine.writable(source)
        for path in found.files:
            if not self.machine.seeds.there(path):
                raise HypervisorError(f"Cannot access storage file '{path}': No such file or directory")
        for bridge in found.bridges:
            if bridge not in self.machine.bridges:
                raise HypervisorError(f"Cannot get interface MTU on '{bridge}': No such device")

    def start(self, name: str) -> None:
        """Start a guest."""
        guest = self.domains.get(name)
        if guest is None:
            raise HypervisorError(f"domain {name} is not defined here")
        if guest.active:
            raise HypervisorError(f"libvirt: start {name}: Requested operation is not valid: domain is already running")
        self.open_devices(guest.facts)
        guest.state, guest.live, guest.sizes = "running", guest.xml, self.seen(guest.facts)
        self.world.rules.starts(self.machine, name)
        self.world.changed(name)

    def stop(self, name: str, why: str = "destroyed") -> None:
        """The QEMU ends, for one of libvirt's reasons."""
        guest = self.domains.get(name)
        if guest is not None and guest.active:
            guest.state, guest.live, guest.moving, guest.why = OFF, None, False, why
            if not guest.persistent:
                del self.domains[name]
            self.world.changed(name)

    def power_lost(self) -> None:
        """Every guest is gone, and nobody knows why any one was off."""
        for name, guest in list(self.domains.items()):
            guest.why = "unknown"
            self.stop(name, "unknown")

    def restarted(self) -> None:
        """libvirtd begins anew: guests run on, and why others are off is forgotten."""
        for guest in self.domains.values():
            if not guest.active:
                guest.why = "unknown"

    def goes_on(self, name: str) -> None:
        """The half of a migration at its target goes on."""
        self.domains[name].state = "running"
        self.world.log(f"{name} runs on {self.machine.name} now")
        self.world.rules.moves(self.machine, name)
        self.world.changed(name)

    def undefine(self, name: str) -> None:
        """Remove the definition; a guest that runs becomes transient."""
        guest = self.domains[name]
        if guest.active:
            guest.persistent = guest.autostart = False
        else:
            del self.domains[name]
        self.world.changed(name)


class Move:
    """One live migration, carried on by libvirtd whatever becomes of the caller."""

    def __init__(self, source: Machine, target: Machine, wanted: Migration, between: Callable[[], None]) -> None:
        self.between = between
        self.source = source
        self.target = target
        self.wanted = wanted
        self.world = source.world
        self.begun = source.world.engine.now
        self.error: str | None = None
        self.unsafe: str | None = None
        self.guest = source.libvirt.domains[wanted.name]

    def run(self) -> None:
        """The whole migration; leaves the error or None."""
        name, engine = self.wanted.name, self.world.engine
        try:
            self._check()
            self._prepare()
            for _round in range(1 + int(8 * self.world.rng.random())):
                engine.pause(2 * self.world.rng.random())
                self.between()
                self._check()
            self._switch()
        except TwofoldError as error:
            self.error = error.message
            self._give_up()
        finally:
            self.guest.moving = False
            self.guest.job = None
            self.world.changed(name)

    def _check(self) -> None:
        name = self.wanted.name
        if self.source.libvirt.domains.get(name) is not self.guest or self.guest.state != "running":
            raise HypervisorError("operation failed: domain is not running")
        if self.unsafe is not None:
            raise HypervisorError("operation aborted: migration out job: canceled by client")
        if not self.source.reaches(self.target):
            raise HypervisorError("unable to connect to server: No route to host")
        if any(one.frozen_at > self.begun and one.stood > KEEPALIVE for one in (self.source, self.target)):
            raise HypervisorError("internal error: connection closed due to keepalive timeout")
        there = self.target.libvirt.domains.get(name)
        if self.guest.moving and (there is None or there.state != "paused"):
            raise HypervisorError("operation failed: the guest disappeared from the target")

    def _xml(self) -> str:
        return completed(self.wanted.xml) if self.wanted.xml else self.guest.live or self.guest.xml

    def _prepare(self) -> None:
        name, domains = self.wanted.name, self.target.libvirt.domains
        there = domains.get(name)
        if there is not None and there.active:
            raise HypervisorError(f"Requested operation is not valid: domain '{name}' is already active")
        self.target.libvirt.open_devices(facts(self._xml()))
        if there is None:
            there = domains[name] = Guest(self._xml(), persistent=False)
        there.state, there.live, there.moving = "paused", self._xml(), True
        there.sizes = self.target.libvirt.seen(there.facts)
        self.guest.moving = True
        self.world.changed(name)

    def _switch(self) -> None:
        """The guest pauses here and goes on there; a connection that breaks in between leaves one of them paused."""
        name, engine = self.wanted.name, self.world.engine
        self.guest.state, self.guest.switched = "paused", True
        self._copy_disks()
        engine.pause(0.3 * self.world.rng.random())
        self.between()
        there = self.target.libvirt.domains.get(name)
        if there is None or not there.active or not self.source.reaches(self.target):
            self.guest.state = "running"
            raise HypervisorError("operation failed: migration out job: unexpectedly failed")
        there.moving, there.xml, there.persistent = False, self._persistent(), True
        if not self.wanted.waits:
            self.target.libvirt.goes_on(name)
        self.world.changed(name)
        engine.pause(0.3 * self.world.rng.random())
        self.between()
        if not self.source.reaches(self.target):
            # The answer is lost: libvirt takes it that the target has not started its half.
            self.guest.state = "running"
            raise HypervisorError("Cannot recv data: Connection reset by peer")
        self.source.libvirt.stop(name, "migrated")
        self.source.libvirt.domains.pop(name, None)

    def _persistent(self) -> str:
        return completed(self.wanted.xml) if self.wanted.xml else self.guest.xml

    def _copy_disks(self) -> None:
        ours, theirs = facts(self.guest.live or self.guest.xml), facts(self._xml())
        for (target, source), (_other, copy) in zip(ours.disks, theirs.disks, strict=True):
            if target in self.wanted.copy_disks:
                there = self.target.backing(copy)
                if there.failing or self.source.backing(source).failing:
                    self.guest.state = "running"
                    raise HypervisorError(f"operation failed: migration of disk {target} failed: Input/output error")
                self.target.overwrite(there, self.source.backing(source).content)

    def _give_up(self) -> None:
        """The target's half ends unless it runs already."""
        there = self.target.libvirt.domains.get(self.wanted.name)
        if there is not None and there.moving and there.state == "paused" and self.target.on:
            if self.target.frozen:
                self.world.engine.later(1.0, self._give_up)
            else:
                # The source says that it was in vain, or the connection is missed.
                why = "failed" if self.source.reaches(self.target) else "destroyed"
                self.target.libvirt.stop(self.wanted.name, why)


class SimHypervisor:
    """`Hypervisor` of one call."""

    EFFECTS = frozenset(
        {
            "define",
            "undefine",
            "set_autostart",
            "start",
            "shutdown",
            "destroy",
            "resume",
            "migrate",
            "resize_disk",
            "go_on_at",
            "discard_at",
        }
    )

    def __init__(self, machine: Machine, wait: Callable[[float], None], between: Callable[[], None]) -> None:
        self.machine = machine
        self.between = between
        self.libvirt = machine.libvirt
        self.wait = wait

    def versions(self) -> dict[str, str | None]:
        return {"libvirt": "11.3.0", "qemu": "10.0.2"}

    def domains(self) -> dict[str, Domain]:
        return {name: self._describe(name, guest) for name, guest in self.libvirt.domains.items()}

    def domain(self, name: str) -> Domain | None:
        guest = self.libvirt.domains.get(name)
        return None if guest is None else self._describe(name, guest)

    @staticmethod
    def _describe(name: str, guest: Guest) -> Domain:
        known = guest.facts
        return Domain(
            name=name,
            uuid=known.uuid,
            state=guest.state,
            persistent=guest.persistent,
            autostart=guest.autostart,
            memory=known.memory,
            vcpus=known.vcpus,
            xml=guest.xml,
            migrating=guest.active and guest.moving,
            stranded=guest.stranded,
        )

    def _need(self, name: str) -> Guest:
        guest = self.libvirt.domains.get(name)
        if guest is None:
            raise HypervisorError(f"domain {name} is not defined here")
        return guest

    def live_xml(self, name: str) -> str:
        guest = self._need(name)
        return guest.live or guest.xml

    def define(self, xml: str) -> None:
        text, name = completed(xml), facts(xml).name
        guest = self.libvirt.domains.get(name)
        if guest is None:
            self.libvirt.domains[name] = Guest(text)
        else:
            guest.xml, guest.persistent = text, True
        self.machine.world.changed(name)

    def undefine(self, name: str) -> None:
        self._need(name)
        self.libvirt.undefine(name)

    def set_autostart(self, name: str, autostart: bool) -> None:
        guest = self._need(name)
        if not guest.persistent:
            said = "Requested operation is not valid: cannot set autostart for transient domain"
            raise HypervisorError(f"libvirt: set autostart of {name}: {said}")
        guest.autostart = autostart

    def start(self, name: str) -> None:
        self.libvirt.start(name)

    def shutdown(self, name: str) -> None:
        guest = self._need(name)
        if not guest.active:
            raise HypervisorError(f"libvirt: shut down {name}: Requested operation is not valid: domain is not running")
        if guest.state == "running" and self.machine.world.rng.random() < 0.8:
            delay = 1 + 20 * self.machine.world.rng.random()
            self.machine.world.engine.later(delay, lambda: self._went(name, guest))

    def _went(self, name: str, guest: Guest) -> None:
        if self.machine.frozen:
            self.machine.world.engine.later(1.0, lambda: self._went(name, guest))
        elif self.libvirt.domains.get(name) is guest and guest.state == "running" and not guest.moving:
            self.libvirt.stop(name, "shutdown")

    def destroy(self, name: str) -> None:
        self.libvirt.stop(name)

    def suspend(self, name: str) -> None:
        guest = self._need(name)
        if not guest.active:
            raise HypervisorError(f"libvirt: pause {name}: Requested operation is not valid: domain is not running")
        guest.state = "paused"
        self.machine.world.log(f"{name} paused on {self.machine.name}")

    def resume(self, name: str) -> None:
        guest = self._need(name)
        if guest.state != "paused":
            said = "already running" if guest.active else "not running"
            raise HypervisorError(f"libvirt: resume {name}: Requested operation is not valid: domain is {said}")
        guest.state = "running"
        self.machine.world.log(f"{name} resumed on {self.machine.name}")
        self.machine.world.changed(name)

    def disk_size(self, name: str, target: str) -> int:
        return self._need(name).sizes[target]

    def resize_disk(self, name: str, target: str, size: int) -> None:
        self._need(name).sizes[target] = size

    def migrate(self, wanted: Migration, say: Look) -> Outcome:
        self._need(wanted.name)
        target = self._host(wanted.uri)
        world = self.machine.world
        move = Move(self.machine, target, wanted, self.between)
        move.guest.job = job = world.engine.spawn(f"migration of {wanted.name}", move.run, place=self.machine.name)
        while not job.over:
            move.unsafe = move.unsafe or say({"bytes_total": 2, "bytes_remaining": 1})
            self.wait(0.5)
        return Outcome(move.error, False, False, {"milliseconds": 1}, move.unsafe)

    def _host(self, uri: str) -> Machine:
        match = re.search(r"//\[?([^]/]+)", uri)
        return self.machine.world.by_address[match[1] if match else ""]

    def why_off(self, name: str) -> str:
        guest = self._need(name)
        return "unknown" if guest.active else guest.why

    def _there(self, uri: str) -> Libvirtd:
        other = self._host(uri)
        if not self.machine.world.connects(self.machine, other, uri):
            raise HypervisorError(f"libvirt at {uri} does not answer: No route to host", "look at libvirtd there")
        return other.libvirt

    def domains_at(self, uri: str) -> dict[str, str]:
        return {name: guest.state for name, guest in self._there(uri).domains.items()}

    def elsewhere(self, uri: str, name: str) -> str | None:
        guest = self._there(uri).domains.get(name)
        return None if guest is None else guest.state

    def live_xml_at(self, uri: str, name: str) -> str:
        guest = self._half(self._there(uri), name)
        return guest.live or guest.xml

    def go_on_at(self, uri: str, name: str) -> None:
        there = self._there(uri)
        if self._half(there, name).state == "paused":
            there.goes_on(name)

    def discard_at(self, uri: str, name: str) -> None:
        there = self._there(uri)
        guest = self._half(there, name)
        if guest.state != "paused":
            raise HypervisorError(f"domain {name} at {uri} is {guest.state}")
        there.stop(name)
        there.domains.pop(name, None)

    @staticmethod
    def _half(there: Libvirtd, name: str) -> Guest:
        guest = there.domains.get(name)
        if guest is None:
            raise HypervisorError(f"domain {name} is not defined there")
        return guest
