# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One domain for people who use nothing else of Twofold: the steps on domains, put together."""

from __future__ import annotations

from typing import Any

from ._errors import Refused
from ._libvirt import Domain
from ._names import instance_name
from ._node import Node
from ._steps import Args, Done, unchanged
from ._steps_domain import define, start, stop, undefine
from ._steps_migration import migrate


def ensure(node: Node, params: dict[str, Any]) -> dict[str, Any]:
    """Brings the domain to its state; says what was done."""
    name = instance_name(params["name"])
    before = node.hypervisor.domain(name)
    done = [one for one in _steps(node, params, before) if one.changed]
    after = before if node.check_mode else node.hypervisor.domain(name)
    return {
        "changed": bool(done),
        "instance": shown(after),
        "changes": [one.message for one in done],
        "diff": {"before": described(before), "after": _predicted(params, before) if done else described(before)},
    }


def _steps(node: Node, params: dict[str, Any], before: Domain | None) -> list[Done]:
    name, state = params["name"], params["state"]
    stopping = {"name": name, "timeout": params["stop_timeout"], "force": params["force"]}
    if state == "absent":
        return _absent(node, before, stopping)
    done = [_define(node, params, before)]
    if state == "running":
        done.append(start(node, Args("instance", {"name": name})))
    elif state == "stopped":
        done.append(stop(node, Args("instance", stopping)))
    return done


def _define(node: Node, params: dict[str, Any], before: Domain | None) -> Done:
    if params["xml"]:
        values = {"name": params["name"], "xml": params["xml"], "autostart": params["autostart"]}
        return define(node, Args("instance", values))
    if before is None:
        raise Refused(f"domain {params['name']} is not defined on this node", "give its xml")
    if params["autostart"] is None or params["autostart"] == before.autostart:
        return unchanged()
    if not node.check_mode:
        node.hypervisor.set_autostart(before.name, params["autostart"])
    return Done(True, f"autostart of {before.name} is {'on' if params['autostart'] else 'off'}")


def _absent(node: Node, before: Domain | None, stopping: dict[str, Any]) -> list[Done]:
    if before is None:
        return []
    if before.active and not stopping["force"]:
        raise Refused(f"domain {before.name} is {before.state}", "stop it first, or allow that with force")
    done = [stop(node, Args("instance", stopping))] if before.active else []
    if before.persistent and not (node.check_mode and before.active):
        done.append(undefine(node, Args("instance", {"name": before.name})))
    return done


def described(domain: Domain | None) -> str:
    """For a diff: state and definition."""
    if domain is None:
        return ""
    return f"state: {domain.state}\nautostart: {domain.autostart}\n{domain.xml}"


def _predicted(params: dict[str, Any], before: Domain | None) -> str:
    """What it will be: the same words as `described`."""
    if params["state"] == "absent":
        return ""
    words = {"running": "running", "stopped": "shutoff"}
    state = words.get(params["state"]) or (before.state if before else "shutoff")
    known = params["autostart"] if params["autostart"] is not None else bool(before and before.autostart)
    return f"state: {state}\nautostart: {known}\n{params['xml'] or (before.xml if before else '')}"


def shown(domain: Domain | None) -> dict[str, Any]:
    return {} if domain is None else dict(domain._asdict())


def move(node: Node, params: dict[str, Any]) -> dict[str, Any]:
    """Migrates the domain from this node."""
    values = {name: value for name, value in params.items() if name not in ("local_uri", "bandwidth", "postcopy_after")}
    if params["bandwidth"]:
        values["bandwidth"] = params["bandwidth"] << 20
    if params["postcopy_after"] is not None:
        values["postcopy"] = {"seconds": params["postcopy_after"]}
    done = migrate(node, Args("instance_migrate", values))
    before, after = ("this node", params["uri"]) if done.changed else (params["uri"],) * 2
    difference = {"before": {"runs_on": before}, "after": {"runs_on": after}}
    return {"changed": done.changed, "message": done.message, "migration": done.data, "diff": difference}
