# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Time and turns: every process of the simulated world is a greenlet, and one heap says whose turn is next."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

from greenlet import getcurrent, greenlet

DAY = 86400.0


class Killed(BaseException):
    """The process is no more: nothing of it runs on, not even what cleans up."""


class Task:
    """A process. `place` is the node that it runs on, None for the control host; `run` is whose work it does."""

    def __init__(self, engine: Engine, name: str, place: str | None, function: Callable[[], Any], run: Any) -> None:
        self.engine = engine
        self.name = name
        self.place = place
        self.run = run
        self.function = function
        self.killed = False
        self.over = False
        self.answer: Any = None
        self.turn = 0
        # What ends goes back to the hub, whoever started it.
        self.greenlet = greenlet(self._live, parent=engine.hub)

    def _live(self) -> None:
        try:
            if not self.killed:
                self.answer = self.function()
        except Killed:
            pass
        finally:
            self.over = True
            del self.engine.tasks[self]

    def kill(self) -> None:
        """End it at once; a task that kills itself stops at its next breath."""
        if not self.over and not self.killed:
            self.killed = True
            self.engine.wake(self)


class Engine:
    """Runs tasks and events in the order of their times."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.now = 1_000_000.0
        # In the order in which they began: who ends or wakes several of them does it in the same order each time.
        self.tasks: dict[Task, None] = {}
        self.after_each: Callable[[], None] = lambda: None
        self._heap: list[tuple[float, int, Task | None, int, Callable[[], None] | None]] = []
        self._count = 0
        # Places where nothing goes on, with the turns that come when it does again.
        self._frozen: dict[str, list[tuple[Task, int]]] = {}
        self.hub = getcurrent()
        self.current: Task | None = None

    def spawn(self, name: str, function: Callable[[], Any], *, place: str | None = None, run: Any = None) -> Task:
        """Start a process."""
        task = Task(self, name, place, function, run)
        self.tasks[task] = None
        self.wake(task)
        return task

    def wake(self, task: Task, delay: float = 0.0) -> None:
        """Give a task its next turn then, and not before."""
        task.turn += 1
        self._push(delay, task, task.turn, None)

    def later(self, delay: float, event: Callable[[], None]) -> None:
        """Let something happen by itself."""
        self._push(delay, None, 0, event)

    def _push(self, delay: float, task: Task | None, turn: int, event: Callable[[], None] | None) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay, self._count, task, turn, event))

    def freeze(self, place: str) -> None:
        """Nothing of a place goes on; its processes do not notice."""
        self._frozen.setdefault(place, [])

    def thaw(self, place: str) -> None:
        """It goes on, where it stopped."""
        for task, turn in self._frozen.pop(place, []):
            self._push(0.0, task, turn, None)

    def pause(self, seconds: float = 0.0) -> None:
        """Let others have their turns. Called by a task; raises Killed if it is ended meanwhile."""
        task = self.current
        if task is None:
            return
        self.wake(task, seconds)
        self.hub.switch()
        if task.killed:
            raise Killed

    def run(self, task: Task) -> Any:
        """Run the world until a task has ended; its answer. Called from outside."""
        self.advance(lambda: task.over)
        return task.answer

    def wait(self, seconds: float) -> None:
        """Run the world for some time. Called from outside."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self._step()
        self.now = end

    def advance(self, over: Callable[[], bool]) -> None:
        """Run the world until something is so. Raises RuntimeError if that takes more than a day."""
        end = self.now + DAY
        while not over():
            if self.now > end:
                raise RuntimeError(f"it does not end: {sorted(task.name for task in self.tasks)}")
            self._step()

    def _step(self) -> None:
        when, _count, task, turn, event = heapq.heappop(self._heap)
        self.now = max(self.now, when)
        if task is None:
            assert event is not None
            event()
        elif turn != task.turn or task.over:
            return
        elif task.place in self._frozen:
            self._frozen[task.place].append((task, turn))
            return
        else:
            self.current = task
            try:
                task.greenlet.switch()
            finally:
                self.current = None
        self.after_each()
