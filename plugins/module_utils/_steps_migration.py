# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A domain migrates: what is looked at before, while and after it, and what becomes of an interrupted one."""

from __future__ import annotations

import os
from typing import Any

from . import _domain_xml
from ._drbd import ResourceState
from ._errors import HypervisorError, Refused, TwofoldError
from ._libvirt import END_TORN, OFF, POSTCOPY_FAILED, TORN, Domain
from ._migration import Look, Migration, Outcome
from ._names import instance_name
from ._node import Node
from ._steps import Args, Done, changed, step, unchanged
from ._steps_domain import at_rest, require_in_charge

# How often the memory was gone through before a migration that does not converge switches to post-copy.
POSTCOPY_ITERATIONS = 2
# Seconds between two looks at the disks of a guest that moves.
LOOK_AT_DISKS = 1.0
AGAIN = "run the same again: it plans on what is there then"


@step("domain.migrate")
def migrate(node: Node, args: Args) -> Done:
    """Moves the running domain from this node to another while it runs."""
    wanted = migration_of(args)
    name = wanted.name
    here = node.hypervisor.domain(name)
    if here is None or not here.active:
        return _moved_already(node, wanted, here)
    if here.state != "running":
        raise Refused(f"domain {name} is {here.state} on this node", "bring it to run before it is migrated")
    if here.migrating:
        raise Refused(f"domain {name} is being migrated already", "wait until that is over")
    xml = node.hypervisor.live_xml(name)
    _require_target_disks(node, xml, wanted)
    if node.check_mode:
        return changed(f"would migrate domain {name} to {wanted.uri}")

    outcome = node.hypervisor.migrate(wanted, watch(node, xml, wanted))
    moved, numbers = node.clock.monotonic(), dict(outcome.stats)
    node.progress.clear(name)
    if outcome.error is not None:
        raise _failed(node, xml, wanted, outcome)
    if wanted.waits:
        _let_go_on(node, xml, wanted, outcome.unsafe)
        numbers["waited_ms"] = int((node.clock.monotonic() - moved) * 1000)
    elif outcome.unsafe is not None:
        message = f"{name} runs on the target; {outcome.unsafe} while it moved: what it wrote then may be here alone"
        raise TwofoldError(message, "stop it before it writes more, and see what verify says of its copies")
    _drop_leftover(node, name)
    return changed(f"migrated domain {name} in {numbers.get('milliseconds', 0) / 1000:.1f} s", **numbers)


def _let_go_on(node: Node, xml: str, wanted: Migration, unsafe: str | None) -> None:
    """The guest waits on the target, and is nowhere else any more: it goes on if the target's disks have all it wrote.

    Else it is ended, and starts anew from the disks that do.
    """
    name = wanted.name
    unsafe = unsafe or parted(node, xml, wanted)
    if unsafe is None:
        try:
            node.hypervisor.go_on_at(wanted.uri, name)
        except HypervisorError as error:
            message = f"{name} moved and waits, paused, on the target ({error.message})"
            raise TwofoldError(message, f"run site.yml, or 'virsh resume {name}' there: it goes on") from error
        return
    message = f"{name} did not go on at the target: {unsafe} as it moved, and what it wrote then may be here alone"
    try:
        node.hypervisor.discard_at(wanted.uri, name)
    except HypervisorError as error:
        remedy = f"'virsh destroy {name}' on the target, where it is paused; then run site.yml, which starts it here"
        raise TwofoldError(f"{message}; it could not be ended there ({error.message})", remedy) from error
    raise TwofoldError(message, "run site.yml: it connects the copies and starts it anew")


def watch(node: Node, xml: str, wanted: Migration) -> Look:
    """Tells the progress, and lets go on only as long as both nodes have the same data.

    When replication breaks while both are Primary, the guest's writes stay on this side, and it would wake up on the
    other one without them.
    """
    due = node.clock.monotonic() + LOOK_AT_DISKS

    def look(stats: dict[str, Any]) -> str | None:
        nonlocal due
        total, left = stats.get("bytes_total", 0), stats.get("bytes_remaining", 0)
        node.progress.say(wanted.name, "migrating", 1 - left / total if total else None, to=wanted.uri, **stats)
        if node.clock.monotonic() < due:
            return None
        due = node.clock.monotonic() + LOOK_AT_DISKS
        return parted(node, xml, wanted)

    return look


def parted(node: Node, xml: str, wanted: Migration) -> str | None:
    """Why the target's disks may lack what the guest wrote here; None if they do not, or it cannot be told.

    The guest moves, or stands still: DRBD's programs are asked only if a look at a file does not do.
    """
    try:
        if not _replicated(xml, wanted) <= node.replication.equal():
            _require_target_disks(node, xml, wanted)
    except Refused as found:
        return f"its copies parted ({found.message})"
    except TwofoldError:
        return None
    return None


def migration_of(args: Args) -> Migration:
    """The step's arguments as a migration."""
    copy = args.values.get("copy_disks") or ()
    postcopy = args.values.get("postcopy") or {}
    if postcopy is True:
        postcopy = {"iterations": POSTCOPY_ITERATIONS}
    return Migration(
        name=instance_name(args.text("name")),
        uri=args.text("uri"),
        migrate_uri=args.optional_text("migrate_uri"),
        xml=args.optional_text("xml"),
        bandwidth=args.optional_integer("bandwidth"),
        downtime=args.optional_integer("downtime"),
        auto_converge=args.flag("auto_converge"),
        postcopy_seconds=postcopy.get("seconds"),
        postcopy_iterations=postcopy.get("iterations"),
        parallel=args.optional_integer("parallel"),
        tls=args.flag("tls", True),
        tls_hostname=args.optional_text("tls_hostname"),
        timeout=args.number("timeout", 0) or None,
        copy_disks=("*",) if copy is True else tuple(str(one) for one in copy),
        persist=args.flag("persist", True),
    )


def _moved_already(node: Node, wanted: Migration, here: Domain | None) -> Done:
    """It does not run here: either it runs on the target, or there is nothing to migrate."""
    there = node.hypervisor.elsewhere(wanted.uri, wanted.name)
    if there == "paused" and here is None:
        # It has gone from here, so its other half was complete, and somebody was interrupted before this word.
        _require_equal_copies(node, wanted)
        if not node.check_mode:
            node.hypervisor.go_on_at(wanted.uri, wanted.name)
        return changed(f"domain {wanted.name} goes on at the target")
    if there in ("running", "blocked"):
        if here is not None and wanted.persist and not node.check_mode:
            node.hypervisor.undefine(wanted.name)
            return changed(f"domain {wanted.name} runs on the target; its definition here was left over")
        return unchanged(f"domain {wanted.name} runs on the target")
    state = "is not defined" if here is None else f"is {here.state}"
    message = f"domain {wanted.name} {state} on this node and {there or 'unknown'} on the target"
    raise Refused(message, "only a running domain is migrated; start it, or use the node where it runs")


def _require_equal_copies(node: Node, wanted: Migration) -> None:
    """The guest waits at the target since nobody knows when, so its disks may have parted since."""
    try:
        _require_target_disks(node, node.hypervisor.live_xml_at(wanted.uri, wanted.name), wanted)
    except Refused as found:
        message = f"{wanted.name} moved and waits, paused, on the target: {found.message}"
        raise Refused(message, "run site.yml: it connects the copies, and the guest goes on or starts anew") from found


def _drop_leftover(node: Node, name: str) -> None:
    """libvirt undefines the source itself; this is for one that it could not."""
    left = node.hypervisor.domain(name)
    if left is not None and not left.active and left.persistent:
        node.hypervisor.undefine(name)


def _require_target_disks(node: Node, xml: str, wanted: Migration) -> None:
    """Every replicated disk is up to date at the target and open for it; nothing else holds data there.

    It need not be here: what a guest without its disk writes is at the target alone.
    """
    minors = _replicated(xml, wanted)
    for resource in node.replication.states().values():
        for one in resource.volumes:
            if one.minor in minors:
                _require_target_disk(resource, one.volume, one.disk, one.peer_disk)


def _replicated(xml: str, wanted: Migration) -> set[int]:
    """The DRBD minors that the guest writes to and that are not copied with it."""
    found = {
        _minor(source)
        for target, source, writable in _domain_xml.disk_sources(xml)
        if writable and target not in wanted.copy_disks and "*" not in wanted.copy_disks
    }
    return {minor for minor in found if minor is not None}


def _minor(device: str) -> int | None:
    """The DRBD minor of a device's path."""
    name = os.path.basename(os.path.realpath(device))
    return int(name[4:]) if name.startswith("drbd") and name[4:].isdigit() else None


def _require_target_disk(resource: ResourceState, volume: int, disk: str | None, peer_disk: str) -> None:
    name = f"{resource.name}/{volume}"
    if not resource.connected or peer_disk != "UpToDate" or disk not in ("UpToDate", "Diskless"):
        message = f"{name} is {disk} here and {peer_disk} at the peer, connection {resource.connection}"
        raise Refused(message, "wait until both copies are up to date")
    if resource.peer_role != "Primary":
        message = f"{name} is {resource.peer_role} at the peer"
        raise Refused(message, "allow two primaries and promote it on the target first")


def _failed(node: Node, xml: str, wanted: Migration, outcome: Outcome) -> TwofoldError:
    """Makes sure that one copy runs, and says what happened and where it runs now."""
    reason = outcome.error or "unknown"
    if outcome.timed_out:
        reason = f"it was aborted after {wanted.timeout:.0f} s" if wanted.timeout else "it was aborted"
    if outcome.unsafe is not None:
        reason = outcome.unsafe
    message = f"migration of {wanted.name} to {wanted.uri} failed: {reason}"
    try:
        here = node.hypervisor.domain(wanted.name)
    except HypervisorError as silent:
        return TwofoldError(f"{message}; where it runs is not known: {silent.message}", silent.remedy)
    if here is not None and here.state == POSTCOPY_FAILED:
        return TwofoldError(f"{message}; {TORN}", END_TORN.format(wanted.name))
    there = _look_there(node, wanted)
    if there == "paused" and wanted.waits:
        there = _end_of_half(node, xml, wanted, outcome, here)
    if here is not None and here.state == "running":
        if there in ("running", "blocked"):
            return _twice(node, message, wanted.name)
        doubts = {
            "unknown": ", and the target does not answer",
            "paused": ", and its half on the target has to be ended",
        }
        return TwofoldError(f"{message}; it goes on running here{doubts.get(str(there), '')}", _hint(outcome))
    # What waits there does not run as long as this one is here.
    alone = there in (None, *OFF) or (there == "unknown" and wanted.waits)
    if here is not None and here.state == "paused" and alone and not outcome.switched:
        return TwofoldError(f"{message}; it had been paused here and {_resumed(node, wanted.name)}", _hint(outcome))
    if there == "unknown":
        state = here.state if here else "gone"
        return TwofoldError(f"{message}; it is {state} here and the target does not answer", "look at both nodes")
    if there == "running":
        return TwofoldError(f"{message}; it runs on the target", "run again, so that what is left here is cleaned up")
    state = here.state if here else "gone"
    return TwofoldError(f"{message}; it is {state} here and {there or 'not'} on the target", "look at both nodes")


def _twice(node: Node, message: str, name: str) -> TwofoldError:
    """Pauses this one at once: libvirt let it go on, since it never heard that the target had started its own.

    See `p2p` migrations in libvirt's qemu_migration.c, which leave that moment to a lock manager.
    """
    try:
        node.hypervisor.suspend(name)
        stands = "it was paused here"
    except HypervisorError as error:
        stands = f"it could not be paused here ({error.message})"
    remedy = f"stop it on one of both at once, with 'virsh destroy {name}'; then check the guest's file systems"
    return TwofoldError(f"{message}; it ran on the target and here, {stands}", remedy)


def _end_of_half(node: Node, xml: str, wanted: Migration, outcome: Outcome, here: Domain | None) -> str | None:
    """What waits at the target never ran: it is ended as long as this one is here, else it goes on. Its state then."""
    if here is None:
        _let_go_on(node, xml, wanted, outcome.unsafe)
        return "running"
    if not here.active:
        return "paused"
    try:
        node.hypervisor.discard_at(wanted.uri, wanted.name)
    except HypervisorError:
        return _look_there(node, wanted)
    return None


def _resumed(node: Node, name: str) -> str:
    """Resumes the guest; what stands in the way must not hide why the migration failed."""
    try:
        node.hypervisor.resume(name)
    except HypervisorError as error:
        found = node.hypervisor.domain(name)
        if found is None or found.state != "running":
            return f"could not be resumed ({error.message})"
        # libvirt was quicker.
    return "was resumed"


def _look_there(node: Node, wanted: Migration) -> str | None:
    try:
        return node.hypervisor.elsewhere(wanted.uri, wanted.name)
    except TwofoldError:
        return "unknown"


def _hint(outcome: Outcome) -> str:
    if outcome.timed_out:
        return "give it more time or bandwidth, or allow auto-converge or post-copy"
    return "look at the logs of libvirt on both nodes, then run again"


@step("domain.present")
def present(node: Node, args: Args) -> Done:
    """Looks whether a domain still has its definition here, as when that was planned: its migration may have ended."""
    name = instance_name(args.text("name"))
    if node.hypervisor.domain(name) is None:
        raise Refused(f"domain {name} is not on this node any more, so it has moved", AGAIN)
    return unchanged(f"domain {name} is here")


@step("domain.resume")
def resume(node: Node, args: Args) -> Done:
    """Lets a guest go on that waits here since its migration was interrupted, if its disks are in order."""
    name, resource = instance_name(args.text("name")), args.optional_text("resource")
    found = at_rest(node, name)
    if found is None:
        raise Refused(f"domain {name} is not defined on this node", AGAIN)
    if found.state in ("running", "blocked"):
        return unchanged(f"domain {name} runs")
    if resource is not None:
        require_in_charge(node.replication.state(instance_name(resource)), resource, connected=True)
    if not node.check_mode:
        node.hypervisor.resume(name)
    return changed(f"domain {name} goes on")


@step("domain.discard")
def discard(node: Node, args: Args) -> Done:
    """Ends the half of a migration that waits here and cannot go on, with its definition."""
    name = instance_name(args.text("name"))
    found = at_rest(node, name)
    if found is None:
        return unchanged(f"domain {name} is not defined")
    if found.state not in ("paused", POSTCOPY_FAILED, *OFF):
        raise Refused(f"domain {name} is {found.state} on this node", AGAIN)
    if not node.check_mode:
        node.hypervisor.destroy(name)
        if node.hypervisor.domain(name) is not None:
            node.hypervisor.undefine(name)
    return changed(f"ended what waited here of {name}")
