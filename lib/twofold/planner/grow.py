# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make disks larger while the guest runs. They are never made smaller.

The new size stands in the definition only when everything has it, so an interrupted growth is planned again as a whole;
what is done already changes nothing then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .. import names, units
from ..errors import ValueProblem
from ..model import Instance
from ..observed import Trace, Volume
from ..render.domain import disk_source, disk_target
from ..units import format_size
from . import copies, named, rebooting, replicated, volumes
from .context import Chain, Context
from .report_only import SMALLER
from .situation import Situation, assess

if TYPE_CHECKING:
    from .converge import Converge

Sizes = Mapping[int, int]


def instance(context: Context, name: str, disk: str, size: str) -> None:
    """Add the steps that make one disk of an instance larger than the inventory says."""
    found = named.existing(context, name)
    if found is None:
        return
    wanted, trace = found
    base = trace.newest or {}
    try:
        asked = {int(disk): units.parse_size(size)}
    except (ValueProblem, ValueError) as error:
        message = f"disk {disk!r}, size {size!r}: {error}"
        context.error("wrong-arguments", name, message, "give -e disk=0 -e size=40GiB")
        return
    index, bytes_ = next(iter(asked.items()))
    present = {one["index"]: one["size"] for one in base["disks"]}
    if index not in present:
        context.error("unknown-disk", name, f"it has no disk {index}", f"its disks are {sorted(present)}")
        return
    if bytes_ <= present[index]:
        message = f"disk {index} has {format_size(present[index])} already"
        context.error("not-larger", name, message, SMALLER)
        return
    situation = assess(context, wanted, trace)
    if situation is None or volumes.report_unfinished(context, base, trace, situation.nodes):
        return
    if not _is_settled(context, base, trace):
        return
    chain = Chain(context, name)
    grown = Growth(context, wanted, trace, situation, chain).run({**base}, asked)
    if grown:
        why = f"disk {index} grows from {format_size(present[index])} to {format_size(bytes_)}"
        context.change(name, "grow", chain.nodes, why)
        if index < len(wanted.disks) and wanted.disks[index].size != bytes_:
            remedy = f"set twofold_disks[{index}].size to {format_size(bytes_)}"
            context.info("inventory-behind", name, f"the inventory still says {wanted.disks[index].size} bytes", remedy)


def _is_settled(context: Context, base: dict[str, Any], trace: Trace) -> bool:
    """Whether every node has its definition and its volumes as they should be; a finding if not."""
    generations = {(trace.definitions.get(node) or {}).get("generation") for node in base["nodes"]}
    settled = generations == {base["generation"]}
    if not settled or any(volumes.untagged(base, trace, node) for node in base["nodes"]):
        message = "its definition, or the tags of its volumes, are not on every node as they should be"
        context.error("not-settled", base["name"], message, "run site.yml first, it clears that up")
        return False
    return True


def of_converge(converge: Converge) -> None:
    """Add what the inventory asks for more than the disks of an instance have."""
    base = converge.situation.base
    if base is None or converge.rebuilt or len(base["disks"]) != len(converge.wanted.disks):
        return
    pairs = zip(base["disks"], converge.wanted.disks, strict=True)
    asked = {disk["index"]: one.size for disk, one in pairs if one.size > disk["size"]}
    c = converge
    if asked and c.creating:
        message = "an earlier run began to make it with smaller disks; it is made with these first"
        c.context.info("grows-later", c.wanted.name, message, "run this again, and its disks grow")
    elif asked and c.wait:
        message = "an earlier replacement is brought to its end first; its disks grow after that"
        c.context.info("grows-later", c.wanted.name, message, "run site.yml then, and its disks grow")
    elif asked:
        Growth(c.context, c.wanted, c.trace, c.situation, c.chain).run(c.document, asked)


class Growth:
    """The growth of some disks of an instance."""

    def __init__(self, context: Context, wanted: Instance, trace: Trace, situation: Situation, chain: Chain) -> None:
        self.context = context
        self.wanted = wanted
        self.trace = trace
        self.situation = situation
        self.chain = chain
        self.primary = situation.primary
        self.former = {disk["index"]: disk["size"] for disk in (situation.base or {})["disks"]}

    def run(self, document: dict[str, Any], asked: Sizes) -> bool:
        """Add the steps after what the chain has, which leads to `document`; whether it can be done."""
        drbd = document["disk_template"] == "drbd"
        if not self._can(document, asked, drbd=drbd) or (drbd and not self._metadata_is_large(document, asked)):
            return False
        grown = [{**disk, "size": asked.get(disk["index"], disk["size"])} for disk in document["disks"]]
        disks = [disk for disk in grown if disk["index"] in asked]
        done = [self._volumes(node, disks) for node in document["nodes"]]
        if drbd:
            self._replication({**document, "disks": disks}, after=done)
        for disk in disks:
            self._guest({**document, "disks": grown}, disk)
        self._definitions(document, grown)
        return True

    def _can(self, document: dict[str, Any], asked: Sizes, *, drbd: bool) -> bool:
        name = self.wanted.name
        if drbd and not copies.whole(self.trace, document["nodes"]):
            message = "its disk grows only when both copies are up to date and connected"
            self.context.error("not-replicated", name, message, "wait for the resync, and run this again")
            return False
        kept = [v.name for node in document["nodes"] for v in self.trace.volumes.get(node, {}).values() if v.kept]
        if kept:
            message = f"its disks cannot grow while {', '.join(sorted(set(kept)))} is kept"
            self.context.error("data-kept", name, message, f"drop_kept.yml -e instance={name} removes it")
            return False
        away = rebooting.reason(self.context.observed.known(self.primary))
        if away is not None and drbd and not self._ends_primary():
            message = f"its disk does not grow: {self.primary} is {away}"
            self.context.error("node-rebooting", name, message, "run this again when the node is back")
            return False
        return all(self._room(node, document, asked) for node in document["nodes"])

    def _ends_primary(self) -> bool:
        """Whether its disks will be Primary after what the chain has."""
        chain, resource = self.chain, self.trace.resources.get(self.primary)
        return chain.has(self.primary, "domain.start") or (
            resource is not None and resource.primary and not chain.has(self.primary, "replication.demote")
        )

    def _metadata_is_large(self, document: dict[str, Any], asked: Sizes) -> bool:
        """DRBD describes each 4 KiB of a disk by a bit; a disk never gets larger than its metadata can tell."""
        for disk in document["disks"]:
            need = names.meta_size(asked.get(disk["index"], 0))
            for node in document["nodes"] if disk["index"] in asked else ():
                key = f"{disk['volume_group'][node]}/{names.meta_volume(self.wanted.name, disk['index'])}"
                meta = self.trace.volumes.get(node, {}).get(key)
                if meta is not None and meta.size < need:
                    message = f"disk {disk['index']}: DRBD's metadata on {node} has {format_size(meta.size)}, "
                    message += f"{format_size(need)} are needed for {format_size(asked[disk['index']])}"
                    remedy = (
                        f"replace_disks.yml -e instance={self.wanted.name} -e on={self._side(node)} makes it larger"
                    )
                    self.context.error("metadata-too-small", self.wanted.name, message, remedy)
                    return False
        return True

    def _side(self, node: str) -> str:
        return "primary" if node == self.primary else "secondary"

    def _room(self, node: str, document: dict[str, Any], asked: Sizes) -> bool:
        view = self.context.observed.known(node)
        for disk in document["disks"]:
            if disk["index"] not in asked or view is None:
                continue
            group, size = disk["volume_group"][node], asked[disk["index"]]
            data = self._data(node, disk)
            more = max(0, units.round_up(size, view.extent(group)) - (data.size if data else 0))
            free = self.context.claims.space_free(node, group) or 0
            if free < more:
                message = (
                    f"disk {disk['index']} cannot grow on {node}: {format_size(max(free, 0))} free in volume group"
                )
                message += f" {group}, {format_size(more)} needed"
                remedy = "add a device to the group, grow less, or replace this copy on another node first"
                self.context.error("no-room", self.wanted.name, message, remedy)
                return False
            self.context.claims.take_space(node, {group: more})
        return True

    def _volumes(self, node: str, disks: Iterable[dict[str, Any]]) -> str:
        listed = [
            {
                "volume_group": disk["volume_group"][node], "name": names.data_volume(self.wanted.name, disk["index"]),
                "size": disk["size"], "minor": disk["minor"][node] if disk["minor"] else None,
            }
            for disk in disks
        ]  # fmt: skip
        args = {"instance": self.wanted.name, "volumes": listed}
        return self.chain.add(node, "volumes.grow", args, why="the disk grows, its new part is zeroed")

    def _replication(self, document: dict[str, Any], after: Iterable[str]) -> None:
        """DRBD grows on the primary; that of a stopped guest is one only for this."""
        chain, ends_primary = self.chain, self._ends_primary()
        settings = {"resource": self.wanted.name, "timeout": self.wanted.replication.timeout}
        if not ends_primary:
            chain.add(self.primary, "replication.promote", settings, why="a disk grows on the primary", after=after)
        backing = {one["volume"]: one for one in replicated.configure_args(document, self.primary)["volumes"]}
        listed = [{**backing[disk["index"]], "size": disk["size"]} for disk in document["disks"]]
        clean = all(self._zeroed(node, disk) for node in document["nodes"] for disk in document["disks"])
        args = {**settings, "clean": clean, "volumes": listed}
        chain.add(self.primary, "replication.resize", args, why="both sides are larger", after=after)
        if not ends_primary:
            chain.add(self.primary, "replication.demote", settings, why="it is not used")

    def _zeroed(self, node: str, disk: dict[str, Any]) -> bool:
        """Whether the new part reads as zeros on a node once its volume has grown: nobody else made it larger."""
        data, view = self._data(node, disk), self.context.observed.known(node)
        if data is None or view is None:
            return False
        extent = view.extent(disk["volume_group"][node])
        old, new = (units.round_up(size, extent) for size in (self.former[disk["index"]], disk["size"]))
        if data.size == old or (data.zero_from is not None and data.zero_from <= old):
            return True
        return data.size >= new and data.grown is not None and data.grown[0] <= old and data.grown[1] >= data.size

    def _data(self, node: str, disk: dict[str, Any]) -> Volume | None:
        key = f"{disk['volume_group'][node]}/{names.data_volume(self.wanted.name, disk['index'])}"
        return self.trace.volumes.get(node, {}).get(key)

    def _guest(self, document: dict[str, Any], disk: dict[str, Any]) -> None:
        domain = self.trace.domains.get(self.primary)
        runs = domain is not None and domain.active and not self.chain.has(self.primary, "domain.stop")
        if runs or self.chain.has(self.primary, "domain.start"):
            target = disk_target(disk["index"])
            args = {"name": self.wanted.name, "target": target, "device": disk_source(document, disk, self.primary)}
            why = f"the guest sees {format_size(disk['size'])} of {target}"
            self.chain.add(self.primary, "domain.resize", args, why=why)

    def _definitions(self, document: dict[str, Any], disks: list[dict[str, Any]]) -> None:
        """Last, on all nodes; they follow what the chain writes before."""
        written = [s.args["document"]["generation"] for s in self.chain.added if s.op == "definition.write"]
        generation = max([*written, *(int(d["generation"]) for d in self.trace.definitions.values())])
        new = {**document, "disks": disks, "generation": generation + 1}
        after = [self.chain.last[self.primary]]
        for node in document["nodes"]:
            args = {"document": new, "expect_generation": generation}
            self.chain.add(node, "definition.write", args, why="the definition changes: disks", after=after)
