# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failover: an instance starts anew on the node that holds the other copy of its disks.

While both nodes answer it is stopped on the one before it is started on the other. If one does not answer, the other
takes over alone, with a proof that the first is dead (`proof`). The new definition has a higher generation and the
other order of nodes, so what comes back with the dead node is stale: converge removes its domain, DRBD resyncs its
disks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .. import definition
from ..findings import INFO, Finding, listing
from ..model import Instance, ReplicationSettings
from ..observed import Trace
from . import abandon, copies, fit, foresight, halves, losses, put_back, replicated, report_only, starts, volumes
from . import document as plan
from .claims import Claims
from .context import Chain, Context
from .converge import seed_again
from .definitions import write_definitions
from .proof import Proof, Proofs
from .situation import Situation, assess, ours

STALE_RISK = "what was written after replication broke is given up on this copy; the dead node's disks still have it"
ASIDE_RISK = (
    "everything written since the replacement of this copy began is given up; the dead node's disks still have it"
)
RISK = "what was written while replication was broken is only on the dead node's copy"


def instance(context: Context, intent: dict[str, Any]) -> None:
    """`{"verb": "failover", "instance": name, "target": null | node, "confirm_dead": [nodes], "fenced": {...}}`."""
    name, target = str(intent.get("instance") or ""), intent.get("target") or None
    proofs = Proofs(context, intent)
    wanted = context.desired.instances.get(name)
    if wanted is None:
        if name not in context.desired.rejected:
            context.error("unknown-instance", name, "there is no such instance in the inventory", "correct the name")
        return
    if proofs.refused:
        return
    trace = context.observed.trace(name)
    base = trace.newest
    if base is None:
        _nothing_left(context, name)
    elif base["disk_template"] != "drbd":
        message = f"its disks are on {', '.join(base['nodes'])} alone"
        remedy = "migrate.yml moves it while it runs; only instances with the disk template drbd have a second copy"
        context.error("no-second-copy", name, message, remedy)
    elif target is not None and target not in base["nodes"]:
        message = f"{target} does not hold its disks; they are on {' and '.join(base['nodes'])}"
        context.error("target-without-disk", name, message, "choose one of these, or none")
    else:
        _between(context, wanted, trace, target, proofs)


def recover(context: Context, intent: dict[str, Any]) -> None:
    """`{"verb": "recover", "confirm_dead": [nodes], "fenced": {...}}`: everything that the dead nodes may have run."""
    proofs = Proofs(context, intent)
    if proofs.refused:
        return
    affected = _affected(context)
    proven = proofs.of_each(affected)
    offered, taken = [], list[TakeOver]()
    for name in starts.ordered(context, {name for names in affected.values() for name in names}):
        dead = next(node for node, names in affected.items() if name in names)
        proof = proven[dead]
        if proof is None:
            continue
        taken.append(_take_over(context, context.observed.trace(name), proof, proofs))
        if taken[-1].stale_offered:
            offered.append(name)
    if len(offered) > 1:
        message = f"the copies of {len(offered)} instances may lack what was written last"
        remedy = f"-e accept_stale={','.join(offered)} goes on with all of them as they are"
        context.findings.append(Finding(INFO, "stale-copies", "cluster", message, remedy))
    _without_trace(context)
    abandon.remind(context)
    _say_what_is_not_absorbed(context, [one for one in taken if one.planned])


def _say_what_is_not_absorbed(context: Context, taken: list[TakeOver]) -> None:
    """Warn of losses that would hurt only because these guests run where they take over; that keeps none from it."""
    if not taken:
        return
    started: dict[str, list[dict[str, Any]]] = {}
    for one in taken:
        started.setdefault(one.target, []).append(one.built.document)
    states = (context.observed, foresight.started(context.observed, started))
    before, after = (losses.losses(context.desired, seen, Claims(context.desired, seen)) for seen in states)
    context.findings += losses.findings(losses.added(before, after), "after this ")


def _affected(context: Context) -> dict[str, list[str]]:
    """Node that does not answer -> the instances that should run, run on no known node, and have a copy elsewhere."""
    found: dict[str, list[str]] = {}
    for name in sorted(context.observed.names()):
        wanted, trace = context.desired.instances.get(name), context.observed.trace(name)
        base = trace.newest
        if base is None or base["state"] != "running" or _serves(trace):
            continue
        if wanted is None and name not in context.desired.rejected:
            context.warning("not-in-inventory", name, "it is left alone", "put it back into the inventory")
            continue
        gone = [node for node in base["nodes"] if context.observed.known(node) is None]
        if len(gone) == 1 and len(base["nodes"]) > 1 and (wanted is None or wanted.state == "running"):
            found.setdefault(gone[0], []).append(name)
    return found


def _serves(trace: Trace) -> list[str]:
    """The nodes where it runs and can do something."""
    active = [node for node in sorted(trace.domains) if trace.domains[node].active]
    stuck = [node for node in active if put_back.helpless(trace, node) or halves.waiting(trace, node)]
    stuck += halves.torn(trace)
    return [node for node in active if node not in stuck]


def _nothing_left(context: Context, name: str) -> None:
    unknown = ", ".join(context.observed.unknown)
    message = f"no node that answers holds anything of it; nothing is known of {unknown}" if unknown else "not made yet"
    remedy = "bring the node back, or restore it from a backup" if unknown else "run site.yml first"
    context.error("no-copy", name, message, remedy)


def _without_trace(context: Context) -> None:
    """Instances that ought to run and of which the surviving nodes have nothing."""
    for name in sorted(context.desired.instances):
        unknown = context.observed.unknown
        if unknown and context.desired.instances[name].state == "running" and not context.observed.trace(name).nodes:
            message = f"no node that answers holds anything of it; its only copy may be on {', '.join(unknown)}"
            remedy = "bring the node back, or restore it from a backup"
            context.warning("no-copy", name, message, remedy)


def _between(context: Context, wanted: Instance, trace: Trace, target: str | None, proofs: Proofs) -> None:
    base = trace.newest or {}
    gone = [node for node in base["nodes"] if context.observed.known(node) is None]
    if not gone:
        _graceful(context, wanted, trace, target)
    elif len(gone) > 1:
        message = f"nothing is known of {' and '.join(gone)}, which hold its disks"
        context.error("node-unknown", wanted.name, message, "bring one of them back")
    elif target in gone:
        context.error("node-unknown", wanted.name, f"nothing is known of {target}", "bring it back first")
    else:
        _alone(context, trace, gone[0], proofs)


def _alone(context: Context, trace: Trace, gone: str, proofs: Proofs) -> None:
    running = _serves(trace)
    if running:
        context.info("already-there", trace.name, f"it runs on {running[0]} already")
        return
    proof = proofs.of(gone, [trace.name])
    if proof is not None:
        _take_over(context, trace, proof, proofs)


def _take_over(context: Context, trace: Trace, proof: Proof, proofs: Proofs) -> TakeOver:
    """The survivor of the pair goes on; if it was still being filled, the copy that it was to replace may."""
    base, stale = trace.newest or {}, trace.name in proofs.stale_accepted
    survivor = next(node for node in base["nodes"] if node != proof.node)
    if put_back.goes_on(trace, survivor):
        taken = TakeOver(context, trace, proof, base, stale=stale, former=survivor)
        taken.run()
        return taken
    former = _former(context, trace, base, proof.node)
    if former is not None and stale:
        unfilled = next(node for node in base["nodes"] if node != proof.node)
        taken = TakeOver(context, trace, proof, trace.definitions[former], stale=True, unfilled=unfilled)
    else:
        taken = TakeOver(context, trace, proof, base, stale=stale, former=former)
    taken.run()
    return taken


def _former(context: Context, trace: Trace, base: dict[str, Any], dead: str) -> str | None:
    """The node with the copy from before a replacement whose new one is not filled; None if there is none.

    Its definition names the same primary and is older, and what it holds of the disks was whole.
    """
    survivor = next(node for node in base["nodes"] if node != dead)
    if not copies.unserved(trace, survivor) or copies.good(trace, survivor):
        return None
    for node in copies.former(trace, base["nodes"]):
        document = trace.definitions.get(node)
        if document is None or set(document["nodes"]) != {dead, node} or context.observed.known(node) is None:
            continue
        off = node not in trace.domains and not volumes.unfinished(document, trace, node)
        if off and copies.may_be_whole(trace, node):
            return node
    return None


def _graceful(context: Context, wanted: Instance, trace: Trace, target: str | None) -> None:
    situation = assess(context, wanted, trace)
    if situation is None:
        return
    if target == situation.primary:
        context.info("already-there", wanted.name, f"{target} is its primary already")
        return
    Graceful(context, wanted, trace, situation).run()


class Moved:
    """What both kinds of failover share: the steps on the node that takes over."""

    def __init__(self, context: Context, trace: Trace, base: dict[str, Any], nodes: tuple[str, str]) -> None:
        self.context = context
        self.trace = trace
        self.name = trace.name
        self.base = base
        self.target, self.source = nodes
        self.wanted = context.desired.instances.get(trace.name)
        self.chain = Chain(context, trace.name)
        self.built = definition.Wanted({**definition.installed(base), "nodes": list(nodes)}, None, None)

    @property
    def timeout(self) -> int:
        """Seconds to wait for DRBD."""
        return (self.wanted.replication if self.wanted else ReplicationSettings()).timeout

    def settings(self) -> dict[str, Any]:
        """What steps on the resource share."""
        return {"resource": self.name, "timeout": self.timeout}

    def add(self, op: str, args: dict[str, Any], why: str, **more: Any) -> str:
        """A step on the node that takes over."""
        return self.chain.add(self.target, op, args, kind=plan.MOVE, why=why, **more)

    def error(self, code: str, message: str, remedy: str) -> None:
        """Why it is not done."""
        self.context.error(code, self.name, message, remedy)

    def fits(self) -> bool:
        """Whether the target has memory and bridges for it; promises the memory."""
        found = fit.problems(self.context, self.base, self.target, self.base["memory"])
        if found:
            message = f"it cannot run on {self.target}: {', '.join(found)}{self._first()}"
            self.error("target-does-not-fit", message, "free or add what is missing there, then run this again")
            return False
        if not self.context.claims.promised(self.target, self.name):
            self.context.claims.take_memory(self.target, self.base["memory"])
        return True

    def _first(self) -> str:
        """Which guests the plan starts on the target before this one would be."""
        steps = self.context.steps.values()
        names = [str(one.instance) for one in steps if one.op == "domain.start" and one.node == self.target]
        return f"; by twofold_priority these start there first: {listing(names)}" if names else ""

    def seeded(self) -> bool:
        """Write the seed if the target lacks it; False if it cannot be made as it was."""
        digest = self.base["seed_digest"]
        if digest is None or self.trace.seeds.get(self.target) == digest:
            return True
        args = seed_again(self.context, self.wanted, self.base) if self.wanted else None
        if args is None:
            why, remedy = "the inventory describes another one", "put its variables back as they were"
            if self.wanted is None:
                why, remedy = "its variables in the inventory are wrong", "correct them"
            self.error("seed-missing", f"its seed is not on {self.target}, and {why}", f"{remedy}, then run this again")
            return False
        self.add("seed.write", args, "the seed is missing there")
        return True

    def define_and_start(self) -> None:
        """Define the domain, write the definition, and start it if it should run.

        The domain first: where it is defined on both nodes neither starts it by itself.
        """
        if self.target not in self.trace.domains:
            args = {"name": self.name, "xml": self.base["domain_xml"]}
            self.add("domain.define", args, f"it lives on {self.target} now")
        write_definitions(self.chain, self.trace, self.built, (self.target,), kind=plan.MOVE)
        if self.base["state"] == "running":
            self.add("domain.start", starts.start_args(self.context, self.base, self.target), "it should run")


class TakeOver(Moved):
    """One node goes on alone, because the other is proven dead."""

    def __init__(
        self,
        context: Context,
        trace: Trace,
        proof: Proof,
        base: dict[str, Any],
        *,
        stale: bool,
        former: str | None = None,
        unfilled: str | None = None,
    ) -> None:
        survivor = next(node for node in base["nodes"] if node != proof.node)
        super().__init__(context, trace, base, (survivor, proof.node))
        self.proof = proof
        self.stale = stale
        # Where the copy from before a replacement is: on another node, or set aside on the survivor itself. If that of
        # another node goes on: where the one is that was to be filled.
        self.former = former
        self.unfilled = unfilled
        # Whether it is refused for want of this word alone.
        self.stale_offered = False
        self.planned = False
        # Until both nodes have been seen again, this tells the survivor that the other's domain is a leftover.
        document = {**self.built.document, "took_over": proof.node}
        self.built = definition.Wanted(document, None, None)

    def run(self) -> None:
        """Check, then add the steps; what cannot be done is named and stops nothing else."""
        checks = ours(self.context, self.name, self.trace, self.base) and self._disks_are_fine() and self.fits()
        if not checks or not self.seeded():
            return
        if halves.waiting(self.trace, self.target) or self.target in halves.torn(self.trace):
            self.trace = halves.end(self.chain, self.trace, (self.target,))
        resource = self.trace.resources.get(self.target)
        after = self._clear_unfilled()
        why = f"the copy from before goes on: the new one was not filled when {self.source} was lost"
        if self._from_before() and put_back.steps(self.chain, self.wanted, self.trace, self.target, why):
            resource = None
        if resource is None or not resource.up:
            args = replicated.configure_args(self.base, self.target)
            self.add("replication.configure", args, "DRBD is down", after=after)
        if resource is None or not resource.primary or volumes.pending(self.trace, self.target, volumes.SYNC):
            args = {**self.settings(), "peer": self.source, "proof": self.proof.text, "stale": self.stale}
            self.add("replication.take_over", args, self.proof.text, risk=self._risk(), after=after)
        if self.unfilled is not None:
            # It was disconnected for the replacement; its peer has to find it to see what each has written.
            args = replicated.configure_args(self.base, self.target)
            self.add("replication.configure", args, "it looks for its peer again")
        self.define_and_start()
        why = f"from {self.source} to {self.target}: {self.proof.text}"
        self.context.change(self.name, "failover", (self.target,), why)
        self.planned = True

    def _clear_unfilled(self) -> list[str]:
        """When the copy from before a replacement goes on: nothing may be left of the new one; the last step's id.

        The dead node knows of the new one alone. With that gone nobody shakes hands with the dead node if it comes
        back, so it does not start the guest by itself.
        """
        if self.unfilled is None:
            return []
        chain = Chain(self.context, self.name)
        why = f"it was not filled when {self.source} was lost"
        # The volumes last: their mark tells an interruption from volumes that were lost.
        report_only.clean_up(chain, replace(self.trace, volumes={}), self.unfilled, why)
        rest = replace(self.trace, resources={}, definitions={}, seeds={})
        report_only.clean_up(chain, rest, self.unfilled, why)
        return [chain.last[self.unfilled]]

    def _from_before(self) -> bool:
        """Whether the volumes that a replacement on this node set aside go on."""
        return self.stale and self.former == self.target

    def _risk(self) -> str:
        if self.unfilled is not None or self._from_before():
            return ASIDE_RISK
        return STALE_RISK if self.stale else RISK

    def _disks_are_fine(self) -> bool:
        """Whether the surviving copy is complete, as far as the node can tell."""
        if self.former == self.target:
            return self.stale or self._incomplete()
        # A copy that was being filled is whole when DRBD says so; the step that takes over takes the mark off.
        if any(volume.pending - {volumes.SYNC} for volume in self.trace.volumes.get(self.target, {}).values()):
            message = f"its creation had not ended when {self.source} was lost"
            self.error("not-created", message, f"bring {self.source} back and run site.yml")
            return False
        if self.base.get(definition.OWED) == self.source:
            message = f"its OS was being written when {self.source} was lost: its disks on {self.target} have none"
            remedy = f"bring {self.source} back, or new hardware under its name, and run site.yml, which writes the OS"
            self.error("not-created", message, remedy)
            return False
        if copies.good(self.trace, self.target) or (self.stale and copies.may_be_whole(self.trace, self.target)):
            return True
        return self._incomplete()

    def _incomplete(self) -> bool:
        """Say that the surviving copy is not complete, or may not be, and what may go on instead; False."""
        remedy = f"bring {self.source} back, it has the newer copy, or may; nothing was changed"
        if self.former is None and copies.may_be_whole(self.trace, self.target):
            self.stale_offered = True
            remedy += f"; if it is lost for good, -e accept_stale={self.name} goes on with the state of this copy"
        elif self.former is not None:
            remedy += (
                f"; if it is lost for good, -e accept_stale={self.name} goes on with the copy on {self.former}, "
                "which is as it was when its replacement began"
            )
        self.error("disk-not-up-to-date", f"its copy on {self.target} {self._disks()}", remedy)
        return False

    def _disks(self) -> str:
        """Why the surviving copy cannot be taken for the last state."""
        resource = self.trace.resources.get(self.target)
        if resource is None or not resource.up:
            return f"is down, so {self.source} may have gone on without it"
        disks = ", ".join(f"disk {volume.volume} is {volume.disk}" for volume in resource.volumes)
        if resource.whole:
            return f"may lack what was written last: {disks} until it has heard of {self.source} again"
        return f"is not complete: {disks}"


class Graceful(Moved):
    """Both nodes answer: it is stopped on one before it is started on the other."""

    def __init__(self, context: Context, wanted: Instance, trace: Trace, situation: Situation) -> None:
        source, target = situation.nodes
        super().__init__(context, trace, situation.base or {}, (target, source))
        self.stop_timeout = wanted.shutdown_timeout
        self.settled = not situation.undefine and not replicated.needs_settling(trace, source)

    def run(self) -> None:
        """Check, then add the steps."""
        if not self.settled:
            self.error("not-settled", "an earlier run left something behind", "run site.yml first, it clears that up")
            return
        if definition.OWED in self.base:
            self.error("not-created", f"its OS was not written to the end on {self.source}", "run site.yml first")
            return
        problem = replicated.not_at_peer(self.trace, self.source, self.target)
        if problem is not None:
            self.error("not-replicated", problem, "run site.yml, wait until both copies are UpToDate")
            return
        if not self.fits() or not self.seeded():
            return
        # A copy that is whole may still be marked as one that is being filled: no guest starts on it then.
        copies.acknowledge(
            self.chain, self.trace, self.base, (self.target,), timeout=self.settings()["timeout"], wait=True
        )
        self._stop()
        after = self.chain.last_on(self.source)
        if self.base["state"] == "running":
            self.add("replication.promote", self.settings(), "it is used here", after=after)
        self.define_and_start()
        self._leave()
        why = f"from {self.source} to {self.target}"
        self.context.change(self.name, "failover", (self.source, self.target), why)

    def _on_source(self, op: str, args: dict[str, Any], why: str, **more: Any) -> None:
        self.chain.add(self.source, op, args, kind=plan.MOVE, why=why, **more)

    def _stop(self) -> None:
        domain, resource = self.trace.domains.get(self.source), self.trace.resources.get(self.source)
        if domain is not None and domain.active:
            args = {"name": self.name, "timeout": self.stop_timeout, "force": True}
            risk = "the guest is shut down, and switched off if it does not follow in time"
            whole = self.chain.last_on(self.target)
            self._on_source("domain.stop", args, f"it goes on on {self.target}", risk=risk, after=whole)
        if resource is not None and resource.primary:
            self._on_source("replication.demote", self.settings(), f"{self.target} becomes primary")

    def _leave(self) -> None:
        """What the former primary gives up, once the other node has taken over."""
        after = [self.chain.last[self.target]]
        if self.source in self.trace.domains:
            args = {"name": self.name, "xml": None}
            self._on_source("domain.undefine", args, f"it lives on {self.target} now", after=after)
        write_definitions(
            self.chain, self.trace, self.built, (self.source,), kind=plan.MOVE, after=after
        )  # fmt: skip
