# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts about the machine that cost no process."""

from __future__ import annotations

import os
import re
from typing import Any, Protocol

from ._addresses import own_addresses
from ._files import RUN, Files, read_json, write_json
from ._runner import Runner


class Host(Protocol):
    """The machine itself."""

    def facts(self) -> dict[str, Any]: ...

    def bridges(self) -> list[str]: ...

    def addresses(self) -> list[str]: ...

    def tool_versions(self) -> dict[str, str | None]: ...

    def starting(self, units: tuple[str, ...]) -> bool: ...


class SystemHost:
    """Read from /proc and /sys."""

    def __init__(self, runner: Runner, files: Files) -> None:
        self.runner = runner
        self.files = files

    def facts(self) -> dict[str, Any]:
        memory = parse_meminfo(_text("/proc/meminfo"))
        system = os.uname()
        return {
            "hostname": system.nodename,
            "boot_id": _text("/proc/sys/kernel/random/boot_id").strip(),
            "uptime": float(_text("/proc/uptime").split()[0]),
            "kernel": system.release,
            "memory": {"total": memory["MemTotal"], "available": memory["MemAvailable"]},
            "cpus": os.cpu_count() or 1,
            "load": float(_text("/proc/loadavg").split()[0]),
            "kvm": os.path.exists("/dev/kvm"),
            "kernels": kernels(),
            "reboot_required": os.path.exists("/run/reboot-required"),
        }

    def bridges(self) -> list[str]:
        folder = "/sys/class/net"
        return sorted(name for name in os.listdir(folder) if os.path.isdir(f"{folder}/{name}/bridge"))

    def addresses(self) -> list[str]:
        return own_addresses()

    def tool_versions(self) -> dict[str, str | None]:
        """Versions that only a command tells, kept until the command's file changes."""
        import platform

        return {"drbd_utils": self._drbd_utils(), "python": platform.python_version()}

    def _drbd_utils(self) -> str | None:
        try:
            stat = os.stat("/usr/sbin/drbdadm")
        except FileNotFoundError:
            return None
        key, path = f"{stat.st_mtime_ns}.{stat.st_size}", f"{RUN}/versions.json"
        kept = read_json(self.files, path)
        if kept and kept.get("key") == key:
            return str(kept["drbd_utils"])
        said = self.runner.run(["drbdadm", "--version"], mutates=False).stdout
        match = re.search(r"^DRBDADM_VERSION=(\S+)", said, re.M)
        if not match:
            return None
        write_json(self.files, path, {"format": 1, "key": key, "drbd_utils": match.group(1)}, 0o644)
        return match.group(1)

    def starting(self, units: tuple[str, ...]) -> bool:
        """Whether systemd is about to start one of the units, or at it; one that it does not know is not starting."""
        argv = ["systemctl", "show", "--property=ActiveState", "--property=Job", *units]
        said = self.runner.run(argv, mutates=False, check=False).stdout
        return re.search(r"^(ActiveState=(activating|reloading)|Job=[1-9]\d*)$", said, re.M) is not None


def _text(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


def kernels(folder: str = "/boot") -> list[str]:
    """The releases of the installed kernels, as `uname -r` would tell them."""
    start = "vmlinuz-"
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted(name[len(start) :] for name in names if name.startswith(start))


def parse_meminfo(text: str) -> dict[str, int]:
    """Bytes by name."""
    rows = re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M)
    return {name: int(kilobytes) * 1024 for name, kilobytes in rows}
