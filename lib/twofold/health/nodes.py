# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes: clocks, versions, kernel, KVM and volume groups, each by itself and compared with the others."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from .. import clocks
from ..findings import Finding, listing
from ..observed import NodeView
from ..planner.fit import KVM_REMEDY
from .seen import Seen, error, warning

# Seconds; Ganeti's limit (NODE_MAX_CLOCK_SKEW).
CLOCK = 150.0
COMPARED = {"drbd_kernel": "DRBD", "drbd_utils": "drbd-utils", "libvirt": "libvirt", "qemu": "QEMU"}


def findings(seen: Seen) -> Iterator[Finding]:
    """What is wrong with nodes."""
    views = seen.answered
    yield from _clocks(views)
    yield from _versions(views)
    yield from _older(seen)
    yield from _extents(views)
    for view in views:
        yield from _reboot(view)
        yield from _groups(seen, view)
    for view in seen.observed.all_known:
        yield from _kvm(seen, view)


def _clocks(views: list[NodeView]) -> Iterator[Finding]:
    """As far as the time that the answer took can tell."""
    bounds = {}
    for view in views:
        asked, read = view.document.get("asked"), view.document.get("time")
        if asked is not None and read is not None:
            bounds[view.name] = (read - asked[1], read - asked[0])
    for one in clocks.apart(bounds, CLOCK):
        message = f"its clock is at least {one.seconds:.0f} s {one.way} that of {one.middle}"
        message += f", and {CLOCK:.0f} s are allowed"
        yield error("clock-differs", f"node {one.node}", message, clocks.REMEDY)


def _version(view: NodeView, what: str) -> str | None:
    found = (view.document.get("versions") or {}).get(what)
    return str(found) if found else None


def _versions(views: list[NodeView]) -> Iterator[Finding]:
    for key, title in COMPARED.items():
        by_version: dict[str, list[str]] = defaultdict(list)
        for view in views:
            if version := _version(view, key):
                by_version[version].append(view.name)
        if len(by_version) > 1:
            found = sorted(by_version.items(), key=lambda item: key_of(item[0]))
            where = "; ".join(f"{version} on {listing(nodes)}" for version, nodes in found)
            remedy = "bring all nodes to the same version, emptying each before it is upgraded"
            yield warning(
                "versions-differ", "cluster", f"the nodes have different versions of {title}: {where}", remedy
            )


def key_of(version: str) -> list[int]:
    """A version as a key for comparisons: its numbers."""
    return [int(number) for number in re.findall(r"\d{1,18}", version)]


def _older(seen: Seen) -> Iterator[Finding]:
    """A guest cannot be expected to move live from a newer QEMU to an older one."""
    stuck: dict[tuple[str, str], list[str]] = defaultdict(list)
    for trace, base in seen.settled:
        active = [node for node, domain in trace.domains.items() if domain.active]
        for node in base["nodes"]:
            if len(active) == 1 and node != active[0] and _is_older(seen, node, active[0]):
                stuck[node, active[0]].append(trace.name)
    for (older, newer), names in sorted(stuck.items()):
        message = f"its QEMU is older than that of {newer}: {listing(names)} cannot move to it while running"
        yield warning("migration-to-older", f"node {older}", message, f"upgrade QEMU on {older}")


def _is_older(seen: Seen, node: str, than: str) -> bool:
    views = seen.observed.known(node), seen.observed.known(than)
    versions = [_version(view, "qemu") for view in views if view is not None]
    return len(versions) == len(views) and all(versions) and key_of(str(versions[0])) < key_of(str(versions[1]))


def _extents(views: list[NodeView]) -> Iterator[Finding]:
    """With extents of different sizes the two volumes of a disk have different sizes."""
    sizes: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for view in views:
        for name, group in (view.document.get("volume_groups") or {}).items():
            sizes[name][int(group["extent"])].append(view.name)
    for name, found in sorted(sizes.items()):
        if len(found) > 1:
            where = "; ".join(f"{size >> 10} KiB on {listing(nodes)}" for size, nodes in sorted(found.items()))
            message = f"the volume groups {name} have extents of different sizes: {where}"
            remedy = "make them alike when a node is emptied; until then the copies of a disk may differ in size"
            yield warning("extent-differs", "cluster", message, remedy)


def _reboot(view: NodeView) -> Iterator[Finding]:
    running = _version(view, "kernel")
    newest = newer_kernel(running or "", view.document.get("kernels") or [])
    if running is None or not (newest or view.document.get("reboot_required")):
        return
    why = f"it runs {running}, and {newest} is installed" if newest else "a package asked for it"
    message = f"it waits for a reboot: {why}"
    yield warning("reboot-needed", f"node {view.name}", message, "move its guests away and reboot it")


def newer_kernel(running: str, installed: list[str]) -> str | None:
    """The newest installed kernel of the running one's flavour, if it is newer."""
    flavour = _flavour(running)
    alike = [name for name in installed if _flavour(name) == flavour]
    newest = max(alike, key=key_of, default=running)
    return newest if key_of(newest) > key_of(running) else None


def _flavour(kernel: str) -> str:
    """`cloud-amd64` of `6.12.57+deb13-cloud-amd64`."""
    return "-".join(part for part in kernel.split("-")[1:] if not part[:1].isdigit())


def _groups(seen: Seen, view: NodeView) -> Iterator[Finding]:
    groups: dict[str, dict[str, Any]] | None = view.document.get("volume_groups")
    node = seen.desired.nodes.get(view.name)
    if groups is None or node is None:
        return
    if node.volume_group not in groups and seen.desired.instances:
        message = f"it has no volume group {node.volume_group}"
        remedy = "run bootstrap.yml, or correct twofold_volume_group"
        yield error("volume-group-missing", f"node {view.name}", message, remedy)
    for name, group in sorted(groups.items()):
        if group.get("missing"):
            message = f"the volume group {name} lacks {group['missing']} of its disks"
            remedy = "see 'pvs' there; when the disk is gone for good, replace the copies that were on it"
            yield error("volume-group-incomplete", f"node {view.name}", message, remedy)


def _kvm(seen: Seen, view: NodeView) -> Iterator[Finding]:
    if not view.lacks_kvm:
        return
    wanted = seen.desired.instances
    names = [name for name in sorted(view.definitions) if name in wanted and wanted[name].virtualization == "kvm"]
    if names:
        message = f"it has no /dev/kvm, and {listing(names)} cannot start without"
        yield error("kvm-missing", f"node {view.name}", message, KVM_REMEDY)
