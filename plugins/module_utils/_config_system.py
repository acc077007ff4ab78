# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packages, kernel modules, reserved ports and services of a node."""

from __future__ import annotations

import os
from typing import Any

from ._config_host import Change, Host, Unit
from ._errors import CommandFailed, TwofoldError

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
        broken = [name for name, (state, _) in host.packages().items() if state in ("unpacked", "half-configured")]
        if broken:
            host.change(["dpkg", "--force-confold", "--configure", "-a"], env=APT, timeout=1800)
        # Without a network the lists that are there may do; if not, the installation says what is missing.
        host.change(["apt-get", *APT_OPTIONS, "update"], env=APT, check=False, timeout=900)
        try:
            argv = ["apt-get", *APT_OPTIONS, "install", "--no-install-recommends", "--", *missing]
            host.change(argv, env=APT, timeout=3600)
        except CommandFailed as error:
            said = (error.stderr.strip() or error.stdout.strip())[-1000:]
            remedy = "see that the node's package sources work: apt-get update && apt-get install " + " ".join(missing)
            raise TwofoldError(f"packages cannot be installed: {said}", remedy) from error


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
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


class UnitItem:
    """A unit: enabled, active, restarted or refreshed when what it reads is newer than it."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.name: str = item["name"]
        self.enabled: bool = item["enabled"]
        self.active: bool | None = item.get("active")
        self.stop_first: list[str] = item.get("stop_first", [])
        self.restart_after: list[str] = item.get("restart_after", [])
        self.refresh_after: list[str] = item.get("refresh_after", [])
        self.refresh: list[str] = item.get("refresh", [])

    @property
    def stamp(self) -> str:
        return f"{STAMPS}/{self.name}.refreshed"

    def changes(self, host: Host) -> list[Change]:
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
        return [Change(f"unit {self.name}", message) for message in found]

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

    def apply(self, host: Host, secrets: dict[str, Any]) -> None:
        unit = host.unit(self.name)
        if unit.needs_reload or not unit.loaded:
            host.change(["systemctl", "daemon-reload"])
            unit = host.unit(self.name)
        if unit.enabled != self.enabled:
            host.change(["systemctl", "--quiet", "enable" if self.enabled else "disable", "--", self.name])
        if self.active is None:
            return
        newer = self.outdated(host, unit)
        if unit.active != self.active:
            self._switch(host)
        elif newer in self.restart_after:
            host.change(["systemctl", "restart", "--", self.name])
            settle_times(host, self.restart_after, host.unit(self.name).since)
        elif newer:
            self._refresh(host)

    def _switch(self, host: Host) -> None:
        """Starts or stops; a socket whose service came up in between is tried again."""
        argv = ["systemctl", "start" if self.active else "stop", "--", self.name]
        for attempt in (1, 2, 3):
            for other in self.stop_first if self.active else []:
                host.change(["systemctl", "--quiet", "stop", "--", other])
            if host.change(argv, check=not self.stop_first or attempt == 3).code == 0:
                return

    def _refresh(self, host: Host) -> None:
        """Makes the running service read its files anew; if it cannot, restarts it."""
        if host.change(self.refresh, check=False).code != 0:
            host.change(["systemctl", "restart", "--", self.name])
            settle_times(host, self.refresh_after, host.unit(self.name).since)
            return
        host.write(self.stamp, "", 0o644)
        settle_times(host, self.refresh_after, modified(host, self.stamp))


def modified(host: Host, path: str) -> float | None:
    """When a file was last written; None if there is none."""
    try:
        return os.stat(host.path(path)).st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None


def settle_times(host: Host, paths: list[str], since: float | None) -> None:
    """Files from the future (the clock was set back) would make their service restart on every run."""
    for path in paths:
        written = modified(host, path)
        if written is not None and since is not None and written > since:
            os.utime(host.path(path), (since, since))
