# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DRBD 8.4 and 9 behind one interface."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from . import _drbd_netlink
from ._drbd_meta import JUST_CREATED, SECTOR, is_blank, parse_generations
from ._drbd_parse import (
    PLACEHOLDER,
    parse_equal,
    parse_events,
    parse_out_of_sync,
    parse_proc,
    parse_show,
    put_secret,
    take_secret,
)
from ._errors import CommandFailed, Refused
from ._files import RUN, Files
from ._runner import Runner

FOLDER = "/etc/drbd.d"
GLOBAL = f"{FOLDER}/global_common.conf"
PREFIX = "twofold-"
FILE = re.compile(rf"{PREFIX}(.+)\.res\Z")
VOLUME = re.compile(r"^\s*volume\s+(\d+)\s*\{", re.MULTILINE)


class DiskState(NamedTuple):
    """One volume of a resource, on both sides."""

    volume: int
    minor: int | None
    disk: str | None
    peer_disk: str
    done: float | None
    backing: str | None
    replication: str | None = None
    out_of_sync: int | None = None


class Resync(NamedTuple):
    """How far a resync is, in percent, and how many bytes are left of it."""

    done: float
    left: int | None


class ResourceState(NamedTuple):
    """A resource as the kernel has it; role None: it is down."""

    name: str
    role: str | None
    peer_role: str | None
    connection: str
    options: dict[str, str]
    volumes: tuple[DiskState, ...]
    peer_address: str | None = None

    @property
    def allow_two_primaries(self) -> bool:
        return self.options.get("allow-two-primaries") == "yes"

    @property
    def connected(self) -> bool:
        return self.connection == "Connected"

    def summary(self) -> str:
        """For messages."""
        disks = ", ".join(f"{one.volume}: {one.disk}/{one.peer_disk}" for one in self.volumes)
        return f"role {self.role}, peer {self.peer_role}, connection {self.connection}, disks {disks or 'none'}"


class Configuration(NamedTuple):
    """The file of a resource: its text without the secret, and the secret."""

    text: str
    secret: str | None

    @property
    def secret_digest(self) -> str | None:
        import hashlib

        return None if self.secret is None else hashlib.sha256(self.secret.encode()).hexdigest()


class Replication(Protocol):
    """Replicated disks of a node."""

    def versions(self) -> dict[str, str | None]: ...

    def states(self) -> dict[str, ResourceState]: ...

    def state(self, name: str) -> ResourceState | None: ...

    def resyncs(self) -> dict[int, Resync]: ...

    def equal(self) -> set[int]: ...

    def names(self) -> list[str]: ...

    def volumes(self, name: str) -> list[int]: ...

    def configurations(self) -> dict[str, Configuration]: ...

    def configuration(self, name: str) -> Configuration | None: ...

    def validate(self, name: str, wanted: Configuration) -> None: ...

    def write(self, name: str, wanted: Configuration) -> None: ...

    def forget(self, name: str) -> None: ...

    def metadata(self, name: str, volume: int, device: str | None, wanted: Configuration | None = None) -> str: ...

    def create_metadata(self, name: str, volume: int) -> None: ...

    def adjust(self, name: str, dry: bool) -> bool: ...

    def down(self, name: str) -> None: ...

    def just_created(self, name: str, volume: int) -> bool: ...

    def clean_start(self, name: str, volume: int) -> None: ...

    def generations(self, name: str, volume: int) -> str: ...

    def size(self, minor: int) -> int | None: ...

    def resize(self, name: str, volume: int, clean: bool) -> None: ...

    def detach(self, name: str) -> None: ...

    def disconnect(self, name: str) -> None: ...

    def discard(self, name: str, anew: Sequence[int] = ()) -> None: ...

    def outdate(self, name: str) -> None: ...

    def primary(self, name: str, force: bool = False) -> None: ...

    def secondary(self, name: str) -> None: ...

    def allow_two_primaries(self, name: str, allow: bool) -> None: ...


class Drbd:
    """The real thing.

    The tools are told to read one resource's file (with the node's global section), so that a broken file of
    another resource cannot stop this one and nothing is parsed that is not needed.
    """

    def __init__(self, runner: Runner, files: Files, folder: str = FOLDER, prefix: str = PREFIX) -> None:
        self.runner = runner
        self.files = files
        self.folder = folder
        self.prefix = prefix

    # What is there

    def versions(self) -> dict[str, str | None]:
        """The version of the module that is loaded, and None for the tools (see _observe)."""
        text = self.files.read("/sys/module/drbd/version")
        return {"drbd_kernel": text.strip() if text else None}

    def _nine(self) -> bool:
        return not (self.versions()["drbd_kernel"] or "8").startswith("8")

    def states(self) -> dict[str, ResourceState]:
        """Every resource that the kernel has; an empty answer if the module is not loaded."""
        if self.versions()["drbd_kernel"] is None:
            return {}
        return self._states("all")

    def state(self, name: str) -> ResourceState | None:
        if self.versions()["drbd_kernel"] is None:
            return None
        return self._states(name).get(name)

    def _states(self, which: str) -> dict[str, ResourceState]:
        argv = [] if which == "all" and self._nine() else [which]
        result = self.runner.run(["drbdsetup", "events2", "--now", *argv], mutates=False, check=False)
        if result.code != 0:
            if self._absent(result.code, result.stderr):
                return {}
            raise CommandFailed(result.argv, result.code, result.stdout, result.stderr)
        seen = parse_events(result.stdout)
        if not seen:
            return {}
        shown = self.runner.run(["drbdsetup", "show", *argv, "--show-defaults"], mutates=False)
        options = parse_show(shown.stdout)
        text = self.files.read("/proc/drbd") or ""
        synced, differing = parse_proc(text), parse_out_of_sync(text)
        return {name: _state(name, one, options.get(name, {}), synced, differing) for name, one in seen.items()}

    def resyncs(self) -> dict[int, Resync]:
        """How far the resync of each minor is, for no more than a look at a file; empty with DRBD 9."""
        text = self.files.read("/proc/drbd") or ""
        left = parse_out_of_sync(text)
        return {minor: Resync(done, left.get(minor)) for minor, done in parse_proc(text).items()}

    def equal(self) -> set[int]:
        """The minors of two connected Primaries whose peer has everything, by a look at a file; none with DRBD 9."""
        return parse_equal(self.files.read("/proc/drbd") or "")

    @staticmethod
    def _absent(code: int, said: str) -> bool:
        return code in (10, 20) and bool(re.search(r"unknown resource|not defined|no such resource", said, re.I))

    # Configuration

    def path(self, name: str) -> str:
        return f"{self.folder}/{self.prefix}{name}.res"

    def names(self) -> list[str]:
        """The resources that have a file of ours."""
        return [match.group(1) for match in map(FILE.match, self.files.names(self.folder)) if match]

    def volumes(self, name: str) -> list[int]:
        """The numbers of a resource's volumes, by its file."""
        return sorted({int(number) for number in VOLUME.findall(self.files.read(self.path(name)) or "")})

    def configurations(self) -> dict[str, Configuration]:
        found = {name: self.configuration(name) for name in self.names()}
        return {name: one for name, one in found.items() if one is not None}

    def configuration(self, name: str) -> Configuration | None:
        text = self.files.read(self.path(name))
        return None if text is None else Configuration(*take_secret(text))

    def _wrapper(self, name: str, resource_file: str, suffix: str = "") -> str:
        """A file for `drbdadm -c`: the node's global section and one resource."""
        wrapper = f"{RUN}/drbd/{name}{suffix}.conf"
        text = f'include "{GLOBAL}";\n' if self.files.read(GLOBAL) is not None else "global { usage-count no; }\n"
        text += f'include "{resource_file}";\n'
        if self.files.read(wrapper) != text:
            self.files.write(wrapper, text, 0o644)
        return wrapper

    def _adm(self, name: str) -> list[str]:
        return ["drbdadm", "-c", self._wrapper(name, self.path(name))]

    def validate(self, name: str, wanted: Configuration) -> None:
        """Has the real parser read it before it is put in place."""
        with self._trial(name, wanted) as adm:
            try:
                self.runner.run([*adm, "sh-nop"], mutates=False)
            except CommandFailed as error:
                said = error.stderr.strip().replace(f"{RUN}/drbd/{name}.trial", self.path(name))
                message = _hide(f"drbdadm does not accept the configuration of {name}: {said}", wanted)
                raise Refused(message, "correct the options of the resource") from None

    @contextmanager
    def _trial(self, name: str, wanted: Configuration) -> Iterator[list[str]]:
        """drbdadm with a configuration that is not put in place."""
        trial = f"{RUN}/drbd/{name}.trial"
        self.files.write(trial, put_secret(wanted.text, wanted.secret), 0o600)
        try:
            yield ["drbdadm", "-c", self._wrapper(name, trial, ".trial")]
        finally:
            self.files.remove(f"{RUN}/drbd/{name}.trial.conf")
            self.files.remove(trial)

    def write(self, name: str, wanted: Configuration) -> None:
        if PLACEHOLDER in wanted.text and wanted.secret is None:
            raise Refused(f"the secret of {name} is not known", "give the secret with the configuration")
        self.files.write(self.path(name), put_secret(wanted.text, wanted.secret), 0o600)

    def forget(self, name: str) -> None:
        """Removes the files of a resource that is down."""
        self.files.remove(self.path(name))
        self.files.remove(f"{RUN}/drbd/{name}.conf")

    # Metadata

    def metadata(self, name: str, volume: int, device: str | None, wanted: Configuration | None = None) -> str:
        """'none', 'new' (just created) or 'used', for a resource that is down; no device: the metadata is internal.

        With `wanted` as that configuration has it, whatever is in place.
        """
        if device is not None and is_blank(device):
            return "none"
        if wanted is None:
            return self._metadata(self._adm(name), f"{name}/{volume}")
        with self._trial(name, wanted) as adm:
            return self._metadata(adm, f"{name}/{volume}")

    def _metadata(self, adm: list[str], which: str) -> str:
        result = self.runner.run([*adm, "get-gi", which], mutates=False, check=False)
        if result.code != 0 and not (result.stdout + result.stderr).strip():
            # Where there is none, get-gi fails without a word; dump-md says so.
            result = self.runner.run([*adm, "dump-md", which], mutates=False, check=False)
        if result.code != 0:
            if re.search(r"no valid meta.?data", result.stdout + result.stderr, re.I):
                return "none"
            raise CommandFailed(result.argv, result.code, result.stdout, result.stderr)
        return "new" if parse_generations(result.stdout).current == JUST_CREATED else "used"

    def create_metadata(self, name: str, volume: int) -> None:
        argv = [*self._adm(name), "--", "--force", "create-md", f"{name}/{volume}"]
        self.runner.run(argv, mutates=True, timeout=300, stdin="")

    def just_created(self, name: str, volume: int) -> bool:
        """Whether a volume has never held data: its current UUID is the one that create-md writes."""
        return parse_generations(self.generations(name, volume)).current == JUST_CREATED

    def generations(self, name: str, volume: int) -> str:
        """The generation identifiers of a volume, `CURRENT:BITMAP:HISTORY:HISTORY` and flags, in hexadecimal."""
        argv = [*self._adm(name), "get-gi", f"{name}/{volume}"]
        return self.runner.run(argv, mutates=False).stdout.strip()

    def clean_start(self, name: str, volume: int) -> None:
        """Declares both sides equal: a new current UUID and an empty bitmap."""
        argv = [*self._adm(name), "--", "--clear-bitmap", "new-current-uuid", f"{name}/{volume}"]
        self.runner.run(argv, mutates=True, timeout=120)

    # Life

    def adjust(self, name: str, dry: bool) -> bool:
        """Makes the kernel follow the file; says whether anything had to be done."""
        if self.versions()["drbd_kernel"] is None:
            if dry:
                return True
            self.runner.run(["modprobe", "drbd"], mutates=True, timeout=60)
        todo = self._planned(name, "adjust")
        if not dry:
            self._carry_out_all(name, todo)
        return bool(todo)

    def _carry_out_all(self, name: str, todo: list[list[str]]) -> None:
        """As drbdadm does it (_run_deferred_cmds): a disk that cannot be attached does not hold up the rest.

        The other disks come up, and so does the connection; what was wrong with the first such disk is raised then.
        """
        failed: dict[str, CommandFailed] = {}
        for words in todo:
            minor = _attached_by(words)
            if minor is None:
                self._carry_out(name, words)
            elif minor not in failed:
                try:
                    self._carry_out(name, words)
                except CommandFailed as error:
                    failed[minor] = error
        if failed:
            raise next(iter(failed.values()))

    def _planned(self, name: str, action: str) -> list[list[str]]:
        """The commands that drbdadm would run."""
        plan = self.runner.run([*self._adm(name), "--dry-run", action, name], mutates=False, check=False)
        if plan.code != 0:
            # What it says else may hold the secret.
            raise CommandFailed(plan.argv, plan.code, "", plan.stderr)
        return [shlex.split(line) for line in plan.stdout.splitlines() if line.strip()]

    def _carry_out(self, name: str, words: list[str]) -> None:
        """Runs what drbdadm would run, except that a secret never gets onto a command line.

        DRBD 9 has another protocol with the kernel; there drbdsetup gets the secret as drbdadm would give it.
        """
        if _drbd_netlink.carries_secret(words) and not self._nine():
            _drbd_netlink.run(name, words)
        else:
            # The tools for 8.4 are named drbdsetup-84 and the like, and are reached through the plain name.
            self.runner.run([words[0].split("-", 1)[0], *words[1:]], mutates=True, timeout=120)

    def down(self, name: str) -> None:
        self.runner.run(["drbdsetup", "down", name], mutates=True, timeout=120)

    def detach(self, name: str) -> None:
        """Lets go of the local disks; a Primary reads and writes at the peer from now on."""
        self.runner.run([*self._adm(name), "detach", name], mutates=True, timeout=120)

    def disconnect(self, name: str) -> None:
        self.runner.run([*self._adm(name), "disconnect", name], mutates=True, timeout=120)

    def discard(self, name: str, anew: Sequence[int] = ()) -> None:
        """Connects, with what this side wrote while apart given up; the volumes `anew` are copied as a whole."""
        if anew:
            self.down(name)
            for volume in anew:
                self.create_metadata(name, volume)
            self.adjust(name, dry=False)
            return
        for words in self._planned(name, "connect"):
            self._carry_out(name, [*words, "--discard-my-data"] if "connect" in words else words)

    def size(self, minor: int) -> int | None:
        """Bytes of a DRBD device, or None if there is none."""
        text = self.files.read(f"/sys/block/drbd{minor}/size")
        return None if text is None else int(text) * SECTOR

    def resize(self, name: str, volume: int, clean: bool) -> None:
        """Takes what both backing devices have more; `clean`: it is equal on both sides, so it needs no resync."""
        more = ["--", "--assume-clean"] if clean else []
        self.runner.run([*self._adm(name), *more, "resize", f"{name}/{volume}"], mutates=True, timeout=120)

    def primary(self, name: str, force: bool = False) -> None:
        argv = ["drbdadm", "-c", self._wrapper(name, self.path(name)), "primary", name]
        self.runner.run([*argv, "--force"] if force else argv, mutates=True, timeout=120)

    def outdate(self, name: str) -> None:
        """Marks the copies on this side as stale, also of what is down; the kernel refuses while it is Primary."""
        self.runner.run([*self._adm(name), "outdate", name], mutates=True, timeout=60)

    def secondary(self, name: str) -> None:
        self.runner.run([*self._adm(name), "secondary", name], mutates=True, timeout=120)

    def allow_two_primaries(self, name: str, allow: bool) -> None:
        """At run time only; the file keeps saying no."""
        option = f"--allow-two-primaries={'yes' if allow else 'no'}"
        self.runner.run([*self._adm(name), "net-options", option, name], mutates=True, timeout=60)


def _state(
    name: str, seen: dict[str, Any], shown: dict[str, Any], synced: dict[int, float], differing: dict[int, int]
) -> ResourceState:
    backing = shown.get("backing", {})
    volumes = []
    for number, one in sorted(seen["volumes"].items()):
        done = one["done"] if one["done"] is not None else synced.get(one["minor"])
        volumes.append(
            DiskState(
                number,
                one["minor"],
                one["disk"],
                one["peer_disk"],
                done,
                backing.get(number),
                one["replication"],
                differing.get(one["minor"]),
            )
        )
    options, peer = shown.get("options", {}), shown.get("peer_address")
    return ResourceState(name, seen["role"], seen["peer_role"], seen["connection"], options, tuple(volumes), peer)


def _attached_by(words: list[str]) -> str | None:
    """The minor of the disk that a command of drbdadm prepares or attaches; None if it is about something else."""
    if words[0] == "drbdmeta" and words[-1] == "apply-al":
        return words[1]
    return words[2] if words[0].startswith("drbdsetup") and words[1] == "attach" else None


def _hide(text: str, wanted: Configuration) -> str:
    return text.replace(wanted.secret, "***") if wanted.secret else text
