# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proof that a node is dead: without one nothing that it may still run is started elsewhere.

A node that does not answer is unknown, which is not dead. It counts as dead when its fence device says that it is off,
or when the operator says so in words; and never while something shows that it lives. What lives is not offered to a
fence device either: a management network that fails would become an outage of the guests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..arguments import TRUTHS
from ..fencing import OFF, ON
from ..findings import ERROR, Finding
from ..observed import NodeView, Observed
from .context import Context

UNPROVEN = "not-proven-dead"
CUT_OFF = "cut-off"
# If more of the nodes than one of so many are silent at once, the network is what has failed.
CROWD = 3


@dataclass(frozen=True)
class Proof:
    """Why a node counts as dead; `text` stands in the plan and in the steps that rely on it."""

    node: str
    text: str


class Proofs:
    """What an intent proves: `confirm_dead` names nodes, `fenced` tells what fence devices said.

    `fenced` is by node `{"state": "off" | "on" | "silent", "method": name, "message": text}`, with `in_vain` (text) if
    the node's death would be of no use. `accept_stale` names instances that may go on with a copy that lacks the last
    changes.
    """

    def __init__(self, context: Context, intent: dict[str, Any]) -> None:
        self._context = context
        self._confirmed = names(intent.get("confirm_dead"))
        self.stale_accepted = names(intent.get("accept_stale"))
        self._fenced: dict[str, dict[str, str]] = intent.get("fenced") or {}
        # Whether a word of the operator's or a device's is wrong: then nothing is done, by the other words neither.
        self.refused = False
        self._check_names()
        self._check_living()

    def _check_names(self) -> None:
        known = {*self._context.desired.nodes, *_nodes_of_definitions(self._context.observed)}
        for name in sorted(set(self._confirmed) - known):
            remedy = f"the nodes are {', '.join(sorted(known))}"
            self._refuse(name, "unknown-node", "there is no such node", remedy)
        instances = {*self._context.desired.instances, *self._context.observed.names()}
        for name in sorted(set(self.stale_accepted) - instances):
            self.refused = True
            message = "accept_stale names it, and there is no such instance"
            self._context.error("unknown-instance", name, message, "correct the name")

    def _check_living(self) -> None:
        for name in called_dead({"confirm_dead": self._confirmed, "fenced": self._fenced}):
            view = self._context.observed.views.get(name)
            if view is not None and view.missing:
                message = f"it {incomplete(view)}, so it is not known to be dead"
                self._refuse(name, "node-alive", message, incomplete_remedy(view))
            elif view is not None:
                message = "it answers, so it is not dead"
                remedy = f"use failover.yml or migrate.yml; if it hangs, switch it off with {switch_off(name)} first"
                self._refuse(name, "node-alive", message, remedy)

    def _refuse(self, node: str, code: str, message: str, remedy: str) -> None:
        self.refused = True
        self._error(node, code, message, remedy)

    def _error(self, node: str, code: str, message: str, remedy: str) -> None:
        self._context.findings.append(Finding(ERROR, code, f"node {node}", message, remedy))

    def of_each(self, waiting: dict[str, list[str]]) -> dict[str, Proof | None]:
        """The proofs of several nodes, by the instances that wait for them."""
        return {node: self.of(node, found) for node, found in sorted(waiting.items())}

    def of(self, node: str, instances: Iterable[str]) -> Proof | None:
        """The proof that a node is dead; without one a finding that names the instances which wait for it."""
        view = self._context.observed.views.get(node)
        if view is not None:
            message = f"it {incomplete(view)}, so guests may run there"
            self._error(node, "node-incomplete", message, incomplete_remedy(view))
            return None
        if self._is_off(node):
            return Proof(node, f"{node} is off, says its fence device ({self._fenced[node]['method']})")
        witness = replicating_with(self._context.observed, node)
        if node in self._confirmed:
            return self._confirmed_proof(node, witness)
        waiting = ", ".join(sorted(instances))
        if witness is not None:
            message = f"it does not answer, but lives: {witness}; it may run {waiting}"
            self._error(node, CUT_OFF, message, witness_remedy(node))
            return None
        self._error(node, UNPROVEN, f"it does not answer, but may run {waiting}", self._remedy(node))
        return None

    def given(self, node: str) -> bool:
        """Whether a node is proven to be dead, without a finding if it is not."""
        return self._is_off(node) or (
            node in self._confirmed and replicating_with(self._context.observed, node) is None
        )

    def in_use(self) -> list[str]:
        """The nodes that may live: those that neither the inventory says to be off nor a proof."""
        nodes = self._context.desired.nodes
        return [name for name in sorted(nodes) if nodes[name].state != "offline" and not self.given(name)]

    def silent(self) -> list[str]:
        """Those of them that do not answer, whether or not anything waits for them."""
        return [name for name in self.in_use() if self._context.observed.views.get(name) is None]

    def _is_off(self, node: str) -> bool:
        return node in self._fenced and self._fenced[node]["state"] == OFF

    def _confirmed_proof(self, node: str, witness: str | None) -> Proof | None:
        if witness is not None:
            message = f"it was confirmed dead, but lives: {witness}"
            self._error(node, "node-alive", message, witness_remedy(node))
            return None
        return Proof(node, f"the operator confirmed that {node} is dead")

    def _remedy(self, node: str) -> str:
        said = self._fenced.get(node)
        confirm = f"make sure that it is off, then run this again with -e confirm_dead={node}, which says so"
        if said is None:
            return confirm
        if said["state"] != ON:
            return f"its fence device is of no use ({said['message']}); {confirm}"
        by_name = f"-e fence={node} (names, with commas) switches off what hangs"
        if "in_vain" in said:
            return f"its fence device says that it is on, and {said['in_vain']}; mend that first; {by_name}"
        silent, nodes = len(self.silent()), len(self.in_use())
        if is_crowd(silent, nodes):
            share = f"{silent} of {nodes} nodes are silent at once"
            return f"its fence device says that it is on, and {share}: look at the network first; {by_name}"
        return "its fence device says that it is on; -e fence=true switches it off"


@dataclass(frozen=True)
class Suspects:
    """Silent nodes that an intent waits for: `dead` may be so, `alive` are those that DRBD is connected to.

    `silent` are all that do not answer and may live, also those that nothing waits for: they tell a network that failed
    from a node that died, by their share of those `in_use`. `in_vain` are those of the dead whose death would be of no
    use, each with the reason: their guests may serve on, and could not be started elsewhere.
    """

    dead: tuple[str, ...] = ()
    alive: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    in_use: tuple[str, ...] = ()
    in_vain: dict[str, str] = field(default_factory=dict)

    @property
    def all(self) -> tuple[str, ...]:
        """Those that are waited for."""
        return (*self.dead, *self.alive)

    @property
    def asked(self) -> tuple[str, ...]:
        """Those whose fence devices are worth asking; nobody asks while nothing is waited for."""
        return tuple(dict.fromkeys((*self.all, *self.silent))) if self.all else ()

    def to_switch_off(self, off: Collection[str], wish: bool | list[str]) -> list[str]:
        """Those that are switched off, where the devices of some said that they are off.

        The operator wishes it of all (True), of none or of some by name. Of a crowd he has to give names, and of those
        that would be switched off in vain.
        """
        doubtful = [node for node in self.dead if node not in off]
        if isinstance(wish, bool):
            silent, nodes = (set(part).difference(off) for part in (self.silent, self.in_use))
            chosen = wish and not is_crowd(len(silent), len(nodes))
            return [node for node in doubtful if node not in self.in_vain] if chosen else []
        return [node for node in doubtful if node in wish]


def called_dead(intent: dict[str, Any]) -> list[str]:
    """The nodes that are dead by the operator's word, or off by that of their fence devices."""
    off = (node for node, said in (intent.get("fenced") or {}).items() if said["state"] == OFF)
    return sorted({*names(intent.get("confirm_dead")), *off})


def is_crowd(silent: int, nodes: int) -> bool:
    """Whether more of the nodes in use are silent at once than are likely to have died; one alone always may have."""
    return silent > 1 and silent * CROWD > nodes


def wish(value: Any) -> bool | list[str]:
    """What an operator says of switching off: true, false, or names."""
    text = str(value).strip().lower()
    if text in TRUTHS:
        return TRUTHS[text]
    return False if text in ("", "none") else names(value)


def switch_off(node: str) -> str:
    """The command that takes the power of a node that answers, or lives."""
    return f"fence.yml -e node={node} -e power=off -e force=true"


def witness_remedy(node: str) -> str:
    """What to do about a node that does not answer and lives."""
    return (
        f"restore the management network to it; if it hangs for good, {switch_off(node)}, then run this again; "
        "if its power was cut just now, wait a moment"
    )


def incomplete(view: NodeView) -> str:
    """What is wrong with a node that answers, but could not tell everything that a plan needs."""
    if view.another is not None:
        return f"answers, but with the addresses of {view.another} and without its own"
    return f"answers, but could not tell its {', '.join(view.missing)}"


def incomplete_remedy(view: NodeView, remedy: str | None = None) -> str:
    """What to do about such a node; `remedy` is for one that really is the node which the inventory means."""
    if view.another is not None:
        return another_remedy(view)
    mend = f"mend there what its problems name, or switch it off with {switch_off(view.name)}; then run this again"
    return remedy or mend


def another_remedy(view: NodeView) -> str:
    """What to do about a machine that answers in place of another: nobody is to be switched off by a wrong name."""
    variables = "ansible_host or twofold_replication_address"
    return f"correct {variables} of {view.name} or {view.another} in the inventory, then run this again"


def names(value: Any) -> list[str]:
    """Node names given as a list, or as text with commas."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [str(part) for part in value or ()]


def replicating_with(observed: Observed, node: str) -> str | None:
    """A sentence about a node that DRBD is connected to, which therefore lives; None if nobody is connected to it."""
    for view in observed.all_known:
        for name, resource in sorted(view.resources.items()):
            pair = (view.definitions.get(name) or {}).get("nodes") or ()
            if node in pair and resource.connected:
                return f"{view.name} still replicates {name} with it"
    return None


def _nodes_of_definitions(observed: Observed) -> set[str]:
    return {node for view in observed.all_known for found in view.definitions.values() for node in found["nodes"]}
