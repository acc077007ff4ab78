# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replace one of the two copies of an instance's disks: on another node, or by fresh volumes on the same one.

DRBD 8.4 knows one peer, so the primary lets go of the old copy when the new one starts to be filled. Everything that
can fail is done before that; the old copy stays as it was at that moment until the new one is complete.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property, partial
from typing import Any

from .. import definition, names
from ..model import Instance
from ..observed import Trace
from . import copies, diff, fit, named, rebooting, replicated, report_only, volumes
from . import document as plan
from .context import Chain, Context
from .converge import converge_again, seed_again
from .definitions import write_definitions
from .secondary import Choice, sized
from .situation import Situation, assess

SIDES = ("primary", "secondary")


class Together:
    """What the replacements of one plan share: where copies go. Nothing goes to the nodes `leaving`."""

    def __init__(self, context: Context, leaving: Collection[str] = ()) -> None:
        self._context = context
        self._leaving = leaving

    @cached_property
    def choice(self) -> Choice:
        """Made when it is first needed: it waits for NumPy."""
        return Choice(self._context, self._leaving)


def instance(
    context: Context,
    name: str,
    new_secondary: str | None = None,
    on: str | None = None,
    *,
    together: Together | None = None,
    after: Sequence[str] = (),
    dead: Collection[str] = (),
) -> bool:
    """Add the steps that replace a copy; whether there are any.

    The secondary moves to `new_secondary`, or to the node that suits best; with `on` (primary or secondary) fresh
    volumes take the place of that node's. `together` is shared by all instances of a plan that replaces several;
    `after` are the ids of steps that have to be done before it begins. Of the nodes `dead`, which are proven to be so,
    nothing needs to be known.
    """
    found = named.existing(context, name)
    if found is None or not named.is_node(context, name, new_secondary):
        return False
    wanted, trace = found
    base = trace.newest or {}
    if on is not None and (on not in SIDES or new_secondary is not None):
        message = "on is primary or secondary, and goes without new_secondary"
        context.error("wrong-arguments", name, message, "give new_secondary, or on=primary, or on=secondary")
        return False
    if base["disk_template"] != "drbd":
        message = f"its disk template is {base['disk_template']}: there is no second copy"
        context.error("not-replicated", name, message, "migrate moves it to another node with its disks")
        return False
    situation = assess(context, wanted, trace, without=dispensable(context, trace, base).union(dead))
    if situation is None:
        return False
    replacement = Replacement(context, wanted, trace, situation, together or Together(context), after=after)
    if on is not None:
        return replacement.fresh(SIDES.index(on))
    return replacement.move(new_secondary)


def dispensable(context: Context, trace: Trace, base: dict[str, Any]) -> frozenset[str]:
    """The secondary that does not answer, while the guest runs on the other node with its disk Primary there.

    It may be down or only unreachable: it holds an older copy either way, under an older definition.
    """
    for node in base["nodes"]:
        domain, resource = trace.domains.get(node), trace.resources.get(node)
        if domain is not None and domain.active and resource is not None and resource.primary:
            others = [other for other in base["nodes"] if other != node]
            return frozenset(other for other in others if context.observed.known(other) is None)
    return frozenset()


class Replacement:
    """The replacement of one copy."""

    def __init__(
        self,
        context: Context,
        wanted: Instance,
        trace: Trace,
        situation: Situation,
        together: Together,
        *,
        after: Sequence[str] = (),
    ) -> None:
        self.context = context
        self.wanted = wanted
        self.name = wanted.name
        self.trace = trace
        self.situation = situation
        self.base: dict[str, Any] = situation.base or {}
        self.primary, self.old = situation.nodes
        self.together = together
        self.resyncs = context.resyncs
        self.chain = Chain(context, wanted.name, after)
        self.timeout = wanted.replication.timeout

    def _error(self, code: str, message: str, remedy: str) -> bool:
        self.context.error(code, self.name, message, remedy)
        return False

    def _ready(self, target: str | None, leaving: str) -> bool:
        """Whether nothing is left of earlier work; an earlier replacement that was interrupted is gone on with."""
        if copies.kept(self.trace, leaving):
            message = f"{leaving} keeps data that was given up, which would go with this copy"
            return self._error("data-kept", message, f"save it, then drop_kept.yml -e instance={self.name}")
        if self.situation.undefine or replicated.needs_settling(self.trace, self.primary):
            return self._error("not-settled", "an earlier migration left something behind", "run site.yml first")
        if untagged := volumes.untagged(self.base, self.trace, leaving):
            message = f"tags are missing on {', '.join(one['name'] for one in untagged)} of {leaving}"
            return self._error("not-settled", message, "run site.yml first, it puts them back")
        if self.context.observed.known(self.old) is None:
            # Whatever was begun there has to be begun anew elsewhere.
            return True
        others = copies.former(self.trace, self.situation.nodes)
        begun = copies.unfinished(self.trace, self.situation.nodes)
        if not begun or (target is not None and others == [target] and copies.never_served(self.trace, target)):
            return True
        if self._is_what_it_lacks(leaving):
            return True
        if target in (None, self.old):
            converge_again(self.context, self.wanted, self.trace, self.situation)
            return False
        message = f"an earlier replacement is not complete: its copies are on {self.primary} and {self.old}"
        return self._error("replacement-unfinished", message, "run replace_disks.yml without new_secondary first")

    def _is_what_it_lacks(self, node: str) -> bool:
        """Whether an earlier replacement, whose new copy is whole, cannot end before a node's lost disks are back."""
        gone = volumes.missing(self.base, self.trace, node) and not copies.taken_away(self.trace, node)
        return bool(gone) and all(copies.good(self.trace, one) for one in self.situation.nodes if one != node)

    # Another node

    def move(self, given: str | None) -> bool:
        """The second copy moves to another node."""
        if given == self.primary:
            return self._error("already-there", f"{given} is its primary", "name another node")
        if given == self.old and not copies.unfinished(self.trace, self.situation.nodes):
            message = f"{given} holds its second copy already"
            return self._error("already-there", message, "use on=secondary for fresh disks there")
        if not self._ready(given, self.old) or not self._source_is_good():
            return False
        target = given or self._choose()
        if target is None or (given is not None and not self._fits(target)):
            return False
        try:
            built = self._build(target)
        except definition.Impossible as error:
            return self._error(error.code, str(error), error.remedy)
        for group, size in self.context.claims.needed(target, sized(self.wanted, self.trace)).items():
            self.context.claims.take_space(target, {group: size})
        self.together.choice.take(self.name, target)
        self._steps(target, built)
        self.context.change(
            self.name, "replace disks", (self.primary, target, self.old), f"from {self.old} to {target}"
        )
        return True

    def _source_is_good(self) -> bool:
        if copies.good(self.trace, self.primary):
            return True
        resource = self.trace.resources.get(self.primary)
        disks = ", ".join(str(volume.disk) for volume in resource.volumes) if resource is not None else "none"
        message = f"the copy on {self.primary}, which the new one is filled from, is not up to date ({disks})"
        return self._error("no-good-copy", message, "wait for its resync, or replace the disks on that node")

    def _choose(self) -> str | None:
        target, verdicts = self.together.choice.best(self.wanted, self.trace)
        if target is None:
            reasons = "; ".join(f"{node} {why}" for node, why in verdicts.items()) or "there is no other node"
            self._error("no-node-fits", f"no node can take its second copy: {reasons}", "free or add what is missing")
        return target

    def _fits(self, target: str) -> bool:
        if problem := self.together.choice.verdicts(self.wanted, self.trace)[target]:
            message = f"{target} cannot take its second copy: it {problem}"
            return self._error("target-does-not-fit", message, "free or add what is missing there")
        return True

    def _build(self, target: str) -> definition.Wanted:
        """The definition on the new pair. It has a port of its own, so a former peer that comes back finds nobody."""
        port = self.context.claims.port((self.primary, target))
        if port is None:
            message = f"no port of twofold_drbd_ports is free on {self.primary} and {target}"
            raise definition.Impossible("no-free-port", message, "make twofold_drbd_ports wider")
        builder = definition.Builder(self.context.desired, self.context.observed, self.context.claims, self.wanted)
        built = builder.build((self.primary, target), {**self.base, "port": port}, installed=True, moves=True)
        builder.require_addresses(built)
        # What else the inventory changed is converge's.
        kept = {key: self.base[key] for key in ("state", "memory", "vcpus", "os", "domain_xml", "seed_digest")}
        return definition.Wanted({**built.document, **kept}, built.seed, built.template)

    def _steps(self, target: str, built: definition.Wanted) -> None:
        chain, document = self.chain, built.document
        self._seed(target, built.document)
        if target in copies.former(self.trace, self.situation.nodes) and not copies.never_served(self.trace, target):
            self._set_former_aside(target)
        made = copies.make(chain, document, self.wanted, target, f"room for the copy that {self.old} has now")
        write = partial(write_definitions, chain, self.trace, built, kind=plan.REPLACE)
        write((target,), after=(made,))
        ready = copies.configure(chain, document, target, "the new copy waits for the primary")
        write((self.primary,), after=(ready,))
        before = [ready, *chain.last_on(self.primary), *self.resyncs.before((self.primary, target))]
        if self._old_is_up():
            args = copies.settings(self.trace, self.timeout)
            why = f"its copy stays as it is now, until the one on {target} is complete"
            cut = chain.add(self.old, "replication.disconnect", args, kind=plan.REPLACE, why=why, after=before)
            before.append(cut)
        risk = f"until {target} is filled, {self.primary} has the only copy that is up to date"
        cut = copies.configure(chain, document, self.primary, f"connect to {target}", after=before, risk=risk)
        filled = copies.fill(chain, document, target, self.timeout, after=[cut])
        self.resyncs.add((self.primary, target), filled)
        if self.context.observed.known(self.old) is not None:
            why = f"its second copy is on {target} now"
            report_only.clean_up(chain, self.trace, self.old, why, (filled,))

    def _set_former_aside(self, target: str) -> None:
        """The new node has a copy from before: it stays what it is until the new one is complete."""
        why = "a former copy, kept until the new one is complete"
        if target in self.trace.resources:
            args: dict[str, Any] = {"resource": self.name}
            self.chain.add(target, "replication.remove", args, kind=plan.REPLACE, why=why)
        aside = volumes.set_aside(self.trace, target)
        held = [one for one in self.trace.volumes.get(target, {}).values() if not one.kept and one not in aside]
        listed = [{"volume_group": volume.volume_group, "name": volume.name} for volume in held]
        args = {"instance": self.name, "volumes": listed}
        self.chain.add(target, "volumes.set_aside", args, kind=plan.REPLACE, why=why)

    def _old_is_up(self) -> bool:
        resource = self.trace.resources.get(self.old)
        return resource is not None and resource.up

    def _seed(self, target: str, document: dict[str, Any]) -> None:
        """Write the seed too; no copy waits for one that cannot be made as it was, for it is the disks that count."""
        digest = document["seed_digest"]
        if digest is None or self.trace.seeds.get(target) == digest:
            return
        args = seed_again(self.context, self.wanted, document)
        if args is None:
            message = f"its seed is not on {target}, and the inventory describes another one, so it gets none yet"
            self.context.warning("seed-missing", self.name, message, "run site.yml afterwards, it writes the new one")
            return
        self.chain.add(target, "seed.write", args, kind=plan.REPLACE, why="the seed is missing there")

    # The same node

    def fresh(self, side: int) -> bool:
        """Fresh volumes take the place of a node's; the other node's copy serves meanwhile."""
        node, peer = self.situation.nodes[side], self.situation.nodes[1 - side]
        if not self._ready(None, node):
            return False
        resource = self.trace.resources.get(peer)
        if self.context.observed.known(node) is None:
            return self._error("node-unknown", f"nothing is known of {node}", "bring it back, or name a new_secondary")
        away = rebooting.reason(self.context.observed.known(peer))
        if away is not None:
            message = f"{peer}, which would have the only good copy meanwhile, is {away}"
            return self._error("node-rebooting", message, "run this again when the node is back")
        if volumes.pending(self.trace, node, volumes.INSTALL):
            # The mark would be set aside with the volume.
            remedy = "run site.yml first, it writes it or says why not"
            return self._error("disks-unfinished", f"its OS has not been written to {node} yet", remedy)
        there = [volume for volume in volumes.wanted(self.base, node) if volume.key in self.trace.volumes.get(node, {})]
        # A copy that is apart may be the newer one, unless nothing is left of it. One that is down does not tell, and
        # site.yml brings it up, but not without all of its volumes.
        own, gone = self.trace.resources.get(node), volumes.missing(self.base, self.trace, node)
        tells = own is not None and own.up
        apart = bool(there) and resource is not None and not resource.connected and (tells or not gone)
        if not copies.good(self.trace, peer) or apart:
            message = f"the copy on {peer}, which the fresh one is filled from, is not up to date and connected"
            remedy = "run site.yml, which brings DRBD up, wait for its resync, and see what verify says"
            return self._error("no-good-copy", message, remedy)
        if any(names.mapped_length(one.volume_group, one.name + volumes.ASIDE) > names.MAPPED for one in there):
            message = "the names of its volumes are too long to be set aside as well"
            return self._error("bad-name", message, "replace it on another node with -e new_secondary=NODE")
        problem = fit.no_room(self.context, sized(self.wanted, self.trace), node)
        if problem is not None:
            return self._error("no-room", problem, "add a device to the group, or replace it on another node")
        self._fresh_steps(node, peer, there)
        self.context.change(self.name, "replace disks", (node,), f"fresh volumes on {node}, filled from {peer}")
        return True

    def _looks_elsewhere(self, peer: str) -> bool:
        """Whether a node does not look for its peer: it was disconnected, or has not been told of a replacement."""
        resource = self.trace.resources[peer]
        wanted = self.base["replication_config"]
        return resource.connection == "StandAlone" or diff.config(wanted, resource.config) is not None

    def _fresh_steps(self, node: str, peer: str, there: Sequence[volumes.WantedVolume]) -> None:
        chain, document = self.chain, self.base
        if not volumes.os_owed(document, self.trace, node):
            document = definition.installed(document)
        first = self.resyncs.before((node, peer))
        if node in self.trace.resources:
            args = copies.settings(self.trace, self.timeout)
            why, risk = "its volumes are replaced", f"until the fresh ones are filled, {peer} has the only copy in use"
            chain.add(node, "replication.detach", args, kind=plan.REPLACE, why=why, risk=risk, after=first)
        if there:
            listed = [{"volume_group": volume.volume_group, "name": volume.name} for volume in there]
            args = {"instance": self.name, "volumes": listed}
            chain.add(node, "volumes.set_aside", args, kind=plan.REPLACE, why="kept until the fresh ones are filled")
        copies.make(chain, document, self.wanted, node, "fresh volumes", after=first)
        ready = [copies.configure(chain, document, node, "use the fresh volumes")]
        if self._looks_elsewhere(peer):
            ready.append(copies.configure(chain, document, peer, f"it does not look for {node}"))
        filled = copies.fill(chain, document, node, self.timeout, after=ready)
        self.resyncs.add((node, peer), filled)
        if there:
            aside = [{"volume_group": v.volume_group, "name": v.name + volumes.ASIDE} for v in there]
            args = {"instance": self.name, "volumes": aside}
            why, risk = "the fresh ones are complete", "what was set aside on this node is removed"
            chain.add(node, "volumes.remove", args, kind=plan.DESTROY, why=why, risk=risk)
