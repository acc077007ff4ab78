# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The definitions of instances on a node."""

from __future__ import annotations

from typing import Any

from ._errors import ParseFailed, Refused
from ._files import STATE, Files, read_json, write_json
from ._names import instance_name

FOLDER = f"{STATE}/instances"


def path(name: str) -> str:
    return f"{FOLDER}/{instance_name(name)}.json"


def read(files: Files, name: str) -> dict[str, Any] | None:
    return read_json(files, path(name))


def read_all(files: Files) -> dict[str, dict[str, Any]]:
    found = {}
    for file in files.names(FOLDER):
        if file.endswith(".json"):
            document = read_json(files, f"{FOLDER}/{file}")
            if document is not None and document.get("name") != file[: -len(".json")]:
                raise ParseFailed(f"{FOLDER}/{file}", str(document), "it is not of this instance")
            if document is not None:
                found[file[: -len(".json")]] = document
    return found


def write(files: Files, document: dict[str, Any]) -> None:
    write_json(files, path(document["name"]), document, 0o600)


def remove(files: Files, name: str) -> bool:
    return files.remove(path(name))


def require_generation(name: str, present: dict[str, Any] | None, accepted: set[int | None]) -> None:
    """What somebody changed meanwhile is not overwritten, nor anything done for want of it."""
    if present is None or present.get("generation") in accepted:
        return
    known = ", ".join(str(one) for one in sorted(one for one in accepted if one is not None)) or "none"
    message = f"the definition of {name} on this node has generation {present.get('generation')}, expected was {known}"
    raise Refused(message, "somebody changed it meanwhile; plan again")


def taken(document: dict[str, Any], node: str) -> set[tuple[str, int]]:
    """The numbers that a definition reserves on a node: minors and the port."""
    found: set[tuple[str, int]] = set()
    if document.get("port") is not None:
        found.add(("port", int(document["port"])))
    for disk in document.get("disks") or []:
        minor = (disk.get("minor") or {}).get(node)
        if minor is not None:
            found.add(("minor", int(minor)))
    return found
