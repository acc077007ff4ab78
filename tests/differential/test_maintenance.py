# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""rolling, squeeze and check give what hroller, hsqueeze and hcheck give (but for two faults of hcheck)."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.differential import generate, originals

from twofold.placement.check import check, total
from twofold.placement.errors import RequestError
from twofold.placement.model import Cluster, Spec
from twofold.placement.rolling import RollingOptions, rolling
from twofold.placement.squeeze import SqueezeOptions, squeeze
from twofold.placement.state import N_SEC, State
from twofold.placement.textformat import serialize

pytestmark = [pytest.mark.differential, pytest.mark.nightly]

ROLLING: dict[str, tuple[list[str], RollingOptions]] = {
    "plain": ([], RollingOptions()),
    "offline": (["--offline-maintenance"], RollingOptions(offline=True)),
    "ignore": (["--ignore-non-redundant"], RollingOptions(ignore_single=True)),
    "skip": (["--skip-non-redundant"], RollingOptions(skip_single=True)),
    "tags": (["--node-tags=power:p1,power:p2"], RollingOptions(tags=("power:p1", "power:p2"))),
}
SHAPES = [
    generate.Shape(nodes=(3, 9)),
    generate.Shape(nodes=(4, 9), groups=(2, 2), templates=("drbd",)),
    generate.Shape(nodes=(4, 9), templates=("drbd", "drbd", "drbd", "drbd", "plain")),
]


def reboots(state: State, options: RollingOptions) -> list[str]:
    lines = []
    for step in rolling(state, options):
        lines.append(",".join(state.nodes.names[n] for n in step.nodes))
        for i, p, s in step.moves:
            names = [state.inst.names[i], *(state.nodes.names[n] for n in (p, s) if n >= 0)]
            lines.append("  " + " ".join(names))
    return lines


def same_reboots(world: Cluster, arguments: list[str], options: RollingOptions, file: Path) -> bool:
    """Compare with hroller; False when both find that it cannot be done."""
    file.write_text(serialize(world))
    printed = originals.run("hroller", "-t", file, "--no-headers", "--print-moves", *arguments)
    try:
        ours = reboots(State(world), options)
    except RequestError as error:
        assert printed.status == 1, (file, error)
        return False
    assert printed.status == 0, (file, printed.err)
    assert ours == printed.out.splitlines(), (arguments, file)
    return True


@pytest.mark.parametrize("option", ROLLING)
def test_rolling_equals_hroller(option: str, tmp_path: Path) -> None:
    arguments, options = ROLLING[option]
    planned = 0
    for seed in range(60):
        world = generate.cluster(11000 + seed, SHAPES[seed % len(SHAPES)])
        planned += same_reboots(world, arguments, options, tmp_path / f"{seed}.data")
    assert planned > 20


EMPTYING = {
    "empty": ([], RollingOptions(evacuate=True)),
    "empty, offline": (["--offline-maintenance"], RollingOptions(evacuate=True, offline=True)),
    "empty, ignore": (["--ignore-non-redundant"], RollingOptions(evacuate=True, ignore_single=True)),
}


@pytest.mark.parametrize("option", EMPTYING)
def test_emptying_equals_hroller_where_all_nodes_are_rebooted(option: str, tmp_path: Path) -> None:
    """With nodes that stay out (offline, other tags), hroller empties those between the others, too, and confuses
    the old secondary with the primary: what it prints then is not to be had."""
    arguments, options = EMPTYING[option]
    planned = 0
    for seed in range(60):
        world = generate.cluster(11000 + seed, replace(SHAPES[seed % len(SHAPES)], offline=0.0))
        planned += same_reboots(world, ["--full-evacuation", *arguments], options, tmp_path / f"{seed}.data")
    assert planned > 20


def test_squeeze_equals_hsqueeze(tmp_path: Path) -> None:
    actions = []
    for seed in range(60):
        rng = random.Random(seed)
        shape = generate.Shape(nodes=(3, 7), templates=("ext", "rbd", "drbd"), offline=0.3, per_node=(0, 4))
        world = standby(generate.cluster(12000 + seed, shape), rng)
        std = Spec(rng.choice((1024, 4096, 12000)), rng.choice((1, 4)), 1024)
        world = replace(world, policy=replace(world.policy, std=std))
        file = tmp_path / f"{seed}.data"
        file.write_text(serialize(world))
        factors = [f"--minimal-resources={0.5 + seed % 3}", f"--target-resources={1.0 + seed % 2}"]
        printed = originals.run("hsqueeze", "-t", file, *factors)
        assert printed.status == 0, printed.err
        header, *names = printed.out.splitlines()
        found = squeeze(State(world), SqueezeOptions(0.5 + seed % 3, 1.0 + seed % 2))
        action = {"'Nodes to online'": "online", "'Nodes to offline'": "offline", "'No action'": "none"}[header]
        assert (found.action, [world.nodes[n].name for n in found.nodes]) == (action, names), seed
        actions.append(action)
    assert {"online", "offline", "none"} == set(actions)


def standby(world: Cluster, rng: random.Random) -> Cluster:
    nodes = tuple(
        replace(n, tags=(*n.tags, "htools:standby:manual")) if n.offline and rng.random() < 0.7 else n
        for n in world.nodes
    )
    return replace(world, nodes=nodes)


def test_check_equals_hcheck(tmp_path: Path) -> None:
    unhealthy = 0
    for seed in range(80):
        world = generate.cluster(13000 + seed, replace(SHAPES[seed % 2], exclusion=0.8, forthcoming=0.0))
        file = tmp_path / f"{seed}.data"
        file.write_text(serialize(world))
        printed = originals.run("hcheck", "-t", file, "--machine-readable")
        keys = dict(re.findall(r"^HCHECK_(\w+)='?([^'\n]*)'?$", printed.out, re.MULTILINE))
        state = State(world)
        found = check(state)
        unhealthy += not found.healthy
        for phase, groups in (("INIT", found.before), ("FINAL", found.after)):
            for g in groups:
                prefix = f"{phase}_GROUP_{g.group}"
                assert float(keys[f"{prefix}_SCORE"]) == pytest.approx(g.score, abs=1.1e-8), (seed, phase)
                for name in ("N1_FAIL", "CONFLICT_TAGS", "OFFLINE_PRI", "GN1_FAIL"):
                    assert int(keys[f"{prefix}_{name}"]) == getattr(g.health, name.lower()), (seed, phase, name)
        counted = total(found.before).offline_sec
        assert counted == state.dyn[N_SEC][state.nodes.offline].sum()
    assert unhealthy > 20
