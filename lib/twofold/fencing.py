# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Switching a node's power through its fence devices, and asking them whether it is off.

Two kinds of programs are spoken to. Those of fence-agents get their options on standard input, so that no password is
an argument, and answer a status by a line and an exit status (fence-agents, lib/fencing.py.py). Those of Ganeti's OOB
protocol are called with a command and the node's name (Ganeti, doc/design-oob.rst). How a program is run is given by
the caller; nothing here starts one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NamedTuple

from .findings import ERROR, INFO, WARNING, Finding
from .model import Desired, FenceDevice, Node
from .observed import Observed

ON, OFF, SILENT = "on", "off", "silent"
# Exit status of an agent's status command; the line on standard output has to agree.
AGENT_STATES = {0: ON, 2: OFF}
OOB = {"status": "power-status", "on": "power-on", "off": "power-off", "cycle": "power-cycle", "health": "health"}
STATUS_LINE = re.compile(r"^Status: (ON|OFF)\s*$", re.MULTILINE)
POLL = 1.0
HIDDEN = "***"


class Ran(NamedTuple):
    """What a program said; `code` is None if it could not be started or did not end in time."""

    code: int | None
    stdout: str
    stderr: str


class Programs:
    """How programs are run, and time. `run(argv, stdin, seconds)`; `now()` and `sleep()` in seconds."""

    def __init__(
        self, run: Callable[[list[str], str, float], Ran], now: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self.run = run
        self.now = now
        self.sleep = sleep


@dataclass(frozen=True)
class Said:
    """What a way of fencing said of a node's power: `state` is on, off or silent."""

    state: str
    method: str
    message: str

    @property
    def text(self) -> str:
        """With the way's name, which is in the message of one that is silent."""
        return self.message if self.state == SILENT else f"{self.method} {self.message}"

    def to_json(self) -> dict[str, str]:
        """As an intent carries it."""
        return {"state": self.state, "method": self.method, "message": self.message}


NONE = Said(SILENT, "none", "it has none: twofold_fence is empty")


def _of_no_use(tried: Sequence[Said]) -> Said:
    """What the last way said, and with it what became of those before it."""
    if not tried:
        return NONE
    *before, last = tried
    return Said(last.state, last.method, "; ".join([last.message, *(said.text for said in before)]))


def name_of(method: Sequence[FenceDevice]) -> str:
    """What a way of fencing is called: its programs."""
    return " and ".join(PurePath(device.agent or device.oob or "").name for device in method)


class Fence:
    """The fence devices of one node."""

    def __init__(self, node: Node, programs: Programs) -> None:
        self.node = node
        self.programs = programs
        # The ways that kept silent when they were asked before anything was switched.
        self._silent: set[int] = set()

    def longest(self, action: str) -> float:
        """Seconds that asking, and then switching on or off or `cycle`, take at most."""
        # A cycle may be one command, then off and on.
        rounds = 3 if action == "cycle" else 1
        asking = [sum(device.timeout for device in method) for method in self.node.fence]
        waiting = [max(device.timeout for device in method) + POLL for method in self.node.fence]
        return sum(asking) + rounds * (2 * sum(asking) + sum(waiting))

    def statuses(self) -> list[Said]:
        """What each way says, in their order."""
        return [self._status(method) for method in self.node.fence]

    def status(self) -> Said:
        """What the first way says that does not keep silent."""
        tried = []
        for method in self.node.fence:
            tried.append(self._status(method))
            if tried[-1].state != SILENT:
                return tried[-1]
            self._silent.add(id(method))
        return _of_no_use(tried)

    def switch(self, wanted: str) -> Said:
        """Switch it on or off, by the first way that confirms it. The answer's state tells what came of it."""
        tried = []
        for method in self.node.fence:
            tried.append(self._switch(method, wanted))
            if tried[-1].state == wanted:
                return tried[-1]
        return _of_no_use(tried)

    def switched(self, wanted: str) -> tuple[Said, bool]:
        """The same, and whether it was done."""
        said = self.switch(wanted)
        return said, said.state == wanted

    def cycle(self) -> tuple[Said, bool]:
        """Take its power away and give it back, by the first way that does it; and whether it was done.

        A way that is one OOB program is told `power-cycle`, and nobody has seen the node off then. By any other way,
        and by a program that refuses this, only what was confirmed off is switched on again: programs for two supplies
        that cycle one after the other would never take the power away.
        """
        tried = []
        for method in self.node.fence:
            if len(method) == 1 and method[0].oob and self._run_oob(method[0], "cycle").code == 0:
                said = self._until(method, ON)
                if said.state == ON:
                    return Said(ON, said.method, f"was told {OOB['cycle']}, {said.message}"), True
            tried.append(self._switch(method, OFF))
            if tried[-1].state == OFF:
                return self.switched(ON)
        return _of_no_use(tried), False

    def health(self) -> list[dict[str, str]]:
        """What OOB programs say of the machine: `item`, `status` (OK, WARNING, CRITICAL, UNKNOWN)."""
        found = []
        for device in [device for method in self.node.fence for device in method if device.oob]:
            ran = self._run_oob(device, "health")
            found += _health(ran) if ran.code == 0 else [{"item": name_of([device]), "status": "UNKNOWN"}]
        return found

    def _status(self, method: Sequence[FenceDevice]) -> Said:
        """Off if all of its devices say so, on if one does; silent if one of them keeps silent."""
        answers = [self._device_status(device) for device in method]
        silent = [answer for answer in answers if answer.state == SILENT]
        if silent:
            return Said(SILENT, name_of(method), "; ".join(answer.message for answer in silent))
        state = OFF if all(answer.state == OFF for answer in answers) else ON
        return Said(state, name_of(method), f"says {state}")

    def _device_status(self, device: FenceDevice) -> Said:
        ran = self._run(device, "status")
        state = _agent_state(ran) if device.agent else _oob_state(ran)
        return Said(state, name_of([device]), f"says {state}" if state != SILENT else self._complaint(device, ran))

    def _switch(self, method: Sequence[FenceDevice], wanted: str) -> Said:
        """Command every device, then ask until all agree or time is up; once if a command failed."""
        failed, ended = [], True
        for device in method:
            ran = self._run(device, wanted)
            ended = ended and ran.code is not None
            if ran.code != 0:
                failed.append(self._complaint(device, ran))
        if not ended and id(method) in self._silent:
            return Said(SILENT, name_of(method), "; ".join(failed))
        said = self._status(method) if failed else self._until(method, wanted)
        if said.state == wanted or not failed:
            return said
        first, then = ([said.message], failed) if said.state != SILENT else (failed, [said.message])
        return Said(said.state, said.method, "; ".join(dict.fromkeys([*first, *then])))

    def _until(self, method: Sequence[FenceDevice], wanted: str) -> Said:
        """Ask until all devices agree, or time is up, or one is as silent as it was before."""
        end = self.programs.now() + max(device.timeout for device in method)
        while True:
            said = self._status(method)
            mute = said.state == SILENT and id(method) in self._silent
            if said.state == wanted or mute or self.programs.now() >= end:
                return said
            self.programs.sleep(POLL)

    def _run(self, device: FenceDevice, action: str) -> Ran:
        return self._run_agent(device, action) if device.agent else self._run_oob(device, action)

    def _run_agent(self, device: FenceDevice, action: str) -> Ran:
        # Of two lines with one name agents take the last: no option may make another command of ours.
        lines = [f"{key}={value}" for key, value in device.options.items()]
        text = "\n".join([*lines, f"action={action}", ""])
        return self.programs.run([device.agent or ""], text, device.timeout)

    def _run_oob(self, device: FenceDevice, action: str) -> Ran:
        return self.programs.run([device.oob or "", OOB[action], self.node.name], "", device.timeout)

    @staticmethod
    def _complaint(device: FenceDevice, ran: Ran) -> str:
        """Why it is of no use, without what may be secret."""
        lines = [line for line in (ran.stderr or ran.stdout).strip().splitlines() if line.strip()]
        text = re.sub(r"^[\d:, -]+(?=[A-Z]+:)", "", lines[-1]) if lines else f"exit status {ran.code}"
        if ran.code == 0:
            text = f"its answer cannot be understood: {text}"
        for key, value in device.options.items():
            if re.search(r"pass|secret|token|key|community", key) and value:
                text = text.replace(value, HIDDEN)
        return f"{name_of([device])}: {text}"


def _agent_state(ran: Ran) -> str:
    """The line and the exit status have to say the same: a broken program may end with 2 as well."""
    match = STATUS_LINE.search(ran.stdout)
    state = AGENT_STATES.get(ran.code) if ran.code is not None else None
    return state if state is not None and match is not None and match[1].lower() == state else SILENT


def _oob_state(ran: Ran) -> str:
    powered: Any = None
    if ran.code == 0:
        try:
            powered = json.loads(ran.stdout)["powered"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return SILENT
    return {True: ON, False: OFF}.get(powered, SILENT) if isinstance(powered, bool) else SILENT


def _health(ran: Ran) -> list[dict[str, str]]:
    try:
        return [{"item": str(item), "status": str(status)} for item, status in json.loads(ran.stdout)]
    except (ValueError, TypeError, RecursionError):
        return [{"item": "health", "status": "UNKNOWN"}]


def guests(observed: dict[str, Any], node: str) -> list[str]:
    """What runs on a node that answers, by name; in words if it cannot tell."""
    view = Observed({node: observed.get(node)}).views[node]
    if view is None:
        return []
    if view.document.get("domains") is None:
        return ["guests that it could not tell"]
    return sorted(name for name, domain in view.domains.items() if domain.active)


def feeds(observed: dict[str, Any], node: str) -> list[str]:
    """Whose other copy, by name, lives by the one on a node that answers."""
    view = Observed({node: observed.get(node)}).views[node]
    return [] if view is None else sorted(name for name, one in view.resources.items() if one.feeds_peer)


def review(desired: Desired, observed: dict[str, Any], said: dict[str, list[Said]]) -> list[Finding]:
    """What is wrong with the fence devices, by what each way said of its node.

    Devices that say off of a node that answers switch some other machine: worse than none.
    """
    found = []
    some = any(node.fence for node in desired.nodes.values())
    for name in sorted(desired.nodes):
        target, answers = f"node {name}", said.get(name, [])
        if some and not desired.nodes[name].fence:
            remedy = "give it twofold_fence, or confirm its death by hand when it comes to that"
            found.append(Finding(INFO, "fence-none", target, "it has no fence device, other nodes have", remedy))
        silent = [answer for answer in answers if answer.state == SILENT]
        severity = ERROR if len(silent) == len(answers) else WARNING
        for answer in silent:
            remedy = "check its address, user and password, and try it with fence.yml; until then it proves nothing"
            found.append(Finding(severity, "fence-silent", target, f"its fence device {answer.message}", remedy))
        if observed.get(name) is not None:
            for answer in (answer for answer in answers if answer.state == OFF):
                message = f"its fence device {answer.method} says that it is off, but it answers"
                remedy = "the device switches another machine: correct its address or outlet before it is relied on"
                found.append(Finding(ERROR, "fence-wrong", target, message, remedy))
    return found
