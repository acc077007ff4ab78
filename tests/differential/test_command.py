# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command understands the originals' options: the same words to both give the same answer."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from tests.differential import generate, originals

from twofold import cli
from twofold.placement.model import Cluster
from twofold.placement.textformat import serialize

pytestmark = [pytest.mark.differential, pytest.mark.nightly]

DOMAIN = ".example.com"


def long_names(world: Cluster) -> Cluster:
    """The same cluster with full names, which options may shorten."""
    nodes = tuple(replace(n, name=n.name + DOMAIN) for n in world.nodes)
    instances = tuple(
        replace(i, name=i.name + DOMAIN, primary=i.primary + DOMAIN, secondary=i.secondary and i.secondary + DOMAIN)
        for i in world.instances
    )
    return replace(world, nodes=nodes, instances=instances)


def some_options(rng: random.Random, world: Cluster, folder: Path) -> list[str]:
    """A few of hbal's options at once, names in short."""
    names = [i.name.removesuffix(DOMAIN) for i in world.instances]
    util = folder / "util"
    load = [f"{name}{DOMAIN} {rng.random():.3f} 1 0.5 2" for name in names[::2]]
    util.write_text("\n".join([*load, "ghost 1 1 1 1", "inst000 9 9 9 9", ""]))
    every = [
        ["--evac-mode"],
        ["--restricted-migration"],
        ["--no-disk-moves"],
        ["--no-instance-moves"],
        ["--ignore-soft-errors"],
        ["--ignore-dynu"],
        ["-O", rng.choice(world.nodes).name.removesuffix(DOMAIN)],
        ["-U", str(util)],
        ["-l", str(rng.randint(0, 4))],
        ["--min-disk=0.3"],
        ["--max-cpu=2"],
        ["--min-gain=0.05", "--min-gain-limit=5"],
        ["--min-score=0.3"],
        ["--exclusion-tags=power,service"],
        ["--select-instances", ",".join(names[::2])],
        ["--exclude-instances", ",".join(names[1::3])],
    ]
    return [word for option in rng.sample(every, rng.randint(1, 4)) for word in option if option[-1]]


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    status = cli.main([str(a) for a in arguments])
    return status, capsys.readouterr().out


def test_combined_options_give_hbals_moves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved, file = 0, tmp_path / "c.data"
    for seed in range(150):
        rng = random.Random(seed)
        shape = generate.Shape(offline=0.3, groups=(1, 2), nodes=(4, 8))
        world = long_names(generate.cluster(15000 + seed, shape))
        if not world.instances:
            continue
        arguments = [*some_options(rng, world, tmp_path), "-G", rng.choice(world.groups).name]
        file.write_text(serialize(world))
        printed = originals.run("hbal", "-t", file, *arguments)
        status, out = answer(capsys, "balance", "--method", "hbal", "--json", "-t", file, *arguments)
        assert (printed.status, status) == (0, 0), (seed, arguments, printed.err)
        ours = [
            (m["instance"].removesuffix(DOMAIN), *(":".join(short(m[key])) for key in ("from", "to")), m["score"])
            for m in json.loads(out)["moves"]
        ]
        theirs = originals.moves(printed.out)
        assert [one[:3] for one in ours] == [one[:3] for one in theirs], (seed, arguments)
        assert [one[3] for one in ours] == pytest.approx([one[3] for one in theirs], abs=1.1e-8), (seed, arguments)
        moved += len(ours)
    assert moved > 150


def short(names: list[str]) -> list[str]:
    return [name.removesuffix(DOMAIN) for name in names]


def test_combined_options_give_hchecks_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.data"
    statuses = set()
    for seed in range(60):
        rng = random.Random(seed)
        world = long_names(generate.cluster(17000 + seed, generate.Shape(groups=(1, 2), nodes=(4, 8), forthcoming=0.0)))
        file.write_text(serialize(world))
        arguments = ["-t", str(file), *some_options(rng, world, tmp_path)]
        arguments = [a for a in arguments if a != "--restricted-migration"]  # hcheck does not have it
        arguments += ["--no-simulation"] if rng.random() < 0.2 else []
        unasked = rng.random() < 0.2
        arguments += ["--no-capacity-checks"] if unasked else []
        printed = originals.run("hcheck", "--machine-readable", *arguments)
        status, out = answer(capsys, "check", "--json", "--single-losses", *arguments)
        assert status == printed.status, (seed, arguments, printed.err)
        statuses.add(status)
        keys, found = originals.keys(printed.out, "HCHECK"), json.loads(out)
        for phase, name in (("INIT", "before"), ("FINAL", "after")):
            for key in ("n1_fail", "conflict_tags", "offline_pri", *([] if unasked else ["gn1_fail"])):
                ours = found[name]["cluster"][key]
                assert ours == int(keys[f"{phase}_CLUSTER_{key.upper()}"]), (seed, arguments, name, key)
    assert statuses == {0, 1}


def test_combined_options_give_hspaces_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, tiers = tmp_path / "c.data", 0
    for seed in range(60):
        rng = random.Random(seed)
        world = generate.cluster(16000 + seed, generate.Shape(groups=(1, 2), nodes=(2, 5), forthcoming=0.0))
        file.write_text(serialize(world))
        every = [
            ["--no-capacity-checks"],
            ["--accept-existing-errors"],
            ["--independent-groups"],
            ["-O", rng.choice(world.nodes).name],
            ["--min-disk=0.3"],
            ["--max-cpu=2"],
            ["--standard-alloc=20g,2g,2"],
        ]
        arguments = [word for option in rng.sample(every, rng.randint(1, 3)) for word in option]
        arguments += ["--tiered-alloc=60g,9g,3", "--disk-template", rng.choice(("drbd", "plain", "ext"))]
        arguments = ["-t", str(file), "--machine-readable", *arguments]
        printed = originals.run("hspace", *arguments)
        if printed.status:
            assert "online nodes" in printed.err, (seed, arguments, printed.err)
            continue
        status, out = answer(capsys, "capacity", "--method", "hspace", *arguments)
        assert status == 0, (seed, arguments)
        ours, theirs = originals.keys(out), originals.keys(printed.out)
        assert ours["TSPEC"] == theirs["TSPEC"], (seed, arguments)
        originals.same_keys(ours, theirs)
        tiers += len(theirs["TSPEC"].split())
    assert tiers > 100


def test_combined_options_give_hrollers_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, planned = tmp_path / "c.data", 0
    for seed in range(80):
        rng = random.Random(seed)
        world = generate.cluster(18000 + seed, generate.Shape(groups=(1, 2), nodes=(4, 9), offline=0.0))
        file.write_text(serialize(world))
        every = [
            ["-O", rng.choice(world.nodes).name],
            ["-G", rng.choice(world.groups).uuid],
            ["--offline-maintenance"],
            ["--ignore-non-redundant"],
            ["--skip-non-redundant"],
            ["--node-tags=power:p1,rack:r1,hv:new"],
            ["--one-step-only"],
        ]
        arguments = [word for option in rng.sample(every, rng.randint(1, 3)) for word in option]
        arguments = ["-t", str(file), *arguments, "--force"]
        printed = originals.run("hroller", "--no-headers", *arguments)
        status, out = answer(capsys, "rolling", "--json", *arguments)
        assert status == printed.status, (seed, arguments, printed.err)
        if not status:
            ours = [",".join(group["nodes"]) for group in json.loads(out)["reboot_groups"]]
            # With --one-step-only hroller prints one node a line.
            theirs = printed.out.split()
            assert ours == ([",".join(theirs)] if "--one-step-only" in arguments else theirs), (seed, arguments)
            planned += 1
    assert planned > 40
