# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the command, verb by verb."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NoReturn

from ..placement import literals
from ..placement.errors import RequestError
from ..placement.model import TEMPLATES


class _Parser(argparse.ArgumentParser):
    """A parser for which a wrong option is an input like any other: one message, the same exit status."""

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message}; see {self.prog} --help")


def _number(least: float | None = None, most: float = literals.LARGEST) -> Callable[[str], float]:
    """A reader of numbers between two limits."""
    wanted = "a number" if least is None else f"a number from {least:g}" + (f" to {most:g}" if most == 1 else "")

    def read(text: str) -> float:
        try:
            value = literals.number(text)
        except ValueError:
            value = float("nan")
        if not (-literals.LARGEST if least is None else least) <= value <= most:
            raise argparse.ArgumentTypeError(f"is {text!r}; expected {wanted}")
        return value

    return read


def _whole(least: int) -> Callable[[str], int]:
    """A reader of whole numbers that are not below a limit."""

    def read(text: str) -> int:
        try:
            value = literals.whole(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"is {text!r}; expected a whole number from {least}")
        return value

    return read


def parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Every verb, with the options of those that are among the arguments: making all of them takes longer than a look.

    Raises, when it parses:
        RequestError: for options that are unknown, missing or malformed.
    """
    top = _Parser(prog="twofold", description="Where instances go, and how to make it better.")
    verbs = top.add_subparsers(dest="command", required=True, metavar="VERB")
    for name, (module, text, fill) in _VERBS.items():
        verb = verbs.add_parser(name, help=text, description=text)
        # The verb's function is named after it.
        verb.set_defaults(module=module)
        if name in arguments:
            fill(verb)
    return top


def _common_options(parser: argparse.ArgumentParser, *, required: bool = True, imagined: bool = False) -> None:
    """What every verb knows; required: a cluster must be given; imagined: it may be simulated."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    data = parser.add_mutually_exclusive_group(required=required)
    data.add_argument("-t", "--text-data", metavar="FILE", help="the cluster in Ganeti's text format")
    if required:
        data.add_argument("-I", "--ialloc-src", metavar="FILE", help="the cluster of an iallocator message")
    if imagined or not required:
        data.add_argument("--simulate", metavar="SPEC", action="append", default=[], help="an imagined node group")
    parser.add_argument("-O", "--offline", metavar="NODE", action="append", default=[], help="take as offline")
    parser.add_argument("--exclusion-tags", metavar="PREFIX,...", default="", help="tags that exclude each other")
    load = "measured load: instance cpu memory disk network"
    parser.add_argument("-U", "--util", "--dynu-file", metavar="FILE", help=load)
    parser.add_argument("--ignore-dynu", action="store_true", help="count no load at all")
    parser.add_argument("--min-disk", type=_number(0, 1), default=0.0, metavar="RATIO", help="of disks that stays free")
    parser.add_argument("--max-cpu", type=_number(0.001), metavar="RATIO", help="virtual CPUs per CPU")


def _group_options(parser: argparse.ArgumentParser, *, imagined: bool = False) -> None:
    """What every verb knows that may be told to look at one node group."""
    _common_options(parser, imagined=imagined)
    parser.add_argument("-G", "--group", metavar="NAME", help="name or UUID of the only node group")


def _save_option(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("-S", "--save", metavar="FILE", help=f"write the cluster to {what}")


def _move_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-l", "--max-length", "--max-moves", type=_whole(-1), default=-1, metavar="N", help="at most so many moves"
    )
    parser.add_argument("-E", "--evac-mode", action="store_true", help="only instances on offline nodes")
    parser.add_argument("--restricted-migration", action="store_true", help="no move that migrates twice")
    parser.add_argument("--ignore-soft-errors", action="store_true", help="overlook soft limits")
    parser.add_argument("--no-disk-moves", action="store_true", help="only failovers")
    parser.add_argument("--no-instance-moves", action="store_true", help="only new secondaries")
    parser.add_argument("--select-instances", metavar="NAME,...", default="", help="the only ones to move")
    parser.add_argument("--exclude-instances", metavar="NAME,...", default="", help="those not to move")
    parser.add_argument("-g", "--min-gain", type=_number(), default=0.01, metavar="DELTA")
    parser.add_argument("--min-gain-limit", type=_number(), default=0.1, metavar="SCORE")
    parser.add_argument("-e", "--min-score", type=_number(), default=1e-9, metavar="EPSILON")


def _balance_options(parser: argparse.ArgumentParser) -> None:
    _group_options(parser)
    _move_options(parser)
    parser.add_argument("--method", choices=("twofold", "hbal"), default="twofold", help="hbal: exactly its moves")
    parser.add_argument("--max-copy", metavar="SIZE", help="at most so much copied between nodes, as 500GiB")
    parser.add_argument("--effort", type=_number(0), metavar="FACTOR", help="how hard to search for chains, usually 1")
    _rule_options(parser)
    _survive_option(parser)
    parser.add_argument("--explain", action="store_true", help="say of every move why there and not elsewhere")
    _save_option(parser, "FILE.original and, after the moves, FILE.balanced")


def _rule_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rules", metavar="FILE", help="JSON: instance to its pins, exclusions and affinity")
    parser.add_argument("--weight", metavar="LABEL=NUMBER", action="append", default=[], help="of a wish; usually 4")


def _survive_option(parser: argparse.ArgumentParser) -> None:
    kinds = ("node", "two", "domain")
    parser.add_argument("--survive", choices=kinds, help="which losses must be survived afterwards, if they are now")


def _allocate_options(parser: argparse.ArgumentParser) -> None:
    _common_options(parser, required=False)
    parser.add_argument("request", metavar="REQUEST", help="an iallocator message; with -t the request alone")
    parser.add_argument("--ignore-soft-errors", action="store_true", help="overlook soft limits")
    parser.add_argument("--no-capacity-checks", action="store_true", help="do not ask whether nodes could be lost")
    parser.add_argument("--accept-existing-errors", action="store_true", help="do not ask about offline nodes")
    parser.add_argument(
        "--restrict-to-nodes", "--restrict-allocation-to", metavar="NODE,...", help="the only nodes to use"
    )
    parser.add_argument("--static-kvm-node-memory", type=_whole(0), metavar="MIB", help="what KVM nodes need")
    parser.add_argument("--method", choices=("hail", "twofold"), help="twofold: by rules, and by what must be survived")
    _rule_options(parser)
    _survive_option(parser)
    parser.add_argument("--explain", action="store_true", help="say for every node what speaks against it")
    parser.add_argument("--make-room", action="store_true", help="if there is no place, find moves that make one")


def _capacity_options(parser: argparse.ArgumentParser) -> None:
    _group_options(parser, imagined=True)
    parser.add_argument("--disk-template", choices=list(TEMPLATES))
    parser.add_argument("--spindle-use", type=_whole(0), metavar="SPINDLES")
    parser.add_argument(
        "-l", "--max-length", type=_whole(-1), default=-1, metavar="N", help="at most so many instances"
    )
    parser.add_argument("--standard-alloc", metavar="DISK,MEMORY,CPUS", help="size for the standard count")
    parser.add_argument("--tiered-alloc", metavar="DISK,MEMORY,CPUS", help="largest size for the tiered count")
    parser.add_argument("--no-capacity-checks", action="store_true")
    parser.add_argument("--accept-existing-errors", action="store_true")
    parser.add_argument("--independent-groups", action="store_true")
    parser.add_argument("--method", choices=("twofold", "hspace"), help="hspace: by Ganeti's N+1")
    _survive_option(parser)
    parser.add_argument("--machine-readable", action="store_true", help="hspace's keys as shell assignments")


def _rolling_options(parser: argparse.ArgumentParser) -> None:
    _group_options(parser)
    parser.add_argument("--offline-maintenance", action="store_true", help="instances are shut down meanwhile")
    parser.add_argument("--ignore-non-redundant", action="store_true")
    parser.add_argument("--skip-non-redundant", action="store_true")
    parser.add_argument("--full-evacuation", action="store_true", help="empty the nodes")
    parser.add_argument("--node-tags", metavar="TAG,...", help="only nodes with one of these tags")
    parser.add_argument("--one-step-only", action="store_true", help="only the first group")
    parser.add_argument("-f", "--force", action="store_true", help="go on without a master node")


def _squeeze_options(parser: argparse.ArgumentParser) -> None:
    _group_options(parser)
    parser.add_argument("--minimal-resources", type=_number(0.0), default=2.0, metavar="FACTOR")
    parser.add_argument("--target-resources", type=_number(0.0), default=2.0, metavar="FACTOR")
    _save_option(parser, "FILE.original and, nodes switched and instances moved, FILE.squeezed")


def _check_options(parser: argparse.ArgumentParser) -> None:
    _group_options(parser)
    _move_options(parser)
    parser.add_argument("--no-capacity-checks", action="store_true")
    parser.add_argument("--no-simulation", action="store_true", help="do not try to balance")
    parser.add_argument("--single-losses", action="store_true", help="do not ask about the loss of two nodes")


#: Per verb: the module that carries it out, what it does, and what adds its options.
_VERBS: dict[str, tuple[str, str, Callable[[argparse.ArgumentParser], None]]] = {
    "score": ("balance", "how good a placement is", _group_options),
    "balance": ("balance", "moves that make the placement better", _balance_options),
    "allocate": ("allocate", "answer an iallocator request", _allocate_options),
    "capacity": ("capacity", "how many more instances fit", _capacity_options),
    "rolling": ("maintenance", "in which groups nodes can be rebooted", _rolling_options),
    "squeeze": ("maintenance", "which nodes can be switched off, or must be switched on", _squeeze_options),
    "check": ("maintenance", "what is wrong, and which losses would hurt", _check_options),
}
