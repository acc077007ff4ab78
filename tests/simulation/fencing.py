# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fence devices: a program of Ganeti's OOB protocol for each node, and an operator who asks it before he recovers.

The nodes' power is simulated; who is asked and switched off, and what is taken for an answer, is the product's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twofold import planner
from twofold.fencing import OFF, Fence, Programs, Ran, Said

if TYPE_CHECKING:
    from .operator import Run

# What an operator may say of fencing (`-e fence=...`); with the last one the devices do not answer.
SILENT = "silent"
WORDS = ("false", "true", "node1", SILENT)
# Seconds that a command takes.
COMMAND = 1.0


class Devices:
    """The devices of all nodes, as a run on the control host meets them."""

    def __init__(self, run: Run, *, silent: bool) -> None:
        self.world = run.world
        self.silent = silent
        self.programs = Programs(self._run, lambda: self.world.engine.now, self.world.engine.pause)

    def _run(self, argv: list[str], _stdin: str, _seconds: float) -> Ran:
        _program, command, name = argv
        self.world.engine.pause(COMMAND)
        if self.silent:
            return Ran(1, "", "no route to host")
        machine = self.world.machines[name]
        if command == "power-status":
            return Ran(0, json.dumps({"powered": machine.on}), "")
        assert command == "power-off", command
        self.world.rules.counts["switched off"] += machine.on
        machine.power_off()
        return Ran(0, "", "")


def said(run: Run, intent: dict[str, Any], word: str) -> dict[str, dict[str, str]]:
    """What the devices say of the nodes that an intent waits for, once it was done what the operator says."""
    devices, nodes = Devices(run, silent=word == SILENT), run.desired.nodes
    wish = True if word == SILENT else planner.wish(word)
    suspects = planner.suspects(run.desired, run.documents, intent)
    found: dict[str, Said] = {name: Fence(nodes[name], devices.programs).status() for name in suspects.asked}
    off = [name for name, one in found.items() if one.state == OFF]
    for name in suspects.to_switch_off(off, wish):
        found[name] = Fence(nodes[name], devices.programs).switch(OFF)
    return {name: one.to_json() for name, one in found.items()}
