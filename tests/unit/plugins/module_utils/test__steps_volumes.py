# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose volumes are touched, and what is repeated after an interruption."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _definitions
from ansible_collections.twofold.cluster.plugins.module_utils._errors import Refused, UsageError
from ansible_collections.twofold.cluster.plugins.module_utils._steps import Args, Done, find
from tests.unit.plugins.module_utils.conftest import BenchNode

DATA = {"volume_group": "vg0", "name": "web1-disk0", "size": 100 << 20, "disk": 0, "role": "data", "pending": ["wipe"]}
META = {"volume_group": "vg0", "name": "web1-disk0-meta", "size": 4 << 20, "disk": 0, "role": "meta"}


def run(node: BenchNode, op: str, **values: Any) -> Done:
    return find(op)(node, Args(op, values))


def create(node: BenchNode, *volumes: dict[str, Any]) -> Done:
    return run(node, "volumes.create", instance="web1", volumes=list(volumes))


def test_new_volumes_are_zero_and_marked(node: BenchNode) -> None:
    assert create(node, {**DATA, "pending": ["wipe", "install"]}, META).changed
    data, meta = node.volumes.volumes()
    assert data.pending() == ["install"]
    assert "twofold.zeroed" in data.tags
    assert meta.pending() == ["metadata", "wipe"], "it is zeroed where it gets its metadata"
    assert node.volumes.content[data.device] == "zeros"
    assert not create(node, {**DATA, "pending": ["wipe", "install"]}, META).changed


def test_an_interrupted_wipe_is_repeated(node: BenchNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(node.devices, "zero", die)
        with pytest.raises(KeyboardInterrupt):
            create(node, DATA)
    assert all("wipe" in one.pending() for one in node.volumes.volumes())
    assert create(node, DATA).changed
    assert set(node.volumes.content.values()) == {"zeros"}
    assert not any("wipe" in one.pending() for one in node.volumes.volumes())


def test_what_a_guest_may_have_used_is_not_zeroed(node: BenchNode) -> None:
    tags = ["twofold", "twofold.instance=web1", "twofold.disk=0", "twofold.role=data", "twofold.pending=wipe"]
    node.volumes.create("vg0", "web1-disk0", 100 << 20, tags)
    xml = "<domain type='test'><name>web1</name><memory>8192</memory><os><type>hvm</type></os></domain>"
    node.hypervisor.define(xml)
    with pytest.raises(Refused, match="web1 is defined on this node and may have used it"):
        create(node, DATA)
    assert node.volumes.content == {"/dev/vg0/web1-disk0": "old data"}
    node.hypervisor.undefine("web1")
    assert create(node, DATA).changed


@pytest.mark.parametrize("tags", [[], ["twofold"], ["twofold", "twofold.instance=db1"]])
@pytest.mark.parametrize("op", ["volumes.create", "volumes.remove"])
def test_other_peoples_volumes_are_left_alone(node: BenchNode, tags: list[str], op: str) -> None:
    node.volumes.create("vg0", "web1-disk0", 100 << 20, [*tags, "twofold.pending=wipe"])
    with pytest.raises(Refused, match="not marked as belonging to web1"):
        run(node, op, instance="web1", volumes=[DATA])
    assert node.volumes.content == {"/dev/vg0/web1-disk0": "old data"}
    assert len(node.volumes.volumes()) == 1


def test_a_disk_in_service_gets_no_new_metadata(node: BenchNode) -> None:
    create(node, DATA, META)
    meta = node.volumes.find("vg0", "web1-disk0-meta")
    assert meta is not None
    node.volumes.remove([meta])
    with pytest.raises(Refused, match="has been in service"):
        create(node, DATA, META)
    assert node.volumes.find("vg0", "web1-disk0-meta") is None


def test_a_new_disk_never_gets_the_metadata_of_a_lost_one(node: BenchNode) -> None:
    """It would say of the new volume, which holds nothing, that it is up to date."""
    create(node, DATA, META)
    data, meta = node.volumes.volumes()
    node.volumes.retag([meta], [], ["twofold.pending=metadata"])
    node.volumes.remove([data])
    assert create(node, {**DATA, "pending": ["sync"]}, META).changed
    pending = {one.name: one.pending() for one in node.volumes.volumes()}
    assert pending == {"web1-disk0": ["sync"], "web1-disk0-meta": ["metadata", "wipe"]}


def test_metadata_in_use_is_not_made_anew(node: BenchNode) -> None:
    create(node, DATA, META)
    data, meta = node.volumes.volumes()
    node.volumes.remove([data])
    node.volumes.known[meta.path] = meta._replace(open=True)
    with pytest.raises(Refused, match="is in use, but the disk that it is about is gone"):
        create(node, DATA, META)
    assert [one.name for one in node.volumes.volumes()] == ["web1-disk0-meta"]


def test_nothing_is_made_when_not_everything_fits(node: BenchNode) -> None:
    with pytest.raises(Refused, match="bytes free"):
        create(node, DATA, {**DATA, "name": "web1-disk1", "disk": 1, "size": 1 << 40})
    assert node.volumes.volumes() == []


def test_check_mode_makes_nothing(node: BenchNode) -> None:
    node.check_mode = True
    assert create(node, DATA, META).changed
    assert node.volumes.volumes() == []


@pytest.mark.parametrize("name", ["../etc", "a/b", "-f", "", "a b"])
def test_names_cannot_lead_elsewhere(node: BenchNode, name: str) -> None:
    with pytest.raises(UsageError):
        create(node, {**DATA, "name": name})
    with pytest.raises(UsageError):
        run(node, "volumes.create", instance=name, volumes=[DATA])


def test_lost_tags_come_back_where_the_definition_names_the_disk(node: BenchNode) -> None:
    node.volumes.create("vg0", "web1-disk0", 100 << 20, ["twofold"])
    wanted = [{"volume_group": "vg0", "name": "web1-disk0", "tags": ["twofold", "twofold.instance=web1"]}]
    with pytest.raises(Refused, match="has no disk"):
        run(node, "volumes.tag", instance="web1", volumes=wanted)
    _definitions.write(node.files, {"name": "web1", "disks": [{"index": 0, "volume_group": {"node1": "vg0"}}]})
    assert run(node, "volumes.tag", instance="web1", volumes=wanted).changed
    assert not run(node, "volumes.tag", instance="web1", volumes=wanted).changed


def test_a_volume_of_another_instance_is_not_tagged_over(node: BenchNode) -> None:
    node.volumes.create("vg0", "web1-disk0", 100 << 20, ["twofold", "twofold.instance=db1"])
    wanted = [{"volume_group": "vg0", "name": "web1-disk0", "tags": ["twofold.instance=web1"]}]
    with pytest.raises(Refused, match="is marked twofold.instance=db1".replace(".", r"\.")):
        run(node, "volumes.tag", instance="web1", volumes=wanted)


def test_volumes_that_a_definition_claims_meanwhile_stay(node: BenchNode) -> None:
    """Somebody else's run, which made them, wrote it after the plan to remove them was made."""
    create(node, DATA, META)
    listed = [{"volume_group": one["volume_group"], "name": one["name"]} for one in (DATA, META)]
    _definitions.write(node.files, {"format": 1, "name": "web1", "generation": 2, "nodes": ["node1", "node2"]})
    for expected in (None, 1):
        with pytest.raises(Refused, match="generation 2") as error:
            run(node, "volumes.remove", instance="web1", volumes=listed, expect_generation=expected)
        assert error.value.remedy == "somebody changed it meanwhile; plan again"
    assert len(list(node.volumes.volumes())) == 2
    assert run(node, "volumes.remove", instance="web1", volumes=listed, expect_generation=2).changed


def test_volumes_go_once_more_when_the_definition_is_gone(node: BenchNode) -> None:
    create(node, DATA)
    listed = [{"volume_group": "vg0", "name": "web1-disk0"}]
    assert run(node, "volumes.remove", instance="web1", volumes=listed, expect_generation=1).changed


def test_no_volume_goes_with_which_data_that_was_given_up_would_go(node: BenchNode) -> None:
    create(node, DATA)
    (disk,) = node.volumes.volumes()
    tags = ["twofold", "twofold.instance=web1", "twofold.role=kept", "twofold.kept=split-brain"]
    node.volumes.snapshot(disk, "web1-disk0-kept-ab", tags)
    node.volumes.rename(disk, "web1-disk0-old")
    aside, kept = (
        {"volume_group": "vg0", "name": "web1-disk0-old"},
        {"volume_group": "vg0", "name": "web1-disk0-kept-ab"},
    )
    with pytest.raises(Refused, match="vg0/web1-disk0-kept-ab keeps data that was given up") as error:
        run(node, "volumes.remove", instance="web1", volumes=[aside])
    assert "drop_kept.yml" in str(error.value.remedy)
    assert len(node.volumes.volumes()) == 2
    assert run(node, "volumes.remove", instance="web1", volumes=[aside, kept]).changed
    assert not node.volumes.volumes()
