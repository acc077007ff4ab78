# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text format: what is written is read back, and what is wrong is named."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.differential import generate

from twofold.placement.errors import DataError
from twofold.placement.textformat import parse, serialize

SHAPE = generate.Shape(groups=(1, 3), exclusive_storage=0.3, forthcoming=0.2)
GOOD = """\
g|u|preferred||

n1|1024|0|1024|5000|5000|4|M|u|1
n2|1024|0|1024|5000|5000|4|N|u|1|rack:a|N|0|1|1.5

i1|128|512|1|running|Y|n1|n2|drbd|a,b

tag

|128,1,1024,1,1,1|128,1,1024,1,1,1;256,2,2048,1,1,2|drbd,plain|4.0|32.0
"""


@given(st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read_back(seed: int) -> None:
    cluster = generate.cluster(seed, SHAPE)
    assert parse(serialize(cluster)) == cluster


def test_defaults_of_optional_fields() -> None:
    cluster = parse(GOOD)
    first, second = cluster.nodes
    assert (first.master, first.node_cpus, first.cpu_speed, first.exclusive_storage) == (True, 1, 1.0, False)
    assert (second.tags, second.cpu_speed) == (("rack:a",), 1.5)
    (instance,) = cluster.instances
    assert (instance.tags, instance.spindle_use, instance.spindles, instance.forthcoming) == (
        ("a", "b"),
        1,
        None,
        False,
    )
    assert cluster.tags == ("tag",)
    assert cluster.policy.bounds[0][1].memory == 256
    assert parse(serialize(cluster)) == cluster


def test_what_a_node_reports_as_free_may_be_negative() -> None:
    text = GOOD.replace("n2|1024|0|1024|5000|5000|", "n2|1024|-4|-5|5000|-6|")
    node = parse(text).nodes[1]
    assert (node.node_memory, node.free_memory, node.free_disk) == (-4, -5, -6)


def test_a_node_that_did_not_answer_is_offline_and_empty() -> None:
    node = parse(GOOD.replace("n2|1024|0|1024|", "n2|1024|0|?|")).nodes[1]
    assert (node.offline, node.total_memory, node.free_memory, node.total_cpus) == (True, 0, 0, 0)


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "problem"),
    [
        ("g|u|preferred||", "g|u|maybe||", 1, "alloc_policy", "is 'maybe'; expected one of preferred, last_resort"),
        ("n1|1024|0|", "n1|many|0|", 3, "total_memory", "is 'many'; expected MiB"),
        ("n1|1024|0|", "n1|nan|0|", 3, "total_memory", "is 'nan'; expected MiB"),
        ("n1|1024|0|", "n1|-1|0|", 3, "total_memory", "is '-1'; expected MiB, not below 0"),
        ("n1|1024|0|", f"n1|{10**15}|0|", 3, "total_memory", "expected MiB"),
        ("n1|1024|0|", "n1|1024|1_0|", 3, "node_memory", "is '1_0'; expected a whole number of MiB"),
        ("n1|1024|0|", "n1|1024|\u0663|", 3, "node_memory", "expected a whole number of MiB"),
        ("n1|1024|0|1024|", f"n1|1024|0|{10**400}|", 3, "free_memory", "expected a whole number of MiB"),
        ("i1|128|512|1|", "i1|-128|512|1|", 6, "memory", "is '-128'; expected a whole number of MiB, not below 0"),
        ("i1|128|512|1|", "i1|128|512|-1|", 6, "vcpus", "is '-1'; expected a whole number, not below 0"),
        ("|4.0|", "|-4.0|", 10, "vcpu_ratio", "is '-4.0'; expected a number, not below 0"),
        ("256,2,2048,1,1,2", "256,2,2_048,1,1,2", 10, "bounds", "expected six whole numbers each"),
        ("|M|u|1", "|X|u|1", 3, "flag", "is 'X'; expected one of Y, N, M"),
        ("|M|u|1", "|M|v|1", 3, "group", "is 'v'; expected the UUID of a group of the first section"),
        ("n2|1024", "n1|1024", 4, "name", "is 'n1', already on line 3; expected a new one"),
        ("i1|128|", "i1|1.5|", 6, "memory", "is '1.5'; expected a whole number of MiB"),
        ("running", "walking", 6, "status", "is 'walking'; expected one of running"),
        ("|n1|n2|", "|n1|n1|", 6, "secondary", "is 'n1'; expected another node than the primary"),
        ("|n1|n2|", "|n9|n2|", 6, "primary", "is 'n9'; expected the name of a node of the second section"),
        ("|n1|n2|drbd", "|n1||drbd", 6, "secondary", "is ''; expected the name of a node: a drbd instance has two"),
        ("|drbd|a,b", "|paper|a,b", 6, "template", "is 'paper'; expected one of diskless"),
        ("|drbd|a,b", "", 6, "line", "has 8 fields; expected 10 to 13"),
        ("256,2,2048,1,1,2", "256,2", 10, "bounds", "expected six whole numbers each"),
        ("|4.0|", "|four|", 10, "vcpu_ratio", "is 'four'; expected a number"),
        ("\ntag\n\n", "", 8, "sections", "found 3; expected at least 4"),
    ],
)
def test_errors_name_file_line_and_field(old: str, new: str, line: int, field: str, problem: str) -> None:
    assert old in GOOD
    with pytest.raises(DataError) as caught:
        parse(GOOD.replace(old, new, 1), "c.data")
    error = caught.value
    assert (error.source, error.field) == ("c.data", field)
    assert problem in error.problem
    if field != "sections":
        assert error.line == line
        assert str(error).startswith(f"c.data:{line}: {field}: ")
