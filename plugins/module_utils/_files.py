# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of ours on a node: whole, durable, with a mode."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from typing import Any, Protocol

from . import _json
from ._errors import ParseFailed

STATE = "/var/lib/twofold"
RUN = "/run/twofold"
DAMAGED = "restore the file from a backup or the other node, or remove it when no run is at work"


class Files(Protocol):
    """The few things done with files."""

    def read(self, path: str) -> str | None: ...

    def write(self, path: str, text: str, mode: int = 0o600) -> None: ...

    def remove(self, path: str) -> bool: ...

    def names(self, folder: str) -> list[str]: ...


class SystemFiles:
    """Files of the machine itself."""

    def read(self, path: str) -> str | None:
        """The text of a file, or None if there is none."""
        try:
            with open(path, encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise ParseFailed(path, "bytes that are no UTF-8", str(error), DAMAGED) from error

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        """Replaces a file as a whole; after a crash there is the old or the new one."""
        write_bytes(path, text.encode(), mode)

    def remove(self, path: str) -> bool:
        """Removes a file; False if there was none."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        folder, name = os.path.split(path)
        clear_unfinished(folder, f".{name}", "new")
        sync_folder(folder)
        return True

    def names(self, folder: str) -> list[str]:
        """What is in a folder, sorted; nothing if there is no such folder. Unfinished writes are not shown."""
        try:
            return sorted(name for name in os.listdir(folder) if not name.startswith("."))
        except FileNotFoundError:
            return []


def write_bytes(path: str, data: bytes, mode: int) -> None:
    """Writes beside, syncs, renames."""
    folder, name = os.path.split(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    clear_unfinished(folder, f".{name}", "new")
    beside = os.path.join(folder, f".{name}.{os.getpid()}.new")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, path)
    except BaseException:
        if os.path.lexists(beside):
            os.unlink(beside)
        raise
    sync_folder(folder)


def clear_unfinished(folder: str, name: str, ending: str) -> None:
    """Removes what processes that were killed left of `name`: `NAME.PID.ENDING`, the ending a pattern."""
    pattern = re.compile(rf"{re.escape(name)}\.([0-9]+)\.{ending}")
    for other in os.listdir(folder):
        found = pattern.fullmatch(other)
        if found and not _works(int(found[1])):
            _remove(os.path.join(folder, other))


def _works(pid: int) -> bool:
    """Whether a process other than this one may be at work; what has our number is of one before us."""
    return pid != os.getpid() and os.path.exists(f"/proc/{pid}")


def _remove(path: str) -> None:
    import shutil

    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(FileNotFoundError):
        os.unlink(path)


def sync_folder(folder: str) -> None:
    """Makes names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(files: Files, path: str) -> dict[str, Any] | None:
    """A document, or None if there is no file."""
    text = files.read(path)
    if text is None:
        return None
    try:
        value = _json.read(text)
    except ValueError as error:
        raise ParseFailed(path, text, str(error), DAMAGED) from error
    if not isinstance(value, dict):
        raise ParseFailed(path, text, "not an object", DAMAGED)
    return value


def write_json(files: Files, path: str, value: dict[str, Any], mode: int = 0o600) -> None:
    """Writes a document the same way every time."""
    files.write(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", mode)
