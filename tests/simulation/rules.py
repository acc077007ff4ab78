# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules under *Never* of docs/architecture.md, each looked at whenever something that it speaks of changes."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from ansible_collections.twofold.cluster.plugins.module_utils import _apply, _definitions
from ansible_collections.twofold.cluster.plugins.module_utils._steps_volumes import FORMER

from twofold import secrets
from twofold.fencing import OFF
from twofold.planner.proof import names

from .contents import Content
from .inventories import NAMES, PASSWORD
from .storage import Lv

if TYPE_CHECKING:
    from twofold.model import Desired

    from .drbd import Resource
    from .machine import Machine
    from .operator import Run
    from .world import World

ONCE, LAST, DUAL, MISSING, SECOND, KILL, SECRET, BEFORE = range(1, 9)
TEXTS = {
    ONCE: "an instance never runs on two nodes, and never starts without proof",
    LAST: "the last up-to-date copy and no acknowledged record is ever lost",
    DUAL: "two primaries only inside a migration, promoted only after the handshake",
    MISSING: "nothing is destroyed because it is missing from the inventory",
    SECOND: "the second run changes nothing, check mode predicts, what was changed by hand is found",
    KILL: "a kill at any moment leaves what the next run converges, and nothing leaks",
    SECRET: "secrets stand in no plan, answer or readable file",
    BEFORE: "what cannot be done is said with its object, reason and remedy before anything is changed",
}


class Violation(BaseException):
    """A rule was broken. Not an Exception: no code under test may swallow it."""

    def __init__(self, rule: int, text: str) -> None:
        super().__init__(f"rule {rule} ({TEXTS[rule]}): {text}")
        self.rule = rule
        self.text = text


class Rules:
    """Looks; raises Violation. `counts` are the looks by rule, and other figures."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.counts: Counter[str] = Counter()
        # Instances with a migration that has not been settled by a later run.
        self.migrating: set[str] = set()
        # Those whose only good copies somebody destroyed by hand: then nothing can be demanded.
        self.bereaved: set[str] = set()
        # Those with a disk that answered with errors, and those of which one died for good.
        self.hurt: set[str] = set()
        self.lost: set[str] = set()
        # Those whose reinstallation the operator has confirmed, until their OS is written.
        self.worded: set[str] = set()
        # Those that were being removed and are wanted again, or were to go on with a former copy: a volume may be gone.
        self.called_off: set[str] = set()
        # Those that were wanted without an OS once, and may have been made so.
        self.late: set[str] = set()
        # Those that somebody defined by hand where they do not live.
        self.strays: set[str] = set()
        # Whether two operators worked at the same time.
        self.contended = False
        self.secrets: list[str] = []

    def begins(self, desired: Desired) -> None:
        """A run begins: what it wants removed may be lost, and its secrets must not be seen."""
        self.called_off |= {name for name, one in desired.instances.items() if one.state == "absent"}
        self.late |= {name for name, one in desired.instances.items() if one.os is None}
        key = desired.cluster.secret
        self.secrets = [key, PASSWORD, *(secrets.drbd_secret(key, name) for name in NAMES)]

    def second(self, desired: Desired) -> None:
        """A second operator's run begins."""
        self.begins(desired)
        self.contended = True

    def settled(self) -> None:
        """A run that nobody disturbed found nothing to do: every migration is over."""
        self.migrating.clear()

    def look(self, rule: int, good: object, text: str) -> None:
        """Count a look at a rule."""
        self.counts[f"rule {rule}"] += 1
        if not good:
            raise Violation(rule, text)

    # At every state

    def state(self, names: set[str]) -> None:
        """What holds at every moment, for the instances that changed."""
        for name in sorted(names):
            self._runs_once(name)
            self._one_primary(name)
            self._records_are_kept(name)
            self._copies_agree(name)

    def _runs_once(self, name: str) -> None:
        machines = self.world.machines.values()
        running = [
            one.name for one in machines if (guest := one.libvirt.domains.get(name)) and guest.state == "running"
        ]
        self.look(ONCE, len(running) < 2, f"{name} runs on {' and '.join(running)}")

    def _one_primary(self, name: str) -> None:
        primary = [one.machine.name for one in self.world.drbd.sides(name) if one.primary]
        fine = len(primary) < 2 or name in self.migrating
        self.look(DUAL, fine, f"{name} is Primary on {' and '.join(primary)} outside a migration")

    def _copies(self, name: str, disk: int) -> list[tuple[Lv, Lv | None]]:
        """Every volume of a disk anywhere, also one that was put aside, with its metadata."""
        found = []
        for machine in self.world.machines.values():
            volumes = machine.storage.volumes
            for path, lv in volumes.items():
                if path.startswith(f"/dev/twofold/{name}-disk{disk}") and "-meta" not in lv.name:
                    found.append((lv, volumes.get(path.replace(f"-disk{disk}", f"-disk{disk}-meta"))))
        return found

    def _records_are_kept(self, name: str) -> None:
        guests = self.world.guests
        for disk in sorted({*guests.tips, *guests.given_up}):
            if disk[0] != name or name in self.bereaved:
                continue
            for tip in (*guests.tips.get(disk, ()), *guests.given_up.get(disk, ())):
                where = any(self._good(*one, tip) for one in self._copies(*disk))
                self.look(LAST, where, f"the record {tip} of disk {disk[1]} of {name} is on no copy any more")

    @staticmethod
    def _good(data: Lv, meta: Lv | None, tip: Content) -> bool:
        if not data.content.holds(tip):
            return False
        if FORMER in data.tags:
            # It is taken over as it is, whatever its new metadata say.
            return True
        replicated = meta is not None and meta.superblock is not None
        return not replicated or bool(meta and meta.superblock and meta.superblock.consistent)

    def _copies_agree(self, name: str) -> None:
        sides = self.world.drbd.sides(name)
        if len(sides) != 2 or not all(one.connected and one.reachable for one in sides):
            return
        for volume, ours in sides[0].devices.items():
            theirs = sides[1].devices.get(volume)
            if theirs is None or ours.data is None or theirs.data is None:
                continue
            if ours.disk == theirs.disk == "UpToDate":
                same = ours.data.content is theirs.data.content
                said = f"both copies of disk {volume} of {name} count as good, but hold {ours.data.content!r} and "
                self.look(LAST, same, said + repr(theirs.data.content))

    # When something is about to happen

    def _run(self) -> Run | None:
        task = self.world.engine.current
        return None if task is None else task.run

    def promotes(self, resource: Resource, force: bool) -> None:
        """A side becomes Primary."""
        run = self._run()
        if run is None:
            alone = resource.machine.alone.works(self.world.engine.current)
            said = f"{resource.machine.name} promotes {resource.name} by itself before its peer shook hands"
            # The peer that it shook hands with may be lost while the kernel changes the role.
            self.look(DUAL, not alone or (resource.met and not force), said)
            return
        outdated = bool(resource.devices) and all(one.peer_disk == "Outdated" for one in resource.devices.values())
        fine = (resource.met and not force) or outdated or self._confirmed(run, resource.machine, resource.name)
        alone = self._unfilled_elsewhere(run, resource)
        said = f"{resource.name} is promoted on {resource.machine.name} before its peer shook hands"
        self.look(DUAL, fine or alone, said)
        last = resource.met or outdated or alone or self._is_ahead(resource) or self._accepted(run, resource)
        self.look(LAST, last, f"{said} since it came up, and may lack what that wrote")

    @staticmethod
    def _is_ahead(resource: Resource) -> bool:
        """Whether it was written without its peer, so that it is the peer that lacks something."""
        return any(one.block is not None and one.block.bitmap for one in resource.devices.values())

    @staticmethod
    def _accepted(run: Run, resource: Resource) -> bool:
        return resource.name in names(run.intent.get("accept_stale"))

    def _unfilled_elsewhere(self, run: Run, resource: Resource) -> bool:
        """Whether the other copy was never filled, and its node was seen not to run the guest."""
        document = _definitions.read_all(resource.machine.files).get(resource.name)
        others = set((document or {"nodes": ()})["nodes"]) - {resource.machine.name}
        data = [
            lv for name in others for lv in self.world.machines[name].storage.volumes.values()
            if lv.tagged("instance") == resource.name and lv.tagged("role") == "data"
        ]  # fmt: skip
        return others <= run.known and all("twofold.pending=sync" in lv.tags for lv in data)

    def _confirmed(self, run: Run, near: Machine, name: str) -> bool:
        """Whether every other node where it may be was seen, or is off by the word of the operator or its fence device.

        It may be where any definition anywhere says so, also one that the operator could not see, or a domain is.
        """
        off = {node for node, said in (run.intent.get("fenced") or {}).items() if said["state"] == OFF}
        sure = set(run.intent.get("confirm_dead") or ()) | off
        concerned = {one.name for one in self._machines() if name in one.libvirt.domains}
        for one in self._machines():
            concerned |= set((_definitions.read_all(one.files).get(name) or {"nodes": ()})["nodes"])
        return bool(sure) and concerned - {near.name} <= sure | run.known

    def _machines(self) -> list[Machine]:
        return list(self.world.machines.values())

    def starts(self, machine: Machine, name: str) -> None:
        """A guest starts. A failover may give up what only the dead node has: the plan says so as its risk."""
        run = self._run()
        given_up = run is not None and run.intent["verb"] in ("failover", "recover")
        for disk, tips in list(self.world.guests.tips.items()):
            if disk[0] == name and name not in self.bereaved:
                path = dict(enumerate(machine.libvirt.domains[name].facts.disks)).get(disk[1], ("", ""))[1]
                seen = machine.content(path) if path else None
                if path and given_up:
                    self.world.guests.give_up(disk, seen)
                whole = path == "" or given_up or (seen is not None and all(seen.holds(tip) for tip in tips))
                self.look(LAST, whole, f"{name} starts on {machine.name} with {seen!r}, without {tips}")
        if run is None:
            if machine.alone.works(self.world.engine.current):
                self._is_its_own(machine, name)
            return
        self._has_its_os(machine, name, run)
        resource = machine.kernel.resources.get(name)
        shaken = resource is not None and resource.connected
        holders = [one.name for one in self._machines() if one is not machine and name in one.libvirt.domains]
        sure = shaken or set(holders) <= run.known or self._confirmed(run, machine, name)
        self.look(ONCE, sure, f"{name} starts on {machine.name}, of {holders} nothing is known")

    def reboots(self, machine: Machine) -> None:
        """A node is rebooted by a run: that ends no guest."""
        ended = sorted(name for name, guest in machine.libvirt.domains.items() if guest.active)
        self.look(BEFORE, not ended, f"{machine.name} is rebooted, which ends {', '.join(ended)}")

    def _is_its_own(self, machine: Machine, name: str) -> None:
        """What a node starts by itself is on no other, and the newest definition anywhere says that it lives there."""
        known = [found for one in self._machines() if (found := _definitions.read_all(one.files).get(name))]
        home = max(known, key=lambda one: int(one["generation"]))["nodes"][0]
        self.look(ONCE, home == machine.name, f"{name}, which lives on {home}, is started by {machine.name} itself")
        active = [one.name for one in self._machines() if (guest := one.libvirt.domains.get(name)) and guest.active]
        self.look(ONCE, active == [machine.name], f"{machine.name} by itself starts {name}, which is on {active}")

    def _has_its_os(self, machine: Machine, name: str, run: Run) -> None:
        """A guest that was to get an OS starts with it, and with all of it."""
        guest, wanted = machine.libvirt.domains[name], run.desired.instances.get(name)
        if wanted is None or wanted.os is None or not guest.facts.disks or name in self.late:
            return
        first = seen = machine.content(guest.facts.disks[0][1])
        while first is not None and first.parent is not None:
            first = first.parent
        self.look(KILL, first is not None and first.label == "os", f"{name} starts on {machine.name} with {seen!r}")

    def moves(self, target: Machine, name: str) -> None:
        """A guest goes on at the other node."""
        guest = target.libvirt.domains[name]
        for disk, tips in self.world.guests.tips.items():
            if disk[0] == name and disk[1] < len(guest.facts.disks):
                seen = target.content(guest.facts.disks[disk[1]][1])
                # What cannot be read at this moment gives errors, and loses nothing.
                whole = seen is None or all(seen.holds(tip) for tip in tips)
                self.look(LAST, whole, f"{name} goes on at {target.name} with {seen!r}, without {tips}")

    def disk_lost(self, machine: Machine, name: str) -> None:
        """A disk dies with all that is on it: with the last copy of something, nothing can be demanded any more.

        A disk without a second copy that has just moved is the only one: what is left where it came from is cleared up.
        """
        self.lost.add(name)
        guest, document = machine.libvirt.domains.get(name), _definitions.read_all(machine.files).get(name)
        if guest is not None and guest.active and (document or {}).get("disk_template") == "plain":
            self.bereaved.add(name)
        here = {id(lv) for lv in machine.storage.volumes.values() if lv.tagged("instance") == name}
        guests = self.world.guests
        for disk in sorted({*guests.tips, *guests.given_up}):
            tips = (*guests.tips.get(disk, ()), *guests.given_up.get(disk, ())) if disk[0] == name else ()
            left = [one for one in self._copies(*disk) if id(one[0]) not in here]
            if not all(any(self._good(*one, tip) for one in left) for tip in tips):
                self.bereaved.add(name)

    def volume_goes(self, machine: Machine, lv: Lv) -> None:
        """A volume is about to be removed."""
        run, name = self._run(), lv.tagged("instance")
        if run is None:
            return
        self.look(MISSING, name is not None, f"{lv.path} on {machine.name} is removed, which is not ours")
        wanted = run.desired.instances.get(name or "")
        self.look(MISSING, wanted is not None, f"{lv.path} of {name}, not in the inventory, is removed")
        if wanted is not None and wanted.state == "absent":
            self.world.guests.forget(wanted.name)
        if lv.tagged("kept") is not None:
            word = run.intent["verb"] == "drop_kept" and run.intent.get("confirm") == name
            gone = wanted is not None and wanted.state == "absent"
            self.look(LAST, word or gone, f"{lv.path}, which is kept, is removed without a word")
            self.world.guests.dropped((str(name), int(lv.tagged("disk") or 0)), lv.content)

    def gives_up(self, resource: Resource) -> None:
        """A side takes over the peer's data, whatever it wrote itself."""
        run = self._run()
        if run is None:
            return
        machine, name = resource.machine, resource.name
        survivor = run.intent.get("survivor") if run.intent["verb"] == "resolve_split_brain" else None
        fine = survivor not in (None, machine.name) or not self._served(resource)
        self.look(LAST, fine, f"{machine.name} gives up its data of {name}, and nobody said so")
        for volume in resource.devices if survivor in self.world.machines else ():
            source = self.world.machines[str(survivor)].storage.volumes.get(f"/dev/twofold/{name}-disk{volume}")
            self.world.guests.give_up((name, volume), source.content if source is not None else None)

    @staticmethod
    def _served(resource: Resource) -> bool:
        """Whether a guest can have written here."""
        return any(one.block is not None and one.block.consistent for one in resource.devices.values())

    def installs_anew(self, lv: Lv) -> None:
        """A disk that is there is to get its OS anew."""
        run, name = self._run(), str(lv.tagged("instance"))
        if run is None:
            return
        word = run.intent["verb"] == "reinstall" and run.intent.get("confirm") == name
        self.look(LAST, word, f"the OS of {name} is to be written over {lv.path}, and nobody said so")
        self.world.guests.overwritten((name, int(lv.tagged("disk") or 0)))

    def os_is_written(self, lv: Lv) -> None:
        """An OS is written to a disk: what it held was given up with the word to reinstall it."""
        name = str(lv.tagged("instance"))
        if name in self.worded:
            self.worded.discard(name)
            self.world.guests.overwritten((name, int(lv.tagged("disk") or 0)))

    def changed_in_check_mode(self, machine: Machine, what: str) -> None:
        """Something is done where nothing may be."""
        self.look(SECOND, False, f"check mode does {what} on {machine.name}")

    # What is said

    def plan(self, run: Run) -> None:
        """A plan was made."""
        plan = run.plan
        assert plan is not None
        for step in plan.steps:
            known = step.instance is None or step.instance in run.desired.instances
            self.look(MISSING, known, f"{step.id} is for an instance that the inventory does not have")
            if step.op == "replication.dual_primary" and step.args.get("allow"):
                self.migrating.add(str(step.instance))
        if plan.steps:
            self.called_off |= set(names(run.intent.get("accept_stale")))
        if plan.steps and run.intent["verb"] == "reinstall" and run.intent.get("confirm") == run.intent["instance"]:
            self.worded.add(str(run.intent["instance"]))
        for finding in plan.findings:
            said = finding.object and finding.message and (finding.remedy or finding.severity == "info")
            self.look(BEFORE, said, f"the finding {finding} does not say everything")
        named = {run.intent.get(key) for key in ("instance",)} - {None}
        refused = {finding.object for finding in plan.errors} & {f"instance {name}" for name in named}
        steps = [step.id for step in plan.steps if step.instance in named]
        self.look(BEFORE, not (refused and steps), f"{refused} cannot be done, but {steps} are tried")
        self.no_secret(json.dumps(plan.to_json()), "the plan")

    def answer(self, run: Run, node: str, answer: dict[str, Any]) -> None:
        """A node answered."""
        self.no_secret(json.dumps(answer), f"the answer of {node}")
        for result in answer["results"]:
            if result["status"] in ("failed", "skipped"):
                # Who was not tried because another failed has nothing to add to what that one says.
                said = result["message"] and (result["remedy"] or result["message"].startswith("it needs "))
                self.look(BEFORE, said, f"{result['id']} was not done on {node} and does not say why, or what to do")
            ours = result.get("remedy") == _apply.MISTAKE
            self.look(BEFORE, not ours, f"{result['id']} on {node}: {result['message']}")

    def predicted(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        """What check mode said of a call, and what then happened."""
        split = any(self.world.drbd.split(name) for name in NAMES)
        for node, answer in after.items():
            said = {one["id"]: one for one in (before.get(node) or {"results": []})["results"]}
            for one in answer["results"] if answer else ():
                status, guessed = said[one["id"]]["status"], "depends on" in said[one["id"]]["message"]
                # What waits may find that there is nothing to wait for any more.
                guessed = guessed or "/replication.wait@" in one["id"]
                # A connection that is refused forgets by itself that two primaries were allowed.
                guessed = guessed or (split and "/replication.settle@" in one["id"])
                same = status == one["status"] or (guessed and one["status"] == "unchanged")
                text = f"check mode says {status} of {one['id']}, it is {one['status']}: {one['message']}"
                same = same or ((split or self.is_being_filled(one)) and one["status"] in ("failed", "skipped"))
                self.look(BEFORE if one["status"] in ("failed", "skipped") else SECOND, same, text)

    def is_being_filled(self, result: dict[str, Any]) -> bool:
        """Whether a step has to wait because a disk that had failed is just being filled, which a later run finds."""
        message, skipped = result["message"], result["status"] == "skipped"
        # A step of the node itself, which waits for one of the instance.
        needed = message.removeprefix("it needs ") if skipped else result["id"]
        hurt = any(text.partition("/")[0] in self.hurt for text in (result["id"], needed))
        return hurt and (skipped or "Need access to UpToDate" in message)

    def no_secret(self, text: str, where: str) -> None:
        """No secret stands in a text."""
        found = next((one for one in self.secrets if one in text), None)
        self.look(SECRET, found is None, f"{where} holds a secret")

    def files(self) -> None:
        """No file that others can read, and no journal, holds a secret."""
        for machine in self.world.machines.values():
            for path, (text, mode) in machine.files.kept.items():
                if mode & 0o077 or "/journal/" in path:
                    self.no_secret(text, f"{path} on {machine.name}")
