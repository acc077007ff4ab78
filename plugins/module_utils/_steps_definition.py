# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps on definitions and the journal."""

from __future__ import annotations

from typing import Any

from . import _definitions, _maintenance
from ._errors import Refused, UsageError
from ._names import instance_name
from ._node import Node
from ._steps import Args, Done, changed, step, unchanged


@step("definition.write")
def write(node: Node, args: Args) -> Done:
    """Writes a definition, unless the node's is another than the plan was made on."""
    document = args.mapping("document")
    if not isinstance(document.get("name"), str):
        raise UsageError("the definition has no name", "make a new plan")
    name = instance_name(document["name"])
    if not isinstance(document.get("generation"), int):
        raise UsageError(f"the definition of {name} has no generation", "make a new plan")
    _refuse_coming(node, document)
    present = _definitions.read(node.files, name)
    if present == document:
        return unchanged(f"definition of {name} is there")
    expected = args.optional_integer("expect_generation")
    if present is None and expected is not None:
        message = f"the definition of {name} on this node is gone, expected was generation {expected}"
        raise Refused(message, "somebody removed or moved it meanwhile; plan again")
    # Another one of the generation that is to be written is somebody else's, who planned at the same time.
    _definitions.require_generation(name, present, {expected})
    if args.flag("expect_domain") and node.hypervisor.domain(name) is None:
        raise Refused(f"{name} is not defined on this node any more, it may have moved", "plan again")
    _refuse_taken(node, document)
    if not node.check_mode:
        _definitions.write(node.files, document)
    return changed(f"wrote generation {document['generation']} of {name}")


def _refuse_coming(node: Node, document: dict[str, Any]) -> None:
    """A guest without DRBD does not begin to move to a node that is about to be rebooted."""
    target = document.get("moving_to")
    if target is not None and target == (_maintenance.read(node.files) or {}).get("node"):
        _maintenance.require_none(node, f"{document['name']} does not move here")


def _refuse_taken(node: Node, document: dict[str, Any]) -> None:
    """Two instances never share a minor or a port on a node."""
    for host in _hosts(document):
        mine = _definitions.taken(document, host)
        for other in _definitions.read_all(node.files).values():
            if other["name"] == document["name"] or other.get("uuid") == document.get("uuid"):
                continue
            clash = mine & _definitions.taken(other, host) if host in _hosts(other) else set()
            if clash:
                what = ", ".join(f"{kind} {number}" for kind, number in sorted(clash))
                message = f"{document['name']}: {what} on {host} belongs to {other['name']}"
                raise Refused(message, "plan again: another instance was created meanwhile")


def _hosts(document: dict[str, Any]) -> set[str]:
    return {str(one) for one in document.get("nodes") or []}


@step("definition.remove")
def remove(node: Node, args: Args) -> Done:
    name = instance_name(args.text("name"))
    present = _definitions.read(node.files, name)
    if present is None:
        return unchanged(f"there is no definition of {name}")
    _definitions.require_generation(name, present, {args.optional_integer("expect_generation")})
    if not node.check_mode:
        _definitions.remove(node.files, name)
    return changed(f"removed the definition of {name}")


@step("definition.absent")
def absent(node: Node, args: Args) -> Done:
    """Looks whether somebody else makes an instance of that name here, which the plan knew nothing of.

    Everybody writes definitions first and looks at the other nodes then: of two who make it at the same time, one sees
    the other's at least. A definition that the plan did know may be there, as long as nothing came of it.
    """
    name = instance_name(args.text("name"))
    expected = args.optional_integer("expect_generation")
    present = _definitions.read(node.files, name)
    if present is None:
        return unchanged(f"nobody makes {name} here")
    if present.get("generation") != expected or node.hypervisor.domain(name) is not None:
        message = f"{name} is being made on {', '.join(sorted(_hosts(present)))} by somebody else, or was"
        raise Refused(message, "run this again: it goes on with one of the two, and takes away what the other left")
    return unchanged(f"nothing came of the definition of {name} that is here")


@step("journal.clear")
def clear(node: Node, args: Args) -> Done:
    """Removes entries of interrupted steps, once what they left was dealt with."""
    wanted = set(args.texts("keys"))
    found = [one["key"] for one in node.journal.entries() if one["key"] in wanted and not one["running"]]
    if not found:
        return unchanged("no such entries")
    if not node.check_mode:
        node.progress.clear_all()
        for key in found:
            node.journal.end(key)
    return changed(f"cleared {len(found)} entries of interrupted steps")
