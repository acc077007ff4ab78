# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two real nodes on which raw histories of guests are played, beside the model of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.twofold.cluster.plugins.module_utils._libvirt import Domain
from tests.simulation.honesty import NODES, Act, Event, States
from tests.simulation.honesty_guests import CALLS, DEFINE, KILL, MIGRATE, MOVES, Seen, migration, seen, xml

from .core import Lab
from .honest_nodes import Asked, Request

AGENT = (Path(__file__).parent / "libvirt_agent.py").read_text(encoding="utf-8")
NOISE = "/var/lib/libvirt/images/noise.img"
DISK = f"""<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{NOISE}'/>
<target dev='vda' bus='virtio'/><readonly/></disk>"""
# A boot sector that fills 512 KiB of memory with another number again and again, so that a slow migration never ends:
# bx counts, ax is the segment, rep stosw fills it, hlt waits for the clock's next tick.
SECTOR = bytes.fromhex("fb 31db b80010 8ec0 50 31ff b90080 43 89d8 f3ab f4 58 050010 3d0090 72e9 ebe4").ljust(
    510, b"\0"
)
IMAGE = (SECTOR + b"\x55\xaa").ljust(1 << 20, b"\0")


class RealGuests(Asked):
    """Two nodes of a lab, bootstrapped and without instances."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, AGENT)
        self.names: list[str] = []
        self.addresses = {node: f"198.51.100.1{number}" for number, node in enumerate(NODES, 1)}
        image = base64.b64encode(IMAGE[:512]).decode()
        self.all_nodes(f"echo {image} | base64 -d >{NOISE}; truncate --size={len(IMAGE)} {NOISE}")

    def begin(self, resources: Sequence[str]) -> None:
        """Nothing is there yet."""
        self.names = list(resources)

    def act(self, acts: Mapping[str, Act], _record: int) -> dict[str, str | None]:
        """Do one thing to each of some guests; None if it was done, or why it was refused."""
        requests: dict[str, Request] = {}
        for name, act in acts.items():
            requests.setdefault(act.node, {"calls": {}})["calls"][name] = self._call(name, act)
        said: dict[str, str | None] = {}
        for answer in self.ask(requests).values():
            said |= answer["said"]
        return said

    def _call(self, name: str, act: Act) -> tuple[str, tuple[Any, ...]]:
        if act.what in MOVES:
            other = next(node for node in NODES if node != act.node)
            wanted = migration(name, xml(name, DISK), self.addresses[other], act.what)
            return MIGRATE, (wanted._asdict(), act.what.partition(" ")[2] or None)
        if act.what == DEFINE:
            return DEFINE, (xml(name, DISK),)
        return (KILL, ()) if act.what == KILL else CALLS[act.what]

    def happen(self, event: Event, acts: Mapping[str, Act], record: int) -> dict[str, str | None]:
        """Let an event happen, and do something right after it."""
        self._happen(event)
        return self.act(acts, record)

    def _happen(self, event: Event) -> None:
        if event.what == "off":
            self.lab.power_off(event.node)
        elif event.what == "on":
            self.lab.power_on(event.node)
            self.lab.run(event.node, "systemctl stop twofold-power-back.timer")
        elif event.what == "restart":
            self.lab.run(event.node, "systemctl restart libvirtd")
        else:
            self.lab.link(event.node, "replication", event.what == "join")

    def look(self) -> States:
        """Every guest on both nodes, as it is now."""
        answers = self.ask({node: {"look": self.names} for node in self.powered()})
        found = {}
        for name in self.names:
            one, other = (_seen(answers.get(node), name) for node in NODES)
            found[name] = one, other
        return found

    def ends(self, resources: Sequence[str]) -> States:
        """As they are."""
        found = self.look()
        return {name: found[name] for name in resources}

    def last_words(self, resource: str) -> str:
        """What libvirt and QEMU said of a guest."""
        line = f"journalctl --no-pager -n 20 -u libvirtd; tail -n 10 /var/log/libvirt/qemu/{resource}.log"
        return "\n".join(f"{node}:\n{self.lab.run(node, line, check=False).stdout}" for node in self.powered())


def _seen(answer: Request | None, name: str) -> Seen | None:
    found = answer["states"].get(name) if answer is not None else None
    if found is None:
        return None
    why = found.pop("why")
    return seen(Domain(**found), lambda: str(why))
