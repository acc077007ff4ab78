# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What still fits, and what the loss of a node would do, as a document. Sizes in bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .model import Desired, Flavour, Instance
from .observed import Observed
from .placement import Rules
from .placement.affinity import Book
from .placement.candidates import pair_places, single_places
from .placement.explain import primary_reason, secondary_reason
from .placement.model import Mirror
from .placement.redundancy import Level, Loss, kept, loss
from .placement.state import State
from .planner import affinity, cluster_view, fit
from .planner.claims import Claims

FORMAT = 1
#: Nobody needs to know how many more than this fit.
MOST = 1000
Documents = dict[str, dict[str, Any] | None]


def document(desired: Desired, observed: Documents) -> dict[str, Any]:
    """How many more of each flavour fit, each alone in the cluster as it is, and what the loss of each node does.

    A node that did not answer, or that is drained, offline or about to be rebooted, takes nothing and counts as lost.
    """
    seen = Observed.of(desired, observed)
    claims = Claims(desired, seen)
    state = State(cluster_view.cluster(desired, seen, claims))
    return {
        "format": FORMAT,
        "cluster": desired.cluster.name,
        "flavours": [_fits(state, name, size, _lacking(seen, size)) for name, size in flavours(desired).items()],
        "nodes": [_node(state, n, _state(desired, seen, name)) for n, name in enumerate(state.nodes.names)],
        "domains": [_domain(state, name) for name in sorted(state.keys.locations)],
    }


def _state(desired: Desired, seen: Observed, node: str) -> str:
    view = seen.known(node)
    if view is None:
        return "unknown"
    return desired.nodes[node].state if view.rebooting is None else "drained"


def flavours(desired: Desired) -> dict[str, Flavour]:
    """The inventory's flavours; where it has none, the sizes of its instances, the most frequent first."""
    if desired.cluster.flavours:
        return dict(desired.cluster.flavours)
    sizes = {name: _size(one) for name, one in sorted(desired.instances.items()) if one.state != "absent"}
    texts = {name: size.model_dump_json() for name, size in sizes.items()}
    count = Counter(texts.values())
    first: dict[str, str] = {}
    for name, text in texts.items():
        first.setdefault(text, name)
    return {f"like {name}": sizes[name] for text, name in sorted(first.items(), key=lambda item: -count[item[0]])}


def _size(instance: Instance) -> Flavour:
    return Flavour.model_validate({name: getattr(instance, name) for name in Flavour.model_fields})


def _lacking(seen: Observed, size: Flavour) -> dict[str, str]:
    """The nodes that cannot run a guest of a flavour whatever room they have, each with the reason."""
    found = {view.name: fit.lacking(view, size.virtualization, ()) for view in seen.all_known}
    return {name: ", ".join(reasons) for name, reasons in found.items() if reasons}


def _fits(state: State, name: str, size: Flavour, lacking: dict[str, str]) -> dict[str, Any]:
    """Fill a copy of the cluster with one flavour; `lacking` are the nodes that cannot have it, with the reasons."""
    guest = cluster_view.flavour(name, size)
    trial = State(state.cluster, state.options, [guest])
    i = len(state.cluster.instances)
    book = Book(trial, {name: Rules(apart=(affinity.DOMAIN,), excluded=tuple(lacking))})
    pair = guest.template == "drbd"
    allowed = book.allowed(i, pair)
    # Memory that secondaries keep answers for mirrored instances, for others the whole cluster is asked.
    good = kept(trial, Level.NODE) if guest.mirror is Mirror.EXTERNAL else None
    count, primaries = 0, Counter[str]()
    while count < MOST:
        places = (pair_places if pair else single_places)(trial, i, trial.online)
        ranked = replace(places, score=np.where(allowed, places.score, np.inf)).ranked(1 if good is None else None)
        best = next((place for place in ranked if _placed(trial, i, place, good)), None)
        if best is None:
            break
        if good is None:
            # The nodes know all that counts; the instance is free to be placed once more.
            trial.pri[i] = trial.sec[i] = -1
        else:
            i = trial.append(guest)
        count += 1
        primaries[trial.nodes.names[best[0]]] += 1
    return {
        "name": name,
        "memory": size.memory,
        "vcpus": size.vcpus,
        "disk": sum(disk.size for disk in size.disks),
        "disk_template": size.disk_template,
        "count": count,
        "more": count == MOST,
        "primaries": dict(sorted(primaries.items())),
        "then": {} if count == MOST else _obstacles(trial, i, lacking, pair=pair, loss=good is not None),
    }


def _placed(state: State, i: int, place: tuple[int, ...], good: Callable[[State], bool] | None) -> bool:
    """Place an instance, if a condition holds with it there; whether it does."""
    state.place(i, place[0], place[1] if len(place) > 1 else -1)
    if good is None or good(state):
        return True
    state.unplace(i)
    return False


def _obstacles(state: State, i: int, lacking: dict[str, str], *, pair: bool, loss: bool) -> dict[str, str]:
    """What speaks against each node that is online once nothing more fits."""
    found = {}
    first = [lacking.get(name) or primary_reason(state, i, n) for n, name in enumerate(state.nodes.names)]
    primary = next((n for n, reason in enumerate(first) if not reason), -1)
    for n, name in enumerate(state.nodes.names):
        second = secondary_reason(state, i, n, primary) if pair and primary not in (-1, n) else ""
        found[name] = first[n] or second or ("the loss of a node would not be survived any more" if loss else "")
    online = zip(state.nodes.names, state.online.tolist(), strict=True)
    return {name: found[name] for name, is_online in online if is_online and found[name]}


def _node(state: State, n: int, what: str) -> dict[str, Any]:
    name = state.nodes.names[n]
    return {"name": name, "state": what, **_loss(state, loss(state, name, [n] if what == "online" else []))}


def _domain(state: State, tag: str) -> dict[str, Any]:
    members = [n for n, tags in enumerate(state.nodes.locations) if tag in tags]
    name = tag.removeprefix(f"{affinity.DOMAIN}:")
    nodes = [state.nodes.names[n] for n in members]
    return {"name": name, "nodes": nodes, **_loss(state, loss(state, name, members))}


def _loss(state: State, found: Loss) -> dict[str, Any]:
    """Who restarts elsewhere, who cannot, and whose disks have one copy left."""
    names, lost = state.inst.names, set(found.nodes)
    gone = lost | set(np.flatnonzero(state.nodes.offline).tolist())
    stopped = {names[hurt.instance]: hurt.reason for hurt in found.hurt}
    restarted, degraded = [], []
    for i, name in enumerate(names):
        p, s = int(state.pri[i]), int(state.sec[i])
        if p in lost and name not in stopped and state.inst.uses_mem[i]:
            restarted.append(name)
        if state.inst.drbd[i] and {p, s} & lost and len({p, s} & gone) == 1:
            degraded.append(name)
    return {
        "restarted": restarted,
        "memory": int(sum(state.inst.mem[names.index(name)] for name in restarted)) * cluster_view.MIB,
        "degraded": degraded,
        "hurt": [{"instance": name, "reason": reason} for name, reason in sorted(stopped.items())],
    }
