# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the model of DRBD is honest: raw histories of two nodes, for the model and for real ones alike.

A history is what is done to one resource; several of them share what happens to nodes and links, so they are played at
the same time. After each act both sides come to rest, and then look the same from outside on the model and on nodes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, NamedTuple, Protocol

from ansible_collections.twofold.cluster.plugins.module_utils._drbd import Configuration, ResourceState
from ansible_collections.twofold.cluster.plugins.module_utils._errors import TwofoldError

from twofold import names
from twofold.model import ReplicationSettings
from twofold.render import replication as render

from .contents import ZEROS, Content
from .drbd import STAND_ALONE
from .machine import Machine
from .replication import SimReplication
from .storage import Lv
from .world import World

NODES = ("node1", "node2")
SECRET = "honest"
SIZE = 4 << 20
MINOR, PORT = 1500, 7400
REST = 60.0
LOG = logging.getLogger(__name__)
# Done through the adapter: its method and the arguments after the resource's name.
CALLS: dict[str, tuple[tuple[str, tuple[Any, ...]], ...]] = {
    "up": (("adjust", (False,)),),
    "down": (("down", ()),),
    "primary": (("primary", ()),),
    "force": (("primary", (True,)),),
    "secondary": (("secondary", ()),),
    "allow": (("allow_two_primaries", (True,)),),
    "forbid": (("allow_two_primaries", (False,)),),
    "disconnect": (("disconnect", ()),),
    "give up": (("disconnect", ()), ("discard", ())),
    "detach": (("detach", ()),),
    "outdate": (("outdate", ()),),
}
WRITE, FAIL = "write", "fail"
AT_ONCE = " at once"


class Act(NamedTuple):
    """Something that is done to the resource on a node: one of CALLS, a record is written, or its disk fails.

    `at_once`: on the node of the event before, which nobody has noticed yet.
    """

    node: str
    what: str
    at_once: bool = False


class Event(NamedTuple):
    """Something that happens to all: `cut`, `join`, `off`, `on` of a node, or `restart` of its libvirtd."""

    node: str
    what: str


# What is done between one event and the next.
History = tuple[tuple[Act, ...], ...]


@dataclass(frozen=True)
class Program:
    """Histories by the names of their resources, and the events that they share."""

    name: str
    events: tuple[Event, ...]
    histories: Mapping[str, History]


class Side(NamedTuple):
    """A resource on one node, seen from outside; `role` None if it is down."""

    role: str | None
    connected: bool
    disk: str | None
    peer_disk: str | None


class End(NamedTuple):
    """What is left of a resource on a node: the records on its disk and its generations, current and bitmap's."""

    records: tuple[int, ...]
    current: int
    bitmap: int


Sides = dict[str, tuple[Side, Side]]
# What is compared after each act, and what is left in the end; each pair of nodes has its own idea of both.
States = dict[str, tuple[Any, Any]]
Ends = dict[str, tuple[Any, Any]]
DOWN = Side(None, False, None, None)


class Pair(Protocol):
    """Two nodes, of the model or real ones."""

    def begin(self, resources: Sequence[str]) -> None:
        """Make the resources: connected, equal, and up to date."""

    def act(self, acts: Mapping[str, Act], record: int) -> dict[str, str | None]:
        """Do one thing to each of some resources; None if it was done, or why it was refused."""

    def happen(self, event: Event, acts: Mapping[str, Act], record: int) -> dict[str, str | None]:
        """Let an event happen, and do something before anybody notices; what was refused, as of `act`."""

    def rest(self, expected: Any) -> States:
        """The state when nothing moves any more; `expected` is what to wait for, if that is known."""

    def ends(self, resources: Sequence[str]) -> Ends:
        """What is left when the resources are taken down."""

    def last_words(self, resource: str) -> str:
        """What the kernels said of a resource."""


def side(state: ResourceState | None) -> Side:
    """A resource's state as it is compared: why a side is without its peer is not."""
    if state is None or state.role is None:
        return DOWN
    (disk,) = state.volumes
    return Side(state.role, state.connected, disk.disk, disk.peer_disk if state.connected else None)


def configuration(name: str, number: int, hosts: Mapping[str, tuple[str, str]]) -> Configuration:
    """A resource's file as the product writes it; `hosts` are host name and address by node."""
    groups, minors = dict.fromkeys(NODES, "twofold"), dict.fromkeys(NODES, MINOR + number)
    disks = [{"index": 0, "volume_group": groups, "minor": minors}]
    document = {"name": name, "port": PORT + number, "disks": disks}
    found = [render.Host(node, *hosts[node]) for node in NODES]
    return Configuration(render.render(document, found, ReplicationSettings()), SECRET)


def canonical(ends: tuple[End, End]) -> tuple[End, End]:
    """With generations numbered in the order in which they are met, because every cluster has its own."""
    numbers = {0: 0}

    def number(generation: int) -> int:
        return numbers.setdefault(generation & ~1, len(numbers))

    one, other = (End(end.records, number(end.current), number(end.bitmap)) for end in ends)
    return one, other


def happen(world: World, event: Event) -> None:
    """Let an event happen to the nodes of the simulation."""
    machine = world.machines[event.node]
    if event.what == "off":
        machine.power_off()
    elif event.what == "on":
        machine.power_on()
    elif event.what == "cut":
        world.cut_link(*NODES)
    elif event.what == "restart":
        machine.libvirt.restarted()
    else:
        world.mend_links()


class Modelled(Pair, Protocol):
    """Two nodes of the model."""

    def tossed(self) -> set[str]:
        """The resources of which chance has decided, because it may have decided otherwise on the nodes."""


class Model:
    """The two nodes of the simulation."""

    def __init__(self, seed: int = 1) -> None:
        self.world = World(seed, len(NODES))
        self.numbers: dict[str, int] = {}
        for machine in self.world.machines.values():
            machine.brings_up = 0.0

    def _replication(self, node: str) -> SimReplication:
        return SimReplication(self.world.machines[node], lambda: None, self.world.engine.pause)

    def begin(self, resources: Sequence[str]) -> None:
        hosts = {one.name: (one.hostname, one.replication_address) for one in self.world.machines.values()}
        self.world.rules.migrating |= set(resources)
        for number, name in enumerate(resources):
            self.numbers[name] = number
            for node in NODES:
                self._make(self.world.machines[node], name, configuration(name, number, hosts))
        self.rest(None)
        for name in resources:
            self._replication(NODES[0]).clean_start(name, 0)

    def _make(self, machine: Machine, name: str, wanted: Configuration) -> None:
        for volume in (names.data_volume(name, 0), names.meta_volume(name, 0)):
            lv = Lv("twofold", volume, SIZE, set(), ZEROS)
            machine.storage.volumes[lv.path] = lv
        replication = self._replication(machine.name)
        replication.write(name, wanted)
        replication.create_metadata(name, 0)
        replication.adjust(name, dry=False)

    def act(self, acts: Mapping[str, Act], record: int) -> dict[str, str | None]:
        # What waits for the peer does not hold up the others.
        engine = self.world.engine
        tasks = {name: engine.spawn(name, partial(self._one, name, act, record)) for name, act in acts.items()}
        return {name: engine.run(task) for name, task in tasks.items()}

    def _one(self, name: str, act: Act, record: int) -> str | None:
        machine, replication = self.world.machines[act.node], self._replication(act.node)
        try:
            if act.what == WRITE:
                path = f"/dev/drbd{MINOR + self.numbers[name]}"
                machine.writable(path)
                return None if machine.write(path, Content(str(record), machine.content(path))) else "an error"
            if act.what == FAIL:
                machine.kernel.disk_fails(
                    machine.storage.at(names.volume_device("twofold", names.data_volume(name, 0)))
                )
                return None
            for method, args in CALLS[act.what]:
                # As the product's steps do: a side that is StandAlone already is left so.
                state = replication.state(name) if method == "disconnect" else None
                if state is None or state.connection != STAND_ALONE:
                    getattr(replication, method)(name, *args)
        except TwofoldError as error:
            return error.message
        return None

    def happen(self, event: Event, acts: Mapping[str, Act], record: int) -> dict[str, str | None]:
        happen(self.world, event)
        return self.act(acts, record)

    def rest(self, expected: Sides | None) -> Sides:
        self.world.engine.wait(REST)
        found = {}
        for name in self.numbers:
            one, other = (self._side(node, name) for node in NODES)
            found[name] = one, other
        return found

    def _side(self, node: str, name: str) -> Side:
        return side(self._replication(node).state(name) if self.world.machines[node].on else None)

    def ends(self, resources: Sequence[str]) -> dict[str, tuple[End, End]]:
        found = {}
        for name in resources:
            one, other = (self._end(self.world.machines[node], name) for node in NODES)
            found[name] = canonical((one, other))
        return found

    def tossed(self) -> set[str]:
        return self.world.drbd.tossed

    def last_words(self, resource: str) -> str:
        return "\n".join(line for line in self.world.lines if resource in line)

    @staticmethod
    def _end(machine: Machine, name: str) -> End:
        data, meta = (
            machine.storage.at(names.volume_device("twofold", one))
            for one in (names.data_volume(name, 0), names.meta_volume(name, 0))
        )
        assert meta.superblock is not None
        records: list[int] = []
        at: Content | None = data.content
        while at is not None and at is not ZEROS:
            records.append(int(at.label))
            at = at.parent
        return End(tuple(sorted(records)), meta.superblock.current, meta.superblock.bitmap)


class Match:
    """A program that is played on both. `different`: by resource the first difference; then it is left alone.

    So is a resource of which chance has decided.
    """

    def __init__(self, program: Program, model: Modelled, nodes: Pair) -> None:
        self.program = program
        self.model = model
        self.nodes = nodes
        self.different: dict[str, str] = {}
        self.record = 0

    def play(self) -> dict[str, str]:
        """The whole program; what is different in the end."""
        resources = list(self.program.histories)
        for pair in (self.model, self.nodes):
            pair.begin(resources)
        self._rest("at the beginning")
        self._part(0)
        for number, event in enumerate(self.program.events, 1):
            self._happen(number, event)
            self._part(number)
        left = [name for name in resources if self._compares(name)]
        ours, theirs = self.model.ends(left), self.nodes.ends(left)
        for name in left:
            if ours[name] != theirs[name]:
                self._differs(name, f"in the end the model has {ours[name]}, the nodes {theirs[name]}")
        return self.different

    def _compares(self, name: str) -> bool:
        return name not in self.different and name not in self.model.tossed()

    def _differs(self, name: str, text: str) -> None:
        self.different[name] = f"{text}\n{self.nodes.last_words(name)}"
        LOG.warning("%s: %s", name, self.different[name])

    def _happen(self, number: int, event: Event) -> None:
        """An event, and what is done at once: one act of a history at most."""
        acts = {name: act for name, part in self._parts(number).items() for act in part if act.at_once}
        acts = {name: act for name, act in acts.items() if self._compares(name)}
        self.record += 1
        said, heard = (pair.happen(event, acts, self.record) for pair in (self.model, self.nodes))
        self._answered(acts, said, heard, f"at once after {event.node} {event.what}")
        self._rest(f"after {event.node} {event.what}", acts)

    def _parts(self, number: int) -> dict[str, tuple[Act, ...]]:
        return {name: history[number] for name, history in self.program.histories.items()}

    def _part(self, number: int) -> None:
        """What is done between two events, everything to come to rest after each act."""
        parts = {name: [act for act in part if not act.at_once] for name, part in self._parts(number).items()}
        for turn in range(max(len(part) for part in parts.values())):
            acts = {name: part[turn] for name, part in parts.items() if turn < len(part) and self._compares(name)}
            self._act(acts, f"act {turn + 1} of part {number + 1}")

    def _act(self, acts: Mapping[str, Act], when: str) -> None:
        self.record += 1
        said, heard = self.model.act(acts, self.record), self.nodes.act(acts, self.record)
        self._answered(acts, said, heard, when)
        self._rest(when, acts)

    def _answered(
        self, acts: Mapping[str, Act], said: Mapping[str, str | None], heard: Mapping[str, str | None], when: str
    ) -> None:
        for name, act in acts.items():
            if (said[name] is None) != (heard[name] is None):
                text = f"{when}, {act.what} on {act.node}: the model says {said[name]}, the nodes {heard[name]}"
                self._differs(name, text)

    def _rest(self, when: str, acts: Mapping[str, Act] | None = None) -> None:
        expected = {name: one for name, one in self.model.rest(None).items() if self._compares(name)}
        found = self.nodes.rest(expected)
        for name, one in expected.items():
            if found[name] != one:
                act = f" ({acts[name].what} on {acts[name].node})" if acts and name in acts else ""
                self._differs(name, f"{when}{act} the model is {one}, the nodes are {found[name]}")


# What tells most, by hand: a = node1, b = node2.


def acts(text: str) -> History:
    """`a primary, a write | a detach at once, b primary`: acts with a comma between them, an event at each bar."""
    parts = [[one.strip() for one in part.split(",") if one.strip()] for part in text.split("|")]
    return tuple(_complete(_act(one) for one in part) for part in parts)


def _act(text: str) -> Act:
    where, what = text.removesuffix(AT_ONCE).split(maxsplit=1)
    return Act(dict(zip("ab", NODES, strict=True))[where], what, text.endswith(AT_ONCE))


def _complete(acts: Iterable[Act]) -> tuple[Act, ...]:
    """Who gives up does so to a peer that is not waiting: after a split brain one side may wait, by chance."""
    found: list[Act] = []
    for act in acts:
        if act.what == "give up":
            found.append(Act(NODES[1 - NODES.index(act.node)], "disconnect"))
        found.append(act)
    return tuple(found)


CALM, LINK, POWER, BOTH, UNNOTICED = "calm", "link", "power", "both", "unnoticed"
EVENTS = {
    CALM: (),
    LINK: (Event("node2", "cut"), Event("node2", "join")),
    POWER: (Event("node1", "off"), Event("node1", "on")),
    BOTH: (Event("node2", "cut"), Event("node1", "off"), Event("node1", "on"), Event("node2", "join")),
    UNNOTICED: (Event("node1", "cut"), Event("node1", "join"), Event("node1", "off"), Event("node1", "on")),
}
TELLING = {
    CALM: {
        "refused-primary": "a primary, a write, b primary, b write",
        "dual": "a primary, a allow, b allow, b primary, a write, b write, a forbid, a secondary, a forbid, b forbid",
        "detached": "a primary, a write, a detach, a write, a up, a write",
        "needed": "a primary, a detach, b disconnect, a disconnect, b detach, a write, b down, a up, a write",
        "detached-apart": "a primary, b disconnect, a write, a detach",
        "lost-on-both": "a primary, a write, a fail, b fail, a disconnect, b down",
        "apart": "a disconnect, a primary, a write, b primary, b write, a secondary, a up, b up, a give up, b up",
        "outdated": "a primary, b disconnect, a write, b outdate, b primary, b force, a down, b up",
        "down-and-up": "a primary, a write, b down, a write, b up, a down, a secondary, a down, a up",
    },
    LINK: {
        "split": "a primary, a write | b primary, b write, a write | b secondary, b give up, a up",
        "stale": "a primary, a write | a write, b outdate, b primary | b primary",
        "resync": "a primary | a write, a write | b primary, a secondary, b primary, b write",
        "diskless": "a primary, a detach, a write | b primary, b write, b secondary | a write, a up",
        "one-allows": "a primary, a allow, b allow | b forbid | a up, b up",
        "nothing": "a primary | | b disconnect, b up",
        "dual-cut": "a primary, a allow, b allow, b primary | a write | a secondary, a up, b up, a give up, b up",
    },
    POWER: {
        "crashed-primary": "a primary, a write | b write, b primary, b write | a up, a primary, b write",
        "crashed-alone": "a primary, a write | | a up, a primary, a write",
        "half-boot": "a primary, a write | b primary, b write, b down | a up, a primary, a write, b up",
        "crashed-secondary": "b primary, b write | b write | a up, a primary",
        "forced": "a primary, a detach, a write | b outdate, b force, b write | a up, b up",
        # What a node does at boot: a copy that may have been left behind is marked before it comes up.
        "marked-primary": "a primary, a write | b write | a outdate, a up, a primary, a write",
        "marked-secondary": "b primary, b write | b write | a outdate, a up, b write",
        "marked-unheard": "a primary, a write | b down | a outdate, a up, a primary, a force, a write, b outdate, b up",
    },
    BOTH: {
        "old-primary-back": "a primary | a write | b primary, b write | a up, a primary, a write | "
        "b up, b secondary, b give up, a up",
        "outdated-survivor": "a primary | b outdate, a write | b primary | a up | a primary, a write",
        "clean-secondary": "b primary, b write | b write | b write | a up | a primary",
    },
    # A disk goes when the peer cannot hear of that any more, and comes back later with what it had.
    UNNOTICED: {
        "refused": "a primary, a write | a detach at once, a write | a write, a detach, a write, a up | |",
        "secondary": "b primary, b write | a detach at once | b write, a up, b write | b write | a up",
        "parts": "a primary, a write | a disconnect at once, a write | b up, a up | b outdate | a up",
        "promoted": " | a primary at once, a write | b primary, b write | b write | a up",
        "demoted": "a primary, a write | a secondary at once, b primary | a primary, b write | | a up",
        "taken-down": "b primary, b write | a down at once, b write | a up | b write | a up",
        "attached": "a primary, a write | a fail at once | a write, a write, a up, a write | | a up, a primary",
        "unwritten": "a primary, a write | a fail at once | a up, a write | | a up, a primary, a write",
        "down-and-up": "a primary, a write | a fail at once | a write, a secondary, a down, a up, a primary | |",
        "apart": "a primary, a write | a fail at once, a up, a write | a write | | a up",
        "power": "a primary, a write | a fail at once | a write, a write | | a up, a primary, a write",
        "marked": "a primary, a write | a fail at once | a write, a write | | a outdate, a up, b primary, b write",
        "noticed": "a primary, a write | a fail | b disconnect, a disconnect, a up, b up, a write | | a up",
        "noticed-and-left": "a primary, a write | a fail | | |",
        "fails": "a primary, a write, a fail, a write | | a write, a up, a write | b primary, b write | a up",
    },
}  # fmt: skip
DRAWN = {CALM: 3, LINK: 3, POWER: 3, BOTH: 3, UNNOTICED: 1}
WEIGHTS = {
    "up": 6, "write": 6, "primary": 5, "secondary": 3, "disconnect": 3, "down": 2, "force": 1, "give up": 2,
    "detach": 2, "outdate": 2, "allow": 2, "forbid": 1,
}  # fmt: skip


def program(name: str, seed: int, drawn: int | None = None) -> Program:
    """The telling histories of a kind and some that are drawn."""
    rng, events = Random(f"{name} {seed}"), EVENTS[name]
    found = {key: acts(text) for key, text in TELLING[name].items()}
    for number in range(DRAWN[name] if drawn is None else drawn):
        found[f"drawn-{number}"] = _drawn(rng, events)
    return Program(name, events, {f"{name}-{key}": history for key, history in found.items()})


def _drawn(rng: Random, events: Sequence[Event]) -> History:
    off: set[str] = set()
    parts = []
    for segment in range(len(events) + 1):
        if segment and events[segment - 1].what in ("off", "on"):
            (off.add if events[segment - 1].what == "off" else off.discard)(events[segment - 1].node)
        nodes = [node for node in NODES if node not in off]
        whats = rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=rng.randint(2, 8 if not events else 4))
        parts.append(_complete(Act(rng.choice(nodes), what) for what in whats if what != "give up" or not off))
    return tuple(parts)
