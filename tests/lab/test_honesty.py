# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the simulation says of DRBD and libvirt is so: the same histories end alike on its models and on real nodes."""

from __future__ import annotations

import pytest
from tests.simulation import honesty, honesty_guests
from tests.simulation.honesty import Match, Model
from tests.simulation.honesty_guests import GuestModel

from .cluster import Cluster
from .honest_guests import RealGuests
from .honest_nodes import RealNodes

pytestmark = [pytest.mark.lab, pytest.mark.nightly]
SEED = 1


@pytest.mark.parametrize("name", honesty.EVENTS)
def test_the_model_says_what_drbd_does(cluster: Cluster, name: str) -> None:
    agrees(Match(honesty.program(name, SEED), Model(), RealNodes(cluster.lab)))


@pytest.mark.parametrize("name", honesty_guests.EVENTS)
def test_the_model_says_what_libvirt_does(cluster: Cluster, name: str) -> None:
    agrees(Match(honesty_guests.program(name, SEED), GuestModel(), RealGuests(cluster.lab)))


def agrees(match: Match) -> None:
    different = match.play()
    assert not different, "\n".join(f"{name}: {text}" for name, text in different.items())
