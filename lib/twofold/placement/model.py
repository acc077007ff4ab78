# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine reasons about: node groups, nodes, instances, policies. Immutable, no behaviour beyond look-ups.

All memory and disk quantities are MiB, vCPU and spindle quantities are counts.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class AllocPolicy(enum.Enum):
    """Whether new instances may be put into a node group; the order of the members is the order of preference."""

    PREFERRED = "preferred"
    LAST_RESORT = "last_resort"
    UNALLOCABLE = "unallocable"

    @property
    def rank(self) -> int:
        """Position in the order of preference, 0 is best."""
        return list(AllocPolicy).index(self)


class Mirror(enum.Enum):
    """How the disks of a template reach a second node."""

    NONE = "none"
    INTERNAL = "internal"
    EXTERNAL = "external"


#: Every disk template with how it is mirrored, in the order that decides defaults.
TEMPLATES: dict[str, Mirror] = {
    "diskless": Mirror.EXTERNAL,
    "file": Mirror.NONE,
    "sharedfile": Mirror.EXTERNAL,
    "plain": Mirror.NONE,
    "blockdev": Mirror.EXTERNAL,
    "drbd": Mirror.INTERNAL,
    "rbd": Mirror.EXTERNAL,
    "ext": Mirror.EXTERNAL,
    "gluster": Mirror.EXTERNAL,
}
#: Templates that take space from their node's own disks.
LOCAL_TEMPLATES = frozenset({"plain", "drbd"})
#: Templates whose instances balancing moves; a diskless instance could move as well, but Ganeti's tools leave it.
MOVABLE_TEMPLATES = frozenset({"drbd", "blockdev", "sharedfile", "gluster", "rbd", "ext"})

#: Every instance status that the text format knows.
STATUSES = (
    "running",
    "ADMIN_down",
    "ADMIN_offline",
    "USER_down",
    "ERROR_down",
    "ERROR_up",
    "ERROR_wrongnode",
    "ERROR_nodedown",
    "ERROR_nodeoffline",
)
#: Statuses in which an instance holds memory, or would as soon as its node is back.
MEMORY_STATUSES = frozenset({"running", "ERROR_up", "ERROR_nodedown", "ERROR_nodeoffline", "ERROR_wrongnode"})
#: Statuses in which an instance runs as wanted, so that a move is a live migration.
RUNNING_STATUSES = frozenset({"running", "ERROR_up"})


@dataclass(frozen=True, slots=True)
class Spec:
    """Size of an instance, as instance policies write it; disk_size is per disk."""

    memory: int
    vcpus: int
    disk_size: int
    disk_count: int = 1
    nic_count: int = 1
    spindle_use: int = 1


@dataclass(frozen=True, slots=True)
class Policy:
    """Instance policy: what may be created, and how far CPUs, spindles and memory may be overcommitted.

    Attributes:
        std: the standard size.
        bounds: alternatives of (least, most) sizes; an instance must fit one of them.
        templates: the disk templates allowed, the first is the default.
        vcpu_ratio: vCPUs allowed per physical CPU.
        spindle_ratio: spindle uses allowed per spindle.
        memory_ratio: memory promised to instances (running and reserved) allowed per memory of the node.
    """

    std: Spec = Spec(128, 1, 1024)
    bounds: tuple[tuple[Spec, Spec], ...] = ((Spec(128, 1, 1024), Spec(32768, 8, 1048576, 16, 8, 12)),)
    templates: tuple[str, ...] = tuple(TEMPLATES)
    vcpu_ratio: float = 4.0
    spindle_ratio: float = 32.0
    memory_ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class Group:
    """A node group: nodes alike enough to take each other's instances."""

    name: str
    uuid: str
    alloc_policy: AllocPolicy = AllocPolicy.PREFERRED
    tags: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class Node:
    """A virtualization host and what it reports.

    Attributes:
        total_memory, node_memory, free_memory: MiB: installed, used by the node itself, reported as free.
        total_disk, free_disk: MiB of the volume group.
        total_cpus: physical CPUs; node_cpus of them are kept for the node itself.
        group: UUID of its node group.
        cpu_speed: relative speed of its CPUs.
    """

    name: str
    total_memory: float
    node_memory: int
    free_memory: int
    total_disk: float
    free_disk: int
    total_cpus: float
    group: str
    offline: bool = False
    master: bool = False
    spindles: int = 1
    tags: tuple[str, ...] = ()
    exclusive_storage: bool = False
    free_spindles: int = 0
    node_cpus: int = 1
    cpu_speed: float = 1.0


@dataclass(frozen=True, slots=True)
class Instance:
    """A guest.

    Attributes:
        memory: MiB. disk: MiB in total, as its node must provide it. vcpus: count.
        primary, secondary: names of nodes; secondary is "" without one, primary is "" for one not placed yet.
        spindles: spindles that its disks need on nodes with exclusive storage; None where unknown.
        disks: size of each disk in MiB.
        forthcoming: reserved, not created yet.
        networks: names of the networks that it is connected to.
    """

    name: str
    memory: int
    disk: int
    vcpus: int
    primary: str = ""
    secondary: str = ""
    template: str = "drbd"
    status: str = "running"
    auto_balance: bool = True
    tags: tuple[str, ...] = ()
    spindle_use: int = 1
    spindles: int | None = None
    forthcoming: bool = False
    disks: tuple[int, ...] = ()
    networks: tuple[str, ...] = ()

    @property
    def mirror(self) -> Mirror:
        """How its disks reach a second node."""
        return TEMPLATES[self.template]

    @property
    def uses_memory(self) -> bool:
        """Whether it holds memory on its primary."""
        return self.status in MEMORY_STATUSES and not self.forthcoming

    @property
    def not_offline(self) -> bool:
        """Whether it counts for CPUs and reserved memory (everything but administratively offline)."""
        return self.status != "ADMIN_offline"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Everything known about a cluster at one moment."""

    groups: tuple[Group, ...] = ()
    nodes: tuple[Node, ...] = ()
    instances: tuple[Instance, ...] = ()
    tags: tuple[str, ...] = ()
    policy: Policy = field(default_factory=Policy)
