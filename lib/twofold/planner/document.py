# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan: steps, why they are there, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from .. import shape
from ..errors import DocumentError
from ..findings import Finding

FORMAT = 1
CREATE = "create"
LIVE = "live"
NEXT_BOOT = "next_boot"
RESTART = "restart"
MOVE = "move"
REPLACE = "replace"
DESTROY = "destroy"


@dataclass(frozen=True)
class Step:
    """One operation on one node.

    `kind` is the class: create, live, next_boot, restart, move, replace or destroy. `needs` are the ids of the steps
    that have to succeed before (`always`: to have ended). `bytes` is what is copied over the network. `generation` is
    that of the instance's definition on the node when the plan was made: 0 if there was none, None without an instance.
    """

    id: str
    node: str
    instance: str | None
    op: str
    args: dict[str, Any]
    needs: tuple[str, ...] = ()
    always: bool = False
    kind: str = LIVE
    why: str = ""
    risk: str | None = None
    bytes: int = 0
    wave: int = 0
    generation: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The step as it stands in a plan."""
        return {
            "id": self.id, "node": self.node, "instance": self.instance, "op": self.op, "args": self.args,
            "needs": list(self.needs), "always": self.always, "class": self.kind, "why": self.why, "risk": self.risk,
            "bytes": self.bytes, "wave": self.wave, "generation": self.generation,
        }  # fmt: skip

    def planned_on(self, generation: int) -> Step:
        """A copy that says so."""
        return replace(self, generation=generation)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Step:
        """The step of a document."""
        names = ("id", "node", "instance", "op", "args", "always", "why", "risk", "bytes", "wave", "generation")
        known = {name: data[name] for name in names}
        return cls(**known, needs=tuple(data["needs"]), kind=data["class"])


@dataclass(frozen=True)
class Change:
    """What a plan does to one instance, in a word."""

    instance: str
    change: str
    on: tuple[str, ...]
    why: str

    def to_json(self) -> dict[str, Any]:
        """The change as it stands in a plan."""
        return {"instance": self.instance, "change": self.change, "on": list(self.on), "why": self.why}


@dataclass(frozen=True)
class Plan:
    """The way from observed to desired. `details` is what an intent has to say beyond steps: `{"balance": {...}}`."""

    intent: dict[str, Any]
    steps: tuple[Step, ...] = ()
    findings: tuple[Finding, ...] = ()
    summary: tuple[Change, ...] = ()
    based_on: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def waves(self) -> int:
        """How many waves there are."""
        return max((step.wave for step in self.steps), default=-1) + 1

    @property
    def nodes(self) -> list[str]:
        """The nodes that the plan touches, sorted."""
        return sorted({step.node for step in self.steps})

    @property
    def errors(self) -> list[Finding]:
        """The findings that stop something."""
        return [finding for finding in self.findings if finding.severity == "error"]

    def to_json(self) -> dict[str, Any]:
        """The plan document."""
        return {
            "format": FORMAT,
            "intent": self.intent,
            "fingerprint": self.fingerprint,
            "based_on": self.based_on,
            "steps": [step.to_json() for step in self.steps],
            "waves": self.waves,
            "findings": [finding.to_json() for finding in self.findings],
            "summary": [change.to_json() for change in self.summary],
            "details": self.details,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        """The plan of a document. Raises DocumentError if it is none."""
        if not isinstance(data, dict):
            raise DocumentError("this is not a plan but something else")
        if data.get("format") == FORMAT and (wrong := shape.problem(data, shape.PLAN, "the plan")):
            raise DocumentError(f"the plan is damaged: {wrong}")
        if data.get("format") != FORMAT:
            raise DocumentError(f"this is not a plan of format {FORMAT}: its format is {data.get('format')!r}")
        try:
            return cls(
                dict(data["intent"]),
                tuple(Step.from_json(step) for step in data["steps"]),
                tuple(Finding.from_json(finding) for finding in data["findings"]),
                tuple(Change(c["instance"], c["change"], tuple(c["on"]), c["why"]) for c in data["summary"]),
                dict(data["based_on"]),
                str(data["fingerprint"]),
                dict(data.get("details") or {}),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DocumentError(f"the plan is damaged: {error!r}") from error

    def with_(self, **changes: Any) -> Plan:
        """A copy with other fields."""
        return replace(self, **changes)
