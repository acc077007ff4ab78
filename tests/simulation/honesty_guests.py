# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the model of libvirt is honest: raw histories of guests, for the model of two nodes and for real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple
from uuid import NAMESPACE_DNS, uuid5

from ansible_collections.twofold.cluster.plugins.module_utils._errors import TwofoldError
from ansible_collections.twofold.cluster.plugins.module_utils._libvirt import OFF, Domain
from ansible_collections.twofold.cluster.plugins.module_utils._migration import Migration

from .honesty import NODES, REST, Act, Event, Program, States, acts, happen
from .libvirt import SimHypervisor
from .machine import Machine
from .world import World

XML = """<domain type='kvm'><name>{name}</name><uuid>{uuid}</uuid><memory unit='KiB'>32768</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os><cpu mode='host-passthrough'/>
<on_poweroff>destroy</on_poweroff><devices>{disk}</devices></domain>"""
# Done through the adapter: its method and the arguments after the domain's name.
CALLS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "undefine": ("undefine", ()),
    "start": ("start", ()),
    "destroy": ("destroy", ()),
    "resume": ("resume", ()),
    "autostart": ("set_autostart", (True,)),
}
DEFINE, KILL, MIGRATE = "define", "kill", "migrate"
# In the middle of a migration: it is called off, the guest dies here, or its other half does there; or who let it move
# is killed before he lets it go on there.
ABORTED, DIES, LOST, LEFT = "migrate aborted", "migrate dies", "migrate lost", "migrate left"
MOVES = (MIGRATE, ABORTED, DIES, LOST, LEFT)


class Seen(NamedTuple):
    """A domain on one node, seen from outside; `why` it is off."""

    state: str
    persistent: bool
    autostart: bool
    migrating: bool
    stranded: bool
    why: str | None


def seen(domain: Domain | None, why: Callable[[], str]) -> Seen | None:
    """A domain as it is compared."""
    if domain is None:
        return None
    off = why() if domain.state in OFF else None
    return Seen(domain.state, domain.persistent, domain.autostart, domain.migrating, domain.stranded, off)


def xml(name: str, disk: str = "") -> str:
    """A guest with as little as possible."""
    return XML.format(name=name, uuid=uuid5(NAMESPACE_DNS, name), disk=disk)


def migration(name: str, text: str, address: str, what: str) -> Migration:
    """A move to the node at an address, as the product makes it; it is slow where something happens in its middle."""
    slow = None if what in (MIGRATE, LEFT) else 1 << 20
    return Migration(name, f"qemu+tls://{address}/system", f"tcp://{address}", text, bandwidth=slow)


class NoRules:
    """Raw histories break every rule."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args, **_named: None


class GuestModel:
    """The two nodes of the simulation."""

    def __init__(self, seed: int = 1) -> None:
        self.world = World(seed, len(NODES))
        self.world.rules = NoRules()  # type: ignore[assignment]
        self.names: list[str] = []

    def _hypervisor(self, node: str, between: Callable[[], None] = lambda: None) -> SimHypervisor:
        return SimHypervisor(self.world.machines[node], self.world.engine.wait, between)

    def begin(self, resources: Sequence[str]) -> None:
        self.names = list(resources)

    def act(self, acts: Mapping[str, Act], _record: int) -> dict[str, str | None]:
        return {name: self._one(name, act) for name, act in acts.items()}

    def _one(self, name: str, act: Act) -> str | None:
        machine = self.world.machines[act.node]
        try:
            if act.what in MOVES:
                return self._move(machine, name, act.what)
            if act.what == DEFINE:
                self._hypervisor(act.node).define(xml(name))
            elif act.what == KILL:
                machine.libvirt.stop(name, "crashed")
            else:
                method, args = CALLS[act.what]
                getattr(self._hypervisor(act.node), method)(name, *args)
        except TwofoldError as error:
            return error.message
        return None

    def _move(self, machine: Machine, name: str, what: str) -> str | None:
        target = self.world.machines[next(node for node in NODES if node != machine.name)]

        def between() -> None:
            if what == DIES:
                machine.libvirt.stop(name, "crashed")
            elif what == LOST:
                target.libvirt.stop(name)
            elif what == ABORTED:
                # Until somebody has looked.
                self.world.engine.pause(1.0)

        def look(_stats: object) -> str | None:
            half = target.libvirt.domains.get(name)
            return "called off" if what == ABORTED and half is not None and half.active else None

        wanted = migration(name, xml(name), target.replication_address, what)
        hypervisor = self._hypervisor(machine.name, between)
        outcome = hypervisor.migrate(wanted, look)
        if outcome.error is None and what != LEFT:
            hypervisor.go_on_at(wanted.uri, name)
        return outcome.error

    def happen(self, event: Event, acts: Mapping[str, Act], record: int) -> dict[str, str | None]:
        happen(self.world, event)
        return self.act(acts, record)

    def rest(self, _expected: Any) -> States:
        self.world.engine.wait(REST)
        found = {}
        for name in self.names:
            one, other = (self._seen(node, name) for node in NODES)
            found[name] = one, other
        return found

    def _seen(self, node: str, name: str) -> Seen | None:
        hypervisor = self._hypervisor(node)
        on = self.world.machines[node].on
        return seen(hypervisor.domain(name), lambda: hypervisor.why_off(name)) if on else None

    def ends(self, resources: Sequence[str]) -> States:
        found = self.rest(None)
        return {name: found[name] for name in resources}

    def last_words(self, resource: str) -> str:
        return "\n".join(line for line in self.world.lines if resource in line)

    def tossed(self) -> set[str]:
        return set()


CALM, LINK, POWER, RESTART = "calm", "link", "power", "restart"
EVENTS = {
    CALM: (),
    LINK: (Event("node2", "cut"), Event("node2", "join")),
    POWER: (Event("node1", "off"), Event("node1", "on")),
    # libvirtd, not the machine: guests run on.
    RESTART: (Event("node1", "restart"), Event("node2", "restart")),
}
# a = node1, b = node2.
TELLING = {
    CALM: {
        "life": "a start, a define, a start, a start, a destroy, a destroy, a undefine, a undefine, a destroy",
        "transient": "a define, a start, a undefine, a define, a undefine, a autostart, a destroy, a start",
        "autostart": "a define, a autostart, a start, a define, a kill, a start, a destroy",
        "autostart-undefined": "a define, a autostart, a start, a undefine, a define, a destroy",
        "crash": "a define, a start, a kill, a kill, a start, a undefine, a kill",
        "resumed": "a resume, a define, a resume, a start, a resume",
        "moves": "a define, a migrate, a start, a migrate, a start, b migrate, a destroy",
        "autostart-moves": "a define, a autostart, a start, a migrate, b migrate",
        "defined-there": "a define, b define, b autostart, a start, a migrate, b destroy, b start",
        "runs-there": "a define, b define, a start, b start, a migrate, b destroy, a migrate",
        "transient-moves": "a define, a start, a undefine, a migrate, b destroy",
        "aborted": "a define, a start, a migrate aborted, a migrate aborted, a migrate",
        "aborted-defined-there": "a define, b define, a start, a migrate aborted, b undefine, a migrate",
        "dies": "a define, a start, a migrate dies, b start, a start",
        "lost": "a define, a start, a migrate lost, a migrate",
        "left": "a define, a start, a migrate left, a migrate, a define, b resume, b migrate",
        "left-defined-there": "a define, b define, a start, a migrate left, b start, b destroy, b start",
    },
    LINK: {
        "no-way": "a define, a start | a migrate, a destroy, a start | a migrate",
        "no-way-defined": "a define, b define, a start | a migrate | b start, a migrate",
    },
    POWER: {
        "runs": "a define, a start | b define, b start | a start",
        "transient": "a define, a start, a undefine | | a define, a start",
        "moved-in": "b define, b start, b migrate | | a start, a migrate",
        "moved-away": "a define, a start, a migrate | b destroy | b start",
        "crashed-before": "a define, a start, a kill | | a start",
    },
    RESTART: {
        "runs": "a define, a start | a destroy, a start, a migrate | b destroy",
        "left": "a define, a start, a migrate left | b resume | b migrate left, a resume",
        "transient": "a define, a start, a undefine | a destroy | a define",
        "off": "a define, b define, b start, b destroy | a start, a kill | a start, b start",
    },
}  # fmt: skip
DRAWN = {CALM: 3, LINK: 1, POWER: 3, RESTART: 2}
WEIGHTS = {
    DEFINE: 5,
    "start": 5,
    MIGRATE: 4,
    "destroy": 2,
    KILL: 2,
    "undefine": 2,
    "autostart": 1,
    ABORTED: 1,
    LOST: 1,
    LEFT: 1,
}


def program(name: str, seed: int) -> Program:
    """The telling histories of a kind and some that are drawn."""
    rng, events = Random(f"guests {name} {seed}"), EVENTS[name]
    found = {key: acts(text) for key, text in TELLING[name].items()}
    for number in range(DRAWN[name]):
        found[f"drawn-{number}"] = tuple(_drawn(rng, events[:part], name) for part in range(len(events) + 1))
    return Program(name, events, {f"honest-{name}-{key}": history for key, history in found.items()})


def _drawn(rng: Random, before: Sequence[Event], name: str) -> tuple[Act, ...]:
    """What is done after these events; nothing on a node that is off, and no migration that waits for one."""
    off = {one.node for one in before if one.what == "off"} - {one.node for one in before if one.what == "on"}
    whats = rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=rng.randint(2, 6 if name == CALM else 3))
    nodes = [node for node in NODES if node not in off]
    return tuple(Act(rng.choice(nodes), what) for what in whats if not (off and what in MOVES))
