# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration that is made for people without an inventory of ours, read by the real drbdadm."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils._drbd_parse import parse_config, put_secret
from ansible_collections.twofold.cluster.plugins.module_utils._errors import UsageError
from ansible_collections.twofold.cluster.plugins.module_utils._resource import render
from ansible_collections.twofold.cluster.plugins.module_utils._volume import parse_size
from hypothesis import given
from hypothesis import strategies as st


def wanted(**more: Any) -> dict[str, Any]:
    hosts = [
        {"name": os.uname().nodename, "address": "198.51.100.11", "port": None},
        {"name": "other", "address": "198.51.100.12", "port": 7701},
    ]
    volumes = [
        {"number": 0, "minor": 10, "disk": "/dev/vg0/web1", "meta_disk": "/dev/vg0/web1-meta"},
        {"number": 1, "minor": 11, "disk": "/dev/vg0/web1-b", "meta_disk": "internal"},
    ]
    base = {
        "name": "web1", "hosts": hosts, "port": 7700, "volumes": volumes, "protocol": "C", "secret": "s'3\\x",
        "net_options": {"ping-int": 3, "allow-two-primaries": False}, "disk_options": {"resync-rate": "50M"},
    }  # fmt: skip
    return {**base, **more}


def test_drbdadm_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "web1.res"
    file.write_text("global { usage-count no; }\n" + put_secret(render(wanted()), "s'3\\x"))
    done = subprocess.run(["drbdadm", "-c", str(file), "dump", "web1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for part in ("address", "ipv4 198.51.100.12:7701", "/dev/vg0/web1-meta", "ping-int", "minor 11", "sha256"):
        assert part in done.stdout


def test_the_rendered_text_holds_a_placeholder() -> None:
    text = render(wanted())
    assert "s'3" not in text
    assert "@SECRET@" in text
    assert "shared-secret" not in render(wanted(secret=None))


@given(st.text())
def test_no_value_breaks_out_of_its_place(value: str) -> None:
    try:
        text = render(wanted(disk_options={"resync-rate": value}))
    except UsageError:
        return
    (words, block), *more = parse_config(text)
    assert (words, more) == (["resource", "web1"], [])
    assert block is not None
    assert [inner for name, inner in block if name == ["disk"]] == [[(["resync-rate", value], None)]]


@pytest.mark.parametrize("address", ["node2", "198.51.100.12:1; }", ""])
def test_addresses_are_addresses(address: str) -> None:
    with pytest.raises(UsageError):
        render(wanted(hosts=[{"name": "a", "address": address, "port": None}]))


def test_sizes() -> None:
    assert parse_size("20GiB") == 20 << 30
    assert parse_size("1.5 MiB") == 3 << 19
    for wrong in ("", "twenty", "20XB", "-1GiB", "0"):
        with pytest.raises(UsageError):
            parse_size(wrong)
