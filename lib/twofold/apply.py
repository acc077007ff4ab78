# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Applying a plan, as far as it is pure: what a node is sent in a wave, and what is not sent any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import shape

Document = dict[str, Any]
DONE = ("changed", "unchanged")
# After this the node is rebooted at once, and nobody is to get in before.
LEAVES_LOCKED = "maintenance.ready"
AGAIN = "then run the same again, it goes on from what it finds"


@dataclass(frozen=True)
class Turn:
    """A node's part of a wave: the steps to send, the results of those that are not, whether it is its last."""

    ready: list[Document]
    blocked: list[Document]
    last: bool


def turn(plan: Document, node: str, wave: int, results: dict[str, Document]) -> Turn | None:
    """What a node does in a wave of a plan, with the results so far by the steps' ids; None if nothing."""
    mine = [step for step in plan["steps"] if step["node"] == node]
    here = [step for step in mine if step["wave"] == wave]
    if not here:
        return None
    ready, blocked = split(here, results)
    return Turn(ready, blocked, wave == max(step["wave"] for step in mine))


def split(steps: list[Document], results: dict[str, Document]) -> tuple[list[Document], list[Document]]:
    """The steps that can be sent, and the results of those whose needs were not met in earlier waves.

    What the sent steps need within this call stays in their `needs`.
    """
    here = {step["id"] for step in steps}
    ready: list[Document] = []
    blocked: dict[str, Document] = {}
    for step in steps:
        missing = [
            need
            for need in step["needs"]
            if need in blocked or (need not in here and results.get(need, {}).get("status") not in DONE)
        ]
        if missing and not step["always"]:
            message = f"not tried, because {missing[0]} was not done"
            blocked[step["id"]] = {"id": step["id"], "status": "skipped", "message": message, "seconds": 0.0}
        else:
            ready.append({**step, "needs": [need for need in step["needs"] if need in here and need not in blocked]})
    return ready, list(blocked.values())


def _looks(step: Document) -> bool:
    """Whether a step only reads, and what it relies on cannot be taken from it."""
    return bool(step["op"] == "definition.absent" and step["args"]["expect_generation"] is None)


def request(
    identity: Document,
    steps: list[Document],
    secrets: dict[str, str],
    *,
    held: bool,
    last: bool,
    lease: float,
    wait: float,
) -> Document:
    """What a node is sent. `identity` is the run's `id` and `holder`; `lease` and `wait` are seconds.

    `held`: an earlier call of the run left the node locked, and nobody else may have worked there since. Who only looks
    does not wait for others who work there.
    """
    return {
        "format": 1,
        "run": identity["id"],
        "holder": identity["holder"],
        "lease": lease,
        "lock_wait": wait,
        "lock": held or not all(_looks(step) for step in steps),
        "held": held,
        "release": last and not any(step["op"] == LEAVES_LOCKED for step in steps),
        "steps": steps,
        "secrets": secrets,
    }


def understood(said: Any, sent: Document) -> Document:
    """What a node answered to a request; if that is no answer to it, its steps count as failed."""
    wrong = shape.problem(said, shape.ANSWER, "answer") or _missed(said["results"], sent["steps"])
    return damaged(wrong, sent) if wrong else shape.named(said, shape.ANSWER)


def _missed(results: list[Document], steps: list[Document]) -> str | None:
    """What is wrong if the results are not one for each step that was sent."""
    told, asked = [result["id"] for result in results], [step["id"] for step in steps]
    if len(told) == len(asked) and set(told) == set(asked):
        return None
    lacking, others = sorted(set(asked) - set(told)), sorted(set(told) - set(asked))
    if lacking:
        return f"it does not tell what became of {lacking[0]}"
    return f"it tells of {others[0]}, which it was not sent" if others else "it tells of a step twice"


def damaged(why: str, sent: Document) -> Document:
    """The answer in the place of one that cannot be understood."""
    return _instead("the node's answer cannot be understood", "look at what answers there in its place", why, sent)


def broken(why: str, sent: Document) -> Document:
    """The answer in the place of a call that failed as a whole: it died, or the node refused it."""
    return _instead("the call failed", "put that right", why, sent)


def _instead(what: str, remedy: str, why: str, sent: Document) -> Document:
    """What was done is not known, so nothing that needs it goes on.

    Nor is it known whether the lock is still there: with `held` the node itself sees to that, and does no more than
    clean up if it is not.
    """
    message, remedy = f"{what}, so it is not known what was done: {why}", f"{remedy}; {AGAIN}"
    results = [_unknown(step, f"not known, as {sent['steps'][0]['id']}", remedy) for step in sent["steps"]]
    if results:
        results[0].update(message=message)
    held = sent["lock"] and not sent["release"]
    return {"results": results, "changed": True, "lock": "held" if held else "released", "problem": message}


def lacking(step: Document, why: str) -> Document:
    """The result of a step that was not sent, for a file of the control host that it needs is not there."""
    message = f"the file that it needs cannot be taken from the control host: {why}"
    return _unknown(step, message, "correct the path in twofold_os_templates, or put the file there; " + AGAIN)


def _unknown(step: Document, message: str, remedy: str) -> Document:
    return {"id": step["id"], "status": "failed", "message": message, "remedy": remedy, "seconds": 0.0}
