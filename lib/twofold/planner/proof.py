# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proof that a node is dead: without one nothing that it may still run is started elsewhere.

A node that does not answer is unknown, which is not dead. It counts as dead when its fence device says that it is off,
or when the operator says so in words; and never while something shows that it lives.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..fencing import OFF, ON
from ..findings import ERROR, Finding
from ..observed import Observed
from .context import Context

UNPROVEN = "not-proven-dead"
WITNESS_REMEDY = "switch it off, or restore the management network to it; if its power was cut just now, wait a moment"


@dataclass(frozen=True)
class Proof:
    """Why a node counts as dead; `text` stands in the plan and in the steps that rely on it."""

    node: str
    text: str


class Proofs:
    """What an intent proves: `confirm_dead` names nodes, `fenced` tells what fence devices said.

    `fenced` is by node `{"state": "off" | "on" | "silent", "method": name, "message": text}`. `accept_stale` names
    instances that may go on with a copy that lacks the last changes.
    """

    def __init__(self, context: Context, intent: dict[str, Any]) -> None:
        self._context = context
        self._confirmed = names(intent.get("confirm_dead"))
        self.stale_accepted = names(intent.get("accept_stale"))
        self._fenced: dict[str, dict[str, str]] = intent.get("fenced") or {}
        self._check_names()

    def _check_names(self) -> None:
        known = {*self._context.desired.nodes, *_nodes_of_definitions(self._context.observed)}
        for name in sorted(set(self._confirmed) - known):
            remedy = f"the nodes are {', '.join(sorted(known))}"
            self._error(name, "unknown-node", "there is no such node", remedy)
        for name in sorted({*self._confirmed, *(node for node, said in self._fenced.items() if said["state"] == OFF)}):
            if self._context.observed.views.get(name) is not None:
                message = "it answers, so it is not dead"
                remedy = "use failover.yml or migrate.yml; if it hangs, switch it off with fence.yml first"
                self._error(name, "node-alive", message, remedy)

    def _error(self, node: str, code: str, message: str, remedy: str) -> None:
        self._context.findings.append(Finding(ERROR, code, f"node {node}", message, remedy))

    def of(self, node: str, instances: Iterable[str]) -> Proof | None:
        """The proof that a node is dead; without one a finding that names the instances which wait for it."""
        view = self._context.observed.views.get(node)
        if view is not None:
            message = f"it answers, but could not tell its {', '.join(view.missing)}, so guests may run there"
            remedy = "put it right, or switch it off with fence.yml and run this again"
            self._error(node, "node-incomplete", message, remedy)
            return None
        said = self._fenced.get(node)
        if said is not None and said["state"] == OFF:
            return Proof(node, f"{node} is off, says its fence device ({said['method']})")
        if node in self._confirmed:
            return self._confirmed_proof(node)
        waiting = ", ".join(sorted(instances))
        self._error(node, UNPROVEN, f"it does not answer, but may run {waiting}", self._remedy(node, said))
        return None

    def _confirmed_proof(self, node: str) -> Proof | None:
        witness = replicating_with(self._context.observed, node)
        if witness is not None:
            message = f"it was confirmed dead, but lives: {witness}"
            self._error(node, "node-alive", message, WITNESS_REMEDY)
            return None
        return Proof(node, f"the operator confirmed that {node} is dead")

    @staticmethod
    def _remedy(node: str, said: dict[str, str] | None) -> str:
        confirm = f"make sure that it is off, then run this again with -e confirm_dead={node}, which says so"
        if said is None:
            return confirm
        if said["state"] == ON:
            return "its fence device says that it is on; -e fence=true switches it off"
        return f"its fence device is of no use ({said['message']}); {confirm}"


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
