# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses: the lowest one that is neither taken nor reserved, however large what is reserved."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.lib.cases import desired

from twofold.model import Network
from twofold.observed import Observed
from twofold.planner.claims import Claims


def claims() -> Claims:
    return Claims(desired({}), Observed({}))


def given_out(cidr: str, reserved: Iterable[str] = (), gateway: str | None = None) -> Iterator[str]:
    network, made = Network(bridge="br0", cidr=cidr, reserved=list(reserved), gateway=gateway), claims()
    return iter(lambda: made.address(network, "web1"), None)


@pytest.mark.parametrize("cidr", ["192.0.2.0/30", "192.0.2.0/31", "192.0.2.7/32", "2001:db8::/126", "2001:db8::/127"])
def test_every_host_of_a_network_is_given_out(cidr: str) -> None:
    assert list(given_out(cidr)) == [str(one) for one in ipaddress.ip_network(cidr).hosts()]


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=4), st.integers(1, 14))
def test_what_is_reserved_is_passed_over(pairs: list[tuple[int, int]], gateway: int) -> None:
    pool = ipaddress.ip_network("203.0.113.0/28")
    ranges = [(min(pair), max(pair)) for pair in pairs]
    left = [
        str(pool[n]) for n in range(1, 15) if n != gateway and not any(first <= n <= last for first, last in ranges)
    ]
    texts = [f"{pool[first]}-{pool[last]}" for first, last in ranges]
    assert list(given_out(str(pool), texts, str(pool[gateway]))) == left


def test_a_large_reserved_range_is_not_walked_through() -> None:
    half = given_out("2001:db8::/64", ["2001:db8::-2001:db8::7fff:ffff:ffff:ffff"])
    assert list(itertools.islice(half, 2)) == ["2001:db8:0:0:8000::", "2001:db8::8000:0:0:1"]
    assert list(given_out("2001:db8::/64", ["2001:db8::-2001:db8::ffff:ffff:ffff:ffff"])) == []
