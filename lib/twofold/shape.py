# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether what a node answered has the shape that its format says: a node may be broken, or not ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# A type, or several; a list of one shape; a mapping of keys, those with OPTIONAL at the end may be missing.
OPTIONAL = "?"
Shape = Any
NUMBER, TEXT = int, str
MAYBE_TEXT, MAYBE_NUMBER = (str, type(None)), (int, type(None))


@dataclass(frozen=True)
class Each:
    """A mapping of texts to values of one shape, or nothing where that is allowed."""

    shape: Shape
    optional: bool = False


def problem(value: Any, shape: Shape, path: str) -> str | None:
    """What is wrong with a value, named by its path; None if nothing is."""
    if isinstance(shape, Each):
        if value is None and shape.optional:
            return None
        return _mapping(value, dict.fromkeys(value, shape.shape) if isinstance(value, dict) else {}, path)
    if isinstance(shape, dict):
        return _mapping(value, shape, path)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{path} is not a list"
        found = (problem(one, shape[0], f"{path}[{index}]") for index, one in enumerate(value))
        return next((text for text in found if text), None)
    if not isinstance(value, shape) or (isinstance(value, bool) and shape is not bool):
        return f"{path} is a {type(value).__name__}"
    return None


def _mapping(value: Any, shapes: dict[str, Shape], path: str) -> str | None:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        return f"{path} is not a mapping"
    for key, shape in shapes.items():
        name = key.removesuffix(OPTIONAL)
        if name not in value:
            if name == key:
                return f"{path}.{name} is missing"
        elif text := problem(value[name], shape, f"{path}.{name}"):
            return text
    return None


_DISK = {"index": NUMBER, "size": NUMBER, "volume_group": Each(TEXT), "minor": Each(NUMBER, optional=True)}
_NIC = {"index": NUMBER, "mac": TEXT, "network": TEXT, "bridge": TEXT, "address": MAYBE_TEXT}
_DEFINITION = {
    "name": TEXT, "generation": NUMBER, "nodes": [TEXT], "state": TEXT, "memory": NUMBER, "vcpus": NUMBER,
    "disk_template": TEXT, "port": MAYBE_NUMBER, "disks": [_DISK], "nics": [_NIC], "os": MAYBE_TEXT, "domain_xml": TEXT,
    "replication_config": MAYBE_TEXT, "secret_digest": MAYBE_TEXT, "seed_digest": MAYBE_TEXT,
}  # fmt: skip
_SHARE = (int, float, type(None))
_VOLUME = {
    "volume": NUMBER, "minor": MAYBE_NUMBER, "disk?": MAYBE_TEXT, "peer_disk?": MAYBE_TEXT, "done?": _SHARE,
    "backing?": MAYBE_TEXT, "uuids?": MAYBE_TEXT, "out_of_sync?": MAYBE_NUMBER,
}  # fmt: skip
_RESOURCE = {
    "volumes": [_VOLUME], "role?": MAYBE_TEXT, "peer_role?": MAYBE_TEXT, "connection?": MAYBE_TEXT,
    "peer_address?": MAYBE_TEXT, "config?": MAYBE_TEXT, "secret_digest?": MAYBE_TEXT,
    "options?": Each(TEXT, optional=True),
}  # fmt: skip
_DOMAIN = {"uuid": TEXT, "state": TEXT, "memory?": MAYBE_NUMBER, "vcpus?": MAYBE_NUMBER, "xml?": MAYBE_TEXT}
# The parts of an observed document, as architecture.md describes them.
OBSERVED: dict[str, Shape] = {
    "hostname": TEXT,
    "memory": {"total": NUMBER},
    "volume_groups": Each({"size": NUMBER, "free": NUMBER, "extent": NUMBER}),
    "volumes": [{"volume_group": TEXT, "name": TEXT, "size": NUMBER, "tags": [TEXT]}],
    "resources": Each(_RESOURCE),
    "domains": Each(_DOMAIN),
    "definitions": Each(_DEFINITION),
    "seeds": Each(TEXT),
    "bridges": [TEXT],
    "images": [TEXT],
    "journal": [dict],
    "maintenance": {"boot": TEXT, "holder": TEXT, "time": (int, float)},
    "rolling": {"packages": TEXT, "boots": Each(TEXT), "upgraded?": TEXT},
    "problems": [dict],
}


def observed_part(part: str, value: Any) -> str | None:
    """What is wrong with a part of an observed document; None if nothing is, or if the part is not described."""
    wrong = problem(value, OBSERVED[part], part) if part in OBSERVED else None
    if wrong is None and part == "definitions":
        found = (_contradiction(name, document) for name, document in value.items())
        wrong = next((text for text in found if text), None)
    return wrong


def _contradiction(name: str, document: dict[str, Any]) -> str | None:
    """What does not fit together in a definition."""
    path, nodes, replicated = f"definitions.{name}", set(document["nodes"]), document["disk_template"] == "drbd"
    if document["name"] != name or not nodes:
        return f"{path} is of {document['name']!r} on {len(nodes)} nodes"
    if replicated and (document["port"] is None or document["replication_config"] is None):
        return f"{path} has no port or no configuration for DRBD"
    for index, disk in enumerate(document["disks"]):
        minors = nodes if not replicated else set(disk["minor"] or ())
        if disk["index"] != index or not nodes <= set(disk["volume_group"]) or not nodes <= minors:
            return f"{path}.disks[{index}] does not fit its nodes"
    return None


_STEP = {
    "id": TEXT, "node": TEXT, "instance": MAYBE_TEXT, "op": TEXT, "args": dict, "needs": [TEXT], "always": bool,
    "class": TEXT, "why": TEXT, "risk": MAYBE_TEXT, "bytes": NUMBER, "wave": NUMBER,
    "generation": MAYBE_NUMBER,
}  # fmt: skip
# A plan as it stands in a file.
PLAN: Shape = {
    "intent": dict, "fingerprint": TEXT, "based_on": Each(TEXT), "steps": [_STEP],
    "findings": [{"severity": TEXT, "code": TEXT, "object": TEXT, "message": TEXT, "remedy": TEXT}],
    "summary": [{"instance": TEXT, "change": TEXT, "on": [TEXT], "why": TEXT}],
}  # fmt: skip
