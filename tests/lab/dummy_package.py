# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package that is worth nothing, in a repository on the node itself, which is all that its apt knows."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

from . import mirror
from .command import run

if TYPE_CHECKING:
    from .core import Lab

NAME = "twofold-dummy"
FOLDER = "/srv/twofold-dummy"
# A package that waits says so here, and goes on when the other file is there.
WAITING, GO = "/run/twofold-dummy-waits", "/var/tmp/twofold-dummy-go"
SECONDS = 1200
WAIT = f"""#!/bin/sh
touch {WAITING}
seconds=0
while [ ! -e {GO} ] && [ "$seconds" -lt {SECONDS} ]; do sleep 1; seconds=$((seconds + 1)); done
rm {WAITING}
"""


def build(directory: Path, version: str, *, waits: bool = False) -> Path:
    """Make the package; with `waits` its installation does not end before it is told to."""
    control = directory / f"{NAME}-{version}" / "DEBIAN"
    control.mkdir(parents=True)
    fields = {
        "Package": NAME, "Version": version, "Architecture": "all", "Maintainer": "Nobody <nobody@example.com>",
        "Description": "a package that is worth nothing",
    }  # fmt: skip
    (control / "control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()), encoding="utf-8")
    if waits:
        (control / "postinst").write_text(WAIT, encoding="utf-8")
        (control / "postinst").chmod(0o755)
    # Whatever the umask is, apt's own user has to get there.
    control.chmod(0o755)
    deb = directory / f"{NAME}_{version}_all.deb"
    run(["dpkg-deb", "--root-owner-group", "--build", control.parent, deb])
    return deb


def offer(lab: Lab, node: str, deb: Path) -> None:
    """Make the package the only one that the node's apt can get."""
    lab.run(node, f"rm -rf {FOLDER} /etc/apt/sources.list /etc/apt/sources.list.d/*; mkdir -p {FOLDER}")
    encoded = base64.b64encode(deb.read_bytes()).decode()
    lab.run(node, f"base64 --decode > {FOLDER}/{deb.name}", stdin=encoded)
    packages = deb.with_suffix(".packages")
    packages.write_text(mirror.entry(deb), encoding="utf-8")
    lab.put(node, f"{FOLDER}/Packages", packages.read_text(encoding="utf-8"))
    lab.put(node, f"{FOLDER}/Release", mirror.release_file(NAME, packages))
    lab.put(node, "/etc/apt/sources.list", f"deb [trusted=yes] file:{FOLDER} ./\n")


def install(lab: Lab, node: str, deb: Path) -> None:
    """Install the package as somebody would by hand."""
    offer(lab, node, deb)
    lab.run(node, f"dpkg --install {FOLDER}/{deb.name}")


def installed(lab: Lab, node: str) -> str:
    """Return the version and state that the node's dpkg knows, like `2.0 installed`."""
    return lab.run(node, f"dpkg-query --show --showformat '${{Version}} ${{db:Status-Status}}' {NAME}").stdout.strip()


def waits(lab: Lab, node: str) -> bool:
    """Return whether the package is just being installed on a node."""
    return lab.run(node, f"test -e {WAITING}", check=False).returncode == 0


def go_on(lab: Lab, *nodes: str) -> None:
    """Let installations on the nodes come to their end, also those that begin later."""
    for node in nodes:
        lab.run(node, f"touch {GO}")
