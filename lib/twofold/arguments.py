# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the arguments of intents may be, and with them the parameters of playbooks, which have the same names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .findings import ERROR, Finding

TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
TYPES = {bool: "a truth value", int: "a number", float: "a number", list: "a list", dict: "a mapping"}


@dataclass(frozen=True)
class Kind:
    """How an argument is brought to the one form that is worked with, and what is said of a value that cannot be."""

    read: Callable[[Any], Any]
    may_be: str


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value.strip()


def _scalar(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError
    return str(value).strip()


def _number(value: Any) -> str:
    text = _scalar(value)
    if not text.isdecimal():
        raise ValueError
    return text


def _names(value: Any) -> str:
    parts = value if isinstance(value, (list, tuple)) else _text(value).split(",")
    return ",".join(name for name in map(_text, parts) if name)


def _name(value: Any) -> str:
    name = _names(value)
    if "," in name:
        raise ValueError
    return name


def _truth(value: Any) -> bool:
    word = str(value).strip().lower()
    if word not in TRUTHS:
        raise ValueError
    return TRUTHS[word]


def _wish(value: Any) -> str | bool:
    return value if isinstance(value, bool) else _names(value)


def _packages(value: Any) -> str:
    word = _text(value)
    if word not in ("", "upgrade", "full"):
        raise ValueError
    return word


NAME, NAMES = Kind(_name, "one name"), Kind(_names, "names, with commas or as a list")
TRUTH = Kind(_truth, "true or false")
KINDS = {
    "accept_new": NAMES,
    "accept_stale": NAMES,
    "again": TRUTH,
    "confirm": NAME,
    "confirm_dead": NAMES,
    "disk": Kind(_number, "the number of a disk, like 0"),
    "disk_moves": TRUTH,
    "everything": TRUTH,
    "fence": Kind(_wish, "true, false, or names with commas or as a list"),
    "fix": TRUTH,
    "force": TRUTH,
    "instance": NAME,
    "max_copy": Kind(_scalar, "a size, like 500GiB"),
    "max_moves": Kind(_scalar, "a number, like 5"),
    "mode": Kind(_text, "primaries, secondaries or both"),
    "new_secondary": NAME,
    "node": NAMES,
    "on": Kind(_text, "primary or secondary"),
    "packages": Kind(_packages, "upgrade, full, or neither"),
    "power": Kind(_text, "status, on, off, cycle or health"),
    "rebooted": TRUTH,
    "size": Kind(_scalar, "a size, like 40GiB"),
    "survivor": NAME,
    "target": NAME,
}
# What has to be named, and for which verbs.
NEEDED = {
    "instance": (
        "activate_disks", "deactivate_disks", "drop_kept", "failover", "grow", "migrate", "recreate_disks", "reinstall",
        "replace_disks", "resolve_split_brain",
    ),
    "node": ("depart", "drain", "evacuate", "maintain", "rejoin", "remove_node", "undrain"),
}  # fmt: skip


def read(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Finding]]:
    """Arguments in the one form of their kinds, names as text with commas; and a finding for each that has none."""
    found, wrong = dict(given), list(_missing(given))
    for name in KINDS.keys() & given.keys():
        try:
            found[name] = given[name] if given[name] in (None, "") else KINDS[name].read(given[name])
        except ValueError:
            wrong.append(_wrong(name, given[name]))
    return found, wrong


def _missing(given: Mapping[str, Any]) -> Iterator[Finding]:
    for name, verbs in NEEDED.items():
        if given.get("verb") in verbs and not given.get(name):
            yield Finding(ERROR, "wrong-arguments", "cluster", f"no {name} is named", f"give -e {name}=NAME")


def _wrong(name: str, value: Any) -> Finding:
    what, remedy = TYPES.get(type(value)), f"give {KINDS[name].may_be}"
    if isinstance(value, bool):
        remedy += "; YAML takes words like on, off, yes and no for truth values unless they are quoted"
    message = f"{name} is {value!r}" + (f", {what}" if what else "")
    return Finding(ERROR, "wrong-arguments", "cluster", message, remedy)
