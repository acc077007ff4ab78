# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of the command "twofold" for people to read."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Json = dict[str, Any]


def show(command: str, result: Json) -> None:
    """Print the result of a verb."""
    # Into a file or a pipe nothing is cut off for want of a terminal's width.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 250)
    _SHOW[command](console, result)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        number = name.endswith(" ")
        table.add_column(name.strip(), justify="right" if number else "left", no_wrap=True)
    return table


def _cells(*values: object) -> list[str]:
    return [escape(str(value)) for value in values]


def _score(console: Console, result: Json) -> None:
    console.print(f"score {result['score']:.8f}")
    table = _table("metric", "value ", "weight ")
    for name, value in result["metrics"].items():
        table.add_row(*_cells(name, f"{value:.8f}", f"{result['weights'][name]:g}"))
    console.print(table)
    for key, what in (("bad_nodes", "nodes"), ("bad_instances", "instances")):
        if result[key]:
            console.print(escape(f"{what} that fail N+1: {', '.join(result[key])}"))


def _gib(mib: float) -> str:
    return f"{mib / 1024:.1f} GiB"


def _balance(console: Console, result: Json) -> None:
    waves = {move: number for number, moves in enumerate(result["jobs"], 1) for move in moves}
    if result["moves"]:
        table = _table("# ", "wave ", "instance", "from", "to", "operations", "copied ", "gain ", "score ")
        for number, move in enumerate(result["moves"]):
            nodes = (":".join(move["from"]), ":".join(move["to"]))
            sizes = (_gib(move["copied_mib"]), f"{move['gain']:.6f}", f"{move['score']:.8f}")
            table.add_row(*_cells(number + 1, waves[number], move["instance"], *nodes, move["ops"], *sizes))
        console.print(table)
    count = len(result["moves"])
    console.print(f"score {result['initial_score']:.8f} -> {result['final_score']:.8f} with {count} moves", end="")
    console.print(f" in {len(result['jobs'])} waves, {_gib(result['copied_mib'])} copied")
    _curve(console, result["curve"])
    for move in result["moves"]:
        if "explain" in move:
            _explained(console, move)


def _curve(console: Console, curve: list[Json]) -> None:
    """At most ten points of score against what was copied."""
    if len(curve) < 3:
        return
    picked = sorted({round(k * (len(curve) - 1) / 9) for k in range(10)})
    table = _table("moves ", "copied ", "score ")
    for k in picked:
        table.add_row(str(k), _gib(curve[k]["copied_mib"]), f"{curve[k]['score']:.8f}")
    console.print(table)


def _explained(console: Console, move: Json) -> None:
    """Why a move leads where it does: the metrics that change, and every other node."""
    why = move["explain"]
    console.print(escape(f"\n{move['instance']}: {move['ops']}; score {why['stays']:.8f} if it stays"))
    changes = (f"{name} {m['before']:.6f} -> {m['after']:.6f}" for name, m in why["metrics"].items())
    console.print(escape(f"  {', '.join(changes)}"))
    table = _table("", "node", "operations", "score ", "why not")
    # The best first; what cannot be had last.
    for node in sorted(why["nodes"], key=lambda one: (one["score"] is None, one["score"] or 0.0)):
        reasons = [f"as {role}: {node[role]}" for role in ("primary", "secondary") if node[role]]
        score = "" if node["score"] is None else f"{node['score']:.8f}"
        table.add_row(
            *_cells("*" if node["chosen"] else "", node["node"], node["ops"] or "", score, "; ".join(reasons))
        )
    console.print(table)


def _capacity(console: Console, result: Json) -> None:
    console.print(f"disk template {result['template']}")
    for kind in ("standard", "tiered"):
        part = result[kind]
        console.print(f"{kind}: {part['instances']} instances fit")
        table = _table("count ", "memory MiB ", "disk MiB ", "vcpus ")
        for step in part["steps"]:
            table.add_row(*_cells(step["count"], step["memory"], step["disk"], step["vcpus"]))
        console.print(table)
        if part["fails"]:
            fails = ", ".join(f"{name} at {count} places" for name, count in part["fails"].items())
            console.print(f"  then {fails}")


def _rolling(console: Console, result: Json) -> None:
    for number, step in enumerate(result["reboot_groups"], 1):
        console.print(escape(f"{number}. {', '.join(step['nodes'])}"))
        for move in step["moves"]:
            console.print(escape(f"     before: {move['instance']} to {', '.join(move['to'])}"))


def _squeeze(console: Console, result: Json) -> None:
    words = {"online": "switch on", "offline": "switch off", "none": "nothing to switch"}
    console.print(escape(f"{words[result['action']]}: {', '.join(result['nodes'])}".removesuffix(": ")))
    if not result["enough"]:
        console.print("even with all of them there is not room enough")
    if result["moves"]:
        _balance(console, result)


def _check(console: Console, result: Json) -> None:
    columns = ("n1_fail", "conflict_tags", "offline_pri", "offline_sec", "gn1_fail", "score")
    for phase in ("before", "after"):
        table = _table(f"{phase} balancing", *(f"{name} " for name in columns))
        for name, health in result[phase]["groups"].items():
            table.add_row(*_cells(name, *(health[c] for c in columns[:-1]), f"{health['score']:.8f}"))
        table.add_row(*_cells("cluster", *(result[phase]["cluster"][c] for c in columns[:-1]), ""))
        console.print(table)
    for loss in result["losses"]:
        console.print(escape(f"loss of {loss['what']} would hurt:"))
        for hurt in loss["hurt"]:
            console.print(escape(f"  {hurt['instance']}: {hurt['reason']}"))
    console.print("the cluster needs balancing" if result["need_rebalance"] else "the cluster is healthy")


_SHOW = {
    "score": _score,
    "balance": _balance,
    "capacity": _capacity,
    "rolling": _rolling,
    "squeeze": _squeeze,
    "check": _check,
}
