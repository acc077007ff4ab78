# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packages, kernel modules, reserved ports and services of a node."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from ._config_host import Change, Host, Unit
from ._errors import CommandFailed, TwofoldError

# With SYSTEMD_OFFLINE the packages neither start services that are not configured yet, nor make systemd read all its
# files again for each of them; see PackagesItem.
OFFLINE = {"SYSTEMD_OFFLINE": "1"}
SOCKETS = "/etc/systemd/system/sockets.target.wants", "/usr/lib/systemd/system/sockets.target.wants"
APT = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1", "APT_LISTCHANGES_FRONTEND": "none"}
APT_OPTIONS = ["-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold"]
RESERVED = "/proc/sys/net/ipv4/ip_local_reserved_ports"
STAMPS = "/run/twofold"


class PackagesItem:
    """Packages that have to be installed, from the node's own sources."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.names = [*item["names"], *item["by_architecture"].get(os.uname().machine, [])]

    def missing(self, host: Host) -> list[str]:
        return sorted(name for name in self.names if not host.installed(name))

    def changes(self, host: Host) -> list[Change]:
        missing = self.missing(host)
        return [Change("packages", f"{', '.join(missing)} are not installed")] if missing else []

    def apply(self, host: Host, secrets: dict[str, Any]) -> None:
        missing = self.missing(host)
        broken = [
            name for name, (state, _ignored) in host.packages().items() if state in ("unpacked", "half-configured")
        ]
        if broken:
            host.change(["dpkg", "--force-confold", "--configure", "-a"], env=APT, timeout=1800)
        # Without a network the lists that are there may do; if not, the installation says what is missing.
        host.change(["apt-get", *APT_OPTIONS, "update"], env=APT, check=False, timeout=900)
        sockets = self._sockets(host)
        try:
            argv = ["apt-get", *APT_OPTIONS, "install", "--no-install-recommends", "--", *missing]
            host.change(argv, env={**APT, **OFFLINE}, timeout=3600)
        except CommandFailed as error:
            said = (error.stderr.strip() or error.stdout.strip())[-1000:]
            remedy = "see that the node's package sources work: apt-get update && apt-get install " + " ".join(missing)
            raise TwofoldError(f"packages cannot be installed: {said}", remedy) from error
        finally:
            host.forget_packages()
            host.change(["systemctl", "daemon-reload"])
        new = sorted(self._sockets(host) - sockets)
        if new:
            host.change(["systemctl", "start", "--", *new], check=False)

    @staticmethod
    def _sockets(host: Host) -> set[str]:
        """Sockets that are opened at boot; those of new packages are opened now, for services that start on demand."""
        return {name for folder in SOCKETS for name in host.names(folder)}


class ModulesItem:
    """Kernel modules that have to be loaded."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.names: list[str] = list(item["names"])
        self.kvm: bool = item["kvm"]

    def missing(self, host: Host) -> list[str]:
        kernel = KernelModules(host)
        names = [name for name in self.names if not kernel.loaded(name)]
        if self.kvm and not host.exists("/dev/kvm"):
            names += kvm_modules(host)
        return names

    def changes(self, host: Host) -> list[Change]:
        return [Change(f"kernel module {name}", "is not loaded") for name in self.missing(host)]

    def apply(self, host: Host, secrets: dict[str, Any]) -> None:
        for name in self.missing(host):
            host.change(["modprobe", "--", name])


class KernelModules:
    """Which modules the running kernel has."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.folder = f"/lib/modules/{os.uname().release}"
        self._names: set[str] | None = None
        self._builtin: set[str] | None = None

    def loaded(self, name: str) -> bool:
        return self.host.exists(f"/sys/module/{name.replace('-', '_')}") or name in self.builtin()

    def available(self, name: str) -> bool:
        return self.loaded(name) or name in self.names()

    def names(self) -> set[str]:
        """Modules that can be loaded."""
        if self._names is None:
            self._names = {module_name(line.split(":", 1)[0]) for line in self.host.lines(f"{self.folder}/modules.dep")}
        return self._names

    def builtin(self) -> set[str]:
        if self._builtin is None:
            self._builtin = {module_name(line) for line in self.host.lines(f"{self.folder}/modules.builtin")}
        return self._builtin


def module_name(path: str) -> str:
    """The name of a module's file."""
    return os.path.basename(path).split(".ko", 1)[0].replace("-", "_")


def cpu_flags(host: Host) -> set[str]:
    """The processor's features; empty where they are not listed."""
    for line in host.lines("/proc/cpuinfo"):
        if line.startswith("flags"):
            return set(line.split(":", 1)[1].split())
    return set()


def kvm_modules(host: Host) -> list[str]:
    """The module that virtualizes on this processor."""
    flags = cpu_flags(host)
    return [name for flag, name in (("vmx", "kvm_intel"), ("svm", "kvm_amd")) if flag in flags]


class ReservedPortsItem:
    """Ports that the kernel must not use for outgoing connections; what others reserved stays."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.ports: list[str] = item["ports"]

    def missing(self, host: Host) -> list[str]:
        reserved = port_set((host.read(RESERVED) or "").strip())
        return [port for port in self.ports if not port_set(port) <= reserved]

    def changes(self, host: Host) -> list[Change]:
        missing = self.missing(host)
        return [Change(f"sysctl {os.path.basename(RESERVED)}", f"lacks {', '.join(missing)}")] if missing else []

    def apply(self, host: Host, secrets: dict[str, Any]) -> None:
        before = (host.read(RESERVED) or "").strip()
        with open(host.path(RESERVED), "w", encoding="ascii") as file:
            file.write(",".join(filter(None, [before, *self.missing(host)])) + "\n")


def port_set(text: str) -> set[int]:
    """The ports of `1,5-7`."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _ignored, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


class UnitsItem:
    """Units, in the order in which they are started. Enabling them together makes systemd read its files once."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.wanted = [WantedUnit(**unit) for unit in item["units"]]

    def changes(self, host: Host) -> list[Change]:
        host.unit_names = [unit.name for unit in self.wanted]
        return [Change(f"unit {unit.name}", message) for unit in self.wanted for message in unit.differences(host)]

    def apply(self, host: Host, secrets: dict[str, Any]) -> None:
        seen = {unit.name: host.unit(unit.name) for unit in self.wanted}
        disable = [unit.name for unit in self.wanted if not unit.enabled and seen[unit.name].enabled]
        enable = [unit.name for unit in self.wanted if unit.enabled and not seen[unit.name].enabled]
        for verb, names in (("disable", disable), ("enable", enable)):
            if names:
                host.change(["systemctl", "--quiet", verb, "--", *names])
        if not (enable or disable) and any(unit.needs_reload for unit in seen.values()):
            host.change(["systemctl", "daemon-reload"])
        for unit in self.wanted:
            unit.run(host)


class WantedUnit(NamedTuple):
    """How a unit should be.

    `stop_first` names services that must not run while it starts; `restart_after` files that it reads when it starts;
    `refresh_after` files that it reads anew at the command `refresh`.
    """

    name: str
    enabled: bool
    active: bool | None = None
    stop_first: tuple[str, ...] = ()
    restart_after: tuple[str, ...] = ()
    refresh_after: tuple[str, ...] = ()
    refresh: tuple[str, ...] = ()

    @property
    def stamp(self) -> str:
        return f"{STAMPS}/{self.name}.refreshed"

    def differences(self, host: Host) -> list[str]:
        unit = host.unit(self.name)
        if not unit.loaded and not self.enabled and not self.active:
            return []
        found = []
        if unit.needs_reload:
            found.append("its file is newer than what systemd knows")
        if unit.enabled != self.enabled:
            found.append("is not enabled" if self.enabled else "is enabled")
        if self.active is not None and unit.active != self.active:
            found.append("is not active" if self.active else "is active")
        newer = self.outdated(host, unit)
        if newer:
            found.append(f"runs since before {newer} was written")
        return found

    def outdated(self, host: Host, unit: Unit) -> str | None:
        """A file that an active unit has not read yet."""
        if not (self.active and unit.active) or unit.since is None:
            return None
        refreshed = max(unit.since, modified(host, self.stamp) or 0.0)
        for paths, since in ((self.restart_after, unit.since), (self.refresh_after, refreshed)):
            for path in paths:
                if (modified(host, path) or 0.0) > since:
                    return path
        return None

    def run(self, host: Host) -> None:
        """Starts, stops, restarts or refreshes it."""
        if self.active is None:
            return
        unit = host.unit(self.name)
        newer = self.outdated(host, unit)
        if unit.active != self.active and (unit.loaded or self.active):
            self._switch(host)
        elif newer in self.restart_after:
            self._restart(host, self.restart_after)
        elif newer:
            self._refresh(host)

    def _switch(self, host: Host) -> None:
        """Starts or stops; a socket whose service came up in between is tried again."""
        argv = ["systemctl", "start" if self.active else "stop", "--", self.name]
        others = list(self.stop_first) if self.active else []
        for attempt in (1, 2, 3):
            if others:
                host.change(["systemctl", "--quiet", "stop", "--", *others])
            if control(host, argv, [self.name, *others], check=not others or attempt == 3):
                return

    def _restart(self, host: Host, read: tuple[str, ...]) -> None:
        control(host, ["systemctl", "restart", "--", self.name], [self.name])
        settle_times(host, read, host.unit(self.name).since)

    def _refresh(self, host: Host) -> None:
        """Makes the running service read its files anew; if it cannot, restarts it."""
        if host.change(list(self.refresh), check=False).code != 0:
            self._restart(host, self.refresh_after)
            return
        host.write(self.stamp, "", 0o644)
        settle_times(host, self.refresh_after, modified(host, self.stamp))


def control(host: Host, argv: list[str], names: list[str], check: bool = True) -> bool:
    """Starts, stops or restarts a unit; earlier failures are forgotten, what it said itself is part of the error."""
    host.change(["systemctl", "reset-failed", "--", *names], check=False)
    if host.change(argv, check=False).code == 0:
        return True
    if not check:
        return False
    said = host.query(["journalctl", "--quiet", "--no-pager", "--output=cat", "--lines=8", f"--unit={names[0]}"]).stdout
    remedy = f"see journalctl --unit={names[0]} on the node"
    raise TwofoldError(f"{' '.join(argv)} failed; the unit said: {'; '.join(said.strip().splitlines())}", remedy)


def modified(host: Host, path: str) -> float | None:
    """When a file was last written; None if there is none."""
    try:
        return os.stat(host.path(path)).st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None


def settle_times(host: Host, paths: tuple[str, ...], since: float | None) -> None:
    """Files from the future (the clock was set back) would make their service restart on every run."""
    for path in paths:
        written = modified(host, path)
        if written is not None and since is not None and written > since:
            os.utime(host.path(path), (since, since))
