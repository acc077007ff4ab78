# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""LVM: volume groups, logical volumes, their tags."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Protocol

from . import _json
from ._errors import ParseFailed, Refused
from ._runner import Runner

GROUP_FIELDS = "vg_name,vg_size,vg_free,vg_extent_size,vg_missing_pv_count"
VOLUME_FIELDS = "lv_name,lv_size,lv_tags,lv_device_open,origin"
# `lvm fullreport` is the only command that reports groups without volumes and volumes in one go; the sections that
# are not needed are cut down to one field each.
REPORT = [
    "lvm", "fullreport", "--reportformat", "json", "--units", "b", "--nosuffix",
    "--configreport", "vg", "-o", GROUP_FIELDS,
    "--configreport", "lv", "-o", VOLUME_FIELDS,
    "--configreport", "pv", "-o", "pv_name",
    "--configreport", "seg", "-o", "segtype",
    "--configreport", "pvseg", "-o", "pvseg_start",
]  # fmt: skip


# Of each snapshot how much of its room is in use, and how much of that its own records take. LVM makes a rounded share
# of it; the kernel's numbers show a single block.
SNAPSHOTS = ["dmsetup", "status", "--target", "snapshot"]
SNAPSHOT = re.compile(r"(?P<name>\S+): \d+ \d+ snapshot (?P<used>\d+)/\d+ (?P<records>\d+)")
KEPT = "twofold.kept="
# The byte from which on a volume that was made larger has not been zeroed yet.
LARGER = "twofold.larger="


class Group(NamedTuple):
    """A volume group; `missing` counts its physical volumes that are not there."""

    name: str
    size: int
    free: int
    extent: int
    missing: int = 0


class Volume(NamedTuple):
    """A logical volume; `origin` is the name of what it is a snapshot of, empty if it is none."""

    volume_group: str
    name: str
    size: int
    tags: tuple[str, ...]
    open: bool
    origin: str = ""

    @property
    def path(self) -> str:
        """As LVM's commands name it."""
        return f"{self.volume_group}/{self.name}"

    @property
    def device(self) -> str:
        return device(self.volume_group, self.name)

    @property
    def mapped(self) -> str:
        """As device-mapper names it."""
        return "-".join(part.replace("-", "--") for part in (self.volume_group, self.name))

    @property
    def kept(self) -> bool:
        """Whether it is a snapshot of data that was given up."""
        return any(tag.startswith(KEPT) for tag in self.tags)

    def pending(self) -> list[str]:
        """What is owed to this volume before it may be used."""
        start = "twofold.pending="
        owed = [tag[len(start) :] for tag in self.tags if tag.startswith(start)]
        return sorted([*owed, "zeroing"] if any(tag.startswith(LARGER) for tag in self.tags) else owed)


class Volumes(Protocol):
    """Logical volumes of a node."""

    def groups(self) -> dict[str, Group]: ...

    def volumes(self) -> list[Volume]: ...

    def find(self, volume_group: str, name: str) -> Volume | None: ...

    def create(self, volume_group: str, name: str, size: int, tags: list[str]) -> None: ...

    def remove(self, volumes: list[Volume]) -> None: ...

    def retag(self, volumes: list[Volume], add: list[str], delete: list[str]) -> None: ...

    def extend(self, volume: Volume, size: int) -> None: ...

    def rename(self, volume: Volume, name: str) -> None: ...

    def snapshot(self, volume: Volume, name: str, tags: list[str]) -> None: ...

    def unchanged(self, snapshots: list[Volume]) -> set[str]: ...

    def forget(self) -> None: ...


class Lvm:
    """The real thing. What was read is kept and follows the changes made here, so that a call reads once."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.read: tuple[dict[str, Group], list[Volume]] | None = None

    def _report(self) -> tuple[dict[str, Group], list[Volume]]:
        if self.read is None:
            self.read = parse_report(self.runner.run(REPORT, mutates=False).stdout)
        return self.read

    def forget(self) -> None:
        """The next look reads anew."""
        self.read = None

    def groups(self) -> dict[str, Group]:
        return self._report()[0]

    def volumes(self) -> list[Volume]:
        return self._report()[1]

    def find(self, volume_group: str, name: str) -> Volume | None:
        for volume in self.volumes():
            if volume.volume_group == volume_group and volume.name == name:
                return volume
        return None

    def _run(self, argv: list[str]) -> None:
        self.runner.run(argv, mutates=True, timeout=300)

    def create(self, volume_group: str, name: str, size: int, tags: list[str]) -> None:
        """Makes a volume with its tags in one transaction of LVM's; its first bytes are zero."""
        argv = ["lvcreate", "--quiet", "--yes", "--wipesignatures", "n", "--zero", "y"]
        for tag in tags:
            argv += ["--addtag", tag]
        groups, volumes = self._report()
        group = groups[volume_group]
        self.read = None
        self._run([*argv, "--size", f"{size}b", "--name", name, volume_group])
        size = round_up(size, group.extent)
        made = Volume(volume_group, name, size, tuple(sorted(tags)), False)
        self.read = ({**groups, volume_group: group._replace(free=group.free - size)}, [*volumes, made])

    def remove(self, volumes: list[Volume]) -> None:
        """Removes several in one command."""
        self.read = None
        self._run(["lvremove", "--quiet", "--yes", *(one.path for one in volumes)])

    def retag(self, volumes: list[Volume], add: list[str], delete: list[str]) -> None:
        """Adds and removes tags of several volumes in one command."""
        argv = ["lvchange", "--quiet"]
        for tag in add:
            argv += ["--addtag", tag]
        for tag in delete:
            argv += ["--deltag", tag]
        groups, known = self._report()
        self.read = None
        self._run([*argv, *(one.path for one in volumes)])
        paths = {one.path for one in volumes}
        self.read = (groups, [_retagged(one, add, delete) if one.path in paths else one for one in known])

    def extend(self, volume: Volume, size: int) -> None:
        self.read = None
        self._run(["lvextend", "--quiet", "--size", f"{size}b", volume.path])

    def rename(self, volume: Volume, name: str) -> None:
        self.read = None
        self._run(["lvrename", "--quiet", volume.volume_group, volume.name, name])

    def snapshot(self, volume: Volume, name: str, tags: list[str]) -> None:
        """Keeps a volume as it is now; there is room for every block of it, so the snapshot never overflows."""
        self.read = None
        argv = ["lvcreate", "--quiet", "--yes", "--snapshot", "--extents", "100%ORIGIN", "--name", name]
        for tag in tags:
            argv += ["--addtag", tag]
        self._run([*argv, volume.path])

    def unchanged(self, snapshots: list[Volume]) -> set[str]:
        """The paths of those whose origin certainly holds what they hold: neither was written since."""
        if not snapshots:
            return set()
        same = parse_snapshots(self.runner.run(SNAPSHOTS, mutates=False).stdout)
        return {one.path for one in snapshots if one.mapped in same}


def _retagged(volume: Volume, add: list[str], delete: list[str]) -> Volume:
    return volume._replace(tags=tuple(sorted((set(volume.tags) | set(add)) - set(delete))))


def require_nothing_kept(there: Volumes, gone: list[Volume]) -> None:
    """With an origin LVM removes its snapshots without a word: also those that keep data which was given up."""
    paths = {one.path for one in gone}
    for one in there.volumes():
        origin = f"{one.volume_group}/{one.origin}"
        if one.kept and one.path not in paths and origin in paths:
            message = f"{one.path} keeps data that was given up, and would go with {origin}"
            raise Refused(message, "save what you need of it, then remove it with drop_kept.yml")


def device(volume_group: str, name: str) -> str:
    """The path of a volume's device."""
    return f"/dev/{volume_group}/{name}"


def parse_report(text: str) -> tuple[dict[str, Group], list[Volume]]:
    """Reads the output of REPORT."""
    try:
        reports: list[dict[str, Any]] = _json.read(text)["report"]
        groups: dict[str, Group] = {}
        volumes: list[Volume] = []
        for report in reports:
            rows = report.get("vg", [])
            if not rows:
                continue
            group = _group(rows[0])
            groups[group.name] = group
            volumes += [_volume(group.name, row) for row in report.get("lv", [])]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ParseFailed("lvm", text, f"{type(error).__name__}: {error}") from error
    return groups, volumes


def parse_snapshots(text: str) -> set[str]:
    """The snapshots, by device-mapper's names, that hold no block yet. What is invalid, or not understood, is none."""
    found = [SNAPSHOT.fullmatch(line.strip()) for line in text.splitlines()]
    return {one["name"] for one in found if one is not None and int(one["used"]) <= int(one["records"])}


def _group(row: dict[str, str]) -> Group:
    sizes = int(row["vg_size"]), int(row["vg_free"]), int(row["vg_extent_size"])
    return Group(row["vg_name"], *sizes, int(row.get("vg_missing_pv_count") or 0))


def _volume(group: str, row: dict[str, str]) -> Volume:
    tags = tuple(sorted(tag for tag in row["lv_tags"].split(",") if tag))
    opened, origin = row["lv_device_open"] == "open", row.get("origin") or ""
    return Volume(group, row["lv_name"], int(row["lv_size"]), tags, opened, origin)


def round_up(size: int, extent: int) -> int:
    """The size that LVM makes of it."""
    return -(-size // extent) * extent
