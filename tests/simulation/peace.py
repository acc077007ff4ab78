# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds when nobody disturbs: nothing fails or is left over, all is as wanted, or it is said why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.twofold.cluster.plugins.module_utils import _definitions, _journal, _observe, _progress

from twofold import planner
from twofold.model import Desired
from twofold.planner import Plan

from . import inventories
from .inventories import Instances
from .rules import BEFORE, DUAL, KILL, LAST, MISSING, SECOND

if TYPE_CHECKING:
    from .machine import Machine
    from .operator import Run
    from .storage import Lv
    from .world import World

# What no run can change, and what is said of inventories that ask for what an existing instance does not get.
SAID = frozenset(
    {"no-node-fits", "no-memory", "restart-pending", "disk-size-differs", "disks-differ", "disk-template-differs",
     "os-differs", "placement-differs", "not-in-inventory", "no-room", "no-space", "os-owed", "volume-size",
     "duplicate-address"}
)  # fmt: skip

# Somebody removed the definition by hand.
ORPHANED = frozenset({"foreign-domain", "orphan"})


def calm(world: World) -> bool:
    """Whether every node is up and reached, and nobody is at work."""
    up = all(one.awake and world.manageable(name) for name, one in world.machines.items()) and not world.cut
    up = up and not any(one.booting for one in world.machines.values())
    up = up and not any(lv.failing for one in world.machines.values() for lv in one.storage.volumes.values())
    return up and not any(run.task is not None and not run.task.over for run in world.runs) and not world.engine.tasks


def plan(world: World, wanted: Instances) -> Plan | None:
    """What converge would do now, without any time passing; None if not every node answers."""
    if not calm(world):
        return None
    desired = inventories.desired(wanted, len(world.machines))
    documents: dict[str, dict[str, Any] | None] = {
        name: _observe.observe(one.node(None), name) for name, one in world.machines.items()
    }
    return planner.plan(desired, documents, {"verb": "converge"})


def found(world: World, kind: str, name: str, before: Plan, after: Plan | None) -> None:
    """A change by hand is found."""
    assert after is not None
    told = bool(after.steps) or after.findings != before.findings
    world.rules.look(SECOND, told, f"{kind} of {name} by hand is not found")


def at_work(plan: Plan) -> bool:
    """Whether a node was just doing something by itself, as is said: the end is when that is over."""
    return any(finding.code == "step-running" for finding in plan.findings)


def nothing_failed(world: World, run: Run) -> None:
    """Without disturbance no step fails: what cannot be done is said by the plan."""
    # Before its connection was tried, nobody could know of a split brain.
    split = any(world.drbd.split(name) for name in run.desired.instances)
    for result in run.results.values():
        good = result["status"] in ("changed", "unchanged") or split or world.rules.is_being_filled(result)
        world.rules.look(BEFORE, good, f"{result['id']} is {result['status']} in peace: {result['message']}")
    world.rules.look(BEFORE, not run.failed, f"calls to {sorted(run.failed)} ended with an error in peace")


def reached(world: World, run: Run) -> None:
    """Nothing is left over, and everything is as wanted."""
    assert run.plan is not None
    excused = {finding.object.removeprefix("instance ") for finding in run.plan.errors}
    unknown = {one.object.removeprefix("instance ") for one in run.plan.findings if one.code == "not-in-inventory"}
    for finding in run.plan.findings:
        name = finding.object.removeprefix("instance ")
        fine = finding.code in SAID or _justified(world, finding.code, name)
        # Whom the inventory does not know nobody starts, and not whom a plan has to refuse.
        fine = fine or (finding.code == "left-off" and name in unknown | excused)
        world.rules.look(KILL, fine, f"in the end it is said: {finding.object}: {finding.code}: {finding.message}")
    orphans = excused | unknown
    named = [finding.message for finding in run.plan.findings if finding.code == "left-over"]
    for machine in world.machines.values():
        _clean(world, machine, orphans, named)
    for name in sorted(run.desired.instances):
        if name not in excused:
            _as_wanted(world, run.desired, name, named)
    world.rules.files()
    world.rules.settled()


def decisions(world: World, plan: Plan) -> list[dict[str, Any]]:
    """What a person decides who reads what is said, and does it with the command that is named there."""
    found: list[dict[str, Any]] = []
    for finding in plan.findings:
        name = finding.object.removeprefix("instance ")
        if finding.code == "split-brain":
            active = [one.name for one in world.machines.values() if _active(one, name)]
            survivor = (active or [one.machine.name for one in world.drbd.sides(name)])[0]
            found.append({"verb": "resolve_split_brain", "instance": name, "survivor": survivor})
        elif finding.code in ("volume-missing", "disk-lost") and name in world.rules.lost | world.rules.called_off:
            found.append({"verb": "recreate_disks", "instance": name, "confirm": name})
        elif finding.code in ("node-rebooting", "reboot-unfinished") and finding.object.startswith("node "):
            found.append({"verb": "undrain", "node": finding.object.removeprefix("node ")})
        elif finding.code == "data-kept":
            found.append({"verb": "drop_kept", "instance": name, "confirm": name})
    return found


def _active(machine: Machine, name: str) -> bool:
    guest = machine.libvirt.domains.get(name)
    return guest is not None and guest.active


def _justified(world: World, code: str, name: str) -> bool:
    """Whether the nodes really are as a finding says, and only a person may decide."""
    if code in ("split-brain", "stand-alone"):
        return world.drbd.split(name)
    if code == "domain-elsewhere":
        # All power was lost in a move with its disks: which ones are the last, only a person can say. Or two runs at
        # the same time.
        return world.rules.contended or name in world.rules.strays or _was_moving(world, name)
    if code == "left-over":
        # A copy of a plain disk while the guest is off: which one is the last, only a person can say. Or one whose
        # marks somebody removed.
        volumes = [lv for one in world.machines.values() for lv in one.storage.volumes.values()]
        bare = any(_is_bare(lv) and _instance_in(lv) == name for lv in volumes)
        return bare or not any(_active(one, name) for one in world.machines.values())
    if code == "made-twice":
        # Somebody removed the definition beside what a move has left: whether it is that, only a person can say.
        return any(
            _instance_in(lv) == name and name not in _definitions.read_all(one.files)
            for one in world.machines.values()
            for lv in one.storage.volumes.values()
        )
    if code in ORPHANED:
        return not any(name in _definitions.read_all(one.files) for one in world.machines.values())
    if code in ("volume-missing", "left-off"):
        # Whatever could be done by a command that is named was done.
        undecided = code == "left-off" and world.drbd.split(name)
        return name in world.rules.lost or undecided or (code == "volume-missing" and name in world.rules.called_off)
    return False


def _was_moving(world: World, name: str) -> bool:
    """Whether a plain guest is off where it was and where it was being moved to, and no node can tell more."""
    machines = world.machines.values()
    known = [found for one in machines if (found := _definitions.read_all(one.files).get(name))]
    off = {one.name for one in machines if (guest := one.libvirt.domains.get(name)) and not guest.active}
    return any(
        found["disk_template"] == "plain" and off == {*found["nodes"], found.get("moving_to")} for found in known
    )


def _clean(world: World, machine: Machine, orphans: set[str], named: list[str]) -> None:
    """Nothing of nobody is on a node, but for what the plan names."""
    files, known = machine.files, set(_definitions.read_all(machine.files)) | orphans
    everywhere = {name for one in world.machines.values() for name in _definitions.read_all(one.files)} | orphans
    ours = [lv for lv in machine.storage.volumes.values() if "twofold" in lv.tags and not _is_said(machine, lv, named)]
    leaks = [f"volume {lv.path}" for lv in ours if not (everywhere & {lv.tagged("instance")} or _named(lv, orphans))]
    leaks += [f"resource {name}" for name in machine.kernel.resources if name not in known]
    leaks += [f"seed {name}" for name in machine.seeds.kept if name not in known]
    leaks += [f"domain {name}" for name in machine.libvirt.domains if name not in {*known, "legacy"}]
    leaks += [f"journal {name}" for name in files.names(_journal.FOLDER)]
    leaks += [f"progress {name}" for name in files.names(_progress.FOLDER)]
    lease = machine.node(None).lock.holder()
    if lease is not None:
        leaks.append(f"lock of {lease['holder']}")
    gone = {"swap", "backup-disk0"} - {lv.name for lv in machine.storage.volumes.values()}
    world.rules.look(MISSING, not gone and "legacy" in machine.libvirt.domains, f"{gone} of others is gone")
    world.rules.look(KILL, not leaks, f"left over on {machine.name}: {', '.join(leaks)}")
    minors = [one.minor for resource in machine.kernel.resources.values() for one in resource.devices.values()]
    world.rules.look(KILL, len(set(minors)) == len(minors), f"minors are taken twice on {machine.name}: {minors}")


def _is_said(machine: Machine, lv: Lv, named: list[str]) -> bool:
    """Whether a volume that lost tags of its owner by hand is named with its node, for a person to remove."""
    return _is_bare(lv) and any(f"{lv.path.removeprefix('/dev/')} on {machine.name} " in message for message in named)


def _is_bare(lv: Lv) -> bool:
    """Whether a volume has only some of the tags of its owner."""
    return bool(lv.tags) and not {"twofold", f"twofold.instance={_instance_in(lv)}"} <= lv.tags


def _instance_in(lv: Lv) -> str:
    """The instance that a volume's name speaks of."""
    return lv.name.rpartition("-disk")[0]


def _named(lv: Lv, orphans: set[str]) -> bool:
    """Whether a volume that lost its instance's tag by hand has the name of one that the plan speaks of."""
    return lv.tagged("instance") is None and _instance_in(lv) in orphans


def _as_wanted(world: World, desired: Desired, name: str, named: list[str]) -> None:
    """One instance is as the inventory says, on both nodes."""
    wanted = desired.instances[name]
    machines = world.machines.values()
    active = [one.name for one in machines if (guest := one.libvirt.domains.get(name)) and guest.active]
    count = 1 if wanted.state == "running" else 0
    world.rules.look(KILL, len(active) == count, f"{name} should be {wanted.state}; it is active on {active}")
    sides = world.drbd.sides(name)
    if wanted.state == "absent":
        left = [
            one.name for one in machines for lv in one.storage.volumes.values()
            if lv.tagged("instance") == name and not _is_said(one, lv, named)
        ]  # fmt: skip
        world.rules.look(KILL, not left and not sides, f"{name} is absent, but something is on {left}")
        return
    world.rules.look(DUAL, not any(one.allow for one in sides), f"two primaries are still allowed for {name}")
    disks = [device.disk for side in sides for device in side.devices.values()]
    good = all(disk == "UpToDate" for disk in disks) and all(side.connected for side in sides)
    world.rules.look(LAST, good, f"{name} is not whole: {[(s.machine.name, s.connection) for s in sides]} {disks}")
