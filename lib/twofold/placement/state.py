# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster as arrays: what the nodes hold now, and the exact effect of adding and removing an instance.

The node model is that of Ganeti's htools (Node.hs of Ganeti 3.1 is its specification):

- unallocated memory = installed - node's own - running primaries - memory that is missing without explanation;
- reserved memory = the largest sum of memory of secondaries that share one primary, so that any one node may fail;
- a node fails N+1 when its unallocated memory is not more than its reserved memory.

All sizes are MiB, kept as float64: exact for whole numbers up to 2**53, and one type for every array.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from . import tags as tagging
from .errors import RequestError
from .model import LOCAL_TEMPLATES, MOVABLE_TEMPLATES, RUNNING_STATUSES, Cluster, Instance, Mirror, Node, Policy
from .names import Names

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]
T = TypeVar("T", "NodeArrays", "InstanceArrays")

#: Rows of State.dyn: everything about a node that changes when instances come and go.
(
    I_MEM,  # memory of the primaries that use memory
    R_MEM,  # reserved memory
    F_DSK,  # free disk
    U_CPU,  # virtual CPUs of the primaries plus the node's own
    LOAD_C,  # utilisation: CPU, memory, disk, network
    LOAD_M,
    LOAD_D,
    LOAD_N,
    SPIN,  # spindle uses
    F_SPIN,  # free spindles, on nodes with exclusive storage
    N_PRI,  # number of primaries
    N_SEC,  # number of secondaries
    MEM_FORTH,  # *_FORTH: the same with forthcoming instances counted; memory counts instances that are down, too
    DSK_FORTH,
    CPU_FORTH,
    SPIN_FORTH,
    F_SPIN_FORTH,
    LOC,  # location score: shared failure domains of pairs plus unsatisfied wishes
) = range(18)
_ROWS = 18


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How to look at a cluster.

    Attributes:
        exclusion_tags: further prefixes of exclusion tags.
        utilisation: load of instances by name: CPU, memory, disk, network; others count 1 each.
        ignore_utilisation: count no load at all.
        offline: names of nodes to treat as offline.
        min_disk: share of a node's disk that stays free (0 to 1).
        max_cpu: vCPUs per CPU, instead of the policy's; None for the policy's.
        selected: names of the only instances that may move; empty for all. excluded: names of those that may not.
    """

    exclusion_tags: tuple[str, ...] = ()
    utilisation: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)
    ignore_utilisation: bool = False
    offline: tuple[str, ...] = ()
    min_disk: float = 0.0
    max_cpu: float | None = None
    selected: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()


def with_full_names(options: BuildOptions, cluster: Cluster) -> BuildOptions:
    """The options with the names of nodes and instances in full; in measured load they always are.

    Raises:
        RequestError: for an unknown node or instance, and for names that are short for several.
    """
    if not (options.offline or options.selected or options.excluded):
        return options
    instances = Names("instance", (i.name for i in cluster.instances))
    return replace(
        options,
        offline=tuple(Names("node", (n.name for n in cluster.nodes)).all(options.offline)),
        selected=tuple(instances.all(options.selected)),
        excluded=tuple(instances.all(options.excluded)),
    )


class NodeArrays:
    """What about the nodes does not change when instances move; one element per node."""

    def __init__(self, cluster: Cluster, options: BuildOptions) -> None:
        nodes = cluster.nodes
        policies = {g.uuid: g.policy for g in cluster.groups}
        group_index = {g.uuid: k for k, g in enumerate(cluster.groups)}

        def column(get: Iterable[float]) -> Floats:
            return np.array(list(get), dtype=np.float64)

        self.names = [n.name for n in nodes]
        self.group: Ints = np.array([group_index[n.group] for n in nodes], dtype=np.intp)
        self.offline: Bools = np.array([n.offline or n.name in options.offline for n in nodes], dtype=bool)
        self.master: Bools = np.array([n.master for n in nodes], dtype=bool)
        self.exclusive: Bools = np.array([n.exclusive_storage for n in nodes], dtype=bool)
        self.t_mem = column(n.total_memory for n in nodes)
        self.n_mem = column(n.node_memory for n in nodes)
        self.t_dsk = column(n.total_disk for n in nodes)
        self.t_cpu = column(n.total_cpus for n in nodes)
        self.speed = column(n.cpu_speed for n in nodes)
        self.spindles = column(n.spindles for n in nodes)
        self.ratio = column(options.max_cpu if options.max_cpu is not None else _policy(policies, n) for n in nodes)
        self.hi_cpu = np.floor(self.ratio * self.t_cpu)
        self.hi_spin = column(policies[n.group].spindle_ratio for n in nodes) * self.spindles
        self.lo_dsk = np.floor(options.min_disk * self.t_dsk)
        self.memory_ratio = column(policies[n.group].memory_ratio for n in nodes)
        self.mem_cap = np.trunc(self.t_mem) - self.n_mem
        # With over-commitment, promises may exceed what is there: the policy's memory ratio (Ganeti 2.17) says how far.
        self.extra_mem = np.floor(np.maximum(self.mem_cap, 0.0) * (self.memory_ratio - 1.0))
        self.x_mem = np.zeros(len(nodes))
        self.locations = [tagging.locations(cluster.tags, n.tags) for n in nodes]
        self.standby = [tagging.is_standby(n.tags) for n in nodes]
        self.tags = [n.tags for n in nodes]

    def divisors(self) -> None:
        """Prepare what scores divide by; a total of zero (an unknown node) must not divide."""
        self.d_mem = np.where(self.t_mem == 0, 1.0, self.t_mem)
        self.d_dsk = np.where(self.t_dsk == 0, 1.0, self.t_dsk)
        self.d_cpu = np.where(self.t_cpu == 0, 1.0, self.t_cpu)
        self.d_spindles = np.where(self.spindles == 0, 1.0, self.spindles)
        self.d_hi_spin = np.where(self.hi_spin == 0, 1.0, self.hi_spin)
        self.d_speed = np.where(self.speed == 0, 1.0, self.speed)
        self.no_disk: Bools = np.where(self.exclusive, self.spindles == 0, self.t_dsk == 0)


def _policy(policies: dict[str, Policy], node: Node) -> float:
    return policies[node.group].vcpu_ratio


class InstanceArrays:
    """What about the instances does not change when they move; one element per instance."""

    def __init__(self, instances: list[Instance], options: BuildOptions, keys: TagKeys) -> None:
        """options must have full names: see with_full_names()."""
        self.instances = instances
        self.names = [i.name for i in instances]

        def column(get: Iterable[float]) -> Floats:
            return np.array(list(get), dtype=np.float64)

        def flags(get: Iterable[bool]) -> Bools:
            return np.array(list(get), dtype=bool)

        self.mem = column(i.memory for i in instances)
        self.dsk = column(i.disk for i in instances)
        self.vcpus = column(i.vcpus for i in instances)
        self.uses_mem = flags(i.uses_memory for i in instances)
        self.running = flags(i.status in RUNNING_STATUSES for i in instances)
        self.not_offline = flags(i.not_offline for i in instances)
        self.auto = flags(i.auto_balance for i in instances)
        self.forthcoming = flags(i.forthcoming for i in instances)
        self.local = flags(i.template in LOCAL_TEMPLATES for i in instances)
        self.drbd = flags(i.mirror is Mirror.INTERNAL for i in instances)
        self.external = flags(i.mirror is Mirror.EXTERNAL for i in instances)
        self.spindle_use = column(i.spindle_use for i in instances)
        self.spindles = column(-1 if i.spindles is None else i.spindles for i in instances)
        # Secondaries reserve memory when their instance would be started after a failover.
        self.sec_mem = np.where(self.auto & self.not_offline, self.mem, 0.0)
        none = (0.0, 0.0, 0.0, 0.0)
        one = (1.0, 1.0, 1.0, 1.0)
        loads = [none if options.ignore_utilisation else options.utilisation.get(i.name, one) for i in instances]
        self.load = np.array(loads, dtype=np.float64).reshape(len(instances), 4)
        self.tag_keys = [keys.exclusion_of(i.tags) for i in instances]
        numbers: dict[tuple[int, ...], int] = {}
        found = [numbers.setdefault(tuple(k.tolist()), len(numbers)) for k in self.tag_keys]
        #: Which set of exclusion tags each instance has; the sets themselves are tag_sets.
        self.tag_set: Ints = np.array(found, dtype=np.intp)
        self.tag_sets = tuple(np.array(k, dtype=np.intp) for k in numbers)
        self.wishes: Ints = np.array([keys.wishes_of(i.tags) for i in instances], dtype=np.intp)
        self.movable = flags(
            i.template in MOVABLE_TEMPLATES
            and i.name not in options.excluded
            and (not options.selected or i.name in options.selected)
            for i in instances
        )


class TagKeys:
    """Numbers for the exclusion tags, location tags and sets of wished locations of a cluster."""

    def __init__(self, cluster: Cluster, options: BuildOptions, extra: Iterable[Instance] = ()) -> None:
        given = [prefix + ":" for prefix in options.exclusion_tags]
        self.prefixes = given + tagging.exclusion_prefixes(cluster.tags)
        self.desired = tagging.desired_location_prefixes(cluster.tags)
        self.exclusion: dict[str, int] = {}
        self.wish_sets: dict[frozenset[str], int] = {frozenset(): 0}
        for instance in (*cluster.instances, *extra):
            self.exclusion_of(instance.tags)
            self.wishes_of(instance.tags)
        self.locations: dict[str, int] = {}
        for node in cluster.nodes:
            for tag in sorted(tagging.locations(cluster.tags, node.tags)):
                self.locations.setdefault(tag, len(self.locations))

    def exclusion_of(self, tags: Iterable[str]) -> Ints:
        """The numbers of an instance's exclusion tags."""
        found = tagging.matching(self.prefixes, tags)
        return np.array([self.exclusion.setdefault(t, len(self.exclusion)) for t in found], dtype=np.intp)

    def wishes_of(self, tags: Iterable[str]) -> int:
        """The number of an instance's set of wished locations; 0 is the empty set."""
        found = frozenset(tagging.matching(self.desired, tags))
        return self.wish_sets.setdefault(found, len(self.wish_sets))


class State:
    """A cluster in numbers. Node and instance numbers follow the order of the cluster's own tuples.

    Attributes:
        dyn: one row per changing quantity (the constants of this module), one column per node.
        peers: peers[s, p] is the memory that node s reserves for instances whose primary is node p.
        r_floor: reserved memory for primaries outside of this state (only in one made by subset()).
        pri, sec: node number of each instance's primary and secondary, -1 for none.
        loc_score: per instance, the number of failure domains that its pair shares.
        tag_count: per node and exclusion tag, how many primaries carry it.
    """

    cluster: Cluster
    options: BuildOptions
    nodes: NodeArrays
    inst: InstanceArrays
    keys: TagKeys
    dyn: Floats
    peers: Floats
    r_floor: Floats
    pri: Ints
    sec: Ints
    loc_score: Floats
    tag_count: Floats

    def __init__(self, cluster: Cluster, options: BuildOptions | None = None, extra: Iterable[Instance] = ()) -> None:
        """Build the state of a cluster.

        Args:
            cluster: what is observed. options: how to look at it.
            extra: instances that are not placed yet and may be added later; they get the numbers after the others.
        Raises:
            RequestError: when an option names an unknown node or instance.
        """
        self.cluster, self.options = cluster, with_full_names(options or BuildOptions(), cluster)
        extra = list(extra)
        self.keys = TagKeys(cluster, self.options, extra)
        self.nodes = NodeArrays(cluster, self.options)
        self.inst = InstanceArrays([*cluster.instances, *extra], self.options, self.keys)
        self._place(extra)
        self._prepare()

    def _place(self, extra: list[Instance]) -> None:
        cluster, count = self.cluster, len(self.cluster.nodes)
        index = {n.name: k for k, n in enumerate(cluster.nodes)}
        index[""] = -1
        total = len(cluster.instances) + len(extra)
        self.pri = np.full(total, -1, dtype=np.intp)
        self.sec = np.full(total, -1, dtype=np.intp)
        self.dyn = np.zeros((_ROWS, count))
        self.dyn[F_DSK] = self.dyn[DSK_FORTH] = [n.free_disk for n in cluster.nodes]
        self.dyn[F_SPIN] = self.dyn[F_SPIN_FORTH] = [n.free_spindles for n in cluster.nodes]
        self.dyn[U_CPU] = self.dyn[CPU_FORTH] = [n.node_cpus for n in cluster.nodes]
        self.dyn[MEM_FORTH] = [n.free_memory for n in cluster.nodes]
        self.peers = np.zeros((count, count))
        self.r_floor = np.zeros(count)
        self.tag_count = np.zeros((count, max(1, len(self.keys.exclusion))))
        self.loc_score = np.zeros(total)
        self._locations()
        for i, instance in enumerate(cluster.instances):
            self._load(i, index[instance.primary], index[instance.secondary])
        self.dyn[R_MEM] = self.peers.max(axis=1, initial=0.0)
        missing = self.nodes.mem_cap - self.dyn[I_MEM] - [n.free_memory for n in cluster.nodes]
        self.nodes.x_mem = missing
        self.nodes.mem_cap = self.nodes.mem_cap - np.maximum(0.0, missing) + self.nodes.extra_mem
        self.dyn[MEM_FORTH] += self.nodes.extra_mem
        self.nodes.divisors()

    def _locations(self) -> None:
        """shared[p, s]: failure domains that two nodes have in common; unmet[w, n]: wishes w not met by node n."""
        count = len(self.nodes.names)
        member = np.zeros((count, max(1, len(self.keys.locations))))
        for n, tags in enumerate(self.nodes.locations):
            for tag in tags:
                member[n, self.keys.locations[tag]] = 1.0
        self.loc_member = member
        self.shared = member @ member.T
        self.unmet = np.zeros((len(self.keys.wish_sets), count))
        for wish, w in self.keys.wish_sets.items():
            self.unmet[w] = [len(wish - tags) for tags in self.nodes.locations]

    def _load(self, i: int, p: int, s: int) -> None:
        """Count an instance that the observed free memory and disk already account for."""
        self.pri[i], self.sec[i] = p, s
        inst, dyn = self.inst, self.dyn
        mem, dsk = inst.mem[i], inst.dsk[i] if inst.local[i] else 0.0
        vcpus = inst.vcpus[i] if inst.not_offline[i] else 0.0
        spin = inst.spindle_use[i] if inst.local[i] else 0.0
        if s >= 0:
            self.loc_score[i] = self.shared[p, s]
        self.tag_count[p] += np.bincount(inst.tag_keys[i], minlength=self.tag_count.shape[1])
        dyn[CPU_FORTH, p] += vcpus
        if not inst.uses_mem[i]:
            dyn[MEM_FORTH, p] -= mem
        homes = (p,) if s < 0 else (p, s)
        for n in homes:
            if not self.nodes.exclusive[n]:
                dyn[SPIN_FORTH, n] += spin
        if inst.forthcoming[i]:
            for n in homes:
                dyn[DSK_FORTH, n] -= dsk
                if self.nodes.exclusive[n]:
                    dyn[F_SPIN_FORTH, n] -= inst.spindles[i] if inst.spindles[i] >= 0 else 0.0
            return
        self._count_primary(i, p, 1.0)
        dyn[I_MEM, p] += mem if inst.uses_mem[i] else 0.0
        dyn[U_CPU, p] += vcpus
        if not self.nodes.exclusive[p]:
            dyn[SPIN, p] += spin
        if s >= 0:
            dyn[N_SEC, s] += 1
            dyn[LOAD_D, s] += inst.load[i, 2]
            self.peers[s, p] += inst.sec_mem[i]
            if not self.nodes.exclusive[s]:
                dyn[SPIN, s] += spin

    def _count_primary(self, i: int, p: int, sign: float) -> None:
        """Number, load and location score of a primary; the order of additions matters for the last bit of loads."""
        dyn, load = self.dyn, self.inst.load[i]
        dyn[N_PRI, p] += sign
        dyn[LOAD_C, p] += sign * load[0]
        dyn[LOAD_M, p] += sign * load[1]
        dyn[LOAD_D, p] += sign * load[2]
        dyn[LOAD_N, p] += sign * load[3]
        dyn[LOC, p] += sign * (self.loc_score[i] + self.unmet[self.inst.wishes[i], p])

    def _prepare(self) -> None:
        nodes = self.nodes
        sources = [tagging.migration_source(self.cluster.tags, tags) for tags in nodes.tags]
        targets = [tagging.migration_target(self.cluster.tags, tags) for tags in nodes.tags]
        self.has_migration_tags = any(sources)
        #: may_migrate[a, b]: whether an instance may migrate from node a to node b.
        self.may_migrate = (
            np.array([[a <= b for b in targets] for a in sources], dtype=bool)
            if self.has_migration_tags
            else np.ones((1, 1), dtype=bool)
        )
        self.has_tags = bool(self.keys.exclusion)
        self.has_locations = bool(self.keys.locations) or len(self.keys.wish_sets) > 1
        self.has_exclusive = bool(nodes.exclusive.any())
        self._mark_split()
        self._mark_plain()

    def _mark_split(self) -> None:
        """Instances that lie across two node groups may not be moved."""
        placed = (self.pri >= 0) & (self.sec >= 0)
        split = placed & (self.nodes.group[self.pri] != self.nodes.group[self.sec])
        self.inst.movable &= ~split

    def _mark_plain(self) -> None:
        """plain: counting forthcoming instances changes nothing, so their checks and metrics can be left out."""
        free = self.nodes.mem_cap - self.dyn[I_MEM]
        same = bool(np.all(free == self.dyn[MEM_FORTH]))
        self.plain = same and bool(self.inst.uses_mem.all()) and not self.inst.forthcoming.any()

    # -- reading -----------------------------------------------------------------------------------------------

    @property
    def online(self) -> Bools:
        """Which nodes are online."""
        return ~self.nodes.offline

    @property
    def unallocated(self) -> Floats:
        """Memory per node that is given to no running primary (secondaries' reservations are not subtracted)."""
        free: Floats = self.nodes.mem_cap - self.dyn[I_MEM]
        return free

    @property
    def fails_n1(self) -> Bools:
        """Which nodes could not take over their secondaries after the failure of one peer."""
        fails: Bools = self.unallocated <= self.dyn[R_MEM]
        return fails

    def copy(self) -> State:
        """An independent copy; what never changes is shared."""
        other = object.__new__(State)
        other.__dict__.update(self.__dict__)
        for name in ("dyn", "peers", "pri", "sec", "loc_score", "tag_count"):
            setattr(other, name, getattr(self, name).copy())
        return other

    # -- changing ----------------------------------------------------------------------------------------------

    def remove_primary(self, i: int, n: int) -> None:
        """Take instance i off node n, where it is primary."""
        self._change_primary(i, n, -1.0)

    def add_primary(self, i: int, n: int) -> None:
        """Put instance i on node n as primary, unchecked; loc_score[i] must be that of its new pair."""
        self._change_primary(i, n, 1.0)

    def _change_primary(self, i: int, n: int, sign: float) -> None:
        inst, dyn = self.inst, self.dyn
        vcpus = sign * inst.vcpus[i] if inst.not_offline[i] else 0.0
        self._change_disk(i, n, sign)
        dyn[MEM_FORTH, n] -= sign * inst.mem[i]
        dyn[CPU_FORTH, n] += vcpus
        for key in inst.tag_keys[i]:
            self.tag_count[n, key] += sign
        if inst.forthcoming[i]:
            return
        if inst.uses_mem[i]:
            dyn[I_MEM, n] += sign * inst.mem[i]
        dyn[U_CPU, n] += vcpus
        self._count_primary(i, n, sign)

    def _change_disk(self, i: int, n: int, sign: float) -> None:
        inst, dyn = self.inst, self.dyn
        rows = ((DSK_FORTH, F_SPIN_FORTH, SPIN_FORTH), (F_DSK, F_SPIN, SPIN))
        for dsk, free_spin, spin in rows[:1] if inst.forthcoming[i] else rows:
            if inst.local[i]:
                dyn[dsk, n] -= sign * inst.dsk[i]
            if self.nodes.exclusive[n]:
                dyn[free_spin, n] -= sign * max(0.0, inst.spindles[i])
            elif inst.local[i]:
                dyn[spin, n] += sign * inst.spindle_use[i]

    def remove_secondary(self, i: int, n: int, primary: int) -> None:
        """Take the second copy of instance i, whose primary is given, off node n."""
        self._change_secondary(i, n, primary, -1.0)

    def add_secondary(self, i: int, n: int, primary: int) -> None:
        """Put the second copy of instance i, whose primary is given, on node n, unchecked."""
        self._change_secondary(i, n, primary, 1.0)

    def _change_secondary(self, i: int, n: int, primary: int, sign: float) -> None:
        inst, dyn = self.inst, self.dyn
        self._change_disk(i, n, sign)
        if inst.forthcoming[i]:
            return
        dyn[N_SEC, n] += sign
        dyn[LOAD_D, n] += sign * inst.load[i, 2]
        self.peers[n, primary] += sign * inst.sec_mem[i]
        dyn[R_MEM, n] = max(self.r_floor[n], self.peers[n].max())

    def place(self, i: int, p: int, s: int) -> None:
        """Put an instance that is not placed on p and s (-1 for none), unchecked."""
        self.loc_score[i] = self.shared[p, s] if s >= 0 else 0.0
        self.add_primary(i, p)
        if s >= 0:
            self.add_secondary(i, s, p)
        self.pri[i], self.sec[i] = p, s

    def unplace(self, i: int) -> None:
        """Take an instance off its nodes."""
        p, s = int(self.pri[i]), int(self.sec[i])
        self.remove_primary(i, p)
        if s >= 0:
            self.remove_secondary(i, s, p)
        self.pri[i] = self.sec[i] = -1

    def append(self, instance: Instance) -> int:
        """Add an instance that is not placed, and return its number."""
        inst = self.inst
        one = InstanceArrays([instance], self.options, self.keys)
        number = len(inst.names)
        merged = object.__new__(InstanceArrays)
        for name, value in vars(inst).items():
            new = getattr(one, name)
            if name in ("tag_set", "tag_sets"):
                continue
            joined = np.concatenate([value, new]) if isinstance(value, np.ndarray) else [*value, *new]
            setattr(merged, name, joined)
        keys = one.tag_keys[0]
        known = [k for k, other in enumerate(inst.tag_sets) if np.array_equal(other, keys)]
        merged.tag_sets = inst.tag_sets if known else (*inst.tag_sets, keys)
        merged.tag_set = np.append(inst.tag_set, known[0] if known else len(inst.tag_sets))
        self.inst = merged
        self.pri, self.sec = np.append(self.pri, -1), np.append(self.sec, -1)
        self.loc_score = np.append(self.loc_score, 0.0)
        self._mark_plain()
        return number

    def resize(self, i: int, instance: Instance) -> None:
        """Give an instance that is not placed another size: memory, disk, vCPUs, spindles."""
        inst = self.inst
        inst.instances[i] = instance
        inst.mem[i], inst.dsk[i], inst.vcpus[i] = instance.memory, instance.disk, instance.vcpus
        inst.spindles[i] = -1 if instance.spindles is None else instance.spindles
        inst.sec_mem[i] = instance.memory if instance.auto_balance and instance.not_offline else 0

    def subset(self, group: int) -> State:
        """The state of one node group alone; reservations for primaries elsewhere stay in force."""
        keep = np.flatnonzero(self.nodes.group == group)
        homes = np.isin(self.pri, keep)
        which = np.flatnonzero(homes)
        nodes = tuple(self.cluster.nodes[k] for k in keep)
        instances = tuple(self.cluster.instances[k] for k in which if k < len(self.cluster.instances))
        other = object.__new__(State)
        other.__dict__.update(self.__dict__)
        other.cluster = Cluster(self.cluster.groups, nodes, instances, self.cluster.tags, self.cluster.policy)
        other.nodes, other.inst = _take(self.nodes, keep), _take(self.inst, which)
        number = np.full(len(self.nodes.names) + 1, -1, dtype=np.intp)
        number[keep] = np.arange(len(keep))
        other.pri, other.sec = number[self.pri[which]], number[self.sec[which]]
        other.dyn, other.tag_count = self.dyn[:, keep].copy(), self.tag_count[keep].copy()
        outside = np.delete(np.arange(len(self.nodes.names)), keep)
        other.r_floor = self.peers[np.ix_(keep, outside)].max(axis=1, initial=0.0)
        other.peers = self.peers[np.ix_(keep, keep)].copy()
        other.loc_score = self.loc_score[which].copy()
        other.shared, other.unmet = self.shared[np.ix_(keep, keep)], self.unmet[:, keep]
        other.loc_member = self.loc_member[keep]
        if self.has_migration_tags:
            other.may_migrate = self.may_migrate[np.ix_(keep, keep)]
        other.has_exclusive = bool(other.nodes.exclusive.any())
        other._mark_plain()
        return other

    def group_number(self, name: str) -> int:
        """The number of a node group given by name or UUID. Raises RequestError if there is none."""
        for number, group in enumerate(self.cluster.groups):
            if name in (group.name, group.uuid):
                return number
        raise RequestError(f"unknown node group {name!r}")

    def current(self) -> Cluster:
        """The cluster with every instance where this state has it, and with the free resources that follow."""
        names = [*self.nodes.names, ""]
        instances = tuple(
            _moved(instance, names[self.pri[i]], names[self.sec[i]])
            for i, instance in enumerate(self.inst.instances)
            if self.pri[i] >= 0
        )
        nodes = tuple(_with_free(node, self, n) for n, node in enumerate(self.cluster.nodes))
        c = self.cluster
        return Cluster(c.groups, nodes, instances, c.tags, c.policy)


def _take(source: T, keep: Ints) -> T:
    """The same record with only the elements numbered keep in each of its columns."""
    result = object.__new__(type(source))
    for name, value in vars(source).items():
        if isinstance(value, np.ndarray):
            setattr(result, name, value[keep])
        elif isinstance(value, tuple):
            setattr(result, name, value)  # not per element
        else:
            setattr(result, name, [value[k] for k in keep])
    return result


def _moved(instance: Instance, primary: str, secondary: str) -> Instance:
    if (instance.primary, instance.secondary) == (primary, secondary):
        return instance

    return replace(instance, primary=primary, secondary=secondary)


def _with_free(node: Node, state: State, n: int) -> Node:

    free = int(state.nodes.mem_cap[n] - state.nodes.extra_mem[n] - state.dyn[I_MEM, n])
    # Memory that was missing or in excess when the state was built is still so.
    free += int(max(0.0, -state.nodes.x_mem[n]))
    return replace(
        node,
        free_memory=free,
        free_disk=int(state.dyn[F_DSK, n]),
        free_spindles=int(state.dyn[F_SPIN, n]),
        offline=bool(state.nodes.offline[n]),
    )
