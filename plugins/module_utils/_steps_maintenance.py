# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps around the reboot of a node: it is noted, looked at a last time, and given back."""

from __future__ import annotations

from . import _maintenance
from ._drbd import ResourceState
from ._errors import Refused
from ._files import write_json
from ._node import Node
from ._steps import Args, Done, changed, step, unchanged


@step("maintenance.begin")
def begin(node: Node, args: Args) -> Done:
    """Writes the note; `node` is this one's name in the inventory."""
    name = args.text("node")
    if _maintenance.in_force(node) is not None:
        return unchanged("it is noted that the node is about to be rebooted")
    if not node.check_mode:
        boot = node.host.facts()["boot_id"]
        note = {"format": 1, "node": name, "boot": boot, "holder": _holder(node), "time": node.clock.time()}
        write_json(node.files, _maintenance.NOTE, note)
    return changed("noted that the node is about to be rebooted")


def _holder(node: Node) -> str:
    lease = node.lock.holder()
    return str(lease["holder"]) if lease is not None else "unknown"


@step("maintenance.ready")
def ready(node: Node, args: Args) -> Done:
    """Refuses unless nothing runs here, no peer lives by a copy here, and nothing can have come since the clearing."""
    again = "run the playbook again"
    if _maintenance.in_force(node) is None:
        raise Refused("since it was cleared for its reboot, this node was rebooted or given back", again)
    running = sorted(name for name, one in node.hypervisor.domains().items() if one.active)
    if running:
        raise Refused(f"{', '.join(running)} runs on this node, and a reboot would end it", again)
    ours = set(node.replication.names())
    needed = sorted(name for name, state in node.replication.states().items() if name in ours and _feeds_peer(state))
    if needed:
        message = f"the other copy of {', '.join(needed)} is not up to date, and lives by the one on this node"
        raise Refused(message, "run site.yml, wait until both copies are UpToDate, then run the playbook again")
    return unchanged("nothing runs here")


def _feeds_peer(state: ResourceState) -> bool:
    """Whether the peer is connected and lacks an up-to-date copy of its own."""
    return state.connected and any(one.peer_disk != "UpToDate" for one in state.volumes)


@step("maintenance.end")
def end(node: Node, args: Args) -> Done:
    """Removes the note, also one that cannot be read."""
    if node.files.read(_maintenance.NOTE) is None:
        return unchanged("there is no note")
    if not node.check_mode:
        node.files.remove(_maintenance.NOTE)
    return changed("the node takes guests again")
