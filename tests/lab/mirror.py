# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package mirror in a lab's network, made of what this host has downloaded for images; bare nodes install from it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from . import image
from .command import run
from .paths import file_digest
from .process import Process

if TYPE_CHECKING:
    from .core import Lab

ADDRESS, PORT = "192.0.2.1", "80"
# Only what apt needs to choose and check a package.
DROPPED = ("Description", "Homepage", "Tag", "Original-Maintainer")


def write(directory: Path, release: str) -> int:
    """Make a flat repository of a release below the directory; return how many packages it has."""
    flat = directory / release
    flat.mkdir(parents=True)
    debs = sorted(image.debs_dir(release).glob("*.deb"))
    packages = flat / "Packages"
    with packages.open("w", encoding="utf-8") as index:
        for deb in debs:
            (flat / deb.name).symlink_to(deb)
            index.write(entry(deb))
    # mmdebstrap looks for essential packages in the release that it was told, by this file's word.
    (flat / "Release").write_text(release_file(release, packages), encoding="utf-8")
    return len(debs)


def release_file(name: str, packages: Path) -> str:
    """What vouches for the index of a flat repository."""
    return f"Suite: {name}\nCodename: {name}\nSHA256:\n {file_digest(packages)} {packages.stat().st_size} Packages\n"


def entry(deb: Path) -> str:
    """A package's paragraph in the index of a flat repository."""
    where = f"Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {file_digest(deb)}\n\n"
    return _fields(deb) + where


def _fields(deb: Path) -> str:
    kept, keep = [], True
    for line in run(["dpkg-deb", "--field", deb]).stdout.splitlines():
        if not line.startswith(" "):
            keep = line.split(":", 1)[0] not in DROPPED
        if keep:
            kept.append(line)
    return "\n".join(kept) + "\n"


def start(lab: Lab, release: str) -> None:
    """Serve the packages of a release in the lab's network until the lab is down."""
    directory = lab.directory / "mirror"
    shutil.rmtree(directory, ignore_errors=True)
    write(directory, release)
    # Through a shell, so that the server is nobody's child who forgets to wait for it.
    line = 'log=$1; shift; "$@" > "$log" 2>&1 < /dev/null & echo $!'
    done = run(["sh", "-c", line, "sh", lab.runtime / "mirror.log", *_server(lab, directory)])
    Process.of(int(done.stdout)).save(lab.runtime / "mirror.pid")


def _server(lab: Lab, directory: Path) -> list[str]:
    argv = [sys.executable, "-m", "http.server", PORT, "--bind", ADDRESS, "--directory", str(directory)]
    return lab.namespace_argv(argv)


@contextmanager
def serve(lab: Lab, directory: Path) -> Iterator[None]:
    """Serve a directory of repositories in the lab's network."""
    server = subprocess.Popen(_server(lab, directory), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
