# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.simulation --histories N --seed S [--workers W] [--mutations]`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from .history import play, shrunk, story
from .rules import TEXTS

CHUNK = 25
SHOWN = 60


def main() -> int:
    """Play histories, say what was looked at; exit status 1 if a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--histories", type=int, default=3000, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="the first one's (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, metavar="W", help="processes (default: %(default)s)")
    parser.add_argument("--mutations", action="store_true", help="break planner and steps on purpose instead")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first broken rule")
    given = parser.parse_args()
    if given.mutations:
        from .mutations import table

        return table(sys.stdout)
    return histories(given.histories, given.seed, given.workers, keep_going=given.keep_going)


def histories(number: int, seed: int, workers: int, *, keep_going: bool = False) -> int:
    """Play that many, one seed after another."""
    counts: Counter[str] = Counter()
    begun, done, bad = time.monotonic(), 0, 0
    for played, found, failing in _results(range(seed, seed + number, CHUNK), seed + number, workers):
        done, counts = done + played, counts + found
        for one in failing:
            bad += 1
            print(explain(one) if bad <= 3 or not keep_going else f"seed {one}: {play(story(one)).violation}")
            if not keep_going:
                return 1
        if sys.stderr.isatty():
            print(f"\r{done} of {number} histories, {time.monotonic() - begun:.0f} s", end="", file=sys.stderr)
    print(summary(counts, done, time.monotonic() - begun))
    return 1 if bad else 0


def _results(starts: range, end: int, workers: int) -> Iterator[tuple[int, Counter[str], list[int]]]:
    chunks = [(start, min(start + CHUNK, end)) for start in starts]
    if workers < 2:
        yield from map(_chunk, chunks)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_chunk, chunks)


def _chunk(limits: tuple[int, int]) -> tuple[int, Counter[str], list[int]]:
    counts: Counter[str] = Counter()
    failing = []
    for seed in range(*limits):
        outcome = play(story(seed))
        counts += outcome.counts
        if outcome.violation is not None:
            failing.append(seed)
    return limits[1] - limits[0], counts, failing


def explain(seed: int) -> str:
    """A short history that breaks the rule that the seed's breaks."""
    first = play(story(seed)).violation
    assert first is not None
    short = shrunk(story(seed), first)
    outcome = play(short)
    lines = outcome.lines[-SHOWN:]
    return "\n".join([f"seed {seed}: {outcome.violation}", f"the history: {short}", *lines])


def summary(counts: Counter[str], done: int, seconds: float) -> str:
    """What was played and looked at."""
    lines = [f"{done} histories in {seconds:.0f} s ({1000 * seconds / max(done, 1):.0f} ms each)"]
    total = sum(count for name, count in counts.items() if name.startswith("fault: "))
    lines.append(f"{total} faults:")
    lines += [f"  {count:9} {name[7:]}" for name, count in sorted(counts.items()) if name.startswith("fault: ")]
    lines.append(f"{counts['records acknowledged']} records acknowledged; the rules were looked at:")
    lines += [f"  {counts[f'rule {rule}']:9} {rule}. {text}" for rule, text in TEXTS.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
