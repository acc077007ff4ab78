# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What differs between wanted and observed, in the fields that are ours; libvirt and DRBD may add what they like."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from ..domain_xml import parse
from ..model import ReplicationSettings
from ..render import replication

# What tells two elements of the same kind apart: a path below the element, and an attribute.
KEYS: dict[str, tuple[tuple[str, str], ...]] = {
    "disk": (("target", "dev"),),
    "interface": (("mac", "address"),),
    "controller": ((".", "type"), (".", "index")),
    "timer": ((".", "name"),),
    "channel": (("target", "name"),),
    "console": (("target", "type"), ("target", "port")),
    "serial": (("target", "port"),),
}
# Devices that libvirt never adds on its own.
OURS = ("disk", "interface", "hostdev", "filesystem", "graphics", "redirdev", "shmem", "vsock", "smartcard", "lease")
_SCALE = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
SHOWN = 4


def domain(wanted: str, observed: str) -> list[str]:
    """What of the wanted domain XML is not so in the observed one, each as `path: wanted, is`."""
    try:
        found = parse(observed)
    except ET.ParseError:
        return ["the domain's XML cannot be read"]
    return list(_element(parse(wanted), found, ""))


def extra_devices(wanted: str, observed: str) -> list[str]:
    """Devices of the observed domain that are not wanted, as `disk vdb`."""
    return sorted(devices(observed) - devices(wanted))


def devices(xml: str) -> set[str]:
    """The devices of a domain that libvirt never adds on its own, as `disk vdb`; none if the XML cannot be read."""
    try:
        found = parse(xml).find("devices")
    except ET.ParseError:
        return set()
    return {_label(child) for child in (found if found is not None else ()) if child.tag in OURS}


def _key(element: ET.Element) -> tuple[str | None, ...]:
    values = []
    for path, attribute in KEYS.get(element.tag, ()):
        target = element.find(path)
        values.append(None if target is None else target.get(attribute))
    return tuple(values)


def _label(element: ET.Element) -> str:
    key = " ".join(value for value in _key(element) if value)
    return f"{element.tag} {key}" if key else element.tag


def _element(wanted: ET.Element, found: ET.Element, path: str) -> Iterator[str]:
    for name, value in wanted.attrib.items():
        actual = found.get(name)
        if not _same_attribute(wanted.tag, name, value, actual):
            yield f"{path or wanted.tag}@{name} should be {value!r}, is {actual!r}"
    text, actual_text = (wanted.text or "").strip(), (found.text or "").strip()
    if text and text != actual_text:
        yield f"{path} should be {text!r}, is {actual_text!r}"
    unused = list(found)
    for child in wanted:
        below = f"{path}/{_label(child)}" if path else _label(child)
        match = _best(child, unused)
        if match is None:
            yield f"{below} is missing"
        else:
            unused.remove(match)
            yield from _element(child, match, below)


def _best(wanted: ET.Element, candidates: list[ET.Element]) -> ET.Element | None:
    """The element of the same kind and key that differs least; what the key leaves open, libvirt may choose."""
    same = [element for element in candidates if element.tag == wanted.tag and _matches(_key(wanted), _key(element))]
    return min(same, key=lambda element: sum(1 for _ignored in _element(wanted, element, "")), default=None)


def _matches(key: tuple[str | None, ...], found: tuple[str | None, ...]) -> bool:
    return all(part is None or part == other for part, other in zip(key, found, strict=True))


def _same_attribute(tag: str, name: str, wanted: str, actual: str | None) -> bool:
    if wanted == actual:
        return True
    if tag == "type" and name == "machine" and actual is not None:
        # libvirt turns the alias into the newest version that QEMU has.
        return bool(re.fullmatch(rf"pc-{re.escape(wanted)}-[0-9.]+.*", actual))
    return False


def options(settings: ReplicationSettings, observed: dict[str, str]) -> list[str]:
    """Running DRBD options that are not as wanted; options that the node did not tell are not compared."""
    wanted = {name: value for found in replication.options(settings).values() for name, value in found.items()}
    wanted.pop("shared-secret")
    return [
        f"{name} should be {value}, is {observed[name]}"
        for name, value in wanted.items()
        if name in observed and _number(value) != _number(observed[name])
    ]


def _number(text: str) -> str | int:
    match = re.fullmatch(r"(\d{1,18})([kmg]?)", text.strip().strip('"').lower())
    return int(match[1]) * _SCALE[match[2]] if match else text.strip().strip('"')


def config(wanted: str, observed: str | None) -> str | None:
    """The first difference of a resource's text, or None."""
    if observed is None:
        return "the file is missing"
    ours, theirs = _lines(wanted), _lines(observed)
    for line, other in zip(ours, theirs, strict=False):
        if line != other:
            return f"{line!r} is wanted, the file has {other!r}"
    if len(ours) != len(theirs):
        return f"the file has {len(theirs)} lines, {len(ours)} are wanted"
    return None


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def shown(differences: list[str]) -> str:
    """A few differences in one line."""
    rest = len(differences) - SHOWN
    return "; ".join(differences[:SHOWN]) + (f"; and {rest} more" if rest > 0 else "")
