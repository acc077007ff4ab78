# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Save and restore a whole lab: memory, devices and disks of every machine.

A snapshot is an entry NAME.json, which points to a directory of its own with one memory image a machine and the disks
as they were, from then on read-only. The disks of a snapshot may build on those of the one that was restored before,
so a directory stays as long as any entry, or the running lab, needs it.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import state
from .errors import LabError
from .machine import DISKS, Emulator, Shape, disk_path, make_overlays
from .paths import cache_dir, digest, write_atomically
from .progress import Progress
from .qmp import Qmp
from .state import State

if TYPE_CHECKING:
    from .core import Lab

# Bytes a second; QEMU's default would take minutes.
BANDWIDTH = 1 << 40
SAVE_SECONDS = 300.0


@dataclass(frozen=True)
class Snapshot:
    """An entry: where the files are, which directories its disks build on, which machines were on."""

    directory: str
    parents: list[str]
    powered: list[str]
    state: dict[str, Any]

    @property
    def path(self) -> Path:
        return Path(self.directory)

    def lab_state(self) -> State:
        document = dict(self.state)
        document["shape"] = Shape(**document["shape"])
        return State(**document)


def snapshots_dir() -> Path:
    return cache_dir() / "snapshots"


def load(entry: Path) -> Snapshot | None:
    try:
        snapshot = Snapshot(**json.loads(entry.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    needed = [snapshot.directory, *snapshot.parents, str(snapshot.state["image_directory"])]
    return snapshot if all(Path(path).exists() for path in needed) else None


def entry_path(lab: Lab, name: str, wanted: State | None = None) -> Path:
    """Snapshots belong to a lab's name and configuration."""
    wanted = wanted or lab.state()
    if wanted:
        return snapshots_dir() / lab.name / digest(wanted.configuration()) / f"{name}.json"
    entries = list((snapshots_dir() / lab.name).glob(f"*/{name}.json"))
    # A lab that is down takes the newest of that name.
    return max(entries, key=lambda path: path.stat().st_mtime, default=snapshots_dir() / lab.name / f"{name}.json")


def find(lab: Lab, name: str, wanted: State | None = None) -> Snapshot | None:
    return load(entry_path(lab, name, wanted))


def save(lab: Lab, name: str) -> None:
    """Save the lab, then let it run on from what was saved."""
    progress = Progress(f"lab {lab.name}", lab.quiet)
    found = lab.require_state()
    emulators = [emulator for emulator in lab.emulators() if emulator.process()]
    directory = snapshots_dir() / lab.name / "files" / uuid.uuid4().hex[:12]
    directory.mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(_stop, emulators))
        list(pool.map(lambda emulator: _save_memory(emulator, directory), emulators))
    for machine in found.machines:
        for disk in DISKS:
            path = disk_path(lab.disks, machine, disk)
            path.rename(disk_path(directory, machine, disk))
    parents = _ancestry(found.snapshot)
    snapshot = Snapshot(
        str(directory), parents, [emulator.machine.name for emulator in emulators],
        asdict(found) | {"snapshot": str(directory)},
    )  # fmt: skip
    _write_parents(directory, parents)
    write_atomically(entry_path(lab, name, found), json.dumps(asdict(snapshot), indent=1))
    progress.say(f"saved as {name}")
    _resume(lab, snapshot, progress)
    _collect(lab)


def restore(lab: Lab, name: str) -> None:
    """Replace the lab by the snapshot."""
    snapshot = find(lab, name)
    if not snapshot:
        raise LabError(f"snapshot {name!r}: lab {lab.name} has none that fits its image and machines; make it again")
    progress = Progress(f"lab {lab.name}", lab.quiet)
    lab.replace(snapshot.lab_state())
    _resume(lab, snapshot, progress)


def drop(lab: Lab, pattern: str) -> None:
    """Remove entries by shell pattern, in every configuration, and the files that nothing needs any more."""
    for path in (snapshots_dir() / lab.name).glob(f"*/{pattern}.json"):
        path.unlink()
    _collect(lab)


def _stop(emulator: Emulator) -> None:
    with emulator.qmp() as qmp:
        qmp.execute("stop")


def _save_memory(emulator: Emulator, directory: Path) -> None:
    target = directory / f"{emulator.machine.name}.memory"
    with emulator.qmp() as qmp:
        qmp.execute("migrate-set-parameters", **{"max-bandwidth": BANDWIDTH})
        qmp.execute("migrate", uri=f"exec:exec cat > {target}")
        qmp.wait_status("query-migrate", "completed", "failed", SAVE_SECONDS)
        qmp.execute("quit")
    process = emulator.process()
    if process:
        process.kill()


def _resume(lab: Lab, snapshot: Snapshot, progress: Progress) -> None:
    """Start every machine of the snapshot on fresh overlays."""
    found = snapshot.lab_state()
    for machine in found.machines:
        make_overlays(lab.disks, machine, snapshot.path)
    powered = [emulator for emulator in lab.emulators() if emulator.machine.name in snapshot.powered]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda emulator: _resume_one(emulator, found, snapshot.path), powered))
        progress.say("machines run on")
        list(pool.map(lambda emulator: set_clock(lab, emulator.machine.name), powered))
    found.ready = True
    state.save(lab.name, found)
    progress.say("machines answer")


def _resume_one(emulator: Emulator, found: State, directory: Path) -> None:
    emulator.path("pid").unlink(missing_ok=True)
    emulator.start(found.image, found.shape, incoming=directory / f"{emulator.machine.name}.memory")
    with Qmp(emulator.path("qmp"), str(emulator)) as qmp:
        qmp.wait_status("query-status", "paused", "internal-error", SAVE_SECONDS)
        qmp.execute("cont")


def set_clock(lab: Lab, node: str) -> None:
    """A restored machine's clock is the snapshot's: set it before TLS or a lease notices."""

    def done() -> bool:
        return lab.run(node, f"date -s @{time.time():.3f}", check=False, timeout=60).returncode == 0

    lab.wait(done, SAVE_SECONDS, f"{node} of lab {lab.name} answers by ssh after the restore")


def _ancestry(directory: str) -> list[str]:
    """The directories that disks built on this one need."""
    if not directory:
        return []
    return [directory, *json.loads((Path(directory) / "parents.json").read_text())]


def _write_parents(directory: Path, parents: list[str]) -> None:
    (directory / "parents.json").write_text(json.dumps(parents))


def _collect(lab: Lab) -> None:
    """Remove directories that no entry of this lab, nor the running lab, needs."""
    root = snapshots_dir() / lab.name
    found = lab.state()
    needed = set(_ancestry(found.snapshot)) if found else set()
    for path in root.glob("*/*.json"):
        entry = load(path)
        if entry:
            needed |= {entry.directory, *entry.parents}
    for directory in (root / "files").glob("*"):
        if str(directory) not in needed:
            shutil.rmtree(directory)
