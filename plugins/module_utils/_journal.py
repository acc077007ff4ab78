# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is being done on a node. An entry that is left over belongs to a step that was interrupted."""

from __future__ import annotations

import os
import re
from typing import Any, Protocol

from ._errors import ParseFailed
from ._files import DAMAGED, STATE, Files, read_json, write_json

FOLDER = f"{STATE}/journal"


class Journal(Protocol):
    """Entries of running steps."""

    def entries(self) -> list[dict[str, Any]]: ...

    def begin(self, entry: dict[str, Any]) -> str: ...

    def end(self, key: str) -> None: ...


class FileJournal:
    """One file per running step."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def entries(self) -> list[dict[str, Any]]:
        """Every entry, with `running` telling whether its process is still at work."""
        found = []
        for name in self.files.names(FOLDER):
            path = f"{FOLDER}/{name}"
            entry = read_json(self.files, path)
            if entry is not None:
                if not _is_whole(entry):
                    raise ParseFailed(path, str(entry), "it is no entry of a step", DAMAGED)
                running = entry.get("process") == self._identity(_number(entry.get("pid")))
                found.append({**entry, "key": name[: -len(".json")], "running": running})
        return found

    def begin(self, entry: dict[str, Any]) -> str:
        """Durable before the step starts."""
        key = re.sub(r"[^A-Za-z0-9._-]", "-", f"{entry['run']}.{entry['step']['id']}")
        pid = self._pid()
        document = {"format": 1, **entry, "pid": pid, "process": self._identity(pid)}
        write_json(self.files, f"{FOLDER}/{key}.json", document)
        return key

    def end(self, key: str) -> None:
        self.files.remove(f"{FOLDER}/{key}.json")

    def _pid(self) -> int:
        return os.getpid()

    def _identity(self, pid: int) -> str | None:
        return process_identity(pid)


def _is_whole(entry: dict[str, Any]) -> bool:
    step, holder = entry.get("step"), entry.get("holder")
    return isinstance(step, dict) and isinstance(step.get("id"), str) and isinstance(holder, (str, type(None)))


def _number(value: Any) -> int:
    """A process number; 0, which is none, for anything else."""
    return value if isinstance(value, int) else 0


def process_identity(pid: int) -> str | None:
    """A process that cannot be mistaken for a later one: boot and time of its start; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            started = file.read().rsplit(")", 1)[1].split()[19]
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()}/{pid}/{started}"
    except (OSError, IndexError):
        return None
