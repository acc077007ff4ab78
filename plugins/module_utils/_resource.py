# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A DRBD resource for people who use nothing else of Twofold: rendering it, and bringing it to what is wanted."""

from __future__ import annotations

import re
from typing import Any

from ._drbd import Configuration
from ._drbd_meta import metadata_size
from ._drbd_parse import PLACEHOLDER
from ._errors import Refused, UsageError
from ._names import instance_name
from ._node import Node
from ._stale_copies import mark_before_up
from ._steps import Args, Done, changed
from ._steps_replication import demote, initialise, promote, remove

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
VALUE = re.compile(r"[^\x00-\x1f\"\\]*\Z")
INTERNAL = "internal"
# The disk here and at the peer of a pair that has never been in service.
NEW = (("Inconsistent", "Inconsistent"), ("Inconsistent", "DUnknown"))


def quoted(value: str) -> str:
    """A value for DRBD's configuration; what cannot be written there is refused."""
    if not VALUE.match(value):
        raise UsageError(f"{value!r} cannot stand in a DRBD configuration", "leave out quotes and control characters")
    return f'"{value}"'


def render(wanted: dict[str, Any]) -> str:
    """The text of the resource, with a placeholder for its secret."""
    net = {"protocol": wanted["protocol"], **(wanted["net_options"] or {})}
    if wanted["secret"]:
        net.update({"cram-hmac-alg": "sha256", "shared-secret": PLACEHOLDER})
    lines = [f"resource {quoted(instance_name(wanted['name']))} {{"]
    lines += _section("net", net) + _section("disk", wanted["disk_options"] or {})
    for host in wanted["hosts"]:
        lines += _host(host, wanted)
    return "\n".join([*lines, "}", ""])


def _section(name: str, options: dict[str, Any]) -> list[str]:
    if not options:
        return []
    lines = [f"    {name} {{"]
    for option, value in sorted(options.items()):
        if not WORD.match(option):
            raise UsageError(f"{option!r} cannot be an option of DRBD", "correct it; 'man drbd.conf' names them")
        shown = ("yes" if value else "no") if isinstance(value, bool) else str(value)
        lines.append(f"        {option} {shown if WORD.match(shown) else quoted(shown)};")
    return [*lines, "    }"]


def _host(host: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    address = str(host["address"])
    shown = f"ipv6 [{address}]" if ":" in address else f"ipv4 {address}"
    if not re.match(r"[0-9a-fA-F.:]+\Z", address):
        raise UsageError(f"{address!r} is not an IP address", "DRBD connects addresses, not names")
    lines = [f"    on {quoted(host['name'])} {{", f"        address {shown}:{host['port'] or wanted['port']};"]
    for volume in wanted["volumes"]:
        lines += [
            f"        volume {volume['number']} {{",
            f"            device minor {volume['minor']};",
            f"            disk {quoted(volume['disk'])};",
            f"            {_meta(volume)};",
            "        }",
        ]
    return [*lines, "    }"]


def _meta(volume: dict[str, Any]) -> str:
    if volume["meta_disk"] == INTERNAL:
        return "meta-disk internal"
    return f"flexible-meta-disk {quoted(volume['meta_disk'])}"


def ensure(node: Node, name: str, wanted: dict[str, Any], config: Configuration) -> bool:
    """Writes the file, makes metadata if that is allowed, brings the resource up; whether anything had to be done."""
    write = node.replication.configuration(name) != config
    if write:
        node.replication.validate(name, config)
    if node.check_mode:
        return write or node.replication.adjust(name, dry=True)
    state = node.replication.state(name)
    attached = set() if state is None else {one.volume for one in state.volumes if one.disk not in (None, "Diskless")}
    detached = [one for one in wanted["volumes"] if one["number"] not in attached]
    owed = [one for one in detached if _lacks_metadata(node, name, one, config)]
    for one in owed:
        _require_place(node, name, one, bool(wanted["create_metadata"]))
    if write:
        node.replication.write(name, config)
    for one in owed:
        node.replication.create_metadata(name, one["number"])
    if state is None:
        mark_before_up(node.replication, name, [one["number"] for one in wanted["volumes"]])
    return node.replication.adjust(name, dry=False) or write or bool(owed)


def _external(volume: dict[str, Any]) -> str | None:
    return None if volume["meta_disk"] == INTERNAL else str(volume["meta_disk"])


def _lacks_metadata(node: Node, name: str, volume: dict[str, Any], config: Configuration) -> bool:
    return node.replication.metadata(name, volume["number"], _external(volume), config) == "none"


def _require_place(node: Node, name: str, volume: dict[str, Any], allowed: bool) -> None:
    """Metadata is wanted, and there is an empty place for it that is large enough."""
    which, disk, external = f"{name}/{volume['number']}", volume["disk"], _external(volume)
    if not allowed:
        raise Refused(f"{which} has no DRBD metadata", "set create_metadata to have it made")
    place = external or disk
    found = node.devices.contents(place)
    if found:
        message = f"{which}: metadata would be written to {place}, which holds {found}"
        remedy = f"use an empty device, or, if what is there may be destroyed, clear it with 'blkdiscard -z {place}'"
        raise Refused(message, remedy)
    if external is not None:
        need, room = metadata_size(node.devices.size(disk)), node.devices.size(external)
        if room < need:
            message = f"{which}: {external} has {room} bytes, the metadata of {disk} needs {need}"
            raise Refused(message, "use a larger device for the metadata")


def first_sync(node: Node, name: str, how: str, timeout: float) -> list[Done]:
    """The beginning of a new pair: both sides are equal, or this side's data is the good one."""
    state = node.replication.state(name)
    if how == "none" or (state is None and node.check_mode):
        return []
    if how == "skip":
        return [initialise(node, Args("drbd_resource", {"resource": name, "timeout": timeout}))]
    if state is None:
        raise Refused(f"{name} is down", "bring it up first")
    fresh = [one for one in state.volumes if (one.disk, one.peer_disk) in NEW]
    if not fresh:
        return []
    if len(fresh) != len(state.volumes) or not all(node.replication.just_created(name, one.volume) for one in fresh):
        raise Refused(f"{name} has been in service before ({state.summary()})", "recover it by hand")
    if not node.check_mode:
        node.replication.primary(name, force=True)
    return [changed(f"{name}: this side's data is the good one")]


def manage(node: Node, params: dict[str, Any]) -> dict[str, Any]:
    """The work of the module."""
    name = instance_name(params["name"])
    state = node.replication.state(name)
    file = node.replication.configuration(name)
    before = {"role": state.role if state else None, "config": file.text if file else ""}
    if params["state"] == "absent":
        done, after = [remove(node, Args("drbd_resource", {"resource": name}))], {"role": None, "config": ""}
    else:
        done, text = _present(node, name, params)
        role = str(params["role"]).capitalize() if params["role"] else before["role"] or "Secondary"
        after = {"role": role, "config": text}
    changes = [one.message for one in done if one.changed]
    now = node.replication.state(name)
    return {
        "changed": bool(changes),
        "changes": changes,
        "resource": {**now._asdict(), "volumes": [one._asdict() for one in now.volumes]} if now else {},
        "diff": {"before": before, "after": after if changes else before},
    }


def _present(node: Node, name: str, params: dict[str, Any]) -> tuple[list[Done], str]:
    if any(host["port"] is None for host in params["hosts"]) and params["port"] is None:
        raise UsageError(f"{name} has no port", "give a port for the resource")
    config = Configuration(render(params), params["secret"] or None)
    done = [Done(ensure(node, name, params, config), f"configured {name}")]
    args = Args("drbd_resource", {"resource": name, "timeout": params["timeout"]})
    done += first_sync(node, name, params["first_sync"], params["timeout"])
    if params["role"] and node.check_mode and node.replication.state(name) is None:
        return [*done, Done(params["role"] == "primary", f"would make {name} {params['role']}")], config.text
    if params["role"] == "primary":
        done.append(promote(node, args))
    elif params["role"] == "secondary":
        done.append(demote(node, args))
    return done, config.text
