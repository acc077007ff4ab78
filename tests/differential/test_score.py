# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The score is that of hbal on random clusters, metric by metric."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.differential import generate, originals

from twofold.placement.score import bad_items, detailed
from twofold.placement.state import State
from twofold.placement.textformat import serialize

pytestmark = [pytest.mark.differential, pytest.mark.nightly]

SHAPES = {
    "one group": generate.Shape(),
    "two groups": generate.Shape(groups=(2, 3), nodes=(4, 10)),
    "exclusive storage": generate.Shape(exclusive_storage=1.0),
    "reserved instances": generate.Shape(forthcoming=0.3, down=0.4),
    "domains": generate.Shape(locations=1.0, exclusion=1.0),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_score_and_metrics_equal_hbal(kind: str, tmp_path: Path) -> None:
    for seed in range(120):
        cluster = generate.cluster(seed, SHAPES[kind])
        file = tmp_path / f"{seed}.data"
        file.write_text(serialize(cluster))
        for number, group in enumerate(cluster.groups):
            printed = originals.run("hbal", "-t", file, "-G", group.name, "-l", "0", "-vvv")
            if "Cluster is empty" in printed.out or "Empty cluster" in printed.out + printed.err:
                continue
            state = State(cluster).subset(number)
            if not state.online.any():
                continue
            overall, table = originals.metrics(printed.out)
            ours = detailed(state)
            assert ours.metrics == pytest.approx(table, abs=1.1e-8), (kind, seed, group.name)
            assert ours.total == pytest.approx(overall, abs=1.1e-8), (kind, seed, group.name)
            bad = re.search(r"(\d+) bad nodes, (\d+) bad instances", printed.out)
            assert bad and tuple(map(len, bad_items(state))) == (int(bad[1]), int(bad[2])), (kind, seed)
