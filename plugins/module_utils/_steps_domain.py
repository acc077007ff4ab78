# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps on domains: define, start, stop."""

from __future__ import annotations

from . import _domain_xml, _maintenance
from ._clock import wait_for
from ._drbd import ResourceState
from ._errors import HypervisorError, Refused, TimedOut, UsageError
from ._libvirt import OFF, Domain
from ._lvm import Volume
from ._names import instance_name
from ._node import Node
from ._steps import Args, Done, changed, step, unchanged

CRASHED = "crashed"
STOP_TIMEOUT = 120.0
ASK_AGAIN = 10.0


@step("domain.define")
def define(node: Node, args: Args) -> Done:
    """The domain is persistent, as wanted, and not started by libvirt itself."""
    name, xml = instance_name(args.text("name")), args.text("xml")
    if _domain_xml.name_of(xml) != name:
        raise UsageError(f"the XML is of domain {_domain_xml.name_of(xml)}, not of {name}", "make a new plan")
    found = node.hypervisor.domain(name)
    differences = ["not defined"]
    if found is not None and found.persistent:
        differences = _domain_xml.differences(xml, found.xml)
    # An explicit null leaves it as it is; a domain that was just defined has none.
    wanted, autostart = args.values.get("autostart", False), found is not None and found.autostart
    switch = wanted is not None and bool(wanted) != autostart
    if not differences and not switch:
        return unchanged(f"domain {name} is defined")
    if not node.check_mode:
        if differences:
            node.hypervisor.define(xml)
        if switch:
            node.hypervisor.set_autostart(name, bool(wanted))
    return changed(f"defined domain {name}", differences=differences)


@step("domain.undefine")
def undefine(node: Node, args: Args) -> Done:
    """Removes the definition of a domain that does not run."""
    name = instance_name(args.text("name"))
    found = node.hypervisor.domain(name)
    if found is None:
        return unchanged(f"domain {name} is not defined")
    if found.active:
        raise Refused(f"domain {name} is {found.state} on this node", "stop it first")
    if not node.check_mode:
        node.hypervisor.undefine(name)
    return changed(f"undefined domain {name}")


@step("domain.start")
def start(node: Node, args: Args) -> Done:
    """Starts a domain whose disks are finished, here, up to date and nobody else's; after `delay` seconds, if given.

    With `connected` only as long as they are connected to the peer's, as they were when that was planned.
    """
    name, resource = instance_name(args.text("name")), args.optional_text("resource")
    found = node.hypervisor.domain(name)
    if found is not None and found.state == "running":
        return unchanged(f"domain {name} runs")
    _maintenance.require_none(node, f"domain {name} is not started")
    if found is None and not node.check_mode:
        raise Refused(f"domain {name} is not defined on this node", "define it first")
    if found is not None and found.active:
        remedy = "look at it with 'virsh domstate --reason'; a migration may be at work"
        if found.state == CRASHED:
            remedy = "save what you need with 'virsh dump', then stop it with force or 'virsh destroy'"
        raise Refused(f"domain {name} is {found.state} on this node", remedy)
    if not node.check_mode:
        # What is looked at next has to be so when it starts.
        _pause(node, name, args.number("delay", 0))
    for one in args.parts("volumes"):
        _require_finished(node, name, one)
    if resource is not None:
        require_in_charge(node.replication.state(instance_name(resource)), resource, connected=args.flag("connected"))
    if not node.check_mode:
        node.hypervisor.start(name)
    return changed(f"started domain {name}")


def _pause(node: Node, name: str, seconds: float) -> None:
    """Guests that all boot at once would all boot slowly."""
    if seconds > 0:
        node.progress.say(name, f"waits {seconds:.0f} s, other guests are booting", None)
        node.clock.sleep(seconds)
        node.progress.clear(name)


def _require_finished(node: Node, name: str, one: Args) -> None:
    volume: Volume | None = node.volumes.find(one.text("volume_group"), one.text("name"))
    if volume is None:
        raise Refused(f"{name}: there is no volume {one.text('volume_group')}/{one.text('name')}", "create it first")
    if volume.pending():
        owed = ", ".join(volume.pending())
        raise Refused(f"{name}: {volume.path} is not finished, it still waits for {owed}", "apply the plan again")


def require_in_charge(state: ResourceState | None, resource: str, *, connected: bool = False) -> None:
    """This side is Primary and alone so, and its disks are up to date; if asked for, it sees the other side."""
    remedy = "promote it on this node first; 'drbdadm status' shows it"
    if state is None:
        raise Refused(f"resource {resource} is down on this node", "configure it first")
    if state.role != "Primary":
        raise Refused(f"resource {resource} is {state.role} on this node", remedy)
    if state.peer_role == "Primary":
        raise Refused(f"resource {resource} is Primary at the peer too", "find out where the instance runs")
    if connected and not state.connected:
        message = f"resource {resource} has lost its peer since this was planned, so its guest may run there by now"
        raise Refused(message, "run the same again: it plans on what is there then")
    for one in state.volumes:
        if one.disk != "UpToDate":
            raise Refused(f"resource {resource}/{one.volume} is {one.disk} on this node", remedy)


@step("domain.stop")
def stop(node: Node, args: Args) -> Done:
    """Asks the guest to shut down; when it does not in time, takes its power away if that is wanted."""
    name, force = instance_name(args.text("name")), args.flag("force")
    found = at_rest(node, name)
    if found is None or not found.active:
        return unchanged(f"domain {name} does not run")
    crashed = found.state == CRASHED
    if crashed and not force:
        message = f"domain {name} has crashed, and its QEMU is kept for a look at it"
        raise Refused(message, "save what you need with 'virsh dump', then allow taking its power away")
    if node.check_mode:
        return changed(f"would stop domain {name}")
    timeout = args.number("timeout", STOP_TIMEOUT)
    if timeout > 0 and not crashed and _shut_down(node, name, timeout):
        return changed(f"domain {name} shut down")
    if not force:
        message = f"domain {name} did not shut down within {timeout:.0f} s"
        raise TimedOut(message, "shut it down from inside, wait longer, or allow taking its power away")
    node.hypervisor.destroy(name)
    return changed(f"took the power of domain {name} away")


def at_rest(node: Node, name: str) -> Domain | None:
    """The domain, if there is one; refuses one that is just being migrated."""
    found = node.hypervisor.domain(name)
    if found is not None and found.migrating:
        raise Refused(f"domain {name} is being migrated", "wait until that is over")
    return found


def _shut_down(node: Node, name: str, timeout: float) -> bool:
    """Whether the guest went; a guest that is still booting may miss the first request, so it is asked again."""
    asked = [node.clock.monotonic() - ASK_AGAIN]

    def look() -> bool:
        found = node.hypervisor.domain(name)
        if found is None or found.state in OFF:
            return True
        if found.state != CRASHED and node.clock.monotonic() - asked[0] >= ASK_AGAIN:
            asked[0] = node.clock.monotonic()
            _ask(node, name)
        return False

    try:
        return wait_for(node.clock, look, bool, timeout, lambda _seen: TimedOut(f"domain {name} did not shut down"))
    except TimedOut:
        return False


def _ask(node: Node, name: str) -> None:
    try:
        node.hypervisor.shutdown(name)
    except HypervisorError:
        found = node.hypervisor.domain(name)
        if found is not None and found.active:
            raise
