# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster for each test: three nodes, bootstrapped once and restored from a snapshot, and a stranger beside them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from . import fault_table, guest, image
from .cluster import ROOT, Cluster
from .core import Lab
from .paths import cache_dir, default_name, digest

# What makes a node what it is; when it changes, nodes are bootstrapped anew.
MADE_OF = (
    "roles/node/**/*.yml",
    "lib/twofold/nodeconfig/*.py",
    "lib/twofold/pki.py",
    # Nodes keep a copy of it, to start their own guests; verify says when that is of another version.
    "plugins/module_utils/*.py",
    # The kernel's command line is in the snapshot as well.
    "tests/lab/machine.py",
)
# The first call of libvirt asks QEMU what it can, which takes long; a node that is in use has that behind it.
WARM = "virsh -q domcapabilities --virttype kvm >/dev/null; virsh -q list --all; modprobe drbd"


@dataclass(frozen=True)
class Prepared:
    """A lab with a snapshot of bootstrapped nodes, and the authority that their certificates come from."""

    lab: Lab
    snapshot: str
    pki: Path


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """The snapshot, made if there is none of this code."""
    built = image.build("trixie", False)
    guest.build()
    lab = Lab(f"{default_name()}-test"[:20])
    files = sorted(path for pattern in MADE_OF for path in ROOT.glob(pattern))
    key = digest([built.key, *(path.read_text(encoding="utf-8") for path in files)])[:12]
    found = Prepared(lab, f"nodes-{key}", cache_dir() / "labs" / f"{lab.name}-pki-{key}")
    if not (lab.has_snapshot(found.snapshot) and found.pki.exists()):
        lab.down()
        lab.up(nodes=3, outsider=True)
        made = Cluster(lab, tmp_path_factory.mktemp("prepare"))
        made.pki = found.pki
        made.play("site")
        lab.run_all(WARM)
        made.play("status")
        _forget_others(found)
        lab.save(found.snapshot)
    yield found
    lab.down()


def _forget_others(prepared: Prepared) -> None:
    """Remove the snapshots of older code, 2 GiB each, and their authorities."""
    prepared.lab.drop("nodes-*")
    for old in prepared.pki.parent.glob(f"{prepared.lab.name}-pki-*"):
        if old != prepared.pki:
            shutil.rmtree(old)


@pytest.fixture
def cluster(prepared: Prepared, tmp_path: Path) -> Cluster:
    """Three bootstrapped nodes without an instance, as on the first day."""
    prepared.lab.restore(prepared.snapshot)
    made = Cluster(prepared.lab, tmp_path)
    made.pki = prepared.pki
    return made


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the results of this run into the documentation."""
    parser.addoption(
        "--keep-faults", action="store_true", help="write the cells of test_faults into docs/reliability.md"
    )


def _cell(report: pytest.TestReport) -> fault_table.Cells:
    """What a test of the matrix came to, in one cell or none."""
    seen: dict[str, Any] = dict(report.user_properties)
    if report.when != "call" or "cell" not in seen:
        return {}
    said = f"{seen['happened']} {seen['seconds']} s" if report.passed else "FAILED"
    return {tuple(seen["cell"]): said}


class KeepFaults:
    """Writes each cell as soon as it is known: a run of hours may be stopped."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cells = _cell(report)
        if cells:
            fault_table.keep(cells)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--keep-faults", default=False):
        config.pluginmanager.register(KeepFaults())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the matrix of faults, as far as this run has played it."""
    cells: fault_table.Cells = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            cells.update(_cell(report))
    if cells:
        terminalreporter.section("flows and faults")
        terminalreporter.write_line(fault_table.render(cells))
