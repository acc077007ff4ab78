# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which steps of a wave a node is sent, and what its answer says of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from twofold import apply


def step(name: str, *needs: str, always: bool = False) -> dict[str, Any]:
    return {"id": name, "op": "seed.remove", "args": {}, "needs": list(needs), "always": always}


def result(name: str, status: str) -> dict[str, Any]:
    return {"id": name, "status": status}


def test_what_needs_an_undone_step_is_not_sent() -> None:
    done = {"ok": result("ok", "unchanged"), "bad": result("bad", "failed")}
    steps = [
        step("1", "ok"),
        step("2", "bad"),
        step("3", "2"),
        step("4", "never"),
        step("5", "1"),
        step("6", "5", "ok"),
    ]
    ready, blocked = apply.split(steps, done)
    assert [one["id"] for one in ready] == ["1", "5", "6"]
    assert [one["needs"] for one in ready] == [[], ["1"], ["5"]]
    assert {one["id"]: one["status"] for one in blocked} == dict.fromkeys("234", "skipped")


def test_a_clean_up_is_sent_whatever_happened() -> None:
    ready, blocked = apply.split([step("clean", "bad", always=True)], {"bad": result("bad", "failed")})
    assert [one["id"] for one in ready] == ["clean"] and blocked == []


def test_a_nodes_turn_is_its_steps_of_the_wave() -> None:
    plan = {"steps": [{**step(name), "node": node, "wave": wave} for name, node, wave in
                      (("a", "n1", 0), ("b", "n2", 0), ("c", "n1", 2))]}  # fmt: skip
    first = apply.turn(plan, "n1", 0, {})
    assert first is not None and [one["id"] for one in first.ready] == ["a"] and not first.last
    assert apply.turn(plan, "n1", 1, {}) is None and apply.turn(plan, "n3", 0, {}) is None
    last = apply.turn(plan, "n1", 2, {})
    assert last is not None and last.last


def test_a_request_says_who_and_how_long() -> None:
    made = apply.request(
        {"id": "r", "holder": "me@here"}, [step("a")], {"k": "v"}, held=True, last=True, lease=9, wait=3
    )
    assert (made["run"], made["holder"], made["lease"], made["lock_wait"]) == ("r", "me@here", 9, 3)
    assert made["held"] and made["release"] and made["steps"] == [step("a")] and made["secrets"] == {"k": "v"}


def test_who_only_looks_waits_for_nobody() -> None:
    """Unless he relies on a definition that the plan knew: its run must be at its end."""

    def locks(*steps: dict[str, Any], held: bool = False) -> bool:
        made = apply.request({"id": "r", "holder": "me"}, list(steps), {}, held=held, last=True, lease=9, wait=3)
        return bool(made["lock"])

    look = {**step("look"), "op": "definition.absent", "args": {"name": "web1", "expect_generation": None}}
    known = {**look, "args": {"name": "web1", "expect_generation": 1}}
    assert not locks(look, look)
    assert locks(known) and locks(look, known) and locks(look, step("a")) and locks(look, held=True)


SENT = {"steps": [step("1"), step("2", "1"), step("clean", always=True)], "lock": True, "release": False}
GOOD: dict[str, Any] = {
    "results": [
        {**result("1", "changed"), "message": "did it", "remedy": None, "seconds": 0.5, "data": {"downtime_ms": 4}},
        {**result("2", "failed"), "message": "no room", "remedy": "add some", "seconds": 1},
        result("clean", "unchanged"),
    ],
    "changed": True,
    "lock": "held",
}


def test_an_answer_is_passed_on_without_what_no_format_names() -> None:
    assert apply.understood(GOOD, SENT) == GOOD
    assert apply.understood({**GOOD, "more": 1}, SENT) == GOOD
    release: dict[str, Any] = {"steps": [], "lock": True, "release": True}
    assert apply.understood({"results": [], "changed": False, "lock": "released"}, release)["results"] == []


def _set(place: list[Any], value: Any) -> Callable[[dict[str, Any]], Any]:
    def hurt(answer: Any) -> Any:
        inner = answer
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        return answer

    return hurt


DAMAGED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "nothing": (lambda _answer: {}, "answer.results is missing"),
    "a list": (lambda answer: answer["results"], "answer is not a mapping"),
    "no list": (_set(["results"], {"1": "changed"}), "answer.results is not a list"),
    "no result": (_set(["results", 0], "1"), "answer.results[0] is not a mapping"),
    "no step": (_set(["results", 0, "id"], ["1"]), "answer.results[0].id is not a text"),
    "no status": (_set(["results", 1, "status"], "fine"), "answer.results[1].status is not one of changed,"),
    "a message": (_set(["results", 1, "message"], 3), "message is not a text"),
    "a half of a character": (_set(["results", 1, "message"], "\ud800"), "message is not a text"),
    "a time": (_set(["results", 1, "seconds"], float("nan")), "seconds is not a number"),
    "data": (_set(["results", 0, "data"], [1]), "data is a list"),
    "changed": (_set(["changed"], "yes"), "answer.changed is a str"),
    "the lock": (_set(["lock"], None), "answer.lock is not one of held,"),
    "a step too few": (lambda answer: answer["results"].pop() and answer, "what became of clean"),
    "a step of another node": (_set(["results", 2, "id"], "3"), "what became of clean"),
    "a step too many": (lambda answer: answer["results"].append(result("3", "changed")) or answer, "tells of 3"),
    "a step twice": (lambda answer: answer["results"].append(result("1", "changed")) or answer, "a step twice"),
}


@pytest.mark.parametrize(("hurt", "said"), DAMAGED.values(), ids=DAMAGED)
def test_after_a_damaged_answer_nothing_counts_as_done(hurt: Callable[[Any], Any], said: str) -> None:
    found = apply.understood(hurt(copy.deepcopy(GOOD)), SENT)
    assert [(one["id"], one["status"]) for one in found["results"]] == [(one, "failed") for one in ("1", "2", "clean")]
    first, *others = found["results"]
    assert said in first["message"] and "run the same again" in first["remedy"]
    assert {(one["message"], one["remedy"]) for one in others} == {("not known, as 1", first["remedy"])}
    assert found["problem"] == first["message"]
    # What cleans up is sent all the same, and only if the lock was never lost the node does more than that.
    assert (found["lock"], found["changed"]) == ("held", True)
    results = {one["id"]: one for one in found["results"]}
    ready, blocked = apply.split([step("next", "1"), step("always", "1", always=True)], results)
    assert ([one["id"] for one in ready], [one["id"] for one in blocked]) == (["always"], ["next"])


def test_after_the_last_call_nobody_asks_for_a_lock_that_may_be_gone() -> None:
    assert apply.understood({}, {**SENT, "release": True})["lock"] == "released"
    assert apply.understood({}, {**SENT, "lock": False})["lock"] == "released"


def test_after_a_call_that_died_nothing_counts_as_done_and_the_node_stays() -> None:
    found = apply.broken("The node gave no answer: Killed.", SENT)
    assert [one["status"] for one in found["results"]] == ["failed"] * 3
    assert "it is not known what was done: The node gave no answer: Killed." in found["problem"]
    assert found["results"][0]["message"] == found["problem"] and "run the same again" in found["results"][0]["remedy"]
    assert (found["lock"], found["changed"]) == ("held", True)
