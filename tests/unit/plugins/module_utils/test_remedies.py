# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error of the node side says what to do about it, where it is made or by its kind."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _errors
from ansible_collections.twofold.cluster.plugins.module_utils._errors import (
    CommandFailed,
    HypervisorError,
    ParseFailed,
    TimedOut,
    TwofoldError,
)

PLUGINS = Path(__file__).resolve().parents[4] / "plugins"
# Those that have a remedy of their kind.
KINDS = ("CommandFailed", "HypervisorError", "ParseFailed", "TimedOut")
ERRORS = {
    name for name, found in vars(_errors).items() if isinstance(found, type) and issubclass(found, TwofoldError)
} - set(KINDS)


def without_remedy(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the errors that are made with a message alone, or with nothing for a remedy."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
            given = [*node.args[1:2], *(one.value for one in node.keywords if one.arg == "remedy")]
            spread = any(isinstance(one, ast.Starred) for one in node.args)
            nothing = all(isinstance(one, ast.Constant) and not one.value for one in given)
            if nothing and not spread:
                yield node


def test_the_walk_finds_what_lacks_a_remedy() -> None:
    code = (
        "Refused('x')\nRefused('x', None)\nRefused('x', '')\nRefused('x', 'do')\nRefused(*f())\nMissing('x', remedy=r)"
    )
    assert [node.lineno for node in without_remedy(ast.parse(code))] == [1, 2, 3]


@pytest.mark.parametrize("folder", ["module_utils", "modules"])
def test_every_error_that_is_raised_has_a_remedy(folder: str) -> None:
    files = sorted((PLUGINS / folder).glob("*.py"))
    assert files
    found = [
        f"{path.name}:{node.lineno}: {ast.unparse(node)}"
        for path in files
        for node in without_remedy(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    "error",
    [
        ParseFailed("lvm", "?", "here"),
        CommandFailed(["no-such-tool"], 1, "", ""),
        TimedOut("drbdadm up web1 did not end within 60 s"),
        HypervisorError("libvirt: start web1: it does not want"),
    ],
)
def test_the_commonest_have_one_by_their_kind(error: TwofoldError) -> None:
    assert type(error).__name__ in KINDS
    assert error.remedy


@pytest.mark.parametrize(
    ("tool", "place"), [("drbdadm", "drbdadm status"), ("lvcreate", "vgs"), ("vgcreate", "vgs"), ("sleep", "dmesg")]
)
def test_a_failed_command_says_where_to_look(tool: str, place: str) -> None:
    said = str(CommandFailed([tool, "x"], 5, "", "no").remedy)
    assert place in said and "run the same again" in said
    assert CommandFailed([tool], 5, "", "no", "do that").remedy == "do that"


def test_an_error_of_libvirt_says_where_to_look() -> None:
    said = str(HypervisorError("libvirt: start web1: no").remedy)
    assert all(word in said for word in ("journalctl", "libvirtd", "virtqemud", "/var/log/libvirt/qemu"))
