# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains, against libvirt's own test driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _definitions, _domain_xml
from ansible_collections.twofold.cluster.plugins.module_utils._drbd import DiskState, ResourceState
from ansible_collections.twofold.cluster.plugins.module_utils._errors import (
    HypervisorError,
    Refused,
    UsageError,
)
from ansible_collections.twofold.cluster.plugins.module_utils._instance import ensure
from ansible_collections.twofold.cluster.plugins.module_utils._libvirt import Libvirt
from ansible_collections.twofold.cluster.plugins.module_utils._node import Node
from ansible_collections.twofold.cluster.plugins.module_utils._steps import Args, Done, find
from ansible_collections.twofold.cluster.plugins.module_utils._steps_domain import require_in_charge
from tests.unit.plugins.module_utils.conftest import BenchNode

XML = """<domain type="test"><name>web1</name><uuid>11111111-2222-3333-4444-555555555555</uuid>
<memory unit="MiB">64</memory><vcpu>1</vcpu><os><type arch="x86_64">hvm</type></os>
<devices><disk type="block" device="disk"><source dev="/dev/drbd1000"/><target dev="vda" bus="virtio"/></disk>
<interface type="bridge"><mac address="52:54:00:00:00:01"/><source bridge="br-lan"/></interface></devices></domain>"""

TEST = "http://libvirt.org/schemas/domain/test/1.0"


def run(node: Node, op: str, **values: Any) -> Done:
    return find(op)(node, Args(op, values))


@pytest.fixture
def defined(node: Node) -> Node:
    run(node, "domain.define", name="web1", xml=XML)
    return node


def test_defining_twice_changes_nothing(defined: Node) -> None:
    assert not run(defined, "domain.define", name="web1", xml=XML).changed
    assert not run(defined, "domain.define", name="web1", xml=XML.replace('"MiB">64', '"KiB">65536')).changed


def test_a_change_is_found_and_named(defined: Node) -> None:
    done = run(defined, "domain.define", name="web1", xml=XML.replace('"MiB">64', '"MiB">96'))
    assert done.changed
    assert any("memory" in one for one in done.data["differences"])


def test_autostart_is_turned_off(defined: Node) -> None:
    defined.hypervisor.set_autostart("web1", True)
    assert not run(defined, "domain.define", name="web1", xml=XML, autostart=None).changed
    assert run(defined, "domain.define", name="web1", xml=XML).changed
    domain = defined.hypervisor.domain("web1")
    assert domain is not None
    assert not domain.autostart


def test_the_xml_has_to_be_of_the_domain(node: Node) -> None:
    with pytest.raises(UsageError, match="not of db1"):
        run(node, "domain.define", name="db1", xml=XML)
    with pytest.raises(UsageError, match="cannot be read"):
        run(node, "domain.define", name="db1", xml="<domain")


def test_its_life(defined: Node) -> None:
    assert run(defined, "domain.start", name="web1", resource=None, volumes=[]).changed
    assert not run(defined, "domain.start", name="web1", resource=None, volumes=[]).changed
    with pytest.raises(Refused, match="is running"):
        run(defined, "domain.undefine", name="web1")
    assert run(defined, "domain.stop", name="web1", timeout=10, force=False).changed
    assert not run(defined, "domain.stop", name="web1", timeout=10, force=False).changed
    assert run(defined, "domain.undefine", name="web1").changed
    assert not run(defined, "domain.undefine", name="web1").changed


def test_a_start_waits_where_others_are_booting(defined: Node) -> None:
    before = defined.clock.time()
    assert run(defined, "domain.start", name="web1", delay=7).changed
    assert defined.clock.time() == before + 7
    assert not run(defined, "domain.start", name="web1", delay=7).changed
    assert defined.clock.time() == before + 7


@pytest.mark.parametrize("pending", ["wipe", "install"])
def test_an_unfinished_disk_is_not_started(defined: Node, pending: str) -> None:
    defined.volumes.create("vg0", "web1-disk0", 1 << 20, ["twofold", f"twofold.pending={pending}"])
    with pytest.raises(Refused, match=f"waits for {pending}"):
        run(defined, "domain.start", name="web1", volumes=[{"volume_group": "vg0", "name": "web1-disk0"}])


def state(role: str = "Primary", peer: str = "Secondary", disk: str = "UpToDate") -> ResourceState:
    return ResourceState("web1", role, peer, "Connected", {}, (DiskState(0, 1000, disk, "UpToDate", None, None),))


def test_only_the_one_primary_with_good_disks_starts() -> None:
    require_in_charge(state(), "web1")
    for wrong in (None, state(role="Secondary"), state(peer="Primary"), state(disk="Inconsistent")):
        with pytest.raises(Refused):
            require_in_charge(wrong, "web1")


def test_a_start_that_was_planned_with_the_peer_connected_is_not_done_without_it() -> None:
    """Whoever migrated it meanwhile may have brought it there."""
    parted = state()._replace(connection="Connecting", peer_role="Unknown")
    require_in_charge(parted, "web1")
    require_in_charge(state(), "web1", connected=True)
    with pytest.raises(Refused, match="has lost its peer since this was planned"):
        require_in_charge(parted, "web1", connected=True)


def test_what_a_start_needs_is_looked_at_after_its_delay(defined: BenchNode, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = {"web1": state()}
    pause = defined.clock.sleep

    def sleep(seconds: float) -> None:
        copies["web1"] = state()._replace(connection="Connecting", peer_role="Unknown")
        pause(seconds)

    monkeypatch.setattr(defined.replication, "state", copies.get)
    monkeypatch.setattr(defined.clock, "sleep", sleep)
    with pytest.raises(Refused, match="has lost its peer since this was planned"):
        run(defined, "domain.start", name="web1", resource="web1", volumes=[], connected=True, delay=60)


def test_what_libvirt_adds_is_no_difference_but_a_device_is() -> None:
    more = XML.replace("</devices>", '<controller type="usb" index="0"/></devices>')
    assert _domain_xml.differences(XML, more) == []
    assert _domain_xml.differences(XML.replace("hvm", "hvm"), XML.replace("br-lan", "br-dmz"))
    second = XML.replace("</devices>", '<disk type="file"><target dev="vdb"/></disk></devices>')
    assert _domain_xml.differences(XML, second) == ["domain/devices: 2 of disk instead of 1"]


def test_machine_aliases_are_no_difference() -> None:
    wanted = XML.replace('arch="x86_64"', 'arch="x86_64" machine="q35"')
    found = XML.replace('arch="x86_64"', 'arch="x86_64" machine="pc-q35-10.0"')
    assert _domain_xml.differences(wanted, found) == []
    assert _domain_xml.differences(wanted, found.replace("q35-10.0", "i440fx-10.0"))


def test_the_module_for_one_domain(node: Node) -> None:
    params = {"name": "web1", "xml": XML, "state": "running", "autostart": None, "stop_timeout": 5, "force": False}
    node.check_mode = True
    assert ensure(node, params)["changed"]
    assert node.hypervisor.domain("web1") is None
    node.check_mode = False
    first = ensure(node, params)
    assert first["changes"] == ["defined domain web1", "started domain web1"]
    assert not ensure(node, params)["changed"]
    with pytest.raises(Refused):
        ensure(node, {**params, "state": "absent"})
    assert ensure(node, {**params, "state": "absent", "force": True})["changed"]
    assert not ensure(node, {**params, "state": "absent"})["changed"]


def test_why_a_domain_is_off_and_what_another_host_has(defined: Node) -> None:
    hypervisor: Any = defined.hypervisor
    assert hypervisor.why_off("web1") == "unknown"
    hypervisor.start("web1")
    assert hypervisor.domains_at("test:///default") == {"test": "running"}
    hypervisor.destroy("web1")
    assert hypervisor.why_off("web1") == "destroyed"
    with pytest.raises(HypervisorError, match="does not answer"):
        hypervisor.domains_at("test:///nowhere.xml")


@pytest.fixture
def crashed(node: Node, tmp_path: Path) -> Node:
    """Its guest crashed, and its QEMU is kept (on_crash=preserve)."""
    state = "<test:runstate>6</test:runstate>"
    domain = XML.replace('<domain type="test">', f'<domain type="test" xmlns:test="{TEST}">{state}')
    (tmp_path / "crashed.xml").write_text(f"<node>{domain}</node>")
    node.hypervisor = Libvirt(node.clock, f"test://{tmp_path / 'crashed.xml'}")
    found = node.hypervisor.domain("web1")
    assert found is not None and found.state == "crashed"
    return node


def test_a_crashed_guest_whose_qemu_is_kept_is_not_off(crashed: Node) -> None:
    """It has the disk open: it can be neither undefined nor started over."""
    with pytest.raises(Refused, match=r"domain web1 is crashed on this node .stop it first"):
        run(crashed, "domain.undefine", name="web1")
    with pytest.raises(Refused, match=r"domain web1 is crashed on this node .*stop it with force"):
        run(crashed, "domain.start", name="web1", resource=None, volumes=[])


def test_a_crashed_guest_is_not_asked_to_shut_down(crashed: Node) -> None:
    before = crashed.clock.monotonic()
    with pytest.raises(Refused, match=r"domain web1 has crashed.*virsh dump.*allow taking its power away"):
        run(crashed, "domain.stop", name="web1", force=False)
    assert run(crashed, "domain.stop", name="web1", force=True).message == "took the power of domain web1 away"
    assert crashed.clock.monotonic() == before
    assert not run(crashed, "domain.stop", name="web1", force=True).changed


def test_a_move_is_taken_back_only_where_the_guest_still_is(defined: Node) -> None:
    """By the definition alone it may have gone on elsewhere, and its new node may have died since."""
    document = {"format": 1, "name": "web1", "uuid": "1", "generation": 3, "nodes": ["node1"], "disks": []}
    _definitions.write(defined.files, {**document, "generation": 2, "moving_to": "node2"})
    back = {"document": document, "expect_generation": 2, "expect_domain": True}
    assert run(defined, "definition.write", **back).changed
    _definitions.write(defined.files, {**document, "generation": 2, "moving_to": "node2"})
    run(defined, "domain.undefine", name="web1", xml=None)
    with pytest.raises(Refused, match="it may have moved"):
        run(defined, "definition.write", **back)
