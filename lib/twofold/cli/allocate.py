# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb allocate."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from ..placement import iallocator, literals
from ..placement.allocate import AllocOptions, allowed_nodes
from ..placement.candidates import pair_places, single_places
from ..placement.errors import DataError
from ..placement.explain import primary_reason, secondary_reason
from ..placement.message import STATIC_KVM_MEMORY, Message, parse
from ..placement.moves import apply, operations
from ..placement.state import State
from . import inputs

Json = dict[str, Any]


def allocate(options: argparse.Namespace) -> tuple[str, int]:
    """Answer an iallocator request."""
    text = inputs.read(options.request)
    message = _message(options, text)
    allocation = _options(message, options)
    answer = iallocator.answer(message, allocation, inputs.build(options))
    body: Json = {"success": answer.success, "info": answer.info, "result": answer.result}
    if message.request.get("type") == "allocate":
        if options.explain:
            body["explain"] = _explain(message, options, allocation, answer.result)
        if options.make_room and not answer.success:
            body["room"] = _room(message, options, allocation)
    # The answer is for a program; there is no other form of it.
    return json.dumps(body, separators=(",", ":")) + "\n", 0


def _options(message: Message, options: argparse.Namespace) -> AllocOptions:
    """How to allocate: as hail, unless something is asked for that it does not know."""
    rules, weights = inputs.instance_rules(options, _names(message))
    return AllocOptions(
        ignore_soft=options.ignore_soft_errors,
        capacity_checks=not options.no_capacity_checks,
        accept_existing=options.accept_existing_errors,
        restrict=inputs.names(options.restrict_to_nodes) if options.restrict_to_nodes is not None else None,
        own=inputs.own_method(options, "hail", implied=bool(options.rules or options.survive)),
        survive=inputs.survive(options),
        rules=rules,
        weights=weights,
    )


def _names(message: Message) -> set[str]:
    """The instances that rules may be about: those of the cluster, and those that are asked for."""
    request = message.request
    wanted = [request, *(one for one in request.get("instances") or () if isinstance(one, dict))]
    return {one.name for one in message.cluster.instances} | {str(one.get("name")) for one in wanted}


def _message(options: argparse.Namespace, text: str) -> Message:
    if not (options.text_data or options.simulate):
        given = options.static_kvm_node_memory
        return parse(text, options.request, STATIC_KVM_MEMORY if given is None else given)
    data = literals.document(text, options.request, "an iallocator request")
    request = data.get("request", data) if isinstance(data, dict) else data
    if not isinstance(request, dict):
        raise DataError(options.request, None, "request", "expected an object")
    return Message(inputs.cluster(options), request, options.request)


def _explain(message: Message, options: argparse.Namespace, allocation: AllocOptions, chosen: list[str]) -> list[Json]:
    """Per node what speaks against it and the best score with the instance there, in each role.

    Secondaries are judged beside the chosen primary, or the first possible one. A better score than the chosen place
    has means that the loss of some node could not be survived with the instance there.
    """
    instance = iallocator.requested(message)
    state = State(message.cluster, inputs.build(options), [instance])
    i, names = len(message.cluster.instances), state.nodes.names
    book = allocation.book(state)
    as_primary, as_secondary = book.forbidden(i)
    first = [as_primary[n] or primary_reason(state, i, n) for n in range(len(names))]
    possible = [n for n in range(len(names)) if not first[n]]
    primary = names.index(chosen[0]) if chosen else possible[0] if possible else -1
    pair = instance.template == "drbd"
    allowed = allowed_nodes(state, allocation)
    scores = (pair_places if pair else single_places)(state, i, allowed, options.ignore_soft_errors).score
    if book.any:
        scores = np.where(book.allowed(i, pair), scores + book.penalty(i, pair), np.inf)
    best_primary = scores.min(axis=1) if pair else scores
    place = tuple(names.index(name) for name in chosen)
    best = float(scores[place]) if chosen else -np.inf
    result = []
    for n, name in enumerate(names):
        reason = first[n] or ("" if allowed[n] else "is none of the nodes that the request allows")
        entry: Json = {"node": name, "chosen": name in chosen}
        entry |= _role("primary", reason, float(best_primary[n]), best)
        if pair and primary >= 0:
            reason = as_secondary[n] or secondary_reason(state, i, n, primary)
            if not reason and not book.apart(i)[primary, n]:
                reason = f"shares a failure domain with the primary {names[primary]}"
            entry |= _role("secondary", reason, float(scores[primary, n]), best)
        result.append(entry)
    return result


def _role(role: str, reason: str, score: float, best: float) -> Json:
    finite = bool(np.isfinite(score))
    if not reason and finite and score < best:
        reason = f"redundancy: at score {score:.8f} the loss of some node would leave an instance without a place"
    return {role: reason or None, f"{role}_score": score if finite else None}


def _room(message: Message, options: argparse.Namespace, allocation: AllocOptions) -> Json | None:
    """The moves that make room for the request; null if none were found."""
    state = State(message.cluster, inputs.build(options), [iallocator.requested(message)])
    from ..placement.room import make_room

    made = make_room(state, len(message.cluster.instances), allocation)
    if made is None:
        return None
    trial, moves = state.copy(), []
    for move in made.moves:
        moves.append({"instance": state.inst.names[move.instance], "ops": operations(trial, move)})
        apply(trial, move)
    return {"moves": moves, "copied_mib": made.copied, "nodes": [state.nodes.names[n] for n in made.found.nodes]}
