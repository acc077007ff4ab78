# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges what all nodes answered, before anything is changed on any of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .. import clocks, pki
from ..findings import ERROR, WARNING, Finding, listing, ordered
from .settings import Member, Settings, finding
from .wanted import subjects

AUTHORITY_WARNING_DAYS = 180
NEW_AUTHORITY = "run bootstrap.yml with -e twofold_new_authority=true"


@dataclass(frozen=True)
class Answer:
    """What a node's inspection found. The clock is the interval that holds the node's time less the control host's."""

    problems: tuple[dict[str, Any], ...] = ()
    facts: dict[str, str] = field(default_factory=dict)
    clock: tuple[float, float] | None = None


def credential_faults(
    credentials: Mapping[str, Mapping[str, Any]],
    authority: str | None,
    member: Member,
    settings: Settings,
    now: datetime,
) -> dict[str, str]:
    """Return why credentials of a node have to be replaced, by credential."""
    faults = {}
    for name, subject in subjects(member).items():
        state = credentials.get(name) or {"certificate": None, "problem": "it is missing"}
        reason = state["problem"]
        if reason is None and authority is None:
            reason = "the cluster's authority is not here"
        if reason is None:
            reason = pki.fault(state["certificate"] or "", str(authority), subject, now, settings.pki_renew_days)
        if reason is not None:
            faults[name] = str(reason)
    return faults


def certified(credentials: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether a node has a certificate with its key, of whatever authority."""
    return any(state["problem"] is None and state["certificate"] for state in credentials.values())


def review(answers: Mapping[str, Answer | None], members: Iterable[Member], tolerance: float) -> list[Finding]:
    """Return all findings; a node without an answer is None."""
    silent = {name for name, answer in answers.items() if answer is None}
    present = {name: answer for name, answer in answers.items() if answer is not None}
    found: list[Finding] = [
        finding(name, "connection", "it does not answer", "it is left as it is", code="silent", severity=WARNING)
        for name in silent
    ]
    for name, answer in present.items():
        found += _problems(name, answer, silent)
    found += _duplicates(present, list(members))
    found += _clocks(present, tolerance)
    return ordered(found)


def authority_finding(pem: str, path: str, now: datetime) -> Finding | None:
    """Return a warning when the authority ends soon."""
    left = pki.days_left(pem, now)
    if left > AUTHORITY_WARNING_DAYS:
        return None
    remedy = f"once all nodes answer, move it away and {NEW_AUTHORITY}: all nodes get new certificates"
    message = f"the authority {path} is valid for {max(left, 0)} more days"
    return Finding(WARNING if left > 0 else ERROR, "authority", "cluster", message, remedy)


def absent_authority(nodes: Iterable[str], directory: str) -> Finding | None:
    """Return an error when nodes have certificates already, whose authority is not here.

    A new one would part them from those that do not answer, which trust the old one alone.
    """
    names = sorted(nodes)
    if not names:
        return None
    message = f"the certificates of {listing(names)} come from an authority that is not in {directory}"
    remedy = f"put it there, or set twofold_pki_dir; if it is gone for good, {NEW_AUTHORITY} once all nodes answer"
    return Finding(ERROR, "authority", "cluster", message, remedy)


def report(findings: Iterable[Finding]) -> str:
    """Return the findings as text: one a line, with its remedy below."""
    lines = []
    for item in findings:
        lines.append(f"{item.severity}: {item.object}: {item.message}")
        if item.remedy:
            lines.append(f"    {item.remedy}")
    return "\n".join(lines)


def _problems(node: str, answer: Answer, silent: set[str]) -> Iterator[Finding]:
    for problem in answer.problems:
        severity = WARNING if problem.get("peer") in silent else str(problem.get("severity", ERROR))
        yield finding(
            node,
            str(problem["object"]),
            str(problem["message"]),
            str(problem["remedy"]),
            code=str(problem["code"]),
            severity=severity,
        )


def _duplicates(answers: Mapping[str, Answer], members: list[Member]) -> Iterator[Finding]:
    things: list[tuple[str, str, dict[str, str]]] = [
        ("machine-id", "rm /etc/machine-id && systemd-machine-id-setup, on all but one, then reboot it", {}),
        ("host name", "give each node a name of its own, and set twofold_hostname", {}),
    ]
    for name, answer in answers.items():
        things[0][2][name] = answer.facts.get("machine_id", "")
        things[1][2][name] = answer.facts.get("hostname", "")
    for title, attribute in (("address", "management"), ("replication address", "replication")):
        values = {member.name: str(getattr(member, attribute)) for member in members}
        things.append((title, "correct the inventory", values))
    for title, remedy, values in things:
        owners: dict[str, list[str]] = defaultdict(list)
        for name, value in values.items():
            owners[value].append(name)
        for value, names in owners.items():
            if value and len(names) > 1:
                message = f"{value} is the same on {', '.join(sorted(names))}"
                yield finding(sorted(names)[0], title, message, remedy, code="duplicate")


def _clocks(answers: Mapping[str, Answer], tolerance: float) -> Iterator[Finding]:
    read = {name: answer.clock for name, answer in answers.items() if answer.clock is not None}
    for one in clocks.apart(read, tolerance):
        message = f"it is at least {one.seconds:.2f} s {one.way} {one.middle}, and {tolerance:g} s are allowed"
        yield finding(one.node, "clock", message, clocks.REMEDY, code="clock")
