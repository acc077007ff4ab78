# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of DRBD's tools, and what is made of their answers, as drbd-utils 9.22 gave them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils._drbd import FOLDER, Configuration, Drbd
from ansible_collections.twofold.cluster.plugins.module_utils._errors import CommandFailed, Refused
from ansible_collections.twofold.cluster.plugins.module_utils._files import RUN
from ansible_collections.twofold.cluster.plugins.module_utils._node import Node
from ansible_collections.twofold.cluster.plugins.module_utils._runner import Result

NONE = "No valid meta data found\n"


class Tools:
    """Answers by command: exit status, standard output, standard error."""

    def __init__(self, **answers: tuple[int, str, str]) -> None:
        self.answers = {name.replace("_", "-"): answer for name, answer in answers.items()}

    def run(self, argv: list[str], **_more: Any) -> Result:
        command = next(word for word in argv if word in self.answers)
        return Result(argv, *self.answers[command])


def drbd(node: Node, **answers: tuple[int, str, str]) -> Drbd:
    return Drbd(Tools(**answers), node.files)


def test_a_device_without_metadata_makes_get_gi_fail_without_a_word(node: Node) -> None:
    found = drbd(node, get_gi=(1, "", ""), dump_md=(1, "", NONE))
    assert found.metadata("web1", 0, None) == "none"


def test_metadata_that_cannot_be_read_is_not_taken_for_none(node: Node) -> None:
    found = drbd(node, get_gi=(1, "", ""), dump_md=(20, "", "Device is configured!\n"))
    with pytest.raises(CommandFailed, match="Device is configured"):
        found.metadata("web1", 0, None)


@pytest.mark.parametrize(("current", "said"), [("0000000000000004", "new"), ("2651E9E26FFBB01C", "used")])
def test_metadata_tells_whether_it_was_in_service(node: Node, current: str, said: str) -> None:
    found = drbd(node, get_gi=(0, f"{current}:0000000000000000:0:0:0:0:0:0:0:0:0:0:0\n", ""))
    assert found.metadata("web1", 0, None) == said


def test_metadata_is_read_before_its_file_is_in_place(node: Node) -> None:
    """With a trial of the configuration, which is gone afterwards."""
    tools = Tools(get_gi=(0, "0000000000000004:0000000000000000:0:0:0:0:0:0:0:0:0:0:0\n", ""))
    found = Drbd(tools, node.files)
    assert found.metadata("web1", 0, None, Configuration("resource web1 {}", None)) == "new"
    assert node.files.names(FOLDER) == [] == node.files.names(f"{RUN}/drbd")


def test_a_device_for_metadata_that_is_not_there_is_named(node: Node) -> None:
    with pytest.raises(Refused, match=r"/dev/no-such-meta cannot be read: No such file or directory .*meta_disk"):
        drbd(node).metadata("web1", 0, "/dev/no-such-meta")
