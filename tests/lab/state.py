# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab remembers between two commands: which machines it has and from what they were made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .image import Image
from .machine import Shape
from .paths import boot_id, runtime_dir, write_atomically
from .topology import Machine, machines


@dataclass
class State:
    """One lab that is up."""

    nodes: int
    outsider: bool
    release: str
    bare: bool
    image_key: str
    image_directory: str
    shape: Shape = field(default_factory=Shape)
    # The snapshot on which the disks are built; '' for a fresh lab.
    snapshot: str = ""
    boot: str = field(default_factory=boot_id)
    # Set once every machine has answered.
    ready: bool = False

    @property
    def image(self) -> Image:
        return Image(self.image_key, Path(self.image_directory))

    @property
    def machines(self) -> list[Machine]:
        return machines(self.nodes, self.outsider)

    def configuration(self) -> dict[str, object]:
        """What another lab must have in common to restore this one's snapshots."""
        shape = self.shape.document()
        return {"nodes": self.nodes, "outsider": self.outsider, "image": self.image_key, **shape}


def path(name: str) -> Path:
    return runtime_dir(name) / "state.json"


def load(name: str) -> State | None:
    """The state of a lab, or None if it is not up or was lost with a restart of the host."""
    try:
        document = json.loads(path(name).read_text())
        document["shape"] = Shape(**document["shape"])
        state = State(**document)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return state if state.boot == boot_id() else None


def save(name: str, state: State) -> None:
    write_atomically(path(name), json.dumps(asdict(state), indent=1))
