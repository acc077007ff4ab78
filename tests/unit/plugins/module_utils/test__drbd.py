# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which commands DRBD's tools get."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _drbd_netlink
from ansible_collections.twofold.cluster.plugins.module_utils._drbd import Drbd
from ansible_collections.twofold.cluster.plugins.module_utils._errors import CommandFailed
from ansible_collections.twofold.cluster.plugins.module_utils._node import Node
from ansible_collections.twofold.cluster.plugins.module_utils._runner import Result

CONNECT = (
    "drbdsetup-84 connect web1 ipv4:198.51.100.11:7100 ipv4:198.51.100.12:7100 --set-defaults=yes "
    "--shared-secret=not-the-real-one --protocol=C\n"
)
# What drbdadm plans for a resource of two volumes that is down.
ADJUST = (
    "drbdsetup-84 new-resource web1\n"
    "drbdsetup-84 new-minor web1 1000 0\n"
    "drbdsetup-84 new-minor web1 1001 1\n"
    "drbdmeta 1000 v08 /dev/vg0/web1-disk0-meta flex-external apply-al\n"
    "drbdsetup-84 attach 1000 /dev/vg0/web1-disk0 /dev/vg0/web1-disk0-meta flexible --on-io-error=detach\n"
    "drbdmeta 1001 v08 /dev/vg0/web1-disk1-meta flex-external apply-al\n"
    "drbdsetup-84 attach 1001 /dev/vg0/web1-disk1 /dev/vg0/web1-disk1-meta flexible --on-io-error=detach\n"
)


class Tools:
    """Keeps the command lines; a dry run of `connect` or `adjust` says what drbdadm would run.

    What ends with `broken` fails.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.broken: tuple[str, ...] = ()

    def run(self, argv: list[str], **_more: Any) -> Result:
        line = " ".join(argv)
        self.lines.append(line)
        if "--dry-run" in argv:
            return Result(argv, 0, ADJUST + CONNECT if "adjust" in argv else CONNECT, "")
        if any(part in line for part in self.broken):
            raise CommandFailed(argv, 20, "", "Input/output error")
        return Result(argv, 0, "", "")


@pytest.fixture
def drbd(node: Node) -> tuple[Drbd, Tools]:
    tools: Any = Tools()
    node.files.write("/sys/module/drbd/version", "8.4.11\n")
    node.files.write("/sys/block/drbd1000/size", "131072\n")
    return Drbd(tools, node.files), tools


def test_giving_up_data_is_said_to_the_kernel_without_a_command_line(
    drbd: tuple[Drbd, Tools], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[str]] = []
    monkeypatch.setattr(_drbd_netlink, "run", lambda name, words: told.append([name, *words]))
    drbd[0].discard("web1")
    ((name, *words),) = told
    assert name == "web1" and words[1:3] == ["connect", "web1"] and words[-1] == "--discard-my-data"
    assert not any("not-the-real-one" in line for line in drbd[1].lines)
    flag = _drbd_netlink.attribute(_drbd_netlink.FLAGS["discard-my-data"], b"\1")
    assert flag in _drbd_netlink.encode(words)[1]


def test_what_is_copied_as_a_whole_gets_new_metadata_while_it_is_down(
    drbd: tuple[Drbd, Tools], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_drbd_netlink, "run", lambda *_args: None)
    drbd[0].discard("web1", [0, 1])
    down, *made = [line for line in drbd[1].lines if "dry-run" not in line][:3]
    assert down == "drbdsetup down web1"
    assert [line.split(" -- ")[1] for line in made] == ["--force create-md web1/0", "--force create-md web1/1"]
    assert "adjust web1" in drbd[1].lines[3]


@pytest.mark.parametrize(
    ("broken", "left_out"),
    [("1000 v08", ["drbdsetup attach 1000"]), ("attach 1000", []), ("attach 100", [])],
)
def test_a_disk_that_cannot_be_attached_holds_up_nothing_else(
    drbd: tuple[Drbd, Tools], monkeypatch: pytest.MonkeyPatch, broken: str, left_out: list[str]
) -> None:
    told: list[list[str]] = []
    monkeypatch.setattr(_drbd_netlink, "run", lambda _name, words: told.append(words))
    drbd[1].broken = (broken,)
    with pytest.raises(CommandFailed, match=r"1000 .*Input/output error"):
        drbd[0].adjust("web1", dry=False)
    planned = [line.replace("-84", "") for line in ADJUST.splitlines()]
    expected = [line for line in planned if not any(part in line for part in left_out)]
    assert [line for line in drbd[1].lines if "--dry-run" not in line] == expected
    (connected,) = told
    assert connected[1:3] == ["connect", "web1"]


def test_without_its_resource_or_device_nothing_more_is_tried(
    drbd: tuple[Drbd, Tools], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[str]] = []
    monkeypatch.setattr(_drbd_netlink, "run", lambda _name, words: told.append(words))
    drbd[1].broken = ("new-minor web1 1001",)
    with pytest.raises(CommandFailed, match="new-minor web1 1001"):
        drbd[0].adjust("web1", dry=False)
    assert "new-minor" in drbd[1].lines[-1] and not told


@pytest.mark.parametrize(("clean", "words"), [(True, "-- --assume-clean resize web1/0"), (False, "resize web1/0")])
def test_only_what_is_equal_grows_without_a_resync(drbd: tuple[Drbd, Tools], clean: bool, words: str) -> None:
    drbd[0].resize("web1", 0, clean)
    line = drbd[1].lines[-1]
    assert line.endswith(words) and ("assume-clean" in line) == clean


def test_the_size_of_a_device_is_in_bytes(drbd: tuple[Drbd, Tools]) -> None:
    assert drbd[0].size(1000) == 64 << 20
    assert drbd[0].size(1001) is None
