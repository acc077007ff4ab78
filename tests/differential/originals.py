# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the original programs of Debian's ganeti-htools and reads their output."""

from __future__ import annotations

import glob
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


def program(name: str) -> str:
    """Path of an original program. Raises FileNotFoundError when the package is not installed."""
    places = ["/usr/lib/ganeti/*/usr/bin/", "/usr/lib/ganeti/*/usr/lib/ganeti/iallocators/"]
    for place in places:
        found = sorted(glob.glob(place + name))
        if found:
            return found[-1]
    raise FileNotFoundError(f"{name}: install Debian's package ganeti-htools")


@dataclass(frozen=True)
class Result:
    """What a program printed and how it ended."""

    status: int
    out: str
    err: str


def run(name: str, *args: str | Path, limit: int = 600) -> Result:
    """Run an original program to its end."""
    done = subprocess.run([program(name), *map(str, args)], capture_output=True, text=True, timeout=limit, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


_METRIC = re.compile(r"^\s+(\w+)\s+(-?[\d.]+|NaN)\s+x([\d.]+)$")
_MOVE = re.compile(r"^\s+\d+\. (\S+)\s+(\S+)\s+=> (\S+)\s+(-?[\d.]+) a=(.*)$")


def metrics(out: str) -> tuple[float, dict[str, float]]:
    """The first overall score and table of metrics that hbal -vvv prints."""
    lines = out.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("Initial coefficients"))
    overall = float(lines[start].split("overall")[1])
    table: dict[str, float] = {}
    for line in lines[start + 2 :]:
        match = _METRIC.match(line)
        if not match:
            break
        table[match[1]] = float(match[2])
    return overall, table


def moves(out: str) -> list[tuple[str, str, str, float, str]]:
    """The moves that hbal prints: instance, from, to, score, operations."""
    found = (_MOVE.match(line) for line in out.splitlines())
    return [(m[1], m[2], m[3], float(m[4]), m[5].strip()) for m in found if m]


def keys(out: str, prefix: str = "HTS") -> dict[str, str]:
    """The keys of machine-readable output, without their prefix."""
    found = re.findall(rf"^{prefix}_(\w+)=(.*)$", out, re.MULTILINE)
    return {key: value.strip("'") for key, value in found}


def same_keys(left: dict[str, str], right: dict[str, str]) -> None:
    """Fail if hspace's keys differ by more than the digits that it prints."""
    assert left.keys() == right.keys()
    for key, value in left.items():
        if key.endswith(("_SCORE", "_EFF", "_NPU")):
            assert float(value) == pytest.approx(float(right[key]), abs=1.1e-8, nan_ok=True), key
        else:
            assert value == right[key], key
