# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a guest can run on a node: one that exists, and what any guest needs there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ..model import Instance
from ..observed import NodeView
from ..units import format_size
from . import rebooting
from .context import Context

KVM_REMEDY = "switch virtualization on in the firmware, or set twofold_virtualization to qemu"
_DOMAIN_TYPE = re.compile(r"<domain\b[^>]*\btype=[\"'](\w+)[\"']")


def lacking(view: NodeView, virtualization: str, bridges: Iterable[str]) -> list[str]:
    """What a node lacks for a guest whatever room it has, each as a reason."""
    found = [f"no bridge {bridge}" for bridge in sorted(set(bridges) - view.bridges)]
    return found + ([f"no /dev/kvm ({KVM_REMEDY})"] if virtualization == "kvm" and view.lacks_kvm else [])


def problems(context: Context, document: dict[str, Any], node: str, memory: int) -> list[str]:
    """What keeps a guest with `memory` bytes from a node, each as a reason; disks are the caller's business."""
    view = context.observed.known(node)
    if view is None:
        return ["its state is unknown"]
    away = rebooting.reason(view)
    found = [away] if away is not None else []
    free = context.claims.memory_free(node, besides=document["name"])
    if free < memory:
        found.append(f"{format_size(max(free, 0))} memory free, {format_size(memory)} needed")
    # It starts with the XML that it has, whatever the inventory wants by now.
    kind = _DOMAIN_TYPE.search(document["domain_xml"])
    return found + lacking(view, kind[1] if kind else "", (nic["bridge"] for nic in document["nics"]))


def no_room(context: Context, sized: Instance, node: str) -> str | None:
    """Why a further copy of an instance's disks does not fit on a node; None if it does, and its space is promised."""
    needed = context.claims.needed(node, sized)
    for group, size in needed.items():
        free = context.claims.space_free(node, group)
        if free is None or free < size:
            has = "there is no such group" if free is None else f"{format_size(max(free, 0))} free"
            return f"volume group {group} on {node}: {has}, {format_size(size)} needed beside what is there"
    context.claims.take_space(node, needed)
    return None
