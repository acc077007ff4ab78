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
from ansible_collections.twofold.cluster.plugins.module_utils._drbd import Configuration, ResourceState
from ansible_collections.twofold.cluster.plugins.module_utils._drbd_parse import parse_config, put_secret
from ansible_collections.twofold.cluster.plugins.module_utils._errors import Refused, UsageError
from ansible_collections.twofold.cluster.plugins.module_utils._resource import ensure, render
from ansible_collections.twofold.cluster.plugins.module_utils._volume import parse_size
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.plugins.module_utils.conftest import BenchNode


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


IN_SERVICE = "2651E9E26FFBB01C:0000000000000000:0:0:1:1:0:0:0:0:0:0:0"
DISKS = {"/dev/vg0/web1": "old data", "/dev/vg0/web1-meta": "zeros", "/dev/vg0/web1-b": "zeros"}


class Kernel:
    """A resource that is down, whose metadata is as given; remembers what was done in which order."""

    def __init__(self, metadata: str = "used", generations: str = IN_SERVICE) -> None:
        self.found, self.said = metadata, generations
        self.did: list[str] = []

    def configuration(self, _name: str) -> Configuration | None:
        return None

    def validate(self, _name: str, _wanted: Configuration) -> None:
        return

    def state(self, _name: str) -> ResourceState | None:
        return None

    def metadata(self, _name: str, volume: int, _device: str | None, wanted: Configuration) -> str:
        assert "web1" in wanted.text
        self.did.append(f"look {volume}")
        return self.found

    def generations(self, _name: str, _volume: int) -> str:
        return self.said

    def write(self, _name: str, _wanted: Configuration) -> None:
        self.did.append("write")

    def create_metadata(self, _name: str, volume: int) -> None:
        self.did.append(f"create {volume}")

    def outdate(self, _name: str) -> None:
        self.did.append("outdate")

    def adjust(self, _name: str, dry: bool) -> bool:
        assert not dry
        self.did.append("adjust")
        return True


def bring_up(node: BenchNode, kernel: Kernel, **more: Any) -> list[str]:
    for device, content in DISKS.items():
        node.volumes.create("vg0", device.rpartition("/")[2], 64 << 20, [])
        node.volumes.content[device] = content
    node.replication = kernel
    params = wanted(**{"create_metadata": False, **more})
    ensure(node, "web1", params, Configuration(render(params), None))
    return kernel.did


def test_a_copy_that_was_down_is_marked_before_it_comes_up(node: BenchNode) -> None:
    """It cannot know what its peer wrote meanwhile."""
    assert bring_up(node, Kernel()) == ["look 0", "look 1", "write", "outdate", "adjust"]


def test_one_that_was_written_alone_stays_as_it_is(node: BenchNode) -> None:
    alone = IN_SERVICE.replace(":0000000000000000:", ":0000000000000002:")
    assert bring_up(node, Kernel(generations=alone)) == ["look 0", "look 1", "write", "adjust"]


def test_new_metadata_is_no_copy(node: BenchNode) -> None:
    new = "0000000000000004:0000000000000000:0:0:0:0:0:0:0:0:0:0:0"
    did = bring_up(node, Kernel("none", new), volumes=wanted()["volumes"][1:], create_metadata=True)
    assert did == ["look 1", "write", "create 1", "adjust"]


def test_nothing_is_written_when_there_is_no_metadata(node: BenchNode) -> None:
    kernel = Kernel("none")
    with pytest.raises(Refused, match="web1/0 has no DRBD metadata"):
        bring_up(node, kernel)
    assert kernel.did == ["look 0", "look 1"]


def test_nothing_is_written_when_the_place_of_the_metadata_holds_data(node: BenchNode) -> None:
    kernel = Kernel("none")
    inside = [{**wanted()["volumes"][0], "meta_disk": "internal"}]
    with pytest.raises(Refused, match=r"to /dev/vg0/web1, which holds old data .*blkdiscard -z /dev/vg0/web1"):
        bring_up(node, kernel, volumes=inside, create_metadata=True)
    assert kernel.did == ["look 0"]
