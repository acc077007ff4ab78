# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A typed, thin view of what the nodes said. A node without a document is unknown, which is not the same as down."""

from __future__ import annotations

import copy
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from . import shape
from .render.domain import METADATA

if TYPE_CHECKING:
    from .model import Desired

FORMAT = 1
# Without these parts nothing can be planned for a node; `None` means that it could not be read.
NEEDED = ("hostname", "memory", "volume_groups", "volumes", "resources", "domains", "definitions", "seeds", "bridges")
MARK = "twofold"
# What to do about parts that are files of ours on the node, and about an answer as a whole.
REMEDIES = {
    "answer": "use the same version of Twofold for all runs; if it persists, look at what answers there in its place",
    "journal": "when no run is at work, remove the damaged file from /var/lib/twofold/journal there",
    "left_off": "remove /var/lib/twofold/power_back.json there; the node writes it anew",
    "lock": "run break_lock.yml for the node when no run is at work, or remove /run/twofold/lock.json there",
    "maintenance": "run undrain.yml for the node, which removes its note",
    "rolling": "remove /var/lib/twofold/rolling.json there; the notes of the other nodes will do",
    "seeds": "look at /var/lib/twofold/seeds there",
}
TAG = "twofold.instance="
OFF = frozenset({"shutoff", "shut off"})
# States of a disk that holds a whole state, be it the newest or not.
WHOLE = ("UpToDate", "Outdated", "Consistent")
APART = frozenset(
    {"StandAlone", "Disconnecting", "Unconnected", "Timeout", "BrokenPipe", "NetworkFailure", "ProtocolError",
     "TearDown", "Connecting", "WFConnection", "WFReportParams"}
)  # fmt: skip
_VOLUME = re.compile(r"(?P<instance>.+)-disk(?P<disk>\d+)(?P<meta>-meta)?")


@dataclass(frozen=True)
class Volume:
    """A logical volume. `size` in bytes; `unchanged`: a snapshot, since which nothing was written to its origin."""

    volume_group: str
    name: str
    size: int
    tags: frozenset[str]
    open: bool
    unchanged: bool = False

    @property
    def instance(self) -> str | None:
        """The instance that the tag names."""
        return next((tag.removeprefix(TAG) for tag in self.tags if tag.startswith(TAG)), None)

    @property
    def pending(self) -> frozenset[str]:
        """What is owed to it: wipe, install."""
        return frozenset(tag.partition("=")[2] for tag in self.tags if tag.startswith("twofold.pending="))

    @property
    def kept(self) -> str | None:
        """Why it is kept, if it is a snapshot of data that was given up."""
        return self._tagged("twofold.kept=")

    @property
    def former(self) -> bool:
        """Whether it holds the state from before a replacement, until somebody uses it or its peer fills it."""
        return "twofold.former" in self.tags

    @property
    def zero_from(self) -> int | None:
        """The byte from which on it has not been zeroed yet, if it was made larger and that was interrupted."""
        found = self._tagged("twofold.larger=")
        return int(found) if found is not None and found.isdecimal() else None

    @property
    def grown(self) -> tuple[int, int] | None:
        """The range that was zeroed when it was made larger."""
        first, _ignored, end = (self._tagged("twofold.grown=") or "").partition("-")
        return (int(first), int(end)) if first.isdecimal() and end.isdecimal() else None

    def _tagged(self, start: str) -> str | None:
        return next((tag.removeprefix(start) for tag in sorted(self.tags) if tag.startswith(start)), None)

    @property
    def path(self) -> str:
        """Its stable device path."""
        return f"/dev/{self.volume_group}/{self.name}"


@dataclass(frozen=True)
class ResourceVolume:
    """A volume of a DRBD resource.

    `uuids` are DRBD's generation identifiers, read while peers are apart; `out_of_sync` are the bytes that differ from
    the peer: while apart, what was written here.
    """

    volume: int
    minor: int
    disk: str | None
    peer_disk: str | None
    done: float | None
    backing: str | None
    uuids: str | None
    out_of_sync: int | None = None

    @property
    def attached(self) -> bool:
        """Whether DRBD has its disk."""
        return self.disk not in (None, "Diskless")


@dataclass(frozen=True)
class Resource:
    """A DRBD resource on one node; `role` is None while it is down.

    `peer_address` is what it connects to, like `ipv4 198.51.100.12:7000`; None if that is nobody or was not told.
    """

    name: str
    role: str | None
    peer_role: str | None
    connection: str | None
    allow_two_primaries: bool
    configured: bool
    config: str | None
    secret_digest: str | None
    options: dict[str, str]
    volumes: tuple[ResourceVolume, ...]
    peer_address: str | None = None

    @property
    def up(self) -> bool:
        """Whether the kernel has it."""
        return self.role is not None

    @property
    def primary(self) -> bool:
        """Whether this node may write."""
        return self.role == "Primary"

    @property
    def connected(self) -> bool:
        """Whether it has shaken hands with its peer."""
        return self.up and self.connection is not None and self.connection not in APART

    @property
    def feeds_peer(self) -> bool:
        """Whether the peer is connected and lacks an up-to-date copy of its own: it lives by this one."""
        return self.connected and any(volume.peer_disk != "UpToDate" for volume in self.volumes)

    def all_disks(self, *states: str) -> bool:
        """Whether every local disk is in one of the states."""
        return bool(self.volumes) and all(volume.disk in states for volume in self.volumes)

    @property
    def whole(self) -> bool:
        """Whether every local disk holds a whole state, be it the newest or not."""
        return self.all_disks(*WHOLE)


@dataclass(frozen=True)
class Domain:
    """A libvirt domain on one node. `memory` in bytes; `xml` is the inactive configuration.

    `stranded` if a migration that is over has left it paused.
    """

    name: str
    uuid: str
    state: str
    persistent: bool
    autostart: bool
    memory: int
    vcpus: int
    xml: str
    migrating: bool
    stranded: bool = False

    @property
    def active(self) -> bool:
        """Whether it runs, or whether that is not certain: only `shutoff` is off."""
        return self.state not in OFF

    @property
    def marked(self) -> bool:
        """Whether it carries our mark: it was defined by us, or by somebody who copied it."""
        return METADATA in self.xml


@dataclass(frozen=True)
class NodeView:
    """What one node said. `missing` are the parts that it could not tell, `damaged` its useless definitions and why.

    `another` is the node that it is by its addresses, if that is not the one which the inventory means: then nothing is
    known of this one.
    """

    name: str
    document: dict[str, Any]
    missing: tuple[str, ...] = field(default=())
    damaged: dict[str, str] = field(default_factory=dict)
    another: str | None = None

    @property
    def hostname(self) -> str:
        """The name that DRBD knows it by (`uname -n`)."""
        return str(self.document["hostname"])

    @property
    def memory_total(self) -> int:
        """Bytes of memory."""
        return int((self.document["memory"] or {}).get("total", 0))

    @property
    def cpus(self) -> int:
        """Physical processors."""
        return int(self.document.get("cpus") or 1)

    @property
    def bridges(self) -> frozenset[str]:
        """The bridges."""
        return frozenset(self.document["bridges"] or ())

    def lacks_address(self, address: str) -> bool:
        """Whether it says that an address is not its own; what it does not say keeps nothing from it."""
        wanted = _address(address)
        return self._addresses is not None and wanted is not None and wanted not in self._addresses

    @cached_property
    def _addresses(self) -> frozenset[Any] | None:
        told = self.document.get("addresses")
        return None if told is None else frozenset(map(_address, told))

    @property
    def lacks_kvm(self) -> bool:
        """Whether it says that it has no KVM; what it does not say keeps nothing from it."""
        return self.document.get("kvm") is False

    @property
    def images(self) -> frozenset[str]:
        """The cached images by SHA-256; empty if that could not be read, which costs a needless check at most."""
        return frozenset(self.document.get("images") or ())

    @property
    def seeds(self) -> dict[str, str]:
        """Seed digests by instance."""
        return dict(self.document["seeds"] or {})

    @property
    def definitions(self) -> dict[str, dict[str, Any]]:
        """Definitions by instance."""
        return dict(self.document["definitions"] or {})

    @property
    def journal(self) -> list[Any]:
        """Entries of interrupted steps."""
        return list(self.document.get("journal") or [])

    @property
    def left_off(self) -> dict[str, dict[str, str]]:
        """Guests that the node did not start by itself, with `reason` and `remedy`."""
        return dict(self.document.get("left_off") or {})

    @property
    def rolling(self) -> dict[str, Any] | None:
        """The note of a rolling reboot that goes on."""
        return self.document.get("rolling") or None

    @property
    def maintenance(self) -> dict[str, Any] | None:
        """The note of who cleared the node to reboot it: `holder`, `boot`, `time`."""
        return self.document.get("maintenance") or None

    @property
    def rebooting(self) -> str | None:
        """Who is about to reboot the node, so that it takes no guest; None also once it has booted."""
        note = self.maintenance
        return None if note is None or note["boot"] != self.document.get("boot_id") else str(note["holder"])

    @property
    def problems(self) -> list[dict[str, Any]]:
        """What the node could not read."""
        return list(self.document.get("problems") or [])

    def volume_group(self, name: str) -> dict[str, int] | None:
        """Size, free and extent of a volume group, in bytes; None if it does not exist."""
        found = (self.document["volume_groups"] or {}).get(name)
        return dict(found) if found is not None else None

    def extent(self, volume_group: str) -> int:
        """The allocation unit of a volume group in bytes."""
        return int((self.volume_group(volume_group) or {}).get("extent") or 4 << 20)

    @cached_property
    def volumes(self) -> tuple[Volume, ...]:
        """The logical volumes."""
        return tuple(
            Volume(
                v["volume_group"],
                v["name"],
                int(v["size"]),
                frozenset(v["tags"]),
                bool(v.get("open")),
                bool(v.get("unchanged")),
            )
            for v in self.document["volumes"] or ()
        )

    @cached_property
    def volumes_by_instance(self) -> dict[str, dict[str, Volume]]:
        """Instance -> `GROUP/NAME` -> volume: by its tag, or by its name if it has none."""
        found: dict[str, dict[str, Volume]] = {}
        for volume in self.volumes:
            match = _VOLUME.fullmatch(volume.name)
            instance = volume.instance or (match["instance"] if match is not None else None)
            if instance is not None:
                found.setdefault(instance, {})[f"{volume.volume_group}/{volume.name}"] = volume
        return found

    @cached_property
    def resources(self) -> dict[str, Resource]:
        """DRBD resources by name."""
        return {name: _resource(name, data) for name, data in (self.document["resources"] or {}).items()}

    @cached_property
    def domains(self) -> dict[str, Domain]:
        """Domains by name."""
        return {name: _domain(name, data) for name, data in (self.document["domains"] or {}).items()}


def _resource(name: str, data: dict[str, Any]) -> Resource:
    volumes = tuple(
        ResourceVolume(
            int(v["volume"]),
            -1 if v["minor"] is None else int(v["minor"]),
            v.get("disk"),
            v.get("peer_disk"),
            v.get("done"),
            v.get("backing"),
            v.get("uuids"),
            v.get("out_of_sync"),
        )
        for v in data.get("volumes") or ()
    )
    options = {str(key): str(value) for key, value in (data.get("options") or {}).items()}
    return Resource(
        name, data.get("role"), data.get("peer_role"), data.get("connection"), bool(data.get("allow_two_primaries")),
        bool(data.get("configured")), data.get("config"), data.get("secret_digest"), options, volumes,
        data.get("peer_address"),
    )  # fmt: skip


def _domain(name: str, data: dict[str, Any]) -> Domain:
    return Domain(
        name, str(data["uuid"]), str(data["state"]), bool(data.get("persistent", True)), bool(data.get("autostart")),
        int(data.get("memory") or 0), int(data.get("vcpus") or 0), str(data.get("xml") or ""),
        bool(data.get("migrating")), bool(data.get("stranded")),
    )  # fmt: skip


@dataclass(frozen=True)
class Trace:
    """Everything that the nodes hold of one instance, by node."""

    name: str
    definitions: dict[str, dict[str, Any]]
    domains: dict[str, Domain]
    resources: dict[str, Resource]
    volumes: dict[str, dict[str, Volume]]
    seeds: dict[str, str]

    @property
    def nodes(self) -> list[str]:
        """The nodes that hold anything of it."""
        parts = (self.definitions, self.domains, self.resources, self.volumes, self.seeds)
        return sorted(set().union(*parts))

    @property
    def newest(self) -> dict[str, Any] | None:
        """The definition with the highest generation; of equals that of a node with the domain, or the first by name.

        Two operators may have written one each before either was refused: what is true is where the guest is.
        """

        def rank(node: str) -> tuple[int, bool, str]:
            return -int(self.definitions[node].get("generation", 0)), node not in self.domains, node

        return self.definitions[min(self.definitions, key=rank)] if self.definitions else None

    def generation(self, node: str) -> int | None:
        """The generation of the definition that a node has, which a step expects there; None if it has none."""
        there = self.definitions.get(node)
        return None if there is None else int(there["generation"])


class Observed:
    """The nodes' documents. `addresses` are those for DRBD by the inventory, which tell whose documents they are."""

    def __init__(self, documents: dict[str, dict[str, Any] | None], addresses: Mapping[str, str] | None = None) -> None:
        self._addresses = addresses or {}
        self.views: dict[str, NodeView | None] = {name: self._view(name, doc) for name, doc in documents.items()}
        self._foreseen: dict[str, Trace] = {}

    @classmethod
    def of(cls, desired: Desired, documents: dict[str, dict[str, Any] | None]) -> Observed:
        """What the nodes of an inventory said; one without a document did not answer."""
        addresses = {name: node.replicate_at for name, node in desired.nodes.items()}
        return cls({name: documents.get(name) for name in desired.nodes} | documents, addresses)

    def _view(self, name: str, document: Any) -> NodeView | None:
        view = _view(name, document)
        if view is None or not view.lacks_address(self._addresses.get(name, "")):
            return view
        others = (other for other, address in self._addresses.items() if _address(address) is not None)
        another = next((other for other in others if not view.lacks_address(self._addresses[other])), None)
        return view if another is None else replace(view, missing=("identity", *view.missing), another=another)

    def foreseeing(self, trace: Trace) -> Observed:
        """The same with another trace of one instance: what will be when what is planned has been done."""
        other = copy.copy(self)
        other._foreseen = {**self._foreseen, trace.name: trace}
        return other

    def saying(self, documents: dict[str, dict[str, Any]]) -> Observed:
        """The same with other documents of some nodes."""
        other = copy.copy(self)
        other.views = {**self.views, **{name: self._view(name, document) for name, document in documents.items()}}
        return other

    def giving_back(self, node: str) -> Observed:
        """The same, as if a node's note that it is about to be rebooted were gone."""
        view = self.views[node]
        return self if view is None else self.saying({node: {**view.document, "maintenance": None}})

    def known(self, node: str) -> NodeView | None:
        """The view of a node about which everything needed is known."""
        view = self.views.get(node)
        return view if view is not None and not view.missing else None

    @property
    def all_known(self) -> list[NodeView]:
        """The views of all known nodes, by name."""
        return [view for _ignored, view in sorted(self.views.items()) if view is not None and not view.missing]

    @property
    def unknown(self) -> list[str]:
        """The nodes about which something needed is not known."""
        return [name for name, view in sorted(self.views.items()) if view is None or view.missing]

    def trace(self, name: str) -> Trace:
        """What the known nodes hold of an instance."""
        if name in self._foreseen:
            return self._foreseen[name]
        views = self.all_known
        volumes = {view.name: view.volumes_by_instance.get(name, {}) for view in views}
        return Trace(
            name,
            {v.name: v.definitions[name] for v in views if name in v.definitions},
            {v.name: v.domains[name] for v in views if name in v.domains},
            {v.name: v.resources[name] for v in views if name in v.resources},
            {node: found for node, found in volumes.items() if found},
            {v.name: v.seeds[name] for v in views if name in v.seeds},
        )

    def names(self) -> set[str]:
        """All instances that left a definition, a marked domain or a marked volume on a known node.

        A volume may have lost the mark that names its instance; then its name does.
        """
        found: set[str] = set()
        for view in self.all_known:
            found |= set(view.definitions)
            found |= {name for name, domain in view.domains.items() if domain.marked}
            for name, volumes in view.volumes_by_instance.items():
                if any(volume.instance or MARK in volume.tags for volume in volumes.values()):
                    found.add(name)
        return found


def not_told(why: str) -> dict[str, Any]:
    """The document of a node that was reached, but could not be asked: nothing is known of it, and it is not silent."""
    remedy = "mend that on the node, then run this again"
    return {"format": FORMAT, "problems": [{"object": "answer", "message": why, "remedy": remedy}]}


def _view(name: str, document: Any) -> NodeView | None:
    if document is None:
        return None
    said: dict[str, Any] = dict.fromkeys(NEEDED)
    if not isinstance(document, dict):
        said["problems"] = [_not_understood("answer", f"it is a {type(document).__name__}")]
    elif document.get("format") != FORMAT:
        said["problems"] = [_not_understood("answer", f"its format is {document.get('format')!r}, not {FORMAT}")]
    else:
        said |= {"format": FORMAT} | _whole(document)
    damaged = _damaged(said["definitions"])
    # Who cannot tell what a definition says, is not to be planned with.
    missing = tuple(part for part in NEEDED if said[part] is None or (damaged and part == "definitions"))
    return NodeView(name, said, missing, damaged)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address, of which there are many ways to write it; None if it is a name."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _damaged(definitions: dict[str, Any] | None) -> dict[str, str]:
    """The definitions that cannot be used, each with what is wrong with it."""
    return {key: fault for key, found in (definitions or {}).items() if (fault := shape.definition(key, found))}


def _whole(document: dict[str, Any]) -> dict[str, Any]:
    """What the format names in the document; parts that are not as it says count as not known."""
    found = {part: document[part] for part in shape.OBSERVED if document.get(part) is not None}
    wrong = {part: fault for part, value in found.items() if (fault := shape.observed_part(part, value))}
    good = {part: shape.named(value, shape.OBSERVED[part]) for part, value in found.items() if part not in wrong}
    if not wrong:
        return good
    problems = [_not_understood(part, fault) for part, fault in wrong.items()]
    told = [] if "problems" in wrong else found.get("problems", [])
    return {**good, **dict.fromkeys(wrong), "problems": [*told, *problems]}


def _not_understood(part: str, fault: str) -> dict[str, str]:
    remedy = REMEDIES.get(part, "update the node's Python and tools, or look at what stands in its way")
    return {"object": part, "message": f"the answer cannot be understood: {fault}", "remedy": remedy}
