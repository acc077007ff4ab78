# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one node needs, as the document that the node-side code compares with the node and applies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .. import pki
from . import render
from .settings import LIBVIRT_PORT, Member, Settings

Item = dict[str, Any]

RELEASES = {"debian": ["12", "13"]}
# The oldest versions that this was tried with: what Debian 12 has.
VERSIONS = {"libvirt-daemon-system": "9.0", "drbd-utils": "9.22", "qemu-system-x86": "1:7.2", "lvm2": "2.03.11"}
PACKAGES = (
    "drbd-utils", "e2fsprogs", "fdisk", "iproute2", "kmod", "libvirt-clients", "libvirt-daemon-driver-qemu",
    "libvirt-daemon-system", "lvm2", "mmdebstrap", "nftables", "python3-libvirt", "qemu-utils", "xorriso",
)  # fmt: skip
# The architectures that a domain is rendered for.
EMULATORS = {"x86_64": ["qemu-system-x86"]}
MODULES = ("bridge", "dm_mod", "drbd", "nf_tables", "tun", "vhost_net")
DIRECTORIES = {
    "/etc/twofold": "0755",
    "/var/lib/twofold": "0755",
    "/var/lib/twofold/images": "0711",
    "/var/lib/twofold/instances": "0700",
    "/var/lib/twofold/journal": "0700",
    "/var/lib/twofold/seeds": "0711",
}
RUN_DIRECTORIES = {"/run/twofold": "0755", "/run/twofold/progress": "0755"}
SYSTEM = "/etc/systemd/system"
LIBRARY = "/usr/local/lib/twofold"
POWER_BACK = "twofold-power-back"
LIBVIRT_UNIT = f"{SYSTEM}/libvirtd.service.d/twofold.conf"


@dataclass(frozen=True)
class Place:
    """Where a credential is kept on a node, and who may read its key."""

    certificates: tuple[str, ...]
    keys: tuple[str, ...]
    group: str
    mode: str


CREDENTIALS = {
    "libvirt": Place(
        certificates=("/etc/pki/libvirt/servercert.pem", "/etc/pki/libvirt/clientcert.pem"),
        keys=("/etc/pki/libvirt/private/serverkey.pem", "/etc/pki/libvirt/private/clientkey.pem"),
        group="root",
        mode="0600",
    ),
    # QEMU reads its key itself, and it runs as a user of its own.
    "qemu": Place(
        certificates=(f"{render.QEMU_PKI}/server-cert.pem", f"{render.QEMU_PKI}/client-cert.pem"),
        keys=(f"{render.QEMU_PKI}/server-key.pem", f"{render.QEMU_PKI}/client-key.pem"),
        group="libvirt-qemu",
        mode="0640",
    ),
}


def subjects(member: Member) -> dict[str, pki.Subject]:
    """Return for whom each credential of a node is."""
    units = {"libvirt": None, "qemu": "qemu"}
    return {name: pki.Subject(member.hostname, units[name], member.names, member.addresses) for name in CREDENTIALS}


def wanted(settings: Settings, member: Member, members: Sequence[Member], authority: str | None) -> dict[str, Any]:
    """Return the document for ``member``; ``members`` are all nodes, ``authority`` the certificate if there is one."""
    return {
        "format": 1,
        "preflight": preflight(settings, member, members),
        "items": [
            *_base_items(settings, members),
            *_library_items(),
            *_storage_items(settings),
            *_directory_items(),
            *_network_items(settings, members),
            *_credential_items(authority),
            *_libvirt_items(settings, member, members),
            *_power_back_items(settings, member, members),
            {"kind": "units", "units": list(units(settings))},
        ],
    }


def preflight(settings: Settings, member: Member, members: Sequence[Member]) -> dict[str, Any]:
    """Return what has to hold before anything is changed."""
    peers = [peer for peer in members if peer.name != member.name]
    networks = [
        ("management", settings.management_mtu, member.management, [peer.management for peer in peers]),
        ("replication", settings.replication_mtu, member.replication, [peer.replication for peer in peers]),
    ]
    return {
        "releases": RELEASES,
        "architectures": sorted(EMULATORS),
        "versions": VERSIONS,
        "kvm": settings.require_kvm,
        "modules": list(MODULES),
        "hostname": member.hostname,
        "volume_group": settings.volume_group,
        "devices": list(settings.volume_group_devices),
        "networks": [
            {"name": name, "mtu": mtu, "address": address, "peers": _named(peers, addresses)}
            for name, mtu, address, addresses in networks
        ],
        "names": {} if settings.manage_hosts else {name: peer.management for peer in peers for name in peer.names[:1]},
        "hosts": {name: peer.management for peer in peers for name in peer.names},
        "ports": [
            {"use": "libvirt", "first": LIBVIRT_PORT, "last": LIBVIRT_PORT, "owners": ["libvirtd", "systemd"]},
            _port_range("replication", settings.drbd_ports.first, settings.drbd_ports.last, []),
            _port_range("migration", settings.migration_ports.first, settings.migration_ports.last, ["qemu"]),
        ],
    }


def _port_range(use: str, first: int, last: int, owners: list[str]) -> dict[str, Any]:
    return {"use": use, "first": first, "last": last, "owners": owners}


def _named(peers: Sequence[Member], addresses: Sequence[str]) -> dict[str, str]:
    return {peer.name: address for peer, address in zip(peers, addresses, strict=True)}


def file(path: str, content: str, mode: str = "0644") -> Item:
    """Return the item of a file that is ours as a whole."""
    return {"kind": "file", "path": path, "content": content, "mode": mode}


def _base_items(settings: Settings, members: Sequence[Member]) -> Iterator[Item]:
    if settings.manage_hosts:
        yield {"kind": "block", "path": "/etc/hosts", "content": render.hosts(members)}
    names = sorted({*PACKAGES, *settings.packages})
    yield {"kind": "packages", "names": names, "by_architecture": EMULATORS}
    yield file("/etc/modules-load.d/twofold.conf", render.HEADER + "".join(f"{name}\n" for name in MODULES))
    yield {"kind": "modules", "names": list(MODULES), "kvm": settings.require_kvm}
    ports = [str(LIBVIRT_PORT), str(settings.drbd_ports), str(settings.migration_ports)]
    line = f"net.ipv4.ip_local_reserved_ports = {','.join(ports)}\n"
    yield file("/etc/sysctl.d/60-twofold.conf", render.HEADER + line)
    yield {"kind": "reserved_ports", "ports": ports}


def _library_items() -> Iterator[Item]:
    """What runs on a node by itself; it comes before the units that start it."""
    yield {"kind": "directory", "path": LIBRARY, "mode": "0755"}
    yield {"kind": "library", "path": f"{LIBRARY}/twofold_node"}


def _storage_items(settings: Settings) -> Iterator[Item]:
    yield {"kind": "block", "path": "/etc/lvm/lvmlocal.conf", "content": render.lvm(settings)}
    if settings.volume_group_devices:
        yield {
            "kind": "volume_group",
            "name": settings.volume_group,
            "devices": list(settings.volume_group_devices),
            "wipe": list(settings.wipe_devices),
            "tag": "twofold",
        }
    yield file("/etc/drbd.d/global_common.conf", render.drbd())
    yield file(f"{LIBRARY}/bring_up.py", render.program(LIBRARY, "_bring_up"), "0755")
    start = render.unit(
        "Twofold: replication of the instances' disks",
        # Volumes are activated by events too, but those may come later than this.
        prepare=["/usr/bin/udevadm settle --timeout=30", "/usr/sbin/vgchange --quiet -aay"],
        start=f"{LIBRARY}/bring_up.py",
        retry=True,
        Wants="network-online.target",
        After="network-online.target local-fs.target systemd-modules-load.service",
        Before="libvirt-guests.service",
    )
    yield file(f"{SYSTEM}/twofold-replication.service", start)
    # What the unit started in older versions.
    yield {"kind": "gone", "path": "/etc/twofold/replication.sh"}


def _directory_items() -> Iterator[Item]:
    for path, mode in {**DIRECTORIES, **RUN_DIRECTORIES}.items():
        yield {"kind": "directory", "path": path, "mode": mode}
    lines = "".join(f"d {path} {mode} root root -\n" for path, mode in RUN_DIRECTORIES.items())
    yield file("/etc/tmpfiles.d/twofold.conf", render.HEADER + lines)


def _network_items(settings: Settings, members: Sequence[Member]) -> Iterator[Item]:
    if settings.bridges:
        yield file("/etc/twofold/network.sh", render.network_script(settings.bridges), "0755")
        text = render.unit(
            "Twofold: bridges of the instances' networks",
            start="/etc/twofold/network.sh",
            After="network-pre.target systemd-udevd.service",
            Before="network-online.target libvirtd.service",
        )
        yield file(f"{SYSTEM}/twofold-network.service", text)
        for bridge in settings.bridges:
            yield {"kind": "bridge", "name": bridge.name, "interface": bridge.interface, "mtu": bridge.mtu}
    if settings.manage_firewall:
        content = render.firewall(settings, members)
        yield file(render.FIREWALL, content)
        text = render.unit(
            "Twofold: the cluster's ports are open to its nodes alone",
            start=f"/usr/sbin/nft -f {render.FIREWALL}",
            reload=True,
            # After the distribution's own rules, which start with an empty table.
            After="nftables.service",
            Before="network-online.target libvirtd.service",
        )
        yield file(f"{SYSTEM}/twofold-firewall.service", text)
        yield {"kind": "firewall", "table": render.TABLE, "path": render.FIREWALL, "content": content}


def _credential_items(authority: str | None) -> Iterator[Item]:
    for path, mode in {
        "/etc/pki/CA": "0755",
        "/etc/pki/libvirt": "0755",
        "/etc/pki/libvirt/private": "0700",
        render.QEMU_PKI: "0755",
    }.items():
        yield {"kind": "directory", "path": path, "mode": mode}
    if authority is not None:
        yield file(render.CA, authority)
        yield file(f"{render.QEMU_PKI}/ca-cert.pem", authority)
    for name, place in CREDENTIALS.items():
        yield {
            "kind": "credential",
            "name": name,
            "certificates": list(place.certificates),
            "keys": list(place.keys),
            "group": place.group,
            "mode": place.mode,
        }


def _libvirt_items(settings: Settings, member: Member, members: Sequence[Member]) -> Iterator[Item]:
    yield file("/etc/libvirt/libvirtd.conf", render.libvirtd(settings, members))
    yield file("/etc/libvirt/qemu.conf", render.qemu(settings, member), "0600")
    yield file("/etc/default/libvirt-guests", render.libvirt_guests())
    yield file(LIBVIRT_UNIT, render.libvirtd_unit())
    yield {"kind": "default_network", "path": "/etc/libvirt/qemu/networks/autostart/default.xml", "bridge": "virbr0"}


def _power_back_items(settings: Settings, member: Member, members: Sequence[Member]) -> Iterator[Item]:
    yield file(f"{LIBRARY}/power_back.py", render.program(LIBRARY, "_power_back"), "0755")
    yield file("/etc/twofold/power_back.json", render.power_back_settings(settings, member, members))
    yield file(f"{SYSTEM}/{POWER_BACK}.service", render.power_back_service(f"{LIBRARY}/power_back.py"))
    yield file(f"{SYSTEM}/{POWER_BACK}.timer", render.power_back_timer(settings.power_back_interval))


def units(settings: Settings) -> Iterator[Item]:
    """Return the units in the order in which they are started: nothing is open before the firewall is closed."""
    yield {"name": "twofold-replication.service", "enabled": True}
    if settings.bridges:
        yield {"name": "twofold-network.service", "enabled": True}
    if settings.manage_firewall:
        yield {"name": "twofold-firewall.service", "enabled": True, "active": True}
    yield {"name": "libvirtd-tcp.socket", "enabled": False, "active": False}
    # A socket cannot be opened for a service that already runs without it.
    yield {"name": "libvirtd-tls.socket", "enabled": True, "active": True, "stop_first": ["libvirtd.service"]}
    place = CREDENTIALS["libvirt"]
    yield {
        "name": "libvirtd.service",
        "enabled": True,
        "active": True,
        "restart_after": ["/etc/libvirt/libvirtd.conf", "/etc/libvirt/qemu.conf", LIBVIRT_UNIT],
        "refresh_after": [render.CA, *place.certificates, *place.keys],
        "refresh": ["virt-admin", "server-update-tls", "libvirtd"],
    }
    yield {"name": "libvirt-guests.service", "enabled": True, "active": True}
    yield {"name": f"{POWER_BACK}.service", "enabled": settings.power_back_at_boot}
    timer = settings.power_back_interval > 0
    read = [f"{SYSTEM}/{POWER_BACK}.timer"] if timer else []
    yield {"name": f"{POWER_BACK}.timer", "enabled": timer, "active": timer, "restart_after": read}
