# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures the placement engine against the originals, in one run, and prints the ratios.

    PYTHONPATH=lib python -m tests.bench.placement [CASE ...]

Whole processes, start-up included. CPU seconds (user and system) are compared, because they bear a busy machine
better than the clock; medians where a case is run more than once. Cases: capacity, balance20, balance40, allocate,
growth. balance40 runs hbal for a few moves only and extrapolates, unless --full is given: to the end it takes hbal
more than ten minutes of CPU.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import clusters
from tests.differential import originals, requests

from twofold.placement import iallocator
from twofold.placement.allocate import AllocOptions, anywhere
from twofold.placement.message import parse
from twofold.placement.model import Instance
from twofold.placement.state import State
from twofold.placement.textformat import serialize

ROOT = Path(__file__).resolve().parent.parent.parent
OURS = [sys.executable, "-m", "twofold.cli"]


@functools.cache
def environment() -> dict[str, str]:
    """What our processes run in: modules compiled as in an installed package, whatever this process was told."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT / "lib"), "PYTHONPYCACHEPREFIX": str(ROOT / ".cache" / "bench")}


def cpu(command: list[str]) -> tuple[float, str]:
    """CPU seconds and output of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def median(command: list[str], times: int) -> tuple[float, str]:
    # One run more than counts: the first compiles.
    runs = [cpu(command) for _ignored in range(times + 1)][1:]
    return statistics.median(seconds for seconds, _ignored in runs), runs[-1][1]


def report(case: str, theirs: float, ours: float, wanted: float, note: str = "") -> None:
    print(
        f"{case}: original {theirs:.2f} s, ours {ours:.2f} s, {theirs / ours:.0f} times (wanted {wanted:g}) {note}",
        flush=True,
    )


def capacity(folder: Path, full: bool) -> None:
    arguments = ["--simulate=p,20,2000G,128g,32", "--disk-template", "drbd", "--standard-alloc", "50g,4g,2"]
    ours, out = median([*OURS, "capacity", *arguments, "--machine-readable"], 5)
    theirs, printed = cpu([originals.program("hspace"), *arguments, "--machine-readable"])
    same = [line for line in out.splitlines() if "INSTANCES" in line or "TSPEC=" in line]
    assert all(line in printed for line in same), (same, printed)
    report("capacity, 20 nodes", theirs, ours, 500, same[-1])


def balance20(folder: Path, full: bool) -> None:
    file = folder / "20.data"
    file.write_text(serialize(clusters.skewed(20, 300, skew=1.25)))
    theirs, printed = cpu([originals.program("hbal"), "-t", str(file)])
    moves = originals.moves(printed)
    for method, wanted in (("twofold", 50), ("hbal", 50)):
        ours, out = median([*OURS, "balance", "-t", str(file), "--json", "--method", method], 5)
        plan = json.loads(out)
        note = f"score {moves[-1][3]:.6f} in {len(moves)} moves -> {plan['final_score']:.6f} in {len(plan['moves'])}"
        report(f"balance, 20 nodes, 300 instances, --method {method}", theirs, ours, wanted, note)


def balance40(folder: Path, full: bool) -> None:
    file = folder / "40.data"
    file.write_text(serialize(clusters.skewed(40, 800, skew=1.25)))
    results = {}
    for method in ("twofold", "hbal"):
        ours, out = median([*OURS, "balance", "-t", str(file), "--json", "--method", method], 3)
        results[method] = (ours, json.loads(out))
    greedy = results["hbal"][1]
    if full:
        theirs, printed = cpu([originals.program("hbal"), "-t", str(file)])
        note = f"hbal ends at {originals.moves(printed)[-1][3]:.6f}"
    else:
        few = 4
        part, _ignored = cpu([originals.program("hbal"), "-t", str(file), "-l", str(few)])
        theirs = part / few * len(greedy["moves"])
        note = f"extrapolated from {few} moves in {part:.1f} s to {len(greedy['moves'])}"
    for method, (ours, plan) in results.items():
        found = f"{plan['final_score']:.6f} in {len(plan['moves'])} moves; {note}"
        report(f"balance, 40 nodes, 800 instances, --method {method}", theirs, ours, 300, found)


def allocate(folder: Path, full: bool) -> None:
    world = clusters.skewed(100, 2000, skew=1.0)
    new = Instance("new", 4096, 51200 + 128, 2, template="drbd", disks=(51200,))
    request = {"type": "allocate", "name": "new", "required_nodes": 2, **requests.body(new)}
    file = folder / "request.json"
    file.write_text(json.dumps(requests.document(world, request)))
    ours, out = median([*OURS, "allocate", str(file)], 5)
    theirs, printed = median([originals.program("hail"), str(file)], 5)
    assert json.loads(out)["result"] == json.loads(printed)["result"]
    report("one allocation, 100 nodes, as a process", theirs, ours, 1)
    message = parse(file.read_text())
    state, i = State(message.cluster, None, [iallocator.requested(message)]), len(world.instances)
    runs = []
    for _ignored in range(9):
        start = time.process_time()
        anywhere(state, i, 2, AllocOptions())
        runs.append(time.process_time() - start)
    report("one allocation, 100 nodes, as a call on a loaded cluster", theirs, statistics.median(runs), 20)


def growth(folder: Path, full: bool) -> None:
    for nodes in (100, 200, 500, 1000) if full else (100, 200):
        file = folder / f"{nodes}.data"
        file.write_text(serialize(clusters.skewed(nodes, 20 * nodes)))
        seconds, out = cpu([*OURS, "balance", "-t", str(file), "--json"])
        plan = json.loads(out)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        scores = f"score {plan['initial_score']:.3f} -> {plan['final_score']:.3f} in {len(plan['moves'])} moves"
        print(
            f"balance, {nodes} nodes, {20 * nodes} instances: {seconds:.1f} s of CPU, {peak:.0f} MiB, {scores}",
            flush=True,
        )


CASES = {f.__name__: f for f in (capacity, balance20, balance40, allocate, growth)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the placement engine against the originals.")
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--full", action="store_true", help="run hbal to the end, and 500 and 1,000 nodes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for case in options.cases:
            CASES[case](Path(name), options.full)


if __name__ == "__main__":
    main()
