# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn a machine into a node, in three phases; the module of the same name documents it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, ClassVar

from ansible.errors import AnsibleActionFail, AnsibleFileNotFound
from ansible.utils.display import Display
from ansible_collections.twofold.cluster.plugins.plugin_utils import _inventory
from ansible_collections.twofold.cluster.plugins.plugin_utils._node_call import NodeAction, shaped
from ansible_collections.twofold.cluster.plugins.plugin_utils._progress import Progress
from ansible_collections.twofold.cluster.plugins.plugin_utils._run import holder

if TYPE_CHECKING:
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import Finding, nodeconfig, pki

Document = dict[str, Any]

AUTHORITY, AUTHORITY_KEY = "ca.pem", "ca-key.pem"
# How often the clock is asked when the call itself did not tell enough.
CLOCK_TRIES = 5

display = Display()


class ActionModule(NodeAction):
    """Inspect the node; review what all nodes answered; apply what differs."""

    ARGUMENTS: ClassVar[dict[str, dict[str, Any]]] = {
        "phase": {"type": "str", "choices": ["inspect", "review", "compare", "apply"], "required": True},
        "settings": {"type": "dict", "default": {}},
        "node_group": {"type": "str", "default": "nodes"},
        "pki_dir": {"type": "path", "required": True},
        "new_authority": {"type": "bool", "default": False},
        "inspection": {"type": "str", "default": "node_inspection"},
    }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do the phase that is asked for."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import TwofoldError

        result: dict[str, Any] = super().run(tmp, task_vars)
        _ignored, self.arguments = self.validate_argument_spec(self.ARGUMENTS)
        self.vars = task_vars or {}
        self.name = str(self.vars["inventory_hostname"])
        phases = {"inspect": self.inspect, "review": self.review, "compare": self.compare, "apply": self.apply}
        try:
            result.update(phases[self.arguments["phase"]]())
        except TwofoldError as error:
            raise AnsibleActionFail(f"{self.name}: {error}") from error
        return result

    def inspect(self) -> Document:
        """Look at the node, with one call that changes nothing."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import nodeconfig, pki

        try:
            settings, member, members = self._wanted_of()
        except nodeconfig.SettingError as error:
            return _unseen(_setting_problem(error))
        authority = self._read(AUTHORITY)
        wanted = nodeconfig.wanted(settings, member, members, authority)
        begun = time.time()
        try:
            answer = shaped(self.call_node("node_config", {"wanted": wanted}, self.vars), "INSPECTED")
        except AnsibleActionFail as error:
            remedy = "put that right and run again"
            return _unseen({"code": "call", "object": "inspection", "message": str(error), "remedy": remedy})
        clock = self._clock(answer["clock"], begun, time.time(), settings.clock_tolerance)
        faults = nodeconfig.credential_faults(answer["credentials"], authority, member, settings, pki.now())
        changes = answer["changes"] + [
            {"object": f"credential {name}", "message": f"is replaced: {reason}", "diff": None}
            for name, reason in faults.items()
        ]
        return {
            "changed": False,
            "problems": answer["problems"],
            "facts": answer["facts"],
            "clock": list(clock),
            "changes": changes,
            "credentials": sorted(faults),
            "certified": nodeconfig.certified(answer["credentials"]),
            "needed": bool(changes),
        }

    def review(self) -> Document:
        """Judge all nodes; fail with every finding if one of them is an error. Make the authority if there is none."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import nodeconfig

        findings = self._reviewed(self._answers())
        text = nodeconfig.report(findings)
        document = [item.to_json() for item in findings]
        if any(item.severity == "error" for item in findings):
            return {
                "failed": True,
                "msg": f"The nodes cannot be set up; nothing was changed on any of them.\n{text}",
            }
        made = self._make_authority() if self._read(AUTHORITY) is None else False
        warnings = [line for item in findings for line in nodeconfig.report([item]).splitlines()[:1]]
        return {"changed": made, "findings": document, **({"warnings": warnings} if warnings else {})}

    def compare(self) -> Document:
        """Return what is wrong with the nodes and what differs; change nothing, and fail for nothing."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import configuration

        answers = self._answers()
        changes = {name: answer["changes"] for name, answer in answers.items() if answer is not None}
        findings = configuration.findings(self._reviewed(answers), changes)
        return {"changed": False, "findings": [finding.to_json() for finding in findings]}

    def _reviewed(self, answers: Mapping[str, Document | None]) -> list[Finding]:
        """Return what is wrong with all nodes and with the authority."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import nodeconfig

        members = self._members(broken=True)
        tolerance = float(self.arguments["settings"].get("clock_tolerance") or 1.0)
        known = {name: _answer(answer) for name, answer in answers.items()}
        return nodeconfig.review(known, members, tolerance) + self._authority_findings(answers)

    def apply(self) -> Document:
        """Change what differs, with one call; in check mode only say it."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import nodeconfig

        inspection = _inventory.plain(self.vars[self.arguments["inspection"]])
        if not inspection.get("needed"):
            return {"changed": False, "changes": []}
        changes = inspection["changes"]
        if not self._task.check_mode:
            settings, member, members = self._wanted_of()
            secrets = self._issue(inspection["credentials"], settings, member)
            wanted = nodeconfig.wanted(settings, member, members, self._read(AUTHORITY))
            who = {"holder": holder(), "run": token_hex(8)}
            request = {"wanted": wanted, "apply": True, "secrets": secrets, **who}
            with Progress(self.name, self._connection):
                changes = shaped(self.call_node("node_config", request, self.vars), "CONFIGURED")["changes"]
        for change in changes:
            display.display(f"  {self.name}: {change['object']}: {change['message']}")
        result: Document = {"changed": bool(changes), "changes": [_sentence(change) for change in changes]}
        if self._task.diff:
            result["diff"] = [change["diff"] or {"prepared": _sentence(change) + "\n"} for change in changes]
        return result

    def _wanted_of(self) -> tuple[nodeconfig.Settings, nodeconfig.Member, list[nodeconfig.Member]]:
        """Return this node's settings, itself, and all nodes.

        :raises SettingError: something in the inventory is wrong.
        """
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import nodeconfig

        settings = nodeconfig.read_settings(self.name, _inventory.plain(self.arguments["settings"]))
        members = self._members()
        mine = [member for member in members if member.name == self.name]
        if not mine:
            group = self.arguments["node_group"]
            raise AnsibleActionFail(
                f"{self.name} is not in the group {group!r}, so it is no node. Put it there, or set twofold_node_group."
            )
        return settings, mine[0], members

    def _members(self, broken: bool = False) -> list[nodeconfig.Member]:
        """Return all nodes of the inventory; with ``broken`` those that are wrong are left out."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import nodeconfig

        found = []
        for name in self.vars["groups"].get(self.arguments["node_group"], []):
            hostvars = self.vars["hostvars"][name]
            names = [key for key in ("ansible_host", *nodeconfig.MEMBER_VARIABLES) if key in hostvars]
            try:
                found.append(nodeconfig.read_member(str(name), {key: _inventory.plain(hostvars[key]) for key in names}))
            except nodeconfig.SettingError:
                if not broken:
                    raise
        return found

    def _answers(self) -> dict[str, Document | None]:
        """Return what each node of this play registered; None for one that does not answer."""
        found: dict[str, Document | None] = {}
        for name in self.vars["ansible_play_hosts_all"]:
            answer = _inventory.plain(self.vars["hostvars"][name].get(self.arguments["inspection"]))
            if answer is None and name in self.vars["ansible_play_hosts"]:
                # It has its turn in a later batch of the play.
                continue
            silent = answer is None or answer.get("unreachable") or answer.get("skipped")
            found[str(name)] = None if silent else answer
        return found

    def _clock(self, during: list[float], begun: float, ended: float, tolerance: float) -> tuple[float, float]:
        """Return bounds for the node's clock less ours; a node's time was read between two readings of ours."""
        low, high = during[1] - ended, during[0] - begun
        for _ignored in range(CLOCK_TRIES):
            if high - low <= tolerance / 2:
                break
            begun = time.time()
            answer = self._low_level_execute_command("date +%s.%N", sudoable=False)
            ended = time.time()
            with suppress(ValueError):
                read = float(answer["stdout"].strip().rpartition("\n")[2])
                low, high = max(low, read - ended), min(high, read - begun)
        return low, high

    def _path(self, name: str) -> Path:
        return Path(self.arguments["pki_dir"]) / name

    def _read(self, name: str) -> str | None:
        """Return a file of the authority, decrypted if it is in a vault."""
        try:
            real = self._loader.get_real_file(str(self._path(name)))
        except AnsibleFileNotFound:
            return None
        try:
            return Path(real).read_text(encoding="utf-8")
        finally:
            self._loader.cleanup_tmp_file(real)

    def _authority(self) -> pki.Authority:
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import pki

        certificate, key = self._read(AUTHORITY), self._read(AUTHORITY_KEY)
        if certificate is None or key is None:
            missing = self._path(AUTHORITY if certificate is None else AUTHORITY_KEY)
            raise pki.PkiError(f"{missing} is not there")
        return pki.load_authority(pki.Credential(certificate, key))

    def _authority_findings(self, answers: Mapping[str, Document | None]) -> list[Finding]:
        """Return what is wrong with the authority, as far as it is needed."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import Finding, nodeconfig, pki

        certificate = self._read(AUTHORITY)
        remedy = f"put the authority's files back into {self.arguments['pki_dir']}, or set twofold_pki_dir"
        if certificate is None:
            if self._path(AUTHORITY_KEY).exists():
                message = f"there is {self._path(AUTHORITY_KEY)}, but no {AUTHORITY} beside it"
                return [Finding("error", "authority", "cluster", message, remedy)]
            certified = [name for name, answer in answers.items() if answer and answer.get("certified")]
            absent = nodeconfig.absent_authority(certified, self.arguments["pki_dir"])
            return [absent] if absent and not self.arguments["new_authority"] else []
        needed = any(answer and answer.get("credentials") for answer in answers.values())
        try:
            pki.load_certificate(certificate)
            if needed:
                self._authority()
        except pki.PkiError as error:
            return [Finding("error", "authority", "cluster", str(error), remedy)]
        warning = nodeconfig.authority_finding(certificate, str(self._path(AUTHORITY)), pki.now())
        return [warning] if warning else []

    def _make_authority(self) -> bool:
        """Make the cluster's authority; in check mode only say so."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import pki

        folder = self._path(AUTHORITY).parent
        display.display(f"  cluster: a certificate authority is made in {folder}; keep {AUTHORITY_KEY} secret")
        if self._task.check_mode:
            return True
        cluster = self.arguments["settings"].get("cluster_name") or "twofold"
        made = pki.create_authority(str(cluster), pki.now())
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The key first: a certificate without its key would be taken for a finished authority.
        _write_new(self._path(AUTHORITY_KEY), made.key, 0o600)
        _write_new(self._path(AUTHORITY), made.certificate, 0o644)
        return True

    def _issue(self, names: list[str], settings: nodeconfig.Settings, member: nodeconfig.Member) -> Document:
        """Return a new key and certificate for each credential that has to be replaced."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import nodeconfig, pki

        if not names:
            return {}
        authority, subjects = self._authority(), nodeconfig.subjects(member)
        issued = {name: pki.issue(authority, subjects[name], pki.now(), settings.pki_days) for name in names}
        return {name: {"certificate": pair.certificate, "key": pair.key} for name, pair in issued.items()}


def _answer(answer: Document | None) -> nodeconfig.Answer | None:
    """Return a registered inspection as the library wants it."""
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import nodeconfig

    if answer is None:
        return None
    clock = answer.get("clock")
    return nodeconfig.Answer(
        problems=tuple(answer["problems"]),
        facts=answer.get("facts") or {},
        clock=(clock[0], clock[1]) if clock else None,
    )


def _unseen(problem: Document) -> Document:
    """Return the inspection of a node that could not be looked at; the review shows it together with all others."""
    return {
        "changed": False,
        "problems": [problem],
        "changes": [],
        "credentials": [],
        "certified": False,
        "needed": False,
    }


def _setting_problem(error: nodeconfig.SettingError) -> Document:
    thing, _ignored, message = error.finding.message.partition(": ")
    return {
        "code": error.finding.code,
        "object": thing,
        "message": message,
        "remedy": error.finding.remedy,
        "severity": error.finding.severity,
    }


def _sentence(change: Document) -> str:
    return f"{change['object']}: {change['message']}"


def _write_new(path: Path, text: str, mode: int) -> None:
    """Write a file that must not be there yet."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)
