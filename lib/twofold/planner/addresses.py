# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses that several instances have: one was made while nothing was known of the node that held the other."""

from __future__ import annotations

from collections.abc import Collection

from ..definition import Document
from ..findings import listing
from .context import Context

REMEDY = (
    "set another address for one of them in twofold_nics, run site.yml, and change it in that guest itself; until then "
    "twofold_state: stopped keeps one of them off"
)


def report(context: Context, chosen: Collection[str]) -> None:
    """Say which of the chosen instances share an address, once the plan is as it was.

    Nothing is done about it: nobody can tell which of the two the others rely on.
    """
    shared = {address: names for address, names in sorted(context.claims.holders.items()) if len(names) > 1}
    documents = _written(context) if shared else {}
    for address, names in shared.items():
        having = [name for name in sorted(names) if address in _of(context, name, documents)]
        for name in [name for name in having if name in chosen and len(having) > 1]:
            others = listing([f"instance {other}" for other in having if other != name])
            message = f"{address} is its address, and that of {others}: while both run, neither can be relied on"
            context.error("duplicate-address", name, message, REMEDY)


def _written(context: Context) -> dict[str, Document]:
    """The definitions that the plan writes, by instance: what it puts right needs no word."""
    steps = [step for step in context.steps.values() if step.op == "definition.write" and step.instance is not None]
    return {str(step.instance): step.args["document"] for step in steps}


def _of(context: Context, name: str, written: dict[str, Document]) -> set[str]:
    """The addresses that an instance has when the plan is carried out; none if it is to be removed."""
    wanted = context.desired.instances.get(name)
    document = written.get(name) or context.observed.trace(name).newest
    if document is None or (wanted is not None and wanted.state == "absent"):
        return set()
    return {str(nic["address"]) for nic in document["nics"] if nic["address"]}
