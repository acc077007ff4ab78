# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run: one plan being applied, kept in a directory of the control host that only its owner can read.

The plan and every node's results stand in files of their own, so that each node's next call can see what became of the
steps of the other nodes without anything being passed through variables. It holds no secrets. A run that was killed
leaves only this directory; what was going on is in the nodes' journals. Private to the collection.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any, cast

Document = dict[str, Any]


class Run:
    """The directory of a run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def start(cls, plan: Document) -> Run:
        """Make the directory for a new run of ``plan``."""
        run = cls(tempfile.mkdtemp(prefix="twofold-run-"))
        run._write("plan.json", plan)
        run._write("run.json", {"id": secrets.token_hex(8), "holder": holder()})
        return run

    @property
    def plan(self) -> Document:
        """The plan document."""
        return self._read("plan.json")

    @property
    def identity(self) -> Document:
        """The run's ``id`` and ``holder``."""
        return self._read("run.json")

    def record(self, node: str, wave: int, answer: Document) -> None:
        """Keep the answer of a node's call in a wave."""
        self._write(f"answer-{wave:04d}-{node}.json", answer)

    def answers(self) -> list[tuple[str, Document]]:
        """Return (node, answer) of all calls so far, in the order of waves."""
        names = sorted(self.path.glob("answer-*.json"))
        return [(path.stem.split("-", 2)[2], self._read(path.name)) for path in names]

    def results(self) -> dict[str, Document]:
        """Return the result of every step so far, by the step's id."""
        return {result["id"]: result for _ignored, answer in self.answers() for result in answer["results"]}

    def finish(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _read(self, name: str) -> Document:
        return cast(Document, json.loads((self.path / name).read_text(encoding="utf-8")))

    def _write(self, name: str, document: Document) -> None:
        new = self.path / f".{name}.new"
        new.write_text(json.dumps(document), encoding="utf-8")
        os.replace(new, self.path / name)


def holder() -> str:
    """Return who runs this, for locks: user@host."""
    return f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}"
