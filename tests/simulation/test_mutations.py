# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mutation check: a product that was broken on purpose is noticed, for each rule more than once."""

from __future__ import annotations

import pytest
from tests.simulation.mutations import MUTATIONS, Mutation, hunt
from tests.simulation.rules import TEXTS


def test_each_rule_has_at_least_two() -> None:
    for rule in TEXTS:
        assert sum(mutation.rule == rule for mutation in MUTATIONS) >= 2, TEXTS[rule]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.text)
def test_a_broken_product_is_noticed(mutation: Mutation) -> None:
    found = hunt(mutation)
    assert found is not None, f"nobody notices: {mutation.text}"
