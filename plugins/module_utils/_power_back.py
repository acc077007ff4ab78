# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Power comes back: a node starts the guests that are provably its own, and says why it leaves others alone.

It runs from a unit at boot and from a timer, on the node, without a control host. A guest is the node's own if the
definition here names it primary, its domain is defined here and not at the peer, its disks are up to date, and the peer
has shaken hands and is not Primary. Whatever else there is takes a person, or a run of a playbook.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any, Callable, NamedTuple, Protocol

from . import _definitions, _maintenance, _stale_copies
from ._apply import apply
from ._drbd import ResourceState
from ._errors import NoAnswer, TwofoldError
from ._files import Files, read_json
from ._libvirt import OFF, Domain
from ._node import Node
from ._power_back_notes import read_notes, write_notes

CONFIG = "/etc/twofold/power_back.json"
PIDS = "/run/libvirt/qemu"
# Until the node has been up for so many seconds, peers that boot too are waited for.
BOOT_PATIENCE = 300.0
LOOK_AGAIN = 3.0
# Starting many guests takes minutes; so often stale copies are looked for meanwhile.
MARK_AGAIN = 30.0
# A guest that dies again and again is started so often within so many seconds.
WINDOW = 3600.0
PROMOTE_TIMEOUT = 10
# Why a guest is off, in libvirt's words; somebody wanted these.
WANTED_OFF = {"shutdown": "it was shut down", "destroyed": "it was switched off", "saved": "it was saved"}
RUN_SITE = "run site.yml"
# DRBD 8.4's words for a disk without its peer.
APART = ("StandAlone", "WFConnection", "Unconnected", "Timeout", "BrokenPipe", "NetworkFailure", "ProtocolError")


class Watched(Protocol):
    """What it asks of the hypervisor."""

    def domains(self) -> dict[str, Domain]: ...

    def why_off(self, name: str) -> str: ...

    def domains_at(self, uri: str) -> dict[str, str]: ...


class Settings(NamedTuple):
    """What the role wrote: this node's name in the inventory, where to ask its peers' libvirt, and limits."""

    node: str
    peers: dict[str, list[str]]
    restarts: int
    starts_at_once: int
    start_delay: int


class Verdict(NamedTuple):
    """What is to be done with a guest; `wait` may pass by itself."""

    kind: str
    reason: str = ""
    remedy: str = ""


START = Verdict("start")
# Somebody changed it since it was read; the next look sees what it is now.
CHANGED = Verdict("changed")


def wait(reason: str, remedy: str) -> Verdict:
    return Verdict("wait", reason, remedy)


def leave(reason: str, remedy: str = RUN_SITE) -> Verdict:
    return Verdict("leave", reason, remedy)


class PowerBack:
    """One pass over the guests that should run here."""

    def __init__(self, node: Node, watched: Watched, settings: Settings) -> None:
        self.node = node
        self.watched = watched
        self.settings = settings
        self.boot = str(node.host.facts()["boot_id"])
        self.notes: dict[str, Any] = {}
        self.started = 0
        self.marked = 0.0
        self.said: list[str] = []

    def run(self) -> list[str]:
        """Marks stale copies and starts what may be started; returns what happened, a line each."""
        end = self.node.clock.monotonic() + max(0.0, BOOT_PATIENCE - float(self.node.host.facts()["uptime"]))
        while True:
            peers = Peers(self.watched, self.settings)
            # First, for nothing that holds up the guests may hold up the marks.
            self._mark(peers)
            left = self._round(peers)
            waiting = left is None or any(verdict.kind == "wait" for verdict in left.values())
            if not waiting or self.node.clock.monotonic() >= end:
                break
            self.node.clock.sleep(LOOK_AGAIN)
        if left is not None:
            self._note(left)
        return self.said

    def _mark(self, peers: Peers) -> None:
        """What is left behind here says so."""
        try:
            for line in _stale_copies.mark(self.node.replication, self.node.files, self.settings.node, peers.domains):
                self._say(line)
        except (TwofoldError, OSError) as error:
            self._say(f"stale copies could not be looked for: {error}")
        self.marked = self.node.clock.monotonic()

    def _say(self, line: str) -> None:
        """Once, though rounds are many."""
        if line not in self.said:
            self.said.append(line)

    def _round(self, peers: Peers) -> dict[str, Verdict] | None:
        """Starts, in their order, what may be started now; verdicts on what is still off. None: a run is at work."""
        if self.node.lock.holder() is not None:
            return None
        self.notes = read_notes(self.node.files)
        domains = self.watched.domains()
        mine = [one for one in wanted_here(self.node.files, self.settings.node) if not runs(domains.get(one["name"]))]
        note = _maintenance.in_force(self.node)
        if note is not None:
            # It would be lost again; what could not be moved comes back after the reboot.
            return {one["name"]: wait(*_maintenance.why_not(note)) for one in mine}
        look = Look(self.node, self.watched, self.settings, domains, peers)
        left = {}
        for document in mine:
            if self.node.clock.monotonic() - self.marked >= MARK_AGAIN:
                self._mark(Peers(self.watched, self.settings))
            verdict = self._often(document) or look.judge(document)
            if verdict.kind == "start":
                verdict = self._start(document)
            if verdict not in (START, CHANGED):
                left[document["name"]] = verdict
        return left

    def _often(self, document: dict[str, Any]) -> Verdict | None:
        """Whether it was started too often."""
        starts = self._starts(document["name"])
        if len(starts) < self.settings.restarts:
            return None
        message = f"it was started {len(starts)} times within {WINDOW / 60:.0f} minutes and died each time"
        return leave(message, f"look at its log, /var/log/libvirt/qemu/{document['name']}.log, then run site.yml")

    def _starts(self, name: str) -> list[float]:
        if self.notes.get("boot") != self.boot:
            return []
        now = self.node.clock.time()
        return [one for one in self.notes.get("starts", {}).get(name, []) if now - WINDOW < one <= now]

    def _start(self, document: dict[str, Any]) -> Verdict:
        """Promotes and starts, with the steps that a run uses, under the node's lock and in its journal."""
        name = document["name"]
        # Since the last guest was started, others may have worked here.
        self.node.volumes.forget()
        answer = apply(self.node, self._request(document))
        results = answer["results"]
        if results[0]["status"] == "skipped" and answer["lock"] != "refused":
            return CHANGED
        if results[-1]["status"] != "skipped":
            self._remember(name)
        failed = next((one for one in results if one["status"] not in ("changed", "unchanged")), None)
        if failed is None:
            self.started += 1
            self.said.append(f"{name}: started")
            return START
        if failed is results[-1] and failed["status"] == "failed" and document["disk_template"] == "drbd":
            # Nobody uses the disks here, so the peer may.
            demote = {"id": f"{name}/demote", "op": "replication.demote", "args": {"resource": name, "timeout": 5}}
            apply(self.node, {**self._request(document), "steps": [demote]})
        return wait(failed["message"], failed["remedy"] or RUN_SITE)

    def _request(self, document: dict[str, Any]) -> dict[str, Any]:
        name, here = document["name"], self.settings.node
        replicated = document["disk_template"] == "drbd"
        start: dict[str, Any] = {
            "name": name,
            "resource": name if replicated else None,
            "volumes": [
                {"volume_group": disk["volume_group"][here], "name": f"{name}-disk{disk['index']}"}
                for disk in document["disks"]
            ],
        }
        if self.started and self.started % self.settings.starts_at_once == 0:
            start["delay"] = self.settings.start_delay
        instance = {"instance": name, "generation": document.get("generation", 0)}
        steps = [{"id": f"{name}/start", "op": "domain.start", **instance, "args": start}]
        if replicated:
            promote = {"resource": name, "timeout": PROMOTE_TIMEOUT}
            steps[0]["needs"] = [f"{name}/promote"]
            steps.insert(0, {"id": f"{name}/promote", "op": "replication.promote", **instance, "args": promote})
        who = {"run": f"power-back-{os.getpid()}", "holder": f"power-back@{here}"}
        return {"format": 1, **who, "lease": 120, "lock_wait": 0, "lock": True, "release": True, "steps": steps}

    def _remember(self, name: str) -> None:
        """That it was started, or that this was tried."""
        starts = self.notes.get("starts", {}) if self.notes.get("boot") == self.boot else {}
        starts = {**starts, name: [*self._starts(name), self.node.clock.time()]}
        self._write({**self.notes, "boot": self.boot, "starts": starts})

    def _note(self, left: dict[str, Verdict]) -> None:
        """What is left alone and why, for the next observation; said once, when it is new."""
        before = self.notes.get("left", {})
        now = {name: {"reason": verdict.reason, "remedy": verdict.remedy} for name, verdict in left.items()}
        for name, one in now.items():
            if before.get(name) != one:
                self.said.append(f"{name}: left alone: {one['reason']} ({one['remedy']})")
        if before != now:
            self._write({**self.notes, "left": now})

    def _write(self, notes: dict[str, Any]) -> None:
        self.notes = {**notes, "format": 1}
        write_notes(self.node.files, self.notes)


class Peers:
    """The other nodes' libvirt, asked once each."""

    def __init__(self, watched: Watched, settings: Settings) -> None:
        self.watched = watched
        self.settings = settings
        self._known: dict[str, dict[str, str] | None] = {}

    def domains(self, peer: str) -> dict[str, str] | None:
        """The domains of a peer with their states, from the first of its addresses that answers; None if none does."""
        if peer not in self._known:
            self._known[peer] = self._ask(peer)
        return self._known[peer]

    def _ask(self, peer: str) -> dict[str, str] | None:
        for uri in self.settings.peers.get(peer, ()):
            try:
                return self.watched.domains_at(uri)
            except NoAnswer:
                # The same libvirtd is behind its other addresses.
                return None
            except TwofoldError:
                continue
        return None


class Look:
    """What one round sees; peers are asked once each."""

    def __init__(
        self, node: Node, watched: Watched, settings: Settings, domains: dict[str, Domain], peers: Peers
    ) -> None:
        self.node = node
        self.watched = watched
        self.settings = settings
        self.domains = domains
        self.peers = peers
        self._moving = {
            str((entry.get("step") or {}).get("instance"))
            for entry in node.journal.entries()
            if (entry.get("step") or {}).get("op") == "domain.migrate"
        }

    def judge(self, document: dict[str, Any]) -> Verdict:
        """Whether a guest is this node's own and may be started."""
        name = document["name"]
        domain = self.domains.get(name)
        if domain is None:
            return leave("its domain is not defined here")
        if domain.uuid != document["uuid"]:
            return leave("the domain of this name is not its own")
        if name in self._moving or document.get("moving_to"):
            return leave("a migration of it was interrupted, so it may run elsewhere")
        if document.get("os_owed_on"):
            return leave("its OS has not been written to the end")
        reason = self.watched.why_off(name)
        if reason in WANTED_OFF:
            return leave(WANTED_OFF[reason], "start it with virsh or site.yml, or set twofold_state: stopped")
        return self._replication(document) if document["disk_template"] == "drbd" else START

    def _replication(self, document: dict[str, Any]) -> Verdict:
        name = document["name"]
        peer = next((node for node in document["nodes"] if node != self.settings.node), None)
        if peer is None:
            return leave(
                "its definition names no other node", "copy it from the other node of its disks, then site.yml"
            )
        remedy = f"bring {peer} back; if it is dead, recover.yml with a proof starts the guest"
        state = self.node.replication.state(name)
        problem = _disks(state, peer, remedy)
        return problem or self._peer(document, peer)

    def _peer(self, document: dict[str, Any], peer: str) -> Verdict:
        """What the peer's libvirt says: a domain there means a failover, unless that was to here."""
        name = document["name"]
        there = self.peers.domains(peer)
        if there is None:
            # DRBD is connected to it, so it lives.
            remedy = (
                f"look at libvirtd on {peer}, at the clocks and certificates of both, and for a firewall in between; "
                "site.yml renews certificates, converge.yml starts the guest"
            )
            return wait(f"libvirt of {peer} does not answer, so it is not known whether it runs there", remedy)
        if name in there and not (document.get("took_over") == peer and there[name] in OFF):
            return leave(f"it lives on {peer}, where its domain is {there[name]}")
        return START


def _disks(state: ResourceState | None, peer: str, remedy: str) -> Verdict | None:
    """What DRBD has against it; None if nothing."""
    if state is None:
        return wait("DRBD is down on this node", RUN_SITE)
    if not state.connected:
        return wait(f"its disks have no connection to {peer} ({state.connection})", remedy)
    if state.peer_role == "Primary":
        return leave(f"its disks are in use on {peer}")
    if state.allow_two_primaries:
        return leave("a migration of it was not cleared up: two primaries are allowed")
    bad = [f"disk {one.volume} is {one.disk}" for one in state.volumes if one.disk != "UpToDate"]
    if bad or not state.volumes:
        return wait(f"its disks are not up to date here: {', '.join(bad) or 'there are none'}", remedy)
    return None


def runs(domain: Domain | None) -> bool:
    return domain is not None and domain.active


def wanted_here(files: Files, node: str) -> list[dict[str, Any]]:
    """The definitions that name this node primary and want it to run, in their start order."""
    found = [
        one
        for one in _definitions.read_all(files).values()
        if one.get("state") == "running" and (one.get("nodes") or [None])[0] == node
    ]
    return sorted(found, key=lambda one: (-int(one.get("priority") or 0), str(one["name"])))


def idle(files: Files, settings: Settings, alive: Callable[[str], bool]) -> bool:
    """Whether everything runs, is connected, and nothing is noted; found out without libvirt, every minute."""
    # A damaged note holds up no mark.
    if apart(files) or read_notes(files).get("left"):
        return False
    return all(alive(one["name"]) for one in wanted_here(files, settings.node))


def apart(files: Files) -> bool:
    """Whether a secondary copy may be without its peer. DRBD 8.4 tells it in a file, DRBD 9 has to be asked."""
    text = files.read("/proc/drbd")
    if text is None:
        return False
    # A primary without its peer goes on; only a secondary has to find out whether it is left behind.
    found = re.findall(r"^ *\d+: cs:(\w+) ro:Secondary/", text, re.MULTILINE)
    if not text.startswith("version: 8"):
        return True
    return any(one in APART for one in found)


def qemu_alive(name: str) -> bool:
    """Whether the QEMU that libvirt started for a domain is there."""
    try:
        with open(f"{PIDS}/{name}.pid", encoding="ascii") as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return f"guest={name},".encode() in file.read()
    except (OSError, ValueError):
        return False


def read_settings(files: Files) -> Settings:
    """The settings; raises TwofoldError if there are none."""
    found = read_json(files, CONFIG)
    if found is None:
        raise TwofoldError(f"{CONFIG} is missing", "run bootstrap.yml")
    return Settings(**{name: found[name] for name in Settings._fields})


def main() -> int:
    """A pass, as the unit calls it; what happened goes to standard output, and so to the system's journal."""
    from ._files import SystemFiles
    from ._libvirt import Libvirt
    from ._node import this_node

    try:
        settings = read_settings(SystemFiles())
        if idle(SystemFiles(), settings, qemu_alive):
            return 0
        node = this_node()
        power_back = PowerBack(node, Libvirt(node.clock), settings)
        try:
            power_back.run()
        finally:
            # Before a failure it may have marked copies and started guests.
            sys.stdout.write("".join(f"{line}\n" for line in power_back.said))
    except (TwofoldError, OSError) as error:
        sys.stdout.write(f"{error}\n")
        return 1
    return 0
