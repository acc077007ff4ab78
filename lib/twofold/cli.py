# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command "twofold": the placement engine on files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .placement import affinity, capacity, check, hspace, iallocator, rolling, room, simulate, squeeze
from .placement import balance as balancing
from .placement.allocate import AllocOptions
from .placement.errors import DataError, PlacementError, RequestError
from .placement.explain import primary_reason, secondary_reason
from .placement.greedy import Limits, Plan, Step
from .placement.greedy import balance as greedy_balance
from .placement.model import TEMPLATES, Cluster, Spec
from .placement.moves import apply as apply_move
from .placement.moves import commands, cost, involved, operations, waves
from .placement.scan import Rules
from .placement.score import METRICS, bad_items, detailed
from .placement.state import BuildOptions, State
from .placement.textformat import parse

Json = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        output, status = options.run(options)
    except PlacementError as error:
        print(f"twofold: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"twofold: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    if isinstance(output, str):
        sys.stdout.write(output)
    elif options.json:
        json.dump(output, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        # Only people need tables: a program that asks for JSON does not wait for the library that draws them.
        from . import tables

        tables.show(options.command, output)
    return int(status)


# -- options ------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="twofold", description="Where instances go, and how to make it better.")
    verbs = parser.add_subparsers(dest="command", required=True, metavar="VERB")
    _add(verbs, "score", _score, "how good a placement is")
    _balance_options(_add(verbs, "balance", _balance, "moves that make the placement better"))
    _allocate_options(_add(verbs, "allocate", _allocate, "answer an iallocator request", data=False))
    _capacity_options(_add(verbs, "capacity", _capacity, "how many more instances fit"))
    _rolling_options(_add(verbs, "rolling", _rolling, "in which groups nodes can be rebooted"))
    squeezing = _add(verbs, "squeeze", _squeeze, "which nodes can be switched off, or must be switched on")
    squeezing.add_argument("--minimal-resources", type=float, default=2.0, metavar="FACTOR")
    squeezing.add_argument("--target-resources", type=float, default=2.0, metavar="FACTOR")
    _check_options(_add(verbs, "check", _check, "what is wrong, and which losses would hurt"))
    return parser


def _add(verbs: Any, name: str, run: Any, text: str, data: bool = True) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
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
    parser.add_argument("--rules", metavar="FILE", help="JSON: instance to its pins, exclusions and affinity")


def _allocate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("request", metavar="REQUEST", help="an iallocator message; with -t the request alone")
    parser.add_argument("--ignore-soft-errors", action="store_true", help="overlook soft limits")
    parser.add_argument("--no-capacity-checks", action="store_true", help="do not ask whether nodes could be lost")
    parser.add_argument("--accept-existing-errors", action="store_true", help="do not ask about offline nodes")
    parser.add_argument("--restrict-to-nodes", metavar="NODE,...", help="the only nodes to use")
    parser.add_argument("--static-kvm-node-memory", type=int, default=iallocator.STATIC_KVM_MEMORY, metavar="MIB")
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


# -- input --------------------------------------------------------------------------------------------------------


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name for name in (text or "").split(",") if name)


def _read(path: str) -> str:
    if path == "-":
        return sys.stdin.read()
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(path, None, "file", f"{error.reason} at byte {error.start}; expected UTF-8 text") from None


def _build(options: argparse.Namespace) -> BuildOptions:
    return BuildOptions(
        exclusion_tags=_names(options.exclusion_tags),
        utilisation=_utilisation(options.util) if options.util else {},
        ignore_utilisation=options.ignore_dynu,
        offline=tuple(options.offline),
        min_disk=options.min_disk,
        max_cpu=options.max_cpu,
        selected=_names(getattr(options, "select_instances", "")),
        excluded=_names(getattr(options, "exclude_instances", "")),
    )


def _utilisation(path: str) -> dict[str, tuple[float, float, float, float]]:
    result: dict[str, tuple[float, float, float, float]] = {}
    for number, line in enumerate(_read(path).splitlines(), 1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 5:
            raise DataError(path, number, "line", f"has {len(parts)} fields; expected instance cpu memory disk network")
        try:
            cpu, mem, dsk, net = (float(part) for part in parts[1:])
        except ValueError:
            raise DataError(path, number, "load", f"is {' '.join(parts[1:])!r}; expected four numbers") from None
        result[parts[0]] = (cpu, mem, dsk, net)
    return result


def _cluster(options: argparse.Namespace) -> Cluster:
    return parse(_read(options.text_data), options.text_data)


def _state(options: argparse.Namespace) -> State:
    return State(_cluster(options), _build(options))


def _one_group(options: argparse.Namespace, state: State) -> State:
    """The node group to work on: the only one, or the one asked for."""
    groups = state.cluster.groups
    if options.group:
        return state.subset(_group_number(options, state))
    used = sorted(set(state.nodes.group.tolist()))
    if len(used) > 1:
        names = ", ".join(groups[g].name for g in used)
        raise RequestError(f"the cluster has several node groups; choose one with --group: {names}")
    return state.subset(used[0]) if used else state


def _group_number(options: argparse.Namespace, state: State) -> int:
    for number, group in enumerate(state.cluster.groups):
        if options.group in (group.name, group.uuid):
            return number
    raise RequestError(f"unknown node group {options.group!r}")


def _rules(options: argparse.Namespace) -> Rules:
    return Rules(
        disk_moves=not options.no_disk_moves,
        instance_moves=not options.no_instance_moves,
        restricted=options.restricted_migration,
        ignore_soft=options.ignore_soft_errors,
        evacuate=options.evac_mode,
    )


def _limits(options: argparse.Namespace) -> Limits:
    most = getattr(options, "max_moves", None)
    most = options.max_length if most is None else most
    return Limits(None if most < 0 else most, options.min_score, options.min_gain, options.min_gain_limit)


def _book(path: str | None, state: State) -> affinity.Book | None:
    if not path:
        return None
    try:
        data = json.loads(_read(path))
    except ValueError as error:
        raise DataError(path, getattr(error, "lineno", None), "JSON", f"{error}; expected an object") from None
    if not isinstance(data, dict):
        raise DataError(path, None, "rules", "expected an object: instance to its rules")
    known = set(affinity.Rules.__dataclass_fields__)
    result = {}
    for name, values in data.items():
        if name not in state.inst.names:
            raise DataError(path, None, name, "expected the name of an instance of the cluster")
        if not isinstance(values, dict) or not set(values) <= known:
            raise DataError(path, None, name, f"expected an object with some of {', '.join(sorted(known))}")
        texts = {"primary", "secondary"}
        good = all(
            isinstance(v, str) if key in texts else isinstance(v, list) and all(isinstance(x, str) for x in v)
            for key, v in values.items()
        )
        if not good:
            raise DataError(path, None, name, "expected strings for primary and secondary, lists of strings else")
        fields: Json = {k: v if k in texts else tuple(v) for k, v in values.items()}
        result[name] = affinity.Rules(**fields)
    return affinity.Book(state, result)


# -- verbs --------------------------------------------------------------------------------------------------------


def _score(options: argparse.Namespace) -> tuple[Json, int]:
    state = _state(options)
    if options.group:
        state = _one_group(options, state)
    result = detailed(state)
    nodes, instances = bad_items(state)
    return {
        "score": result.total,
        "metrics": result.metrics,
        "weights": dict(METRICS),
        "bad_nodes": [state.nodes.names[n] for n in nodes],
        "bad_instances": [state.inst.names[i] for i in instances],
    }, 0


def _balance(options: argparse.Namespace) -> tuple[Json, int]:
    state = _one_group(options, _state(options))
    start = state.copy()
    rules, limits = _rules(options), _limits(options)
    if options.method == "hbal":
        plan = greedy_balance(state, rules, limits)
    else:
        size = simulate.size(options.max_copy, "--max-copy", "size") if options.max_copy else None
        budget = balancing.Budget(max_copy=size)
        plan = balancing.balance(state, rules, limits, budget, _book(options.rules, state)).plan
    return _plan(start, plan), 0


def _plan(start: State, plan: Plan) -> Json:
    """A plan as JSON; start is the state before it."""
    trial, moves, touched = start.copy(), [], []
    curve, copied, before = [{"copied_mib": 0.0, "score": plan.initial}], 0.0, plan.initial
    for step in plan.steps:
        price = cost(trial, step.move)
        copied += price
        moves.append(_move(trial, step, price, before - step.score))
        touched.append(involved(trial, step.move))
        apply_move(trial, step.move)
        curve.append({"copied_mib": copied, "score": step.score})
        before = step.score
    return {
        "initial_score": plan.initial,
        "final_score": plan.final,
        "moves": moves,
        "jobs": waves(touched),
        "copied_mib": copied,
        "curve": curve,
    }


def _move(state: State, step: Step, price: float, gain: float) -> Json:
    def names(pair: tuple[int, int]) -> list[str]:
        return [state.nodes.names[n] for n in pair if n >= 0]

    return {
        "instance": state.inst.names[step.move.instance],
        "from": names(step.source),
        "to": names(step.target),
        "score": step.score,
        "gain": gain,
        "ops": operations(state, step.move),
        "commands": commands(state, step.move),
        "copied_mib": price,
    }


def _allocate(options: argparse.Namespace) -> tuple[Json | str, int]:
    text = _read(options.request)
    message = _message(options, text)
    restrict = _names(options.restrict_to_nodes) if options.restrict_to_nodes is not None else None
    allocation = AllocOptions(
        options.ignore_soft_errors, not options.no_capacity_checks, options.accept_existing_errors, restrict
    )
    answer = iallocator.answer(message, allocation, _build(options))
    body: Json = {"success": answer.success, "info": answer.info, "result": answer.result}
    if message.request.get("type") == "allocate":
        if options.explain:
            body["explain"] = _explain(message, options, answer.result)
        if options.make_room and not answer.success:
            body["room"] = _room(message, options, allocation)
    # The answer is for a program; there is no other form of it.
    return json.dumps(body, separators=(",", ":")) + "\n", 0


def _message(options: argparse.Namespace, text: str) -> iallocator.Message:
    if not options.text_data:
        return iallocator.parse(text, options.request, options.static_kvm_node_memory)
    try:
        data = json.loads(text)
    except ValueError as error:
        raise DataError(options.request, getattr(error, "lineno", None), "JSON", f"{error}") from None
    request = data.get("request", data) if isinstance(data, dict) else data
    if not isinstance(request, dict):
        raise DataError(options.request, None, "request", "expected an object")
    return iallocator.Message(_cluster(options), request, options.request)


def _explain(message: iallocator.Message, options: argparse.Namespace, chosen: list[str]) -> list[Json]:
    """Per node what speaks against it as primary, and as secondary beside the chosen (or a possible) primary."""
    instance = iallocator.requested(message)
    state = State(message.cluster, _build(options), [instance])
    i = len(message.cluster.instances)
    count = len(state.nodes.names)
    first = [primary_reason(state, i, n) for n in range(count)]
    possible = [n for n in range(count) if not first[n]]
    primary = state.nodes.names.index(chosen[0]) if chosen else possible[0] if possible else -1
    result = []
    for n, name in enumerate(state.nodes.names):
        entry: Json = {"node": name, "primary": first[n] or None}
        if instance.template == "drbd" and primary >= 0:
            entry["secondary"] = secondary_reason(state, i, n, primary) or None
        entry["chosen"] = name in chosen
        result.append(entry)
    return result


def _room(message: iallocator.Message, options: argparse.Namespace, allocation: AllocOptions) -> Json | None:
    """The moves that make room for the request; null if none were found."""
    state = State(message.cluster, _build(options), [iallocator.requested(message)])
    made = room.make_room(state, len(message.cluster.instances), allocation)
    if made is None:
        return None
    trial, moves = state.copy(), []
    for move in made.moves:
        moves.append({"instance": state.inst.names[move.instance], "ops": operations(trial, move)})
        apply_move(trial, move)
    return {"moves": moves, "copied_mib": made.copied, "nodes": [state.nodes.names[n] for n in made.found.nodes]}


def _size(text: str | None, option: str) -> Spec | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) not in (3, 4) or not all(part.isdigit() for part in parts[2:]):
        raise DataError(option, None, "size", f"is {text!r}; expected DISK,MEMORY,CPUS[,SPINDLES]")
    disk, memory = simulate.size(parts[0], option, "disk"), simulate.size(parts[1], option, "memory")
    return Spec(memory, int(parts[2]), disk, spindle_use=int(parts[3]) if len(parts) > 3 else 1)


def _capacity(options: argparse.Namespace) -> tuple[Json | str, int]:
    if bool(options.simulate) == bool(options.text_data):
        raise RequestError("give either --text-data or --simulate")
    cluster = simulate.simulate(options.simulate) if options.simulate else _cluster(options)
    state = State(cluster, _build(options))
    found = capacity.capacity(
        state,
        capacity.CapacityOptions(
            template=options.disk_template,
            spindle_use=options.spindle_use,
            limit=None if options.max_length < 0 else options.max_length,
            standard=_size(options.standard_alloc, "--standard-alloc"),
            tiered=_size(options.tiered_alloc, "--tiered-alloc"),
            capacity_checks=not options.no_capacity_checks,
            accept_existing=options.accept_existing_errors,
            independent=options.independent_groups,
        ),
    )
    keys = hspace.keys(found)
    if options.machine_readable:
        return hspace.shell(keys), 0
    return {
        "template": found.template,
        "standard": _filled(found.standard, found.standard_spec),
        "tiered": _filled(found.tiered, found.tiered_spec),
        "keys": dict(keys),
    }, 0


def _filled(filled: capacity.Filled, spec: Spec) -> Json:
    return {
        "spec": _spec(spec),
        "instances": len(filled.sizes),
        "steps": [{**_spec(size), "count": count} for size, count in filled.steps()],
        "fails": {fail.name: count for fail, count in filled.fails.items() if count},
    }


def _spec(spec: Spec) -> Json:
    return {"memory": spec.memory, "disk": spec.disk_size, "vcpus": spec.vcpus, "spindles": spec.spindle_use}


def _rolling(options: argparse.Namespace) -> tuple[Json, int]:
    state = _state(options)
    steps = rolling.rolling(
        state,
        rolling.RollingOptions(
            offline=options.offline_maintenance,
            ignore_single=options.ignore_non_redundant,
            skip_single=options.skip_non_redundant,
            evacuate=options.full_evacuation,
            group=_group_number(options, state) if options.group else None,
            tags=_names(options.node_tags) if options.node_tags is not None else None,
            force=options.force,
        ),
    )
    names = state.nodes.names
    groups = [
        {
            "nodes": [names[n] for n in step.nodes],
            "moves": [
                {"instance": state.inst.names[i], "to": [names[n] for n in (p, s) if n >= 0]} for i, p, s in step.moves
            ],
        }
        for step in (steps[:1] if options.one_step_only else steps)
    ]
    return {"reboot_groups": groups}, 0


def _squeeze(options: argparse.Namespace) -> tuple[Json, int]:
    state = _state(options)
    found = squeeze.squeeze(state, squeeze.SqueezeOptions(options.minimal_resources, options.target_resources))
    names = state.nodes.names
    return {
        "action": found.action,
        "nodes": [names[n] for n in found.nodes],
        "enough": found.enough,
        "offline_candidates": [names[n] for n in found.offline_candidates],
        "online_candidates": [names[n] for n in found.online_candidates],
        **_plan(found.start, found.plan),
    }, 0


def _check(options: argparse.Namespace) -> tuple[Json, int]:
    state = _state(options)
    if options.group:
        state = _one_group(options, state)
    found = check.check(
        state,
        _rules(options),
        _limits(options),
        capacity_checks=not options.no_capacity_checks,
        simulate=not options.no_simulation,
        two=not options.single_losses,
    )
    result = {
        "before": _health(state, found.before),
        "after": _health(state, found.after),
        "need_rebalance": not found.healthy,
        "need_rebalance_after": not found.healthy_after,
        "losses": [
            {
                "what": one.what,
                "hurt": [{"instance": state.inst.names[h.instance], "reason": h.reason} for h in one.hurt],
            }
            for one in found.losses
        ],
    }
    return result, 0 if options.no_simulation or found.healthy else 1


def _health(state: State, groups: list[check.GroupHealth]) -> Json:
    return {
        "groups": {state.cluster.groups[g.group].name: {**asdict(g.health), "score": g.score} for g in groups},
        "cluster": asdict(check.total(groups)),
    }


if __name__ == "__main__":
    sys.exit(main())
