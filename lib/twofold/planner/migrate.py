# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Live migration of one instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import definition, names
from ..model import Instance, Node
from ..observed import Domain, Trace
from ..render.domain import disk_target, with_sources
from ..units import format_size
from . import document as plan
from . import fit, named, placed, replicated, report_only, twins, volumes
from .context import Chain, Context
from .converge import seed_again
from .definitions import write_definitions
from .situation import Situation, assess


def instance(context: Context, name: str, target: str | None) -> None:
    """Add the steps that move a running instance to another node."""
    wanted = named.wanted(context, name)
    if wanted is None or not named.is_node(context, name, target):
        return
    migration = running(context, wanted, target)
    if migration is not None:
        migration.run(target)


def uri(node: Node) -> str:
    """Where libvirt of a node takes guests."""
    return f"qemu+tls://{_host(node)}/system"


def _host(node: Node) -> str:
    return f"[{node.migrate_to}]" if ":" in node.migrate_to else node.migrate_to


def running(
    context: Context, wanted: Instance, target: str | None = None, after: Sequence[str] = ()
) -> Migration | None:
    """The migration of an instance, if it runs and is not on the target already; else a finding says why not.

    `after` are the ids of steps that have to be done before it begins.
    """
    name, trace = wanted.name, context.observed.trace(wanted.name)
    if not named.is_created(context, trace):
        return None
    situation = assess(context, wanted, trace)
    if situation is None:
        return None
    domain = trace.domains.get(situation.primary)
    if target == situation.primary and domain is not None and domain.active:
        context.info("already-there", name, f"it runs on {target} already")
        return None
    if domain is None or domain.state != "running":
        state = domain.state if domain is not None else "not defined"
        message = f"it does not run on {situation.primary} (it is {state}), so there is nothing to move while it runs"
        context.error("not-running", name, message, "start it first")
        return None
    return Migration(context, wanted, trace, situation, domain, after=after)


class Migration:
    """The migration of an instance that runs."""

    def __init__(
        self,
        context: Context,
        wanted: Instance,
        trace: Trace,
        situation: Situation,
        domain: Domain,
        *,
        after: Sequence[str] = (),
    ) -> None:
        self.context = context
        self.wanted = wanted
        self.trace = trace
        self.situation = situation
        self.domain = domain
        self.source = situation.primary
        self.base: dict[str, Any] = situation.base or {}
        self.chain = Chain(context, wanted.name, after)

    @property
    def drbd(self) -> bool:
        """Whether its disks are on DRBD."""
        return bool(self.base["disk_template"] == "drbd")

    def run(self, target: str | None) -> bool:
        """Check, then add the steps; whether it can be done."""
        if not self.may_begin():
            return False
        chosen = self._secondary(target) if self.drbd else self._free_choice(target)
        if chosen is None or not self._fits(chosen):
            return False
        built = self._prepared(chosen)
        if built is None:
            return False
        if self.drbd:
            self._drbd(chosen, built)
        else:
            self._plain(chosen, built)
        why = f"from {self.source} to {chosen}"
        self.context.change(self.wanted.name, "migrate", (self.source, chosen), why)
        return True

    def may_begin(self) -> bool:
        """Whether it is in a state to be moved at all, wherever it goes; else a finding says why not."""
        moved = self.source not in self.base["nodes"]
        if moved or self.situation.undefine or replicated.needs_settling(self.trace, self.source):
            message = "an earlier migration left something behind"
            self._error("not-settled", message, "run site.yml first, it clears that up")
            return False
        if definition.OWED in self.base:
            where = self.base[definition.OWED]
            self._error("not-created", f"its OS was not written to the end on {where}", "run site.yml first")
            return False
        if self.drbd:
            return self._replication_is_fine(self.situation.nodes[1])
        gone = volumes.missing(self.base, self.trace, self.source)
        if gone:
            volumes.report_vanished(self.context, self.base, gone, self.source)
        return not gone

    def _error(self, code: str, message: str, remedy: str) -> None:
        self.context.error(code, self.wanted.name, message, remedy)

    def _prepared(self, target: str) -> definition.Wanted | None:
        """The definition on the target, with the seed there; None with a finding if it cannot be made."""
        try:
            built = self._build(target)
        except definition.Impossible as error:
            self._error(error.code, str(error), error.remedy)
            return None
        return built if self._seeded(target, built.document) else None

    def _build(self, target: str) -> definition.Wanted:
        nodes = (target, self.source) if self.base["disk_template"] == "drbd" else (target,)
        builder = definition.Builder(self.context.desired, self.context.observed, self.context.claims, self.wanted)
        built = builder.build(nodes, self.base, installed=True, moves=True)
        # A migration moves; what else the inventory changed is converge's.
        kept = {
            key: self.base[key]
            for key in ("state", "memory", "vcpus", "os", "replication_config", "secret_digest", "seed_digest")
        }
        xml = str(self.base["domain_xml"])
        if self.base["disk_template"] != "drbd":
            for old, new in self._sources(built).items():
                xml = xml.replace(f'"{old}"', f'"{new}"')
        document = {**built.document, **kept, "domain_xml": xml}
        return definition.Wanted(document, built.seed, built.template)

    def _secondary(self, target: str | None) -> str | None:
        secondary = self.situation.nodes[1]
        if target is not None and target != secondary:
            message = f"{target} does not hold its disks; they are on {self.source} and {secondary}"
            self._error("target-without-disk", message, f"migrate it to {secondary}")
            return None
        return secondary

    def _free_choice(self, target: str | None) -> str | None:
        if target is not None:
            return target
        others = [name for name in sorted(self.context.desired.nodes) if name != self.source]
        rules = {name: placed.against(self.context, self.wanted, self.source, name) for name in others}
        problems = {name: [*rules[name], *self._problems(name)] for name in others}
        fitting = [name for name in others if not problems[name]]
        if not fitting:
            reasons = "; ".join(f"{name}: {', '.join(found)}" for name, found in problems.items())
            self._error("no-node-fits", f"it can go nowhere: {reasons}", "free or add what is missing")
            return None
        return min(fitting, key=lambda name: (-self.context.claims.memory_free(name), name))

    def _problems(self, node: str) -> list[str]:
        """What keeps the instance from a node."""
        found = fit.problems(self.context, self.base, node, self.domain.memory)
        if self.context.observed.known(node) is None:
            return found
        if twins.holds_anothers(self.trace, node, definition.holders(self.base)):
            found.append(twins.of(self.wanted.name))
        if self.base["disk_template"] == "plain":
            there = self.trace.volumes.get(node, {})
            for group, size in self._space(node).items():
                free_space = self.context.claims.space_free(node, group)
                if free_space is None:
                    found.append(f"no volume group {group}")
                elif free_space < size and not there:
                    found.append(f"{format_size(free_space)} free in volume group {group}, {format_size(size)} needed")
        return found

    def _space(self, node: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for disk in self.base["disks"]:
            group = disk["volume_group"].get(node) or self.context.desired.nodes[node].volume_group
            found[group] = found.get(group, 0) + disk["size"]
        return found

    def _fits(self, target: str) -> bool:
        problems = self._problems(target)
        if problems:
            message = f"it cannot go to {target}: {', '.join(problems)}"
            self._error("target-does-not-fit", message, "free or add what is missing there")
        return not problems

    def _replication_is_fine(self, target: str) -> bool:
        problem = replicated.not_at_peer(self.trace, self.source, target)
        if problem is not None:
            self._error("not-replicated", problem, "run site.yml, wait until both copies are UpToDate")
            return False
        if self.wanted.replication.protocol != "C":
            message = f"live migration needs DRBD's protocol C, it has {self.wanted.replication.protocol}"
            self._error("protocol", message, "set twofold_replication_protocol to C and run site.yml")
            return False
        return True

    def _seeded(self, target: str, document: dict[str, Any]) -> bool:
        """Whether the target gets the same seed, without which QEMU does not start there; a finding if it cannot."""
        digest = document["seed_digest"]
        if digest is None or self.trace.seeds.get(target) == digest:
            return True
        args = seed_again(self.context, self.wanted, document)
        if args is None:
            message = f"its seed is not on {target}, and the inventory describes another one"
            self._error("seed-missing", message, "run site.yml first, or put its variables back as they were")
            return False
        self.chain.add(target, "seed.write", args, kind=plan.MOVE, why="the seed is missing there")
        return True

    def _migrate_args(self, target: str, *, xml: str | None, copy: list[str]) -> dict[str, Any]:
        settings, node = self.wanted.migration, self.context.desired.nodes[target]
        return {
            "name": self.wanted.name,
            "uri": uri(node),
            "migrate_uri": f"tcp://{_host(node)}",
            "xml": xml,
            "bandwidth": settings.bandwidth,
            "downtime": settings.downtime,
            "auto_converge": settings.auto_converge,
            "postcopy": settings.postcopy,
            "timeout": settings.timeout,
            "copy_disks": copy,
        }

    def _drbd(self, target: str, built: definition.Wanted) -> None:
        name, both = self.wanted.name, (self.source, target)
        settings = {"resource": name, "timeout": self.wanted.replication.timeout}
        why = "both nodes hold the disks while the guest moves"
        allowed = [
            self.chain.add(node, "replication.dual_primary", {"resource": name, "allow": True}, kind=plan.MOVE, why=why)
            for node in both
        ]
        promoted = self.chain.add(target, "replication.promote", settings, kind=plan.MOVE, why=why, after=allowed)
        args = self._migrate_args(target, xml=None, copy=[])
        why = f"move it to {target}"
        moved = self.chain.add(
            self.source, "domain.migrate", args, kind=plan.MOVE, why=why, after=[promoted], bytes=self.domain.memory
        )
        for node in both:
            args = {**settings, "domain": name}
            why = "one primary again, whatever happened"
            after = [*allowed, promoted, moved]
            self.chain.add(node, "replication.settle", args, kind=plan.MOVE, why=why, after=after, always=True)
        write_definitions(self.chain, self.trace, built, both, kind=plan.MOVE, after=[moved])

    def _sources(self, built: definition.Wanted) -> dict[str, str]:
        """Device path on the source -> on the target."""
        found = {}
        for old, new in zip(self.base["disks"], built.document["disks"], strict=True):
            volume = names.data_volume(self.wanted.name, old["index"])
            (group,) = new["volume_group"].values()
            found[names.volume_device(old["volume_group"][self.source], volume)] = names.volume_device(group, volume)
        return found

    def _plain(self, target: str, built: definition.Wanted) -> None:
        disks = built.document["disks"]
        # First of all it is known there whose the disks are to be.
        self._mark(target, built, target)
        if volumes.unfinished(built.document, self.trace, target):
            # Also those that are there but wait to be zeroed: that would happen once the guest's data is on them.
            args = volumes.create_args(built.document, target, install=False)
            self.chain.add(target, "volumes.create", args, kind=plan.MOVE, why="room for the disks")
        self._mark(self.source, built, target, after=self.chain.last_on(target))
        ready = self.chain.last_on(target)
        sources = {old: new for old, new in self._sources(built).items() if old != new}
        xml = with_sources(self.domain.xml, sources) if sources else None
        args = self._migrate_args(target, xml=xml, copy=[disk_target(disk["index"]) for disk in disks])
        size = self.domain.memory + sum(disk["size"] for disk in disks)
        why = f"move it to {target}" + (", with its disks" if disks else "")
        moved = self.chain.add(self.source, "domain.migrate", args, kind=plan.MOVE, why=why, after=ready, bytes=size)
        marked = self._marked(target, built)
        document = {**built.document, "generation": marked["generation"] + 1}
        args = {"document": document, "expect_generation": marked["generation"]}
        written = self.chain.add(target, "definition.write", args, kind=plan.MOVE, why="it moved", after=[moved])
        why = f"it lives on {target} now"
        report_only.clean_up(self.chain, self.trace, self.source, why, (written,), generation=marked["generation"])

    def _marked(self, target: str, built: definition.Wanted) -> dict[str, Any]:
        """The definition while it moves: whoever sees one of the two nodes alone knows that it may run on the other.

        It names the disks on both, so that each node can tell whose they are.
        """
        generations = [int(found["generation"]) for found in self.trace.definitions.values()]
        disks = [
            {**old, "volume_group": {self.source: old["volume_group"][self.source], **new["volume_group"]}}
            for old, new in zip(self.base["disks"], built.document["disks"], strict=True)
        ]
        return {**self.base, "disks": disks, "moving_to": target, "generation": max(generations) + 1}

    def _mark(self, node: str, built: definition.Wanted, target: str, after: Sequence[str] = ()) -> None:
        args = {"document": self._marked(target, built), "expect_generation": self.trace.generation(node)}
        why = f"both nodes know that it moves to {target}"
        self.chain.add(node, "definition.write", args, kind=plan.MOVE, why=why, after=after)
