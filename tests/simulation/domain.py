# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Domain XML as libvirt takes it in: completed, and the few things of it that matter here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from xml.etree import ElementTree as ET

from twofold.domain_xml import parse


@dataclass(frozen=True)
class Facts:
    """What a domain is. `memory` in bytes; `disks` are target and block device, `files` what else it opens."""

    name: str
    uuid: str
    memory: int
    vcpus: int
    disks: tuple[tuple[str, str], ...]
    files: tuple[str, ...]
    bridges: tuple[str, ...]


@lru_cache(4096)
def facts(xml: str) -> Facts:
    """Read the XML of a domain."""
    root = parse(xml)
    disks, files = [], []
    for disk in root.iterfind("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        if source is not None and target is not None and source.get("dev"):
            disks.append((target.get("dev") or "", source.get("dev") or ""))
        elif source is not None and source.get("file"):
            files.append(source.get("file") or "")
    bridges = tuple(one.get("bridge") or "" for one in root.iterfind("devices/interface/source"))
    memory = int(root.findtext("memory") or 0) * 1024
    vcpus = int(root.findtext("vcpu") or 1)
    uuid = root.findtext("uuid") or ""
    return Facts(root.findtext("name") or "", uuid, memory, vcpus, tuple(disks), tuple(files), bridges)


@lru_cache(4096)
def completed(xml: str) -> str:
    """What libvirt makes of it: aliases, addresses, defaults, devices of its own."""
    domain = parse(xml)
    machine, cpu, devices = domain.find("os/type"), domain.find("cpu"), domain.find("devices")
    if machine is not None and machine.get("machine") == "q35":
        machine.set("machine", "pc-q35-10.0")
    if cpu is not None:
        cpu.set("check", "none")
    assert devices is not None
    for index, device in enumerate(list(devices)):
        if device.tag in ("disk", "interface", "controller") and device.find("address") is None:
            ET.SubElement(device, "address", {"type": "pci", "slot": f"0x{index:02x}"})
    if devices.find("emulator") is None:
        emulator = ET.Element("emulator")
        emulator.text = "/usr/bin/qemu-system-x86_64"
        devices.insert(0, emulator)
        ET.SubElement(devices, "controller", {"type": "pci", "index": "0", "model": "pcie-root"})
        ET.SubElement(devices, "input", {"type": "mouse", "bus": "ps2"})
    return ET.tostring(domain, encoding="unicode")


FOREIGN = """<domain type='kvm'><name>{name}</name><uuid>{uuid}</uuid><memory unit='KiB'>65536</memory>
<vcpu>1</vcpu><os><type machine='pc-q35-10.0'>hvm</type></os><devices/></domain>"""
