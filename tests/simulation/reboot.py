# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook `reboot`: several runs, with packages being upgraded and a boot between them."""

from __future__ import annotations

from typing import Any

from twofold.model import Desired

from .faults import Fault, strikes
from .operator import Run
from .world import World

VERBS: tuple[str, ...] = ("maintain", "depart", "rejoin", "undrain")
# Seconds that packages and a boot take.
PACKAGES, BOOT = (5.0, 60.0, 200.0), 30.0


def reboot(
    world: World, desired: Desired, node: str, holder: str, wrong: tuple[Fault, ...] = (), *, predict: bool = False
) -> list[Run]:
    """Clear a node, reboot it and fill it again, as far as nothing goes wrong; faults strike in one of the runs."""
    runs: list[Run] = []
    for number, verb in enumerate(VERBS):
        faults = tuple(fault for fault in wrong if fault.pick % len(VERBS) == number)
        run = Run(world, desired, {"verb": verb, "node": node}, holder, strikes(faults))
        run.predict = predict
        runs.append(run)
        world.engine.run(run.start())
        if not went_well(run):
            break
        if verb == "maintain":
            world.engine.wait(world.rng.choice(PACKAGES))
        elif verb == "depart":
            _boot(world, node)
    return runs


def went_well(run: Run) -> bool:
    """Whether Ansible goes on with the next task."""
    done: list[dict[str, Any]] = list(run.results.values())
    good = all(result["status"] in ("changed", "unchanged") for result in done)
    ended = run.task is not None and run.task.over and not run.task.killed
    return ended and run.plan is not None and not run.plan.errors and not run.failed and good and _is_whole(run)


def _is_whole(run: Run) -> bool:
    """Whether every step was answered."""
    return run.plan is not None and all(step.id in run.results for step in run.plan.steps)


def _boot(world: World, node: str) -> None:
    machine = world.machines[node]
    world.rules.reboots(machine)
    machine.power_off()
    world.engine.wait(BOOT)
    machine.power_on()
    world.engine.wait(BOOT)
