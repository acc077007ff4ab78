# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Converge one instance: whatever is not as wanted becomes a step; what is as wanted costs none.

Creating an instance and going on with a creation that was interrupted are the same thing here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Any

from .. import definition, names, secrets
from ..model import Instance
from ..observed import Trace
from ..render import seed
from ..units import format_size, round_up
from . import (
    copies,
    grow,
    guest,
    halves,
    rebuild,
    remove,
    replicated,
    report_only,
    split_brain,
    survivor,
    taken_back,
    volumes,
)
from . import document as plan
from .context import Chain, Context
from .definitions import write_definitions
from .new import all_heard
from .situation import Situation, assess

LOOK = "definition.absent"


def instance(context: Context, wanted: Instance) -> None:
    """Add the steps and findings of one instance to the plan."""
    trace = context.observed.trace(wanted.name)
    if wanted.state == "absent":
        remove.instance(context, wanted, trace)
        return
    chain = Chain(context, wanted.name)
    trace = halves.end(chain, trace, halves.stale(trace))
    situation = assess(context, wanted, trace)
    if situation is None:
        if chain.added:
            context.change(wanted.name, "update", chain.nodes, halves.INTERRUPTED)
        _bring_up_the_silent(context, trace)
        return
    built = wanted_definition(context, wanted, trace, situation)
    if built is None:
        return
    if situation.base is None:
        _promise(context, wanted, situation.nodes)
    Converge(context, wanted, trace, situation, built, chain=chain).run()


def _bring_up_the_silent(context: Context, trace: Trace) -> None:
    """Bring up DRBD where it is down and what is to be done depends on what both sides have written: then they tell.

    If the other side is disconnected they do not meet by that, so nothing is decided yet; if a copy was to be replaced
    they do, and go on with the last state.
    """
    said = {finding.code for finding in context.findings if finding.object == f"instance {trace.name}"}
    nodes = dict.fromkeys(split_brain.down(trace), trace.newest or {}) if "stand-alone" in said else {}
    nodes |= taken_back.down(trace) if "former-copy-unknown" in said else {}
    chain = Chain(context, trace.name)
    for node, document in nodes.items():
        args = replicated.configure_args(document, node)
        chain.add(node, "replication.configure", args, why="see what was written there")
    if nodes:
        context.change(trace.name, "update", nodes, "DRBD is down")


def _installed(situation: Situation, trace: Trace) -> bool:
    """Whether the OS was written: its volume is there and owes nothing."""
    if situation.base is None or not trace.volumes.get(situation.primary):
        return bool(trace.domains)
    owed = volumes.pending(trace, situation.primary, volumes.INSTALL)
    return not owed and situation.has_data


def _promise(context: Context, wanted: Instance, nodes: tuple[str, ...]) -> None:
    if wanted.state == "running":
        context.claims.take_memory(nodes[0], wanted.memory)
    for node in nodes:
        context.claims.take_space(node, context.claims.needed(node, wanted))


def seed_args(name: str, built: definition.Wanted) -> dict[str, Any]:
    """The arguments of `seed.write`. User data may hold passwords, so it stands in no plan."""
    files = {**(built.seed or {}), "user-data": {secrets.FILLED_IN: f"user-data/{name}"}}
    return {"name": name, "digest": built.document["seed_digest"], "files": files}


def seed_again(context: Context, wanted: Instance, document: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments that write the seed of a definition; None if the inventory describes another one by now."""
    files = seed.again(wanted, document, context.desired.cluster.networks)
    return None if files is None else seed_args(wanted.name, definition.Wanted(document, files, None))


def converge_again(context: Context, wanted: Instance, trace: Trace, situation: Situation) -> None:
    """Go on with what was begun and interrupted, and wait for its resync."""
    built = wanted_definition(context, wanted, trace, situation)
    if built is not None:
        Converge(context, wanted, trace, situation, built, wait=True).run()


def wanted_definition(
    context: Context, wanted: Instance, trace: Trace, situation: Situation
) -> definition.Wanted | None:
    """The definition that an instance is to have; None with a finding if a choice cannot be made."""
    builder = definition.Builder(context.desired, context.observed, context.claims, wanted)
    try:
        installed = _installed(situation, trace)
        built = builder.build(situation.nodes, situation.base, installed=installed, has_data=situation.has_data)
        builder.require_addresses(built, situation.base)
        return built
    except definition.Impossible as error:
        context.error(error.code, wanted.name, str(error), error.remedy)
        return None


class Converge:
    """The steps of one instance that exists or is to be.

    With `wait` a resync is waited for; `chain` has what comes before.
    """

    def __init__(
        self,
        context: Context,
        wanted: Instance,
        trace: Trace,
        situation: Situation,
        built: definition.Wanted,
        *,
        wait: bool = False,
        chain: Chain | None = None,
    ) -> None:
        self.wait = wait
        self.rebuilt: set[str] = set()
        self.context = context
        self.wanted = wanted
        self.trace = trace
        self.situation = situation
        self.chain = chain or Chain(context, wanted.name)
        self.creating = not situation.has_data
        self.kind = plan.CREATE if self.creating else plan.LIVE
        # The node on which the OS is owed, as far as the disks tell.
        self.owed_on = self._owed_on(built)
        owed = {} if self.owed_on is None else {definition.OWED: self.owed_on}
        self.built = replace(built, document={**built.document, **owed})
        self.document = self.built.document

    @property
    def replicated(self) -> bool:
        """Whether its disks are on DRBD."""
        return bool(self.document["disk_template"] == "drbd")

    def run(self) -> None:
        """Add everything."""
        survivor.report_kept(self.context, self.trace)
        report_only.inventory(self.context, self.wanted, self.document, self.situation)
        if not self._volumes_are_safe():
            # Who makes the lost disks anew waits for that.
            self._undefine(node for node in self.situation.undefine if self._serves_without(node))
            self._settle()
            self._bring_up_the_rest()
            return
        if self.situation.base is not None and not (self._is_alone() and self._volumes_have_room()):
            return
        self._undefine(self.situation.undefine)
        self._settle()
        there = [node for node in self.situation.nodes if node not in self.rebuilt]
        if (goes_on := self._resume()) is not None:
            # Until a half is ended, the former definition tells whose it is.
            after = [*self._stop_others(), *self._ids("domain.discard"), *goes_on]
            written = write_definitions(self.chain, self.trace, self.built, there, kind=self.kind, after=after)
            self.trace = replace(self.trace, definitions={**self.trace.definitions, **dict.fromkeys(there, written)})
        for node in sorted(there, key=self._is_unfilled):
            self._volumes(node)
            self._replication(node)
            # Only DRBD tells what of a larger volume may be in use.
            self._zero(node)
            self.seed(node)
        if self.replicated:
            nodes, timeout = self.situation.nodes, self.wanted.replication.timeout
            copies.acknowledge(self.chain, self.trace, self.document, nodes, timeout=timeout, wait=self.wait)
        guest.Guest(self).run()
        for node in sorted(self.rebuilt):
            rebuild.copy(self, node)
        grow.of_converge(self)
        report_only.left_over_volumes(self.context, self.chain, self.trace, self.situation, self.document)
        if self.replicated:
            copies.finish(
                self.context, self.chain, self.trace, self.document, self.situation.nodes,
                timeout=self.wanted.replication.timeout, wait=self.wait,
            )  # fmt: skip
        self._summarise()

    def _is_alone(self) -> bool:
        """Whether a creation that is not at its end can go on: every node could be asked about another one."""
        base = self.situation.base or {}
        # What has no disks shows by its generation alone that it was there before.
        made = bool(base) and not base["disks"] and int(base["generation"]) > 1
        return made or not self.creating or all_heard(self.context, self.wanted.name, "its creation has not ended")

    def _stop_others(self) -> list[str]:
        """Look where somebody else has begun to make it, and take the lock of his run: it ends, if it goes on."""
        begun = sorted(set(self.trace.definitions) - set(self.situation.nodes)) if self.creating else []
        return [self._look(node, (), int(self.trace.definitions[node]["generation"])) for node in begun]

    @cached_property
    def looks(self) -> list[str]:
        """The steps that look whether somebody else makes it on other nodes; empty for what exists.

        They come after the definitions were written, so of two who plan at the same time one at least sees the other's;
        and before anything that a guest could start from.
        """
        if not self.creating:
            return []
        written = [step.id for step in self.chain.added if step.op == "definition.write"]
        looked = {*self.situation.nodes, *self.trace.definitions}
        return [self._look(view.name, written) for view in self.context.observed.all_known if view.name not in looked]

    def _look(self, node: str, after: Iterable[str], expected: int | None = None) -> str:
        args = {"name": self.wanted.name, "expect_generation": expected}
        why = "nobody else makes it there"
        return self.chain.add(node, LOOK, args, kind=plan.CREATE, why=why, after=after)

    def _owed_on(self, built: definition.Wanted) -> str | None:
        document, primary = built.document, self.situation.primary
        if document["disk_template"] != "drbd" or not document["disks"]:
            return None
        new = self.creating and built.template is not None and volumes.os_owed(document, self.trace, primary)
        if new or volumes.pending(self.trace, primary, volumes.INSTALL):
            return primary
        said = document.get(definition.OWED)
        return said if said in self.situation.nodes and volumes.os_owed(document, self.trace, said) else None

    def os_is_written(self) -> None:
        """Take the word that the OS is owed out of the definitions, where the guest starts last.

        So who still has that word, and is asked to take over, has not missed anything that the guest wrote.
        """
        if definition.OWED not in self.document:
            return
        self.built = replace(self.built, document=definition.installed(self.document))
        self.document = self.built.document
        primary = self.situation.primary
        after = self.chain.last_on(primary)
        for node in (node for node in (*self.situation.nodes[1:], primary) if node not in self.rebuilt):
            write_definitions(self.chain, self.trace, self.built, (node,), kind=self.kind, after=after)
            after = self.chain.last_on(node) or after

    def _volumes_are_safe(self) -> bool:
        """Whether no volume is lost that may have held data: that is never made again over what is left.

        Nor is one filled in vain where the kernel keeps who uses it apart from the copy that is left.
        """
        if not self.situation.has_data:
            return True
        safe = True
        for node in self.situation.nodes:
            gone = volumes.missing(self.document, self.trace, node)
            peer = next((other for other in self.situation.nodes if other != node), node)
            if gone and self.replicated and copies.rebuildable(self.trace, node, peer):
                self.rebuilt.add(node)
            elif gone:
                volumes.report_vanished(self.context, self.document, gone, node)
                safe = False
            elif self._is_unfilled(node) and copies.refused(self.trace, node, peer):
                volumes.report_lost(self.context, self.wanted.name, node, peer)
                safe = False
        return safe

    def _volumes_have_room(self) -> bool:
        """Whether what an interrupted creation still lacks fits; it is promised before anything new chooses."""
        claims, fits = self.context.claims, True
        for node in (node for node in self.situation.nodes if node not in self.rebuilt):
            view = self.context.observed.known(node)
            needed: dict[str, int] = {}
            for volume in volumes.missing(self.document, self.trace, node):
                extent = view.extent(volume.volume_group) if view else names.EXTENT
                needed[volume.volume_group] = needed.get(volume.volume_group, 0) + round_up(volume.size, extent)
            for group, size in needed.items():
                free = claims.space_free(node, group)
                if free is None or free < size:
                    there = "it does not exist" if free is None else f"{format_size(max(free, 0))} are free"
                    message = f"its disks need {format_size(size)} in volume group {group} on {node}, {there}"
                    remedy = "free or add space there, or call its creation off with twofold_state: absent"
                    self.context.error("no-room", self.wanted.name, message, remedy)
                    fits = False
            claims.take_space(node, needed)
        return fits

    def _bring_up_the_rest(self) -> None:
        """Bring up DRBD on the copy that is left: then the next run sees whether it was in service, and is whole."""
        emptied = any(copies.taken_away(self.trace, node) for node in self.situation.nodes)
        active = any(domain.active or not emptied for domain in self.trace.domains.values())
        for node in self.situation.nodes:
            resource = self.trace.resources.get(node)
            # Also one that a killed run left half-way, without its volumes.
            whole = resource is not None and resource.up and len(resource.volumes) == len(self.document["disks"])
            down = resource is not None and resource.configured and not whole
            if self.replicated and down and not (active or volumes.missing(self.document, self.trace, node)):
                args = replicated.configure_args(self.document, node)
                why = "see whether the copy that is left was in service, and is whole"
                self.chain.add(node, "replication.configure", args, why=why)
        self._summarise()

    def _serves_without(self, node: str) -> bool:
        """Whether a node lost disks while the guest's primary has all of them, up to date."""
        good = copies.good(self.trace, self.situation.primary)
        return good and bool(volumes.missing(self.document, self.trace, node))

    def _undefine(self, nodes: Iterable[str]) -> None:
        for node in nodes:
            why = f"left over: it {self._where()} {self.situation.primary}"
            self.chain.add(node, "domain.undefine", {"name": self.wanted.name, "xml": None}, why=why)

    def _where(self) -> str:
        return "runs on" if self.trace.domains[self.situation.primary].active else "belongs to"

    def _settle(self) -> None:
        if not self.replicated:
            return
        reasons = replicated.needs_settling(self.trace, self.situation.primary)
        if not reasons or self.creating:
            return
        why, resources = "; ".join(reasons), self.trace.resources
        former = [node for node in copies.former(self.trace, self.situation.nodes) if node in resources]
        let_go = self._ids("domain.discard") + [
            self.chain.add(node, "replication.demote", self.settings(), why=why)
            for node in former
            if resources[node].primary
        ]
        for node in self.situation.nodes:
            if node in resources and resources[node].up:
                args = {**self.settings(), "domain": self.wanted.name}
                self.chain.add(node, "replication.settle", args, why=why, after=let_go)

    def _ids(self, op: str) -> list[str]:
        return [step.id for step in self.chain.added if step.op == op]

    def _resume(self) -> list[str] | None:
        """Let a guest go on that is paused since its migration was interrupted; the step's id, if there is one.

        None if it cannot go on yet: then the former definition, which alone tells that it waits, is not replaced.
        """
        node = self.situation.primary
        domain = self.trace.domains.get(node)
        if domain is None or not (domain.stranded or halves.waiting(self.trace, node)):
            return []
        if not halves.may_go_on(self.trace, node):
            self._report_waiting(node)
            return None
        args = {"name": self.wanted.name, "resource": self.wanted.name if self.replicated else None}
        after = self.chain.last_on(*self.situation.nodes)
        return [self.chain.add(node, "domain.resume", args, kind=plan.MOVE, why=halves.INTERRUPTED, after=after)]

    def _report_waiting(self, node: str) -> None:
        source, name = (self.situation.base or {"nodes": ("",)})["nodes"][0], self.wanted.name
        message = f"it is paused on {node} since its migration was interrupted"
        remedy = "run site.yml again when its copies are connected and up to date"
        if source != node:
            message = f"it waits, paused, on {node} since its migration from {source} was interrupted"
            remedy += f"; if {source} was lost meanwhile, 'virsh destroy {name}' on {node} first: it starts anew"
        self.context.error("guest-state", name, message, remedy)

    def _volumes(self, node: str) -> None:
        missing = volumes.missing(self.document, self.trace, node)
        wiping = [one for one in volumes.data(self.trace, node) if volumes.WIPE in one.pending]
        install = node == self.situation.primary and self.built.template is not None
        if missing or wiping:
            why = "make the disks" if missing else "finish wiping the disks"
            args = volumes.create_args(self.document, node, install=install)
            # What DRBD has not accepted yet provably holds nothing; of other volumes nobody could tell later.
            after = [] if self.replicated else self.looks
            self.chain.add(node, "volumes.create", args, kind=self.kind, why=why, after=after)
        if untagged := volumes.untagged(self.document, self.trace, node):
            why = "tags are missing on " + ", ".join(volume["name"] for volume in untagged)
            args = {"instance": self.wanted.name, "volumes": untagged}
            self.chain.add(node, "volumes.tag", args, why=why)
        view = self.context.observed.known(node)
        if view is not None:
            volumes.check_sizes(self.context, self.document, self.trace, view)

    def _zero(self, node: str) -> None:
        """Finish a growth that was interrupted before its new part was zeroed: until then nothing may start there."""
        listed = [
            {
                "volume_group": v.volume_group,
                "name": v.name,
                "size": v.size,
                "minor": disk["minor"] and disk["minor"][node],
            }
            for disk in self.document["disks"]
            for v in self.trace.volumes.get(node, {}).values()
            if v.zero_from is not None and v.name == names.data_volume(self.wanted.name, disk["index"])
        ]
        if listed:
            args = {"instance": self.wanted.name, "volumes": listed}
            self.chain.add(node, "volumes.grow", args, why="the disk is larger, but the new part is not zeroed yet")

    def _replication(self, node: str) -> None:
        if not self.replicated:
            return
        reasons = replicated.reasons(self.wanted, self.document, self.trace, node, has_data=self.situation.has_data)
        if reasons:
            args, why = replicated.configure_args(self.document, node), "; ".join(reasons)
            self._give_up_minors(node)
            # DRBD parts a side that allows two primaries from one that does not.
            after = self._ids("replication.settle")
            if self._is_unfilled(node):
                # While the guest has no disk at all, DRBD lets in nothing but the data that it saw last.
                after += self._ids("replication.configure")
            self.chain.add(node, "replication.configure", args, kind=self.kind, why=why, after=after)

    def _give_up_minors(self, node: str) -> None:
        """Take DRBD down on a node where a creation has begun with minors that another instance has got first."""
        resource = self.trace.resources.get(node)
        if not self.creating or resource is None or not replicated.has_other_minors(self.document, resource, node):
            return
        why = "another instance has got its DRBD minors first"
        if resource.primary:
            self.chain.add(node, "replication.demote", self.settings(), kind=self.kind, why=why)
        self.chain.add(node, "replication.remove", {"resource": self.wanted.name}, kind=self.kind, why=why)

    def _is_unfilled(self, node: str) -> bool:
        """Whether the copy on a node is to be filled from the other one."""
        return bool(volumes.pending(self.trace, node, volumes.SYNC))

    def seed(self, node: str) -> None:
        """Bring the seed on a node to what the definition says."""
        digest = self.document["seed_digest"]
        there = self.trace.seeds.get(node)
        if digest == there:
            return
        if digest is None:
            why = "it has no seed any more"
            self.chain.add(node, "seed.remove", {"name": self.wanted.name}, kind=plan.NEXT_BOOT, why=why)
            return
        args = seed_args(self.wanted.name, self.built)
        kind = plan.CREATE if self.creating else plan.NEXT_BOOT
        why = "cloud-init's data is missing" if there is None else "cloud-init's data differs"
        self.chain.add(node, "seed.write", args, kind=kind, why=why)

    def _summarise(self) -> None:
        if not self.chain.added:
            return
        ops = {step.op for step in self.chain.added}
        if self.creating:
            change = "create"
            why = "; ".join(self.situation.reasons) or "its creation was not finished"
        elif "domain.start" in ops:
            change, why = "start", "it should run"
        elif "domain.stop" in ops:
            change, why = "stop", "it should be stopped"
        else:
            change = "update"
            why = "; ".join(dict.fromkeys(step.why for step in self.chain.added if step.why))
        on = dict.fromkeys(step.node for step in self.chain.added if step.op != LOOK)
        self.context.change(self.wanted.name, change, on, why)

    def settings(self) -> dict[str, Any]:
        """What steps on the resource share."""
        return {"resource": self.wanted.name, "timeout": self.wanted.replication.timeout}
