# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory variables: which there are, and which field of the model each one fills."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .model import Cluster, Instance, MigrationSettings, Node, ReplicationSettings

PREFIX = "twofold_"
GROUPS: dict[str, type[BaseModel]] = {"replication": ReplicationSettings, "migration": MigrationSettings}
# Variables of playbooks and of what runs around the planner: they say how to run, not what to have.
RUN = {
    "twofold_node_group": "The inventory group of the nodes",
    "twofold_instance_group": "The inventory group of the instances",
    "twofold_plan_file": "Where plan.yml saves the plan, and which plan site.yml applies",
    "twofold_status_file": "Where status.yml writes its document",
    "twofold_findings_file": "Where verify.yml writes its findings",
    "twofold_fail_on": "What makes verify.yml fail: error (the default), warning or never",
    "twofold_capacity_file": "Where capacity.yml writes its document",
    "twofold_reboot_timeout": "Seconds within which a node that is rebooted has to answer again",
}
# Variables of the role that turns a bare machine into a node, which checks them itself (a test compares the lists).
BOOTSTRAP = frozenset(
    {
        "twofold_clock_tolerance",
        "twofold_hostname",
        "twofold_libvirtd_settings",
        "twofold_lvm_filter",
        "twofold_manage_firewall",
        "twofold_manage_hosts",
        "twofold_management_mtu",
        "twofold_migration_ports",
        "twofold_network_interfaces",
        "twofold_new_authority",
        "twofold_node_addresses",
        "twofold_node_packages",
        "twofold_pki_days",
        "twofold_pki_dir",
        "twofold_pki_renew_days",
        "twofold_power_back_at_boot",
        "twofold_power_back_interval",
        "twofold_power_back_restarts",
        "twofold_qemu_settings",
        "twofold_replication_mtu",
        "twofold_require_kvm",
        "twofold_volume_group_devices",
        "twofold_wipe_devices",
    }
)


def variable(name: str, field: FieldInfo) -> str:
    """The variable of a field."""
    extra = field.json_schema_extra
    return PREFIX + str(extra["variable"] if isinstance(extra, dict) and "variable" in extra else name)


@cache
def of(model: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    """Variable name -> path of the field in the model."""
    found: dict[str, tuple[str, ...]] = {}
    for name, field in model.model_fields.items():
        if name in GROUPS:
            found |= {f"{PREFIX}{name}_{part}": (name, part) for part in GROUPS[name].model_fields}
        elif not (name == "name" and model in (Node, Instance)):
            found[variable(name, field)] = (name,)
    return found


@cache
def known() -> frozenset[str]:
    """All variables that there are."""
    return frozenset([*of(Cluster), *of(Node), *of(Instance), *RUN, *BOOTSTRAP])


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The known name that was probably meant. The prefix that all variables share says nothing."""
    stems = {known.removeprefix(PREFIX): known for known in sorted(names)}
    found = difflib.get_close_matches(name.removeprefix(PREFIX), stems, n=1, cutoff=0.7)
    return stems[found[0]] if found else None


def values(model: type[BaseModel], variables: dict[str, Any]) -> dict[str, Any]:
    """What a host's variables say for a model, nested as the model is."""
    result: dict[str, Any] = {}
    for name, path in of(model).items():
        if name in variables:
            target = result
            for part in path[:-1]:
                target = target.setdefault(part, {})
            target[path[-1]] = variables[name]
    return result


def name_of(model: type[BaseModel], location: tuple[Any, ...]) -> str:
    """The variable of an error's location, as a user would write it: `twofold_disks[0].size`."""
    paths = {path: name for name, path in of(model).items()}
    for length in (2, 1):
        path = tuple(str(part) for part in location[:length])
        if path in paths:
            rest = location[length:]
            return paths[path] + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)
    return PREFIX + ".".join(str(part) for part in location)
