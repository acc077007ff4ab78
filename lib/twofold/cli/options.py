# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the command, verb by verb."""

from __future__ import annotations

import argparse
from typing import Any

from ..placement.model import TEMPLATES


def parser() -> argparse.ArgumentParser:
    """Every verb with its options; the verb's module and function are named after what it does."""
    top = argparse.ArgumentParser(prog="twofold", description="Where instances go, and how to make it better.")
    verbs = top.add_subparsers(dest="command", required=True, metavar="VERB")
    _add(verbs, "score", "balance", "how good a placement is")
    _balance_options(_add(verbs, "balance", "balance", "moves that make the placement better"))
    _allocate_options(_add(verbs, "allocate", "allocate", "answer an iallocator request", data=False))
    _capacity_options(_add(verbs, "capacity", "capacity", "how many more instances fit"))
    _rolling_options(_add(verbs, "rolling", "maintenance", "in which groups nodes can be rebooted"))
    squeezing = _add(verbs, "squeeze", "maintenance", "which nodes can be switched off, or must be switched on")
    squeezing.add_argument("--minimal-resources", type=float, default=2.0, metavar="FACTOR")
    squeezing.add_argument("--target-resources", type=float, default=2.0, metavar="FACTOR")
    _check_options(_add(verbs, "check", "maintenance", "what is wrong, and which losses would hurt"))
    return top


def _add(verbs: Any, name: str, module: str, text: str, data: bool = True) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(module=module)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-t", "--text-data", metavar="FILE", required=data and name != "capacity")
    parser.add_argument("-O", "--offline", metavar="NODE", action="append", default=[], help="take as offline")
    parser.add_argument("-G", "--group", metavar="NAME", help="name or UUID of the only node group")
    parser.add_argument("--exclusion-tags", metavar="PREFIX,...", default="", help="tags that exclude each other")
    parser.add_argument("-U", "--util", metavar="FILE", help="measured load: instance cpu memory disk network")
    parser.add_argument("--ignore-dynu", action="store_true", help="count no load at all")
    parser.add_argument("--min-disk", type=float, default=0.0, metavar="RATIO", help="share of disks that stays free")
    parser.add_argument("--max-cpu", type=float, metavar="RATIO", help="virtual CPUs per CPU")
    return parser


def _move_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-l", "--max-length", type=int, default=-1, metavar="N", help="at most so many moves")
    parser.add_argument("-E", "--evac-mode", action="store_true", help="only instances on offline nodes")
    parser.add_argument("--restricted-migration", action="store_true", help="no move that migrates twice")
    parser.add_argument("--ignore-soft-errors", action="store_true", help="overlook soft limits")
    parser.add_argument("--no-disk-moves", action="store_true", help="only failovers")
    parser.add_argument("--no-instance-moves", action="store_true", help="only new secondaries")
    parser.add_argument("--select-instances", metavar="NAME,...", default="", help="the only ones to move")
    parser.add_argument("--exclude-instances", metavar="NAME,...", default="", help="those not to move")
    parser.add_argument("-g", "--min-gain", type=float, default=0.01, metavar="DELTA")
    parser.add_argument("--min-gain-limit", type=float, default=0.1, metavar="SCORE")
    parser.add_argument("-e", "--min-score", type=float, default=1e-9, metavar="EPSILON")


def _balance_options(parser: argparse.ArgumentParser) -> None:
    _move_options(parser)
    parser.add_argument("--method", choices=("twofold", "hbal"), default="twofold", help="hbal: exactly its moves")
    parser.add_argument("--max-moves", type=int, metavar="N", help="the same as --max-length")
    parser.add_argument("--max-copy", metavar="SIZE", help="at most so much copied between nodes, as 500GiB")
    parser.add_argument("--effort", type=float, default=1.0, metavar="FACTOR", help="how hard to search for chains")
    _rule_options(parser)
    _survive_option(parser)
    parser.add_argument("--explain", action="store_true", help="say of every move why there and not elsewhere")


def _rule_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rules", metavar="FILE", help="JSON: instance to its pins, exclusions and affinity")
    parser.add_argument("--weight", metavar="LABEL=NUMBER", action="append", default=[], help="of a wish; usually 4")


def _survive_option(parser: argparse.ArgumentParser) -> None:
    kinds = ("node", "two", "domain")
    parser.add_argument("--survive", choices=kinds, help="which losses must be survived afterwards, if they are now")


def _allocate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("request", metavar="REQUEST", help="an iallocator message; with -t the request alone")
    parser.add_argument("--ignore-soft-errors", action="store_true", help="overlook soft limits")
    parser.add_argument("--no-capacity-checks", action="store_true", help="do not ask whether nodes could be lost")
    parser.add_argument("--accept-existing-errors", action="store_true", help="do not ask about offline nodes")
    parser.add_argument("--restrict-to-nodes", metavar="NODE,...", help="the only nodes to use")
    parser.add_argument("--static-kvm-node-memory", type=int, metavar="MIB", help="what KVM nodes need")
    parser.add_argument("--method", choices=("hail", "twofold"), help="twofold: by rules, and by what must be survived")
    _rule_options(parser)
    _survive_option(parser)
    parser.add_argument("--explain", action="store_true", help="say for every node what speaks against it")
    parser.add_argument("--make-room", action="store_true", help="if there is no place, find moves that make one")


def _capacity_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--simulate", metavar="SPEC", action="append", default=[], help="an imagined node group")
    parser.add_argument("--disk-template", choices=list(TEMPLATES))
    parser.add_argument("--spindle-use", type=int)
    parser.add_argument("-l", "--max-length", type=int, default=-1, metavar="N", help="at most so many instances")
    parser.add_argument("--standard-alloc", metavar="DISK,MEMORY,CPUS", help="size for the standard count")
    parser.add_argument("--tiered-alloc", metavar="DISK,MEMORY,CPUS", help="largest size for the tiered count")
    parser.add_argument("--no-capacity-checks", action="store_true")
    parser.add_argument("--accept-existing-errors", action="store_true")
    parser.add_argument("--independent-groups", action="store_true")
    parser.add_argument("--method", choices=("twofold", "hspace"), help="hspace: by Ganeti's N+1")
    _survive_option(parser)
    parser.add_argument("--machine-readable", action="store_true", help="hspace's keys as shell assignments")


def _rolling_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--offline-maintenance", action="store_true", help="instances are shut down meanwhile")
    parser.add_argument("--ignore-non-redundant", action="store_true")
    parser.add_argument("--skip-non-redundant", action="store_true")
    parser.add_argument("--full-evacuation", action="store_true", help="empty the nodes")
    parser.add_argument("--node-tags", metavar="TAG,...", help="only nodes with one of these tags")
    parser.add_argument("--one-step-only", action="store_true", help="only the first group")
    parser.add_argument("-f", "--force", action="store_true", help="go on without a master node")


def _check_options(parser: argparse.ArgumentParser) -> None:
    _move_options(parser)
    parser.add_argument("--no-capacity-checks", action="store_true")
    parser.add_argument("--no-simulation", action="store_true", help="do not try to balance")
    parser.add_argument("--single-losses", action="store_true", help="do not ask about the loss of two nodes")
