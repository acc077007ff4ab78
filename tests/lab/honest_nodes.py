# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two real nodes on which raw histories of DRBD are played, beside the model of them."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible_collections.twofold.cluster.plugins.module_utils._drbd import DiskState, ResourceState
from tests.simulation.honesty import (
    CALLS,
    DOWN,
    FAIL,
    MINOR,
    NODES,
    SIZE,
    WRITE,
    Act,
    End,
    Event,
    Side,
    States,
    canonical,
    configuration,
    side,
)

from twofold import names

from .core import Lab

AGENT = (Path(__file__).parent / "drbd_agent.py").read_text(encoding="utf-8")
# Nodes come to rest within so many seconds, or stay different from the model.
PATIENCE = 180.0
# On a busy host: some acts are seven migrations, one after another.
ANSWER = 1200.0
# Is there while a node waits for the link to be cut.
READY = "/run/honest-ready"
# Tenths of a second that a peer has for its answer: what is done at once is done by then.
NET, PATIENT_NET = "    net {\n", "    net {\n        ping-timeout 100;\n"
Request = dict[str, Any]


class Asked(ABC):
    """Two nodes of a lab whose Python runs an agent with a request."""

    def __init__(self, lab: Lab, agent: str) -> None:
        self.lab = lab
        self.agent = agent
        # They would look after what is not theirs.
        self.all_nodes("systemctl stop twofold-power-back.timer")

    def all_nodes(self, line: str) -> None:
        """Run a line on both."""
        for node in NODES:
            self.lab.run(node, line)

    def powered(self) -> list[str]:
        """Those that are on."""
        return [node for node in NODES if self.lab.powered(node)]

    def ask(self, requests: Mapping[str, Request]) -> dict[str, Request]:
        """Ask nodes at the same time."""

        def ask(node: str) -> Request:
            argv = ["python3", "-I", "-", json.dumps(requests[node])]
            answer: Request = json.loads(self.lab.run(node, argv, stdin=self.agent, timeout=ANSWER).stdout)
            return answer

        with ThreadPoolExecutor() as pool:
            return dict(zip(requests, pool.map(ask, requests), strict=True))

    @abstractmethod
    def look(self) -> States:
        """What is compared, as it is now."""

    def rest(self, expected: States | None) -> States:
        """The state, as soon as it is as expected, or after some patience."""
        end = time.monotonic() + PATIENCE
        found = self.look()
        while expected is not None and any(found[name] != pair for name, pair in expected.items()):
            if time.monotonic() > end:
                break
            time.sleep(1)
            found = self.look()
        return found


class RealNodes(Asked):
    """Two nodes of a lab, bootstrapped and without instances."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, AGENT)
        self.resources: list[Request] = []
        self.record = 0
        self.hosts = {node: (node, f"198.51.100.1{number}") for number, node in enumerate(NODES, 1)}
        # They would be brought up at boot.
        self.all_nodes("systemctl disable -q twofold-replication drbd")

    def begin(self, resources: Sequence[str]) -> None:
        """Make the resources: connected, equal, and up to date."""
        made = []
        for number, name in enumerate(resources):
            text, secret = configuration(name, number, self.hosts)
            volumes = {"data": names.data_volume(name, 0), "meta": names.meta_volume(name, 0)}
            patient = text.replace(NET, PATIENT_NET)
            made.append({"name": name, **volumes, "size": SIZE, "text": patient, "secret": secret})
        self.resources = made
        self.ask({node: {"make": made} for node in NODES})
        self.lab.wait(lambda: all(one.connected for pair in self.look().values() for one in pair), what="they connect")
        self.ask({NODES[0]: {"calls": {name: [["clean_start", [0]]] for name in resources}}})

    def act(self, acts: Mapping[str, Act], record: int) -> dict[str, str | None]:
        """Do one thing to each of some resources; None if it was done, or why it was refused."""
        self.record = record
        requests: dict[str, Request] = {}
        for name, act in acts.items():
            requests.setdefault(act.node, {"calls": {}})["calls"][name] = self._calls(name, act, record)
        return _said(self.ask(requests))

    def _calls(self, name: str, act: Act, record: int) -> list[tuple[str, Any]]:
        if act.what in CALLS:
            return list(CALLS[act.what])
        minor = MINOR + [one["name"] for one in self.resources].index(name)
        return [(WRITE, (f"/dev/drbd{minor}", record)) if act.what == WRITE else (FAIL, (minor,))]

    def happen(self, event: Event, acts: Mapping[str, Act], record: int) -> dict[str, str | None]:
        """Let an event happen, and do something before anybody notices: the node itself sees that its link is cut."""
        if not acts:
            self._happen(event)
            return {}
        calls = {name: self._calls(name, act, record) for name, act in acts.items()}
        request = {event.node: {"calls": calls, "when_cut": READY}}
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(self.ask, request)
            self.lab.wait(lambda: self.lab.run(event.node, f"test -e {READY}", check=False).returncode == 0)
            self._happen(event)
            return _said(answer.result())

    def _happen(self, event: Event) -> None:
        if event.what == "off":
            self.lab.power_off(event.node)
        elif event.what == "on":
            self.lab.power_on(event.node)
            # As the unit does that is disabled here: the volumes may be activated later than a machine answers.
            bring_up = "modprobe drbd; udevadm settle --timeout=30; vgchange --quiet -aay"
            self.lab.run(event.node, f"systemctl stop twofold-power-back.timer; {bring_up}")
        else:
            self.lab.link(event.node, "replication", event.what == "join")

    def look(self) -> States:
        """Every resource on both nodes, as it is now."""
        answers = self.ask({node: {"look": True} for node in self.powered()})
        found = {}
        for resource in self.resources:
            one, other = (_side(answers.get(node), resource["name"]) for node in NODES)
            found[resource["name"]] = one, other
        return found

    def ends(self, resources: Sequence[str]) -> dict[str, tuple[End, End]]:
        """What is left when the resources are taken down."""
        wanted = [one for one in self.resources if one["name"] in resources]
        # A side that is Primary when the other one goes down would begin a generation of its own.
        self.ask({node: {"calls": {name: [["secondary", []]] for name in resources}} for node in NODES})
        answers = self.ask({node: {"end": wanted, "last": self.record} for node in NODES})
        found = {}
        for name in resources:
            one, other = (_end(answers[node]["ends"][name]) for node in NODES)
            found[name] = canonical((one, other))
        return found

    def last_words(self, resource: str) -> str:
        """What the kernels said of a resource."""
        number = [one["name"] for one in self.resources].index(resource)
        line = f"dmesg | grep -e 'drbd {resource}' -e 'drbd{MINOR + number}:' | tail -n 40"
        return "\n".join(f"{node}:\n{self.lab.run(node, line).stdout}" for node in self.powered())


def _said(answers: Mapping[str, Request]) -> dict[str, str | None]:
    return {name: refused for answer in answers.values() for name, refused in answer["said"].items()}


def _side(answer: Request | None, name: str) -> Side:
    state = answer["states"].get(name) if answer is not None else None
    if state is None:
        return DOWN
    volumes = tuple(DiskState(**volume) for volume in state["volumes"])
    return side(ResourceState(**{**state, "volumes": volumes}))


def _end(answer: Request) -> End:
    current, bitmap = (int(part, 16) for part in answer["generations"].split(":")[:2])
    return End(tuple(answer["records"]), current, bitmap)
