# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the simulation says of DRBD is so: the same histories end in the same states on its model and on real nodes."""

from __future__ import annotations

import pytest
from tests.simulation.honesty import BOTH, CALM, LINK, POWER, Match, Model, program

from .cluster import Cluster
from .honest_nodes import RealNodes

pytestmark = [pytest.mark.lab, pytest.mark.nightly]
SEED = 1


@pytest.mark.parametrize("name", [CALM, LINK, POWER, BOTH])
def test_the_model_says_what_nodes_do(cluster: Cluster, name: str) -> None:
    different = Match(program(name, SEED), Model(), RealNodes(cluster.lab)).play()
    assert not different, "\n".join(f"{resource}: {text}" for resource, text in different.items())
