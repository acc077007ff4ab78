# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of flows and faults is filled cell by cell, by runs at different times."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.lab import fault_table
from tests.lab.faults import FAULTS
from tests.lab.flows import FLOWS


def test_every_cell_has_a_place() -> None:
    every = {(flow.name, fault.name): f"{flow.name} {fault.name}" for flow in FLOWS for fault in FAULTS}
    sensible = {pair: said for pair, said in every.items() if pair not in fault_table.NONSENSE}
    assert fault_table.parse(fault_table.render(every)) == sensible
    assert all(said in fault_table.render({}) for said in fault_table.NONSENSE.values())


def test_a_later_run_keeps_what_an_earlier_one_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n" + "\n".join(fault_table.MARKS) + "\nafter\n", encoding="utf-8")
    fault_table.keep({("migrate", "frozen"): "done 50 s", ("create", "libvirt"): "FAILED"}, page)
    fault_table.keep({("create", "libvirt"): "mended 60 s"}, page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("\nafter\n")
    found = {("migrate", "frozen"): "done 50 s", ("create", "libvirt"): "mended 60 s"}
    assert fault_table.parse(text) == found


def test_a_page_without_a_place_for_it_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(ValueError, match="put them where the table belongs"):
        fault_table.keep({("migrate", "frozen"): "done 50 s"}, page)
    assert page.read_text(encoding="utf-8") == "nothing\n"
