# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the configuration of a node stands on: the machine, read lazily and once, and what is wrong or differs."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from ._files import write_bytes
from ._runner import Result, Runner

UNIT_PROPERTIES = "Id,LoadState,ActiveState,UnitFileState,NeedDaemonReload,ActiveEnterTimestamp"


class Change(NamedTuple):
    """One thing that differs from what is wanted."""

    object: str
    message: str
    diff: dict[str, str] | None = None

    def document(self) -> dict[str, Any]:
        return {"object": self.object, "message": self.message, "diff": self.diff}


class Problem(NamedTuple):
    """Something that a person has to put right before anything is changed; a peer when it is about another node."""

    code: str
    object: str
    message: str
    remedy: str
    severity: str = "error"
    peer: str | None = None

    def document(self) -> dict[str, Any]:
        return self._asdict()


class Unit(NamedTuple):
    """A unit as systemd sees it; `since` is when it became active, in seconds since the epoch."""

    loaded: bool
    active: bool
    enabled: bool
    needs_reload: bool
    since: float | None


class Host:
    """The machine. What it knows of packages, units and so on is forgotten whenever something was changed."""

    def __init__(self, runner: Runner, root: str = "") -> None:
        self.runner = runner
        self.root = root
        self.unit_names: list[str] = []
        self._packages: dict[str, tuple[str, str]] | None = None
        self._units: dict[str, Unit] = {}
        self.known: dict[str, Any] = {}

    def path(self, path: str) -> str:
        return self.root + path

    def read(self, path: str) -> str | None:
        """The text of a file, or None if there is none."""
        try:
            with open(self.path(path), encoding="utf-8", errors="replace") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def lines(self, path: str) -> list[str]:
        return (self.read(path) or "").splitlines()

    def exists(self, path: str) -> bool:
        return os.path.exists(self.path(path))

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(self.path(folder)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def write(self, path: str, text: str, mode: int) -> None:
        write_bytes(self.path(path), text.encode(), mode)

    def query(self, argv: list[str], check: bool = False) -> Result:
        """Runs a command that only looks."""
        return self.runner.run(argv, mutates=False, check=check)

    def change(self, argv: list[str], **options: Any) -> Result:
        """Runs a command that changes something; what is known is forgotten."""
        options.setdefault("timeout", 300)
        try:
            return self.runner.run(argv, mutates=True, **options)
        finally:
            self.forget()

    def forget(self) -> None:
        """What was read may have changed; packages only change where they are installed."""
        self._units = {}
        self.known = {}

    def packages(self) -> dict[str, tuple[str, str]]:
        """State and version of every package that dpkg knows."""
        if self._packages is None:
            form = "${Package}\\t${db:Status-Status}\\t${Version}\\n"
            result = self.query(["dpkg-query", "--show", f"--showformat={form}"])
            rows = [line.split("\t") for line in result.stdout.splitlines()]
            self._packages = {row[0]: (row[1], row[2]) for row in rows if len(row) == 3}
        return self._packages

    def forget_packages(self) -> None:
        self._packages = None

    def installed(self, name: str) -> bool:
        return self.packages().get(name, ("", ""))[0] == "installed"

    def unit(self, name: str) -> Unit:
        """A unit; all that are wanted are asked for at once."""
        if name not in self._units:
            names = list(dict.fromkeys([*self.unit_names, name]))
            argv = ["systemctl", "show", "--timestamp=us+utc", f"--property={UNIT_PROPERTIES}", "--", *names]
            blocks = self.query(argv, check=True).stdout.strip("\n").split("\n\n")
            self._units = {key: parse_unit(block) for key, block in zip(names, blocks)}
        return self._units[name]


def parse_unit(block: str) -> Unit:
    """Reads a block of `systemctl show`."""
    values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
    return Unit(
        loaded=values.get("LoadState") == "loaded",
        active=values.get("ActiveState") in ("active", "reloading"),
        enabled=values.get("UnitFileState") in ("enabled", "static", "indirect", "generated"),
        needs_reload=values.get("NeedDaemonReload") == "yes",
        since=parse_time(values.get("ActiveEnterTimestamp", "")),
    )


def parse_time(text: str) -> float | None:
    """Reads systemd's `Fri 2026-01-02 03:04:05.678901 UTC`."""
    import calendar
    import re

    match = re.match(r"^\w{3} (\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+)(\.\d+)? UTC$", text)
    if match is None:
        return None
    return calendar.timegm(tuple(int(part) for part in match.groups()[:6])) + float(match[7] or 0)
