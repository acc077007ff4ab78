# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement over all nodes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold import nodeconfig, pki
from twofold.findings import Finding

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Answers = dict[str, nodeconfig.Answer | None]


def members(count: int) -> list[nodeconfig.Member]:
    return [
        nodeconfig.read_member(f"node{number}", {"ansible_host": f"192.0.2.{number}"}) for number in range(1, count + 1)
    ]


def answer(name: str, **more: Any) -> nodeconfig.Answer:
    return nodeconfig.Answer(facts={"hostname": name, "machine_id": f"id of {name}"}, **more)


def review(answers: Answers, tolerance: float = 1.0) -> list[Finding]:
    return nodeconfig.review(answers, members(len(answers)), tolerance)


def clocks(*intervals: tuple[float, float]) -> Answers:
    return {f"node{n}": answer(f"node{n}", clock=interval) for n, interval in enumerate(intervals, start=1)}


def test_nodes_that_are_alright_give_no_findings() -> None:
    assert review(clocks((0.0, 0.1), (0.5, 0.6), (-0.2, 0.9))) == []


def test_the_clock_that_is_off_is_named() -> None:
    found = review(clocks((0.0, 0.1), (-7.0, -6.5), (0.2, 0.3)))
    assert [(item.code, item.object) for item in found] == [("clock", "node node2")]
    assert "6.50 s behind node1" in found[0].message


def test_a_clock_that_may_be_right_is_not_blamed() -> None:
    assert review(clocks((0.0, 0.1), (-3.0, 0.2))) == []


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(0.001, 3), st.floats(0, 1)), min_size=2, max_size=6))
def test_only_clocks_that_differ_are_blamed(nodes: list[tuple[float, float, float]]) -> None:
    """Whatever the measurement, a finding means that two true offsets differ by more than the tolerance."""
    intervals = [(true - error * share, true + error * (1 - share)) for true, error, share in nodes]
    truth = [true for true, _ignored, _ignored in nodes]
    if review(clocks(*intervals)):
        assert max(truth) - min(truth) > 1.0 - 1e-6


def test_machines_that_were_cloned_are_found() -> None:
    twin = nodeconfig.Answer(facts={"hostname": "node1", "machine_id": "id of node1"})
    found = review({"node1": answer("node1"), "node2": twin})
    assert {item.message.split(":")[0] for item in found} == {"machine-id", "host name"}
    assert {(item.severity, item.code) for item in found} == {("error", "duplicate")}
    assert all("node1, node2" in item.message for item in found)


def test_addresses_that_were_given_twice_are_found() -> None:
    same = {"ansible_host": "192.0.2.1"}
    nodes = [nodeconfig.read_member(name, same) for name in ("node1", "node2")]
    found = nodeconfig.review({"node1": answer("node1"), "node2": answer("node2")}, nodes, 1.0)
    assert {item.message.split(":")[0] for item in found} == {"address", "replication address"}
    assert {(item.severity, item.code) for item in found} == {("error", "duplicate")}


@pytest.mark.parametrize(("silent", "severity"), [(True, "warning"), (False, "error")])
def test_a_peer_that_is_down_does_not_stop_the_others(silent: bool, severity: str) -> None:
    problem = {"code": "network", "object": "net", "message": "node2 does not answer", "remedy": "r", "peer": "node2"}
    answers: Answers = {
        "node1": answer("node1", problems=(problem,)),
        "node2": None if silent else answer("node2"),
    }
    found = {item.code: item.severity for item in review(answers)}
    assert found.pop("network") == severity
    assert found == ({"silent": "warning"} if silent else {})


def test_errors_come_first_and_each_has_its_remedy() -> None:
    problem = {"code": "disk", "object": "disk /dev/vdb", "message": "carries data", "remedy": "name another"}
    text = nodeconfig.report(review({"node1": None, "node2": answer("node2", problems=(problem,))}))
    assert text.splitlines()[:2] == ["error: node node2: disk /dev/vdb: carries data", "    name another"]


def test_credentials_are_replaced_for_a_reason() -> None:
    made = pki.create_authority("lab", NOW)
    member, settings = members(1)[0], nodeconfig.read_settings("node1", {})
    authority, subjects = pki.load_authority(made), nodeconfig.subjects(member)
    held = {
        name: {"certificate": pki.issue(authority, subject, NOW).certificate, "problem": None}
        for name, subject in subjects.items()
    }
    faults = nodeconfig.credential_faults
    assert faults(held, made.certificate, member, settings, NOW) == {}
    swapped = {"libvirt": held["qemu"], "qemu": held["libvirt"]}
    assert set(faults(swapped, made.certificate, member, settings, NOW)) == {"libvirt", "qemu"}
    assert set(faults({}, made.certificate, member, settings, NOW)) == {"libvirt", "qemu"}
    assert set(faults(held, None, member, settings, NOW)) == {"libvirt", "qemu"}
    later = NOW + timedelta(days=settings.pki_days - settings.pki_renew_days)
    assert all("only" in reason for reason in faults(held, made.certificate, member, settings, later).values())
    held["qemu"]["problem"] = "/etc/pki/qemu/server-key.pem is missing"
    assert faults(held, made.certificate, member, settings, NOW) == {"qemu": held["qemu"]["problem"]}


def test_a_node_is_certified_by_a_credential_that_is_whole() -> None:
    whole, broken = {"certificate": "c", "problem": None}, {"certificate": "c", "problem": "its key is missing"}
    missing = {"certificate": None, "problem": "it is missing"}
    assert not nodeconfig.certified({})
    assert not nodeconfig.certified({"libvirt": missing, "qemu": broken})
    assert nodeconfig.certified({"libvirt": missing, "qemu": whole})


def test_an_authority_that_is_not_here_is_missed_where_nodes_have_certificates() -> None:
    assert nodeconfig.absent_authority([], "/c/.pki") is None
    found = nodeconfig.absent_authority(["node2", "node1"], "/c/.pki")
    assert found is not None and (found.severity, found.code, found.object) == ("error", "authority", "cluster")
    assert "node1, node2" in found.message and "/c/.pki" in found.message and "twofold_new_authority" in found.remedy


@pytest.mark.parametrize(("days", "severity"), [(3000, None), (100, "warning"), (-1, "error")])
def test_an_authority_that_ends_is_told_in_time(days: int, severity: str | None) -> None:
    made = pki.create_authority("lab", NOW, days=3650)
    found = nodeconfig.authority_finding(made.certificate, "ca.pem", NOW + timedelta(days=3650 - days))
    assert (found.severity if found else None) == severity
    assert found is None or (found.code, found.object) == ("authority", "cluster")
