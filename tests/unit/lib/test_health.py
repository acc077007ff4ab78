# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each code that the cluster's health can have: a cluster that has it, and the healthy one, which has none."""

from __future__ import annotations

import ast
import copy
import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.lib.cases import desired, instance, nodes
from tests.unit.lib.world import GIB, World
from tests.unit.repository.test_codes import emitted

from twofold import codes, findings, health, inventory, pki, report
from twofold.findings import ERROR, INFO, WARNING, Finding
from twofold.health.nodes import newer_kernel

NOW = datetime(2030, 6, 1, tzinfo=UTC)
GIVEN = {
    "web1": instance(os="debian-13", nodes=["node1", "node2"]),
    "web2": instance(os="debian-13", disk_template="plain", nodes=["node3"]),
}
WANTED = desired(GIVEN)
VERSIONS = {
    "kernel": "6.12.57-amd64",
    "drbd_kernel": "8.4.11",
    "drbd_utils": "9.22.0",
    "libvirt": "11.3.0",
    "qemu": "10.0.2",
}
Documents = dict[str, dict[str, Any] | None]
Hurt = Callable[[Documents], None]


@functools.cache
def authority(cluster: str) -> pki.Credential:
    return pki.create_authority(cluster, NOW - timedelta(days=1))


@functools.cache
def certificate(node: str, made: datetime = NOW, days: int = 397, by: str = "test") -> str:
    subject = pki.Subject(node, None, (node,), ("192.0.2.11",))
    return pki.issue(pki.load_authority(authority(by)), subject, made, days).certificate


def certificates(pem: str | None, trusted: str | None = None) -> list[dict[str, Any]]:
    """As a node tells them: the authority's, and one for all else."""
    return [
        {"paths": ["/etc/pki/CA/cacert.pem"], "pem": trusted or authority("test").certificate},
        {"paths": ["/etc/pki/libvirt/clientcert.pem", "/etc/pki/libvirt/servercert.pem"], "pem": pem},
    ]


@functools.cache
def _healthy() -> Documents:
    world = World(list(WANTED.nodes))
    world.converge(WANTED)
    found = world.documents()
    for name, document in found.items():
        assert document is not None
        document.update(
            versions=dict(VERSIONS), asked=[-2.0, 3.0], kvm=True, kernels=["6.12.48-amd64", "6.12.57-amd64"],
            reboot_required=False, certificates=certificates(certificate(name)),
        )  # fmt: skip
    return found


def healthy() -> Documents:
    """web1 runs on node1 and has its second copy on node2; web2, without one, runs on node3."""
    return copy.deepcopy(_healthy())


def verify(documents: Documents) -> list[Finding]:
    return report.verify(WANTED, documents, now=NOW)


def at(documents: Documents, node: str) -> dict[str, Any]:
    found = documents[node]
    assert found is not None
    return found


def set_disks(**states: str) -> Hurt:
    def hurt(documents: Documents) -> None:
        for node, state in states.items():
            at(documents, node)["resources"]["web1"]["volumes"][0]["disk"] = state

    return hurt


def resync(documents: Documents) -> None:
    set_disks(node2="Inconsistent")(documents)
    at(documents, "node2")["resources"]["web1"]["volumes"][0]["done"] = 40.0


def cut(documents: Documents) -> None:
    for node in ("node1", "node2"):
        at(documents, node)["resources"]["web1"].update(connection="Connecting", peer_role="Unknown")


def set_resource(*nodes: str, **values: Any) -> Hurt:
    def hurt(documents: Documents) -> None:
        for node in nodes:
            at(documents, node)["resources"]["web1"].update(values)

    return hurt


def set_node(*nodes: str, **values: Any) -> Hurt:
    def hurt(documents: Documents) -> None:
        for node in nodes:
            at(documents, node).update(values)

    return hurt


def set_definition(*nodes: str, name: str = "web1", **values: Any) -> Hurt:
    def hurt(documents: Documents) -> None:
        for node in nodes:
            at(documents, node)["definitions"][name].update(values)

    return hurt


def lose(part: str, name: str = "web1", node: str = "node1") -> Hurt:
    return lambda documents: at(documents, node)[part].pop(name) and None


def set_domain(**values: Any) -> Hurt:
    return lambda documents: at(documents, "node1")["domains"]["web1"].update(values)


def edit_domain(old: str, new: str) -> Hurt:
    def hurt(documents: Documents) -> None:
        domain = at(documents, "node1")["domains"]["web1"]
        assert old in domain["xml"]
        domain["xml"] = domain["xml"].replace(old, new)

    return hurt


def defined_twice(documents: Documents) -> None:
    at(documents, "node2")["domains"]["web1"] = {**at(documents, "node1")["domains"]["web1"], "state": "shutoff"}


def lose_tag(documents: Documents) -> None:
    at(documents, "node2")["volumes"][0]["tags"].remove("twofold.role=data")


def resized(documents: Documents) -> None:
    at(documents, "node2")["volumes"][0]["size"] = GIB


def stray_volume(documents: Documents) -> None:
    volume = {"volume_group": "twofold", "name": "old-disk0", "size": GIB, "tags": [], "open": False}
    at(documents, "node2")["volumes"].append(volume)


def stray_resource(documents: Documents) -> None:
    at(documents, "node2")["resources"]["old"] = copy.deepcopy(at(documents, "node2")["resources"]["web1"])


def stray_domain(documents: Documents) -> None:
    at(documents, "node2")["domains"]["old"] = {**at(documents, "node1")["domains"]["web1"], "state": "shutoff"}


def foreign_domain(documents: Documents) -> None:
    xml = "<domain type='kvm'><name>other</name></domain>"
    domain = {**at(documents, "node1")["domains"]["web1"], "state": "shutoff", "xml": xml}
    at(documents, "node2")["domains"]["other"] = domain


def twin(documents: Documents) -> None:
    at(documents, "node1")["volumes"].append(copy.deepcopy(at(documents, "node3")["volumes"][0]))


def left_over_copy(documents: Documents) -> None:
    twin(documents)
    former = {**at(documents, "node3")["definitions"]["web2"], "moving_to": "node1"}
    at(documents, "node1")["definitions"]["web2"] = {**former, "generation": 0}


def unfinished(documents: Documents) -> None:
    at(documents, "node2")["volumes"][0]["tags"].append("twofold.pending=wipe")


def migration(documents: Documents) -> None:
    set_domain(migrating=True)(documents)
    set_resource("node1", "node2", role="Primary", allow_two_primaries=True)(documents)


def set_certificates(pem: str | None, trusted: str | None = None) -> Hurt:
    return set_node("node2", certificates=certificates(pem, trusted))


def set_version(node: str, **versions: str) -> Hurt:
    return lambda documents: at(documents, node)["versions"].update(versions)


def set_group(node: str, **values: int) -> Hurt:
    return lambda documents: at(documents, node)["volume_groups"]["twofold"].update(values)


ENTRY = {"key": "run.web1", "holder": "a@b", "step": {"id": "web1/volumes.create@node1"}, "running": False}
LOCK = {"holder": "ann@desk", "run": "r1", "time": 0.0, "lease": 120, "expired": False}


class Case:
    """A cluster that is hurt, and the finding that names it; `more` are codes that come with it."""

    def __init__(self, code: str, severity: str, target: str, said: str, hurt: Hurt, *more: str) -> None:
        self.code, self.severity, self.object, self.said, self.hurt, self.more = (
            code,
            severity,
            target,
            said,
            hurt,
            more,
        )


WEB1, NODE1, NODE2 = "instance web1", "node node1", "node node2"


def stopped_and_demoted(documents: Documents) -> None:
    set_domain(state="shutoff")(documents)
    set_resource("node1", role="Secondary")(documents)


def half_a_definition(documents: Documents) -> None:
    at(documents, "node1")["definitions"]["web1"].pop("disks")


def misnamed(documents: Documents) -> None:
    at(documents, "node1")["definitions"]["web1"]["name"] = "x"


def silent(documents: Documents) -> None:
    documents["node3"] = None


BOTH = "/etc/pki/libvirt/clientcert.pem, /etc/pki/libvirt/servercert.pem"
SOON, AT_LAST, PAST = (
    certificate("node2", days=30),
    certificate("node2", days=7),
    certificate("node2", NOW - timedelta(days=5), days=4),
)
TIGHT = {"total": 700 * (GIB >> 10), "available": 0}
TOO_SMALL = {"total": GIB // 2, "available": 0}
UNKNOWN = ("node-incomplete", "node-unknown")
CASES = [
    # Replication
    Case("redundancy-lost", WARNING, WEB1, "good copy, on node1: it is Outdated on node2", set_disks(node2="Outdated")),
    Case(
        "redundancy-lost", WARNING, WEB1, "good copy, on node2: it is Diskless on node1", set_disks(node1="Diskless"),
        "replication-differs",
    ),
    Case(
        "redundancy-lost", WARNING, WEB1, "it is down on node2", lose("resources", node="node2"), "replication-differs"
    ),
    Case(
        "no-good-copy", ERROR, WEB1, "Inconsistent on node1, Outdated on node2",
        set_disks(node1="Inconsistent", node2="Outdated"),
    ),
    Case("resyncing", INFO, WEB1, "is copied from node1 to node2: 40.0% done", resync),
    Case("not-connected", WARNING, WEB1, "Connecting on node1, Connecting on node2", cut),
    Case("two-primaries", ERROR, WEB1, "on node1 and node2", set_resource("node2", role="Primary"), "primary-unused"),
    Case("two-primaries-allowed", WARNING, WEB1, "allowed on node1", set_resource("node1", allow_two_primaries=True)),
    Case(
        "primary-unused", WARNING, WEB1, "on node2, where it does not run", set_resource("node2", role="Primary"),
        "two-primaries",
    ),
    Case(
        "replication-differs", WARNING, WEB1, "on node2: the DRBD secret differs",
        set_resource("node2", secret_digest="0" * 64),
    ),
    Case("not-primary", WARNING, WEB1, "on node1: it is used here", stopped_and_demoted, "should-run"),
    # Definitions
    Case("definition-missing", WARNING, WEB1, "is missing on node2", lose("definitions", node="node2")),
    Case(
        "definition-outdated", WARNING, WEB1, "generation 0, the newest is 2; it differs in memory",
        set_definition("node2", generation=0, memory=1),
    ),
    Case("definition-conflict", ERROR, WEB1, "of generation 2 differ", set_definition("node2", memory=1)),
    Case("definition-damaged", ERROR, WEB1, "damaged: disks is missing", half_a_definition, *UNKNOWN),
    Case("definition-damaged", ERROR, WEB1, "its format is 2", set_definition("node1", format=2), *UNKNOWN),
    Case("definition-damaged", ERROR, WEB1, "it is that of 'x'", misnamed, *UNKNOWN),
    Case(
        "definition-layout", ERROR, WEB1, "template plain and the nodes node1, node2",
        set_definition("node1", "node2", disk_template="plain"),
        "disk-template-differs", "definition-differs", "domain-differs",
    ),
    Case(
        "definition-differs", WARNING, WEB1, "the definition changes: memory",
        set_definition("node1", "node2", memory=512 << 20),
    ),
    # Instances
    Case("should-run", ERROR, WEB1, "shutoff on node1", set_domain(state="shutoff"), "primary-unused"),
    Case("guest-state", ERROR, WEB1, "it should run and is paused on node1", set_domain(state="paused")),
    Case("guest-state", ERROR, WEB1, "its migration was interrupted", set_domain(state="paused", stranded=True)),
    Case("guest-state", ERROR, WEB1, "it should run and is crashed on node1", set_domain(state="crashed")),
    Case("guest-state", WARNING, WEB1, "it is shutdown on node1", set_domain(state="shutdown")),
    Case("volume-size", WARNING, WEB1, "web1-disk0 on node2 has 1GiB, the definition says 128MiB", resized),
    Case("bridge-missing", ERROR, WEB1, "node1 has no bridge br-lan: it cannot start", set_node("node1", bridges=[])),
    Case("bridge-missing", WARNING, WEB1, "node2 has no bridge br-lan: it cannot move", set_node("node2", bridges=[])),
    Case("domain-differs", WARNING, WEB1, "source@bridge", edit_domain("br-lan", "br-evil")),
    Case("tags-missing", WARNING, WEB1, "web1-disk0", lose_tag),
    Case("seed-differs", WARNING, WEB1, "cloud-init's data is missing", lose("seeds", node="node2")),
    Case("disks-unfinished", WARNING, WEB1, "finish wiping", unfinished),
    # Left over
    Case("orphan-volume", WARNING, NODE2, "twofold/old-disk0 belongs to no definition", stray_volume),
    Case("orphan-resource", WARNING, NODE2, "the DRBD resource old", stray_resource),
    Case(
        "orphan-domain", WARNING, NODE2, "the domain old (shutoff) belongs to no definition", stray_domain,
        "not-in-inventory",
    ),
    Case("unmanaged-domain", INFO, NODE2, "the domain other (shutoff) is not Twofold's", foreign_domain),
    Case("orphan-seed", WARNING, NODE2, "the seed of old", lambda d: at(d, "node2")["seeds"].update(old="x")),
    Case("domain-left-over", WARNING, WEB1, "on node2: left over: it runs on node1", defined_twice),
    Case("made-twice", WARNING, "instance web2", "node1 holds disks of another web2 than the one on node3", twin),
    Case("left-over", WARNING, "instance web2", "on node1: left over from a move", left_over_copy),
    Case("lock-held", INFO, NODE2, "a run of ann@desk has locked it", set_node("node2", lock=LOCK)),
    Case(
        "lock-expired", INFO, NODE2, "ann@desk left its lock behind", set_node("node2", lock={**LOCK, "expired": True})
    ),
    # Certificates
    Case("certificate-expires", WARNING, NODE2, "ends on 2030-07-01, in 30 days", set_certificates(SOON)),
    Case("certificate-expires", ERROR, NODE2, f"{BOTH} ends on 2030-06-08", set_certificates(AT_LAST)),
    Case("certificate-expires", ERROR, NODE2, "ended on 2030-05-31", set_certificates(PAST)),
    Case("certificate-missing", ERROR, NODE2, f"{BOTH} is missing", set_certificates(None)),
    Case("certificate-broken", ERROR, NODE2, "not a certificate", set_certificates("nonsense")),
    Case(
        "certificate-not-yet-valid", ERROR, NODE2, "is valid from 2030-06-03",
        set_certificates(certificate("node2", NOW + timedelta(days=3))),
    ),
    Case(
        "certificate-foreign", ERROR, NODE2, "not signed by the authority",
        set_certificates(certificate("node2", by="other")),
    ),
    Case(
        "authority-differs", ERROR, "cluster", "different authorities (node1, node3; node2)",
        set_certificates(certificate("node2", by="other"), authority("other").certificate),
    ),
    # Nodes
    Case("clock-differs", ERROR, NODE2, "at least 195 s ahead of", set_node("node2", time=200.0)),
    Case("clock-differs", ERROR, NODE2, "at least 195 s behind", set_node("node2", time=-200.0)),
    Case(
        "versions-differ", WARNING, "cluster", "libvirt: 11.3.0 on node1, node2; 11.4.0 on node3",
        set_version("node3", libvirt="11.4.0"),
    ),
    Case(
        "migration-to-older", WARNING, NODE2, "older than that of node1: web1 cannot",
        set_version("node2", qemu="7.2.15"), "versions-differ",
    ),
    Case(
        "reboot-needed", WARNING, NODE2, "runs 6.12.48-amd64, and 6.12.57-amd64 is",
        set_version("node2", kernel="6.12.48-amd64"),
    ),
    Case("reboot-needed", WARNING, NODE2, "a package asked for it", set_node("node2", reboot_required=True)),
    Case("kvm-missing", ERROR, NODE2, "web1 cannot start without", set_node("node2", kvm=False)),
    Case("volume-group-missing", ERROR, NODE2, "no volume group twofold", set_node("node2", volume_groups={})),
    Case("volume-group-incomplete", ERROR, NODE2, "lacks 1 of its disks", set_group("node2", missing=1)),
    Case(
        "extent-differs", WARNING, "cluster", "1024 KiB on node3; 4096 KiB on node1", set_group("node3", extent=1 << 20)
    ),
    # Capacity
    Case("memory-overcommitted", WARNING, NODE1, "256MiB more memory is", set_node("node1", memory=TOO_SMALL)),
    Case(
        "loss-not-absorbed", WARNING, NODE1, "web1 would not run again; web1: node2 has no memory for it",
        set_node("node2", memory=TIGHT),
    ),
    Case("volume-group-full", WARNING, NODE2, "nearly full: 1GiB free, 6%", set_group("node2", free=GIB)),
    # The planner's findings, with the severity that they have for the cluster's health
    Case("node-unknown", ERROR, "node node3", "did not answer", silent),
    Case("interrupted-step", WARNING, NODE2, "was interrupted", set_node("node2", journal=[ENTRY])),
    Case("migrating", INFO, WEB1, "a migration is going on", migration),
]  # fmt: skip


def test_the_healthy_cluster_has_none() -> None:
    assert verify(healthy()) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code} {case.severity}")
def test_it_is_found(case: Case) -> None:
    documents = healthy()
    case.hurt(documents)
    found = verify(documents)
    named = [f for f in found if f.code == case.code and f.object == case.object]
    assert {f.severity for f in named} == {case.severity}, [f.text for f in found]
    assert any(case.said in f.message for f in named), [f.text for f in named]
    assert case.severity in codes.ALL[case.code].severity and all(f.remedy or f.severity == INFO for f in named)
    assert {f.code for f in found} - {case.code} <= set(case.more), [f.text for f in found]


def test_every_code_of_the_health_has_a_case() -> None:
    sources = [path for path in Path(health.__file__).parent.glob("*.py") if path.stem != "configuration"]
    known = {code for path in sources for code in emitted(ast.parse(path.read_text(encoding="utf-8")))}
    # What has to do with another inventory has tests of its own below.
    wanted = {
        "copy-unfinished", "disk-too-small", "groups-split", "not-converged", "not-created", "not-removed",
        "should-be-stopped",
    }  # fmt: skip
    assert sorted(known - {case.code for case in CASES} - wanted) == []


def test_what_is_only_wanted_is_worth_knowing() -> None:
    more = desired({**GIVEN, "new": instance(), "web1": {**GIVEN["web1"], "twofold_state": "absent"}})
    found = {(f.code, f.severity, f.object) for f in report.verify(more, healthy(), now=NOW)}
    assert found == {("not-created", INFO, "instance new"), ("not-removed", INFO, "instance web1")}


def test_an_instance_that_should_be_stopped() -> None:
    stopped = desired({**GIVEN, "web1": {**GIVEN["web1"], "twofold_state": "stopped"}})
    found = {f.code for f in report.verify(stopped, healthy(), now=NOW)}
    assert found == {"should-be-stopped", "definition-differs"}


def test_the_peer_of_a_silent_node_tells_of_its_copies() -> None:
    documents = healthy()
    documents["node2"] = None
    assert not [f for f in verify(documents) if f.code in ("redundancy-lost", "not-connected")]
    at(documents, "node1")["resources"]["web1"]["volumes"][0]["peer_disk"] = "Inconsistent"
    assert [f.message for f in verify(documents) if f.code == "redundancy-lost"] == [
        "disk 0 has one good copy, on node1: it is Inconsistent on node2"
    ]
    set_resource("node1", connection="Connecting")(documents)
    found = {f.code: f for f in verify(documents)}
    assert found.keys() >= {"redundancy-lost", "not-connected"}
    assert "if it stays away, evacuate.yml -e node=node2" in found["redundancy-lost"].remedy


def test_the_only_copy_that_is_left_and_not_good_is_an_error() -> None:
    documents = healthy()
    documents["node2"] = None
    set_resource("node1", connection="Connecting")(documents)
    set_disks(node1="Outdated")(documents)
    assert "no-good-copy" in {f.code for f in verify(documents) if f.severity == ERROR}


def test_an_instance_that_is_only_being_made_has_lost_nothing() -> None:
    world = World(list(WANTED.nodes))
    world.apply(world.plan(WANTED), WANTED, limit=6)
    assert {f.severity for f in report.verify(WANTED, world.documents())} == {INFO}


def test_what_a_node_does_not_tell_is_not_judged() -> None:
    documents = healthy()
    for document in documents.values():
        for part in ("versions", "asked", "kvm", "kernels", "certificates", "lock"):
            assert document is not None
            document.pop(part)
    assert verify(documents) == []
    assert report.verify(WANTED, healthy()) == [], "without the time no certificate is judged"


def test_an_instance_that_the_inventory_does_not_know_is_judged_too() -> None:
    documents = healthy()
    set_disks(node2="Outdated")(documents)
    set_definition("node2", generation=0)(documents)
    found = {f.code for f in report.verify(desired({"web2": GIVEN["web2"]}), documents, now=NOW)}
    assert {"not-in-inventory", "redundancy-lost", "definition-outdated"} <= found


@pytest.mark.parametrize(
    ("running", "installed", "newest"),
    [
        ("6.12.48+deb13-amd64", ["6.12.9+deb13-amd64", "6.12.57+deb13-amd64"], "6.12.57+deb13-amd64"),
        ("6.12.48+deb13-amd64", ["6.12.57+deb13-cloud-amd64"], None),
        ("6.1.0-41-amd64", ["6.1.0-41-amd64", "6.1.0-9-amd64"], None),
        ("6.1.0-9-amd64", ["6.1.0-41-amd64"], "6.1.0-41-amd64"),
        ("6.12.48+deb13-amd64", [], None),
    ],
)
def test_the_kernel_that_waits(running: str, installed: list[str], newest: str | None) -> None:
    assert newer_kernel(running, installed) == newest


def test_a_disk_that_is_to_grow() -> None:
    larger = desired({**GIVEN, "web1": {**GIVEN["web1"], "twofold_disks": [{"size": "256MiB"}]}})
    found = [f for f in report.verify(larger, healthy(), now=NOW) if f.code == "disk-too-small"]
    assert {(f.severity, f.object) for f in found} == {(WARNING, WEB1)}


def test_a_copy_that_is_being_replaced() -> None:
    given = {"web1": instance(os="debian-13", nodes=["node1", "node2"])}
    wanted = desired(given)
    world = World(list(wanted.nodes))
    world.converge(wanted)
    seen = set()
    plan = world.plan(wanted, verb="replace_disks", instance="web1", new_secondary="node3")
    for limit in range(1, len(plan.steps)):
        world = World(list(wanted.nodes))
        world.converge(wanted)
        world.apply(world.plan(wanted, verb="replace_disks", instance="web1", new_secondary="node3"), wanted, limit)
        seen |= {f.code for f in report.verify(wanted, world.documents())}
    assert "copy-unfinished" in seen
    assert seen <= set(codes.ALL)


def test_an_instance_on_two_node_groups() -> None:
    variables = nodes()
    variables["node2"]["twofold_group"] = "other"
    wanted, _findings = inventory.load(variables, GIVEN)
    # The pin is wrong too now.
    error, found = report.verify(wanted, healthy(), now=NOW)
    assert (error.code, found.code, found.severity, found.object) == ("contradiction", "groups-split", WARNING, WEB1)
    assert "node1 (default) and node2 (other)" in found.message


def test_a_failure_domain_whose_loss_could_not_be_absorbed() -> None:
    variables = nodes()
    for name, domain in (("node1", "a"), ("node3", "a"), ("node2", "b")):
        variables[name]["twofold_failure_domain"] = domain
    given = {**GIVEN, "web2": instance(os="debian-13", nodes=["node3", "node2"])}
    wanted, _findings = inventory.load(variables, given)
    world = World(list(wanted.nodes))
    world.converge(wanted)
    assert report.verify(wanted, world.documents()) == []
    # It can take over from either of the two, but not from both.
    world.nodes["node2"]["memory"] = {"total": (512 + 300) << 20, "available": 0}
    (found,) = report.verify(wanted, world.documents())
    assert (found.code, found.object) == ("loss-not-absorbed", "failure domain a"), found.text


def test_one_copy_by_choice_is_no_redundancy_that_a_loss_takes() -> None:
    assert "web2" not in str(verify(healthy()))
    documents = healthy()
    documents["node2"] = None
    assert "loss-not-absorbed" not in {f.code for f in verify(documents)}, "that redundancy is lost is said already"


def many(count: int, code: str = "redundancy-lost", severity: str = WARNING) -> list[Finding]:
    return [Finding(severity, code, f"instance web{i}", f"disk 0 of web{i}", "see to node2") for i in range(count)]


def test_the_same_for_many_objects_hides_no_error() -> None:
    found = findings.ordered([*many(40), *many(1, "should-run", ERROR)])
    text = report.findings_text(found, 200)
    lines = text.splitlines()
    assert lines[0] == "error instance web0: disk 0 of web0 [should-run]"
    assert lines[2].startswith("warning 40 instances (web0, web1, web10,") and "and 32 more): 40 findings" in lines[2]
    assert lines[-1] == "1 error, 40 warnings" and len(lines) < 9, text
    assert len(report.findings_document(WANTED, found)["findings"]) == 41


def test_a_few_are_shown_one_by_one_and_equal_messages_once() -> None:
    assert report.findings_text(many(3), 200).count("disk 0 of web") == 3
    alike = [Finding(INFO, "lock-held", f"node node{i}", "locked", "wait") for i in range(5)]
    assert "note 5 nodes (node0" not in report.findings_text(alike)
    assert "info 5 nodes (node0, node1, node2, node3, node4): locked [lock-held]" in report.findings_text(alike, 200)
    clusterwide = [Finding(ERROR, "node-authority", "cluster", f"value {i}") for i in range(5)]
    assert "error cluster: 5 findings, the first: value 0 [node-authority]" in report.findings_text(clusterwide, 200)


def mistaken(values: dict[str, Any]) -> list[Finding]:
    """What is wrong with an inventory where these instances have such a memory."""
    given = {name: instance(memory=value) for name, value in values.items()}
    return inventory.load(nodes(), given, lambda host, _variable: f"host_vars/{host}.yml:{len(host)}")[1]


def test_each_mistake_in_an_inventory_is_shown() -> None:
    different = mistaken({f"web{i}": f"2G{i}" for i in range(12)})
    text = report.findings_text(different, 200)
    assert all(f"'2G{i}'" in text for i in range(12)), text
    clusterwide = [Finding(ERROR, "bad-value", "cluster", f"value {i}") for i in range(5)]
    assert report.findings_text(clusterwide, 200).count("[bad-value]") == 5


def test_the_same_mistake_of_many_hosts_is_one() -> None:
    found = mistaken({f"web{i}": "2G0" if i else "3G0" for i in range(200)})
    lines = report.findings_text(found, 400).splitlines()
    assert lines[0].startswith("error instance web0: twofold_memory of web0 (host_vars/web0.yml:4): '3G0'")
    (line,) = [line for line in lines if "2G0" in line]
    assert line.startswith("error 199 instances (web1, web10,")
    assert "and 191 more): each like web1: twofold_memory of web1 (host_vars/web1.yml:4): '2G0'" in line
    assert len(lines) < 8
    given = {f"web{i}": {**instance(), "twofold_lock_wait": 7} for i in range(200)}
    _desired, found = inventory.load({name: {**one, "twofold_lock_wait": 5} for name, one in nodes().items()}, given)
    text = report.findings_text(found, 400)
    assert len(found) == 200 and text.startswith("error cluster: 200 like twofold_lock_wait of web0: differs from")
    assert len(text.splitlines()) < 6


def test_the_document_tells_the_exit_status() -> None:
    for found, status in ((many(0), 0), (many(1, severity=INFO), 0), (many(1), 1), (many(1, severity=ERROR), 2)):
        assert report.findings_document(WANTED, found)["status"] == status
