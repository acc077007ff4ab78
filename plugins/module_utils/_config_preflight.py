# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to hold on a machine before anything is changed on it. Reads only."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from typing import Any

from . import _config_probe as probe
from ._config_files import outside_block
from ._config_host import Host, Problem
from ._config_storage import read_groups
from ._config_system import KernelModules, cpu_flags

KVM_GET_API_VERSION, KVM_CREATE_VM, KVM_API_VERSION = 0xAE00, 0xAE01, 12
LISTEN = "0A"


def preflight(host: Host, wanted: dict[str, Any]) -> list[Problem]:
    """Every problem of this node."""
    found: list[Problem] = []
    for check in (release, versions, kernel_modules, virtualization, hostname, names, ports, volume_group, networks):
        found += check(host, wanted)
    return found


def os_release(host: Host) -> dict[str, str]:
    """The fields of /etc/os-release."""
    rows = [line.partition("=") for line in host.lines("/etc/os-release")]
    return {name: value.strip("\"'") for name, separator, value in rows if separator}


def release(host: Host, wanted: dict[str, Any]) -> Iterator[Problem]:
    """The distribution and the machine."""
    fields = os_release(host)
    name, version = fields.get("ID", "unknown"), fields.get("VERSION_ID", "unknown")
    if version not in wanted["releases"].get(name, []):
        supported = ", ".join(f"{key} {value}" for key, values in wanted["releases"].items() for value in values)
        yield Problem("release", "system", f"{name} {version} is not supported", f"install one of: {supported}")
    if os.uname().machine not in wanted["architectures"]:
        supported = ", ".join(wanted["architectures"])
        yield Problem("release", "system", f"{os.uname().machine} is not supported", f"use one of: {supported}")
    if not host.exists("/run/systemd/system"):
        yield Problem("release", "system", "systemd does not run", "boot the node with systemd")


def versions(host: Host, wanted: dict[str, Any]) -> Iterator[Problem]:
    """What is installed already is new enough."""
    for name, lowest in wanted["versions"].items():
        state, version = host.packages().get(name, ("", ""))
        if state == "installed" and version_key(version) < version_key(lowest):
            remedy = f"upgrade {name} to {lowest} or later"
            yield Problem("version", f"package {name}", f"version {version} is too old", remedy)


def version_key(version: str) -> list[Any]:
    """A Debian version as a key for comparisons; a tilde sorts before everything, even the end."""
    epoch, colon, rest = version.partition(":")
    key: list[Any] = [int(epoch) if colon else 0]
    for text, digits in re.findall(r"([^0-9]*)([0-9]*)", rest if colon else version):
        order = [-1 if char == "~" else ord(char) + (0 if char.isalpha() else 256) for char in text]
        key.append([*order, 0])
        key.append(int(digits or 0))
    return key


def kernel_modules(host: Host, wanted: dict[str, Any]) -> Iterator[Problem]:
    """The running kernel has what we load."""
    kernel = KernelModules(host)
    if not host.exists(f"{kernel.folder}/modules.dep"):
        message = f"the modules of the running kernel {os.uname().release} are gone"
        yield Problem("kernel", "kernel", message, "reboot the node into the kernel that is installed")
        return
    for name in wanted["modules"]:
        if not kernel.available(name):
            message = f"the kernel {os.uname().release} has no module {name}"
            remedy = "boot the distribution's own kernel (Debian: linux-image-amd64, not -cloud)"
            yield Problem("kernel", f"kernel module {name}", message, remedy)


def virtualization(host: Host, wanted: dict[str, Any]) -> Iterator[Problem]:
    """KVM works, or will once its module is loaded."""
    if not wanted["kvm"]:
        return
    thing = "virtualization"
    without = "or set twofold_require_kvm to false, to emulate guests slowly"
    if host.exists("/dev/kvm"):
        trouble = try_kvm(host.path("/dev/kvm"))
        if trouble:
            yield Problem("kvm", thing, trouble, f"see the kernel's log, {without}")
        return
    if os.uname().machine == "x86_64" and not {"vmx", "svm"} & cpu_flags(host):
        message = "the processor does not offer it (neither vmx nor svm)"
        yield Problem("kvm", thing, message, f"switch it on in the firmware, or in the hypervisor below, {without}")
        return
    kernel = KernelModules(host)
    if not any(kernel.available(name) for name in ("kvm_intel", "kvm_amd", "kvm")):
        yield Problem("kvm", thing, "the kernel has no KVM module", f"boot the distribution's own kernel, {without}")


def try_kvm(path: str) -> str | None:
    """Makes an empty machine and drops it; returns what is wrong."""
    from fcntl import ioctl

    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"{path} cannot be opened: {error.strerror}"
    try:
        if ioctl(handle, KVM_GET_API_VERSION, 0) != KVM_API_VERSION:
            return f"{path} speaks another version than {KVM_API_VERSION}"
        os.close(ioctl(handle, KVM_CREATE_VM, 0))
    except OSError as error:
        return f"{path} makes no machine: {error.strerror}"
    finally:
        os.close(handle)
    return None


def hostname(host: Host, wanted: dict[str, Any]) -> Iterator[Problem]:
    """The node has the name that the others know it by; DRBD's configuration and certificates bear it."""
    name = socket.gethostname()
    if name != wanted["hostname"]:
        message = f"the node calls itself {name!r}, the inventory {wanted['hostname']!r}"
        remedy = f"hostnamectl set-hostname {wanted['hostname']}, or set twofold_hostname to {name}"
        yield Problem("name", "host name", message, remedy)


def names(host: Host, wanted: dict[str, Any]) -> Iterator[Problem]:
    """The nodes' names lead to their addresses."""
    for name, address in wanted["names"].items():
        try:
            found = sorted({str(info[4][0]) for info in socket.getaddrinfo(name, None)})
        except OSError:
            found = []
        if address not in found:
            message = f"{name} leads to {', '.join(found) or 'nothing'}, not to {address}"
            remedy = "correct the name service, or set twofold_manage_hosts to true"
            yield Problem("name", f"name {name}", message, remedy)
    for line in outside_block(host.read("/etc/hosts") or "").splitlines():
        address, *entries = line.split("#", 1)[0].split() or [""]
        for name in entries:
            right = wanted["hosts"].get(name)
            if right not in (None, address):
                message = f"/etc/hosts says {address} for {name}, the inventory says {right}"
                yield Problem("name", f"name {name}", message, f"remove {name} from that line of /etc/hosts")


def ports(host: Host, wanted: dict[str, Any]) -> Iterator[Problem]:
    """Nobody else listens on the cluster's ports. Sockets without a process are the kernel's, so DRBD's."""
    hits = []
    for port, inode in sorted(listening(host)):
        hits += [(port, inode, use) for use in wanted["ports"] if use["first"] <= port <= use["last"]]
    owners = socket_owners(host, {inode for _ignored, inode, _ignored in hits}) if hits else {}
    for port, inode, use in hits:
        owner = owners.get(inode)
        if owner is not None and not any(owner.startswith(allowed) for allowed in use["owners"]):
            message = f"{owner} listens on it, and it is for {use['use']}"
            remedy = f"move {owner} to another port, or choose another range"
            yield Problem("port", f"TCP port {port}", message, remedy)


def listening(host: Host) -> set[tuple[int, str]]:
    """(port, inode) of every socket that waits for connections."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in host.lines(f"/proc/net/{name}")[1:]]
    return {(int(row[1].rsplit(":", 1)[1], 16), row[9]) for row in rows if row[3] == LISTEN}


def socket_owners(host: Host, inodes: set[str]) -> dict[str, str]:
    """Which program has a socket; systemd only if nobody else does."""
    links = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[str, str] = {}
    for process in sorted(filter(str.isdigit, host.names("/proc")), key=int):
        for number in _names(host, f"/proc/{process}/fd"):
            try:
                inode = links.get(os.readlink(host.path(f"/proc/{process}/fd/{number}")))
            except OSError:
                continue
            if inode is not None:
                found[inode] = (host.read(f"/proc/{process}/comm") or "unknown").strip()
    return found


def _names(host: Host, folder: str) -> list[str]:
    try:
        return host.names(folder)
    except OSError:
        return []


def volume_group(host: Host, wanted: dict[str, Any]) -> Iterator[Problem]:
    """The volume group exists, or there are disks to make it of."""
    thing = f"volume group {wanted['volume_group']}"
    if not wanted["devices"] and wanted["volume_group"] not in read_groups(host).tags:
        yield Problem("disk", thing, "it does not exist", "name disks for it in twofold_volume_group_devices")
    for line in host.lines("/etc/lvm/lvm.conf"):
        if re.match(r"\s*global_filter\s*=", line):
            remedy = "move its patterns to twofold_lvm_filter and remove the line, for ours replaces it"
            yield Problem("lvm", "/etc/lvm/lvm.conf", "it sets a global_filter of its own", remedy)


def networks(host: Host, wanted: dict[str, Any]) -> Iterator[Problem]:
    """Every other node answers on every network, at the size that was promised."""
    done: set[tuple[str, int]] = set()
    for network in wanted["networks"]:
        if (network["address"], network["mtu"]) not in done:
            yield from _network(network)
        done.add((network["address"], network["mtu"]))


def _network(network: dict[str, Any]) -> Iterator[Problem]:
    thing, mtu = f"{network['name']} network", network["mtu"]
    if not probe.local(network["address"]):
        message = f"the node does not have its address {network['address']}"
        yield Problem("network", thing, message, "give it to an interface, or correct it in the inventory")
        return
    wide = ":" in network["address"]
    peers = {address: name for name, address in network["peers"].items() if (":" in address) == wide}
    for address, verdict in probe.Prober(network["address"], mtu).probe(sorted(peers)).items():
        name = peers[address]
        if verdict == probe.SILENT:
            remedy = f"see that {name} is up, that the cables and VLANs are right, and that ICMP echo is not filtered"
            yield Problem("network", thing, f"{name} ({address}) does not answer", remedy, peer=name)
        elif verdict == probe.TOO_BIG:
            message = f"packets of {mtu} bytes do not get to {name} ({address}) and back, smaller ones do"
            remedy = f"set the MTU of both nodes' interfaces and of the switches to {mtu}, or "
            remedy += f"set twofold_{network['name']}_mtu to what they carry"
            yield Problem("network", thing, message, remedy, peer=name)
