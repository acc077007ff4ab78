# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is rendered, judged by libvirt's schemas, by DRBD's own parsers, and by a YAML parser."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from lxml import etree
from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import World, completed
from tests.unit.needed import needed

from twofold import secrets
from twofold.planner import diff
from twofold.render import domain, replication, seed

VARIANTS: dict[str, dict[str, Any]] = {
    "drbd": {"os": "debian-13"},
    "two disks": {"disks": [{"size": "1GiB"}, {"size": "2GiB"}]},
    "plain": {"disk_template": "plain", "os": "script"},
    "diskless": {"disk_template": "diskless", "disks": []},
    "uefi": {"firmware": "uefi"},
    "cpu model": {"cpu": "EPYC"},
    "host-model": {"cpu": "host-model"},
    "emulated": {"virtualization": "qemu", "machine": "pc-q35-7.2"},
    "two nics": {"nics": [{"network": "lan"}, {"network": "bare", "mac": "02:00:00:00:00:01"}]},
    "no nics": {"nics": []},
    "odd memory": {"memory": "300000001B", "vcpus": 3},
}
GRAMMAR = Path("/usr/share/libvirt/schemas/domain.rng")
DRBDADM = [Path("/usr/sbin/drbdadm"), Path("/lib/drbd/drbdadm-84")]


def definition(**variables: Any) -> dict[str, Any]:
    """The definition of a new web1."""
    wanted = desired({"web1": instance(**variables)})
    plan = World(list(wanted.nodes)).plan(wanted)
    found: dict[str, Any] = next(step.args["document"] for step in plan.steps if step.op == "definition.write")
    return found


def run(*argv: str) -> str:
    """The output of a program that has to succeed."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def grammar() -> Any:
    """libvirt's grammar of domains, which virt-xml-validate uses too."""
    return etree.RelaxNG(etree.parse(needed(GRAMMAR, "libvirt0")))


@pytest.mark.parametrize("variables", VARIANTS.values(), ids=VARIANTS)
def test_libvirt_accepts_the_domain(variables: dict[str, Any], grammar: Any) -> None:
    xml = definition(**variables)["domain_xml"]
    grammar.assertValid(etree.fromstring(xml))
    assert not grammar.validate(etree.fromstring(xml.replace("<devices>", "<devices><toaster/>")))


@pytest.mark.parametrize("variables", VARIANTS.values(), ids=VARIANTS)
def test_what_libvirt_makes_of_it_is_the_same(variables: dict[str, Any]) -> None:
    xml = definition(**variables)["domain_xml"]
    assert diff.domain(xml, completed(xml)) == []
    assert diff.extra_devices(xml, completed(xml)) == []


@pytest.mark.parametrize("drbdadm", DRBDADM, ids=["drbd 9", "drbd 8.4"])
@pytest.mark.parametrize("disks", [1, 3])
def test_drbd_accepts_the_resource(drbdadm: Path, disks: int, tmp_path: Path) -> None:
    config = definition(disks=[{"size": "1GiB"}] * disks, replication_protocol="B")["replication_config"]
    path = tmp_path / "web1.res"
    path.write_text(config, encoding="utf-8")
    dumped = run(needed(drbdadm, "drbd-utils"), "-c", str(path), "dump")
    for text in ("protocol B", "cram-hmac-alg sha256", "after-sb-0pri discard-zero-changes", "on-io-error detach"):
        assert text in " ".join(dumped.split())
    assert dumped.count("minor 1000;") == 2 and dumped.count("198.51.100.1") == 2


@pytest.mark.parametrize("drbdadm", DRBDADM, ids=["drbd 9", "drbd 8.4"])
def test_drbd_takes_ipv6_and_full_names(drbdadm: Path, tmp_path: Path) -> None:
    document = definition()
    hosts = [
        replication.Host("node1", "node1.example.com", "2001:db8::1"),
        replication.Host("node2", "2nd-node", "2001:db8::2"),
    ]
    wanted = desired({"web1": instance()}).instances["web1"]
    path = tmp_path / "web1.res"
    path.write_text(replication.render(document, hosts, wanted.replication), encoding="utf-8")
    assert "[2001:db8::1]:7100" in run(needed(drbdadm, "drbd-utils"), "-c", str(path), "dump")


def test_the_resource_does_not_depend_on_who_is_primary() -> None:
    one, other = definition(nodes=["node1", "node2"]), definition(nodes=["node2", "node1"])
    assert one["replication_config"] == other["replication_config"]
    assert one["domain_xml"] == other["domain_xml"]


def test_disks_have_stable_paths() -> None:
    assert 'dev="/dev/drbd1000"' in definition()["domain_xml"]
    assert 'dev="/dev/twofold/web1-disk0"' in definition(disk_template="plain")["domain_xml"]


def test_another_source_for_a_disk() -> None:
    xml = completed(definition(disk_template="plain")["domain_xml"])
    moved = domain.with_sources(xml, {"/dev/twofold/web1-disk0": "/dev/fast/web1-disk0"})
    assert "/dev/fast/web1-disk0" in moved and "/dev/twofold" not in moved


def files(**variables: Any) -> dict[str, Any]:
    """The parsed files of the seed of web1."""
    wanted = desired({"web1": instance(**variables)})
    document = definition(**variables)
    rendered = seed.render(wanted.instances["web1"], document, wanted.cluster.networks)
    assert seed.seed_digest(rendered) == seed.seed_digest(dict(reversed(rendered.items())))
    return {name: yaml.safe_load(text) for name, text in rendered.items()}


def test_the_seed() -> None:
    nics = [{"network": "lan"}, {"network": "bare"}, {"network": "lan", "address": "203.0.113.77"}]
    found = files(nics=nics, hostname="www.example.com", ssh_keys="ssh-ed25519 AAAA me", user_data={"packages": ["x"]})
    assert found["meta-data"]["local-hostname"] == "www.example.com"
    assert found["user-data"] == {
        "hostname": "www", "fqdn": "www.example.com", "ssh_authorized_keys": ["ssh-ed25519 AAAA me"], "packages": ["x"],
    }  # fmt: skip
    nic0, nic1, nic2 = (found["network-config"]["ethernets"][f"nic{i}"] for i in range(3))
    assert nic0["addresses"] == ["203.0.113.2/24"] and nic0["routes"] == [{"to": "0.0.0.0/0", "via": "203.0.113.1"}]
    assert nic1["dhcp4"] is True and "addresses" not in nic1
    assert nic2["addresses"] == ["203.0.113.77/24"] and "routes" not in nic2


def test_the_users_data_wins() -> None:
    found = files(user_data="#cloud-config\nhostname: other\n")
    assert found["user-data"]["hostname"] == "other"


def test_what_is_derived() -> None:
    one, other = secrets.mac("a" * 16, "web1", 0), secrets.mac("b" * 16, "web1", 0)
    assert one != other and one == secrets.mac("a" * 16, "web1", 0) != secrets.mac("a" * 16, "web1", 1)
    assert int(one[:2], 16) & 3 == 2
    assert len(secrets.drbd_secret("a" * 16, "web1")) == 48
    assert secrets.digest({"a": 1, "b": 2}) == secrets.digest({"b": 2, "a": 1}) != secrets.digest({"a": 1, "b": 3})
