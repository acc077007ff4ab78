# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""balance with hbal's method makes hbal's moves, one by one, under every option."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.differential import generate, originals

from twofold.placement.greedy import Limits, balance
from twofold.placement.moves import operations
from twofold.placement.scan import Rules
from twofold.placement.state import BuildOptions, State
from twofold.placement.textformat import serialize

pytestmark = [pytest.mark.differential, pytest.mark.nightly]

OPTIONS: dict[str, tuple[list[str], Rules, BuildOptions, Limits]] = {
    "plain": ([], Rules(), BuildOptions(), Limits()),
    "evacuation": (["--evac-mode"], Rules(evacuate=True), BuildOptions(), Limits()),
    "restricted": (["--restricted-migration"], Rules(restricted=True), BuildOptions(), Limits()),
    "no disk moves": (["--no-disk-moves"], Rules(disk_moves=False), BuildOptions(), Limits()),
    "no instance moves": (["--no-instance-moves"], Rules(instance_moves=False), BuildOptions(), Limits()),
    "soft errors": (["--ignore-soft-errors"], Rules(ignore_soft=True), BuildOptions(), Limits()),
    "no load": (["--ignore-dynu"], Rules(), BuildOptions(ignore_utilisation=True), Limits()),
    "gains": (
        ["--min-gain=0.05", "--min-gain-limit=2", "-e", "0.2"],
        Rules(),
        BuildOptions(),
        Limits(min_gain=0.05, min_gain_limit=2.0, min_score=0.2),
    ),
    "limits": (
        ["--min-disk=0.5", "--max-cpu=1.5", "-l", "3"],
        Rules(),
        BuildOptions(min_disk=0.5, max_cpu=1.5),
        Limits(max_moves=3),
    ),
    "exclusion": (["--exclusion-tags=power"], Rules(), BuildOptions(exclusion_tags=("power",)), Limits()),
}
SHAPES = [
    generate.Shape(),
    generate.Shape(offline=0.4),
    generate.Shape(nodes=(2, 4), per_node=(3, 8)),
    generate.Shape(migration=1.0, locations=1.0, exclusion=1.0, forthcoming=0.2),
]


def expected(printed: str) -> list[tuple[str, str, str, str]]:
    return [(name, old, new, ops) for name, old, new, _ignored, ops in originals.moves(printed)]


def ours(state: State, rules: Rules, limits: Limits) -> tuple[list[tuple[str, str, str, str]], list[float]]:
    start = state.copy()
    plan = balance(state, rules, limits)
    names = state.nodes.names

    def pair(nodes: tuple[int, int]) -> str:
        return ":".join(names[n] for n in nodes if n >= 0)

    lines = [
        (state.inst.names[s.move.instance], pair(s.source), pair(s.target), operations(start, s.move))
        for s in plan.steps
    ]
    return lines, [s.score for s in plan.steps]


@pytest.mark.parametrize("option", OPTIONS)
def test_moves_equal_hbal(option: str, tmp_path: Path) -> None:
    arguments, rules, build, limits = OPTIONS[option]
    moved = 0
    for seed in range(60):
        cluster = generate.cluster(1000 + seed, SHAPES[seed % len(SHAPES)])
        file = tmp_path / f"{seed}.data"
        file.write_text(serialize(cluster))
        printed = originals.run("hbal", "-t", file, *arguments)
        lines, scores = ours(State(cluster, build).subset(0), rules, limits)
        assert lines == expected(printed.out), (option, seed)
        assert scores == pytest.approx([m[3] for m in originals.moves(printed.out)], abs=1.1e-8), (option, seed)
        moved += len(lines)
    assert moved > 20, "the clusters gave hbal too little to do"


def test_moves_equal_hbal_with_measured_load(tmp_path: Path) -> None:
    for seed in range(40):
        cluster = generate.cluster(3000 + seed)
        rng = random.Random(seed)
        load = {
            i.name: (rng.random(), rng.random(), rng.random(), rng.random())
            for i in cluster.instances
            if rng.random() < 0.8
        }
        file, util = tmp_path / f"{seed}.data", tmp_path / f"{seed}.util"
        file.write_text(serialize(cluster))
        util.write_text("".join(f"{name} {' '.join(map(repr, values))}\n" for name, values in load.items()))
        printed = originals.run("hbal", "-t", file, "-U", util)
        lines, _ignored = ours(State(cluster, BuildOptions(utilisation=load)).subset(0), Rules(), Limits())
        assert lines == expected(printed.out), seed
