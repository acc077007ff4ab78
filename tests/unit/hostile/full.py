# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Observed documents with every key that a node can tell, three clusters of them, and what operators want of each."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from functools import cache
from typing import Any

from tests.unit.lib.cases import desired, instance
from tests.unit.lib.world import World

from twofold import pki
from twofold.model import Desired

Document = dict[str, Any]
Documents = dict[str, Document | None]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
INSTANCES: dict[str, Document] = {
    "web1": instance(nodes=["node1", "node2"], os="debian-13"),
    "web2": instance(nodes=["node2", "node3"]),
    "plain1": instance(nodes=["node1"], disk_template="plain"),
    "off1": instance(nodes=["node1"], disk_template="plain", state="stopped"),
}
MADE = desired(INSTANCES)
# All of them are to change, and one is to be made.
WANTED: Desired = desired(
    {name: {**found, "twofold_memory": "320MiB"} for name, found in INSTANCES.items()} | {"new1": instance()}
)
UUIDS = "AAAAAAAAAAAAAAA1:BBBBBBBBBBBBBBB0:CCCCCCCCCCCCCCC0:0000000000000000"
ALL: list[Document] = [
    {"verb": "converge"},
    {"verb": "activate_disks", "instance": "off1"},
    {"verb": "balance"},
    {"verb": "deactivate_disks", "instance": "off1"},
    {"verb": "depart", "node": "node1", "packages": ""},
    {"verb": "drain", "node": "node1"},
    {"verb": "drop_kept", "instance": "web1", "confirm": "web1"},
    {"verb": "evacuate", "node": "node1", "mode": "both"},
    {"verb": "failover", "instance": "web1"},
    {"verb": "grow", "instance": "web1", "disk": "0", "size": "1GiB"},
    {"verb": "maintain", "node": "node2", "everything": True},
    {"verb": "mend"},
    {"verb": "migrate", "instance": "web1"},
    {"verb": "recover"},
    {"verb": "recreate_disks", "instance": "web1", "confirm": "web1"},
    {"verb": "reinstall", "instance": "web1", "confirm": "web1"},
    {"verb": "rejoin", "node": "node1"},
    {"verb": "remove_node", "node": "node1"},
    {"verb": "replace_disks", "instance": "web1", "on": "secondary"},
    {"verb": "resolve_split_brain", "instance": "web1", "survivor": "node1"},
    {"verb": "rolling"},
    {"verb": "undrain", "node": "node2"},
]
DEAD = {"confirm_dead": "node2"}
LOST: list[Document] = [
    {"verb": "converge"},
    {"verb": "failover", "instance": "web1", **DEAD},
    {"verb": "recover", **DEAD, "accept_stale": "web1"},
    {"verb": "evacuate", "node": "node2", "mode": "both", **DEAD},
    {"verb": "remove_node", "node": "node2"},
]
PARTED: list[Document] = [
    {"verb": "converge"},
    {"verb": "migrate", "instance": "web1"},
    {"verb": "resolve_split_brain", "instance": "web1", "survivor": "node1"},
]


@cache
def certificate() -> str:
    """One that is good."""
    return pki.create_authority("test", NOW).certificate


def whole() -> Documents:
    """Everything runs; node1 tells all that a node can tell."""
    world = World(list(MADE.nodes))
    world.converge(MADE)
    documents = world.documents()
    for document in documents.values():
        assert document is not None
        _complete(document)
    return documents


def lost() -> Documents:
    """node2 has no power."""
    return whole() | {"node2": None}


def parted() -> Documents:
    """The copies of web1 do not know each other any more."""
    documents = copy.deepcopy(whole())
    for node in ("node1", "node2"):
        resource = (documents[node] or {})["resources"]["web1"]
        resource |= {"connection": "StandAlone", "peer_role": None}
        for volume in resource["volumes"]:
            volume |= {"peer_disk": None, "uuids": UUIDS.replace("A1", f"A{2 * int(node[-1])}"), "out_of_sync": 4096}
    return documents


CLUSTERS = {"whole": (whole, ALL), "lost": (lost, LOST), "parted": (parted, PARTED)}


def _complete(document: Document) -> None:
    """What the test's world does not tell."""
    entry = {
        "format": 1,
        "key": "r.s",
        "run": "r",
        "holder": "ann@desk",
        "time": 0.0,
        "step": {"id": "s", "op": "o", "args": {}},
        "pid": 1,
        "process": None,
        "running": False,
    }
    document |= {
        "asked": [0.0, 1.0], "kernels": ["6.12.57+deb13-amd64"], "reboot_required": False, "kvm": True,
        "versions": {"kernel": "6.12.48+deb13-amd64", "drbd_kernel": "8.4.11", "drbd_utils": "9.22.0",
                     "libvirt": "11.3.0", "qemu": "10.0.2", "python": "3.13.5"},
        "images": ["ab" * 32],
        "journal": [entry, {**entry, "key": "r.t", "running": True}],
        "left_off": {"off1": {"reason": "its disk is not there", "remedy": "see why"}},
        "lock": {"format": 1, "holder": "ann@desk", "run": "r", "time": 0.0, "uptime": 1.0, "lease": 120,
                 "expired": True},
        "certificates": [{"paths": ["/etc/pki/CA/cacert.pem"], "pem": certificate()},
                         {"paths": ["/etc/pki/x"], "pem": None}],
        "maintenance": {"format": 1, "node": "node1", "boot": "0", "holder": "ann@desk", "time": NOW.timestamp()},
        "rolling": {"format": 1, "packages": "", "boots": {"node1": "1", "node2": "0"}},
        "problems": [{"object": "version of DRBD", "message": "no such program", "remedy": None}],
    }  # fmt: skip
    document["volume_groups"]["twofold"]["missing"] = 0
    for resource in document["resources"].values():
        resource["peer_address"] = "ipv4 198.51.100.12:7100"
        for volume in resource["volumes"]:
            volume |= {"done": None, "uuids": None, "out_of_sync": 0, "replication": "Established"}
    # Where a guest is away from, where it goes, and who died are told by some definitions only.
    if "plain1" in document["definitions"]:
        document["definitions"]["plain1"] |= {"home": "node2", "moving_to": "node2", "took_over": "node3"}
