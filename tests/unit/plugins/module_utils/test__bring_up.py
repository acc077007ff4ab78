# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replication after a boot: what DRBD's tools get, and that one resource keeps down no other."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _bring_up, _drbd_netlink, _node
from ansible_collections.twofold.cluster.plugins.module_utils._bring_up import bring_up
from ansible_collections.twofold.cluster.plugins.module_utils._drbd import FOLDER, Configuration, Drbd
from ansible_collections.twofold.cluster.plugins.module_utils._errors import CommandFailed, TimedOut
from ansible_collections.twofold.cluster.plugins.module_utils._resource import render
from ansible_collections.twofold.cluster.plugins.module_utils._runner import Result
from tests.unit.plugins.module_utils.conftest import BenchNode

SECRET = "not-the-real-one"
PLAN = """drbdsetup-84 new-resource {name}
drbdsetup-84 connect {name} ipv4:198.51.100.11:7100 ipv4:198.51.100.12:7100 --shared-secret={secret} --protocol=C
"""
SINGLE, AHEAD, PARTIAL = "A2:0:0:0:1:1:0", "A2:B0:0:0:1:1:0", "A2:0:0:0:0:0:0"


class Tools:
    """drbdadm and drbdsetup of a node that has just booted."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.up: set[str] = set()
        self.said = [SINGLE, SINGLE]
        self.refused = "nothing"

    def run(self, argv: list[str], *, check: bool = True, **_more: Any) -> Result:
        line = " ".join(argv)
        self.lines.append(line)
        code, out = (1, "") if self.refused in line else self._answer(argv)
        if check and code:
            raise CommandFailed(argv, code, out, "refused")
        return Result(argv, code, out, "unknown resource" if code else "")

    def _answer(self, argv: list[str]) -> tuple[int, str]:
        name = argv[-1]
        if argv[:2] == ["drbdsetup", "events2"]:
            known = f"exists resource name:{name} role:Secondary suspended:no\n"
            return (0, known) if name in self.up else (10, "")
        if "get-gi" in argv:
            number = int(name.partition("/")[2])
            return (0, self.said[number]) if number < len(self.said) else (255, "")
        return 0, PLAN.format(name=name, secret=SECRET) if "--dry-run" in argv else ""

    def marked(self) -> list[str]:
        return [line.split()[-1] for line in self.lines if " outdate " in line]


class Bench:
    """A node's DRBD, with what was told to the kernel and to the tools."""

    def __init__(self, node: BenchNode, monkeypatch: pytest.MonkeyPatch) -> None:
        self.node = node
        self.tools = Tools()
        runner: Any = self.tools
        self.drbd = Drbd(runner, node.files)
        self.told: list[str] = []
        monkeypatch.setattr(_drbd_netlink, "run", self.tell)
        node.files.write("/sys/module/drbd/version", "8.4.11\n")

    def tell(self, name: str, words: list[str]) -> None:
        assert words[2] == name
        self.told.append(name)

    def has(self, *names: str) -> None:
        """Resources of two volumes."""
        volumes = [
            {"number": number, "minor": number, "disk": f"/dev/vg0/disk{number}", "meta_disk": "internal"}
            for number in (0, 1)
        ]
        hosts = [{"name": name, "address": "198.51.100.11", "port": None} for name in ("node1", "node2")]
        wanted = {"port": 7100, "volumes": volumes, "protocol": "C", "secret": SECRET, "hosts": hosts}
        more: dict[str, Any] = {"net_options": {}, "disk_options": {}}
        for name in names:
            self.drbd.write(name, Configuration(render({"name": name, **wanted, **more}), SECRET))


@pytest.fixture
def bench(node: BenchNode, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(node, monkeypatch)


def test_no_secret_gets_onto_a_command_line(bench: Bench) -> None:
    bench.has("web1")
    assert list(bring_up(bench.drbd)) == []
    assert bench.told == ["web1"] and "drbdsetup new-resource web1" in bench.tools.lines
    assert not any(SECRET in line for line in bench.tools.lines)


def test_each_resource_is_configured_from_its_own_file(bench: Bench) -> None:
    """drbdadm reads every file else, and one that is broken stops all."""
    bench.has("web1", "web2")
    bench.node.files.write(f"{FOLDER}/somebody-elses.res", "resource mail { }")
    assert list(bring_up(bench.drbd)) == []
    used = [line for line in bench.tools.lines if line.startswith("drbdadm")]
    assert used and all(line.startswith("drbdadm -c /run/twofold/drbd/web") for line in used)
    assert bench.told == ["web1", "web2"]


def test_what_cannot_come_up_keeps_down_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.has("a-broken", "b-unreadable", "c-silent", "web1")
    bench.tools.refused = "--dry-run adjust a-broken"
    read = bench.node.files.read

    def fail(path: str) -> str | None:
        if path.endswith("b-unreadable.res"):
            raise OSError(5, "Input/output error")
        return read(path)

    def tell(name: str, words: list[str]) -> None:
        if name == "c-silent":
            raise TimedOut("DRBD does not answer")
        bench.tell(name, words)

    monkeypatch.setattr(bench.node.files, "read", fail)
    monkeypatch.setattr(_drbd_netlink, "run", tell)
    problems = list(bring_up(bench.drbd))
    assert [problem.partition(":")[0] for problem in problems] == ["a-broken", "b-unreadable", "c-silent"]
    assert bench.told == ["web1"]


def test_a_secret_that_a_failed_tool_would_have_given_is_not_said(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.has("web1")

    def run(argv: list[str], **_more: Any) -> Result:
        planning = "--dry-run" in argv
        return Result(argv, 20 * planning, PLAN.format(name="web1", secret=SECRET) if planning else "", "")

    monkeypatch.setattr(bench.tools, "run", run)
    (problem,) = bring_up(bench.drbd)
    assert "web1" in problem and SECRET not in problem


@pytest.mark.parametrize(
    ("up", "said", "marked"),
    [
        (False, [SINGLE, SINGLE], True),
        (True, [SINGLE, SINGLE], False),
        (False, [SINGLE, AHEAD], False),
        (False, [PARTIAL, SINGLE], False),
        (False, [], False),
    ],
)
def test_a_copy_is_marked_before_it_comes_up(bench: Bench, up: bool, said: list[str], marked: bool) -> None:
    """Its peer may have gone on, unless this side has what the peer lacks."""
    bench.has("web1")
    bench.tools.up, bench.tools.said = {"web1"} if up else set(), said
    assert list(bring_up(bench.drbd)) == []
    assert bench.tools.marked() == ["web1"] * marked and bench.told == ["web1"]


def test_the_unit_fails_when_one_did_not_come_up_and_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.has("web1", "web2")
    bench.node.replication = bench.drbd
    monkeypatch.setattr(_node, "this_node", lambda: bench.node)
    bench.tools.refused = "--dry-run adjust web1"
    assert _bring_up.main() == 1
    assert capsys.readouterr().out.startswith("web1: ") and bench.told == ["web2"]
    bench.tools.refused = "nothing"
    assert _bring_up.main() == 0 and capsys.readouterr().out == ""
