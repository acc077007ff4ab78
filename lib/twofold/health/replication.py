# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies of disks: how many are good, whether they are connected, and who may write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..findings import Finding
from ..observed import Resource, ResourceVolume, Trace
from .seen import Seen, error, info, migrating, warning

GOOD = "UpToDate"
DOWN = "down"
SITE = "run site.yml"


@dataclass(frozen=True)
class Copy:
    """One copy of a disk. `state` is DRBD's word for the disk, `down`, or None if nobody knows; `done` in percent."""

    node: str
    state: str | None
    done: float | None = None

    @property
    def text(self) -> str:
        """For a message."""
        return f"{self.state or 'unknown'} on {self.node}"


def findings(seen: Seen) -> Iterator[Finding]:
    """What is wrong with the replication of every instance that exists."""
    for trace, base in seen.settled:
        if base["disk_template"] != "drbd":
            continue
        for disk in base["disks"]:
            yield from _disk(
                trace, disk["index"], [_copy(seen, trace, base, node, disk["index"]) for node in base["nodes"]]
            )
        yield from _connection(seen, trace)
        if not migrating(trace):
            yield from _primaries(trace)


def _copy(seen: Seen, trace: Trace, base: dict[str, Any], node: str, index: int) -> Copy:
    """The copy on a node, as the node says, or as its peer sees it."""
    if seen.observed.known(node) is not None:
        volume = _volume(trace.resources.get(node), index)
        return Copy(node, DOWN) if volume is None else Copy(node, volume.disk or "Diskless", volume.done)
    for peer in base["nodes"]:
        resource = trace.resources.get(peer)
        volume = _volume(resource, index)
        if peer != node and resource is not None and resource.connected and volume is not None:
            return Copy(node, volume.peer_disk, volume.done)
    return Copy(node, None)


def _volume(resource: Resource | None, index: int) -> ResourceVolume | None:
    if resource is None or not resource.up:
        return None
    return next((volume for volume in resource.volumes if volume.volume == index), None)


def _disk(trace: Trace, index: int, copies: list[Copy]) -> Iterator[Finding]:
    target = f"instance {trace.name}"
    good = [copy for copy in copies if copy.state == GOOD]
    bad = [copy for copy in copies if copy.state != GOOD]
    if not good:
        # DRBD that is merely down says nothing about the data; it is named as a difference of the configuration.
        if any(copy.state not in (None, DOWN) for copy in bad):
            message = f"disk {index} has no good copy: it is {', '.join(copy.text for copy in copies)}"
            remedy = "bring back the node that has the last good copy; until then write nothing to the others"
            yield error("no-good-copy", target, message, remedy)
        return
    done = next((copy.done for copy in copies if copy.done is not None), None)
    for copy in bad:
        if done is not None and copy.state not in (None, DOWN):
            message = f"disk {index} is copied from {good[0].node} to {copy.node}: {done:.1f}% done"
            yield info("resyncing", target, message, "wait until it is done")
        else:
            message = f"disk {index} has one good copy, on {good[0].node}: it is {copy.text}"
            remedy = f"see to {copy.node} and its disks; if it stays away, evacuate.yml -e node={copy.node}"
            if copy.state is not None:
                remedy = f"see to {copy.node} and its disks; replace_disks.yml gives the instance another secondary"
            yield warning("redundancy-lost", target, message, remedy)


def _connection(seen: Seen, trace: Trace) -> Iterator[Finding]:
    apart = {node: r for node, r in sorted(trace.resources.items()) if r.up and not r.connected}
    alone = any(resource.connection == "StandAlone" for resource in apart.values())
    if not apart or (alone and trace.name in seen.desired.instances):
        # What StandAlone means, the planner finds out.
        return
    states = ", ".join(f"{resource.connection or 'unknown'} on {node}" for node, resource in apart.items())
    message = f"DRBD has no connection to its peer ({states}): the copies drift apart"
    yield warning("not-connected", f"instance {trace.name}", message, "check the nodes and the replication network")


def _primaries(trace: Trace) -> Iterator[Finding]:
    target = f"instance {trace.name}"
    primaries = [node for node, resource in sorted(trace.resources.items()) if resource.primary]
    allowed = [node for node, resource in sorted(trace.resources.items()) if resource.allow_two_primaries]
    if len(primaries) > 1:
        message = f"its disks are Primary on {' and '.join(primaries)}, though no migration is going on"
        yield error("two-primaries", target, message, SITE)
    if allowed:
        message = f"two primaries are allowed on {', '.join(allowed)}, though no migration is going on"
        yield warning("two-primaries-allowed", target, message, SITE)
    for node in primaries:
        domain = trace.domains.get(node)
        if domain is None or not domain.active:
            message = f"its disks are Primary on {node}, where it does not run"
            yield warning("primary-unused", target, message, SITE)
