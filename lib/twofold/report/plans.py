# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan for people: on a terminal, and as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..planner.document import Change, Plan, Step
from ..units import format_size
from . import balance, rolling, screen

if TYPE_CHECKING:
    from rich.console import RenderableType

SIGNS = {"create": "+", "remove": "-", "migrate": ">", "failover": ">", "start": "^", "stop": "v"}
CLASSES = {
    "create": "create", "live": "live", "next_boot": "next boot", "restart": "RESTART", "move": "move",
    "replace": "REPLACE", "destroy": "DESTROY",
}  # fmt: skip


def headline(plan: Plan) -> str:
    """The plan in one line."""
    if not plan.steps:
        return "Nothing to do." if not plan.errors else "Nothing can be done."
    instances = len(_changes(plan))
    what = f"{instances} instance{'s' if instances != 1 else ''}"
    steps = f"{len(plan.steps)} step{'s' if len(plan.steps) != 1 else ''}"
    waves = f"{plan.waves} wave{'s' if plan.waves != 1 else ''}"
    copied = sum(step.bytes for step in plan.steps)
    data = f", about {format_size(copied)} over the network" if copied else ""
    return f"{what}, {steps} in {waves} on {', '.join(plan.nodes)}{data}"


def _changes(plan: Plan) -> dict[str, list[Change]]:
    """What happens to each instance: to one that leaves a node with both of its copies two things do."""
    found: dict[str, list[Change]] = {}
    for change in plan.summary:
        found.setdefault(change.instance, []).append(change)
    return found


def _row(step: Step) -> Sequence[str]:
    why = step.why + (f" [{step.risk}]" if step.risk else "")
    return str(step.wave + 1), step.node, step.op, CLASSES[step.kind], why


def _of(plan: Plan, instance: str | None) -> list[Step]:
    return sorted((step for step in plan.steps if step.instance == instance), key=lambda step: step.wave)


def plan_text(plan: Plan, width: int = 120, color: bool = False) -> str:
    """The plan for a terminal of `width` characters."""
    parts: list[RenderableType] = [screen.heading(headline(plan))]
    columns = ("", "", "", "", "")
    for instance, changes in _changes(plan).items():
        parts.append("")
        for change in changes:
            sign = SIGNS.get(change.change, "~")
            parts.append(screen.heading(f"{sign} {instance}: {change.change} on {', '.join(change.on)}"))
            parts.append(screen.table(("",), [(f"  {change.why}",)], header=False))
        rows = [("  " + row[0], *row[1:]) for row in map(_row, _of(plan, instance))]
        parts.append(screen.table(columns, rows, header=False))
    if shared := _of(plan, None):
        parts += ["", screen.heading("* shared")]
        rows = [("  " + row[0], *row[1:]) for row in map(_row, shared)]
        parts.append(screen.table(columns, rows, header=False))
    if "balance" in plan.details:
        parts += ["", *balance.text(plan.details["balance"])]
    if "rolling" in plan.details:
        table = screen.table(rolling.COLUMNS, rolling.rows(plan.details["rolling"]))
        parts += ["", table, "", *rolling.conclusion(plan.details["rolling"])]
    if plan.findings:
        parts += ["", *screen.findings(plan.findings)]
    return screen.render(parts, width, color=color)


def plan_markdown(plan: Plan) -> str:
    """The plan as Markdown."""
    lines = ["# Plan", "", headline(plan), "", f"Fingerprint `{plan.fingerprint[:16]}`", ""]
    for instance, changes in _changes(plan).items():
        for change in changes:
            lines += [f"## `{instance}`: {change.change} on {', '.join(change.on)}", "", _escape(change.why), ""]
        lines += [*_markdown_table(_of(plan, instance)), ""]
    if shared := _of(plan, None):
        lines += ["## Shared", "", *_markdown_table(shared), ""]
    if "balance" in plan.details:
        lines += ["## Moves", "", *balance.markdown(plan.details["balance"]), ""]
    if "rolling" in plan.details:
        lines += ["## Order", "", *rolling.markdown(plan.details["rolling"]), ""]
    if plan.findings:
        lines += ["## Findings", ""]
        for finding in plan.findings:
            remedy = f"\n  *{_escape(finding.remedy)}*" if finding.remedy else ""
            lines.append(f"- **{finding.severity}** `{finding.object}`: {_escape(finding.message)}{remedy}")
        lines.append("")
    return "\n".join(lines)


def _markdown_table(steps: Sequence[Step]) -> list[str]:
    lines = ["| wave | node | step | class | why |", "| ---: | --- | --- | --- | --- |"]
    for step in steps:
        wave, node, op, kind, why = _row(step)
        lines.append(f"| {wave} | {node} | `{op}` | {kind} | {_escape(why)} |")
    return lines


def _escape(text: str) -> str:
    for character in "\\`*_[]<>|":
        text = text.replace(character, "\\" + character)
    return text.replace("\n", " ")
