# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of the primary: make the disks usable, install, define, start or stop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .. import names, secrets
from ..observed import Domain, Resource
from ..render.domain import SEED_TARGET, disk_source
from ..units import format_size
from . import copies, diff, fit, halves, rebooting, rebuild, volumes
from . import document as plan
from .document import Step
from .starts import start_args

if TYPE_CHECKING:
    from .converge import Converge

FILE = "$file"
PROMOTE = "replication.promote"
RESUME = "domain.resume"
MOST_NICS = 16
RUNNING = ("running", "idle", "blocked")
# How a guest that is neither off nor serves comes back.
STUCK = {
    "paused": "virsh resume {} when that is gone, often a full or failed disk",
    "crashed": "virsh destroy {}, then converge.yml starts it anew",
    "pmsuspended": "virsh dompmwakeup {} wakes it",
}


class Guest:
    """What happens on the primary once both nodes hold what they should."""

    def __init__(self, converge: Converge) -> None:
        self.c = converge
        self.node = converge.situation.primary
        self.name = converge.wanted.name
        self.domain: Domain | None = converge.trace.domains.get(self.node)
        self.resource: Resource | None = converge.trace.resources.get(self.node)

    @property
    def active(self) -> bool:
        """Whether it runs (or is not certainly off)."""
        return self.domain is not None and self.domain.active

    def run(self) -> None:
        """Add the steps."""
        self._report_state()
        self._stop()
        if self.c.owed_on not in (None, self.node):
            self._report_owed()
            return
        install = self._installs()
        starts = self.c.wanted.state == "running" and not self.active
        if starts and not install and volumes.pending(self.c.trace, self.node, volumes.INSTALL):
            message = (
                f"its disk waits for the OS {self.c.document['os']}, which the inventory does not describe any more"
            )
            remedy = "set twofold_os to what it is to get"
            self.c.context.error("os-owed", self.name, message, remedy)
            starts = False
        if starts and self._is_filled_first():
            message = f"its copy on {self.node} has to be filled from the other one before it starts there"
            self.c.context.error("disk-not-up-to-date", self.name, message, "run this again when the resync has ended")
            starts = False
        if install and self._is_served():
            install = False
        if (install or starts) and self._is_left_off():
            install = starts = False
        usable = self._usable(needed=install or starts)
        if install and usable:
            self._install()
        if self.c.owed_on is None or (install and usable):
            self.c.os_is_written()
        self._define()
        if starts and usable:
            self._start()
        self._demote()

    def _is_left_off(self) -> bool:
        """Whether its node is about to be rebooted; a finding if so."""
        away = rebooting.reason(self.c.context.observed.known(self.node))
        if away is not None:
            message, remedy = f"it is not started: {self.node} is {away}", "run site.yml when the node is back"
            self.c.context.error("node-rebooting", self.name, message, remedy)
        return away is not None

    def _is_filled_first(self) -> bool:
        """Whether a replacement of the primary's copy was interrupted, and nothing says that it is whole."""
        marked = self.node in self.c.rebuilt or bool(volumes.pending(self.c.trace, self.node, volumes.SYNC))
        waits = any(step.op == "replication.wait" and step.node == self.node for step in self.c.chain.added)
        return marked and not waits and self._peer_without_copy() is None

    def _installs(self) -> bool:
        """Whether the OS is owed: its volume says so, or is about to be made."""
        if self.c.built.template is None:
            return False
        owed = volumes.pending(self.c.trace, self.node, volumes.INSTALL)
        # A copy that is made anew is filled from the other one.
        missing = [] if self.node in self.c.rebuilt else volumes.missing(self.c.document, self.c.trace, self.node)
        return bool(owed) or any(volume.gets_os for volume in missing)

    def _is_served(self) -> bool:
        """Whether somebody started it by hand on the disk that waits for its OS; a finding if so."""
        owed = volumes.pending(self.c.trace, self.node, volumes.INSTALL)
        if not owed or not self.active or self.c.chain.has(self.node, "domain.stop"):
            return False
        message = f"it runs on {self.node}, and its first disk waits for {self.c.document['os']}: that is not written"
        path = f"{owed[0].volume_group}/{owed[0].name}"
        keep = f"'lvchange --deltag twofold.pending={volumes.INSTALL} {path}' on {self.node} keeps what it has"
        remedy = f"shut it down, then run this again and the OS is written over its disk; or {keep}"
        self.c.context.error("running", self.name, message, remedy)
        return True

    def _report_owed(self) -> None:
        """It gets its OS where that was begun; a domain elsewhere would say that it lives there."""
        where = self.c.owed_on
        message = f"it is not started: its OS was being written to its disk on {where}, which is not there any more"
        remedy = f"run site.yml again when its copy on {where} has been made anew: then the OS is written there"
        self.c.context.error("not-created", self.name, message, remedy)

    def _add(
        self, op: str, args: dict[str, Any], *, kind: str, why: str, after: Iterable[str] = (), **more: Any
    ) -> str:
        return self.c.chain.add(self.node, op, args, kind=kind, why=why, after=[*after, *self.c.looks], **more)

    def _both(self) -> list[str]:
        """What the other node has to have done first."""
        return self.c.chain.last_on(*self.c.situation.nodes)

    def _usable(self, *, needed: bool) -> bool:
        """Make the DRBD devices writable on the primary; whether they will be."""
        if not self.c.replicated:
            return True
        if (peer := self._peer_without_copy()) is not None and (needed or not self.c.trace.domains):
            return not needed or self._take_over(peer)
        up_to_date = self._up_to_date()
        if not self.c.trace.domains and not up_to_date:
            args = self.c.settings()
            self._add(
                "replication.initialise",
                args,
                kind=plan.CREATE,
                why="both copies are new and equal",
                after=self._both(),
            )
        elif not self._connection_is_fine(needed=needed) or not self._disk_is_fine(needed=needed):
            return False
        changed = self.c.chain.has(self.node, "replication.configure") or self.c.chain.has(
            self.node, "replication.settle"
        )
        if needed and self._is_primary_alone() and self._configuring():
            # Taken over and never used: the peer that comes back may have what this copy lacks. They meet first.
            self._add(
                "replication.demote", self.c.settings(), kind=self.c.kind, why="it meets its peer before it is used"
            )
            changed = True
        if needed and (changed or self.resource is None or not self.resource.primary):
            self._add(PROMOTE, self.c.settings(), kind=self.c.kind, why="it is used here", after=self._both())
        return True

    def _is_primary_alone(self) -> bool:
        return self.resource is not None and self.resource.primary and not self.resource.connected

    def _peer_without_copy(self) -> str | None:
        """The other node, if this one need not wait for it: it has no copy that the guest can have run on."""
        trace, apart = self.c.trace, self.resource is None or not self.resource.connected
        known = self.c.situation.has_data and apart
        for node in (node for node in self.c.situation.nodes if known and node != self.node):
            # What never was filled has nothing newer; a node with nothing at all may have lost it.
            whole = copies.left if node in trace.nodes else copies.good
            if whole(trace, self.node) and copies.unserved(trace, node):
                return node
        return None

    def _take_over(self, peer: str) -> bool:
        """Go on without the other node; whether there is room for it."""
        context, document = self.c.context, self.c.document
        if needed := self._not_promised():
            if found := fit.problems(context, document, self.node, needed):
                message = f"it cannot run on {self.node}: {', '.join(found)}"
                context.error("target-does-not-fit", self.name, message, "free or add what is missing there")
                return False
            context.claims.take_memory(self.node, needed)
        if self.resource is None or not self.resource.primary or volumes.pending(self.c.trace, self.node, volumes.SYNC):
            why = rebuild.proof(self.name, peer)
            args = {**self.c.settings(), "peer": peer, "proof": why, "stale": not copies.good(self.c.trace, self.node)}
            self._add("replication.take_over", args, kind=plan.MOVE, why=why, risk=rebuild.RISK)
        return True

    def _up_to_date(self) -> bool:
        resources = [self.c.trace.resources.get(node) for node in self.c.situation.nodes]
        return all(resource is not None and resource.up and resource.all_disks("UpToDate") for resource in resources)

    def _configuring(self) -> bool:
        configured = any(self.c.chain.has(node, "replication.configure") for node in self.c.situation.nodes)
        return configured or bool(self.c.rebuilt)

    def _connection_is_fine(self, *, needed: bool) -> bool:
        if self._configuring() or (self.resource is not None and self.resource.connected):
            return True
        state = self.resource.connection if self.resource is not None else "unknown"
        message = f"DRBD on {self.node} has no connection to its peer ({state}): the copies drift apart"
        remedy = "check the replication network between the nodes" + ("; then it is started" if needed else "")
        self._report("not-connected", message, remedy, error=needed)
        return False

    def _disk_is_fine(self, *, needed: bool) -> bool:
        fine = True
        for node in self.c.situation.nodes:
            resource = self.c.trace.resources.get(node)
            for volume in resource.volumes if resource is not None and resource.up else ():
                if volume.disk == "UpToDate" or (not volume.attached and self._attaches(node)):
                    continue
                done = f", {volume.done:.1f}% done" if volume.done is not None else ""
                message = f"disk {volume.volume} on {node} is {volume.disk}{done}"
                here = node == self.node
                if volume.disk == "Outdated" and resource is not None and not resource.connected:
                    remedy = "connect it with its peer: until then nobody knows whether it lacks something"
                elif volume.disk in ("Inconsistent", "Outdated"):
                    remedy = "wait for the resync"
                else:
                    remedy = f"check {node}'s disks"
                self._report("disk-not-up-to-date", message, remedy, error=here and needed)
                fine = fine and not here
        return fine

    def _attaches(self, node: str) -> bool:
        """Whether the plan gives DRBD a disk there that was in service, so that it is complete."""
        made = volumes.missing(self.c.document, self.c.trace, node)
        owed = any(volume.pending for volume in self.c.trace.volumes.get(node, {}).values())
        return not (made or owed) and self.c.chain.has(node, "replication.configure")

    def _report(self, code: str, message: str, remedy: str, *, error: bool) -> None:
        report = self.c.context.error if error else self.c.context.warning
        report(code, self.name, message, remedy)

    def _install(self) -> None:
        template, document = self.c.built.template, self.c.document
        assert template is not None
        disk = document["disks"][0]
        group = disk["volume_group"][self.node]
        args: dict[str, Any] = {
            "kind": template.kind,
            "device": disk_source(document, disk, self.node),
            "volume": {"volume_group": group, "name": names.data_volume(self.name, 0)},
            "sha256": template.sha256,
            "format": template.format,
            "script": {FILE: template.script} if template.script else None,
            "environment": {**template.environment, "TWOFOLD_HOSTNAME": self.c.wanted.hostname or self.name},
            "timeout": template.timeout,
        }
        after = [self._image()] if template.kind == "image" and not self._cached() else []
        why = f"write {document['os']} to the disk"
        self._add("os.install", args, kind=plan.CREATE, why=why, after=after)

    def _cached(self) -> bool:
        view = self.c.context.observed.known(self.node)
        template = self.c.built.template
        return view is not None and template is not None and template.sha256 in view.images

    def _image(self) -> str:
        """The step that fetches the image, one for all instances of the node."""
        template = self.c.built.template
        assert template is not None
        identifier = f"image/{(template.sha256 or '')[:12]}/image.fetch@{self.node}"
        args = {"sha256": template.sha256, "url": template.url, "file": template.file, "format": template.format}
        why = f"{self.c.document['os']} is not on {self.node} yet"
        step = Step(identifier, self.node, None, "image.fetch", args, kind=plan.CREATE, why=why)
        self.c.context.steps.setdefault(identifier, step)
        return identifier

    def _define(self) -> None:
        wanted = self.c.document["domain_xml"]
        args = {"name": self.name, "xml": wanted}
        if self.domain is None:
            self._add("domain.define", args, kind=self.c.kind, why="the domain is missing")
            return
        reasons = diff.domain(wanted, self.domain.xml)
        if self.domain.autostart:
            reasons.append("libvirt would start it at boot without asking who is primary")
        if not self.domain.persistent:
            reasons.append("it would be forgotten when it stops")
        reasons += self._extra(wanted, self.domain.xml, redefining=bool(reasons))
        if reasons:
            kind = plan.NEXT_BOOT if self.active else plan.LIVE
            self._add("domain.define", args, kind=kind, why=diff.shown(reasons))
        elif self.active and (self.domain.memory, self.domain.vcpus) != self._size():
            message = f"it still runs with {format_size(self.domain.memory)} and {self.domain.vcpus} processors"
            self.c.context.info("restart-pending", self.name, message, "restart the guest when it suits")

    def _extra(self, wanted: str, observed: str, *, redefining: bool) -> list[str]:
        """Devices that are not wanted: those that were ours go, those of others are reported."""
        extra = diff.extra_devices(wanted, observed)
        former = diff.devices((self.c.situation.base or {}).get("domain_xml", ""))
        secret = self.c.context.desired.cluster.secret
        former |= {f"interface {secrets.mac(secret, self.name, index)}" for index in range(MOST_NICS)}
        former |= {f"disk {SEED_TARGET}"}
        foreign = [device for device in extra if device not in former]
        if foreign:
            message = f"the domain has what the inventory does not: {', '.join(foreign)}"
            if redefining:
                message += "; it is dropped from the definition with the other changes"
            remedy = "take it out with virsh, or ask for it in the inventory"
            self.c.context.warning("extra-device", self.name, message, remedy)
        return [f"{device} is not wanted any more" for device in extra if device in former]

    def _size(self) -> tuple[int, int]:
        return -(-self.c.document["memory"] // 1024) * 1024, self.c.document["vcpus"]

    def _start(self) -> None:
        if not self._memory():
            return
        args = start_args(self.c.context, self.c.document, self.node)
        if self.resource is not None and self.resource.connected and not self.c.chain.has(self.node, PROMOTE):
            # Promoting asks the peer; without it, somebody may have moved the guest there since it was looked at.
            args["connected"] = True
        self._add("domain.start", args, kind=self.c.kind, why="it should run")

    def _memory(self) -> bool:
        """Whether there is memory for what is started; a new instance got its promise when its nodes were chosen."""
        claims, needed = self.c.context.claims, self.c.document["memory"]
        if self.c.situation.base is None:
            return True
        free = claims.memory_free(self.node, besides=self.name)
        if free < needed:
            message = f"{self.node} has {format_size(max(free, 0))} memory free, {format_size(needed)} needed"
            remedy = "stop another guest there, or make this one smaller, then run this again"
            self.c.context.error("no-memory", self.name, message, remedy)
            return False
        claims.take_memory(self.node, self._not_promised())
        return True

    def _not_promised(self) -> int:
        """Bytes that it needs beyond what counts as its own on its node already: the inventory may want more by now."""
        return max(0, int(self.c.document["memory"]) - self.c.context.claims.guest_memory(self.node, self.name))

    def _stop(self) -> None:
        if self.c.wanted.state == "stopped" and self.active:
            args = {"name": self.name, "timeout": self.c.wanted.shutdown_timeout, "force": True}
            risk = "the guest is shut down, and switched off if it does not follow in time"
            self._add("domain.stop", args, kind=plan.RESTART, why="it should be stopped", risk=risk)

    def _demote(self) -> None:
        """A guest that is off holds no disk."""
        if not self.c.replicated or self.c.wanted.state != "stopped":
            return
        promoted = self.c.chain.has(self.node, "replication.promote")
        if promoted or (self.resource is not None and self.resource.primary):
            self._add("replication.demote", self.c.settings(), kind=self.c.kind, why="it is not used")

    def _report_state(self) -> None:
        """A guest that is neither off nor running."""
        if self.domain is None or not self.active or self.domain.state in RUNNING:
            return
        if self.domain.stranded or halves.waiting(self.c.trace, self.node) or self.c.chain.has(self.node, RESUME):
            return
        state = self.domain.state
        if state in STUCK and self.c.wanted.state == "running":
            message = f"it should run and is {state} on {self.node}"
            remedy = f"on {self.node}, virsh domstate --reason {self.name} says why; {STUCK[state].format(self.name)}"
            self.c.context.error("guest-state", self.name, message, remedy)
        else:
            message = f"it is {state} on {self.node}"
            self.c.context.warning("guest-state", self.name, message, f"look at it: virsh console {self.name}")
