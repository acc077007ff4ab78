# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which steps of a wave a node is sent."""

from __future__ import annotations

from typing import Any

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
