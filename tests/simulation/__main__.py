# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.simulation --histories N --seed S [--workers W] [--only INTENT,...] [--mutations]`."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from .history import play, shrunk, story
from .intents import INTENTS
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
    parser.add_argument("--only", type=_intents, default=(), metavar="INTENT,...", help="draw from these intents alone")
    given = parser.parse_args()
    if given.mutations:
        from .mutations import table

        return table(sys.stdout)
    return histories(given.histories, given.seed, given.workers, only=given.only, keep_going=given.keep_going)


def _intents(text: str) -> tuple[str, ...]:
    """Names of intents from the command line."""
    known = {intent.__name__ for _weight, intent in INTENTS}
    unknown = sorted(set(text.split(",")) - known)
    if unknown:
        raise argparse.ArgumentTypeError(f"no such intent: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return tuple(text.split(","))


def histories(number: int, seed: int, workers: int, *, only: tuple[str, ...] = (), keep_going: bool = False) -> int:
    """Play that many, one seed after another; with `only`, operators draw from these intents alone."""
    counts: Counter[str] = Counter()
    begun, done, bad = time.monotonic(), 0, 0
    digest = hashlib.sha256()
    for found, failing, happened in _results(range(seed, seed + number, CHUNK), seed + number, workers, only):
        done, counts = done + len(happened), counts + found
        digest.update("".join(happened).encode())
        for one in failing:
            bad += 1
            print(explain(one, only) if bad <= 3 or not keep_going else _violation(one, only), flush=True)
            if not keep_going:
                return 1
        if sys.stderr.isatty():
            print(f"\r{done} of {number} histories, {time.monotonic() - begun:.0f} s", end="", file=sys.stderr)
    print(summary(counts, done, time.monotonic() - begun))
    print(f"digest of everything that happened: {digest.hexdigest()}")
    return 1 if bad else 0


# What became of some histories: how often what was looked at, the seeds that broke a rule, the digest of each.
Result = tuple[Counter[str], list[int], list[str]]


def _results(starts: range, end: int, workers: int, only: tuple[str, ...]) -> Iterator[Result]:
    chunks = [range(start, min(start + CHUNK, end)) for start in starts]
    chunk = partial(_chunk, only=only)
    if workers < 2:
        yield from map(chunk, chunks)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(chunk, chunks)


def _chunk(seeds: range, only: tuple[str, ...]) -> Result:
    counts: Counter[str] = Counter()
    failing, happened = [], []
    for seed in seeds:
        outcome = play(story(seed, only))
        counts += outcome.counts
        happened.append(outcome.digest())
        if outcome.violation is not None:
            failing.append(seed)
    return counts, failing, happened


def _violation(seed: int, only: tuple[str, ...]) -> str:
    return f"seed {seed}: {play(story(seed, only)).violation}"


def explain(seed: int, only: tuple[str, ...] = ()) -> str:
    """A short history that breaks the rule that the seed's breaks."""
    told = story(seed, only)
    first = play(told).violation
    assert first is not None
    short = shrunk(told, first)
    outcome = play(short)
    lines = outcome.lines[-SHOWN:]
    return "\n".join([f"seed {seed}: {outcome.violation}", f"the history: {short}", *lines])


def summary(counts: Counter[str], done: int, seconds: float) -> str:
    """What was played and looked at."""
    lines = [f"{done} histories in {seconds:.0f} s ({1000 * seconds / max(done, 1):.0f} ms each)"]
    total = sum(count for name, count in counts.items() if name.startswith("fault: "))
    lines.append(f"{total} faults:")
    lines += [f"  {count:9} {name[7:]}" for name, count in sorted(counts.items()) if name.startswith("fault: ")]
    lines.append(f"{counts['switched off']} nodes switched off by their fence devices")
    lines.append(f"{counts['records acknowledged']} records acknowledged; the rules were looked at:")
    lines += [f"  {counts[f'rule {rule}']:9} {rule}. {text}" for rule, text in TEXTS.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
