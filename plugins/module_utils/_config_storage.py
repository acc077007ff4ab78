# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The disks of a node and the volume group on them. A disk that carries data is used only if it is named for wiping."""

from __future__ import annotations

import os
import stat
from typing import Any, NamedTuple

from . import _json
from ._config_host import Change, Host, Problem
from ._devices import SystemDevices
from ._errors import ParseFailed, Refused

FREE, OURS, DATA, UNUSABLE = "free", "ours", "data", "unusable"
# How LVM calls a disk that is not there.
UNKNOWN = "[unknown]"


class Disk(NamedTuple):
    """What a device is to us, and why."""

    path: str
    state: str
    what: str
    remedy: str = ""


class Groups(NamedTuple):
    """Physical volumes (real path: group), the tags of groups, and groups of which a disk is missing."""

    volumes: dict[str, str]
    tags: dict[str, set[str]]
    missing: frozenset[str] = frozenset()


def read_groups(host: Host) -> Groups:
    """Asks LVM, if it is installed; once, until something is changed."""
    if "groups" not in host.known:
        host.known["groups"] = _ask_groups(host) if host.installed("lvm2") else Groups({}, {})
    groups: Groups = host.known["groups"]
    return groups


def _ask_groups(host: Host) -> Groups:
    argv = ["pvs", "--reportformat", "json", "--options", "pv_name,vg_name,vg_tags"]
    text = host.query(argv, check=True).stdout
    try:
        rows = _json.read(text)["report"][0]["pv"]
        volumes = {os.path.realpath(row["pv_name"]): row["vg_name"] for row in rows if row["pv_name"] != UNKNOWN}
        missing = frozenset(row["vg_name"] for row in rows if row["pv_name"] == UNKNOWN)
        tags = {row["vg_name"]: set(filter(None, row["vg_tags"].split(","))) for row in rows if row["vg_name"]}
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ParseFailed("pvs", text, f"{type(error).__name__}: {error}") from error
    return Groups(volumes, tags, missing)


def examine(host: Host, path: str, group: str, groups: Groups) -> Disk:
    """Looks at a device; opens it for reading only."""
    try:
        found = os.stat(path)
    except OSError:
        return Disk(path, UNUSABLE, "does not exist", "correct twofold_volume_group_devices; lsblk shows the disks")
    if not stat.S_ISBLK(found.st_mode):
        return Disk(path, UNUSABLE, "is not a block device", "name a disk or a partition")
    owner = groups.volumes.get(os.path.realpath(path))
    if owner == group:
        return Disk(path, OURS, f"is in the volume group {group}")
    busy = in_use(host, found.st_rdev)
    if busy:
        return Disk(path, UNUSABLE, busy, "free it, or name another disk in twofold_volume_group_devices")
    what = f"a physical volume of the volume group {owner}" if owner else SystemDevices(host.runner).contents(path)
    if what is None:
        return Disk(path, FREE, "is empty")
    remedy = f"name another disk, or, if its data may be destroyed, add {path} to twofold_wipe_devices"
    return Disk(path, DATA, f"carries data: {what}", remedy)


def in_use(host: Host, number: int) -> str | None:
    """Why a device cannot be taken whatever it carries."""
    device = f"{os.major(number)}:{os.minor(number)}"
    folder = os.path.realpath(host.path(f"/sys/dev/block/{device}"))
    parts = [folder] + [entry.path for entry in os.scandir(folder) if os.path.exists(f"{entry.path}/partition")]
    mounted = {line.split()[2] for line in host.lines("/proc/self/mountinfo")}
    swaps = {os.path.realpath(line.split()[0]) for line in host.lines("/proc/swaps")[1:]}
    for part in parts:
        name, what = os.path.basename(part), "it" if part == folder else f"its partition {os.path.basename(part)}"
        if _line(f"{part}/dev") in mounted:
            return f"is in use: {what} is mounted"
        if f"/dev/{name}" in swaps:
            return f"is in use: {what} is swap space"
        holders = os.listdir(f"{part}/holders") if os.path.isdir(f"{part}/holders") else []
        if holders:
            return f"is in use: {what} is held by {', '.join(sorted(holders))}"
    return "is read-only" if _line(f"{folder}/ro") == "1" else None


def _line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


class VolumeGroupItem:
    """The volume group, its disks and its tag."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.name: str = item["name"]
        self.devices: list[str] = item["devices"]
        self.wipe = {os.path.realpath(path) for path in item["wipe"]}
        self.tag: str = item["tag"]

    def changes(self, host: Host) -> list[Change]:
        groups = read_groups(host)
        new = [disk for disk in self._disks(host, groups) if disk.state != OURS]
        found = []
        for disk in new:
            verb = "is extended by" if self.name in groups.tags else "is made on"
            loss = f", whose data is destroyed ({disk.what})" if disk.state == DATA else ""
            found.append(Change(f"volume group {self.name}", f"{verb} {disk.path}{loss}"))
        if self.name in groups.tags and self.tag not in groups.tags[self.name]:
            found.append(Change(f"volume group {self.name}", f"lacks the tag {self.tag}"))
        return found

    def problems(self, host: Host) -> list[Problem]:
        """What keeps the group from being made."""
        found, groups = [], read_groups(host)
        if self.name in groups.missing:
            remedy = f"bring the disk back, or, if it is lost for good: vgreduce --removemissing {self.name}"
            found.append(Problem("disk", f"volume group {self.name}", "one of its disks is missing", remedy))
        for disk in self._disks(host, groups):
            if disk.state == UNUSABLE or (disk.state == DATA and not self._may_wipe(disk)):
                found.append(Problem("disk", f"disk {disk.path}", disk.what, disk.remedy))
        return found

    def apply(self, host: Host, secrets: dict[str, Any]) -> None:
        groups = read_groups(host)
        new = [disk for disk in self._disks(host, groups) if disk.state != OURS]
        for disk in new:
            if disk.state == UNUSABLE or (disk.state == DATA and not self._may_wipe(disk)):
                raise Refused(f"disk {disk.path} {disk.what}", disk.remedy)
        for disk in new:
            if disk.state == DATA:
                self._wipe(host, disk.path)
        paths = [disk.path for disk in new]
        if self.name not in groups.tags:
            host.change(["vgcreate", "--quiet", "--addtag", self.tag, self.name, *paths])
            return
        if paths:
            host.change(["vgextend", "--quiet", self.name, *paths])
        if self.tag not in groups.tags[self.name]:
            host.change(["vgchange", "--quiet", "--addtag", self.tag, self.name])

    def _disks(self, host: Host, groups: Groups) -> list[Disk]:
        return [examine(host, path, self.name, groups) for path in self.devices]

    def _may_wipe(self, disk: Disk) -> bool:
        return os.path.realpath(disk.path) in self.wipe

    @staticmethod
    def _wipe(host: Host, path: str) -> None:
        """Removes every signature; the kernel forgets partitions."""
        host.change(["wipefs", "--all", "--force", path])
        host.change(["blockdev", "--rereadpt", path], check=False)
        host.change(["udevadm", "settle", "--timeout", "30"], check=False)
