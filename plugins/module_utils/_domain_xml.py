# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Comparing a domain's XML with what is wanted.

libvirt completes what it is given: addresses, controllers, defaults. So a domain is as wanted when everything that is
wanted is in it, with the same value, and when it has no device of the kinds that carry a guest's disks, networks and
host devices beyond the wanted ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._errors import UsageError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

COUNTED = ("disk", "interface", "hostdev", "filesystem", "redirdev", "shmem", "vsock")
# Elements of which there are several, told apart by these.
KEYS = {
    "disk": ("target/@dev",),
    "interface": ("mac/@address",),
    "controller": ("@type", "@index"),
    "feature": ("@name",),
    "timer": ("@name",),
    "boot": ("@dev",),
}


def parse(text: str) -> Element:
    from xml.etree import ElementTree

    try:
        return ElementTree.fromstring(text)  # noqa: S314 - from libvirt or the operator; expat limits it
    except ElementTree.ParseError as error:
        raise UsageError(f"the XML of the domain cannot be read: {error}", "correct the XML") from error


def name_of(text: str) -> str:
    """The domain's name."""
    name = parse(text).findtext("name")
    if not name:
        raise UsageError("the XML of the domain has no name", "add <name>")
    return name


def differences(wanted: str, found: str) -> list[str]:
    """What is wanted and not found, and devices that are found and not wanted; empty when it is as wanted."""
    one, other = parse(wanted), parse(found)
    result: list[str] = []
    _compare(one, other, one.tag, result)
    _count(one, other, result)
    return result


def _compare(wanted: Element, found: Element, path: str, result: list[str]) -> None:
    for name, value in wanted.attrib.items():
        if name == "unit" and wanted.tag in SIZES:
            continue
        if found.get(name) != value and not _is_alias(name, value, found.get(name)):
            result.append(f"{path}/@{name}: {found.get(name)} instead of {value}")
    text = (wanted.text or "").strip()
    if text and len(wanted) == 0 and _text(found) != _text(wanted):
        result.append(f"{path}: {_text(found)} instead of {_text(wanted)}")
    rest = list(found)
    for child in wanted:
        match = _match(child, rest)
        label = f"{path}/{child.tag}{_label(child)}"
        if match is None:
            result.append(f"{label}: missing")
        else:
            rest.remove(match)
            _compare(child, match, label, result)


def _is_alias(attribute: str, wanted: str, found: str | None) -> bool:
    """libvirt turns q35 or pc into the newest version of it that QEMU has."""
    aliases = {"q35": "pc-q35-", "pc": "pc-i440fx-"}
    return attribute == "machine" and wanted in aliases and (found or "").startswith(aliases[wanted])


def _text(element: Element) -> str:
    """Memory is compared in bytes, whatever its unit."""
    text = (element.text or "").strip()
    if element.tag in SIZES and text.isdigit():
        return str(int(text) * UNITS.get(element.get("unit", "KiB"), 1024))
    return text


SIZES = ("memory", "currentMemory", "maxMemory")
UNITS = {
    "b": 1, "bytes": 1, "KB": 1000, "k": 1024, "KiB": 1024, "M": 1 << 20, "MiB": 1 << 20, "G": 1 << 30, "GiB": 1 << 30,
}  # fmt: skip


def _match(child: Element, candidates: list[Element]) -> Element | None:
    """The element that this one should be compared with."""
    same = [one for one in candidates if one.tag == child.tag]
    keys = KEYS.get(str(child.tag))
    if keys:
        wanted = [_key(child, key) for key in keys]
        for one in same:
            if all(value is None or _key(one, key) == value for key, value in zip(keys, wanted)):
                return one
        return None
    for one in same:
        quiet: list[str] = []
        _compare(child, one, "", quiet)
        if not quiet:
            return one
    return same[0] if same else None


def _key(element: Element, key: str) -> str | None:
    path, _ignored, attribute = key.rpartition("@")
    place = element.find(path.rstrip("/")) if path else element
    return None if place is None else place.get(attribute)


def _label(element: Element) -> str:
    values = [_key(element, key) for key in KEYS.get(str(element.tag), ())]
    shown = ",".join(value for value in values if value)
    return f"[{shown}]" if shown else ""


def _count(wanted: Element, found: Element, result: list[str]) -> None:
    for kind in COUNTED:
        few, many = len(wanted.findall(f"devices/{kind}")), len(found.findall(f"devices/{kind}"))
        if many > few:
            result.append(f"domain/devices: {many} of {kind} instead of {few}")


def disk_sources(text: str) -> list[tuple[str, str, bool]]:
    """The block devices of a domain: target, source, and whether the guest can write."""
    found = []
    for disk in parse(text).findall("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        if source is not None and target is not None and source.get("dev"):
            writable = disk.find("readonly") is None and disk.get("device", "disk") == "disk"
            found.append((target.get("dev", ""), source.get("dev", ""), writable))
    return found
