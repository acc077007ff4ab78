# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""An operator's run: observe, plan, apply, exactly as the role `operate` does it, in turns with everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ansible_collections.twofold.cluster.plugins.module_utils._errors import CommandFailed

from twofold import apply, planner, secrets
from twofold.model import Desired
from twofold.planner import Plan

from . import fencing
from .engine import Task

if TYPE_CHECKING:
    from .machine import Machine
    from .world import World

Document = dict[str, Any]
LEASE, LOCK_WAIT = 120, 150
FILE = "$file"
Strike = Callable[["Run", "Machine", str], None]


class StepFails(CommandFailed):
    """A command of a step fails because a fault struck."""


def answered(answer: Document | None) -> bool:
    """Whether a node itself said what became of its steps."""
    return answer is not None and "problem" not in answer


class Run:
    """One run of a playbook. `strikes`: what goes wrong at which breath of its steps."""

    def __init__(
        self, world: World, desired: Desired, intent: Document, holder: str, strikes: dict[int, Strike] | None = None
    ) -> None:
        self.world = world
        self.desired = desired
        self.intent = intent
        self.holder = holder
        self.strikes = strikes or {}
        self.id = f"run{len(world.runs)}"
        self.breaths = 0
        self.struck = 0
        self.twice = False
        self.predict = False
        self.documents: dict[str, Document | None] = {}
        self.plan: Plan | None = None
        self.results: dict[str, Document] = {}
        self.locked: dict[str, str] = {}
        self.failed: set[str] = set()
        self.task: Task | None = None
        # What comes in before its next wave.
        self.between: Callable[[], None] | None = None
        world.runs.append(self)

    @property
    def known(self) -> set[str]:
        """The nodes that answered when they were observed."""
        return {name for name, document in self.documents.items() if document is not None}

    def begin(self) -> None:
        """Begin, as an event."""
        self.start()

    def start(self) -> Task:
        """Begin; the task is the control process."""
        self.task = self.world.engine.spawn(f"run of {self.holder}", self._go, run=self)
        return self.task

    def _go(self) -> None:
        world = self.world
        self.documents = self._observe()
        if self.intent["verb"] in ("failover", "recover", "evacuate"):
            self._prove()
        self.plan = planner.plan(self.desired, self.documents, self.intent)
        world.rules.plan(self)
        document = self.plan.to_json()
        world.log(f"{self.holder} plans {self.intent}: {' '.join(step.id for step in self.plan.steps) or 'nothing'}")
        for finding in self.plan.findings:
            world.log(f"    {finding.object}: {finding.code}: {finding.message}")
        for wave in range(document["waves"]):
            if self.between is not None:
                between, self.between = self.between, None
                between()
            self._wave(document, wave)

    def _prove(self) -> None:
        """By the devices, if he says so; else he is an honest operator, and confirms what he has seen to be off."""
        intent = dict(self.intent)
        word = intent.pop("fence", None)
        if word is not None:
            self.intent = {**intent, "fenced": fencing.said(self, intent, word)}
            return
        dead = [name for name in self.desired.nodes if not self.world.machines[name].on and name not in self.known]
        self.intent = {**intent, "confirm_dead": dead}

    def _together(
        self, calls: dict[str, Task | None], requests: dict[str, Document] | None = None
    ) -> dict[str, Document | None]:
        """Wait for calls of several nodes; None from a node that did not answer.

        A call that died is an answer if it was one of `requests`; else Ansible takes its node out of the play.
        """
        answers: dict[str, Document | None] = {}
        waiting = dict(calls)
        while waiting:
            for name, task in list(waiting.items()):
                if task is None or not self.world.manageable(name):
                    answers[name] = None
                    del waiting[name]
                elif task.over:
                    answers[name] = self._answer(name, task, requests or {})
                    del waiting[name]
            if waiting:
                self.world.engine.pause(0.3)
        return answers

    def _answer(self, name: str, task: Task, requests: dict[str, Document]) -> Document | None:
        if not task.killed and "error" not in task.answer:
            return dict(task.answer)
        if name in requests:
            why = "it was killed" if task.killed else task.answer["error"]["message"]
            return apply.broken(why, requests[name])
        self.failed.add(name)
        return None

    def _call(self, name: str, operation: str, arguments: Document) -> Task | None:
        if not self.world.manageable(name):
            return None
        return self.world.machines[name].call(self, operation, arguments)

    def _observe(self) -> dict[str, Document | None]:
        nodes = self.desired.nodes
        return self._together({name: self._call(name, "observe", {"node": name}) for name in nodes})

    def _wave(self, plan: Document, wave: int) -> None:
        calls: dict[str, Task | None] = {}
        requests: dict[str, Document] = {}
        blocked: dict[str, list[Document]] = {}
        for name in self.desired.nodes:
            turn = apply.turn(plan, name, wave, self.results)
            if turn is None or name in self.failed:
                continue
            blocked[name] = turn.blocked
            if turn.ready or (turn.last and self.locked.get(name) == "held"):
                requests[name] = self._request(turn, held=self.locked.get(name) == "held")
        alone = self.world.alone
        predicted = self._predict(requests) if self.predict else {}
        for name, request in requests.items():
            calls[name] = self._call(name, "apply", request)
        answers = self._together(calls, requests)
        if predicted and self.world.alone == alone:
            self.world.rules.predicted(predicted, answers)
        if self.twice:
            # The connection was lost after the answer was made, and ssh tried again.
            self.twice = False
            again = {name: self._call(name, "apply", requests[name]) for name, one in answers.items() if answered(one)}
            answers |= self._together(again, requests)
        for name, results in blocked.items():
            answer = answers.get(name, {"results": []})
            if answer is not None:
                self.locked[name] = str(answer.get("lock", self.locked.get(name)))
                self.results |= {one["id"]: one for one in [*answer["results"], *results]}
                self.world.rules.answer(self, name, answer)
                for one in answer["results"]:
                    if one["status"] != "changed":
                        self.world.log(f"    {one['id']} {one['status']}: {one['message']}")

    def _predict(self, requests: dict[str, Document]) -> dict[str, Document | None]:
        """What check mode says of the same steps."""
        calls = {name: self.world.machines[name].call(self, "apply", one, check=True) for name, one in requests.items()}
        return self._together(dict(calls))

    def _request(self, turn: apply.Turn, *, held: bool) -> Document:
        names = set[str]().union(*(secrets.used(step["args"]) for step in turn.ready))
        known = {name: secrets.resolve(self.desired, name) for name in sorted(names)}
        steps = [self._bring(step) for step in turn.ready]
        identity = {"id": self.id, "holder": self.holder}
        return apply.request(identity, steps, known, held=held, last=turn.last, lease=LEASE, wait=LOCK_WAIT)

    @staticmethod
    def _bring(step: Document) -> Document:
        args = step["args"]
        if isinstance(args.get("script"), dict):
            return {**step, "args": {**args, "script": f"the text of {args['script'][FILE]}"}}
        return step

    def breath(self, machine: Machine, what: str, method: str, *, after: bool) -> None:
        """An effect is about to happen, or just did; now a fault may strike."""
        self.breaths += 1
        strike = self.strikes.pop(self.breaths, None)
        if strike is not None:
            self.struck += 1
            where = f"{'after' if after else 'before'} {what}.{method} on {machine.name}"
            strike(self, machine, where)
