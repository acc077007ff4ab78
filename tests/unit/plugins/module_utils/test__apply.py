# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carrying out a request: order, needs, secrets, journal, lock."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _definitions, _steps
from ansible_collections.twofold.cluster.plugins.module_utils._apply import apply, hide, resolve
from ansible_collections.twofold.cluster.plugins.module_utils._errors import (
    ParseFailed,
    Refused,
    TwofoldError,
    UsageError,
)
from ansible_collections.twofold.cluster.plugins.module_utils._lock import FileLock
from ansible_collections.twofold.cluster.plugins.module_utils._node import Node
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.plugins.module_utils.conftest import BenchNode, RootedFiles

DOCUMENT = {
    "format": 1, "name": "web1", "uuid": "u1", "generation": 1, "nodes": ["node1", "node2"], "port": 7000,
    "disks": [{"index": 0, "minor": {"node1": 1000, "node2": 1000}, "volume_group": {"node1": "vg0"}}],
}  # fmt: skip


def request(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"format": 1, "run": "r1", "holder": "ann@desk", "lock_wait": 1, "steps": list(steps), **more}


def write(document: dict[str, Any], expect: int | None = None, **more: Any) -> dict[str, Any]:
    args = {"document": document, "expect_generation": expect}
    return {"id": f"{document['name']}/write", "op": "definition.write", "args": args, **more}


def statuses(answer: dict[str, Any]) -> list[str]:
    return [one["status"] for one in answer["results"]]


def test_a_second_run_changes_nothing(node: BenchNode) -> None:
    assert statuses(apply(node, request(write(DOCUMENT)))) == ["changed"]
    again = apply(node, request(write(DOCUMENT)))
    assert (statuses(again), again["changed"]) == (["unchanged"], False)
    assert node.journal.entries() == []


def test_a_failure_stops_what_needs_it_and_nothing_else(node: BenchNode) -> None:
    broken = {"id": "broken", "op": "definition.write", "args": {"document": {"name": "../x"}}}
    needs = write(DOCUMENT, needs=["broken"])
    chained = {"id": "chained", "op": "definition.remove", "args": {"name": "web1"}, "needs": [needs["id"]]}
    clean = {"id": "clean", "op": "definition.remove", "args": {"name": "web1"}, "needs": ["broken"], "always": True}
    other = write({**DOCUMENT, "name": "db1", "uuid": "u2", "port": 7001, "disks": []})
    answer = apply(node, request(broken, needs, chained, clean, other))
    assert statuses(answer) == ["failed", "skipped", "skipped", "unchanged", "changed"]
    assert "broken" in answer["results"][2]["message"]
    assert answer["results"][0]["remedy"]


def test_a_step_that_nobody_knows_is_an_answer(node: BenchNode) -> None:
    answer = apply(node, request({"id": "x", "op": "volumes.explode", "args": {}}))
    assert statuses(answer) == ["failed"]


def test_another_generation_is_not_overwritten(node: BenchNode) -> None:
    apply(node, request(write({**DOCUMENT, "generation": 5})))
    answer = apply(node, request(write({**DOCUMENT, "generation": 3}, expect=2)))
    assert "has generation 5" in answer["results"][0]["message"]
    assert (_definitions.read(node.files, "web1") or {})["generation"] == 5


def test_what_another_operator_wrote_in_the_same_generation_is_not_overwritten(node: BenchNode) -> None:
    apply(node, request(write({**DOCUMENT, "generation": 1})))
    apply(node, request(write({**DOCUMENT, "generation": 2, "memory": 1}, expect=1)))
    answer = apply(node, request(write({**DOCUMENT, "generation": 2, "memory": 2}, expect=1)))
    assert statuses(answer) == ["failed"] and "has generation 2, expected was 1" in answer["results"][0]["message"]
    assert _definitions.read(node.files, "web1") == {**DOCUMENT, "generation": 2, "memory": 1}


def test_minors_and_ports_are_never_shared(node: BenchNode) -> None:
    apply(node, request(write(DOCUMENT)))
    answer = apply(node, request(write({**DOCUMENT, "name": "db1", "uuid": "u2"})))
    assert "belongs to web1" in answer["results"][0]["message"]
    assert "minor 1000" in answer["results"][0]["message"]


def test_an_interrupted_step_leaves_its_entry(node: BenchNode) -> None:
    child = os.fork()
    if child == 0:
        node.journal.begin({"run": "r0", "holder": "ann@desk", "time": 0.0, "step": {"id": "web1/os.install"}})
        os._exit(9)
    os.waitpid(child, 0)
    (left,) = node.journal.entries()
    assert (left["step"]["id"], left["running"]) == ("web1/os.install", False)
    clear = {"id": "c", "op": "journal.clear", "args": {"keys": [left["key"]]}}
    assert statuses(apply(node, request(clear))) == ["changed"]
    assert node.journal.entries() == []


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"step": 3}', '{"step": {"id": 3}}', '{"step": {"id": "s"}, "holder": ["ann"]}']
)
def test_an_entry_that_is_damaged_is_named_by_its_file(node: BenchNode, text: str) -> None:
    node.journal.begin({"run": "r0", "holder": "ann@desk", "time": 0.0, "step": {"id": "s"}})
    path = "/var/lib/twofold/journal/r1.web1-os.install-node1.json"
    node.files.write(path, text)
    with pytest.raises(ParseFailed) as caught:
        node.journal.entries()
    assert path in caught.value.message and "remove it" in (caught.value.remedy or "")


def test_a_running_step_is_not_cleared(node: BenchNode) -> None:
    key = node.journal.begin({"run": "r0", "holder": "ann@desk", "time": 0.0, "step": {"id": "s"}})
    clear = {"id": "c", "op": "journal.clear", "args": {"keys": [key]}}
    assert statuses(apply(node, request(clear))) == ["unchanged"]
    assert any(one["running"] for one in node.journal.entries())


def test_the_journal_holds_no_arguments(node: BenchNode, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def step(here: BenchNode, args: _steps.Args) -> _steps.Done:
        seen.append(json.dumps(here.journal.entries()))
        raise TwofoldError(f"the tool said {args.text('secret')}", f"do not say {args.text('secret')}")

    monkeypatch.setitem(_steps.REGISTRY, "journal.leak", step)
    wanted = {"id": "x", "op": "journal.leak", "args": {"secret": {"$secret": "drbd/web1"}}}
    answer = apply(node, request(wanted, secrets={"drbd/web1": "s3cret"}))
    assert "journal.leak" in seen[0]
    assert "s3cret" not in seen[0]
    assert answer["results"][0]["message"] == "the tool said ***"
    assert "s3cret" not in json.dumps(answer)


def test_another_run_is_refused_with_the_holders_name(node: BenchNode) -> None:
    apply(node, request(write(DOCUMENT)))
    answer = apply(node, request(write(DOCUMENT), run="r2", holder="bob@desk"))
    assert answer["lock"] == "refused"
    assert statuses(answer) == ["skipped"]
    assert "ann@desk works on this node" in answer["results"][0]["message"]
    assert "break_lock.yml -e node=NODE" in answer["results"][0]["remedy"]


def test_a_released_or_lapsed_lock_is_taken(node: BenchNode) -> None:
    assert apply(node, request(release=True))["lock"] == "released"
    assert apply(node, request(run="r2", holder="bob@desk"))["lock"] == "held"
    node.clock.sleep(121)
    assert node.lock.holder() is None
    assert apply(node, request(run="r3"))["lock"] == "held"


@pytest.mark.parametrize("meanwhile", ["another", "broken"])
def test_a_run_that_lost_its_lock_only_cleans_up(node: BenchNode, meanwhile: str) -> None:
    """It slept for longer than its lease, or somebody broke its lock: what it planned on may be gone."""
    apply(node, request(write(DOCUMENT)))
    if meanwhile == "another":
        node.clock.sleep(121)
        apply(node, request(run="r2", release=True))
    else:
        node.lock.discard()
    newer = {**write({**DOCUMENT, "generation": 2}), "id": "newer"}
    cleaning = {"id": "clean", "op": "journal.clear", "args": {"keys": []}, "needs": ["newer"], "always": True}
    answer = apply(node, request(newer, cleaning, held=True))
    assert statuses(answer) == ["skipped", "unchanged"]
    assert "lock that this run had here was lost" in answer["results"][0]["message"]


CLEAN = {"id": "clean", "op": "journal.clear", "args": {"keys": []}, "always": True}


def run_is_full(node: BenchNode, monkeypatch: pytest.MonkeyPatch, after: int = 0) -> None:
    """Nothing can be written below /run, once so much was."""
    real, written = node.files.write, 0

    def write_(path: str, text: str, mode: int = 0o600) -> None:
        nonlocal written
        if path.startswith("/run/"):
            written += 1
            if written > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, text, mode)

    monkeypatch.setattr(node.files, "write", write_)


def test_a_lock_that_cannot_be_renewed_stops_all_but_cleaning_up(
    node: BenchNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_is_full(node, monkeypatch, after=1)
    other = write({**DOCUMENT, "name": "db1", "uuid": "u2", "port": 7001, "disks": []})
    answer = apply(node, request(write(DOCUMENT), other, {**CLEAN, "needs": [other["id"]]}))
    assert (statuses(answer), answer["lock"]) == (["changed", "skipped", "unchanged"], "held")
    refused = answer["results"][1]
    assert "lock.json: No space left on device" in refused["message"] and "df /run" in refused["remedy"]
    assert _definitions.read(node.files, "db1") is None
    assert not node.lock.held and node.lock.handle is None, "the file lock was let go"


def test_without_a_lock_that_can_be_written_nothing_is_done(node: BenchNode, monkeypatch: pytest.MonkeyPatch) -> None:
    run_is_full(node, monkeypatch)
    answer = apply(node, request(write(DOCUMENT), CLEAN))
    assert (statuses(answer), answer["lock"]) == (["skipped", "skipped"], "refused")
    assert "No space left on device" in answer["results"][0]["message"]


@pytest.mark.parametrize("release", [False, True])
def test_files_that_cannot_be_removed_hide_no_results(
    node: BenchNode, monkeypatch: pytest.MonkeyPatch, release: bool
) -> None:
    def read_only(path: str) -> bool:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr(node.files, "remove", read_only)
    answer = apply(node, request(write(DOCUMENT), CLEAN, release=release))
    assert statuses(answer) == ["changed", "unchanged"]
    assert {one["step"]["id"] for one in node.journal.entries()} == {"web1/write", "clean"}, "that shows"


def test_progress_is_no_reason_to_fail(node: BenchNode, monkeypatch: pytest.MonkeyPatch) -> None:
    run_is_full(node, monkeypatch)
    node.progress.say("web1", "half-way", 0.5)
    monkeypatch.undo()
    node.clock.sleep(2)
    node.progress.say("web1", "half-way", 0.6)

    def broken(path: str) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr(node.files, "remove", broken)
    node.progress.clear("web1")
    node.progress.clear_all()
    assert node.files.names("/run/twofold/progress") == ["web1.json"]
    monkeypatch.setattr(node.files, "names", broken)
    node.progress.clear_all()


def planned_on(generation: int, **more: Any) -> dict[str, Any]:
    """A step of web1 that looks at no definition itself."""
    args = {"name": "web1"}
    return {"id": "seed", "op": "seed.remove", "args": args, "instance": "web1", "generation": generation, **more}


@pytest.mark.parametrize("generation", [0, 2, 3])
def test_steps_that_were_planned_on_another_generation_are_refused(node: BenchNode, generation: int) -> None:
    apply(node, request(write(DOCUMENT), release=True))
    other = {"id": "other", "op": "seed.remove", "args": {"name": "web2"}, "instance": "web2", "generation": 0}
    answer = apply(node, request(planned_on(generation), other, planned_on(generation, always=True), run="r2"))
    assert statuses(answer) == ["skipped", "unchanged", "unchanged"]
    said = answer["results"][0]
    assert "web1 was changed meanwhile" in said["message"] and "now there is generation 1" in said["message"]
    assert said["remedy"].startswith("plan again")


def test_what_the_run_itself_changed_is_no_surprise(node: BenchNode) -> None:
    first = request(write(DOCUMENT, instance="web1", generation=0), planned_on(0))
    assert statuses(apply(node, first)) == ["changed", "unchanged"]
    # The answer was lost, and ssh tried again.
    assert statuses(apply(node, first)) == ["unchanged", "unchanged"]
    assert statuses(apply(node, request(planned_on(0), held=True))) == ["unchanged"]


def test_a_definition_that_cannot_be_read_stops_its_instance_alone(node: BenchNode) -> None:
    node.files.write("/var/lib/twofold/instances/web1.json", "{", 0o600)
    other = {"id": "other", "op": "seed.remove", "args": {"name": "web2"}, "instance": "web2", "generation": 0}
    answer = apply(node, request(planned_on(1), other))
    assert statuses(answer) == ["skipped", "unchanged"]
    assert "web1.json" in answer["results"][0]["message"]


def test_a_lease_that_lapsed_but_that_nobody_took_is_gone_on_with(node: BenchNode) -> None:
    apply(node, request(write(DOCUMENT)))
    node.clock.sleep(1000)
    assert statuses(apply(node, request(write(DOCUMENT), held=True))) == ["unchanged"]


def test_a_process_that_still_works_keeps_others_out(node: BenchNode) -> None:
    node.lock.acquire("ann@desk", "r1", 1, 0)
    node.clock.sleep(1000)
    other = type(node.lock)(node.files, node.clock)
    other.flock_path = node.lock.flock_path
    with pytest.raises(Refused, match="ann@desk"):
        other.acquire("bob@desk", "r2", 120, 0)


def test_check_mode_leaves_no_trace(node: BenchNode) -> None:
    node.check_mode = True
    second = {"id": "d", "op": "definition.remove", "args": {"name": "web1"}, "needs": ["web1/write"]}
    assert statuses(apply(node, request(write(DOCUMENT), second))) == ["changed", "changed"]
    assert _definitions.read_all(node.files) == {}
    assert node.lock.holder() is None


def test_an_unknown_secret_is_named() -> None:
    with pytest.raises(UsageError, match="drbd/web1"):
        resolve({"a": [{"$secret": "drbd/web1"}]}, {})


@given(st.text(min_size=4), st.text())
def test_no_secret_stays_in_a_message(secret: str, text: str) -> None:
    assert secret not in hide(text + secret, {"one": secret}) or secret in "***"


def test_a_lock_lapses_in_its_time_whatever_the_clock_is_set_to(node: BenchNode) -> None:
    apply(node, request())
    clock: Any = node.clock
    for ahead in (-7200.0, 7200.0):
        clock.ahead = ahead
        assert node.lock.holder() is not None
    clock.ahead = -7200.0
    clock.sleep(121)
    assert node.lock.holder() is None


def test_a_lock_from_before_a_boot_binds_nobody(node: BenchNode) -> None:
    apply(node, request())
    clock: Any = node.clock
    clock.now, clock.ahead = 5.0, 999_995.0
    assert node.lock.holder() is None


def test_the_lock_of_a_dead_run_can_be_broken(node: BenchNode) -> None:
    lock: Any = node.lock
    assert lock.discard() is None
    apply(node, request(write(DOCUMENT)))
    node.clock.sleep(40)
    assert lock.discard(check_mode=True)["holder"] == "ann@desk" and lock.holder() is not None
    broken = lock.discard()
    assert (broken["holder"], broken["run"], broken["age"]) == ("ann@desk", "r1", 40)
    assert lock.holder() is None and lock.discard() is None
    assert apply(node, request(write(DOCUMENT), run="r2"))["lock"] == "held"


def test_a_lock_is_not_broken_under_a_process_at_work(node: BenchNode) -> None:
    node.lock.acquire("ann@desk", "r1", 120, 0)
    other = FileLock(node.files, node.clock)
    other.lease_path, other.flock_path = node.lock.lease_path, node.lock.flock_path
    with pytest.raises(Refused, match=r"ann@desk \(run r1\) is at work"):
        other.discard()
    assert node.lock.holder() is not None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"lease": "x", "time": 0}', "\xff"])
def test_a_damaged_lock_is_refused_and_can_be_broken(node: BenchNode, text: str) -> None:
    lock: Any = node.lock
    node.files.write(lock.lease_path, text)
    if text == "\xff":
        assert isinstance(node.files, RootedFiles)
        Path(node.files._place(lock.lease_path)).write_bytes(b"\xff")
    opened = set(os.listdir("/proc/self/fd"))
    with pytest.raises(ParseFailed) as caught:
        lock.acquire("ann@desk", "r1", 120, 0)
    assert "break_lock" in (caught.value.remedy or "")
    assert len(os.listdir("/proc/self/fd")) == len(opened), "the file lock is let go"
    assert lock.discard(check_mode=True)["damaged"] and node.files.names("/run/twofold") == ["lock.json"]
    broken = lock.discard()
    assert (broken["holder"], broken["damaged"]) == ("unknown", True) and node.files.names("/run/twofold") == []
    assert lock.acquire("ann@desk", "r1", 120, 0) is False
    lock.release(keep_lease=False)


def test_a_damaged_lock_is_not_broken_under_a_process_at_work(node: BenchNode) -> None:
    node.lock.acquire("ann@desk", "r1", 120, 0)
    node.files.write(node.lock.lease_path, "{")
    other = FileLock(node.files, node.clock)
    other.lease_path, other.flock_path = node.lock.lease_path, node.lock.flock_path
    with pytest.raises(Refused, match="at work on this node"):
        other.discard()
    with pytest.raises(Refused, match="works on this node"):
        other.acquire("bob@desk", "r2", 120, 0)
    assert node.files.names("/run/twofold") == ["lock.json"]


def test_no_progress_is_left_of_a_step_that_failed(node: BenchNode) -> None:
    def breaks(node: Node, _args: _steps.Args) -> _steps.Done:
        node.progress.say("web1", "half-way", 0.5)
        raise TwofoldError("it broke")

    _steps.REGISTRY["definition.test"] = breaks
    try:
        assert statuses(apply(node, request({"id": "breaks", "op": "definition.test", "args": {}}))) == ["failed"]
    finally:
        del _steps.REGISTRY["definition.test"]
    assert node.files.names("/run/twofold/progress") == []


def test_what_a_killed_process_said_of_its_progress_goes_with_its_entry(node: BenchNode) -> None:
    node.progress.say("web1", "half-way", 0.5)
    key = node.journal.begin({"run": "r0", "holder": "x", "step": {"id": "web1/killed"}})
    text = json.loads(node.files.read(f"/var/lib/twofold/journal/{key}.json") or "")
    node.files.write(f"/var/lib/twofold/journal/{key}.json", json.dumps({**text, "process": "an earlier boot"}))
    assert statuses(apply(node, request({"id": "c", "op": "journal.clear", "args": {"keys": [key]}}))) == ["changed"]
    assert node.files.names("/run/twofold/progress") == [] == node.journal.entries()


def test_a_mistake_of_ours_fails_its_step_and_keeps_what_was_done_before(
    node: BenchNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(_node: Node, args: _steps.Args) -> _steps.Done:
        raise KeyError(f"disk of {args.text('secret')}")

    monkeypatch.setitem(_steps.REGISTRY, "definition.mistake", mistaken)
    args = {"secret": {"$secret": "drbd/web1"}}
    wrong = {"id": "wrong", "op": "definition.mistake", "args": args}
    needs = {"id": "needs", "op": "definition.remove", "args": {"name": "web1"}, "needs": ["wrong"]}
    clean = {"id": "clean", "op": "seed.remove", "args": {"name": "web1"}, "needs": ["wrong"], "always": True}
    answer = apply(node, request(write(DOCUMENT), wrong, needs, clean, secrets={"drbd/web1": "s3cret"}))
    assert statuses(answer) == ["changed", "failed", "skipped", "unchanged"] and answer["lock"] == "held"
    said = answer["results"][1]
    assert "definition.mistake" in said["message"] and "KeyError" in said["message"]
    assert "test__apply.py:" in said["message"] and "disk of ***" in said["message"]
    assert "report" in said["remedy"] and node.journal.entries() == []


def test_a_definition_that_went_away_meanwhile_is_not_written_again(node: BenchNode) -> None:
    answer = apply(node, request(write(DOCUMENT, expect=3)))
    assert statuses(answer) == ["failed"] and "meanwhile" in answer["results"][0]["remedy"]
    assert _definitions.read(node.files, "web1") is None
