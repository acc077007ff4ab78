# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether what a node answered has the shape that its format says: a node may be broken, or not ours."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from .model import DiskTemplate, State

# A type, or several; a sort; a list of one shape, or of several, as many; a mapping of keys, those with OPTIONAL at the
# end may be missing.
OPTIONAL = "?"
Shape = Any
FORMAT = 1


@dataclass(frozen=True)
class Each:
    """A mapping of texts to values of one shape, or nothing where that is allowed."""

    shape: Shape
    optional: bool = False


@dataclass(frozen=True)
class Maybe:
    """A value of a shape, or nothing."""

    shape: Shape


@dataclass(frozen=True)
class Sort:
    """A value that a test accepts, in words, or nothing where that is allowed."""

    accepts: Callable[[Any], bool]
    words: str
    optional: bool = False


def problem(value: Any, shape: Shape, path: str) -> str | None:
    """What is wrong with a value, named by its path; None if nothing is."""
    if isinstance(shape, Each):
        if value is None and shape.optional:
            return None
        return _mapping(value, dict.fromkeys(value, shape.shape) if isinstance(value, dict) else {}, path)
    if isinstance(shape, Maybe):
        return None if value is None else problem(value, shape.shape, path)
    if isinstance(shape, dict):
        return _mapping(value, shape, path)
    if isinstance(shape, list):
        return _list(value, shape, path)
    if isinstance(shape, Sort):
        fits = (value is None and shape.optional) or shape.accepts(value)
        return None if fits else f"{path} is not {shape.words}"
    if not isinstance(value, shape) or (isinstance(value, bool) and shape is not bool):
        return f"{path} is a {type(value).__name__}"
    return None


def _list(value: Any, shapes: list[Shape], path: str) -> str | None:
    if not isinstance(value, list) or len(shapes) not in (1, len(value)):
        return f"{path} is not a list" + (f" of {len(shapes)}" if len(shapes) > 1 else "")
    each = shapes if len(shapes) > 1 else shapes * len(value)
    found = (
        problem(one, shape, f"{path}[{index}]") for index, (one, shape) in enumerate(zip(value, each, strict=True))
    )
    return next((text for text in found if text), None)


def _mapping(value: Any, shapes: dict[str, Shape], path: str) -> str | None:
    if not isinstance(value, dict) or not all(map(_is_text, value)):
        return f"{path} is not a mapping of texts"
    for key, shape in shapes.items():
        name = key.removesuffix(OPTIONAL)
        if name not in value:
            if name == key:
                return f"{path}.{name} is missing"
        elif text := problem(value[name], shape, f"{path}.{name}"):
            return text
    return None


def _is_text(value: Any) -> bool:
    # JSON can hold halves of characters, which nobody can write or show.
    return isinstance(value, str) and (value.isascii() or not _HALVES.search(value))


def _is_whole(value: Any, limit: int = 1 << 63) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < limit


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_address(value: Any) -> bool:
    try:
        return isinstance(value, str) and "%" not in value and ipaddress.ip_address(value) is not None
    except ValueError:
        return False


def _matches(pattern: str, words: str, *, optional: bool = False) -> Sort:
    return Sort(lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None, words, optional)


def _one_of(values: tuple[str, ...]) -> Sort:
    return Sort(lambda value: isinstance(value, str) and value in values, f"one of {', '.join(values)}")


_HALVES = re.compile("[\ud800-\udfff]")
TEXT, MAYBE_TEXT = (Sort(_is_text, "a text", optional) for optional in (False, True))
NUMBER, MAYBE_NUMBER = (
    Sort(_is_whole, "a whole number of a size that there is", optional) for optional in (False, True)
)
REAL, MAYBE_REAL = (Sort(_is_number, "a number", optional) for optional in (False, True))
_MINOR = Sort(lambda value: _is_whole(value, 1 << 20), "a minor of DRBD")
_PORT = Sort(lambda value: _is_whole(value, 1 << 16), "a port", optional=True)
_ADDRESS = Sort(_is_address, "an address", optional=True)
_HOSTNAME = _matches(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", "a host name")
_UUIDS = _matches(r"[0-9A-Fa-f]{1,16}(:[0-9A-Fa-f]{1,16})*", "identifiers of DRBD", optional=True)
_TAG = _matches(r"[A-Za-z0-9_+.:=/!#&-]{1,1024}", "a tag of LVM")
_DISK = {"index": NUMBER, "size": NUMBER, "volume_group": Each(TEXT), "minor": Each(_MINOR, optional=True)}
_NIC = {"index": NUMBER, "mac": TEXT, "network": TEXT, "bridge": TEXT, "address": _ADDRESS}
_DEFINITION = {
    "name": TEXT, "generation": NUMBER, "cluster": TEXT, "nodes": [TEXT], "state": _one_of(get_args(State)),
    "memory": NUMBER, "vcpus": NUMBER, "disk_template": _one_of(get_args(DiskTemplate)), "port": _PORT,
    "disks": [_DISK], "nics": [_NIC], "os": MAYBE_TEXT, "domain_xml": TEXT, "replication_config": MAYBE_TEXT,
    "secret_digest": MAYBE_TEXT, "seed_digest": MAYBE_TEXT, "uuid?": TEXT, "priority?": int, "home?": TEXT,
    "moving_to?": TEXT, "took_over?": TEXT, "os_owed_on?": TEXT, "born?": TEXT,
}  # fmt: skip
_VOLUME = {
    "volume": NUMBER, "minor": Sort(_MINOR.accepts, _MINOR.words, optional=True), "disk?": MAYBE_TEXT,
    "peer_disk?": MAYBE_TEXT, "done?": MAYBE_REAL, "backing?": MAYBE_TEXT, "uuids?": _UUIDS,
    "out_of_sync?": MAYBE_NUMBER,
}  # fmt: skip
_RESOURCE = {
    "volumes": [_VOLUME], "role?": MAYBE_TEXT, "peer_role?": MAYBE_TEXT, "connection?": MAYBE_TEXT,
    "peer_address?": MAYBE_TEXT, "config?": MAYBE_TEXT, "secret_digest?": MAYBE_TEXT,
    "options?": Each(TEXT, optional=True), "allow_two_primaries?": bool, "configured?": bool,
}  # fmt: skip
_DOMAIN = {
    "uuid": TEXT, "state": TEXT, "memory?": MAYBE_NUMBER, "vcpus?": MAYBE_NUMBER, "xml?": MAYBE_TEXT,
    "persistent?": bool, "autostart?": bool, "migrating?": bool, "stranded?": bool,
}  # fmt: skip
_GROUP = {"size": NUMBER, "free": NUMBER, "extent": NUMBER, "missing?": NUMBER}
_ENTRY = {"key?": TEXT, "holder?": MAYBE_TEXT, "running?": bool, "step?": {"id?": MAYBE_TEXT}}
# The parts of an observed document, as architecture.md describes them.
OBSERVED: dict[str, Shape] = {
    "node": TEXT,
    "hostname": _HOSTNAME,
    "time": REAL,
    "asked": [REAL, REAL],
    "boot_id": TEXT,
    "uptime": REAL,
    "versions": Each(MAYBE_TEXT),
    "kernels": [TEXT],
    "reboot_required": bool,
    "kvm": bool,
    "memory": {"total": NUMBER, "available?": MAYBE_NUMBER},
    "cpus": NUMBER,
    "load": REAL,
    "volume_groups": Each(_GROUP),
    "volumes": [
        {"volume_group": TEXT, "name": TEXT, "size": NUMBER, "tags": [_TAG], "open?": bool, "unchanged?": bool}
    ],
    "resources": Each(_RESOURCE),
    "domains": Each(_DOMAIN),
    "definitions": Each(object),
    "seeds": Each(TEXT),
    "images": [TEXT],
    "bridges": [TEXT],
    "addresses": [Sort(_is_address, "an address")],
    "journal": [_ENTRY],
    "left_off": Each({"reason": TEXT, "remedy": TEXT}),
    "lock": {"holder": TEXT, "run?": TEXT, "time?": REAL, "uptime?": REAL, "lease?": REAL, "expired?": bool},
    "certificates": [{"paths": [TEXT], "pem": MAYBE_TEXT}],
    "maintenance": {"boot": TEXT, "holder": TEXT, "time?": REAL},
    "rolling": {"packages": TEXT, "boots": Each(TEXT), "upgraded?": TEXT},
    "problems": [{"object": TEXT, "message": TEXT, "remedy?": MAYBE_TEXT}],
}


def observed_part(part: str, value: Any) -> str | None:
    """What is wrong with a part of an observed document; None if nothing is. Definitions are looked at one by one."""
    return problem(value, OBSERVED[part], part)


def named(value: Any, shape: Shape) -> Any:
    """What a shape names in a value that has it: what else a node may say there is not passed on."""
    if isinstance(shape, Maybe):
        return None if value is None else named(value, shape.shape)
    if isinstance(shape, Each) and value is not None:
        return {key: named(one, shape.shape) for key, one in value.items()}
    if isinstance(shape, dict) and value is not None:
        inner = {key.removesuffix(OPTIONAL): one for key, one in shape.items()}
        return {key: named(one, inner[key]) for key, one in value.items() if key in inner}
    if isinstance(shape, list) and value is not None:
        each = shape if len(shape) > 1 else shape * len(value)
        return [named(one, inner) for one, inner in zip(value, each, strict=True)]
    return value


def definition(name: str, document: Any) -> str | None:
    """What is wrong with an instance's definition; None if nothing is."""
    if not isinstance(document, dict):
        return f"it is a {type(document).__name__}"
    if document.get("format") != FORMAT:
        return f"its format is {document.get('format')!r}, not {FORMAT}"
    if document.get("name") != name:
        return f"it is that of {document.get('name')!r}"
    wrong = problem(document, _DEFINITION, "")
    return wrong.removeprefix(".") if wrong is not None else _contradiction(document)


def _contradiction(document: dict[str, Any]) -> str | None:
    """What does not fit together in a definition."""
    nodes, replicated = set(document["nodes"]), document["disk_template"] == "drbd"
    if not nodes or len(nodes) != len(document["nodes"]):
        return f"its nodes are {', '.join(document['nodes']) or 'none'}"
    if replicated and len(nodes) != 2:
        return f"its nodes are {', '.join(document['nodes'])}; an instance on drbd has two"
    if replicated and (document["port"] is None or document["replication_config"] is None):
        return "it has no port or no configuration for DRBD"
    for index, disk in enumerate(document["disks"]):
        minors = nodes if not replicated else set(disk["minor"] or ())
        if disk["index"] != index or not nodes <= set(disk["volume_group"]) or not nodes <= minors:
            return f"disks[{index}] does not fit its nodes"
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
# What a node answers to a call that carries out steps, and when it refuses to carry out any.
_RESULT = {
    "id": TEXT, "status": _one_of(("changed", "unchanged", "failed", "skipped")), "message?": MAYBE_TEXT,
    "remedy?": MAYBE_TEXT, "seconds?": REAL, "data?": dict,
}  # fmt: skip
ANSWER: Shape = {"results": [_RESULT], "changed": bool, "lock": _one_of(("held", "released", "refused"))}
_CHANGE = {"object": TEXT, "message": TEXT, "diff": Each(TEXT, optional=True)}
_PROBLEM = {
    "code": TEXT, "object": TEXT, "message": TEXT, "remedy": TEXT, "severity?": _one_of(("error", "warning")),
    "peer?": MAYBE_TEXT,
}  # fmt: skip
# What a node answers when its configuration is inspected, and when it is changed.
INSPECTED: Shape = {
    "problems": [_PROBLEM], "changes": [_CHANGE], "facts": Each(TEXT), "clock": [REAL, REAL],
    "credentials": Each({"certificate": MAYBE_TEXT, "problem": MAYBE_TEXT}),
}  # fmt: skip
CONFIGURED: Shape = {"changes": [_CHANGE]}
# What it answers when its lock is broken.
UNLOCKED: Shape = {
    "lock": Maybe(
        {"holder": TEXT, "run": TEXT, "age": REAL, "time?": REAL, "uptime?": REAL, "lease?": REAL, "damaged?": bool}
    ),
}
