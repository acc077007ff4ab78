# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes in memory, small and strict: what each step does to the observed documents, and what a node refuses.

It proves what the planner promises (an applied plan leaves nothing to do, a killed one can be gone on with); it does
not stand for the steps' own code, which has tests of its own.
"""

from __future__ import annotations

import copy
import hashlib
import re
from typing import Any
from xml.etree import ElementTree as ET

from twofold import planner, secrets
from twofold.domain_xml import parse
from twofold.model import Desired
from twofold.planner import Plan, Step

MIB, GIB = 1 << 20, 1 << 30
EXTENT = 4 * MIB
UNFILLED = ("twofold.pending=sync", "twofold.former")


class Refused(Exception):
    """The node would not do it."""


def completed(xml: str) -> str:
    """What libvirt makes of domain XML: aliases, addresses, defaults, another order of attributes."""
    domain = parse(xml)
    machine = domain.find("os/type")
    if machine is not None and machine.get("machine") == "q35":
        machine.set("machine", "pc-q35-10.0")
    cpu = domain.find("cpu")
    if cpu is not None:
        cpu.set("check", "none")
    devices = domain.find("devices")
    assert devices is not None
    for index, device in enumerate(list(devices)):
        if device.tag in ("disk", "interface", "controller"):
            ET.SubElement(device, "address", {"type": "pci", "slot": f"0x{index:02x}"})
    emulator = ET.Element("emulator")
    emulator.text = "/usr/bin/qemu-system-x86_64"
    devices.insert(0, emulator)
    ET.SubElement(devices, "controller", {"type": "pci", "index": "0", "model": "pcie-root"})
    ET.SubElement(devices, "input", {"type": "mouse", "bus": "ps2"})
    return ET.tostring(domain, encoding="unicode")


class World:
    """The nodes. `documents` is what they say when asked."""

    def __init__(self, names: list[str], memory: int = 4 * GIB, space: int = 16 * GIB) -> None:
        self.nodes: dict[str, dict[str, Any]] = {name: self._node(name, memory, space) for name in names}
        self.down: set[str] = set()
        self.zeroing_fails = False
        # Origins, and what keeps their former data.
        self.snapshots: list[tuple[dict[str, Any], dict[str, Any]]] = []
        # DRBD's resizes, each with whether the new part counted as equal; and the disks that guests saw grow.
        self.resized: list[tuple[str, bool]] = []
        self.seen: dict[tuple[str, str], str] = {}

    @staticmethod
    def _node(name: str, memory: int, space: int) -> dict[str, Any]:
        return {
            "format": 1, "node": name, "hostname": f"{name}.example", "time": 0.0, "uptime": 60.0,
            "load": 0.0, "cpus": 1, "boot_id": "1", "rolling": None, "maintenance": None,
            "memory": {"total": memory, "available": memory},
            "volume_groups": {"twofold": {"size": space, "free": space, "extent": EXTENT}},
            "volumes": [], "resources": {}, "domains": {}, "definitions": {}, "seeds": {}, "images": [],
            "bridges": ["br-lan"], "addresses": World._addresses(name), "journal": [], "lock": None, "problems": [],
        }  # fmt: skip

    @staticmethod
    def _addresses(name: str) -> list[str]:
        """Those that the inventories of the tests give it."""
        number = int(name.removeprefix("node"))
        return [f"192.0.2.{10 + number}", f"198.51.100.{10 + number}"]

    def documents(self) -> dict[str, dict[str, Any] | None]:
        """What the nodes say; the peers' side is filled in as DRBD would."""
        self._connect()
        return {name: None if name in self.down else copy.deepcopy(doc) for name, doc in self.nodes.items()}

    def plan(self, desired: Desired, **intent: Any) -> Plan:
        """Plan on what the nodes say."""
        return planner.plan(desired, self.documents(), {"verb": "converge", **intent})

    def apply(self, plan: Plan, desired: Desired, limit: int | None = None) -> int:
        """Carry out a plan, or its first `limit` steps; how many there were."""
        keys = set().union(*(secrets.used(step.args) for step in plan.steps))
        known = {key: secrets.resolve(desired, key) for key in keys}
        # As apply does: wave by wave, on each node in the plan's order.
        order = sorted(plan.steps, key=lambda step: step.wave)
        for step in order[:limit]:
            assert step.node not in self.down, f"{step.id}: {step.node} has no power"
            getattr(self, "_" + step.op.replace(".", "_"))(self.nodes[step.node], resolve(step.args, known), step)
            self.check()
        return len(order)

    def empty_node(self, node: str) -> dict[str, Any]:
        """A node as it comes from the shop, under an old name."""
        return self._node(
            node, self.nodes[node]["memory"]["total"], self.nodes[node]["volume_groups"]["twofold"]["size"]
        )

    def destroy(self, node: str) -> None:
        """A node's power and disks are lost; new hardware answers under its name."""
        self.power_off(node)
        self.down.remove(node)
        self.nodes[node] = self.empty_node(node)

    def resync(self) -> None:
        """Every resync that goes on ends."""
        for node, doc in self.nodes.items():
            for name, resource in doc["resources"].items():
                peer = self._peer(node, name)
                if peer is not None:
                    self._fill(resource, peer)

    def data_copies(self, name: str) -> list[str]:
        """The nodes with an up-to-date copy of an instance's disks."""
        found = [(node, doc["resources"].get(name)) for node, doc in self.nodes.items()]
        return [node for node, one in found if one and all(v["disk"] == "UpToDate" for v in one["volumes"])]

    def converge(self, desired: Desired) -> Plan:
        """Plan and apply; the plan."""
        plan = self.plan(desired)
        self.apply(plan, desired)
        return plan

    def check(self) -> None:
        """What must hold at every moment."""
        running: dict[str, list[str]] = {}
        for name, doc in self.nodes.items():
            for domain in doc["domains"].values():
                if domain["state"] == "running":
                    running.setdefault(domain["xml"].split("<name>")[1].split("<")[0], []).append(name)
        assert all(len(nodes) == 1 for nodes in running.values()), running
        for resource in {name for doc in self.nodes.values() for name in doc["resources"]}:
            sides = [doc["resources"][resource] for doc in self.nodes.values() if resource in doc["resources"]]
            primaries = [side for side in sides if side["role"] == "Primary"]
            assert len(primaries) < 2 or all(side["allow_two_primaries"] for side in primaries)

    # Power

    def power_off(self, node: str) -> None:
        """A node that does not answer because it has no power."""
        self.down.add(node)
        for domain in self.nodes[node]["domains"].values():
            domain["state"] = "shutoff"
        for resource in self.nodes[node]["resources"].values():
            resource["role"] = None

    def power_on(self, node: str) -> None:
        """The node comes back, DRBD connects, and what is stale is resynced."""
        self.down.remove(node)
        for name, resource in self.nodes[node]["resources"].items():
            resource["role"] = "Secondary"
            others = [side for side in self._sides(name) if side is not resource]
            for volume in resource["volumes"]:
                if others and volume["disk"] == "Outdated":
                    volume["disk"] = "UpToDate"

    def reboot(self, node: str) -> None:
        """The node boots; nothing brings its resources up. No guest may run there."""
        running = [name for name, one in self.nodes[node]["domains"].items() if one["state"] == "running"]
        assert not running, f"{running} ended when {node} was rebooted"
        self.power_off(node)
        self.down.remove(node)
        self.nodes[node]["boot_id"] += "1"

    def _rolling_begin(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        doc["rolling"] = copy.deepcopy(args["note"])

    def _rolling_upgraded(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        assert doc["rolling"]["packages"] == args["packages"]
        doc["rolling"]["upgraded"] = args["packages"]

    @staticmethod
    def _rebooting(doc: dict[str, Any]) -> bool:
        return doc["maintenance"] is not None and doc["maintenance"]["boot"] == doc["boot_id"]

    def _maintenance_begin(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        assert args["node"] == step.node
        note = {"format": 1, "node": step.node, "boot": doc["boot_id"], "holder": "ann@here", "time": doc["time"]}
        doc["maintenance"] = doc["maintenance"] if self._rebooting(doc) else note

    def _maintenance_ready(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        if not self._rebooting(doc) or any(one["state"] == "running" for one in doc["domains"].values()):
            raise Refused("not cleared")
        self._connect()
        for one in doc["resources"].values():
            if one.get("connection") == "Connected" and any(v["peer_disk"] != "UpToDate" for v in one["volumes"]):
                raise Refused("its peer lives by it")

    def _maintenance_end(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        doc["maintenance"] = None

    def _rolling_end(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        doc["rolling"] = None

    # Volumes

    def _find(self, doc: dict[str, Any], group: str, name: str) -> dict[str, Any] | None:
        return next((v for v in doc["volumes"] if (v["volume_group"], v["name"]) == (group, name)), None)

    def _volumes_create(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        for wanted in args["volumes"]:
            volume = self._find(doc, wanted["volume_group"], wanted["name"])
            if volume is None:
                size = -(-wanted["size"] // EXTENT) * EXTENT
                group = doc["volume_groups"][wanted["volume_group"]]
                if group["free"] < size:
                    raise Refused("no space")
                group["free"] -= size
                pending = set(wanted["pending"]) | ({"metadata"} if wanted["role"] == "meta" else set())
                tags = ["twofold", f"twofold.instance={args['instance']}", f"twofold.disk={wanted['disk']}"]
                tags += [f"twofold.role={wanted['role']}", *(f"twofold.pending={one}" for one in sorted(pending))]
                volume = {
                    **{key: wanted[key] for key in ("volume_group", "name")},
                    "size": size,
                    "tags": tags,
                    "open": False,
                }
                doc["volumes"].append(volume)
            if "twofold.role=data" in volume["tags"]:
                volume["tags"] = [tag for tag in volume["tags"] if tag != "twofold.pending=wipe"]

    def _volumes_grow(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        for wanted in args["volumes"]:
            volume = self._find(doc, wanted["volume_group"], wanted["name"])
            assert volume is not None
            size = -(-wanted["size"] // EXTENT) * EXTENT
            if volume["size"] >= size and not any("larger" in tag for tag in volume["tags"]):
                continue
            if not any("larger" in tag for tag in volume["tags"]):
                volume["tags"].append(f"twofold.larger={volume['size']}")
            group, more = doc["volume_groups"][wanted["volume_group"]], max(0, size - volume["size"])
            if group["free"] < more:
                raise Refused("no space")
            group["free"] -= more
            volume["size"] += more
            if self.zeroing_fails:
                raise Refused("interrupted")
            start = next(tag for tag in volume["tags"] if "larger" in tag).partition("=")[2]
            volume["tags"] = [tag for tag in volume["tags"] if "larger=" not in tag and "grown=" not in tag]
            volume["tags"].append(f"twofold.grown={start}-{volume['size']}")

    def _replication_resize(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        name = args["resource"]
        pair = (doc["resources"][name], self._peer(step.node, name))
        if pair[1] is None or pair[0]["role"] != "Primary":
            raise Refused("not ready")
        for wanted in args["volumes"]:
            for node in self.nodes.values():
                for volume in node["volumes"] if node["resources"].get(name) in pair else ():
                    if f"/dev/{volume['volume_group']}/{volume['name']}" == wanted["disk"]:
                        assert volume["size"] >= wanted["size"]
        self.resized.append((args["resource"], args["clean"]))

    def _domain_resize(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        assert doc["domains"][args["name"]]["state"] == "running"
        self.seen[args["name"], args["target"]] = args["device"]

    def _volumes_owe_install(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        volume = self._find(doc, args["volume_group"], args["name"])
        if volume is None or doc["domains"][args["instance"]]["state"] == "running":
            raise Refused("in use")
        volume["tags"].append("twofold.pending=install")

    def _volumes_tag(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        for wanted in args["volumes"]:
            volume = self._find(doc, wanted["volume_group"], wanted["name"])
            assert volume is not None
            volume["tags"] += wanted["tags"]

    def _volumes_remove(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        there = doc["definitions"].get(args["instance"], {}).get("generation")
        if "expect_generation" in args and there not in (None, args["expect_generation"]):
            raise Refused("changed meanwhile")
        found = [self._find(doc, wanted["volume_group"], wanted["name"]) for wanted in args["volumes"]]
        for volume in found:
            if volume is None:
                continue
            # LVM removes snapshots with their origin.
            kept = [snapshot for origin, snapshot in self.snapshots if origin is volume and snapshot in doc["volumes"]]
            if any(snapshot not in found for snapshot in kept):
                raise Refused("what is kept would go with it")
            resource = doc["resources"].get(args["instance"], {"role": None, "volumes": []})
            if self._attached(resource, volume) or (args["instance"] in doc["domains"] and not resource["role"]):
                raise Refused("in use")
            doc["volumes"].remove(volume)
            doc["volume_groups"][volume["volume_group"]]["free"] += volume["size"]

    @staticmethod
    def _attached(resource: dict[str, Any], volume: dict[str, Any]) -> bool:
        path = f"/dev/{volume['volume_group']}/{volume['name']}".removesuffix("-meta")
        return any(one["backing"] == path and one["disk"] != "Diskless" for one in resource["volumes"])

    def _volumes_set_aside(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        for wanted in args["volumes"]:
            volume = self._find(doc, wanted["volume_group"], wanted["name"])
            if volume is None:
                continue
            if self._attached(doc["resources"].get(args["instance"], {"volumes": []}), volume):
                raise Refused("in use")
            assert self._find(doc, wanted["volume_group"], wanted["name"] + "-old") is None
            volume["name"] += "-old"

    def _volumes_put_back(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        for wanted in args["volumes"]:
            group, name = wanted["volume_group"], wanted["name"]
            aside, volume = self._find(doc, group, name + "-old"), self._find(doc, group, name)
            gone = [self._find(doc, group, wanted["meta"]), self._find(doc, group, wanted["meta"] + "-old")]
            if aside is None:
                assert volume is not None
                if "twofold.former" in volume["tags"]:
                    continue
            else:
                assert volume is None or "twofold.pending=sync" in volume["tags"], "a whole copy"
                gone.append(volume)
            for one in gone:
                if one is not None:
                    assert not self._attached(doc["resources"].get(args["instance"], {"volumes": []}), one)
                    doc["volumes"].remove(one)
                    doc["volume_groups"][group]["free"] += one["size"]
            back = aside or volume
            assert back is not None
            back["name"] = name
            back["tags"] += ["twofold.pending=sync", "twofold.former"]

    # DRBD

    def _replication_configure(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        name = args["resource"]
        old = doc["resources"].get(name, {})
        disks = {volume["volume"]: volume["disk"] for volume in old.get("volumes", ())}
        volumes = []
        for wanted in args["volumes"]:
            meta = next(v for v in doc["volumes"] if f"/dev/{v['volume_group']}/{v['name']}" == wanted["meta"])
            if "twofold.pending=metadata" in meta["tags"]:
                meta["tags"] = [tag for tag in meta["tags"] if not tag.startswith("twofold.pending=")]
                meta["uptodate"] = False
            disk = disks.get(wanted["volume"])
            if disk in (None, "Diskless"):
                disk = "UpToDate" if meta.get("uptodate") else "Inconsistent"
            volumes.append({**{k: wanted[k] for k in ("volume", "minor")}, "disk": disk, "backing": wanted["disk"]})
        digest = hashlib.sha256(args["secret"].encode()).hexdigest()
        doc["resources"][name] = {
            "role": old.get("role") or "Secondary", "allow_two_primaries": old.get("allow_two_primaries", False),
            "configured": True, "config": args["config"], "secret_digest": digest, "volumes": volumes,
            "options": dict(re.findall(r"^ {8}([a-z0-9-]+) ([^\";]+);", args["config"], re.M)),
        }  # fmt: skip

    def _sides(self, name: str, config: str | None = None) -> list[dict[str, Any]]:
        """The resources of this name that are up: those with the same configuration are connected."""
        found = [doc["resources"].get(name) for node, doc in self.nodes.items() if node not in self.down]
        return [one for one in found if one and one["role"] and config in (None, one["config"])]

    def _peer(self, node: str, name: str) -> dict[str, Any] | None:
        mine = self.nodes[node]["resources"][name]
        if not mine["role"] or mine.get("connection") == "StandAlone":
            return None
        # A file that is gone does not change what the kernel has.
        others = [one for one in self._sides(name) if one is not mine and one.get("connection") != "StandAlone"]
        same = [one for one in others if None in (mine["config"], one["config"]) or one["config"] == mine["config"]]
        loose = [one for one in others if self._pair(one) == self._pair(mine)]
        return next(iter(same or loose), None)

    @staticmethod
    def _pair(resource: dict[str, Any]) -> list[str]:
        return sorted(re.findall(r"address ([^;]*);", resource["config"] or ""))

    def _fill(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        """A resync, at its end."""
        for mine, theirs in zip(one["volumes"], other["volumes"], strict=True):
            if mine["disk"] in ("Inconsistent", "Outdated") and theirs["disk"] == "UpToDate":
                mine["disk"] = "UpToDate"

    def _connect(self) -> None:
        for doc in self.nodes.values():
            for name, resource in doc["resources"].items():
                for volume in resource["volumes"]:
                    if volume["disk"] == "UpToDate":
                        self._accept(doc, name)
        for node, doc in self.nodes.items():
            for name, resource in doc["resources"].items():
                peer = self._peer(node, name)
                if resource.get("role") and resource.get("connection") != "StandAlone":
                    resource["connection"] = "Connected" if peer else "Connecting"
                resource["peer_role"] = peer["role"] if peer else None
                for index, volume in enumerate(resource["volumes"]):
                    volume["peer_disk"] = peer["volumes"][index]["disk"] if peer else "DUnknown"

    def _replication_initialise(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        sides = self._sides(args["resource"], doc["resources"][args["resource"]]["config"])
        if len(sides) != 2:
            raise Refused("no peer")
        for ours, theirs in zip(sides[0]["volumes"], sides[1]["volumes"], strict=True):
            if ours["disk"] == theirs["disk"] == "Inconsistent":
                ours["disk"] = theirs["disk"] = "UpToDate"
        for other in self.nodes.values():
            if args["resource"] in other["resources"]:
                self._accept(other, args["resource"])

    @staticmethod
    def _accept(doc: dict[str, Any], name: str) -> None:
        """The metadata says that the disk is complete."""
        for volume in doc["volumes"]:
            if volume["name"].startswith(f"{name}-disk") and volume["name"].endswith("-meta"):
                volume["uptodate"] = True

    def _replication_wait(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        name = args["resource"]
        peer = self._peer(step.node, name)
        if peer is None:
            raise Refused("no peer")
        mine = doc["resources"][name]
        self._fill(mine, peer)
        self._fill(peer, mine)
        self._written(doc, name)
        if any(volume["disk"] != "UpToDate" for volume in (*mine["volumes"], *peer["volumes"])):
            raise Refused("nothing to fill it from")
        self._accept(doc, name)
        for volume in doc["volumes"]:
            if f"twofold.instance={name}" in volume["tags"]:
                volume["tags"] = [tag for tag in volume["tags"] if tag not in UNFILLED]

    def _volumes_keep(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        for wanted in args["volumes"]:
            origin = self._find(doc, wanted["volume_group"], wanted["name"])
            assert origin is not None
            there = self._find(doc, wanted["volume_group"], wanted["snapshot"])
            if there is None:
                tags = ["twofold", f"twofold.instance={args['instance']}", f"twofold.kept={args['reason']}"]
                snapshot = {**origin, "name": wanted["snapshot"], "tags": tags, "unchanged": True}
                doc["volumes"].append(snapshot)
                self.snapshots.append((origin, snapshot))
                doc["volume_groups"][wanted["volume_group"]]["free"] -= origin["size"]
            elif not there["unchanged"]:
                raise Refused("written since")

    @staticmethod
    def _written(doc: dict[str, Any], name: str) -> None:
        """The disks of an instance are not as they were when a snapshot was taken."""
        for volume in doc["volumes"]:
            if f"twofold.instance={name}" in volume["tags"] and "unchanged" in volume:
                volume["unchanged"] = False

    def _replication_discard(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        resource = doc["resources"][args["resource"]]
        kept = [self._find(doc, one["volume_group"], one["name"]) for one in args["kept"]]
        assert all(one is not None and one["unchanged"] for one in kept)
        if resource["role"] == "Primary":
            raise Refused("Primary")
        resource["connection"] = "Connecting"
        for volume in resource["volumes"]:
            volume["disk"] = "Inconsistent"

    def _replication_detach(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        if all(volume["disk"] == "Diskless" for volume in doc["resources"][args["resource"]]["volumes"]):
            return
        peer = self._peer(step.node, args["resource"])
        if peer is None or any(volume["disk"] != "UpToDate" for volume in peer["volumes"]):
            raise Refused("the peer is not up to date")
        for volume in doc["resources"][args["resource"]]["volumes"]:
            volume["disk"] = "Diskless"

    def _replication_disconnect(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        resource = doc["resources"][args["resource"]]
        peer = self._peer(step.node, args["resource"])
        if resource["role"] == "Primary":
            raise Refused("Primary")
        resource["connection"] = "StandAlone"
        if peer is not None and peer["role"] == "Primary":
            for volume in resource["volumes"]:
                volume["disk"] = "Outdated"

    def _replication_promote(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        resource = doc["resources"][args["resource"]]
        if resource["role"] != "Primary" and self._rebooting(doc):
            raise Refused("about to be rebooted")
        sides = self._sides(args["resource"], resource["config"])
        if len(sides) != 2 or any(volume["disk"] != "UpToDate" for volume in resource["volumes"]):
            raise Refused("not ready")
        others = any(side["role"] == "Primary" and side is not resource for side in sides)
        if others and not resource["allow_two_primaries"]:
            raise Refused("peer is Primary")
        resource["role"] = "Primary"

    def _replication_take_over(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        resource, peer = doc["resources"][args["resource"]], self.nodes[args["peer"]]
        lost = args["resource"] not in peer["domains"] and self._never_filled(peer, args["resource"])
        assert (args["peer"] in self.down or lost) and args["proof"]
        usable = ("UpToDate", "Outdated", "Consistent") if args["stale"] else ("UpToDate",)
        for volume in resource["volumes"]:
            backing = next(v for v in doc["volumes"] if f"/dev/{v['volume_group']}/{v['name']}" == volume["backing"])
            former = "twofold.former" in backing["tags"] and args["stale"]
            if volume["disk"] not in usable and not former:
                raise Refused("not up to date")
        resource["role"] = "Primary"
        for volume in resource["volumes"]:
            volume["disk"] = "UpToDate"
        for volume in doc["volumes"]:
            if volume["name"].startswith(f"{args['resource']}-disk"):
                volume["tags"] = [tag for tag in volume["tags"] if tag not in UNFILLED]
        for volume in peer["resources"].get(args["resource"], {"volumes": []})["volumes"]:
            if volume["disk"] != "Diskless":
                volume["disk"] = "Inconsistent" if lost else "Outdated"

    @staticmethod
    def _never_filled(doc: dict[str, Any], name: str) -> bool:
        """Whether a node has no copy of an instance, or one that waits for its data."""
        data = [v for v in doc["volumes"] if v["name"].startswith(f"{name}-disk") and not v["name"].endswith("-meta")]
        return all("twofold.pending=sync" in volume["tags"] for volume in data)

    def _replication_demote(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        if doc["domains"].get(args["resource"], {}).get("state") == "running":
            raise Refused("held open")
        doc["resources"][args["resource"]]["role"] = "Secondary"

    def _replication_dual_primary(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        doc["resources"][args["resource"]]["allow_two_primaries"] = args["allow"]

    def _replication_settle(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        resource = doc["resources"][args["resource"]]
        here = doc["domains"].get(args["domain"], {}).get("state") == "running"
        # Both sides settle at the same time; this one sees what the other will have done.
        for other in self.nodes.values():
            peer = other["resources"].get(args["resource"])
            if peer and other["domains"].get(args["domain"], {}).get("state") != "running":
                peer["role"] = "Secondary" if peer["role"] else None
        assert here or resource["role"] == "Secondary"
        resource["allow_two_primaries"] = False

    def _replication_remove(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        if doc["resources"].get(args["resource"], {}).get("role") == "Primary":
            raise Refused("Primary")
        doc["resources"].pop(args["resource"], None)

    # Files

    def _definition_write(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        document = args["document"]
        if document.get("moving_to") == step.node and self._rebooting(doc):
            raise Refused("about to be rebooted")
        there = doc["definitions"].get(document["name"])
        if there not in (None, document) and there["generation"] != args["expect_generation"]:
            raise Refused("generation")
        mine = {disk["minor"][step.node] for disk in document["disks"] if disk["minor"]}
        for name, other in doc["definitions"].items():
            if name != document["name"]:
                assert not mine & {disk["minor"][step.node] for disk in other["disks"] if disk["minor"]}
                assert document["port"] is None or other["port"] != document["port"]
        doc["definitions"][document["name"]] = copy.deepcopy(document)

    def _definition_absent(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        there = doc["definitions"].get(args["name"])
        if there and (there["generation"] != args["expect_generation"] or args["name"] in doc["domains"]):
            raise Refused("made elsewhere")

    def _definition_remove(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        if doc["definitions"][args["name"]]["generation"] != args["expect_generation"]:
            raise Refused("generation")
        del doc["definitions"][args["name"]]

    def _seed_write(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        assert secrets.digest(args["files"]) == args["digest"]
        doc["seeds"][args["name"]] = args["digest"]

    def _seed_remove(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        doc["seeds"].pop(args["name"], None)

    def _journal_clear(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        doc["journal"] = [entry for entry in doc["journal"] if entry["key"] not in args["keys"]]

    def _image_fetch(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        doc["images"].append(args["sha256"])

    def _os_install(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        volume = self._find(doc, args["volume"]["volume_group"], args["volume"]["name"])
        if volume is None or (args["kind"] == "image" and args["sha256"] not in doc["images"]):
            raise Refused("nothing to install")
        if args["device"].startswith("/dev/drbd"):
            assert doc["resources"][step.instance or ""]["role"] == "Primary"
        volume["tags"] = [tag for tag in volume["tags"] if tag != "twofold.pending=install"]

    # Domains

    def _domain_define(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        xml = completed(args["xml"])
        root = parse(xml)
        old = doc["domains"].get(args["name"], {})
        running = old.get("state") == "running"
        doc["domains"][args["name"]] = {
            "uuid": root.findtext("uuid"), "state": old.get("state", "shutoff"), "persistent": True, "autostart": False,
            "memory": old["memory"] if running else int(root.findtext("memory") or 0) * 1024,
            "vcpus": old["vcpus"] if running else int(root.findtext("vcpu") or 0), "xml": xml, "migrating": False,
            "stranded": False,
        }  # fmt: skip

    def _domain_undefine(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        if doc["domains"].get(args["name"], {}).get("state") == "running":
            raise Refused("running")
        doc["domains"].pop(args["name"], None)

    def _domain_start(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        if self._rebooting(doc):
            raise Refused("about to be rebooted")
        for wanted in args["volumes"]:
            volume = self._find(doc, wanted["volume_group"], wanted["name"])
            if volume is None or any("pending" in tag or "larger" in tag for tag in volume["tags"]):
                raise Refused("volume is not finished")
        if args["resource"] and doc["resources"][args["resource"]]["role"] != "Primary":
            raise Refused("not Primary")
        self._written(doc, args["name"])
        domain = doc["domains"][args["name"]]
        root = parse(domain["xml"])
        domain["memory"], domain["vcpus"] = int(root.findtext("memory") or 0) * 1024, int(root.findtext("vcpu") or 0)
        domain["state"] = "running"

    def _domain_stop(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        doc["domains"][args["name"]]["state"] = "shutoff"

    def _domain_present(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        if args["name"] not in doc["domains"]:
            raise Refused("it has moved")

    def _domain_discard(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        if doc["domains"].pop(args["name"], {}).get("state", "paused") == "running":
            raise Refused("it runs")

    def _domain_resume(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        if args["resource"] and doc["resources"][args["resource"]]["connection"] != "Connected":
            raise Refused("it has lost its peer")
        doc["domains"][args["name"]].update(state="running", stranded=False)

    def _domain_migrate(self, doc: dict[str, Any], args: dict[str, Any], step: Step) -> None:
        address = re.search(r"//\[?([^]/]+)", args["uri"])
        assert address is not None
        target = self.nodes[f"node{int(address[1].rsplit('.', 1)[1]) - 10}"]
        domain = doc["domains"].pop(args["name"])
        resource = target["resources"].get(args["name"])
        if resource is not None and resource["role"] != "Primary":
            raise Refused("target is not Primary")
        if args["xml"]:
            domain["xml"] = args["xml"]
        for source in parse(domain["xml"]).iterfind("devices/disk[@type='block']/source"):
            device = source.get("dev") or ""
            paths = {f"/dev/{v['volume_group']}/{v['name']}" for v in target["volumes"]}
            assert device.startswith("/dev/drbd") or device in paths, device
        target["domains"][args["name"]] = domain


def resolve(value: Any, known: dict[str, str]) -> Any:
    """Fill in the secrets, as a node does."""
    if isinstance(value, dict):
        if set(value) == {secrets.FILLED_IN}:
            return known[value[secrets.FILLED_IN]]
        return {key: resolve(item, known) for key, item in value.items()}
    return [resolve(item, known) for item in value] if isinstance(value, list) else value
