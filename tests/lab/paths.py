# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps things: the cache (images, snapshots, disks) and the runtime state (logs, sockets, pids)."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from .errors import LabError

RUNTIME_ROOT = Path("/run/twofold-lab")
REPOSITORY = Path(__file__).resolve().parents[2]
# A lab's name is part of socket paths (108 bytes at most), namespace names and file names.
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,19}")


def cache_dir() -> Path:
    """The cache directory, made if missing."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = Path(os.environ.get("TWOFOLD_CACHE") or home / "twofold")
    path.mkdir(parents=True, exist_ok=True)
    return path


def default_name() -> str:
    """The lab's name when none is given."""
    return os.environ.get("TWOFOLD_LAB") or "default"


def check_name(name: str) -> str:
    """Return name if it can name a lab."""
    if not NAME_PATTERN.fullmatch(name):
        raise LabError(f"lab {name!r}: use 1 to 20 lower-case letters, digits and dashes")
    return name


def check_snapshot(name: str) -> str:
    """Return name if it can name a snapshot."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,59}", name):
        raise LabError(f"snapshot {name!r}: use 1 to 60 lower-case letters, digits, dots and dashes")
    return name


def runtime_dir(name: str) -> Path:
    """Logs, sockets and pids of one lab."""
    return RUNTIME_ROOT / name


def lab_dir(name: str) -> Path:
    """Disks and ssh configuration of one lab, on a real disk."""
    return cache_dir() / "labs" / name


def boot_id() -> str:
    """Changes when the machine that hosts the lab restarts."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def digest(document: Any) -> str:
    """A short stable hash of a JSON document."""
    text = json.dumps(document, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file in one step, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.chmod(mode)
    temporary.replace(path)
