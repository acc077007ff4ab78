# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The libvirt domain XML of an instance. Pure: the same definition gives the same text."""

from __future__ import annotations

import string
from typing import Any
from xml.etree import ElementTree as ET

from .. import names
from ..domain_xml import parse
from ..model import Instance

METADATA = "urn:twofold:instance:1"
KIB = 1024
SEED_TARGET = "sda"
ET.register_namespace("twofold", METADATA)


def disk_target(index: int) -> str:
    """The name that libvirt knows a disk by: vda, vdb."""
    return f"vd{string.ascii_lowercase[index]}"


def disk_source(document: dict[str, Any], disk: dict[str, Any], node: str) -> str:
    """The device that a disk is on a node: the DRBD device, or the logical volume itself."""
    if disk["minor"] is not None:
        return names.drbd_device(disk["minor"][node])
    return names.volume_device(disk["volume_group"][node], names.data_volume(document["name"], disk["index"]))


def render(instance: Instance, document: dict[str, Any], *, seed: bool, mtus: dict[str, int]) -> str:
    """The XML for the primary of a definition without `domain_xml`.

    `seed` says whether the NoCloud seed is attached; `mtus` are the networks' MTUs in bytes.
    """
    domain = ET.Element("domain", {"type": instance.virtualization})
    _text(domain, "name", document["name"])
    _text(domain, "uuid", document["uuid"])
    _metadata(domain, document)
    memory = str(-(-int(document["memory"]) // KIB))
    _text(domain, "memory", memory, unit="KiB")
    _text(domain, "currentMemory", memory, unit="KiB")
    _text(domain, "vcpu", str(document["vcpus"]), placement="static")
    _boot(domain, instance)
    _processor(domain, instance)
    for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "restart")):
        _text(domain, f"on_{event}", action)
    devices = ET.SubElement(domain, "devices")
    for disk in document["disks"]:
        _disk(devices, disk["index"], disk_source(document, disk, document["nodes"][0]))
    if seed:
        _seed(devices, document["name"])
    for nic in document["nics"]:
        _nic(devices, nic, mtus.get(nic["network"]), boot=not document["disks"] and nic["index"] == 0)
    _fixed_devices(devices)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _metadata(domain: ET.Element, document: dict[str, Any]) -> None:
    metadata = ET.SubElement(domain, "metadata")
    ET.SubElement(metadata, f"{{{METADATA}}}instance", {"cluster": document["cluster"], "name": document["name"]})


def _boot(domain: ET.Element, instance: Instance) -> None:
    system = ET.SubElement(domain, "os", {"firmware": "efi"} if instance.firmware == "uefi" else {})
    _text(system, "type", "hvm", arch="x86_64", machine=instance.machine)


def _processor(domain: ET.Element, instance: Instance) -> None:
    features = ET.SubElement(domain, "features")
    for feature in ("acpi", "apic"):
        ET.SubElement(features, feature)
    if instance.cpu == "host-passthrough" and instance.virtualization == "qemu":
        ET.SubElement(domain, "cpu", {"mode": "maximum"})
    elif instance.cpu in ("host-passthrough", "maximum"):
        ET.SubElement(domain, "cpu", {"mode": instance.cpu, "migratable": "on"})
    elif instance.cpu == "host-model":
        ET.SubElement(domain, "cpu", {"mode": instance.cpu})
    else:
        model = ET.SubElement(domain, "cpu", {"mode": "custom", "match": "exact"})
        _text(model, "model", instance.cpu, fallback="forbid")
    clock = ET.SubElement(domain, "clock", {"offset": "utc"})
    for name, attributes in (
        ("rtc", {"tickpolicy": "catchup"}), ("pit", {"tickpolicy": "delay"}), ("hpet", {"present": "no"}),
    ):  # fmt: skip
        ET.SubElement(clock, "timer", {"name": name, **attributes})


def _disk(devices: ET.Element, index: int, source: str) -> None:
    disk = ET.SubElement(devices, "disk", {"type": "block", "device": "disk"})
    driver = {"name": "qemu", "type": "raw", "cache": "none", "io": "native", "discard": "unmap"}
    ET.SubElement(disk, "driver", driver)
    ET.SubElement(disk, "source", {"dev": source})
    ET.SubElement(disk, "target", {"dev": disk_target(index), "bus": "virtio"})
    _text(disk, "serial", f"disk{index}")
    if index == 0:
        ET.SubElement(disk, "boot", {"order": "1"})


def _seed(devices: ET.Element, name: str) -> None:
    ET.SubElement(devices, "controller", {"type": "scsi", "index": "0", "model": "virtio-scsi"})
    disk = ET.SubElement(devices, "disk", {"type": "file", "device": "cdrom"})
    ET.SubElement(disk, "driver", {"name": "qemu", "type": "raw"})
    ET.SubElement(disk, "source", {"file": names.seed_path(name)})
    ET.SubElement(disk, "target", {"dev": SEED_TARGET, "bus": "scsi"})
    ET.SubElement(disk, "readonly")


def _nic(devices: ET.Element, nic: dict[str, Any], mtu: int | None, *, boot: bool) -> None:
    interface = ET.SubElement(devices, "interface", {"type": "bridge"})
    ET.SubElement(interface, "mac", {"address": nic["mac"]})
    ET.SubElement(interface, "source", {"bridge": nic["bridge"]})
    ET.SubElement(interface, "model", {"type": "virtio"})
    if mtu is not None:
        ET.SubElement(interface, "mtu", {"size": str(mtu)})
    if boot:
        ET.SubElement(interface, "boot", {"order": "1"})


def _fixed_devices(devices: ET.Element) -> None:
    """What every guest has: serial console, guest agent's channel, random numbers, panic notifier; no USB."""
    ET.SubElement(devices, "controller", {"type": "usb", "model": "none"})
    serial = ET.SubElement(devices, "serial", {"type": "pty"})
    ET.SubElement(serial, "target", {"port": "0"})
    console = ET.SubElement(devices, "console", {"type": "pty"})
    ET.SubElement(console, "target", {"type": "serial", "port": "0"})
    channel = ET.SubElement(devices, "channel", {"type": "unix"})
    ET.SubElement(channel, "target", {"type": "virtio", "name": "org.qemu.guest_agent.0"})
    rng = ET.SubElement(devices, "rng", {"model": "virtio"})
    _text(rng, "backend", "/dev/urandom", model="random")
    ET.SubElement(devices, "memballoon", {"model": "virtio"})
    ET.SubElement(devices, "panic", {"model": "isa"})


def with_sources(xml: str, sources: dict[str, str]) -> str:
    """Domain XML whose block disks have other sources: old path -> new path. For a move to another volume group."""
    domain = parse(xml)
    for source in domain.iterfind("devices/disk/source"):
        device = source.get("dev")
        if device in sources:
            source.set("dev", sources[device])
    return ET.tostring(domain, encoding="unicode")
