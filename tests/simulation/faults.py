# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong, at a breath of a step: between any two things that it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from ansible_collections.twofold.cluster.plugins.module_utils._lock import LEASE

from . import inventories, tampers
from .inventories import Instances
from .machine import Machine
from .operator import Run, StepFails


@dataclass(frozen=True)
class Fault:
    """Something of a kind strikes at the n-th breath of a run. `pick` chooses among what there is."""

    at: int
    kind: str
    pick: int = 0
    instances: Instances | None = field(default=None, hash=False)
    intent: dict[str, Any] | None = field(default=None, hash=False)

    def __str__(self) -> str:
        return f"{self.kind} at breath {self.at}"


def other(run: Run, machine: Machine, fault: Fault) -> Machine:
    """Some node, not this one."""
    others = [one for one in run.world.machines.values() if one is not machine]
    return others[fault.pick % len(others)]


def fail(_run: Run, _machine: Machine, _fault: Fault) -> None:
    """A command fails: before it did anything, or after."""
    raise StepFails(["simulated"], 5, "", "Input/output error")


def kill(run: Run, _machine: Machine, _fault: Fault) -> None:
    """The process on the node is killed."""
    task = run.world.engine.current
    assert task is not None
    if task.run is None:
        # libvirtd's own work on a migration: it ends with an error.
        raise StepFails(["migration"], 1, "", "operation aborted")
    task.kill()
    run.world.engine.pause()


def power(run: Run, machine: Machine, fault: Fault) -> None:
    """This node dies; sometimes it is back soon."""
    machine.power_off()
    if fault.pick % 3 == 0:
        run.world.engine.later(20 + fault.pick % 60, machine.power_on)
    run.world.engine.pause()


def power_other(run: Run, machine: Machine, fault: Fault) -> None:
    """Another node dies."""
    target = other(run, machine, fault)
    target.power_off()
    if fault.pick % 3 == 0:
        run.world.engine.later(20 + fault.pick % 60, target.power_on)


def outage(run: Run, machine: Machine, fault: Fault) -> None:
    """Every node loses its power; they come back one after another, but one of them may not."""
    for number, target in enumerate(run.world.machines.values()):
        target.power_off()
        if (fault.pick + number) % 4:
            run.world.engine.later(5 + (fault.pick >> number) % 60, target.power_on)
    run.world.engine.pause()


def frozen(run: Run, machine: Machine, fault: Fault) -> None:
    """This node stops for a while, in the middle of what it does, and goes on as if nothing had happened."""
    _freeze(run, machine, fault)
    run.world.engine.pause()


def frozen_other(run: Run, machine: Machine, fault: Fault) -> None:
    """Another node stops for a while."""
    _freeze(run, other(run, machine, fault), fault)


def _freeze(run: Run, machine: Machine, fault: Fault) -> None:
    seconds = (3, 12, 40, 90, 200)[fault.pick % 5]
    machine.freeze()
    run.world.engine.later(seconds, machine.thaw)


def clock(run: Run, machine: Machine, fault: Fault) -> None:
    """Somebody sets the clock of this node or another, to the right time or a wrong one."""
    target = machine if fault.pick % 2 else other(run, machine, fault)
    target.skew = (-86400.0, -7200.0, -100.0, 0.0, 100.0, 7200.0, 86400.0)[fault.pick // 2 % 7]


def disk_error(run: Run, machine: Machine, fault: Fault) -> None:
    """A disk of an instance answers with errors, on this node or another; sometimes it has to be replaced."""
    target = machine if fault.pick % 2 else other(run, machine, fault)
    found = sorted({name for lv in target.storage.volumes.values() if (name := lv.tagged("instance"))})
    if not found:
        return
    name = found[fault.pick // 2 % len(found)]
    for lv in target.storage.volumes.values():
        lv.failing = lv.failing or lv.tagged("instance") == name
    run.world.rules.hurt.add(name)
    run.world.log(f"the disk of {name} on {target.name} fails")
    if fault.pick % 5 == 0:
        run.world.rules.disk_lost(target, name)
        target.lose(name)


def link(run: Run, machine: Machine, fault: Fault) -> None:
    """The replication network between this node and another fails."""
    run.world.cut_link(machine.name, other(run, machine, fault).name)
    if fault.pick % 3 == 0:
        run.world.engine.later(1 + fault.pick % 30, run.world.mend_links)


def management(run: Run, machine: Machine, _fault: Fault) -> None:
    """The control host does not get to this node any more; what runs there runs on."""
    run.world.unmanaged.add(machine.name)


def control(run: Run, _machine: Machine, _fault: Fault) -> None:
    """The control process dies."""
    if run.task is not None:
        run.task.kill()


def twice(run: Run, _machine: Machine, _fault: Fault) -> None:
    """A call is made again after it was answered."""
    run.twice = True


def second(run: Run, _machine: Machine, fault: Fault) -> None:
    """A second operator starts a run of his own, perhaps from another checkout."""
    wanted = run.desired
    if fault.instances is not None:
        wanted = inventories.desired(fault.instances, len(run.world.machines))
    run.world.rules.second(wanted)
    other_run = Run(run.world, wanted, fault.intent or {"verb": "converge"}, f"second{fault.at}@elsewhere")
    run.world.engine.later(0, other_run.begin)


def between_waves(run: Run, machine: Machine, fault: Fault) -> None:
    """A second operator strikes between two waves, while the control host of the first one sleeps for a while."""

    def come_in() -> None:
        second(run, machine, fault)
        run.world.engine.pause((1, 40, 400)[fault.pick % 3])

    run.between = come_in


def break_lock(run: Run, machine: Machine, fault: Fault) -> None:
    """A second operator breaks the lock first."""
    machine.files.remove(LEASE)
    second(run, machine, fault)


def by_hand(run: Run, machine: Machine, fault: Fault) -> None:
    """Somebody works by hand."""
    rng = Random(fault.pick)
    machines = sorted(run.world.machines)
    names = sorted(run.desired.instances) or ["a"]
    target, name = run.world.machines[rng.choice(machines)], rng.choice(names)
    kind = rng.choice(sorted(tampers.TAMPERS))
    run.world.engine.later(0, partial(_by_hand, target, kind, name, rng))


def _by_hand(machine: Machine, kind: str, name: str, rng: Random) -> None:
    tampers.tamper(machine, kind, name, rng)


FAULTS: dict[str, tuple[int, Callable[[Run, Machine, Fault], None]]] = {
    "step fails": (6, fail),
    "process killed": (3, kill),
    "power": (4, power),
    "power of another": (3, power_other),
    "outage": (2, outage),
    "frozen": (3, frozen),
    "frozen, another": (2, frozen_other),
    "clock": (2, clock),
    "disk error": (3, disk_error),
    "replication link": (6, link),
    "management link": (3, management),
    "control process": (3, control),
    "done twice": (2, twice),
    "second operator": (2, second),
    "between waves": (2, between_waves),
    "lock broken": (1, break_lock),
    "by hand": (2, by_hand),
}


def strike(fault: Fault, run: Run, machine: Machine, where: str) -> None:
    """Let it happen."""
    kind = fault.kind
    if kind == "step fails":
        kind = f"step fails {where.split(maxsplit=1)[0]} its effect"
    run.world.rules.counts[f"fault: {kind}"] += 1
    run.world.log(f"FAULT {fault.kind}, {where}")
    FAULTS[fault.kind][1](run, machine, fault)


def strikes(faults: tuple[Fault, ...]) -> dict[int, Any]:
    """The faults by breath."""
    return {fault.at: partial(strike, fault) for fault in faults}
