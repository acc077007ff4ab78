# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Planners and steps that were broken on purpose: the simulation is worth something if it notices each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from ansible_collections.twofold.cluster.plugins.module_utils import (
    _lock,
    _power_back,
    _stale_copies,
    _steps,
    _steps_definition,
    _steps_domain,
    _steps_migration,
    _steps_replication,
    _steps_volumes,
)
from ansible_collections.twofold.cluster.plugins.module_utils._migration import Migration
from ansible_collections.twofold.cluster.plugins.module_utils._node import Node
from ansible_collections.twofold.cluster.plugins.module_utils._steps import Args, Done, changed, unchanged

from twofold import definition, secrets
from twofold.planner import api, converge, diff, migrate, remove, replicated, situation
from twofold.planner.claims import Claims
from twofold.planner.context import Context
from twofold.planner.proof import Proof, Proofs

from .faults import FAULTS
from .history import play, story
from .inventories import SECRET, TEMPLATES
from .rules import BEFORE, DUAL, KILL, LAST, MISSING, ONCE, SECOND, TEXTS, Violation
from .rules import SECRET as SECRETS

HISTORIES = 2000
MOVES = ("converge", "migrate")
# Nothing but the planner keeps these from running twice.
UNSHARED = ("plain", "diskless")
CUTS = ("power", "management link", "replication link", "frozen")
TAKE_OVER = ("converge", "failover", "recover")
Patch = tuple[Any, str, Any]

# The steps register themselves when their module is imported.
STEPS = (_steps_definition, _steps_domain, _steps_migration, _steps_replication, _steps_volumes)


@dataclass(frozen=True)
class Mutation:
    """A rule, what is broken, and the attributes (or entries of the registry) that are replaced for it.

    `only`, `templates` and `wrong` are the intents, the instances and the faults of the histories, where it matters for
    few of them.
    """

    rule: int
    text: str
    patches: tuple[Patch, ...]
    only: tuple[str, ...] = ()
    templates: Sequence[str] = TEMPLATES
    wrong: Sequence[str] = tuple(FAULTS)


def _yes(*_args: Any, **_named: Any) -> bool:
    return True


def _own_nodes(base: dict[str, Any]) -> list[str]:
    return list(base["nodes"])


def _as_it_is(node: Node, name: str, *_args: Any) -> Any:
    return _steps_replication.state_of(node, name)


def _plenty(*_args: Any, **_named: Any) -> int:
    return 1 << 50


def _nothing(*_args: Any, **_named: Any) -> None:
    return None


def _removed_strangers(context: Context) -> None:
    for name in sorted(context.observed.names() - set(context.desired.instances)):
        for example in list(context.desired.instances.values())[:1]:
            gone = example.model_copy(update={"name": name, "state": "absent"})
            remove.instance(context, gone, context.observed.trace(name))


def _remove_all(node: Node, _args: Args) -> Done:
    found = [one for one in node.volumes.volumes() if not one.open]
    if not node.check_mode and found:
        node.volumes.remove(found)
    return changed("removed all that is not open") if found else unchanged()


def _write_in_check_mode(node: Node, args: Args) -> Done:
    node.files.write("/var/lib/twofold/looked", "")
    return _WRITE(node, args)


def _tell_secret(node: Node, args: Args) -> Done:
    done = _CONFIGURE(node, args)
    return Done(done.changed, f"{done.message} with {args.text('secret')[:48]}", {})


def _secret_in_plan(document: dict[str, Any], node: str) -> dict[str, Any]:
    return {**_ARGS(document, node), "secret": secrets.drbd_secret(SECRET, document["name"])}


def _untagged(self: _steps_volumes.Wanted) -> list[str]:
    return [tag for tag in _TAGS(self) if "pending=install" not in tag]


def _keep_seeds(chain: Any, trace: Any, node: str, after: list[str], timeout: int) -> None:
    trace.seeds.clear()
    _DISKS(chain, trace, node, after, timeout)


def _no_remedy(self: Context, code: str, instance: str, message: str, _remedy: str) -> None:
    _ERROR(self, code, instance, message, "")


def _stopped_is_absent(context: Context, wanted: Any) -> None:
    gone = wanted.model_copy(update={"state": "absent"}) if wanted.state == "stopped" else wanted
    _CONVERGE(context, gone)


def _copy_nothing(self: migrate.Migration, target: str, *, xml: str | None, copy: list[str]) -> dict[str, Any]:
    return _MIGRATE_ARGS(self, target, xml=xml, copy=[])


def _forget_moves(self: _power_back.Look, document: dict[str, Any]) -> _power_back.Verdict:
    self._moving.clear()
    return _JUDGE(self, {**document, "moving_to": None})


def _by_the_clock(self: _lock.FileLock, lease: dict[str, Any]) -> float:
    return self.clock.time() - float(lease["time"])


def _no_marker(node: Node, _args: Args) -> Done:
    return unchanged()


def _no_proof_needed(_self: Proofs, node: str, _instances: Any) -> Proof:
    return Proof(node, "it is silent")


def _asked(self: Proofs, node: str) -> bool:
    return node in self._fenced


_WRITE, _CONFIGURE = _steps.REGISTRY["definition.write"], _steps.REGISTRY["replication.configure"]
_ARGS, _TAGS, _DISKS, _ERROR = replicated.configure_args, _steps_volumes.Wanted.tags, remove._disks, Context.error
_CONVERGE, _MIGRATE_ARGS, _JUDGE = converge.instance, migrate.Migration._migrate_args, _power_back.Look.judge
REGISTRY = _steps.REGISTRY

# A copy that has not heard of its peer is kept from being promoted by its mark, too.
_UNMARKED = ((_stale_copies, "mark_before_up", _nothing), (_steps_replication, "mark_before_up", _nothing))

MUTATIONS = (
    Mutation(ONCE, "planner: an unknown node counts as one that runs nothing",
             ((situation, "_all_known", _yes),), MOVES, UNSHARED),
    Mutation(ONCE, "planner: a node that a move went to is forgotten",
             ((definition, "holders", _own_nodes),), MOVES, UNSHARED),
    Mutation(ONCE, "domain.migrate: libvirt starts the target's half before the source's is gone",
             ((Migration, "waits", False),), MOVES),
    Mutation(ONCE, "a node by itself: forgets that a migration was interrupted",
             ((_power_back.Look, "judge", _forget_moves),), ("migrate",), ("diskless",), ("power",)),
    Mutation(ONCE, "planner: a node that is silent counts as dead without any proof",
             ((Proofs, "of", _no_proof_needed),), TAKE_OVER, ("drbd",), CUTS),
    Mutation(ONCE, "planner: whatever a fence device says counts as off",
             ((Proofs, "_is_off", _asked),), TAKE_OVER, ("drbd",), CUTS),
    Mutation(LAST, "planner: a stopped instance counts as absent", ((converge, "instance", _stopped_is_absent),)),
    Mutation(LAST, "planner: a plain instance moves without its disks",
             ((migrate.Migration, "_migrate_args", _copy_nothing),)),
    Mutation(LAST, "a copy that comes up counts as the last state",
             _UNMARKED, ("converge", "recover"), ("drbd",), ("outage", "power of another")),
    Mutation(DUAL, "replication.promote: does not wait for the handshake",
             ((_steps_replication, "_wait_connected", _as_it_is), *_UNMARKED)),
    Mutation(DUAL, "planner: nothing needs settling after a migration, and settling forbids nothing",
             ((replicated, "needs_settling", lambda *_: []), (REGISTRY, "replication.settle", _no_marker))),
    Mutation(MISSING, "planner: what is not in the inventory is removed", ((api, "_strangers", _removed_strangers),)),
    Mutation(MISSING, "volumes.remove: everything that is not open", ((REGISTRY, "volumes.remove", _remove_all),)),
    Mutation(SECOND, "planner: a domain is never different", ((diff, "domain", lambda *_: []),)),
    Mutation(SECOND, "planner: every definition is different", ((definition, "same", lambda *_: False),)),
    Mutation(SECOND, "definition.write: touches a file in check mode",
             ((REGISTRY, "definition.write", _write_in_check_mode),)),
    Mutation(KILL, "volumes.create: does not note that an OS is owed", ((_steps_volumes.Wanted, "tags", _untagged),)),
    Mutation(KILL, "planner: removal leaves the seed", ((remove, "_disks", _keep_seeds),)),
    Mutation(KILL, "planner: interrupted steps are never cleared", ((api, "_clear_journals", _nothing),)),
    Mutation(SECRETS, "planner: DRBD's secret stands in the plan", ((replicated, "configure_args", _secret_in_plan),)),
    Mutation(SECRETS, "replication.configure: says the secret in its message",
             ((REGISTRY, "replication.configure", _tell_secret),)),
    Mutation(BEFORE, "planner: room is not looked at",
             ((converge.Converge, "_volumes_have_room", _yes), (Claims, "space_free", _plenty))),
    Mutation(BEFORE, "the lock: its age is told by the clock", ((_lock.FileLock, "_age", _by_the_clock),),
             wrong=("clock", "control process")),
    Mutation(BEFORE, "planner: errors come without remedies", ((Context, "error", _no_remedy),)),
)  # fmt: skip


@contextmanager
def broken(mutation: Mutation) -> Iterator[None]:
    """The product, broken in this way."""
    whole = [(target, name, _get(target, name)) for target, name, _value in mutation.patches]
    for target, name, value in mutation.patches:
        _set(target, name, value)
    try:
        yield
    finally:
        for target, name, value in whole:
            _set(target, name, value)


def _get(target: Any, name: str) -> Any:
    return target[name] if isinstance(target, dict) else getattr(target, name)


def _set(target: Any, name: str, value: Any) -> None:
    if isinstance(target, dict):
        target[name] = value
    else:
        setattr(target, name, value)


def hunt(mutation: Mutation, histories: int = HISTORIES) -> tuple[int, Violation] | None:
    """The first history in which the rule is seen to be broken, and what it says; None if there is none."""
    with broken(mutation):
        for seed in range(1, histories + 1):
            violation = play(story(seed, mutation.only, mutation.templates, mutation.wrong)).violation
            if violation is not None and violation.rule == mutation.rule:
                return seed, violation
    return None


def table(out: TextIO) -> int:
    """List all mutations and what caught them; the exit status is 1 if one was not caught."""
    missed = 0
    for rule, text in TEXTS.items():
        print(f"{rule}. {text}", file=out)
        for mutation in MUTATIONS:
            if mutation.rule == rule:
                found = hunt(mutation)
                missed += found is None
                print(f"   {mutation.text}: {_said(found)}", file=out, flush=True)
    print(f"{len(MUTATIONS) - missed} of {len(MUTATIONS)} mutations caught", file=out)
    return 1 if missed else 0


def _said(found: tuple[int, Violation] | None) -> str:
    if found is None:
        return "NOT CAUGHT"
    seed, violation = found
    line = violation.text.strip().splitlines()[-1]
    return f"caught in history {seed} ({line[:120]})"
