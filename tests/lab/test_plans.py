# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Saved plans on real nodes: applied exactly, or refused when the world has changed."""

from __future__ import annotations

import json

import pytest

from .cluster import SECRET, Cluster
from .test_converge import steps

pytestmark = pytest.mark.lab


def test_a_saved_plan_is_applied_exactly_or_refused(cluster: Cluster) -> None:
    cluster.instances = {"plan1": {"twofold_nodes": ["node1", "node2"]}}
    path = cluster.directory / "plan.json"
    saved = cluster.play("plan", "-e", f"twofold_plan_file={path}")
    assert cluster.running("plan1") == [], "planning changes nothing"
    document = json.loads(path.read_text(encoding="utf-8"))
    assert [step["op"] for step in document["steps"]]
    markdown = path.with_suffix(".md").read_text(encoding="utf-8")
    assert "plan1" in markdown and SECRET not in markdown + path.read_text(encoding="utf-8")

    applied = cluster.play("converge", "-e", f"twofold_plan_file={path}")
    assert steps(applied.output) == steps(saved.output)
    assert cluster.running("plan1") == ["node1"]

    refused = cluster.play("converge", "-e", f"twofold_plan_file={path}", status=2)
    assert "has changed" in refused.output and "plan1" in refused.output
    assert cluster.play("converge").changed == 0

    damaged = {**document, "steps": document["steps"][:-1]}
    path.write_text(json.dumps(damaged), encoding="utf-8")
    assert "damaged" in cluster.play("converge", "-e", f"twofold_plan_file={path}", status=2).output
    path.write_text("not a plan", encoding="utf-8")
    assert "not a plan of ours" in cluster.play("converge", "-e", f"twofold_plan_file={path}", status=2).output
