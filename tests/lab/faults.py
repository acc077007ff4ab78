# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What breaks while a flow runs, and how it comes back: the columns of the matrix of faults."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from .cluster import Cluster, kill_group
from .flows import Flow

FILLER = "twofold/filler"


@dataclass(frozen=True)
class Scene:
    """A flow that runs."""

    cluster: Cluster
    flow: Flow
    process: subprocess.Popen[bytes]

    def ended(self) -> bool:
        return self.process.poll() is not None


Deed = Callable[[Scene], None]


@dataclass(frozen=True)
class Fault:
    """What happens to a flow. It lasts until the flow has ended, `lasts` seconds at most.

    `prepare` is done before the flow begins; `strike` waits for its moment and hurts; `heal` takes the cause away, not
    its consequences. `nonsense` says of a flow why there is nothing to be seen.
    """

    name: str
    strike: Deed
    heal: Deed
    lasts: float = 45.0
    prepare: Callable[[Cluster, Flow], None] = lambda _cluster, _flow: None
    nonsense: Callable[[Flow], str] = lambda _flow: ""


def _power(scene: Scene, role: str, on: bool) -> None:
    node = getattr(scene.flow, role)
    if on:
        scene.cluster.lab.power_on(node)
    else:
        scene.flow.moment(scene.cluster)
        scene.cluster.lab.power_off(node)


def _power_cut(role: str) -> Fault:
    return Fault(f"{role}-power", partial(_power, role=role, on=False), partial(_power, role=role, on=True))


def _links(scene: Scene, networks: tuple[str, ...], up: bool) -> None:
    if not up:
        scene.flow.moment(scene.cluster)
    for network in networks:
        scene.cluster.lab.link(scene.flow.source, network, up)


def _links_cut(name: str, *networks: str) -> Fault:
    return Fault(name, partial(_links, networks=networks, up=False), partial(_links, networks=networks, up=True))


def _kill_control(scene: Scene) -> None:
    scene.flow.moment(scene.cluster)
    kill_group(scene.process)


def _freeze(scene: Scene) -> None:
    scene.flow.moment(scene.cluster)
    scene.cluster.lab.freeze(scene.flow.source)


def _thaw(scene: Scene) -> None:
    scene.cluster.lab.thaw(scene.flow.source)


def _volume(scene: Scene) -> str:
    return f"twofold/{scene.flow.instance}-disk0"


def _break_disk(scene: Scene) -> None:
    """Every read and write of the volume fails from now on."""
    scene.flow.moment(scene.cluster)
    path = f"lvs --noheadings -o lv_dm_path {_volume(scene)}"
    line = f"until {path} 2>/dev/null; do sleep 0.2; done; dmsetup wipe_table --noflush $({path})"
    scene.cluster.sh(scene.flow.source, line)


def _mend_disk(scene: Scene) -> None:
    """The volume reads and writes again, unless it has been removed meanwhile."""
    scene.cluster.lab.run(scene.flow.source, f"lvchange --refresh {_volume(scene)}", check=False)


def _close_door(cluster: Cluster, flow: Flow) -> None:
    """Nobody gets to work on the node: what is planned now finds another node when it is let in."""
    line = "systemd-run --quiet --unit=door flock --no-fork /run/twofold/lock sleep 600"
    cluster.sh(flow.target, line)


def _fill(scene: Scene) -> None:
    """Between plan and apply somebody else takes all the room."""
    log = scene.cluster.directory / "started.log"
    scene.cluster.lab.wait(lambda: b"Apply wave 1" in log.read_bytes() or scene.ended(), what="the plan is applied")
    line = f"lvcreate --quiet --yes -Wn -l 100%FREE -n {FILLER.split('/')[1]} twofold && systemctl stop door"
    scene.cluster.sh(scene.flow.target, line)


def _make_room(scene: Scene) -> None:
    scene.cluster.sh(scene.flow.target, f"lvremove --quiet --yes {FILLER}")


def _kill_libvirt(scene: Scene) -> None:
    scene.flow.moment(scene.cluster)
    scene.cluster.sh(scene.flow.source, "systemctl kill --signal=KILL libvirtd.service")


def _no_heal(_scene: Scene) -> None:
    """It comes back by itself, or is not needed."""


def _allocates_nothing(flow: Flow) -> str:
    return "" if flow.allocates else "takes no room"


FAULTS = (
    _power_cut("source"),
    _power_cut("target"),
    _power_cut("third"),
    _links_cut("replication-link", "replication"),
    _links_cut("management-link", "management"),
    _links_cut("both-links", "management", "replication"),
    Fault("control-process", _kill_control, _no_heal),
    Fault("frozen", _freeze, _thaw, lasts=30.0),
    Fault("disk-error", _break_disk, _mend_disk),
    Fault("full", _fill, _make_room, prepare=_close_door, nonsense=_allocates_nothing),
    Fault("libvirt", _kill_libvirt, _no_heal),
)
