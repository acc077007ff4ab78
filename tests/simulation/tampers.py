# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What somebody does by hand on a node, behind our back. Each answers whether there was anything to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

from ansible_collections.twofold.cluster.plugins.module_utils._definitions import FOLDER
from ansible_collections.twofold.cluster.plugins.module_utils._errors import CommandFailed

from .domain import completed
from .drbd import STAND_ALONE
from .libvirt import Guest
from .machine import Machine
from .replication import SimReplication
from .storage import Lv

Tamper = Callable[[Machine, str, Random], bool]


def _volumes(machine: Machine, name: str) -> list[Lv]:
    return [lv for lv in machine.storage.volumes.values() if lv.tagged("instance") == name]


def autostart(machine: Machine, name: str, _rng: Random) -> bool:
    """virsh autostart."""
    guest = machine.libvirt.domains.get(name)
    if guest is None or guest.autostart or not guest.persistent:
        return False
    guest.autostart = True
    return True


def undefine(machine: Machine, name: str, _rng: Random) -> bool:
    """virsh undefine."""
    guest = machine.libvirt.domains.get(name)
    if guest is None or guest.moving or not guest.persistent:
        return False
    machine.libvirt.undefine(name)
    return True


def destroy(machine: Machine, name: str, _rng: Random) -> bool:
    """virsh destroy."""
    guest = machine.libvirt.domains.get(name)
    if guest is None or not guest.active:
        return False
    machine.libvirt.stop(name)
    return True


def kill(machine: Machine, name: str, _rng: Random) -> bool:
    """kill -9 of a QEMU."""
    guest = machine.libvirt.domains.get(name)
    if guest is None or not guest.active:
        return False
    machine.libvirt.stop(name, "crashed")
    return True


def untag(machine: Machine, name: str, rng: Random) -> bool:
    """lvchange --deltag."""
    volumes = [lv for lv in _volumes(machine, name) if not any("pending" in tag for tag in lv.tags)]
    if not volumes:
        return False
    lv = rng.choice(volumes)
    lv.tags.discard(rng.choice(sorted(lv.tags - {"twofold.zeroed"})))
    return True


def lose_definition(machine: Machine, name: str, _rng: Random) -> bool:
    """rm of the definition."""
    return machine.files.remove(f"{FOLDER}/{name}.json")


def edit_definition(machine: Machine, name: str, _rng: Random) -> bool:
    """An editor on the definition."""
    text = machine.files.read(f"{FOLDER}/{name}.json")
    if text is None:
        return False
    document = json.loads(text)
    document["memory"] += 1 << 20
    machine.files.write(f"{FOLDER}/{name}.json", json.dumps(document))
    return True


def edit_resource(machine: Machine, name: str, _rng: Random) -> bool:
    """An editor on DRBD's file."""
    path = SimReplication.path(name)
    text = machine.files.read(path)
    if text is None or "ping-int 9" in text:
        return False
    machine.files.write(path, text.replace("ping-int ", "ping-int 9"))
    return True


def option(machine: Machine, name: str, _rng: Random) -> bool:
    """drbdsetup net-options."""
    resource = machine.kernel.resources.get(name)
    if resource is None or "ping-int" not in resource.options:
        return False
    resource.options["ping-int"] = "77"
    return True


def allow(machine: Machine, name: str, _rng: Random) -> bool:
    """drbdadm net-options --allow-two-primaries."""
    resource = machine.kernel.resources.get(name)
    if resource is None or resource.allow or resource.connection == STAND_ALONE:
        return False
    machine.kernel.allow_two_primaries(resource, True)
    return True


def disconnect(machine: Machine, name: str, _rng: Random) -> bool:
    """drbdadm disconnect; not while a guest moves between two primaries, which nothing could save."""
    resource = machine.kernel.resources.get(name)
    if resource is None or not resource.connected or (resource.primary and resource.peer_role == "Primary"):
        return False
    machine.kernel.disconnect(resource)
    return True


def down(machine: Machine, name: str, _rng: Random) -> bool:
    """drbdadm down."""
    resource = machine.kernel.resources.get(name)
    if resource is None or machine.opens(resource):
        return False
    machine.kernel.down(resource)
    return True


def lose_seed(machine: Machine, name: str, _rng: Random) -> bool:
    """rm of the seed."""
    return machine.seeds.remove(name)


def stale_domain(machine: Machine, name: str, _rng: Random) -> bool:
    """virsh define on the other node."""
    others = [one for one in machine.world.machines.values() if name in one.libvirt.domains]
    if not others or machine in others or name not in machine.kernel.resources:
        return False
    text = machine.files.read(f"{FOLDER}/{name}.json")
    if text is None:
        return False
    machine.libvirt.domains[name] = Guest(completed(json.loads(text)["domain_xml"]))
    machine.world.rules.strays.add(name)
    return True


def edit_domain(machine: Machine, name: str, _rng: Random) -> bool:
    """virsh edit."""
    guest = machine.libvirt.domains.get(name)
    if guest is None or "<on_crash>restart</on_crash>" not in guest.xml:
        return False
    guest.xml = guest.xml.replace("<on_crash>restart</on_crash>", "<on_crash>preserve</on_crash>")
    return True


TAMPERS: dict[str, Tamper] = {
    one.__name__: one
    for one in (
        autostart, undefine, destroy, kill, untag, lose_definition, edit_definition, edit_resource, option, allow,
        disconnect, down, lose_seed, stale_domain, edit_domain,
    )
}  # fmt: skip


def tamper(machine: Machine, kind: str, name: str, rng: Random) -> bool:
    """Do it, and say so in the history; what DRBD refuses is not done."""
    try:
        done = machine.on and TAMPERS[kind](machine, name, rng)
    except CommandFailed:
        done = False
    if done:
        machine.world.log(f"by hand on {machine.name}: {kind} of {name}")
        machine.world.changed(name)
    return done
