# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the inventory can say: cluster, nodes and instances.

Every field is one inventory variable: `twofold_` and the field's name, or the name in its `variable`. The fields of
`ReplicationSettings` and `MigrationSettings` are variables too: `twofold_replication_protocol` and so on.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from . import units
from .findings import Finding

USER_DATA_PARTS = 100_000
SHA256 = re.compile(r"[0-9a-f]{64}")
# What fence agents call their command, or called it once (fence-agents, lib/fencing.py.py).
ACTION = ("action", "o", "option")
OPTION = re.compile(r"[a-z][a-z0-9_-]*")
# Fence agents that say off of a node that may go on running, and why. The first take its network or storage away: their
# metadata have <action name="on" automatic="1"/> (fence-agents 4.12, fabric_fencing in their device_opt). The last two
# are told by their get_power_status alone.
FABRIC = "it cuts the node off and does not stop it"
NO_PROOF = {
    "fence_brocade": FABRIC,
    "fence_cisco_mds": FABRIC,
    "fence_ifmib": FABRIC,
    "fence_mpath": FABRIC,
    "fence_sanbox2": FABRIC,
    "fence_scsi": FABRIC,
    "fence_compute": "it tells OpenStack that the node is down and does not stop it",
    "fence_crosslink": "it takes a node that answers no ping for one that is off",
    "fence_evacuate": "it asks OpenStack about the node and does not stop it",
}


def _address(value: Any) -> str:
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        raise ValueError(f"{str(value)!r} is not an IP address") from None


def _network(value: Any) -> str:
    try:
        return str(ipaddress.ip_network(str(value)))
    except ValueError as error:
        raise ValueError(f"{str(value)!r} is not a network like 203.0.113.0/24: {error}") from None


def _mac(value: Any) -> str:
    text = str(value).lower()
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", text):
        raise ValueError(f"{str(value)!r} is not a MAC address like 02:00:5e:10:00:01")
    if int(text[:2], 16) & 1:
        raise ValueError(f"{text!r} is a group address; the second digit has to be even")
    return text


def _digest(value: Any) -> str:
    text = str(value).lower().removeprefix("sha256:")
    if not SHA256.fullmatch(text):
        raise ValueError("is not a SHA-256 sum of 64 hexadecimal digits")
    return text


def _reserved(value: Any) -> str:
    first, _ignored, last = str(value).partition("-")
    start, end = ipaddress.ip_address(first.strip()), ipaddress.ip_address((last or first).strip())
    if int(start) > int(end) or start.version != end.version:
        raise ValueError(f"{str(value)!r} is not an address or a range like 203.0.113.1-203.0.113.9")
    return f"{start}-{end}" if last else str(start)


def _nic_address(value: Any) -> str:
    return str(value) if value in ("auto", "none") else _address(value)


def _user_data(value: Any) -> Any:
    if isinstance(value, str):
        import yaml

        if not value.startswith("#cloud-config"):
            raise ValueError("has to be a mapping, or text that starts with #cloud-config")
        try:
            value = yaml.safe_load(value) or {}
        except yaml.MarkedYAMLError as error:
            raise ValueError(f"is not the YAML that cloud-init takes{_place(error.problem_mark)}") from None
        except (yaml.YAMLError, ValueError):
            raise ValueError("is not the YAML that cloud-init takes") from None
    # References let a few lines stand for more than fits into any memory.
    if _larger(value, USER_DATA_PARTS):
        raise ValueError(f"has more than {USER_DATA_PARTS} parts; put large files where the guest can fetch them")
    return value


def _place(mark: Any) -> str:
    """Where it is wrong, and not what stands there: that may be a password."""
    return f": see its line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""


def _larger(value: Any, limit: int) -> bool:
    """Whether a value has more parts than that, references followed."""
    rest, seen = [value], 0
    while rest and seen <= limit:
        one = rest.pop()
        seen += 1
        rest += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    return seen > limit


def _ports(value: Any) -> tuple[int, int]:
    first, last = units.parse_range("-".join(map(str, value)) if isinstance(value, tuple) else value)
    if not 0 < first <= last < 1 << 16:
        raise ValueError(f"{first}-{last} are not all ports: those are from 1 to 65535")
    return first, last


def _minors(value: Any) -> tuple[int, int]:
    first, last = units.parse_range("-".join(map(str, value)) if isinstance(value, tuple) else value)
    if last >= 1 << 20:
        raise ValueError(f"{first}-{last} are not all device numbers: those are below {1 << 20}")
    return first, last


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _stops(agent: str) -> str:
    name = PurePath(agent).name
    if name in NO_PROOF:
        remedy = "name a device that takes its power away"
        raise ValueError(f"{name} does not prove it dead: {NO_PROOF[name]}, so its guests could run twice; {remedy}")
    return agent


def _option_name(value: Any) -> Any:
    if str(value).strip().lstrip("-").lower() in ACTION:
        raise ValueError("has an action, but Twofold gives the action itself; remove it")
    if not OPTION.fullmatch(str(value)):
        raise ValueError("has a name that is no option's: those begin with a small letter, digits, - and _ may follow")
    return value


def _option(value: Any) -> str:
    if isinstance(value, (list, dict)) or value is None or "\n" in str(value):
        raise ValueError("is not one line of text, a number, true or false")
    return str(int(value)) if isinstance(value, bool) else str(value)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_SIZE_SCHEMA = {"anyOf": [{"type": "string", "pattern": units.SIZE_PATTERN}, {"type": "integer", "minimum": 1}]}
_RATE_SCHEMA = {"anyOf": [{"type": "string", "pattern": units.RATE_PATTERN}, {"type": "integer", "minimum": 1}]}
_RANGE_SCHEMA = {"type": "string", "pattern": "^[0-9]+ *- *[0-9]+$"}
_TEXT: dict[str, Any] = {"type": "string"}

Size = Annotated[int, BeforeValidator(units.parse_size), WithJsonSchema(_SIZE_SCHEMA)]
Rate = Annotated[int, BeforeValidator(units.parse_rate), WithJsonSchema(_RATE_SCHEMA)]
Ports = Annotated[tuple[int, int], BeforeValidator(_ports), WithJsonSchema(_RANGE_SCHEMA)]
Minors = Annotated[tuple[int, int], BeforeValidator(_minors), WithJsonSchema(_RANGE_SCHEMA)]
Address = Annotated[str, BeforeValidator(_address), WithJsonSchema(_TEXT)]
Cidr = Annotated[str, BeforeValidator(_network), WithJsonSchema(_TEXT)]
Mac = Annotated[str, BeforeValidator(_mac), WithJsonSchema({"type": "string", "pattern": "^[0-9A-Fa-f:]{17}$"})]
Digest = Annotated[str, BeforeValidator(_digest), WithJsonSchema(_TEXT)]
_NAMES_SCHEMA = {"anyOf": [{"type": "array", "items": _TEXT}, _TEXT]}
Names = Annotated[list[str], BeforeValidator(_listed), WithJsonSchema(_NAMES_SCHEMA)]
FenceAgent = Annotated[str, Field(pattern=r"^(/[^\n]*/)?fence_[a-z0-9_]+$"), AfterValidator(_stops)]
FenceOptionName = Annotated[str, Field(pattern=f"^{OPTION.pattern}$"), BeforeValidator(_option_name)]
FenceOption = Annotated[str, BeforeValidator(_option), WithJsonSchema({"type": ["string", "number", "boolean"]})]
VolumeGroup = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+.][A-Za-z0-9_+.-]*$", max_length=60)]
NoZero = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Variable = Annotated[str, Field(pattern=r"^TWOFOLD_[A-Z0-9_]+$")]
Bridge = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$")]
DiskTemplate = Literal["drbd", "plain", "diskless"]
Virtualization = Literal["kvm", "qemu"]
State = Literal["running", "stopped", "absent"]
NodeState = Literal["online", "drained", "offline"]


class Model(BaseModel):
    """Base: no unknown keys, never changed after it was made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(Model):
    """A named address pool with its bridge on the nodes."""

    bridge: Bridge = Field(description="The bridge on every node that takes instances of this network")
    cidr: Cidr | None = Field(default=None, description="The network's addresses; without it no address is given out")
    gateway: Address | None = Field(default=None, description="The default gateway of the guests")
    nameservers: list[Address] = Field(default=[], description="Name servers of the guests")
    search: list[str] = Field(default=[], description="Search domains of the guests")
    reserved: list[Annotated[str, BeforeValidator(_reserved)]] = Field(
        default=[], description="Addresses and ranges (first-last) that are never given out"
    )
    manage: bool = Field(default=False, description="Whether the bootstrap of nodes makes the bridge")
    interface: str | None = Field(default=None, description="The interface that the bootstrap puts into the bridge")
    mtu: int | None = Field(default=None, ge=576, le=65536, description="The MTU of the guests' interfaces, in bytes")


class OsTemplate(Model):
    """How a new instance's first disk gets its contents."""

    kind: Literal["image", "script"] = Field(
        default="image", description="An image that is written, or a script that is run"
    )
    url: str | None = Field(
        default=None, pattern=r"^(https?://|file:///|/)[^\s\x00]+$", description="Where the nodes fetch the image from"
    )
    file: str | None = Field(default=None, description="The image's path on the control host")
    sha256: Digest | None = Field(default=None, description="The image's SHA-256 sum")
    format: Literal["raw", "qcow2"] = Field(default="qcow2", description="The image's format")
    script: str | None = Field(
        default=None, description="The script: a path on the control host, or the name of a shipped one"
    )
    environment: dict[Variable, NoZero] = Field(
        default={}, repr=False, description="Environment variables of the script; names start with TWOFOLD_"
    )
    timeout: int = Field(default=3600, ge=1, description="Seconds that the script may take; then it is killed")
    seed: bool = Field(default=True, description="Whether instances get a NoCloud seed")


class Disk(Model):
    """One disk of an instance."""

    size: Size = Field(description="The disk's size, like 20GiB")
    volume_group: VolumeGroup | None = Field(default=None, description="Another volume group than the node's own")


class Nic(Model):
    """One network interface of an instance."""

    network: str = Field(description="The network's name in twofold_networks")
    address: Annotated[str, BeforeValidator(_nic_address), WithJsonSchema(_TEXT)] = Field(
        default="auto", description="An IP address, auto (the lowest free one of the network) or none"
    )
    mac: Mac | None = Field(default=None, description="The MAC address; by default derived from the instance's name")


class ReplicationSettings(Model):
    """DRBD: `twofold_replication_*`."""

    protocol: Literal["A", "B", "C"] = Field(default="C", description="DRBD's protocol; live migration needs C")
    resync_rate: Rate = Field(default=100 << 20, description="Resync rate per second to start with")
    resync_max_rate: Rate = Field(default=500 << 20, description="Highest resync rate per second")
    ping_interval: int = Field(default=3, ge=1, le=120, description="Seconds between keep-alives on an idle connection")
    timeout: int = Field(
        default=120, ge=5, description="Seconds to wait for the peer's handshake, and for a resync that stands still"
    )


class MigrationSettings(Model):
    """Live migration: `twofold_migration_*`."""

    bandwidth: Rate | None = Field(default=None, description="Highest rate per second; without it as fast as it goes")
    downtime: int = Field(
        default=300, ge=1, le=60000, description="Longest pause of the guest that is aimed at, milliseconds"
    )
    auto_converge: bool = Field(
        default=True, description="Slow the guest down when its memory changes faster than it is copied"
    )
    postcopy: bool = Field(
        default=False, description="Switch over before all memory is copied, if it does not converge"
    )
    timeout: int = Field(default=1800, ge=10, description="Seconds after which a migration is given up")


class Flavour(Model):
    """A size of instances that capacity.yml counts with."""

    memory: Size = Field(default=1 << 30, description="Memory, like 2GiB")
    vcpus: int = Field(default=1, ge=1, le=512, description="Virtual processors")
    disks: list[Disk] = Field(default=[], max_length=24, description="Disks")
    disk_template: DiskTemplate = Field(default="drbd", description="How the disks are kept")
    virtualization: Virtualization = Field(default="kvm", description="Whether it needs a node with KVM")


class Cluster(Model):
    """Variables that are the same for every node and instance."""

    name: str = Field(
        default="twofold",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        json_schema_extra={"variable": "cluster_name"},
        description="The cluster's name",
    )
    secret: str = Field(
        default="",
        repr=False,
        json_schema_extra={"variable": "cluster_secret"},
        description="What MAC addresses and DRBD secrets are derived from; at least 16 characters, from a vault",
    )
    networks: dict[str, Network] = Field(default={}, description="The networks by name")
    os_templates: dict[str, OsTemplate] = Field(default={}, description="The OS templates by name")
    drbd_ports: Ports = Field(default=(7100, 7699), description="TCP ports for DRBD, one an instance")
    resyncs_at_once: int = Field(
        default=2, ge=1, description="Resyncs that a node takes part in at once when several copies are replaced"
    )
    drbd_minors: Minors = Field(default=(1000, 9999), description="DRBD device numbers, one a disk")
    vcpu_ratio: float = Field(
        default=4.0, gt=0, description="Virtual processors that a node may give away for each of its own"
    )
    flavours: dict[str, Flavour] = Field(
        default={}, description="Sizes that capacity.yml counts with; by default those of the instances themselves"
    )
    starts_at_once: int = Field(default=10, ge=1, description="Guests that a node starts before it pauses")
    start_delay: int = Field(default=10, ge=0, le=60, description="Seconds of that pause")
    lock_lease: int = Field(
        default=120,
        ge=1,
        le=86400,
        description="Seconds after which the lock of a run that is not heard of any more may be taken over",
    )
    lock_wait: int = Field(
        default=150, ge=0, le=86400, description="Seconds to wait for a node that another run has locked"
    )


class FenceDevice(Model):
    """A device that switches a node off: a program of fence-agents, or one that speaks Ganeti's OOB protocol."""

    agent: FenceAgent | None = Field(default=None, description="A program of fence-agents: fence_ipmilan")
    options: dict[FenceOptionName, FenceOption] = Field(
        default={}, repr=False, description="Its options, as its manual page names them: ip, username, password"
    )
    oob: str | None = Field(
        default=None, pattern=r"^/[^\n]+$", description="A program that is called with an OOB command and the node"
    )
    timeout: int = Field(default=60, ge=1, le=600, description="Seconds for one command, and until its effect is seen")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.agent is None) == (self.oob is None):
            raise ValueError("has to have either agent or oob")
        return self


# One way to switch a node off: one device, or several that only together take its power away (two power supplies).
FenceMethod = Annotated[list[FenceDevice], BeforeValidator(_one_or_more), Field(min_length=1)]


def _fence_schema(schema: dict[str, Any]) -> None:
    """A method with one device may stand without the list."""
    method = schema["items"]
    schema["items"] = {"anyOf": [method["items"], method]}


class Node(Model):
    """A virtualization host."""

    name: str
    address: str = Field(description="The node's address for the other nodes; by default ansible_host")
    replication_address: Address | None = Field(
        default=None, description="The address for DRBD; by default twofold_address"
    )
    migration_address: Address | None = Field(
        default=None, description="The address for migrations; by default the one for DRBD"
    )
    volume_group: VolumeGroup = Field(default="twofold", description="The volume group for instances' disks")
    reserved_memory: Size = Field(default=512 << 20, description="Memory that is kept for the node itself")
    group: str = Field(
        default="default",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="The node group: both nodes of an instance are of one group, and it moves within it",
    )
    failure_domain: Names = Field(
        default=[], description="What it shares with other nodes and may fail with: the rack, the power feed, or both"
    )
    tags: Names = Field(
        default=[],
        json_schema_extra={"variable": "node_tags"},
        description="What it has that others lack, for twofold_required_tags of instances",
    )
    state: NodeState = Field(
        default="online",
        json_schema_extra={"variable": "node_state"},
        description="drained takes no new instances; offline is off for sure: nothing waits for its answer",
    )
    fence: list[FenceMethod] = Field(
        default=[],
        repr=False,
        json_schema_extra=_fence_schema,
        description="How its power is switched: ways that are tried one after another, each a device or a list of them",
    )

    @property
    def migrate_to(self) -> str:
        """The address that migrations to this node go to."""
        return self.migration_address or self.replication_address or self.address

    @property
    def replicate_at(self) -> str:
        """The address for DRBD."""
        return self.replication_address or self.address


class Instance(Model):
    """A guest."""

    name: str
    state: State = Field(default="running", description="What it should be; absent removes it with all its data")
    disk_template: DiskTemplate = Field(default="drbd", description="How its disks are kept")
    memory: Size = Field(default=1 << 30, description="Its memory, like 2GiB")
    vcpus: int = Field(default=1, ge=1, le=512, description="Its virtual processors")
    disks: list[Disk] = Field(default=[], max_length=24, description="Its disks")
    nics: list[Nic] = Field(default=[], max_length=16, description="Its network interfaces")
    os: str | None = Field(default=None, description="The OS template of its first disk; used when it is created")
    nodes: Names = Field(default=[], max_length=2, description="The nodes to create it on: primary, then secondary")
    excluded_nodes: Names = Field(default=[], description="Nodes that must not hold it")
    required_tags: Names = Field(default=[], description="Tags that its nodes have in twofold_node_tags")
    groups: Names = Field(default=[], description="The node groups that may hold it; by default all")
    affinity: Names = Field(default=[], description="Inventory groups and instances with which it runs on one node")
    anti_affinity: Names = Field(
        default=[], description="Inventory groups and instances with which it never runs on one node"
    )
    soft_affinity: Names = Field(default=[], description="Like twofold_affinity, if it can be had")
    soft_anti_affinity: Names = Field(default=[], description="Like twofold_anti_affinity, if it can be had")
    priority: int = Field(
        default=0, ge=-1000, le=1000, description="The higher start first, and where not all find room, the higher do"
    )
    auto_balance: bool = Field(
        default=True, description="Whether its secondary keeps memory free to take it over, and balance.yml moves it"
    )
    hostname: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$",
        description="The guest's host name; by default the instance's name",
    )
    ssh_keys: Names = Field(default=[], description="Public ssh keys for the guest's default user")
    user_data: Annotated[
        dict[str, Any], BeforeValidator(_user_data), WithJsonSchema({"type": ["object", "string"]})
    ] = Field(
        default={},
        repr=False,
        description="cloud-init user data, a mapping or #cloud-config text; wins over what is generated",
    )
    firmware: Literal["bios", "uefi"] = Field(default="bios", description="What boots the guest")
    machine: str = Field(default="q35", pattern=r"^[A-Za-z0-9._-]{1,64}$", description="QEMU's machine type")
    cpu: str = Field(
        default="host-passthrough",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="host-passthrough, host-model, maximum, or a model that all nodes have",
    )
    virtualization: Virtualization = Field(
        default="kvm", description="qemu emulates the processor: slow, works anywhere"
    )
    shutdown_timeout: int = Field(default=120, ge=1, description="Seconds that the guest has to shut down")
    replication: ReplicationSettings = ReplicationSettings()
    migration: MigrationSettings = MigrationSettings()


@dataclass(frozen=True)
class Desired:
    """What the inventory says.

    `instances` are those without errors; `rejected` names the others, which are left alone. `blocked` is true if the
    cluster or a node is wrong: then nothing can be planned. `findings` are all of the inventory's. `groups` are the
    inventory's groups with the instances in each.
    """

    cluster: Cluster
    nodes: dict[str, Node]
    instances: dict[str, Instance]
    rejected: frozenset[str] = frozenset()
    blocked: bool = False
    findings: tuple[Finding, ...] = field(default=())
    groups: dict[str, frozenset[str]] = field(default_factory=dict)

    def members(self, name: str) -> frozenset[str]:
        """The instances that a name in an affinity means: those of an inventory group, or the one of that name."""
        own = frozenset({name} & self.instances.keys())
        return own | (self.groups.get(name, frozenset()) & self.instances.keys())
