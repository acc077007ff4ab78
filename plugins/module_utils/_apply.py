# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carrying out a request: under the node's lock, each step with an entry in the journal."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from . import _definitions
from ._errors import AGAIN, OTHER_VERSION, Refused, TwofoldError, UsageError
from ._node import Node
from ._steps import Args, Done, find

Result = dict[str, Any]
MISTAKE = f"this is a mistake in Twofold: report it with these words; {AGAIN}"
PLAN_AGAIN = "plan again; nothing more was done here"
LOST = "the lock that this run had here was lost meanwhile, so somebody else may have worked on this node"


def apply(node: Node, request: dict[str, Any]) -> dict[str, Any]:
    """Runs the steps of a request in order and says of each what came of it."""
    if request.get("format") != 1:
        raise UsageError("the request has another format", OTHER_VERSION)
    secrets: dict[str, str] = request.get("secrets") or {}
    locks = bool(request.get("lock", True)) and not node.check_mode
    left = bool(request.get("held"))
    kept = left and not locks
    if locks:
        try:
            kept = _lock(node, request)
        except Refused as error:
            return {"results": [_refused(one, error) for one in request["steps"]], "changed": False, "lock": "refused"}
    try:
        # What a call of this run changed here before is no surprise.
        stale = {} if kept else _stale(node, request["steps"])
        results = _run_all(node, request, secrets, lost=left and not kept, stale=stale)
    finally:
        if locks:
            node.lock.release(keep_lease=not request.get("release"))
    changed = any(one["status"] == "changed" for one in results)
    held = "held" if locks and not request.get("release") else "released"
    return {"results": results, "changed": changed, "lock": held}


def _lock(node: Node, request: dict[str, Any]) -> bool:
    """Takes the lock; whether the run had it all the time, if it left it to itself."""
    lease, wait = float(request.get("lease", 120)), float(request.get("lock_wait", 30))
    return node.lock.acquire(str(request.get("holder", "unknown")), str(request["run"]), lease, wait)


def _stale(node: Node, steps: list[dict[str, Any]]) -> dict[str, str]:
    """The instances that somebody changed on this node since the plan was made, each with what is different."""
    planned = {str(one["instance"]): one["generation"] for one in steps if one.get("generation") is not None}
    found = {}
    for name, generation in planned.items():
        try:
            there = (_definitions.read(node.files, name) or {}).get("generation", 0)
        except TwofoldError as error:
            found[name] = error.message
            continue
        if there != generation:
            was, is_ = _generation(generation), _generation(there)
            found[name] = f"{name} was changed meanwhile: the plan was made on {was} here, now there is {is_}"
    return found


def _generation(number: object) -> str:
    return f"generation {number} of its definition" if number else "no definition"


def _refused(one: dict[str, Any], error: TwofoldError) -> Result:
    return _result(one, "skipped", error.message, error.remedy, 0.0)


def _result(one: dict[str, Any], status: str, message: str, remedy: str | None, seconds: float) -> Result:
    return {"id": one["id"], "status": status, "message": message, "remedy": remedy, "seconds": round(seconds, 3)}


def _run_all(
    node: Node, request: dict[str, Any], secrets: dict[str, str], *, lost: bool, stale: dict[str, str]
) -> list[Result]:
    """A step that needs a failed one is skipped, unless it is for cleaning up; the others go on.

    When the run's lock was `lost` since its last call, nothing is as it was planned on: it only cleans up. So it does
    where the lock cannot be renewed, and with the instances that are `stale`.
    """
    unheld = Refused(LOST, PLAN_AGAIN) if lost else None
    results: list[Result] = []
    bad: dict[str, str] = {}
    predicted: set[str] = set()
    for one in request["steps"]:
        blocker = next((need for need in one.get("needs") or [] if need in bad), None)
        if blocker is not None and not one.get("always"):
            result = _result(one, "skipped", f"it needs {bad[blocker]}, which failed", None, 0.0)
        elif not one.get("always") and (refusal := unheld or _outdated(one, stale)):
            result = _refused(one, refusal)
        elif node.check_mode and any(need in predicted for need in one.get("needs") or []):
            result = _result(one, "changed", "depends on a step that would change something", None, 0.0)
        else:
            result = _run(node, request, one, secrets)
        if result["status"] in ("failed", "skipped"):
            bad[one["id"]] = bad[blocker] if blocker is not None else one["id"]
        elif result["status"] == "changed":
            predicted.add(one["id"])
        results.append(result)
        if node.lock is not None and not node.check_mode:
            unheld = _renewed(node) or unheld
    return results


def _outdated(one: dict[str, Any], stale: dict[str, str]) -> Refused | None:
    """Why a step is refused whose instance somebody changed meanwhile."""
    reason = stale.get(str(one.get("instance")))
    return Refused(reason, PLAN_AGAIN) if reason else None


def _renewed(node: Node) -> Refused | None:
    """Renews the lock; why it could not be, if so: then it might lapse before the run's next call."""
    try:
        node.lock.renew()
    except Refused as error:
        return error
    return None


def _run(node: Node, request: dict[str, Any], one: dict[str, Any], secrets: dict[str, str]) -> Result:
    """One step with its entry in the journal, which stays when this process dies or the step fails half-way."""
    started = node.clock.monotonic()
    key = None
    try:
        function = find(one["op"])
        args = Args(one["op"], resolve(one.get("args") or {}, secrets))
        if not node.check_mode:
            key = node.journal.begin(entry(node, request, one))
        done: Done = function(node, args)
    except TwofoldError as error:
        message, remedy = hide(error.message, secrets), error.remedy
        result = _result(one, "failed", message, None if remedy is None else hide(remedy, secrets), 0.0)
    except OSError as error:
        result = _result(one, "failed", hide(f"{one['op']}: {error}", secrets), "look at the node's file systems", 0.0)
    except Exception as error:  # noqa: BLE001 - what was done before it is told all the same
        result = _result(one, "failed", hide(f"{one['op']} {_mistake(error)}", secrets), MISTAKE, 0.0)
    else:
        result = _result(one, "changed" if done.changed else "unchanged", done.message, None, 0.0)
        if done.data:
            result["data"] = done.data
    # A failure that was reported is not an interruption: observing shows what it left.
    if key is not None:
        if result["status"] == "failed":
            node.progress.clear_all()
        # What was done is told all the same; an entry that cannot be removed shows when the node is observed.
        with suppress(OSError):
            node.journal.end(key)
    result["seconds"] = round(node.clock.monotonic() - started, 3)
    return result


def _mistake(error: Exception) -> str:
    """What an exception is that no step should raise, and where it is from."""
    import traceback

    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"ended with {type(error).__name__} in {os.path.basename(place.filename)}:{place.lineno}: {error}"


def entry(node: Node, request: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    """What the journal keeps of a step: nothing that is secret or large."""
    step = {name: one.get(name) for name in ("id", "op", "instance")}
    return {"run": request["run"], "holder": request.get("holder"), "time": node.clock.time(), "step": step}


def resolve(value: Any, secrets: dict[str, str]) -> Any:
    """Puts secrets into arguments, in memory only."""
    if isinstance(value, dict):
        if set(value) == {"$secret"}:
            if value["$secret"] not in secrets:
                raise UsageError(f"the secret {value['$secret']!r} was not given", "give it with the request")
            return secrets[value["$secret"]]
        return {key: resolve(one, secrets) for key, one in value.items()}
    if isinstance(value, list):
        return [resolve(one, secrets) for one in value]
    return value


def hide(text: str, secrets: dict[str, str]) -> str:
    """No message carries a secret, whatever a tool said."""
    for secret in secrets.values():
        if secret:
            text = text.replace(secret, "***")
    return text
