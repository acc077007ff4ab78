# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that is about to be rebooted: its note, what it refuses until it has booted, and the last look."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _maintenance, _steps_rolling
from ansible_collections.twofold.cluster.plugins.module_utils._drbd import DiskState, ResourceState
from ansible_collections.twofold.cluster.plugins.module_utils._errors import Refused, TwofoldError
from ansible_collections.twofold.cluster.plugins.module_utils._node import Node
from ansible_collections.twofold.cluster.plugins.module_utils._steps import Args, Done, find

XML = """<domain type='test'><name>web1</name><uuid>11111111-1111-4111-8111-111111111111</uuid><memory>8192</memory>
<os><type>hvm</type></os></domain>"""
START: dict[str, Any] = {"name": "web1", "volumes": []}


class Host:
    """The boot that a node is in."""

    boot = "a"

    def facts(self) -> dict[str, Any]:
        return {"boot_id": self.boot}


@pytest.fixture
def booted(node: Node) -> Node:
    """A node with a guest that is off, in its first boot."""
    changed: Any = node
    changed.host = Host()
    node.hypervisor.define(XML)
    return node


def run(where: Node, op: str, **values: object) -> Done:
    return find(op)(where, Args(op, dict(values)))


def begin(node: Node) -> Done:
    return run(node, "maintenance.begin", node="node1")


def boot(node: Node) -> None:
    changed: Any = node
    changed.host.boot += "a"


def test_it_is_noted_once_for_a_boot_with_who_does_it(booted: Node) -> None:
    booted.lock.acquire("ann@here", "run1", 120, 0)
    assert begin(booted).changed
    assert not begin(booted).changed
    note = {"format": 1, "node": "node1", "boot": "a", "holder": "ann@here", "time": 1_000_000.0}
    assert _maintenance.read(booted.files) == _maintenance.in_force(booted) == note
    boot(booted)
    assert _maintenance.read(booted.files) == note and _maintenance.in_force(booted) is None
    assert begin(booted).changed
    assert (_maintenance.in_force(booted) or {})["boot"] == "aa"


def test_until_it_has_booted_no_guest_is_brought_to_it(booted: Node) -> None:
    begin(booted)
    with pytest.raises(Refused, match="web1 is not started: this node is about to be rebooted") as caught:
        run(booted, "domain.start", **START)
    assert "undrain.yml -e node=node1" in str(caught.value.remedy)
    with pytest.raises(Refused, match="does not move here"):
        run(booted, "definition.write", document={"name": "web1", "generation": 2, "moving_to": "node1"})
    boot(booted)
    assert run(booted, "domain.start", **START).changed


def test_what_leaves_it_and_what_runs_already_is_not_refused(booted: Node) -> None:
    run(booted, "domain.start", **START)
    begin(booted)
    assert not run(booted, "domain.start", **START).changed
    document = {"name": "web1", "generation": 2, "moving_to": "node2", "nodes": ["node1"], "disks": [], "port": None}
    assert run(booted, "definition.write", document=document).changed


def test_the_last_look_refuses_a_node_with_a_guest_or_one_that_is_not_cleared(booted: Node) -> None:
    with pytest.raises(Refused, match="rebooted or given back"):
        run(booted, "maintenance.ready")
    begin(booted)
    assert not run(booted, "maintenance.ready").changed
    booted.hypervisor.start("web1")
    with pytest.raises(Refused, match="web1 runs on this node"):
        run(booted, "maintenance.ready")
    booted.hypervisor.destroy("web1")
    boot(booted)
    with pytest.raises(Refused, match="rebooted or given back"):
        run(booted, "maintenance.ready")


class Disks:
    """The replication of one resource, and of another in the same state which is none of ours."""

    def __init__(self, state: ResourceState) -> None:
        self.found = state

    def names(self) -> list[str]:
        return ["web1"]

    def states(self) -> dict[str, ResourceState]:
        return {"web1": self.found, "theirs": self.found}


@pytest.mark.parametrize(
    ("connection", "peer_disks", "fine"),
    [
        ("Connected", ("UpToDate", "UpToDate"), True),
        ("Connected", ("UpToDate", "Diskless"), False),
        ("Connected", ("Inconsistent", "UpToDate"), False),
        ("Connecting", ("DUnknown", "DUnknown"), True),
    ],
)
def test_the_last_look_refuses_a_node_by_whose_copy_another_one_lives(
    booted: Node, connection: str, peer_disks: tuple[str, ...], fine: bool
) -> None:
    changed: Any = booted
    volumes = tuple(DiskState(n, n, "UpToDate", disk, None, None) for n, disk in enumerate(peer_disks))
    changed.replication = Disks(ResourceState("web1", "Secondary", "Primary", connection, {}, volumes))
    begin(booted)
    if fine:
        assert not run(booted, "maintenance.ready").changed
    else:
        with pytest.raises(Refused, match="the other copy of web1 is not up to date") as caught:
            run(booted, "maintenance.ready")
        assert "site.yml" in str(caught.value.remedy)


def test_given_back_it_takes_guests_again(booted: Node) -> None:
    begin(booted)
    assert run(booted, "maintenance.end").changed
    assert not run(booted, "maintenance.end").changed
    assert run(booted, "domain.start", **START).changed


def test_a_damaged_note_bars_guests_until_the_node_is_given_back(booted: Node) -> None:
    booted.files.write(_maintenance.NOTE, "{")
    with pytest.raises(TwofoldError):
        run(booted, "domain.start", **START)
    assert run(booted, "maintenance.end").changed


def test_check_mode_writes_nothing(booted: Node) -> None:
    booted.check_mode = True
    assert begin(booted).changed and _maintenance.read(booted.files) is None
    booted.check_mode = False
    begin(booted)
    booted.check_mode = True
    assert run(booted, "maintenance.end").changed and _maintenance.read(booted.files) is not None


def test_that_packages_were_upgraded_is_marked_in_the_note_of_a_rolling_reboot(booted: Node) -> None:
    assert not run(booted, "rolling.upgraded", packages="full").changed
    note = {"format": 1, "packages": "full", "boots": {"node1": "a"}}
    run(booted, "rolling.begin", note=note)
    assert not run(booted, "rolling.upgraded", packages="upgrade").changed
    assert run(booted, "rolling.upgraded", packages="full").changed
    assert not run(booted, "rolling.upgraded", packages="full").changed
    assert _steps_rolling.read(booted.files) == {**note, "upgraded": "full"}
    # Begun again, nothing is done yet.
    assert run(booted, "rolling.begin", note=note).changed
    assert _steps_rolling.read(booted.files) == note
