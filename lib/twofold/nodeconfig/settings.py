# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory says about nodes, checked."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import units
from ..errors import TwofoldError
from ..findings import ERROR, Finding
from ..pki import NODE_DAYS, RENEW_DAYS

# What is wanted of a node, by setting: the inventory variable and the default. The role's variable is node_SETTING; a
# test compares the role's defaults with these.
SETTINGS: dict[str, tuple[str, Any]] = {
    "clock_tolerance": ("twofold_clock_tolerance", 1.0),
    "cluster_name": ("twofold_cluster_name", "twofold"),
    "drbd_ports": ("twofold_drbd_ports", "7100-7699"),
    "libvirtd_settings": ("twofold_libvirtd_settings", {}),
    "lvm_filter": ("twofold_lvm_filter", []),
    "manage_firewall": ("twofold_manage_firewall", True),
    "manage_hosts": ("twofold_manage_hosts", True),
    "management_mtu": ("twofold_management_mtu", 1500),
    "migration_ports": ("twofold_migration_ports", "49152-49215"),
    "network_interfaces": ("twofold_network_interfaces", {}),
    "networks": ("twofold_networks", {}),
    "packages": ("twofold_node_packages", []),
    "pki_days": ("twofold_pki_days", NODE_DAYS),
    "pki_renew_days": ("twofold_pki_renew_days", RENEW_DAYS),
    "power_back_at_boot": ("twofold_power_back_at_boot", True),
    "power_back_interval": ("twofold_power_back_interval", 60),
    "power_back_restarts": ("twofold_power_back_restarts", 3),
    "qemu_settings": ("twofold_qemu_settings", {}),
    "replication_mtu": ("twofold_replication_mtu", 1500),
    "require_kvm": ("twofold_require_kvm", True),
    "start_delay": ("twofold_start_delay", 10),
    "starts_at_once": ("twofold_starts_at_once", 10),
    "volume_group": ("twofold_volume_group", "twofold"),
    "volume_group_devices": ("twofold_volume_group_devices", []),
    "wipe_devices": ("twofold_wipe_devices", []),
}
# What the other nodes need to know of a node too; read from its inventory variables.
MEMBER_VARIABLES = (
    "twofold_address",
    "twofold_replication_address",
    "twofold_migration_address",
    "twofold_node_addresses",
    "twofold_hostname",
)
# What the control host alone needs; it is no property of a node.
CONTROL_VARIABLES = ("twofold_new_authority", "twofold_node_group", "twofold_pki_dir")
NODE_VARIABLES: tuple[str, ...] = tuple(
    sorted({variable for variable, _ignored in SETTINGS.values()} | {*MEMBER_VARIABLES, *CONTROL_VARIABLES})
)

HOSTNAME = re.compile(r"^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$")
INTERFACE = re.compile(r"^[a-zA-Z0-9_.-]{1,15}$")
DEVICE = re.compile(r"^/dev/[a-zA-Z0-9_./:@+-]+$")
VOLUME_GROUP = re.compile(r"^[a-zA-Z0-9+_.][a-zA-Z0-9+_.-]*$")
LIBVIRT_PORT = 16514


class SettingError(TwofoldError):
    """A variable of a node that cannot be used."""

    def __init__(self, node: str, variable: str, message: str, remedy: str) -> None:
        super().__init__(f"{node}: {variable}: {message}")
        self.finding = finding(node, variable, message, remedy, code="setting")


def finding(node: str, thing: str, message: str, remedy: str, *, code: str = "node", severity: str = ERROR) -> Finding:
    """Make a finding about a thing of a node."""
    return Finding(severity, code, f"node {node}", f"{thing}: {message}", remedy)


@dataclass(frozen=True)
class Ports:
    """A range of TCP ports, both ends included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True)
class Bridge:
    """A bridge that we make on a node."""

    name: str
    interface: str | None
    mtu: int | None


@dataclass(frozen=True)
class Member:
    """What every node needs to know of a node."""

    name: str
    hostname: str
    management: str
    replication: str
    migration: str
    others: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses of the node, each once."""
        return tuple(dict.fromkeys((self.management, self.replication, self.migration, *self.others)))

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the node, each once."""
        return tuple(dict.fromkeys((self.hostname, self.name)))


@dataclass(frozen=True)
class Settings:
    """What is wanted of one node."""

    bridges: tuple[Bridge, ...]
    clock_tolerance: float
    cluster_name: str
    drbd_ports: Ports
    libvirtd_settings: dict[str, Any]
    lvm_filter: tuple[str, ...]
    manage_firewall: bool
    manage_hosts: bool
    management_mtu: int
    migration_ports: Ports
    packages: tuple[str, ...]
    pki_days: int
    pki_renew_days: int
    power_back_at_boot: bool
    power_back_interval: int
    power_back_restarts: int
    qemu_settings: dict[str, Any]
    replication_mtu: int
    require_kvm: bool
    start_delay: int
    starts_at_once: int
    volume_group: str
    volume_group_devices: tuple[str, ...]
    wipe_devices: tuple[str, ...]


def read_member(name: str, variables: Mapping[str, Any]) -> Member:
    """Return what others need to know of the node ``name``, from its inventory variables.

    :raises SettingError: an address is missing or wrong.
    """
    reader = _Reader(name, variables)
    found: list[str] = []
    for variable, otherwise in (
        ("twofold_address", variables.get("ansible_host") or name),
        ("twofold_replication_address", None),
        ("twofold_migration_address", None),
    ):
        found.append(reader.address(variable, variables.get(variable) or otherwise or found[-1]))
    management, replication, migration = found
    others = reader.texts("twofold_node_addresses", variables.get("twofold_node_addresses") or [])
    return Member(
        name=name,
        hostname=reader.hostname(),
        management=management,
        replication=replication,
        migration=migration,
        others=tuple(reader.address("twofold_node_addresses", item) for item in others),
    )


def read_settings(name: str, given: Mapping[str, Any]) -> Settings:
    """Return what is wanted of the node ``name``; ``given`` are settings, what is missing or None has its default.

    :raises SettingError: a setting is wrong.
    """
    reader = _Reader(name, given)
    unknown = sorted(set(given) - set(SETTINGS))
    if unknown:
        raise reader.fail(unknown[0], "there is no such setting", "settings are " + ", ".join(SETTINGS))
    drbd, migration = reader.ports("drbd_ports"), reader.ports("migration_ports")
    reader.separate(drbd, migration)
    return Settings(
        bridges=reader.bridges(),
        clock_tolerance=reader.number("clock_tolerance", 0.001, 3600),
        cluster_name=reader.text("cluster_name"),
        drbd_ports=drbd,
        libvirtd_settings=reader.mapping("libvirtd_settings"),
        lvm_filter=reader.list_of_texts("lvm_filter"),
        manage_firewall=reader.flag("manage_firewall"),
        manage_hosts=reader.flag("manage_hosts"),
        management_mtu=int(reader.number("management_mtu", 576, 65535)),
        migration_ports=migration,
        packages=reader.list_of_texts("packages"),
        pki_days=int(reader.number("pki_days", 1, 3650)),
        pki_renew_days=int(reader.number("pki_renew_days", 0, 3649)),
        power_back_at_boot=reader.flag("power_back_at_boot"),
        power_back_interval=int(reader.number("power_back_interval", 0, 86400)),
        power_back_restarts=int(reader.number("power_back_restarts", 0, 1000)),
        qemu_settings=reader.mapping("qemu_settings"),
        replication_mtu=int(reader.number("replication_mtu", 576, 65535)),
        require_kvm=reader.flag("require_kvm"),
        start_delay=int(reader.number("start_delay", 0, 60)),
        starts_at_once=int(reader.number("starts_at_once", 1, 1000)),
        volume_group=reader.volume_group(),
        volume_group_devices=reader.devices("volume_group_devices"),
        wipe_devices=reader.devices("wipe_devices"),
    )


class _Reader:
    """Reads what the inventory says of one node; what is wrong is a SettingError with the variable's name."""

    def __init__(self, node: str, given: Mapping[str, Any]) -> None:
        self._node = node
        self._given = given

    def value(self, setting: str) -> Any:
        value = self._given.get(setting)
        return SETTINGS[setting][1] if value is None else value

    def fail(self, setting: str, message: str, remedy: str) -> SettingError:
        name, _ignored, part = setting.partition(".")
        variable = SETTINGS[name][0] if name in SETTINGS else name
        return SettingError(self._node, f"{variable}.{part}" if part else variable, message, remedy)

    def text(self, setting: str) -> str:
        value = self.value(setting)
        if not isinstance(value, str) or not value:
            raise self.fail(setting, f"{value!r} is not a text", "write a text that is not empty")
        return value

    def list_of_texts(self, setting: str) -> tuple[str, ...]:
        return self.texts(setting, self.value(setting))

    def texts(self, setting: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item for item in value):
            raise self.fail(setting, f"{value!r} is not a list of texts", "write a list, [] for none")
        return tuple(value)

    def flag(self, setting: str) -> bool:
        value = self.value(setting)
        if not isinstance(value, bool):
            raise self.fail(setting, f"{value!r} is neither true nor false", "write true or false")
        return value

    def number(self, setting: str, lowest: float, highest: float) -> float:
        value = self.value(setting)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if isinstance(value, bool) or not lowest <= number <= highest:
            raise self.fail(setting, f"{value!r} is not a number from {lowest} to {highest}", "correct the number")
        return number

    def mapping(self, setting: str) -> dict[str, Any]:
        value = self.value(setting)
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise self.fail(setting, f"{value!r} is not a mapping", "write settings as 'name: value'")
        return dict(value)

    def address(self, variable: str, text: Any) -> str:
        try:
            return str(ipaddress.ip_address(str(text)))
        except ValueError as error:
            remedy = f"set {variable} of {self._node} to an IP address of its own on that network"
            raise self.fail(variable, f"{str(text)!r} is not an IP address", remedy) from error

    def hostname(self) -> str:
        name = self._given.get("twofold_hostname") or self._node.split(".", maxsplit=1)[0]
        if not isinstance(name, str) or not all(HOSTNAME.match(label) for label in name.split(".")):
            raise self.fail("twofold_hostname", f"{name!r} cannot be a host name", "use letters, digits and '-'")
        return name

    def ports(self, setting: str) -> Ports:
        value = self.value(setting)
        try:
            first, last = units.parse_range(value)
        except ValueError as error:
            raise self.fail(setting, str(error), "write the first and the last port, like 7100-7699") from error
        if not 1024 <= first <= last <= 65535:
            raise self.fail(setting, f"{value!r} is not a range of ports", "use ports from 1024 to 65535")
        return Ports(first, last)

    def separate(self, drbd: Ports, migration: Ports) -> None:
        for setting, item in (("drbd_ports", drbd), ("migration_ports", migration)):
            if item.first <= LIBVIRT_PORT <= item.last:
                raise self.fail(setting, f"{item} holds {LIBVIRT_PORT}, libvirt's TLS port", "choose another range")
        if migration.first <= drbd.last and drbd.first <= migration.last:
            message = f"{migration} overlaps twofold_drbd_ports {drbd}"
            raise self.fail("migration_ports", message, "choose ranges that do not overlap")

    def volume_group(self) -> str:
        name = self.text("volume_group")
        if not VOLUME_GROUP.match(name) or name in {".", ".."}:
            raise self.fail("volume_group", f"{name!r} cannot name a volume group", "use letters, digits, + _ . -")
        return name

    def devices(self, setting: str) -> tuple[str, ...]:
        devices = self.list_of_texts(setting)
        for device in devices:
            if not DEVICE.match(device) or ".." in device:
                raise self.fail(setting, f"{device!r} is not a device", "write a path below /dev/")
        return devices

    def bridges(self) -> tuple[Bridge, ...]:
        """Return the bridges of the networks that name an interface or say ``manage: true``."""
        own = self.mapping("network_interfaces")
        networks = self.mapping("networks")
        for name in own:
            if name not in networks:
                raise self.fail(
                    f"network_interfaces.{name}", "there is no such network", "use a name of twofold_networks"
                )
        found = []
        for name, network in sorted(networks.items()):
            interface = own.get(name, network.get("interface") if isinstance(network, Mapping) else None)
            if isinstance(network, Mapping) and (interface is not None or network.get("manage") is True):
                found.append(self._bridge(name, network, interface))
        used = [bridge.interface for bridge in found if bridge.interface]
        if len(set(used)) != len(used) or len({bridge.name for bridge in found}) != len(found):
            message = "two networks have the same bridge or interface"
            raise self.fail("networks", message, "give each network a bridge and an interface of its own")
        return tuple(found)

    def _bridge(self, network: str, wanted: Mapping[str, Any], interface: Any) -> Bridge:
        setting, name, mtu = f"networks.{network}", wanted.get("bridge"), wanted.get("mtu")
        for text in (name, name if interface is None else interface):
            if not isinstance(text, str) or not INTERFACE.match(text) or text in {".", ".."}:
                raise self.fail(setting, f"{text!r} cannot name an interface", "use at most 15 characters")
        if mtu is not None and (isinstance(mtu, bool) or not isinstance(mtu, int) or not 576 <= mtu <= 65535):
            raise self.fail(setting, f"mtu {mtu!r} is not a number from 576 to 65535", "correct the number")
        return Bridge(str(name), interface, mtu)
