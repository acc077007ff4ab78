# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the inventory's variables to `Desired`. Every error is a finding with host, variable, file and remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from . import inventory_checks, placement_checks, variables
from .findings import ERROR, Finding, ordered
from .inventory_checks import Spot
from .model import Cluster, Desired, FenceDevice, Instance, Node, OsTemplate

Variables = dict[str, Any]
Locate = Callable[[str, str], str | None]
M = TypeVar("M", bound=BaseModel)

# What stands for a variable that could not be templated; the rest of the text is why.
UNDEFINED = "\0undefined: "
# Part of what Ansible says of a value that no password opens.
CLOSED = "no vault secrets"
# Characters of a wrong value that a message shows.
SHOWN = 100
# Fields that may hold passwords, or lie in a text where the user put one: nothing below them is shown.
SECRET = frozenset(
    name
    for model in (Cluster, FenceDevice, Instance, Node, OsTemplate)
    for name, field in model.model_fields.items()
    if not field.repr
)
# What may be shown of a path to them: a key that is none may be a text with a password.
KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")


class Loader:
    """Reads hosts one after another and collects findings."""

    def __init__(self, locate: Locate | None) -> None:
        self._locate = locate or (lambda host, variable: None)
        self.findings: list[Finding] = []
        self.wrong: set[str] = set()
        self._seen: dict[tuple[str, str, str | None], tuple[int, int]] = {}

    def where(self, host: str, variable: str) -> str:
        """`twofold_memory of web1 (host_vars/web1.yml:3)`."""
        place = self._locate(host, re.split(r"[.\[]", variable)[0])
        return f"{variable} of {host} ({place})" if place else f"{variable} of {host}"

    def error(self, spot: Spot, code: str, message: str, remedy: str) -> None:
        """Keep a finding about a host's variable, and that the host is wrong."""
        self.wrong.add(spot.host)
        target = spot.kind if spot.kind == "cluster" else f"{spot.kind} {spot.host}"
        self.findings.append(Finding(ERROR, code, target, f"{self.where(spot.host, spot.variable)}: {message}", remedy))

    def once(self, spot: Spot, code: str, message: str, remedy: str) -> None:
        """Like `error`, but one finding for all hosts that have the variable from the same file."""
        place = self._locate(spot.host, spot.variable)
        key = (spot.variable, message, place)
        if key not in self._seen or place is None:
            self._seen[key] = (len(self.findings), 0)
            self.error(spot, code, message, remedy)
            return
        index, others = self._seen[key]
        self._seen[key] = (index, others + 1)
        first = self.findings[index]
        text = first.message.split(" [also ")[0] + f" [also for {others + 1} more]"
        self.findings[index] = Finding(first.severity, first.code, first.object, text, first.remedy)
        self.wrong.add(spot.host)

    def build(self, model: type[M], kind: str, host: str, given: dict[str, Any]) -> M | None:
        """The model of a host, or None after its errors were kept."""
        undefined = list(_undefined(variables.of(model), given))
        for name, text in undefined:
            self.error(Spot(kind, host, name), *_unresolved(text))
        hidden = {name for name, _ignored in undefined}
        try:
            built = model.model_validate(given)
        except ValidationError as error:
            for problem in error.errors(include_url=False):
                secret = not SECRET.isdisjoint(problem["loc"])
                name = variables.name_of(model, _shown(problem["loc"]) if secret else problem["loc"])
                if name not in hidden:
                    self.error(Spot(kind, host, name), *_explain(problem, secret))
            return None
        return None if undefined else built

    def unknown(self, kind: str, host: str, given: Variables) -> None:
        """Keep a finding for each variable of ours that does not exist."""
        for name in sorted(given):
            if name.startswith(variables.PREFIX) and name not in variables.known():
                meant = variables.nearest(name, variables.known())
                remedy = (
                    f"did you mean {meant}?"
                    if meant
                    else "remove it, or see docs/schema/inventory.json for what there is"
                )
                self.once(Spot(kind, host, name), "unknown-variable", "there is no such variable", remedy)


def _undefined(paths: dict[str, tuple[str, ...]], given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, path in paths.items():
        value: Any = given
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        text = _undefined_text(value)
        if text is not None:
            yield name, text


def _undefined_text(value: Any) -> str | None:
    if isinstance(value, str) and value.startswith(UNDEFINED):
        return value[len(UNDEFINED) :]
    return None


def _unresolved(text: str) -> tuple[str, str, str]:
    """Code, message and remedy of a variable that could not be templated."""
    if CLOSED in text:
        message = "it is in a vault that is not opened: its password was not given, or a wrong one"
        return "vault-closed", message, "give the vault's password, with -J or ANSIBLE_VAULT_PASSWORD_FILE"
    return "undefined", text, "define what it refers to"


def _shown(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """A location up to what cannot be the name of anything."""
    return tuple(takewhile(lambda part: isinstance(part, int) or KEY.fullmatch(part), location))


def _explain(problem: Any, secret: bool) -> tuple[str, str, str]:
    """Code, message and remedy of one of pydantic's errors, without the value if it may be secret."""
    kind, message, value = problem["type"], problem["msg"], problem.get("input")
    if kind == "missing":
        return "missing-value", "is missing", "set it"
    if kind == "extra_forbidden":
        return "unknown-key", "there is no such key", "remove it or correct its name"
    if kind == "value_error":
        return "bad-value", message.removeprefix("Value error, "), "correct the value"
    shown = "" if secret or isinstance(value, (dict, list)) else f"{_cut(repr(value))}: "
    text = message[0].lower() + message[1:]
    return "bad-value", f"{shown}{text}", "correct the value"


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def load(
    nodes: dict[str, Variables], instances: dict[str, Variables], locate: Locate | None = None
) -> tuple[Desired, list[Finding]]:
    """What the inventory wants, and everything that is wrong with it.

    `nodes` and `instances` are each host's variables, `group_names` (Ansible's own: the inventory groups that a host is
    in) among those of instances; `locate(host, variable)` names the file of one. An instance with errors is left out
    (`Desired.rejected`); an error of the cluster or of a node sets `Desired.blocked`.
    """
    loader = Loader(locate)
    for name, given in nodes.items():
        loader.unknown("node", name, given)
    cluster = _cluster(loader, nodes, instances)
    found_nodes = _nodes(loader, nodes)
    blocked = bool(loader.findings)
    found = _instances(loader, instances)
    groups = _groups(instances)
    if cluster is not None and len(found_nodes) == len(nodes):
        checks = inventory_checks.Checks(loader, cluster, found_nodes)
        blocked = checks.of_cluster(bool(instances)) or blocked
        checks.of_instances(found)
        placement_checks.check(loader, found_nodes, found, groups)
    # Else nothing can be done before that is put right, and much that is right would look wrong.
    good = {name: instance for name, instance in found.items() if name not in loader.wrong}
    findings = ordered(loader.findings)
    rejected = frozenset(instances) - frozenset(good)
    return Desired(cluster or Cluster(), found_nodes, good, rejected, blocked, tuple(findings), groups), findings


def _groups(instances: dict[str, Variables]) -> dict[str, frozenset[str]]:
    """The inventory groups with the instances in each."""
    found: dict[str, set[str]] = {}
    for name, given in instances.items():
        for group in given.get("group_names") or ():
            found.setdefault(str(group), set()).add(name)
    return {group: frozenset(members) for group, members in sorted(found.items())}


def _cluster(loader: Loader, nodes: dict[str, Variables], instances: dict[str, Variables]) -> Cluster | None:
    """The cluster's variables may stand in any group; wherever they do, they have to say the same. None if wrong."""
    given: Variables = {}
    origin: dict[str, str] = {}
    hosts = {**instances, **nodes}
    for host in [*nodes, *(name for name in instances if name not in nodes)]:
        for name in sorted(variables.of(Cluster).keys() & hosts[host].keys()):
            value = hosts[host][name]
            if name not in given:
                given[name], origin[name] = value, host
            elif value is not given[name] and value != given[name]:
                message = f"differs from {loader.where(origin[name], name)}"
                remedy = "set it once, for all hosts"
                loader.error(Spot("cluster", host, name), "cluster-variable-differs", message, remedy)
    before = len(loader.findings)
    cluster = loader.build(Cluster, "cluster", next(iter(nodes), ""), variables.values(Cluster, given))
    if cluster is None:
        for index in range(before, len(loader.findings)):
            loader.findings[index] = _relocate(loader, loader.findings[index], origin)
    return cluster


def _relocate(loader: Loader, finding: Finding, origin: dict[str, str]) -> Finding:
    """Name the host that a cluster variable was read from."""
    label, _ignored, text = finding.message.partition(": ")
    name = label.split(" of ")[0]
    host = origin.get(re.split(r"[.\[]", name)[0], "")
    return Finding(finding.severity, finding.code, "cluster", f"{loader.where(host, name)}: {text}", finding.remedy)


def _nodes(loader: Loader, nodes: dict[str, Variables]) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for name, given in nodes.items():
        values = variables.values(Node, given)
        values.setdefault("address", str(given.get("ansible_host", name)))
        if node := loader.build(Node, "node", name, {**values, "name": name}):
            found[name] = node
    return found


def _instances(loader: Loader, instances: dict[str, Variables]) -> dict[str, Instance]:
    found: dict[str, Instance] = {}
    for name, given in instances.items():
        if not NAME.fullmatch(name) or ".." in name:
            remedy = "use at most 63 small letters, digits, '-' and '.', the first and last a letter or digit"
            loader.wrong.add(name)
            message = f"{_cut(repr(name))} cannot be the name of an instance"
            loader.findings.append(Finding(ERROR, "bad-name", f"instance {name}", message, remedy))
            continue
        loader.unknown("instance", name, given)
        if instance := loader.build(Instance, "instance", name, {**variables.values(Instance, given), "name": name}):
            found[name] = instance
    return found
